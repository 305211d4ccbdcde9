//! Log lines in files, one JSON object a line, a file a day and more where a day has much to say.
//! A single writer, off every path: where it cannot keep up or the disk is full, lines are missing here and nobody waits.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use jiff::{Timestamp as Moment, civil::Date, tz::TimeZone};
use model::{Limits, LogLine, TimeSpan};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Lines that may wait for the disk.
const UNWRITTEN_MAX: usize = 4096;

/// What those lines may hold together: a line is a hundred bytes as a rule, and 256 KiB where a worker makes it so.
const UNWRITTEN_SIZE: u64 = 16 << 20;

/// A file of this size is followed by the next of the same day: what an editor still opens.
const PART_MAX: u64 = 64 << 20;

/// The end of every name.
const EXTENSION: &str = "jsonl";

/// Where lines are put that are to be written.
pub(crate) struct LineFiles {
    lines: mpsc::Sender<LogLine>,
    /// Bytes of text that wait.
    unwritten: Arc<AtomicU64>,
    missed: Arc<AtomicU64>,
    closing: CancellationToken,
}

/// The one that writes them.
pub(crate) struct Writer {
    lines: mpsc::Receiver<LogLine>,
    unwritten: Arc<AtomicU64>,
    missed: Arc<AtomicU64>,
    closing: CancellationToken,
    files: Files,
    is_failing: bool,
}

/// Files in a folder, which is made when it is needed.
pub(crate) fn line_files(folder: PathBuf, limits: &Limits) -> (LineFiles, Writer) {
    let (sender, receiver) = mpsc::channel(UNWRITTEN_MAX);
    let (unwritten, missed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let closing = CancellationToken::new();
    let writer = Writer {
        lines: receiver,
        unwritten: unwritten.clone(),
        missed: missed.clone(),
        closing: closing.clone(),
        files: Files {
            folder,
            part_max: PART_MAX,
            keep_time: limits.keep_time,
            keep_size: limits.keep_size.0,
            current: None,
        },
        is_failing: false,
    };
    let files = LineFiles {
        lines: sender,
        unwritten,
        missed,
        closing,
    };
    (files, writer)
}

impl LineFiles {
    /// A line to be written.
    pub(crate) fn line(&self, line: &LogLine) {
        let size = line.text.len() as u64;
        let waiting = self.unwritten.fetch_add(size, Relaxed) + size;
        if waiting > UNWRITTEN_SIZE || self.lines.try_send(line.clone()).is_err() {
            self.unwritten.fetch_sub(size, Relaxed);
            self.missed.fetch_add(1, Relaxed);
        }
    }

    /// No more lines come.
    pub(crate) fn close(&self) {
        self.closing.cancel();
    }
}

impl Writer {
    /// Writes until there is nothing more to come.
    pub(crate) async fn run(mut self) {
        loop {
            let mut batch = Vec::new();
            let coming = self.lines.recv_many(&mut batch, UNWRITTEN_MAX);
            let is_last = self.closing.run_until_cancelled(coming).await.is_none();
            while is_last && let Ok(line) = self.lines.try_recv() {
                batch.push(line);
            }
            let writing = tokio::task::spawn_blocking(move || {
                self.write(&batch);
                let written = batch.iter().map(|line| line.text.len() as u64).sum();
                self.unwritten.fetch_sub(written, Relaxed);
                self
            });
            match writing.await {
                Ok(writer) if !is_last => self = writer,
                // A panic in it has been printed.
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Writes a batch, and says it once when that begins to fail, and once when it works again.
    fn write(&mut self, batch: &[LogLine]) {
        if batch.is_empty() {
            return;
        }
        let folder = self.files.folder.display().to_string();
        match self.files.write(batch) {
            Err(error) => {
                self.missed.fetch_add(batch.len() as u64, Relaxed);
                if !self.is_failing {
                    tracing::error!(%error, folder, "log lines cannot be written to files; `bungee logs` still has them");
                }
                self.is_failing = true;
            }
            Ok(()) => {
                self.is_failing = false;
                let missed = self.missed.swap(0, Relaxed);
                if missed > 0 {
                    tracing::warn!(
                        missed,
                        folder,
                        "log lines are written to files again; some are missing there"
                    );
                }
            }
        }
    }
}

/// The files, by day and part.
struct Files {
    folder: PathBuf,
    part_max: u64,
    keep_time: TimeSpan,
    keep_size: u64,
    current: Option<Current>,
}

/// The file that is written to.
struct Current {
    name: Name,
    file: File,
    size: u64,
}

/// A file's name: `2026-11-21.jsonl`, `2026-11-21.2.jsonl`, …
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    day: Date,
    part: u32,
}

impl Name {
    fn parse(text: &str) -> Option<Name> {
        let rest = text.strip_suffix(EXTENSION)?.strip_suffix('.')?;
        let (day, part) = match rest.split_once('.') {
            Some((day, part)) => (day, part.parse().ok().filter(|part| *part > 1)?),
            None => (rest, 1),
        };
        let name = Name {
            day: day.parse().ok()?,
            part,
        };
        (name.text() == text).then_some(name)
    }

    fn text(self) -> String {
        match self.part {
            1 => format!("{}.{EXTENSION}", self.day),
            part => format!("{}.{part}.{EXTENSION}", self.day),
        }
    }
}

impl Files {
    /// Writes lines, each into a file of its day. After a failure none of a line is left behind half.
    fn write(&mut self, lines: &[LogLine]) -> io::Result<()> {
        let mut text = Vec::new();
        for line in lines {
            let moment = Moment::from_millisecond(line.at.0).unwrap_or_default();
            self.open(moment.to_zoned(TimeZone::UTC).date(), &mut text)?;
            serde_json::to_writer(&mut text, line)?;
            text.push(b'\n');
        }
        self.flush(&mut text)
    }

    /// Makes sure that a file for the day is open which is not full; what belongs before it is written first.
    fn open(&mut self, day: Date, text: &mut Vec<u8>) -> io::Result<()> {
        if let Some(current) = &self.current {
            let is_full = current.size + text.len() as u64 >= self.part_max;
            // A line that comes late stands where the others of its time do.
            if day <= current.name.day && !is_full {
                return Ok(());
            }
        }
        self.flush(text)?;
        // What functions write is for the server's user alone, whoever may look into the data folder.
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.folder)?;
        let names = self.names()?;
        let day = self
            .current
            .as_ref()
            .map_or(day, |current| current.name.day.max(day));
        let last = names.iter().rev().find(|name| name.day == day);
        let mut name = last.copied().unwrap_or(Name { day, part: 1 });
        let mut opened = open_repaired(&self.folder.join(name.text()))?;
        if opened.1 >= self.part_max {
            name.part += 1;
            opened = open_repaired(&self.folder.join(name.text()))?;
        }
        let (file, size) = opened;
        self.current = Some(Current { name, file, size });
        self.prune(names, name)
    }

    /// Writes the text and empties it. What fails is cut off again.
    fn flush(&mut self, text: &mut Vec<u8>) -> io::Result<()> {
        let Some(current) = self.current.as_mut().filter(|_| !text.is_empty()) else {
            return Ok(());
        };
        let written = current.file.write_all(text);
        current.size += text.len() as u64;
        text.clear();
        if written.is_err() {
            // The next try opens it anew, which repairs it too.
            self.current = None;
        }
        written
    }

    fn names(&self) -> io::Result<BTreeSet<Name>> {
        let entries = fs::read_dir(&self.folder)?;
        Ok(entries
            .filter_map(|entry| Name::parse(entry.ok()?.file_name().to_str()?))
            .collect())
    }

    /// Removes the oldest files until the rest are young enough and together small enough.
    fn prune(&self, names: BTreeSet<Name>, current: Name) -> io::Result<()> {
        let days = i64::try_from(self.keep_time.0.div_ceil(86_400_000)).unwrap_or(i64::MAX);
        let mut total = 0;
        for name in names.iter().rev().filter(|name| **name != current) {
            let path = self.folder.join(name.text());
            total += fs::metadata(&path)?.len();
            let age = current
                .day
                .since(name.day)
                .map_or(0, |age| i64::from(age.get_days()));
            if age > days || total > self.keep_size.saturating_sub(self.part_max) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// Opens a file to be added to, without the line that a sudden end may have cut, and tells its size.
fn open_repaired(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .read(true)
        .mode(0o600)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok((file, 0));
    }
    let mut end = metadata.len();
    let mut piece = [0; 4096];
    while end > 0 {
        let begin = end.saturating_sub(piece.len() as u64);
        let read = &mut piece[..usize::try_from(end - begin).unwrap_or(0)];
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(read)?;
        if let Some(at) = read.iter().rposition(|byte| *byte == b'\n') {
            end = begin + at as u64 + 1;
            break;
        }
        end = begin;
    }
    if end < metadata.len() {
        file.set_len(end)?;
    }
    Ok((file, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{FunctionId, Level, Name as FunctionName, Timestamp, VersionNumber};

    const DAY: i64 = 86_400_000;

    fn line(at: i64, text: &str) -> LogLine {
        LogLine {
            at: Timestamp(at),
            function: FunctionId {
                project: FunctionName::default_project(),
                name: "f".parse().unwrap(),
            },
            version: VersionNumber(1),
            invocation: None,
            level: Level::Info,
            is_info: false,
            text: text.into(),
        }
    }

    fn files(folder: &Path) -> Files {
        Files {
            folder: folder.join("logs"),
            part_max: 1000,
            keep_time: TimeSpan::seconds(2 * 86_400),
            keep_size: 10_000,
            current: None,
        }
    }

    fn names(files: &Files) -> Vec<String> {
        files
            .names()
            .unwrap()
            .iter()
            .map(|name| name.text())
            .collect()
    }

    fn texts(files: &Files, name: &str) -> Vec<String> {
        let text = fs::read_to_string(files.folder.join(name)).unwrap();
        text.lines()
            .map(|line| serde_json::from_str::<LogLine>(line).unwrap().text)
            .collect()
    }

    #[tokio::test]
    async fn what_waits_for_the_disk_is_bounded_by_its_size() {
        let home = tempfile::tempdir().unwrap();
        let (lines, writer) = line_files(home.path().join("logs"), &Limits::default());
        let long = line(0, &"x".repeat(1 << 20));
        for _ in 0..20 {
            lines.line(&long);
        }
        assert_eq!(lines.missed.load(Relaxed), 4);
        let (unwritten, folder) = (lines.unwritten.clone(), writer.files.folder.clone());
        assert_eq!(unwritten.load(Relaxed), UNWRITTEN_SIZE);
        lines.close();
        writer.run().await;
        assert_eq!(unwritten.load(Relaxed), 0);
        let written = fs::metadata(folder.join("1970-01-01.jsonl")).unwrap().len();
        assert_eq!(written >> 20, 16);
    }

    #[test]
    fn each_day_has_its_file_and_a_late_line_goes_with_the_others() {
        let home = tempfile::tempdir().unwrap();
        let mut files = files(home.path());
        files
            .write(&[line(0, "a"), line(DAY - 1, "b"), line(DAY, "c")])
            .unwrap();
        files.write(&[line(5, "late")]).unwrap();
        assert_eq!(texts(&files, "1970-01-01.jsonl"), ["a", "b"]);
        assert_eq!(texts(&files, "1970-01-02.jsonl"), ["c", "late"]);
    }

    #[test]
    fn nobody_else_can_read_them() {
        use std::os::unix::fs::PermissionsExt;

        let home = tempfile::tempdir().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut files = files(home.path());
        files.write(&[line(0, "secret")]).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&files.folder), 0o700);
        assert_eq!(mode(&files.folder.join("1970-01-01.jsonl")), 0o600);
    }

    #[test]
    fn a_full_file_is_followed_by_the_next() {
        let home = tempfile::tempdir().unwrap();
        let mut one = files(home.path());
        let long = line(0, &"x".repeat(400));
        one.write(&vec![long.clone(); 5]).unwrap();
        assert_eq!(names(&one), ["1970-01-01.jsonl", "1970-01-01.2.jsonl"]);
        let mut next = files(home.path());
        next.write(&[long]).unwrap();
        assert_eq!(
            texts(&next, "1970-01-01.2.jsonl").len() + texts(&next, "1970-01-01.jsonl").len(),
            6
        );
    }

    #[test]
    fn a_line_that_was_cut_is_taken_away() {
        let home = tempfile::tempdir().unwrap();
        let mut one = files(home.path());
        one.write(&[line(0, "whole")]).unwrap();
        for cut in ["{\"at\":1".to_owned(), "x".repeat(9000)] {
            let path = one.folder.join("1970-01-01.jsonl");
            let mut file = OpenOptions::new().append(true).open(path).unwrap();
            file.write_all(cut.as_bytes()).unwrap();
            files(home.path()).write(&[line(0, "next")]).unwrap();
        }
        assert_eq!(texts(&one, "1970-01-01.jsonl"), ["whole", "next", "next"]);
    }

    #[test]
    fn what_is_old_or_too_much_goes_and_strangers_stay() {
        let home = tempfile::tempdir().unwrap();
        let mut files = files(home.path());
        for day in 0..5 {
            files.write(&[line(day * DAY, "x")]).unwrap();
        }
        assert_eq!(
            names(&files),
            ["1970-01-03.jsonl", "1970-01-04.jsonl", "1970-01-05.jsonl"]
        );
        fs::write(files.folder.join("mine.jsonl"), "x").unwrap();
        fs::write(files.folder.join("1970-01-04.2.jsonl"), "x".repeat(9500)).unwrap();
        files.write(&[line(5 * DAY, "x")]).unwrap();
        assert_eq!(names(&files), ["1970-01-05.jsonl", "1970-01-06.jsonl"]);
        assert!(files.folder.join("mine.jsonl").exists());
    }

    #[test]
    fn only_our_own_names_are_names() {
        for text in ["2026-11-21.jsonl", "2026-11-21.12.jsonl"] {
            assert_eq!(Name::parse(text).unwrap().text(), text);
        }
        for text in [
            "2026-11-21.1.jsonl",
            "2026-11-21.02.jsonl",
            "2026-13-01.jsonl",
            "a.jsonl",
            "2026-11-21.json",
            ".jsonl",
        ] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
    }
}
