//! Versions: an ordinal per function plus a digest of bundle and settings.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// A SHA-256, written `sha256:` and 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// The 64 hex digits, without the prefix.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The hash itself.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Wraps a finished hash.
    pub fn from_bytes(bytes: [u8; 32]) -> Digest {
        Digest(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = VersionRefError;

    fn from_str(text: &str) -> Result<Digest, VersionRefError> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes)
            .map_err(|_| VersionRefError::Digest(text.chars().take(80).collect()))?;
        Ok(Digest(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The ordinal of a version within its function: 1, 2, …; written `v7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionNumber(pub u32);

impl fmt::Display for VersionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("v{}", self.0))
    }
}

impl Serialize for VersionNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VersionNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<VersionNumber, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.parse() {
            Ok(VersionRef::Number(number)) => Ok(number),
            _ => Err(serde::de::Error::custom(format!(
                "`{text}` is no version number like v7"
            ))),
        }
    }
}

/// How a person names a version: `v7`, `7`, or a prefix of its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionRef {
    /// By ordinal.
    Number(VersionNumber),
    /// By the first hex digits of the digest, lower case, at least four.
    Prefix(String),
}

/// Why a text names no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionRefError {
    /// Neither ordinal nor digest prefix.
    #[error("`{0}` is no version; use `v7`, `7`, or at least four digits of a digest")]
    Version(String),
    /// Not 64 hex digits.
    #[error("`{0}` is no digest; expected `sha256:` and 64 hex digits")]
    Digest(String),
}

impl FromStr for VersionRef {
    type Err = VersionRefError;

    fn from_str(text: &str) -> Result<VersionRef, VersionRefError> {
        let ordinal = text.strip_prefix('v').unwrap_or(text);
        if let Ok(number) = ordinal.parse::<u32>()
            && number > 0
            && !ordinal.starts_with(['0', '+'])
        {
            return Ok(VersionRef::Number(VersionNumber(number)));
        }
        let prefix = text
            .strip_prefix("sha256:")
            .unwrap_or(text)
            .to_ascii_lowercase();
        if (4..=64).contains(&prefix.len()) && prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(VersionRef::Prefix(prefix));
        }
        Err(VersionRefError::Version(text.chars().take(80).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_named_three_ways() {
        let number = |n| VersionRef::Number(VersionNumber(n));
        assert_eq!("v7".parse(), Ok(number(7)));
        assert_eq!("7".parse(), Ok(number(7)));
        assert_eq!("sha256:AB12".parse(), Ok(VersionRef::Prefix("ab12".into())));
        for bad in ["", "v0", "abc", "v-1", "zzzz"] {
            assert!(bad.parse::<VersionRef>().is_err(), "{bad}");
        }
    }
}
