//! Log lines on their way: into the store, and to whoever listens in this process.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use model::{InvocationId, LogLine};
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
    kept: Kept,
}

/// Lines of the invocations whose callers want to have them with the answer.
#[derive(Default)]
struct Kept {
    /// How many want that. Nobody's line waits for the lock while it is zero.
    count: AtomicUsize,
    lines: Mutex<HashMap<InvocationId, Vec<LogLine>>>,
}

impl Kept {
    fn locked(&self) -> MutexGuard<'_, HashMap<InvocationId, Vec<LogLine>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogHub {
    pub(crate) fn new(sink: RecordSink, files: Option<LineFiles>) -> LogHub {
        LogHub {
            sink,
            live: broadcast::Sender::new(LAG_MAX),
            files,
            kept: Kept::default(),
        }
    }

    /// No more lines come: what the files do not have yet is written, and they are closed.
    pub(crate) fn close(&self) {
        self.files.iter().for_each(LineFiles::close);
    }

    /// Keeps the lines of an invocation that is about to begin, as many as its limit lets pass.
    pub(crate) fn keep(self: &Arc<LogHub>, id: InvocationId) -> KeptLines {
        self.kept.count.fetch_add(1, Relaxed);
        self.kept.locked().insert(id, Vec::new());
        KeptLines {
            hub: self.clone(),
            id,
        }
    }

    /// Every line from now on.
    pub(crate) fn listen(&self) -> broadcast::Receiver<Arc<LogLine>> {
        self.live.subscribe()
    }
}

/// What one invocation wrote, until it is taken or dropped.
pub(crate) struct KeptLines {
    hub: Arc<LogHub>,
    id: InvocationId,
}

impl KeptLines {
    /// What has come until now. An invocation's last line has come once its worker is drained.
    pub(crate) fn take(self) -> Vec<LogLine> {
        self.hub
            .kept
            .locked()
            .get_mut(&self.id)
            .map(std::mem::take)
            .unwrap_or_default()
    }
}

impl Drop for KeptLines {
    fn drop(&mut self) {
        self.hub.kept.locked().remove(&self.id);
        self.hub.kept.count.fetch_sub(1, Relaxed);
    }
}

impl LogSink for LogHub {
    fn line(&self, line: LogLine) {
        if self.kept.count.load(Relaxed) > 0
            && let Some(id) = line.invocation
            && let Some(lines) = self.kept.locked().get_mut(&id)
        {
            lines.push(line.clone());
        }
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
