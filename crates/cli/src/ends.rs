//! A line at the end of every invocation, as `dev` and `serve` write it: on a thread of its own, so that a slow terminal
//! holds nobody up.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    thread::{self, JoinHandle},
    time::Duration,
};

use model::{Clock, Name, Outcome, Timestamp};
use serde::Serialize;
use server::SystemClock;
use tokio::sync::mpsc::Receiver;

use crate::{
    arguments::LogFormat,
    output::{Palette, Style, escape},
    table,
};

/// As many lines as are written at once.
const BATCH: usize = 512;

/// Lines gather this long before they are written: waking this thread for each of them would cost every invocation more
/// than its line does.
const GATHER: Duration = Duration::from_millis(10);

/// How lines look.
#[derive(Debug, Clone)]
pub struct Looks {
    /// Text or JSON.
    pub format: LogFormat,
    /// Whether each line of text begins with its time.
    pub with_time: bool,
    /// Colours of the terminal.
    pub palette: Palette,
    /// Functions of this project are named without it.
    pub home: Name,
}

/// Writes lines until the server is gone.
pub fn write_all(mut ends: Receiver<server::Ended>, looks: Looks) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("lines".into()).spawn(move || {
        let mut batch = Vec::with_capacity(BATCH);
        let mut text = String::new();
        loop {
            let count = ends.blocking_recv_many(&mut batch, BATCH);
            if count == 0 {
                return;
            }
            text.clear();
            let now = looks.with_time.then(|| SystemClock.now());
            for ended in batch.drain(..) {
                looks.write(&mut text, &ended, now);
            }
            // Nobody reads: then nobody misses it.
            let _nobody_reads = io::stderr().lock().write_all(text.as_bytes());
            if count < BATCH {
                thread::sleep(GATHER);
            }
        }
    })
}

/// One end, as much of it as stands in a line.
struct Line<'a> {
    function: &'a str,
    project: Option<&'a str>,
    request: Option<(&'a str, &'a str)>,
    status: Option<u16>,
    outcome: Outcome,
    why: Option<&'a str>,
    took_us: u64,
    is_cold: bool,
}

#[derive(Serialize)]
struct JsonLine<'a> {
    at: String,
    level: &'a str,
    message: &'a str,
    invocation: &'a model::Record,
}

impl Looks {
    /// One end as one line; text begins with the time, if it is given.
    pub fn write(&self, out: &mut String, ended: &server::Ended, now: Option<Timestamp>) {
        let function = ended.function();
        let line = Line {
            function: function.name.as_str(),
            project: (function.project != self.home).then(|| function.project.as_str()),
            request: ended.request(),
            status: ended.status(),
            outcome: ended.outcome(),
            why: ended.failure().map(|failure| failure.message.as_str()),
            took_us: ended.waited_us() + ended.ran_us(),
            is_cold: ended.is_cold(),
        };
        match self.format {
            LogFormat::Text => {
                if let Some(now) = now {
                    let now = self.palette.paint(Style::Dim, &table::time(now));
                    let _infallible = write!(out, "{now} ");
                }
                line.write(out, self.palette);
            }
            LogFormat::Json => {
                let record = ended.record();
                let took_ms = i64::try_from(line.took_us / 1000).unwrap_or(0);
                let line = JsonLine {
                    at: table::time(Timestamp(record.arrived.0 + took_ms)),
                    level: if record.outcome == Outcome::Ok {
                        "info"
                    } else {
                        "error"
                    },
                    message: "invocation ended",
                    invocation: &record,
                };
                out.push_str(&serde_json::to_string(&line).unwrap_or_default());
            }
        }
        out.push('\n');
    }
}

impl Line<'_> {
    /// `← hello GET /functions/hello/Ann 200 1.2 ms`.
    fn write(&self, out: &mut String, palette: Palette) {
        out.push_str("← ");
        if let Some(project) = self.project {
            out.push_str(project);
            out.push('/');
        }
        out.push_str(&palette.paint(Style::Bold, self.function));
        match self.request {
            Some((method, path)) => {
                let _infallible = write!(out, " {} {}", escape(method, ""), escape(path, ""));
            }
            None => out.push_str(" event"),
        }
        let result = match (self.status, self.outcome) {
            (Some(status), _) => status.to_string(),
            (None, Outcome::Ok) => "ok".to_owned(),
            (None, Outcome::Failed(_)) => "failed".to_owned(),
        };
        let style = match (self.outcome, self.status) {
            (Outcome::Failed(_), _) | (_, Some(500..)) => Style::Bad,
            (Outcome::Ok, Some(400..500)) => Style::Warning,
            (Outcome::Ok, _) => Style::Good,
        };
        let _infallible = write!(
            out,
            " {} {}",
            palette.paint(style, &result),
            table::micros(self.took_us)
        );
        if self.is_cold {
            out.push_str(&palette.paint(Style::Dim, " cold"));
        }
        if let Outcome::Failed(error_type) = self.outcome {
            let why = self.why.unwrap_or_default();
            let first = why.lines().next().unwrap_or_default();
            let _infallible = write!(out, " {error_type}: {}", escape(first, ""));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::ErrorType;

    fn shown(line: Line<'_>) -> String {
        let mut out = String::new();
        line.write(&mut out, Palette::PLAIN);
        out
    }

    const HELLO: Line<'_> = Line {
        function: "hello",
        project: None,
        request: Some(("GET", "/functions/hello/Ann")),
        status: Some(200),
        outcome: Outcome::Ok,
        why: None,
        took_us: 1_234,
        is_cold: false,
    };

    #[test]
    fn an_end_is_one_line() {
        assert_eq!(shown(HELLO), "← hello GET /functions/hello/Ann 200 1.2 ms");
        assert_eq!(
            shown(Line {
                is_cold: true,
                project: Some("shop"),
                ..HELLO
            }),
            "← shop/hello GET /functions/hello/Ann 200 1.2 ms cold"
        );
        assert_eq!(
            shown(Line {
                request: None,
                status: None,
                ..HELLO
            }),
            "← hello event ok 1.2 ms"
        );
    }

    #[test]
    fn a_failure_names_its_cause_and_stays_one_line() {
        let failed = Line {
            status: Some(502),
            outcome: Outcome::Failed(ErrorType::HandlerError),
            why: Some("Error: bo\x1bom\nsecond"),
            ..HELLO
        };
        assert_eq!(
            shown(failed),
            "← hello GET /functions/hello/Ann 502 1.2 ms HandlerError: Error: bo\\u{1b}om"
        );
    }
}
