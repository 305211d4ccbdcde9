//! Where an alias points: at one version, or at two by weight. Which of the two an invocation meets follows from its id.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Digest, InvocationId, VersionNumber};

/// What all weights of an alias add up to.
const WHOLE: u32 = 100;

/// Where an alias points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AliasTarget {
    /// At one version.
    One(VersionNumber),
    /// At two, each of which gets its share.
    Two {
        /// The version that was named first: `info`, `list` and routes show this one.
        first: VersionNumber,
        /// The other one.
        second: VersionNumber,
        /// Of a hundred invocations, those of `second`: 1 to 99.
        percent: u8,
    },
}

/// One version of an alias, and its share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "describe", derive(utoipa::ToSchema))]
pub struct AliasPart {
    /// The version.
    pub version: VersionNumber,
    /// Of a hundred invocations, those that it gets.
    pub weight: u8,
}

/// Why versions and weights make no alias.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AliasError {
    /// None, or more than two.
    #[error("an alias points at one version or at two, and {0} were named")]
    Count(usize),
    /// The same one twice.
    #[error("{0} was named twice")]
    Twice(VersionNumber),
    /// One of two has none.
    #[error("{0} has no weight; with two versions each needs one")]
    NoWeight(VersionNumber),
    /// One that gets nothing.
    #[error("{0} has the weight 0 and would never run; leave it out")]
    Nothing(VersionNumber),
    /// They do not make a whole.
    #[error("the weights {} add up to {}, and must add up to 100", plus(.0), .0.iter().map(|weight| u64::from(*weight)).sum::<u64>())]
    Sum(Vec<u32>),
}

fn plus(weights: &[u32]) -> String {
    let words: Vec<String> = weights.iter().map(ToString::to_string).collect();
    words.join(" + ")
}

impl From<VersionNumber> for AliasTarget {
    fn from(version: VersionNumber) -> AliasTarget {
        AliasTarget::One(version)
    }
}

impl AliasTarget {
    /// From versions with their weights; one alone needs none.
    pub fn of(parts: &[(VersionNumber, Option<u32>)]) -> Result<AliasTarget, AliasError> {
        let weights: Vec<u32> = parts.iter().filter_map(|(_, weight)| *weight).collect();
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let is_whole = total == u64::from(WHOLE);
        match *parts {
            [(only, None)] => Ok(AliasTarget::One(only)),
            [(only, Some(_))] if is_whole => Ok(AliasTarget::One(only)),
            [_] => Err(AliasError::Sum(weights)),
            [(first, _), (second, _)] if first == second => Err(AliasError::Twice(first)),
            [(version, None), _] | [_, (version, None)] => Err(AliasError::NoWeight(version)),
            [_, _] if !is_whole => Err(AliasError::Sum(weights)),
            [(version, Some(0)), _] | [_, (version, Some(0))] => Err(AliasError::Nothing(version)),
            [(first, _), (second, Some(weight))] => Ok(AliasTarget::Two {
                first,
                second,
                percent: u8::try_from(weight).map_err(|_| AliasError::Sum(weights))?,
            }),
            ref other => Err(AliasError::Count(other.len())),
        }
    }

    /// The version that was named first.
    pub fn first(&self) -> VersionNumber {
        match self {
            AliasTarget::One(version) => *version,
            AliasTarget::Two { first, .. } => *first,
        }
    }

    /// Every version with its share, the first one first.
    pub fn parts(&self) -> Vec<AliasPart> {
        match *self {
            AliasTarget::One(version) => vec![AliasPart {
                version,
                weight: 100,
            }],
            AliasTarget::Two {
                first,
                second,
                percent,
            } => {
                let part = |version, weight| AliasPart { version, weight };
                vec![part(first, 100 - percent), part(second, percent)]
            }
        }
    }
}

impl fmt::Display for AliasTarget {
    /// `v2`, or `v1 90%, v2 10%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AliasTarget::One(version) => write!(f, "{version}"),
            AliasTarget::Two {
                first,
                second,
                percent,
            } => write!(f, "{first} {}%, {second} {percent}%", 100 - percent),
        }
    }
}

/// Whether the invocation is one of `percent` in a hundred: always the same answer for the same id, and evenly spread.
pub fn falls_within(percent: u8, id: InvocationId) -> bool {
    let digest = Digest::of(id.0.as_bytes());
    let place = digest
        .bytes()
        .iter()
        .take(8)
        .fold(0_u64, |word, byte| (word << 8) | u64::from(*byte));
    place % u64::from(WHOLE) < u64::from(percent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    fn of(parts: &[(u32, Option<u32>)]) -> Result<String, String> {
        let parts: Vec<_> = parts
            .iter()
            .map(|(number, weight)| (VersionNumber(*number), *weight))
            .collect();
        let target = AliasTarget::of(&parts);
        target
            .map(|target| target.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn one_version_or_two_that_make_a_whole() {
        assert_eq!(of(&[(3, None)]).unwrap(), "v3");
        assert_eq!(of(&[(3, Some(100))]).unwrap(), "v3");
        assert_eq!(
            of(&[(1, Some(90)), (2, Some(10))]).unwrap(),
            "v1 90%, v2 10%"
        );
    }

    #[test]
    fn what_makes_no_whole_is_refused_in_clear_words() {
        for (parts, words) in [
            (&[][..], "0 were named"),
            (&[(1, Some(50))], "the weights 50 add up to 50"),
            (
                &[(1, Some(60)), (2, Some(60))],
                "the weights 60 + 60 add up to 120, and must add up to 100",
            ),
            (&[(1, Some(u32::MAX)), (2, Some(u32::MAX))], "add up to"),
            (&[(1, Some(100)), (2, Some(0))], "v2 has the weight 0"),
            (&[(1, Some(90)), (2, None)], "v2 has no weight"),
            (&[(1, Some(50)), (1, Some(50))], "v1 was named twice"),
            (&[(1, None), (2, None), (3, None)], "3 were named"),
        ] {
            let error = of(parts).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn shares_are_honest_and_the_same_for_the_same_id() {
        for percent in [1_u8, 10, 50, 99] {
            let mut within = 0;
            for number in 0..20_000_u64 {
                let mut chance = [0; 10];
                chance[2..].copy_from_slice(&number.to_be_bytes());
                let id = InvocationId::new(Timestamp(1_800_000_000_000), chance);
                assert_eq!(falls_within(percent, id), falls_within(percent, id));
                within += u32::from(falls_within(percent, id));
            }
            let share = within / 200;
            assert!(
                share.abs_diff(u32::from(percent)) <= 1,
                "{percent}: {share}"
            );
        }
    }
}
