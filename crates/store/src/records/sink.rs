//! The way in: never blocks, never awaits. What does not fit is counted, and the count is stored.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use model::{FunctionId, LogLine, Record, VersionNumber};
use tokio::sync::{Notify, mpsc, oneshot};

use super::{
    counts::{Counts, Sampler},
    recordings::RecordingDraft,
};
use crate::error::{StorageError, StoreError};

/// Records and lines that may wait for the writer.
const WAITING_MAX: usize = 8192;

/// Text that may wait for the writer, in bytes: lines can be long.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// Recordings that may wait for the writer, in bytes. Their own, so that they crowd out no record and no line.
const WAITING_RECORDINGS_MAX: usize = 32 << 20;

/// What a record or line takes besides its text, about, in bytes.
const ROW_BYTES: usize = 128;

/// Where ended invocations and log lines go. Clones are cheap.
#[derive(Debug, Clone)]
pub struct RecordSink {
    entries: mpsc::Sender<Entry>,
    handover: Arc<Handover>,
}

/// What the writer takes from.
pub(crate) struct Intake {
    pub(crate) entries: mpsc::Receiver<Entry>,
    pub(crate) handover: Arc<Handover>,
}

/// What sinks and writer both touch.
#[derive(Debug)]
pub(crate) struct Handover {
    records_per_second: u32,
    /// Bytes sent and not yet stored.
    waiting_bytes: AtomicUsize,
    /// The same of recordings.
    waiting_recordings: AtomicUsize,
    /// Tells the writer not to wait for more.
    hurry: Notify,
    counts: Mutex<HashMap<FunctionId, Arc<Counts>>>,
    lost: Mutex<HashMap<FunctionId, Lost>>,
}

/// What did not fit, of one function.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lost {
    pub(crate) records: u64,
    pub(crate) recordings: u64,
    pub(crate) lines: u64,
    /// The version that wrote the last of the lines.
    pub(crate) version: Option<VersionNumber>,
}

/// One thing for the writer. One channel, so that what is asked comes after what was sent.
#[derive(Debug)]
pub(crate) enum Entry {
    /// Store an ended invocation.
    Record(Box<Record>),
    /// Store what an invocation was asked.
    Recording(Box<RecordingDraft>),
    /// Store a line.
    Log(Box<LogLine>),
    /// Store all before, then answer.
    Flush(Asker),
    /// Delete what is past the limits, then answer.
    Prune(Asker),
    /// Delete everything of this function, then answer.
    Forget(FunctionId, Asker),
    /// The file of this generation is corrupt: put a fresh one in its place, then answer.
    SetAside(u64, StorageError, Asker),
    /// Store all before, then end.
    Stop,
}

pub(crate) type Asker = oneshot::Sender<Result<(), StoreError>>;

impl RecordSink {
    pub(crate) fn new(records_per_second: u32) -> (RecordSink, Intake) {
        let (sender, entries) = mpsc::channel(WAITING_MAX);
        let handover = Arc::new(Handover {
            records_per_second,
            waiting_bytes: AtomicUsize::new(0),
            waiting_recordings: AtomicUsize::new(0),
            hurry: Notify::new(),
            counts: Mutex::default(),
            lost: Mutex::default(),
        });
        let sink = RecordSink {
            entries: sender,
            handover: Arc::clone(&handover),
        };
        (sink, Intake { entries, handover })
    }

    /// The function's counts and its sampler; to be kept, for this takes a lock.
    pub fn sampler(&self, function: &FunctionId) -> Sampler {
        let mut counts = locked(&self.handover.counts);
        let counts = counts.entry(function.clone()).or_default();
        Sampler::new(Arc::clone(counts), self.handover.records_per_second)
    }

    /// Stores an invocation that ended. Whether it should be is the [`Sampler`]'s word.
    pub fn record(&self, record: Record) {
        let size = record_bytes(&record);
        self.offer(Entry::Record(Box::new(record)), size);
    }

    /// Stores a log line.
    pub fn log(&self, line: LogLine) {
        let size = line_bytes(&line);
        self.offer(Entry::Log(Box::new(line)), size);
    }

    /// Stores what an invocation was asked, after its record. Written out on the writer's time.
    pub fn recording(&self, draft: RecordingDraft) {
        let size = draft.size;
        self.offer(Entry::Recording(Box::new(draft)), size);
    }

    fn offer(&self, entry: Entry, size: usize) {
        let (waiting, most) = match entry {
            Entry::Recording(_) => (&self.handover.waiting_recordings, WAITING_RECORDINGS_MAX),
            _ => (&self.handover.waiting_bytes, WAITING_BYTES_MAX),
        };
        let before = waiting.fetch_add(size, Relaxed);
        let fits = before + size <= most;
        let refused = if fits {
            match self.entries.try_send(entry) {
                Ok(()) => None,
                Err(error) => Some(error.into_inner()),
            }
        } else {
            Some(entry)
        };
        match refused {
            None if self.entries.capacity() < WAITING_MAX / 2 => self.handover.hurry.notify_one(),
            None => {}
            Some(entry) => self.handover.lose(entry, size),
        }
    }

    pub(crate) async fn flush(&self) -> Result<(), StoreError> {
        self.ask(Entry::Flush).await
    }

    pub(crate) async fn prune(&self) -> Result<(), StoreError> {
        self.ask(Entry::Prune).await
    }

    pub(crate) async fn forget(&self, function: FunctionId) -> Result<(), StoreError> {
        self.ask(|asker| Entry::Forget(function, asker)).await
    }

    pub(crate) async fn set_aside(
        &self,
        generation: u64,
        error: StorageError,
    ) -> Result<(), StoreError> {
        self.ask(|asker| Entry::SetAside(generation, error, asker))
            .await
    }

    async fn ask(&self, entry: impl FnOnce(Asker) -> Entry) -> Result<(), StoreError> {
        let (asker, answered) = oneshot::channel();
        self.send(entry(asker)).await;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    pub(crate) async fn stop(&self) {
        self.send(Entry::Stop).await;
    }

    /// A writer that is gone drops the entry, and with it the asker's hope of an answer.
    async fn send(&self, entry: Entry) {
        self.handover.hurry.notify_one();
        let _ = self.entries.send(entry).await;
        self.handover.hurry.notify_one();
    }
}

impl Handover {
    pub(crate) async fn hurried(&self) {
        self.hurry.notified().await;
    }

    /// Says that so many bytes no longer wait.
    pub(crate) fn stored(&self, bytes: usize) {
        self.waiting_bytes.fetch_sub(bytes, Relaxed);
    }

    /// The same of a recording.
    pub(crate) fn recording_stored(&self, bytes: usize) {
        self.waiting_recordings.fetch_sub(bytes, Relaxed);
    }

    /// Counts a recording that cannot be stored.
    pub(crate) fn lose_recording(&self, function: FunctionId, size: usize) {
        self.recording_stored(size);
        locked(&self.lost).entry(function).or_default().recordings += 1;
    }

    /// Counts what cannot be stored.
    pub(crate) fn lose(&self, entry: Entry, size: usize) {
        if let Entry::Recording(draft) = entry {
            return self.lose_recording(draft.function, size);
        }
        self.stored(size);
        let mut lost = locked(&self.lost);
        match entry {
            Entry::Record(record) => lost.entry(record.function).or_default().records += 1,
            Entry::Log(line) => {
                let lost = lost.entry(line.function).or_default();
                lost.lines += 1;
                lost.version = Some(line.version);
            }
            Entry::Recording(_)
            | Entry::Flush(_)
            | Entry::Prune(_)
            | Entry::Forget(..)
            | Entry::SetAside(..)
            | Entry::Stop => {}
        }
    }

    /// What was lost since the last time.
    pub(crate) fn take_lost(&self) -> HashMap<FunctionId, Lost> {
        mem::take(&mut *locked(&self.lost))
    }

    /// Puts back what could not be stored after all.
    pub(crate) fn put_back_lost(&self, function: FunctionId, back: Lost) {
        let mut lost = locked(&self.lost);
        let lost = lost.entry(function).or_default();
        lost.records += back.records;
        lost.recordings += back.recordings;
        lost.lines += back.lines;
        lost.version = lost.version.or(back.version);
    }

    /// How many ended since the last time, by function; those of which none did are left out.
    pub(crate) fn take_ended(&self) -> Vec<(FunctionId, u64)> {
        let counts = locked(&self.counts);
        let taken = counts
            .iter()
            .map(|(function, counts)| (function, counts.ended.swap(0, Relaxed)));
        let some = taken.filter(|(_, ended)| *ended > 0);
        some.map(|(function, ended)| (function.clone(), ended))
            .collect()
    }

    pub(crate) fn put_back_ended(&self, function: &FunctionId, ended: u64) {
        if let Some(counts) = locked(&self.counts).get(function) {
            counts.ended.fetch_add(ended, Relaxed);
        }
    }
}

/// The maps behind these locks are whole after every statement, so a panic elsewhere leaves them usable.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a record takes while it waits, about, in bytes.
pub(crate) fn record_bytes(record: &Record) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let fault = record.fault.as_ref();
    let fault = fault.map_or(0, |fault| {
        fault.error_type.len() + fault.message.len() + text(&fault.stack)
    });
    let attempts = record.attempts.iter().map(|attempt| {
        ROW_BYTES + text(&attempt.rule) + text(&attempt.why) + text(&attempt.outcome)
    });
    ROW_BYTES + text(&record.message) + text(&record.path) + fault + attempts.sum::<usize>()
}

/// What a line takes while it waits, about, in bytes.
pub(crate) fn line_bytes(line: &LogLine) -> usize {
    ROW_BYTES + line.text.len()
}
