//! Spans of time and sizes as people write them: `30s`, `5m`, `256MB`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of time in whole milliseconds, written `250ms`, `30s`, `5m`, `2h` or `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeSpan(pub u64);

/// A size in bytes, written `64KB`, `256MB`, `1GB` (also `KiB`, `MiB`, `GiB`; every unit is a power of 1024) or `512B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// A text that is no span or size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a span of time.
    #[error(
        "`{0}` is no span of time; write a whole number and a unit: ms, s, m, h or d, like `30s`"
    )]
    Span(String),
    /// Not a size.
    #[error("`{0}` is no size; write a whole number and a unit: B, KB, MB or GB, like `256MB`")]
    Size(String),
}

const SPANS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];
const SIZES: [(&str, u64); 7] = [
    ("GB", 1 << 30),
    ("MB", 1 << 20),
    ("KB", 1 << 10),
    ("B", 1),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];

/// Reads digits and one unit of the table; `None` for anything else, overflow included.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Writes with the largest unit that leaves a whole number.
fn display(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    let whole = units
        .iter()
        .find(|(_, factor)| value >= *factor && value.is_multiple_of(*factor));
    let (name, factor) = whole
        .or(units.iter().find(|(_, factor)| *factor == 1))
        .unwrap_or(&("", 1));
    f.pad(&format!("{}{name}", value / factor))
}

impl TimeSpan {
    /// A span of whole seconds.
    pub const fn seconds(seconds: u64) -> TimeSpan {
        TimeSpan(seconds * 1000)
    }

    /// The same as a [`Duration`].
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl ByteSize {
    /// A size of whole mebibytes.
    pub const fn mebibytes(mebibytes: u64) -> ByteSize {
        ByteSize(mebibytes << 20)
    }
}

impl FromStr for TimeSpan {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<TimeSpan, UnitError> {
        parse(text, &SPANS)
            .map(TimeSpan)
            .ok_or_else(|| UnitError::Span(text.into()))
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<ByteSize, UnitError> {
        parse(text, &SIZES)
            .map(ByteSize)
            .ok_or_else(|| UnitError::Size(text.into()))
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display(f, self.0, &SPANS)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display(f, self.0, &SIZES)
    }
}

macro_rules! as_text {
    ($($unit:ty),*) => {$(
        impl Serialize for $unit {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $unit {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$unit, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
as_text!(TimeSpan, ByteSize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_written_alike() {
        for text in ["250ms", "30s", "5m", "2h", "7d", "90s"] {
            assert_eq!(text.parse::<TimeSpan>().unwrap().to_string(), text);
        }
        for text in ["512B", "64KB", "256MB", "1GB", "1500KB"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
        assert_eq!("6 MiB".parse(), Ok(ByteSize::mebibytes(6)));
        for bad in [
            "",
            "30",
            "s",
            "1.5s",
            "-1s",
            "30sec",
            "99999999999999999999s",
        ] {
            assert!(bad.parse::<TimeSpan>().is_err(), "{bad}");
        }
        assert!("256mb".parse::<ByteSize>().is_err());
    }
}
