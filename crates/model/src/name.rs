//! Names of projects and functions, parsed once at the door.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize};

/// Names that would collide with paths of the gateway or of a profile.
pub const RESERVED_NAMES: [&str; 5] = ["default", "projects", "code", "register", "deploy"];

/// Longest name, in bytes.
const NAME_MAX: usize = 64;

/// A project or function name: `[A-Za-z0-9_][A-Za-z0-9_-]{0,63}`, case kept.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Name(Arc<str>);

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The empty text.
    #[error("a name cannot be empty")]
    Empty,
    /// Longer than 64 bytes.
    #[error("the name `{0}…` is longer than 64 characters")]
    TooLong(String),
    /// A character outside the alphabet, or a leading `-`.
    #[error(
        "`{name}` is not a valid name: `{character}` is not allowed there; use letters, digits, `_` and `-`, not starting with `-`"
    )]
    Character {
        /// What was given.
        name: String,
        /// The first character that does not fit.
        character: char,
    },
    /// One of [`RESERVED_NAMES`], given to a function.
    #[error("`{0}` is a reserved name; choose another one")]
    Reserved(String),
}

impl Name {
    /// The project used when none is named.
    pub fn default_project() -> Name {
        Name(Arc::from("default"))
    }

    /// Parses a function's name, which may not be reserved.
    pub fn function(text: &str) -> Result<Name, NameError> {
        if RESERVED_NAMES.contains(&text) {
            return Err(NameError::Reserved(text.into()));
        }
        text.parse()
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Name, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        let misfit = |(at, c): &(usize, char)| {
            !(c.is_ascii_alphanumeric() || *c == '_' || (*c == '-' && *at > 0))
        };
        if let Some((_, character)) = text.char_indices().find(misfit) {
            let name = text.chars().take(NAME_MAX).collect();
            return Err(NameError::Character { name, character });
        }
        if text.len() > NAME_MAX {
            return Err(NameError::TooLong(text.chars().take(16).collect()));
        }
        Ok(Name(Arc::from(text)))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A function: its project and its name, written `project/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "describe", derive(utoipa::ToSchema))]
pub struct FunctionId {
    /// The project it lives in.
    pub project: Name,
    /// Its own name.
    pub name: Name,
}

impl FromStr for FunctionId {
    type Err = NameError;

    /// `project/name`; without a project, that of the default one.
    fn from_str(text: &str) -> Result<FunctionId, NameError> {
        let (project, name) = match text.split_once('/') {
            Some((project, name)) => (project.parse()?, name),
            None => (Name::default_project(), text),
        };
        Ok(FunctionId {
            project,
            name: Name::function(name)?,
        })
    }
}

impl fmt::Display for FunctionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_case_and_refuse_paths() {
        assert_eq!("Hello_1-x".parse::<Name>().unwrap().as_str(), "Hello_1-x");
        for bad in ["", "-x", "a/b", "..", "a b", "é", &"x".repeat(65)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
        assert!(Name::function("register").is_err());
        assert!("x".repeat(64).parse::<Name>().is_ok());
    }
}
