//! Log lines on their way: into the store, and to whoever listens in this process.

use std::sync::Arc;

use model::LogLine;
use store::RecordSink;
use tokio::sync::broadcast;
use workers::LogSink;

/// Lines that a listener may lag behind; then it misses some, and is told how many.
const LAG_MAX: usize = 4096;

/// Takes the lines of all workers.
pub(crate) struct LogHub {
    sink: RecordSink,
    live: broadcast::Sender<Arc<LogLine>>,
}

impl LogHub {
    pub(crate) fn new(sink: RecordSink) -> LogHub {
        LogHub {
            sink,
            live: broadcast::Sender::new(LAG_MAX),
        }
    }

    /// Every line from now on.
    pub(crate) fn listen(&self) -> broadcast::Receiver<Arc<LogLine>> {
        self.live.subscribe()
    }
}

impl LogSink for LogHub {
    fn line(&self, line: LogLine) {
        if self.live.receiver_count() > 0 {
            // Nobody left to hear it is no trouble.
            let _ = self.live.send(Arc::new(line.clone()));
        }
        self.sink.log(line);
    }
}
