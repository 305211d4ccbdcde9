//! Log lines on their way: into the store, and to whoever listens in this process.

use std::sync::Arc;

use model::LogLine;
use store::RecordSink;
use tokio::sync::broadcast;
use workers::LogSink;

use crate::jsonl::LineFiles;

/// Lines that a listener may lag behind; then it misses some, and is told how many.
const LAG_MAX: usize = 4096;

/// Takes the lines of all workers.
pub(crate) struct LogHub {
    sink: RecordSink,
    live: broadcast::Sender<Arc<LogLine>>,
    files: Option<LineFiles>,
}

impl LogHub {
    pub(crate) fn new(sink: RecordSink, files: Option<LineFiles>) -> LogHub {
        LogHub {
            sink,
            live: broadcast::Sender::new(LAG_MAX),
            files,
        }
    }

    /// No more lines come: what the files do not have yet is written, and they are closed.
    pub(crate) fn close(&self) {
        self.files.iter().for_each(LineFiles::close);
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
        if let Some(files) = &self.files {
            files.line(&line);
        }
        self.sink.log(line);
    }
}
