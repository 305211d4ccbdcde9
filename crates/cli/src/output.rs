//! Where words go: data on stdout, everything else on stderr. Colour only where a terminal shows it, and never alone.

use std::io::{self, ErrorKind, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use serde::Serialize;

use crate::exit::{Complaint, Stop};

/// Prints for one command.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    /// Data as JSON.
    pub json: bool,
    /// Nothing on stderr but errors.
    pub quiet: bool,
    /// Colour on stdout.
    colour_out: bool,
    /// Colour on stderr.
    colour_err: bool,
}

/// How a word stands out, where there is colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As everything else.
    Plain,
    /// Less important.
    Dim,
    /// More important.
    Bold,
    /// It went well.
    Good,
    /// Worth a look.
    Warning,
    /// It failed.
    Bad,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Style::Plain => "",
            Style::Dim => "\x1b[2m",
            Style::Bold => "\x1b[1m",
            Style::Good => "\x1b[32m",
            Style::Warning => "\x1b[33m",
            Style::Bad => "\x1b[1;31m",
        }
    }
}

/// Whether a place shows colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Palette(bool);

impl Palette {
    /// No colour at all.
    pub const PLAIN: Palette = Palette(false);

    /// `text` in a style, where there is colour.
    pub fn paint(self, style: Style, text: &str) -> String {
        if self.0 && style != Style::Plain {
            format!("{}{text}\x1b[0m", style.code())
        } else {
            text.to_owned()
        }
    }
}

impl Printer {
    /// A printer for this process's own stdout and stderr.
    pub fn new(json: bool, quiet: bool) -> Printer {
        Printer {
            json,
            quiet,
            colour_out: AutoStream::choice(&io::stdout()) != ColorChoice::Never,
            colour_err: AutoStream::choice(&io::stderr()) != ColorChoice::Never,
        }
    }

    /// The palette of stdout.
    pub fn palette_out(&self) -> Palette {
        Palette(self.colour_out)
    }

    /// The palette of stderr.
    pub fn palette_err(&self) -> Palette {
        Palette(self.colour_err)
    }

    /// Whether stderr shows colour.
    pub fn has_colour(&self) -> bool {
        self.colour_err
    }

    /// One line of data.
    pub fn line(&self, text: &str) -> Result<(), Stop> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// Data, byte for byte.
    pub fn bytes(&self, data: &[u8]) -> Result<(), Stop> {
        let mut out = io::stdout().lock();
        out.write_all(data)
            .and_then(|()| out.flush())
            .map_err(|error| match error.kind() {
                ErrorKind::BrokenPipe => Stop::BrokenPipe,
                _ => Complaint::new(
                    crate::exit::Exit::Failed,
                    format!("cannot write to stdout: {error}"),
                )
                .into(),
            })
    }

    /// A value as one line of JSON.
    pub fn json(&self, value: &impl Serialize) -> Result<(), Stop> {
        let text = serde_json::to_string(value).map_err(|error| {
            Complaint::new(
                crate::exit::Exit::Failed,
                format!("cannot write JSON: {error}"),
            )
        })?;
        self.line(&text)
    }

    /// Ends a body that does not end its line, so that a terminal's prompt starts on its own.
    pub fn end_line_on_terminal(&self) -> Result<(), Stop> {
        if io::stdout().is_terminal() {
            self.bytes(b"\n")?;
        }
        Ok(())
    }

    /// One line for whoever watches; not with `--quiet`.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            stderr_line(text);
        }
    }

    /// An error and its hint.
    pub fn complain(&self, complaint: &Complaint) {
        stderr_line(&render(complaint, self.palette_err()));
    }
}

/// Writes one line to stderr; if nobody reads there, nobody misses it.
pub fn stderr_line(text: &str) {
    let _nobody_reads = io::stderr()
        .lock()
        .write_all(format!("{text}\n").as_bytes());
}

fn render(complaint: &Complaint, palette: Palette) -> String {
    let mut text = format!(
        "{} {}",
        palette.paint(Style::Bad, "error:"),
        escape(&complaint.message, "")
    );
    if let Some(hint) = &complaint.hint {
        text.push_str(&format!(
            "\n\n{} {}",
            palette.paint(Style::Bold, "hint:"),
            escape(hint, "")
        ));
    }
    text
}

/// Text of others made harmless for a terminal: control characters and those that turn the reading direction are
/// shown as `\u{…}`, tabs stay, and each further line starts with `indent`.
pub fn escape(text: &str, indent: &str) -> String {
    let harmless = |c: char| !c.is_control() && !turns(c);
    if text.chars().all(harmless) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text.strip_suffix('\n').unwrap_or(text).chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\r' if rest.peek() == Some(&'\n') => {}
            '\n' => {
                out.push('\n');
                out.push_str(indent);
            }
            '\t' => out.push('\t'),
            c if c.is_control() || turns(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// Whether a character turns the reading direction of what follows.
fn turns(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn an_error_is_a_line_and_a_hint() {
        let complaint =
            Complaint::new(Exit::NotFound, "no function `hell`").hint("did you mean `hello`?");
        assert_eq!(
            render(&complaint, Palette::PLAIN),
            "error: no function `hell`\n\nhint: did you mean `hello`?"
        );
    }

    #[test]
    fn terminals_never_see_control_characters() {
        assert_eq!(escape("a\x1b[2Jb\u{9b}", ""), "a\\u{1b}[2Jb\\u{9b}");
        assert_eq!(escape("a\r\nb\tc\n", "  "), "a\n  b\tc");
        assert_eq!(escape("a\rb", ""), "a\\rb");
        assert_eq!(escape("a\u{202e}b", ""), "a\\u{202e}b");
        assert_eq!(escape("žluť", ""), "žluť");
    }
}
