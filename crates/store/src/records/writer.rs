//! The one writer of `records.db`: gathers what comes, commits it together, and prunes in between.
//! While the disk is full it holds a bounded number of rows and tries again; a corrupt file it sets aside.

use std::{future::ready, path::PathBuf, sync::Arc, time::Duration};

use model::{Clock, Limits, LogLine, Record};
use sqlx::{Connection, SqliteConnection};
use tokio::{
    sync::{RwLock, watch},
    time::{Interval, MissedTickBehavior, interval, sleep},
};

use super::{
    Readers,
    commit::{self, Commit, Keys},
    move_away, open_file,
    prune::Prune,
    recordings::Written,
    rows::LogCursor,
    sink::{Asker, Entry, Intake, line_bytes, record_bytes},
};
use crate::{
    DataFolder, database,
    error::{OpenError, StorageError, StoreError, Trouble, Warning},
    fault::Fault,
};

/// Rows in one commit.
const COMMIT_MAX: usize = 512;

/// Rows that are held while the disk is full; what comes after is counted as lost.
const HELD_MAX: usize = 4096;

/// After the first row, so long for more to come: a follower sees a line about this late.
const GATHER: Duration = Duration::from_millis(20);

/// Between two tries to write what is held.
const RETRY: Duration = Duration::from_secs(1);

/// Between two prunings; the first is at the start.
const PRUNE_EVERY: Duration = Duration::from_secs(600);

/// After this part of `keep_size` or `keep_recordings` was written, the limits are looked at without waiting for the next pruning.
const SIZE_PART: u64 = 32;

/// What a writer needs besides its connection and its intake.
pub(crate) struct Surroundings {
    pub(crate) path: PathBuf,
    pub(crate) readers: Arc<RwLock<Readers>>,
    pub(crate) written: watch::Sender<LogCursor>,
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
    /// Held for as long as the writer runs.
    pub(crate) folder: DataFolder,
}

pub(crate) struct Writer {
    around: Surroundings,
    /// `None` after a corrupt file was set aside and before a fresh one could be opened.
    conn: Option<SqliteConnection>,
    intake: Intake,
    keys: Keys,
    records: Vec<Record>,
    recordings: Vec<Written>,
    lines: Vec<LogLine>,
    /// Who wants to know when the rows are stored.
    askers: Vec<Asker>,
    prune: Prune,
    prune_askers: Vec<Asker>,
    /// Bytes written since the size was last looked at.
    unmeasured: u64,
    /// Whether rows are held because the last commit failed.
    stuck: bool,
}

enum Event {
    Entry(Entry),
    /// The time of the next pruning has come.
    PruneDue,
    /// A pruning goes on, and nothing else is to be done.
    Chore,
    /// Rows are held, and may fit by now.
    Retry,
    /// Nobody is left who could send anything.
    Over,
}

impl Writer {
    pub(crate) fn new(around: Surroundings, conn: SqliteConnection, intake: Intake) -> Writer {
        Writer {
            around,
            conn: Some(conn),
            intake,
            keys: Keys::new(),
            records: Vec::new(),
            recordings: Vec::new(),
            lines: Vec::new(),
            askers: Vec::new(),
            prune: Prune::default(),
            prune_askers: Vec::new(),
            unmeasured: 0,
            stuck: false,
        }
    }

    /// Runs until it is told to stop, or until nobody is left. Ends with what became of the last rows.
    pub(crate) async fn run(mut self) -> Result<(), StoreError> {
        let mut prune_due = interval(PRUNE_EVERY);
        prune_due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            match self.next_event(&mut prune_due).await {
                Event::Entry(entry) => self.take(entry).await,
                Event::PruneDue => self.prune.start(),
                Event::Chore | Event::Retry => {}
                Event::Over => break,
            }
            self.gather().await;
            let stored = self.store().await;
            for asker in self.askers.drain(..) {
                // An asker that has left needs no answer.
                let _ = asker.send(stored.clone());
            }
            match stored {
                Err(error) if self.stuck => self.put_off_pruning(&error),
                _ => self.prune_a_little().await,
            }
        }
        let stored = self.store().await;
        self.around.readers.write().await.pool.close().await;
        if let Some(conn) = self.conn.take()
            && let Err(error) = conn.close().await
        {
            tracing::warn!(%error, "{} did not close cleanly", self.around.path.display());
        }
        tracing::debug!(folder = %self.around.folder.path().display(), "the records are closed");
        stored
    }

    async fn next_event(&mut self, prune_due: &mut Interval) -> Event {
        tokio::select! {
            biased;
            entry = self.intake.entries.recv() => entry.map_or(Event::Over, Event::Entry),
            _ = prune_due.tick() => Event::PruneDue,
            () = sleep(RETRY), if self.stuck => Event::Retry,
            () = ready(()), if self.prune.goes_on() && !self.stuck => Event::Chore,
        }
    }

    async fn take(&mut self, entry: Entry) {
        let held = self.records.len() + self.lines.len() >= HELD_MAX;
        match entry {
            Entry::Recording(draft) if held => {
                let size = draft.size;
                self.intake.handover.lose(Entry::Recording(draft), size);
            }
            Entry::Recording(draft) => {
                let (function, size) = (draft.function.clone(), draft.size);
                match draft.written().await {
                    Some(written) => self.recordings.push(written),
                    None => self.intake.handover.lose_recording(function, size),
                }
            }
            Entry::Record(record) if held => {
                let size = record_bytes(&record);
                self.intake.handover.lose(Entry::Record(record), size);
            }
            Entry::Log(line) if held => {
                let size = line_bytes(&line);
                self.intake.handover.lose(Entry::Log(line), size);
            }
            Entry::Record(record) => self.records.push(*record),
            Entry::Log(line) => self.lines.push(*line),
            Entry::Flush(asker) => self.askers.push(asker),
            Entry::Prune(asker) => {
                self.prune.start();
                self.prune_askers.push(asker);
            }
            Entry::Forget(function, asker) => {
                self.prune.forget(function);
                self.prune_askers.push(asker);
            }
            Entry::SetAside(generation, error, asker) => {
                let replaced = self.replace_file(generation, error).await;
                let _ = asker.send(replaced);
            }
            Entry::Stop => self.intake.entries.close(),
        }
    }

    /// Waits a little for more rows, unless somebody waits for these, and takes what there is.
    async fn gather(&mut self) {
        let nothing = self.has_nothing();
        let urgent = !self.askers.is_empty() || self.intake.entries.is_closed();
        if !nothing && !urgent && (self.stuck || self.intake.entries.len() < COMMIT_MAX) {
            tokio::select! {
                () = sleep(if self.stuck { RETRY } else { GATHER }) => {}
                () = self.intake.handover.hurried() => {}
            }
        }
        // While rows are held, more is taken than fits, so that whoever asks is always heard.
        let room = if self.stuck {
            self.intake.entries.len()
        } else {
            COMMIT_MAX
        };
        for _ in 0..room {
            let Ok(entry) = self.intake.entries.try_recv() else {
                break;
            };
            self.take(entry).await;
        }
    }

    /// Commits what was gathered. If that fails for a reason that may pass, it is held.
    async fn store(&mut self) -> Result<(), StoreError> {
        let mut stored = self.commit().await;
        if let Err(error) = &stored
            && error.trouble == Trouble::Corrupt
        {
            let generation = self.around.readers.read().await.generation;
            self.replace_file(generation, error.clone()).await?;
            stored = self.commit().await;
        }
        match stored {
            Ok(()) => {
                if self.stuck {
                    tracing::info!("{} can be written again", self.around.path.display());
                }
                self.stuck = false;
                Ok(())
            }
            Err(error) => {
                self.hold_or_lose(&error);
                Err(error.into())
            }
        }
    }

    fn hold_or_lose(&mut self, error: &StorageError) {
        if !self.stuck {
            tracing::warn!(error = %error.cause, "{error}");
        }
        match error.trouble {
            Trouble::Full | Trouble::ReadOnly | Trouble::Denied => self.stuck = true,
            Trouble::Corrupt | Trouble::Other => {
                let handover = &self.intake.handover;
                for record in self.records.drain(..) {
                    let size = record_bytes(&record);
                    handover.lose(Entry::Record(Box::new(record)), size);
                }
                for recording in self.recordings.drain(..) {
                    handover.lose_recording(recording.function, recording.size);
                }
                for line in self.lines.drain(..) {
                    let size = line_bytes(&line);
                    handover.lose(Entry::Log(Box::new(line)), size);
                }
            }
        }
    }

    async fn commit(&mut self) -> Result<(), StorageError> {
        let handover = Arc::clone(&self.intake.handover);
        let (ended, lost) = (handover.take_ended(), handover.take_lost());
        if self.has_nothing() && ended.is_empty() && lost.is_empty() {
            return Ok(());
        }
        let last = *self.around.written.borrow();
        let batch = Commit {
            records: &self.records,
            recordings: &self.recordings,
            lines: &self.lines,
            ended: &ended,
            lost: &lost,
            now: self.around.clock.now(),
        };
        let written = match connection(&mut self.conn, &self.around.path).await {
            Ok(conn) => commit::write(conn, &mut self.keys, last, &batch)
                .await
                .map_err(|fault| fault.during("write records to", &self.around.path)),
            Err(error) => Err(error),
        };
        match written {
            Ok(last) => {
                self.clear_stored();
                self.around.written.send_replace(last);
                Ok(())
            }
            Err(error) => {
                for (function, ended) in &ended {
                    handover.put_back_ended(function, *ended);
                }
                for (function, lost) in lost {
                    handover.put_back_lost(function, lost);
                }
                Err(error)
            }
        }
    }

    fn has_nothing(&self) -> bool {
        self.records.is_empty() && self.recordings.is_empty() && self.lines.is_empty()
    }

    fn clear_stored(&mut self) {
        for recording in self.recordings.drain(..) {
            self.intake.handover.recording_stored(recording.size);
            self.unmeasured += recording.content.len() as u64;
        }
        let records = self.records.drain(..).map(|record| record_bytes(&record));
        let lines = self.lines.drain(..).map(|line| line_bytes(&line));
        let bytes = records.chain(lines).sum();
        self.intake.handover.stored(bytes);
        self.unmeasured += bytes as u64;
        let limits = &self.around.limits;
        if self.unmeasured > limits.keep_size.0.min(limits.keep_recordings.0) / SIZE_PART {
            self.unmeasured = 0;
            self.prune.measure();
        }
    }

    /// Deleting takes room as well, so it waits until rows can be stored again.
    fn put_off_pruning(&mut self, error: &StoreError) {
        for asker in self.prune_askers.drain(..) {
            let _ = asker.send(Err(error.clone()));
        }
    }

    /// One bounded piece of a pruning, so that rows do not wait long.
    async fn prune_a_little(&mut self) {
        if !self.prune.goes_on() {
            return;
        }
        let now = self.around.clock.now();
        let done = match connection(&mut self.conn, &self.around.path).await {
            Ok(conn) => self.prune.step(conn, &self.around.limits, now).await,
            Err(error) => Err(Fault::from(error)),
        };
        let done = done.map_err(|fault| fault.during("prune", &self.around.path));
        if let Err(error) = &done {
            self.prune.stop();
            tracing::warn!(error = %error.cause, "{error}");
            if error.trouble == Trouble::Corrupt {
                let generation = self.around.readers.read().await.generation;
                // If that fails the next commit says so.
                let _ = self.replace_file(generation, error.clone()).await;
            }
        }
        if !self.prune.goes_on() {
            for asker in self.prune_askers.drain(..) {
                let _ = asker.send(done.clone().map_err(StoreError::from));
            }
        }
    }

    /// Sets the file aside and opens a fresh one, unless that was done since `generation`.
    async fn replace_file(
        &mut self,
        generation: u64,
        error: StorageError,
    ) -> Result<(), StoreError> {
        let mut readers = self.around.readers.write().await;
        if readers.generation != generation {
            return Ok(());
        }
        // Everybody lets go first: SQLite deletes a write-ahead log by its name.
        readers.pool.close().await;
        if let Some(conn) = self.conn.take() {
            let _ = conn.close().await;
        }
        self.keys.clear();
        readers.pool = database::readers(&self.around.path);
        let moved_to = move_away(&self.around.path, &*self.around.clock)?;
        readers.generation += 1;
        tracing::warn!("{}", Warning::RecordsSetAside { moved_to, error });
        connection(&mut self.conn, &self.around.path).await?;
        Ok(())
    }
}

/// The connection, opened if there is none.
async fn connection<'c>(
    conn: &'c mut Option<SqliteConnection>,
    path: &std::path::Path,
) -> Result<&'c mut SqliteConnection, StorageError> {
    let open = match conn.take() {
        Some(open) => open,
        None => open_file(path).await.map_err(|error| match error {
            OpenError::Storage(error) => error,
            error @ (OpenError::Held { .. } | OpenError::NewerSchema { .. }) => {
                Fault::other(error).during("open", path)
            }
        })?,
    };
    Ok(conn.insert(open))
}

#[cfg(test)]
mod tests;
