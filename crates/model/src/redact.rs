//! What is taken out of a recording before it is stored: headers by name, places in JSON by path.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json_path::JsonPath;

use crate::Payload;

/// What stands where something was taken out.
pub const REDACTED: &str = "[redacted]";

/// Headers that are taken out of every recording, asked for or not.
const ALWAYS: [&str; 5] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-api-key",
];

/// One rule: `header:NAME`, or `json:PATH` with a path of RFC 9535 into a body or an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RedactRule(Rule);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    /// A header's name, in small letters.
    Header(String),
    /// A path, as it was written.
    Json(String),
}

/// Why a text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedactError {
    /// Neither of the two kinds.
    #[error("`{0}` redacts nothing; write `header:NAME` or `json:PATH`, like `json:$.card.number`")]
    Kind(String),
    /// There is no such header.
    #[error("`{0}` names no header: use letters, digits and `-`, like `header:x-api-key`")]
    Header(String),
    /// No path of RFC 9535.
    #[error("`{text}` is no JSON path: {why}; write it like `json:$.users[*].email`")]
    Path {
        /// The rule.
        text: String,
        /// What is wrong, and where.
        why: String,
    },
}

impl FromStr for RedactRule {
    type Err = RedactError;

    fn from_str(text: &str) -> Result<RedactRule, RedactError> {
        match text.split_once(':') {
            Some(("header", name)) => match http::HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => Ok(RedactRule(Rule::Header(name.as_str().to_owned()))),
                Err(_) => Err(RedactError::Header(text.into())),
            },
            Some(("json", path)) => match JsonPath::parse(path) {
                Ok(_) => Ok(RedactRule(Rule::Json(path.to_owned()))),
                Err(error) => Err(RedactError::Path {
                    text: text.into(),
                    why: error.to_string(),
                }),
            },
            _ => Err(RedactError::Kind(text.into())),
        }
    }
}

impl TryFrom<String> for RedactRule {
    type Error = RedactError;

    fn try_from(text: String) -> Result<RedactRule, RedactError> {
        text.parse()
    }
}

impl From<RedactRule> for String {
    fn from(rule: RedactRule) -> String {
        rule.to_string()
    }
}

impl fmt::Display for RedactRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Rule::Header(name) => write!(f, "header:{name}"),
            Rule::Json(path) => write!(f, "json:{path}"),
        }
    }
}

/// All rules of a function, and those that hold always, ready to be applied.
#[derive(Debug)]
pub struct Redaction {
    headers: BTreeSet<String>,
    paths: Vec<(String, JsonPath)>,
}

impl Redaction {
    /// The rules, and the headers that never stay.
    pub fn new(rules: &[RedactRule]) -> Redaction {
        let mut headers: BTreeSet<String> = ALWAYS.into_iter().map(str::to_owned).collect();
        let mut paths = Vec::new();
        for rule in rules {
            match &rule.0 {
                Rule::Header(name) => {
                    headers.insert(name.clone());
                }
                // Whatever is a rule was parsed before.
                Rule::Json(path) => {
                    paths.extend(JsonPath::parse(path).map(|parsed| (rule.to_string(), parsed)));
                }
            }
        }
        Redaction { headers, paths }
    }

    /// Takes values out of headers, whose names are in small letters; tells in `hit` which rules did.
    pub fn headers(&self, headers: &mut [(String, String)], hit: &mut BTreeSet<String>) {
        for (name, value) in headers {
            if self.headers.contains(name) {
                REDACTED.clone_into(value);
                hit.insert(format!("header:{name}"));
            }
        }
    }

    /// A body as it is kept, of which `kept` are the first bytes of `size`. Where there are paths and the body cannot be
    /// read as JSON, nobody knows what stands in it, and nothing of it stays.
    pub fn payload(&self, kept: &[u8], size: u64, hit: &mut BTreeSet<String>) -> Payload {
        if self.paths.is_empty() || size == 0 {
            return Payload::of(kept, size);
        }
        let is_cut = (kept.len() as u64) < size;
        let parsed = if is_cut {
            None
        } else {
            serde_json::from_slice::<Value>(kept).ok()
        };
        let Some(mut value) = parsed else {
            let why = if is_cut {
                "it was cut, and `json:` rules need all of it"
            } else {
                "it is no JSON, and `json:` rules cannot be applied to it"
            };
            return Payload::withheld(size, why);
        };
        for (rule, path) in &self.paths {
            let nodes = path.query_located(&value);
            let places = nodes.locations();
            let found: Vec<String> = places.map(|place| place.to_json_pointer()).collect();
            // The innermost first, so that no place is gone before its turn.
            for pointer in found.iter().rev() {
                if let Some(place) = value.pointer_mut(pointer) {
                    *place = REDACTED.into();
                    hit.insert(rule.clone());
                }
            }
        }
        // Also where nothing was found: of a key given twice, only what was looked at stays.
        let text = value.to_string();
        Payload::of(text.as_bytes(), text.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(rules: &[&str], body: &str) -> (Payload, Vec<String>) {
        let rules: Vec<RedactRule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        let mut hit = BTreeSet::new();
        let payload = Redaction::new(&rules).payload(body.as_bytes(), body.len() as u64, &mut hit);
        (payload, hit.into_iter().collect())
    }

    #[test]
    fn places_in_json_are_taken_out() {
        let rules = ["json:$.card.number", "json:$.users[*].email", "json:$..pin"];
        let body = r#"{"card":{"number":"4111","pin":7},"users":[{"email":"a@x"},{"email":"b@x","pin":[1]}]}"#;
        let (payload, hit) = redacted(&rules, body);
        let text = payload.text.unwrap();
        for secret in ["4111", "a@x", "b@x", "7", "1"] {
            assert!(!text.contains(secret), "{text}");
        }
        assert_eq!(text.matches(REDACTED).count(), 5);
        let mut all = rules;
        all.sort_unstable();
        assert_eq!(hit, all);
    }

    #[test]
    fn a_key_given_twice_hides_nothing() {
        let (payload, _) = redacted(&["json:$.a.b"], r#"{"a":{"b":"secret"},"a":{}}"#);
        assert!(!payload.text.unwrap().contains("secret"));
    }

    #[test]
    fn what_cannot_be_read_is_withheld() {
        let (payload, hit) = redacted(&["json:$.card"], "card=4111");
        assert_eq!((payload.text, payload.base64), (None, None));
        assert!(payload.withheld.unwrap().contains("no JSON"));
        assert!(hit.is_empty());
        let redaction = Redaction::new(&["json:$.card".parse().unwrap()]);
        let cut = redaction.payload(b"{}", 9, &mut BTreeSet::new());
        assert!(cut.withheld.unwrap().contains("cut"));
        assert_eq!(redacted(&[], "card=4111").0.text.unwrap(), "card=4111");
    }

    #[test]
    fn credentials_never_stay() {
        let mut headers: Vec<(String, String)> = ["authorization", "cookie", "x-own", "accept"]
            .map(|name| (name.to_owned(), "secret".to_owned()))
            .into();
        let mut hit = BTreeSet::new();
        let own = "header:X-Own".parse().unwrap();
        Redaction::new(&[own]).headers(&mut headers, &mut hit);
        let values: Vec<&str> = headers.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, [REDACTED, REDACTED, REDACTED, "secret"]);
        assert!(hit.contains("header:cookie") && hit.contains("header:x-own"));
    }

    #[test]
    fn what_is_no_rule_is_told() {
        let says = |text: &str| text.parse::<RedactRule>().unwrap_err().to_string();
        assert!(says("cookie").contains("header:NAME"));
        assert!(says("header:a b").contains("names no header"));
        let wrong = says("json:card.number");
        assert!(
            wrong.contains("is no JSON path") && wrong.contains("json:$."),
            "{wrong}"
        );
    }
}
