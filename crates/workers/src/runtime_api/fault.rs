//! What a runtime client reports of an error, as the fault that everybody here knows.

use http::HeaderMap;
use model::HandlerFault;
use serde_json::Value;

/// Longest report that is handed on as it was posted.
const REPORTED_MAX: usize = 256 << 10;

/// Longest message, or stack, that is kept.
const TEXT_MAX: usize = 64 << 10;

/// Names the type where the body does not.
const TYPE: &str = "lambda-runtime-function-error-type";

/// The fault in a report; `unknown` is its type if it names none that can be read.
pub fn of_report(headers: &HeaderMap, body: &[u8], unknown: &str) -> HandlerFault {
    let named = headers.get(TYPE).and_then(|value| value.to_str().ok());
    let named = named.filter(|named| is_type(named)).unwrap_or(unknown);
    let Ok(report) = serde_json::from_slice::<Value>(body) else {
        return HandlerFault {
            error_type: named.into(),
            message: cut(String::from_utf8_lossy(body).trim()),
            stack: None,
            reported: None,
        };
    };
    let text = |key: &str| report[key].as_str().map(str::to_owned);
    let error_type = text("errorType").filter(|given| !given.is_empty());
    let error_type = error_type.unwrap_or_else(|| named.into());
    let message = text("errorMessage").unwrap_or_default();
    let reported = match std::str::from_utf8(body) {
        Ok(json) if json.len() <= REPORTED_MAX => json.to_owned(),
        Ok(_) | Err(_) => {
            let (kind, said) = (cut(&error_type), cut(&message));
            serde_json::json!({"errorType": kind, "errorMessage": said}).to_string()
        }
    };
    HandlerFault {
        error_type: cut(&error_type),
        message: cut(&message),
        stack: stack(&report),
        reported: Some(reported.into()),
    }
}

/// The fault that was reported behind an answer that had begun.
pub fn of_late_report(named: &str, body: &[u8]) -> HandlerFault {
    let mut fault = of_report(&HeaderMap::new(), body, named);
    if fault.reported.is_none() {
        let report = serde_json::json!({
            "errorType": fault.error_type,
            "errorMessage": fault.message,
        });
        fault.reported = Some(report.to_string().into());
    }
    fault
}

/// A fault that we found in what a client did.
pub fn of_ours(error_type: &str, message: &str) -> HandlerFault {
    HandlerFault {
        error_type: error_type.into(),
        message: message.into(),
        stack: None,
        reported: None,
    }
}

/// `Runtime.Xyz` or `Function.Xyz`.
fn is_type(text: &str) -> bool {
    let name = ["Runtime.", "Function."]
        .iter()
        .find_map(|family| text.strip_prefix(family));
    name.is_some_and(|name| {
        name.len() > 1
            && name.starts_with(|first: char| first.is_ascii_uppercase())
            && name.chars().all(|letter| letter.is_ascii_alphabetic())
    })
}

/// The stack, whichever way the client writes it: lines, or places with a label.
fn stack(report: &Value) -> Option<String> {
    let frames = ["stackTrace", "trace"]
        .iter()
        .find_map(|key| report[*key].as_array())?;
    let lines: Vec<String> = frames.iter().filter_map(frame).collect();
    Some(cut(&lines.join("\n"))).filter(|stack| !stack.is_empty())
}

fn frame(frame: &Value) -> Option<String> {
    if let Some(line) = frame.as_str() {
        return Some(line.trim_end().to_owned());
    }
    let path = frame["path"].as_str()?;
    let label = frame["label"].as_str().unwrap_or("?");
    Some(format!("    at {label} ({path}:{})", frame["line"]))
}

/// No longer than what is kept.
fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_MAX)].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> HandlerFault {
        of_report(&HeaderMap::new(), body.as_bytes(), "Runtime.Unknown")
    }

    #[test]
    fn what_was_posted_is_kept_as_it_is() {
        let posted = r#"{ "errorMessage": "no", "errorType": "ValueError", "stackTrace": ["  a\n", "  b\n"], "requestId": "x" }"#;
        let fault = read(posted);
        assert_eq!((&*fault.error_type, &*fault.message), ("ValueError", "no"));
        assert_eq!(fault.stack.as_deref(), Some("  a\n  b"));
        assert_eq!(fault.reported.as_deref(), Some(posted));
    }

    #[test]
    fn places_become_lines() {
        let fault = read(
            r#"{"errorMessage":"x","errorType":"e","stackTrace":[{"path":"main.go","line":7,"label":"f"}]}"#,
        );
        assert_eq!(fault.stack.as_deref(), Some("    at f (main.go:7)"));
    }

    #[test]
    fn what_is_no_report_is_named_by_its_header() {
        let known = HeaderMap::from_iter([(
            http::HeaderName::from_static(TYPE),
            http::HeaderValue::from_static("Function.Oops"),
        )]);
        let fault = of_report(&known, b"it broke", "Runtime.Unknown");
        assert_eq!(
            (&*fault.error_type, &*fault.message),
            ("Function.Oops", "it broke")
        );
        assert_eq!(read("it broke").error_type, "Runtime.Unknown");
        assert!(!is_type("Function.oops") && !is_type("Other.X") && !is_type("Runtime.A1"));
    }

    #[test]
    fn a_huge_report_is_made_small() {
        let fault = read(&format!(
            r#"{{"errorMessage":"{}","errorType":"E"}}"#,
            "é".repeat(300 << 10)
        ));
        assert_eq!(fault.error_type, "E");
        assert!(fault.message.len() <= TEXT_MAX);
        assert!(
            fault
                .reported
                .is_some_and(|reported| reported.len() < REPORTED_MAX)
        );
    }
}
