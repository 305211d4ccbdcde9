//! Which invocations of a function a developer means: `header:x-dev=ann`, `user:ann`, `path:/v2/*`, `percent:10`, `all`.
//! Says what matches and which of two rules is tried first, not who holds one.

use std::{cmp::Reverse, fmt, str::FromStr};

use http::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};

use crate::{InvocationId, falls_within, nearest};

/// Longest rule, in bytes.
pub const RULE_MAX: usize = 512;

/// The forms of a rule, as messages show them.
pub const RULE_FORMS: &str =
    "`header:NAME=VALUE`, `header:NAME`, `user:NAME`, `path:/v2/*`, `percent:10` or `all`";

/// The words that a rule begins with.
const WORDS: [&str; 5] = ["header", "user", "path", "percent", "all"];

/// Which invocations are meant. What parses can match something.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Requests with this header, of this value if one is named.
    Header {
        /// The header.
        name: HeaderName,
        /// Its whole value, case kept; none: any.
        value: Option<String>,
    },
    /// Requests of this user, as a verified token names them.
    User(String),
    /// Requests whose path is like this.
    Path(PathPattern),
    /// So many of a hundred invocations, by the hash of their id.
    Percent(u8),
    /// Every invocation.
    All,
}

/// A path whose parts are text, `:name` for any one part, or a last `*` for all the rest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathPattern(String);

/// Why a text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{rule}` is no rule: {why}; write {RULE_FORMS}")]
pub struct RuleError {
    /// What was written, its beginning.
    pub rule: String,
    /// What is wrong with it.
    pub why: String,
}

/// What is known of an invocation when somebody asks whose it is.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Its id.
    pub id: InvocationId,
    /// The request, where the trigger is HTTP.
    pub http: Option<HttpFacts<'a>>,
}

/// The part of the facts that only a request has.
#[derive(Debug, Clone, Copy)]
pub struct HttpFacts<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its path as it was asked for, without the query.
    pub path: &'a str,
    /// Whom its token names, if it has one and that was verified.
    pub user: Option<&'a str>,
}

/// The order in which rules are tried: the smallest first. Equal ones go by the age of their claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank(u8, Reverse<usize>, u8);

impl Rule {
    /// Whether it means this invocation. What is no request is meant only by `percent` and `all`.
    pub fn matches(&self, facts: &Facts<'_>) -> bool {
        match (self, &facts.http) {
            (Rule::All, _) => true,
            (Rule::Percent(percent), _) => falls_within(*percent, facts.id),
            (Rule::Header { .. } | Rule::User(_) | Rule::Path(_), None) => false,
            (Rule::Header { name, value }, Some(http)) => match value {
                None => http.headers.contains_key(name),
                Some(value) => {
                    let mut all = http.headers.get_all(name).iter();
                    all.any(|found| found.as_bytes() == value.as_bytes())
                }
            },
            (Rule::User(user), Some(http)) => http.user == Some(user),
            (Rule::Path(pattern), Some(http)) => pattern.matches(http.path),
        }
    }

    /// When it is tried: header before user before path before percent before all.
    /// Within one sort the narrower first: a header with its value, the longer literal path, the smaller share.
    pub fn rank(&self) -> Rank {
        match self {
            Rule::Header { value, .. } => Rank(0, Reverse(0), u8::from(value.is_none())),
            Rule::User(_) => Rank(1, Reverse(0), 0),
            Rule::Path(path) => Rank(2, Reverse(path.literal()), u8::from(!path.is_exact())),
            Rule::Percent(percent) => Rank(3, Reverse(0), *percent),
            Rule::All => Rank(4, Reverse(0), 0),
        }
    }

    /// Whether nothing, or no request, is left for anybody else.
    pub fn means_everything(&self) -> bool {
        match self {
            Rule::All | Rule::Percent(100) => true,
            Rule::Path(PathPattern(path)) => path == "/*",
            // Every client sends these.
            Rule::Header { name, value: None } => {
                ["host", "user-agent", "accept"].contains(&name.as_str())
            }
            Rule::Header { .. } | Rule::User(_) | Rule::Percent(_) => false,
        }
    }
}

impl PathPattern {
    /// Whether a path is like this.
    pub fn matches(&self, path: &str) -> bool {
        let mut parts = path.split('/');
        for wanted in self.0.split('/') {
            let fits = match (wanted, parts.next()) {
                ("*", Some(_)) => return true,
                (_, None) => false,
                (wanted, Some(part)) if wanted.starts_with(':') => !part.is_empty(),
                (wanted, Some(part)) => wanted == part,
            };
            if !fits {
                return false;
            }
        }
        parts.next().is_none()
    }

    /// Bytes before the first part that stands for others.
    fn literal(&self) -> usize {
        let parts = self.0.split_inclusive('/');
        let literal = parts.take_while(|part| *part != "*" && !part.starts_with(':'));
        literal.map(str::len).sum()
    }

    fn is_exact(&self) -> bool {
        self.literal() == self.0.len()
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Rule, RuleError> {
        let wrong = |why: String| RuleError {
            rule: text.chars().take(80).collect(),
            why,
        };
        if text.len() > RULE_MAX {
            return Err(wrong(format!("it is longer than {RULE_MAX} bytes")));
        }
        let (word, rest) = match text.split_once(':') {
            Some((word, rest)) => (word, Some(rest)),
            None => (text, None),
        };
        let rule = match (word, rest) {
            ("all", None) => Ok(Rule::All),
            ("all", Some(_)) => Err("`all` stands alone".into()),
            ("header", Some(rest)) => header(rest),
            ("user", Some(rest)) => user(rest),
            ("path", Some(rest)) => path(rest),
            ("percent", Some(rest)) => percent(rest),
            ("header" | "user" | "path" | "percent", None) => {
                Err(format!("`{word}` needs a `:` and what it is to be"))
            }
            ("", _) => Err("it is empty".into()),
            (other, _) => Err(match nearest(other, WORDS) {
                Some(word) => format!("it begins with no word of a rule; did you mean `{word}`?"),
                None => "it begins with no word of a rule".into(),
            }),
        };
        rule.map_err(wrong)
    }
}

fn header(text: &str) -> Result<Rule, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    if name.is_empty() {
        return Err("the header has no name, so that it would match nothing".into());
    }
    let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
        return Err("no header can have that name".into());
    };
    match value {
        None => Ok(Rule::Header { name, value: None }),
        Some("") => Err(format!(
            "the value is empty; `header:{name}` matches any value"
        )),
        Some(value) => {
            plain("value", value)?;
            let value = Some(value.to_owned());
            Ok(Rule::Header { name, value })
        }
    }
}

fn user(name: &str) -> Result<Rule, String> {
    if name.is_empty() {
        return Err("the user has no name, so that it would match nothing".into());
    }
    plain("user", name)?;
    Ok(Rule::User(name.to_owned()))
}

/// Refuses text that no request can carry.
fn plain(what: &str, text: &str) -> Result<(), String> {
    if text.trim() != text {
        return Err(format!(
            "the {what} begins or ends with a space, so that it would match nothing"
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(format!(
            "the {what} holds a control character, so that it would match nothing"
        ));
    }
    Ok(())
}

fn path(path: &str) -> Result<Rule, String> {
    if !path.starts_with('/') {
        return Err("the path does not start with `/`".into());
    }
    let cannot_stand = |c: char| c.is_whitespace() || c.is_control() || "?#".contains(c);
    if let Some(character) = path.chars().find(|c| cannot_stand(*c)) {
        return Err(format!("a path holds no {character:?}; write it alone"));
    }
    let parts: Vec<&str> = path.split('/').collect();
    for (at, part) in parts.iter().enumerate() {
        let is_last = at + 1 == parts.len();
        if part.contains('*') && !(*part == "*" && is_last) {
            return Err("`*` stands only as the last part of a path, after a `/`".into());
        }
        if *part == ":" {
            return Err("a `:` without a name".into());
        }
    }
    Ok(Rule::Path(PathPattern(path.to_owned())))
}

fn percent(text: &str) -> Result<Rule, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        return Err("the share is a whole number from 1 to 100, without `%`".into());
    }
    match text.parse::<u8>() {
        Ok(0) => Err("0 of 100 would match nothing".into()),
        Ok(percent @ 1..=100) => Ok(Rule::Percent(percent)),
        Ok(_) | Err(_) => Err("the share is larger than 100".into()),
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Header { name, value: None } => write!(f, "header:{name}"),
            Rule::Header {
                name,
                value: Some(value),
            } => write!(f, "header:{name}={value}"),
            Rule::User(user) => write!(f, "user:{user}"),
            Rule::Path(path) => write!(f, "path:{path}"),
            Rule::Percent(percent) => write!(f, "percent:{percent}"),
            Rule::All => f.pad("all"),
        }
    }
}

impl Serialize for Rule {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Rule, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
