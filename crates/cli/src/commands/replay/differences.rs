//! How a replay ended unlike the invocation that was recorded. What was cut or redacted is not held against it.

use std::fmt;

use laptop::api::Invoked;
use model::{REDACTED, Recording};
use serde::Serialize;
use serde_json::Value;

use crate::output::escape;

/// Characters of an answer that are shown, and how many of them stand before the first difference.
const SHOWN: usize = 60;
const BEFORE: usize = 15;

/// One thing that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `outcome`, `message`, `status` or `answer`.
    pub what: &'static str,
    /// As it was recorded.
    pub recorded: String,
    /// As it is now.
    pub now: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference {
            what,
            recorded,
            now,
        } = self;
        let (recorded, now) = (escape(recorded, "  "), escape(now, "  "));
        write!(f, "! {what} differs\n- {recorded}\n+ {now}")
    }
}

/// What differs, the most important first.
pub fn between(recording: &Recording, invoked: &Invoked) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut compare = |what, recorded: String, now: String| {
        if recorded != now {
            found.push(Difference {
                what,
                recorded,
                now,
            });
        }
    };
    let says = |outcome: &str, message: Option<&str>| match message {
        Some(message) => format!("{outcome}: {message}"),
        None => outcome.to_owned(),
    };
    let was = recording.failure.as_ref();
    let is = invoked.error.as_ref();
    compare(
        "outcome",
        says(
            recording.outcome.as_str(),
            was.map(|failure| failure.message.as_str()),
        ),
        says(
            invoked.outcome.as_str(),
            is.map(|error| error.message.as_str()),
        ),
    );
    if recording.outcome != invoked.outcome {
        return found;
    }
    let Some(answer) = &recording.answer else {
        return found;
    };
    if let (Some(was), Some(is)) = (answer.status, invoked.status) {
        compare("status", was.to_string(), is.to_string());
    }
    if let Some((was, is)) = answers(recording, invoked) {
        let (was, is) = around_first(&was, &is);
        compare("answer", was, is);
    }
    found
}

/// Both answers as text, if they can be compared and are not the same.
fn answers(recording: &Recording, invoked: &Invoked) -> Option<(String, String)> {
    let answer = recording.answer.as_ref()?;
    let was = answer.body.text.as_deref().unwrap_or_default();
    let is_unknown = answer.body.withheld.is_some() || answer.body.base64.is_some();
    if is_unknown || was.contains(REDACTED) {
        return None;
    }
    let raw = invoked.result.as_ref().map_or("null", |raw| raw.get());
    let is = match answer.status {
        Some(_) => serde_json::from_str(raw).unwrap_or_else(|_| raw.to_owned()),
        None => raw.to_owned(),
    };
    let json = |text: &str| serde_json::from_str::<Value>(text).ok();
    let is_same = is == was
        || (answer.body.cut && is.starts_with(was))
        || json(was).is_some_and(|was| json(&is) == Some(was));
    (!is_same).then(|| (was.to_owned(), is))
}

/// A part of both texts, around the first character that differs.
fn around_first(was: &str, is: &str) -> (String, String) {
    let common = was.chars().zip(is.chars()).take_while(|(a, b)| a == b);
    let start = common.count().saturating_sub(BEFORE);
    let part = |text: &str| {
        let mut shown: String = text.chars().skip(start).take(SHOWN).collect();
        if start > 0 {
            shown.insert(0, '…');
        }
        if text.chars().count() > start + SHOWN {
            shown.push('…');
        }
        shown
    };
    (part(was), part(is))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn recording(answer: Value) -> Recording {
        let json = json!({
            "bungee_recording": 1,
            "id": "019a9d3c-52aa-7c40-b3f1-6f2d61ef0f1a",
            "function": {"project": "default", "name": "hello"},
            "trigger": "http",
            "arrived": 0,
            "request": {"event": {"size": 2, "text": "{}"}},
            "outcome": "ok",
            "answer": answer,
        });
        Recording::of(json).unwrap()
    }

    fn invoked(status: Option<u16>, result: &Value) -> Invoked {
        let json = json!({
            "invocation_id": "019a9d3c-52aa-7c40-b3f1-6f2d61ef0f1b",
            "outcome": "ok",
            "status": status,
            "result": result,
        });
        serde_json::from_str(&json.to_string()).unwrap()
    }

    #[test]
    fn the_same_in_other_words_is_the_same() {
        let was = recording(json!({"body": {"size": 9, "text": r#"{"a":1,"b":2}"#}}));
        let is = invoked(None, &json!({"b": 2, "a": 1}));
        assert_eq!(between(&was, &is), []);
    }

    #[test]
    fn what_changed_is_shown_where_it_changes() {
        let long = "x".repeat(100);
        let body = format!("{long}one{long}");
        let was = recording(json!({"status": 200, "body": {"size": 9, "text": body}}));
        let is = invoked(Some(500), &format!("{long}two{long}").into());
        let found = between(&was, &is);
        assert_eq!(found[0].to_string(), "! status differs\n- 200\n+ 500");
        assert!(found[1].recorded.starts_with("…xxx") && found[1].recorded.contains("one"));
        assert!(found[1].now.contains("two") && found[1].now.ends_with('…'));
    }

    #[test]
    fn what_was_cut_or_taken_out_is_not_compared() {
        let cut = recording(json!({"status": 200, "body": {"size": 9, "text": "ab", "cut": true}}));
        assert_eq!(between(&cut, &invoked(Some(200), &json!("abc"))), []);
        let redacted = recording(json!({"body": {"size": 9, "text": "[\"[redacted]\"]"}}));
        assert_eq!(between(&redacted, &invoked(None, &json!(["secret"]))), []);
    }
}
