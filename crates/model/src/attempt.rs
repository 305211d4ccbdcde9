//! One try at an invocation: where it was made, for whom, and why it ended there.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::invocation::words;

words! {
    /// Where an attempt was made.
    Place {
        /// On a worker of the deployed version.
        Deployed = "deployed",
        /// On a developer's machine.
        Live = "live",
    }
}

/// One try at an invocation. Times are microseconds since the invocation arrived, but for `ran_us`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "describe", derive(utoipa::ToSchema))]
pub struct Attempt {
    /// The first is 1.
    pub number: u16,
    /// Where it was made.
    pub place: Place,
    /// Who it was offered to, such as `ann@laptop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub developer: Option<String>,
    /// The rule that matched, such as `header:x-dev=ann`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Why it ended there or was withdrawn, such as `no accept within 500 ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// How it ended, in a few words; `None` if nothing ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// When it was offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered_us: Option<u64>,
    /// When it was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_us: Option<u64>,
    /// How long it ran, to the last byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran_us: Option<u64>,
}

impl Attempt {
    /// An attempt of which no more is known yet than where it is made.
    pub fn new(number: u16, place: Place) -> Attempt {
        Attempt {
            number,
            place,
            developer: None,
            rule: None,
            why: None,
            outcome: None,
            offered_us: None,
            accepted_us: None,
            ran_us: None,
        }
    }
}

impl fmt::Display for Attempt {
    /// As a person reads it: `live ann@laptop (header:x-dev=ann): no accept within 500 ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.place.as_str())?;
        if let Some(developer) = &self.developer {
            write!(f, " {developer}")?;
        }
        if let Some(rule) = &self.rule {
            write!(f, " ({rule})")?;
        }
        match &self.why {
            Some(why) => write!(f, ": {why}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_reads_in_one_line() {
        let mut attempt = Attempt::new(1, Place::Deployed);
        assert_eq!(attempt.to_string(), "deployed");
        attempt.place = Place::Live;
        attempt.developer = Some("ann@laptop".into());
        attempt.rule = Some("header:x-dev=ann".into());
        assert_eq!(attempt.to_string(), "live ann@laptop (header:x-dev=ann)");
        attempt.why = Some("no accept within 500 ms".into());
        assert!(attempt.to_string().ends_with("): no accept within 500 ms"));
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let attempt = Attempt::new(2, Place::Live);
        let json = serde_json::to_string(&attempt).unwrap();
        assert_eq!(json, r#"{"number":2,"place":"live"}"#);
        assert_eq!(serde_json::from_str::<Attempt>(&json).unwrap(), attempt);
    }
}
