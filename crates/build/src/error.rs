//! What is wrong with a folder, and where: `FILE:LINE: message`, with the next step where there is one.

use std::{fmt, path::Path};

use model::{ErrorType, Failure};

/// A place in a file, written `FILE:LINE` or `FILE:LINE:COLUMN`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, as a path that works from where the folder was named.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1, where it helps.
    pub column: Option<u32>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.column {
            Some(column) => write!(f, "{}:{}:{column}", self.file, self.line),
            None => write!(f, "{}:{}", self.file, self.line),
        }
    }
}

impl Place {
    /// The line that holds byte `offset` of `text`; past its end, the last one.
    pub(crate) fn line_of(file: &str, text: &str, offset: usize) -> Place {
        let Place { file, line, .. } = Place::of(file, text, offset);
        Place {
            file,
            line,
            column: None,
        }
    }

    /// Line and column of byte `offset` of `text`.
    pub(crate) fn of(file: &str, text: &str, offset: usize) -> Place {
        let before = &text.as_bytes()[..offset.min(text.len())];
        let start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let lines = before.iter().filter(|byte| **byte == b'\n').count();
        let column = String::from_utf8_lossy(&before[start..]).chars().count();
        let from_one = |count: usize| u32::try_from(count + 1).unwrap_or(u32::MAX);
        Place {
            file: file.into(),
            line: from_one(lines),
            column: Some(from_one(column)),
        }
    }
}

/// The text of `file`; if it is none, the place of the first byte that does not fit.
pub(crate) fn utf8(file: &str, bytes: Vec<u8>) -> Result<String, Place> {
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let text = String::from_utf8_lossy(before);
        Place::line_of(file, &text, text.len())
    })
}

/// A path inside `dir` as people can open it from where they stand; no `./` in front.
pub(crate) fn shown(dir: &Path, path: &str) -> String {
    let full = dir.join(path);
    full.strip_prefix(".")
        .unwrap_or(&full)
        .display()
        .to_string()
}

/// Writes `place: ` if there is one.
struct Prefix<'a>(Option<&'a Place>);

impl fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(place) => write!(f, "{place}: "),
            None => Ok(()),
        }
    }
}

/// Why a folder is no project.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", Prefix(place.as_ref()))]
pub struct ConfigError {
    /// Where it stands, if it stands anywhere.
    pub place: Option<Place>,
    /// One clear line.
    pub message: String,
    /// The next step, such as the word that was probably meant.
    pub hint: Option<String>,
}

impl ConfigError {
    pub(crate) fn new(place: Option<Place>, message: impl Into<String>) -> ConfigError {
        ConfigError {
            place,
            message: message.into(),
            hint: None,
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> ConfigError {
        self.hint = Some(hint.into());
        self
    }
}

/// Why a function has no bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", Prefix(place.as_deref()))]
pub struct BuildError {
    /// `InitError` for what is wrong with the module or its tools, `PayloadTooLarge` for a bundle past its limit, `Internal` for a file system that fails.
    pub error_type: ErrorType,
    /// Where it stands, if it stands anywhere.
    pub place: Option<Box<Place>>,
    /// One clear line.
    pub message: String,
    /// The source around it, several lines, or the last lines of a command that failed.
    pub frame: Option<String>,
    /// The next step.
    pub hint: Option<String>,
    /// Further errors of the same build, one line each, `FILE:LINE:COLUMN: message`.
    pub also: Vec<String>,
}

impl BuildError {
    /// Something wrong with the module or its tools.
    pub(crate) fn new(place: Option<Place>, message: impl Into<String>) -> BuildError {
        BuildError {
            error_type: ErrorType::InitError,
            place: place.map(Box::new),
            message: message.into(),
            frame: None,
            hint: None,
            also: Vec::new(),
        }
    }

    /// A file system that does not do what it should.
    pub(crate) fn io(what: impl fmt::Display, cause: impl fmt::Display) -> BuildError {
        BuildError {
            error_type: ErrorType::Internal,
            ..BuildError::new(None, format!("{what}: {cause}"))
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> BuildError {
        self.hint = Some(hint.into());
        self
    }

    /// The same, said of this place if there is one.
    pub(crate) fn at(mut self, place: Option<Place>) -> BuildError {
        self.place = place.map(Box::new).or(self.place);
        self
    }

    pub(crate) fn frame(mut self, frame: impl Into<String>) -> BuildError {
        self.frame = Some(frame.into());
        self
    }

    /// The same for answers and records: one line, its type, and the hint.
    pub fn failure(&self) -> Failure {
        let failure = Failure::new(self.error_type, self.to_string());
        match &self.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<ConfigError> for BuildError {
    fn from(error: ConfigError) -> BuildError {
        BuildError {
            hint: error.hint,
            ..BuildError::new(error.place, error.message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_lines_and_characters_from_one() {
        let text = "a\néé x\n";
        let at = text.find('x').unwrap();
        assert_eq!(Place::of("f.ts", text, at).to_string(), "f.ts:2:4");
        assert_eq!(Place::line_of("f.ts", text, 0).to_string(), "f.ts:1");
        assert_eq!(Place::line_of("f.ts", text, 9999).to_string(), "f.ts:3");
    }
}
