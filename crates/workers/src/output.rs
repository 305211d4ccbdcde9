//! What a worker writes: control lines, and raw bytes on its standard output and error, told apart by invocation.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use model::{ByteSize, HandlerFault, InvocationId, Level, LogLine, Runtime};
use serde::Deserialize;
use tokio::{net::unix::pipe, sync::oneshot};

use crate::{
    house::House,
    inspect::Inspector,
    runtime::node_heap,
    worker::{Cause, Worker},
};

/// Read from a pipe at once.
pub const CHUNK: usize = 64 << 10;

/// Raw output on fd 1.
pub const STDOUT: usize = 0;

/// Raw output on fd 2.
pub const STDERR: usize = 1;

/// Longest line; a longer one is cut there. Raw output goes on as the next line.
const LINE_MAX: usize = 256 << 10;

/// What is kept of the last line before a worker was ready.
const LAST_WORDS_MAX: usize = 1024;

/// Longest control line: a log line of the maximum, escaped as JSON.
const CONTROL_MAX: usize = 8 * LINE_MAX;

/// A raw line read this long after an invocation ended still belongs to it, in milliseconds: its answer and its output
/// travel on different pipes.
const LATE_OUTPUT: u64 = 50;

/// One line on the control pipe; see docs/protocol.md.
#[derive(Deserialize)]
#[serde(tag = "t", rename_all = "kebab-case")]
enum Control {
    Ready,
    InitError {
        error: HandlerFault,
    },
    /// An error that nobody caught ends the worker.
    Fatal {
        error: HandlerFault,
    },
    /// An answer that had begun failed midway; its connection breaks next.
    Broken {
        id: InvocationId,
        error: HandlerFault,
    },
    /// Node's inspector listens.
    Inspector {
        url: String,
    },
    /// Without `id` it belongs to the invocation in flight, if there is exactly one.
    Log {
        #[serde(default)]
        id: Option<InvocationId>,
        level: Level,
        text: String,
        /// `console.info` wrote it.
        #[serde(default)]
        info: bool,
    },
}

/// What a line says, and how.
struct Said {
    level: Level,
    is_info: bool,
    text: String,
}

impl Said {
    fn new(level: Level, text: String) -> Said {
        Said {
            level,
            is_info: false,
            text,
        }
    }
}

/// Turns what one worker writes into log lines.
pub struct Reader {
    house: Arc<House>,
    worker: Arc<Worker>,
    say: Option<oneshot::Sender<Result<(), HandlerFault>>>,
    control: Vec<u8>,
    raw: [Vec<u8>; 2],
    /// Bytes of log per invocation, for the limit. Forgotten when its invocation is no longer held.
    written: HashMap<Option<InvocationId>, u64>,
    /// The invocation that held the worker last, alone.
    last: Option<InvocationId>,
}

impl Reader {
    /// A reader; `say` gets the worker's first word, if that comes this way.
    pub fn new(
        house: &Arc<House>,
        worker: &Arc<Worker>,
        say: Option<oneshot::Sender<Result<(), HandlerFault>>>,
    ) -> Reader {
        Reader {
            house: house.clone(),
            worker: worker.clone(),
            say,
            control: Vec::new(),
            raw: [Vec::new(), Vec::new()],
            written: HashMap::new(),
            last: None,
        }
    }

    /// Reads the control pipe once; false when it has ended.
    pub fn control(&mut self, pipe: &pipe::Receiver, buffer: &mut [u8]) -> bool {
        let (count, is_open) = read(pipe, buffer);
        self.control.extend_from_slice(&buffer[..count]);
        while let Some(end) = self.control.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.control.drain(..=end).collect();
            self.control_line(&line[..end]);
        }
        if self.control.len() > CONTROL_MAX {
            self.control.clear();
        }
        is_open
    }

    fn control_line(&mut self, line: &[u8]) {
        match serde_json::from_slice(line) {
            Ok(Control::Ready) => self.say(Ok(())),
            Ok(Control::InitError { error }) => self.say(Err(error)),
            Ok(Control::Inspector { url }) => {
                if let Some(inspector) = Inspector::of_url(&url) {
                    self.worker.inspector.set(inspector).ok();
                }
            }
            Ok(Control::Fatal { error }) => self.fatal(error),
            // User code knows how to write such lines too; it has nothing to say about the invocations of others.
            Ok(Control::Broken { id, .. }) if !self.worker.knows(id) => {}
            Ok(Control::Broken { id, error }) => {
                let error = crate::trace::remap(error, &self.dir());
                self.worker.breaks.tell(id, error);
            }
            Ok(Control::Log {
                id,
                level,
                text,
                info,
            }) => {
                let id = match id {
                    Some(id) => Some(id).filter(|id| self.worker.knows(*id)),
                    None => self.alone(),
                };
                let is_info = info;
                self.cut(
                    id,
                    Said {
                        level,
                        is_info,
                        text,
                    },
                );
            }
            // User code can write to any descriptor of its process; what makes no sense is output like any other.
            Err(_) => self.raw_line(line, Level::Warn),
        }
    }

    fn fatal(&mut self, error: HandlerFault) {
        let error = crate::trace::remap(error, &self.dir());
        let text = error
            .stack
            .clone()
            .filter(|stack| !stack.is_empty())
            .unwrap_or_else(|| error.message.clone());
        let id = self.alone();
        let text = format!("uncaught {}: {text}", error.error_type);
        self.cut(id, Said::new(Level::Error, text));
        self.worker.fatal.set(error).ok();
    }

    /// The folder of what it runs.
    fn dir(&self) -> PathBuf {
        let version = self.worker.version.get();
        version
            .map(|version| version.dir.clone())
            .unwrap_or_default()
    }

    fn say(&mut self, word: Result<(), HandlerFault>) {
        if let Some(say) = self.say.take() {
            say.send(word).ok();
        }
    }

    /// Reads standard output or error once; false when it has ended.
    pub fn raw(&mut self, pipe: &pipe::Receiver, buffer: &mut [u8], which: usize) -> bool {
        let (count, is_open) = read(pipe, buffer);
        let mut held = std::mem::take(&mut self.raw[which]);
        held.extend_from_slice(&buffer[..count]);
        let mut start = 0;
        while let Some(length) = held[start..].iter().position(|byte| *byte == b'\n') {
            self.raw_line(&held[start..start + length], level_of(which));
            start += length + 1;
        }
        held.drain(..start);
        if held.len() >= LINE_MAX {
            self.raw_line(&held, level_of(which));
            held.clear();
        }
        self.raw[which] = held;
        is_open
    }

    fn raw_line(&mut self, line: &[u8], level: Level) {
        let text = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
        if self.worker.runtime == Runtime::Node && is_heap_full(&text) {
            let heap = node_heap(self.worker.memory);
            self.worker.cause.set(Cause::HeapFull(heap)).ok();
        }
        // AWS's clients write a record of several lines with these between them.
        let text = match self.worker.api {
            Some(_) if text.contains('\r') => text.replace('\r', "\n"),
            _ => text,
        };
        if level == Level::Warn && self.worker.api.is_some() && !text.trim().is_empty() {
            self.keep_last_words(&text);
        }
        let id = self.alone();
        self.log(id, Said::new(level, text));
    }

    /// What a process that does not get ready said last is mostly why.
    fn keep_last_words(&self, text: &str) {
        if !self
            .worker
            .was_used
            .load(std::sync::atomic::Ordering::SeqCst)
            && let Ok(mut last) = self.worker.last_words.lock()
        {
            *last = text[..text.floor_char_boundary(LAST_WORDS_MAX)]
                .trim()
                .to_owned();
        }
    }

    /// The one invocation in flight, or the one that was until a moment ago.
    fn alone(&mut self) -> Option<InvocationId> {
        let mut holders = self.worker.holders();
        match (holders.next(), holders.next()) {
            (Some(id), None) => {
                self.last = Some(id);
                Some(id)
            }
            (Some(_), Some(_)) => None,
            (None, _) => {
                let ended = self
                    .worker
                    .used_at
                    .load(std::sync::atomic::Ordering::SeqCst);
                let is_recent = self.house.ticks().saturating_sub(ended) <= LATE_OUTPUT;
                self.worker
                    .last_holder()
                    .or(self.last)
                    .filter(|_| is_recent)
            }
        }
    }

    /// A line of a control message, which may be of any length.
    fn cut(&mut self, id: Option<InvocationId>, mut said: Said) {
        let text = &mut said.text;
        let is_long = text.len() > LINE_MAX;
        text.truncate(text.floor_char_boundary(LINE_MAX));
        self.log(id, said);
        if is_long {
            let max = ByteSize(LINE_MAX as u64);
            let marker = format!("the rest of the line is dropped: one line may hold {max}");
            self.log(id, Said::new(Level::Warn, marker));
        }
    }

    fn log(&mut self, id: Option<InvocationId>, said: Said) {
        let Some(version) = self.worker.version.get() else {
            return;
        };
        let limit = self.house.options.limits.logs_per_invocation;
        if self.written.len() > 64 {
            let held: Vec<InvocationId> = self.worker.holders().collect();
            self.written
                .retain(|id, _| id.is_some_and(|id| held.contains(&id)));
        }
        let line = |said: Said| LogLine {
            at: self.house.options.clock.now(),
            function: version.function.clone(),
            version: version.number,
            invocation: id,
            level: said.level,
            is_info: said.is_info,
            text: said.text,
        };
        let mut marker = None;
        if id.is_some() {
            let written = self.written.entry(id).or_default();
            let is_over = *written > limit.0;
            *written += said.text.len() as u64 + 1;
            if is_over {
                return;
            }
            if *written > limit.0 {
                marker = Some(format!(
                    "the rest is dropped: one invocation may log {limit}, the limit `logs_per_invocation`"
                ));
            }
        }
        let line = match marker {
            Some(text) => line(Said::new(Level::Warn, text)),
            None => line(said),
        };
        self.house.options.logs.line(line);
    }

    /// Reads all that is there now.
    pub fn drain(
        &mut self,
        control: &mut pipe::Receiver,
        stdout: &mut pipe::Receiver,
        stderr: &mut pipe::Receiver,
        buffer: &mut [u8],
    ) {
        while has_more(control) && self.control(control, buffer) {}
        while has_more(stdout) && self.raw(stdout, buffer, STDOUT) {}
        while has_more(stderr) && self.raw(stderr, buffer, STDERR) {}
    }

    /// The process is gone: what it left without a line end is a line too.
    pub fn finish(&mut self) {
        for which in [STDOUT, STDERR] {
            let rest = std::mem::take(&mut self.raw[which]);
            if !rest.is_empty() {
                self.raw_line(&rest, level_of(which));
            }
        }
    }
}

/// Whether V8 says here that it ends the process because its heap is full; it aborts next, and nothing else tells why.
fn is_heap_full(line: &str) -> bool {
    line.starts_with("FATAL ERROR: ") && line.ends_with("JavaScript heap out of memory")
}

/// Plain output is information, on standard error too: many programs write their progress there.
const fn level_of(which: usize) -> Level {
    if which == STDERR {
        Level::Warn
    } else {
        Level::Info
    }
}

/// Whether a read would give something now.
fn has_more(pipe: &pipe::Receiver) -> bool {
    rustix::io::ioctl_fionread(pipe).is_ok_and(|count| count > 0)
}

/// Reads once without waiting: how much, and whether the pipe is still open.
fn read(pipe: &pipe::Receiver, buffer: &mut [u8]) -> (usize, bool) {
    match pipe.try_read(buffer) {
        Ok(0) => (0, false),
        Ok(count) => (count, true),
        Err(error) => (0, error.kind() == std::io::ErrorKind::WouldBlock),
    }
}
