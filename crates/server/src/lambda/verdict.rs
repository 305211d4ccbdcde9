//! What an invocation's failure is to its caller on AWS: the function's error, with the JSON that is its payload, or a
//! refusal of the whole call.

use bytes::Bytes;
use model::{ErrorType, Failure, HandlerFault, InvocationId, Runtime};
use serde::Serialize;

use super::{Kind, Refusal};
use crate::serving::Deployed;

/// An error of the function: the call itself went well.
#[derive(Debug)]
pub(crate) struct FunctionError {
    /// Its type, as it stands in the payload.
    pub error_type: String,
    /// The payload.
    pub body: Bytes,
    /// What went wrong, as far as logs tell it apart.
    pub how: How,
}

/// What went wrong with a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// The handler threw.
    Thrown,
    /// Its module did not load.
    NotLoaded,
    /// Its time was over.
    TimedOut,
    /// Its worker ended, or its answer was none.
    Ended,
}

/// What a failure means.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The function failed.
    Function(FunctionError),
    /// The function was not run, or not to its end, for a reason of ours.
    Refused(Refusal),
}

/// The payload of an error, as AWS's own runtimes write it.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "errorType")]
    error_type: &'a str,
    #[serde(rename = "errorMessage")]
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<Vec<String>>,
}

impl FunctionError {
    fn new(how: How, error_type: &str, message: &str, trace: Option<Vec<String>>) -> FunctionError {
        let body = Body {
            error_type,
            message,
            trace,
        };
        FunctionError {
            error_type: error_type.to_owned(),
            body: serde_json::to_vec(&body).unwrap_or_default().into(),
            how,
        }
    }

    /// What the handler threw, or the module while it loaded; as its runtime client reported it, if there was one.
    fn thrown(how: How, fault: &HandlerFault) -> FunctionError {
        if let Some(reported) = &fault.reported {
            return FunctionError {
                error_type: fault.error_type.clone(),
                body: Bytes::copy_from_slice(reported.as_bytes()),
                how,
            };
        }
        let trace = fault.stack.as_deref().map(|stack| trace(fault, stack));
        FunctionError::new(how, &fault.error_type, &fault.message, trace)
    }

    /// Why a module did not load, as the platform's own runtime for JavaScript names it.
    fn not_loaded(fault: &HandlerFault, runtime: Runtime) -> FunctionError {
        let is_javascript = matches!(runtime, Runtime::Isolate | Runtime::Bun | Runtime::Node);
        let name = match is_javascript && fault.reported.is_none() {
            true => load_error(fault),
            false => None,
        };
        let Some(name) = name else {
            return FunctionError::thrown(How::NotLoaded, fault);
        };
        let message = match name {
            "Runtime.HandlerNotFound" => fault.message.clone(),
            _ => format!("{}: {}", fault.error_type, fault.message),
        };
        let named = HandlerFault {
            error_type: name.to_owned(),
            message,
            ..fault.clone()
        };
        FunctionError::thrown(How::NotLoaded, &named)
    }
}

/// What is known of the kinds of errors that keep a module of JavaScript from loading.
fn load_error(fault: &HandlerFault) -> Option<&'static str> {
    const NOT_THERE: [&str; 3] = [
        "Cannot find module",
        "Cannot find package",
        "Module not found",
    ];
    match fault.error_type.as_str() {
        "HandlerNotFound" => Some("Runtime.HandlerNotFound"),
        "SyntaxError" => Some("Runtime.UserCodeSyntaxError"),
        _ if NOT_THERE
            .iter()
            .any(|words| fault.message.starts_with(words)) =>
        {
            Some("Runtime.ImportModuleError")
        }
        _ => None,
    }
}

/// The error of an answer that broke off for a reason of ours.
impl From<Refusal> for FunctionError {
    fn from(refusal: Refusal) -> FunctionError {
        FunctionError::new(How::Ended, refusal.name(), &refusal.message, None)
    }
}

/// The stack by lines; the first says what was thrown.
fn trace(fault: &HandlerFault, stack: &str) -> Vec<String> {
    let mut lines: Vec<String> = stack.lines().map(str::to_owned).collect();
    if lines
        .first()
        .is_none_or(|line| line.trim_start().starts_with("at "))
    {
        lines.insert(0, format!("{}: {}", fault.error_type, fault.message));
    }
    lines
}

/// What a failure means to the caller of this function.
pub(crate) fn verdict(
    failure: &Failure,
    id: InvocationId,
    deployed: &Deployed,
    arn: &str,
) -> Verdict {
    let said = |how: How, error_type: &str, what: String| {
        let message = format!("RequestId: {id} Error: {what}");
        Verdict::Function(FunctionError::new(how, error_type, &message, None))
    };
    let settings = &deployed.version.settings;
    match (failure.error_type, &failure.fault) {
        (ErrorType::HandlerError, Some(fault)) => {
            Verdict::Function(FunctionError::thrown(How::Thrown, fault))
        }
        (ErrorType::InitError, Some(fault)) => {
            Verdict::Function(FunctionError::not_loaded(fault, settings.runtime))
        }
        (ErrorType::InitError, None) => {
            let (error_type, what) = never_ran(&failure.message);
            said(How::Ended, error_type, what)
        }
        (ErrorType::HandlerError, None) => {
            let error_type = "Runtime.Unknown";
            let message = &failure.message;
            Verdict::Function(FunctionError::new(How::Ended, error_type, message, None))
        }
        (ErrorType::FunctionTimeout, _) => {
            let seconds = settings.timeout.duration().as_secs_f64();
            let what = format!("Task timed out after {seconds:.2} seconds");
            said(How::TimedOut, "Sandbox.Timedout", what)
        }
        (ErrorType::OutOfMemory, _) => {
            let what = "Runtime exited with error: signal: killed";
            said(How::Ended, "Runtime.OutOfMemory", what.into())
        }
        (ErrorType::WorkerCrashed, _) => {
            said(How::Ended, "Runtime.ExitError", exit(&failure.message))
        }
        (ErrorType::PayloadTooLarge, _) => Verdict::Function(too_large(&failure.message)),
        (ErrorType::LiveSessionLost, _) => {
            said(How::Ended, "Sandbox.Failure", failure.message.clone())
        }
        _ => Verdict::Refused(refusal(failure, arn)),
    }
}

/// A process that never asked for an invocation: it ended, could not be started, or was silent.
fn never_ran(message: &str) -> (&'static str, String) {
    const NO_PROGRAM: [&str; 3] = [
        "is no program for",
        "is not executable",
        "cannot be started",
    ];
    if NO_PROGRAM.iter().any(|words| message.contains(words)) {
        return ("Runtime.InvalidEntrypoint", message.to_owned());
    }
    match ended(message) {
        Some(how) => {
            let how = format!("Runtime exited with error: {how}");
            ("Runtime.ExitError", how)
        }
        None => ("Runtime.InitError", message.to_owned()),
    }
}

/// A result that is larger than the limit which the message names.
fn too_large(message: &str) -> FunctionError {
    let after = |words: &str| message.split_once(words).map_or("", |(_, rest)| rest);
    let number = |text: &str| text.split([' ', ')']).next()?.parse::<u64>().ok();
    // Who stopped it says the limit exactly; in brackets, if it is rounded elsewhere.
    let limit = after("the limit ");
    let in_brackets = || number(limit.split_once('(')?.1);
    let most = number(after("more than "))
        .or_else(in_brackets)
        .or_else(|| number(limit.split_once(" is ")?.1));
    let message = match most {
        Some(most) => {
            format!("Response payload size exceeded maximum allowed payload size ({most} bytes).")
        }
        None => message.to_owned(),
    };
    FunctionError::new(How::Ended, "Function.ResponseSizeTooLarge", &message, None)
}

/// How a worker ended, as AWS says it.
fn exit(message: &str) -> String {
    let how = ended(message).unwrap_or_else(|| message.to_owned());
    format!("Runtime exited with error: {how}")
}

/// The status or the signal in the words of a failure.
fn ended(message: &str) -> Option<String> {
    let word_after = |before: &str| {
        let rest = message.split_once(before)?.1;
        rest.split(|c: char| !c.is_ascii_digit())
            .next()
            .filter(|word| !word.is_empty())
    };
    match (
        word_after("exited with code "),
        word_after("killed by signal "),
    ) {
        (Some(code), _) => Some(format!("exit status {code}")),
        (None, Some("9")) => Some("signal: killed".into()),
        (None, Some(signal)) => Some(format!("signal: {signal}")),
        (None, None) => None,
    }
}

/// The refusal of a call by which the function was not run.
pub(crate) fn refusal(failure: &Failure, arn: &str) -> Refusal {
    match failure.error_type {
        ErrorType::FunctionNotFound | ErrorType::NotDeployed | ErrorType::NotFound => {
            Refusal::no_function(arn)
        }
        // Here its callers wait for a place before they are told; nobody took more than it may have.
        ErrorType::QueueFull | ErrorType::QueueTimeout | ErrorType::Throttled => {
            let mut refusal = Refusal::new(Kind::TooManyRequests, "Rate Exceeded.");
            refusal.reason = Some("ReservedFunctionConcurrentInvocationLimitExceeded");
            refusal
        }
        _ => failure.clone().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_said_as_aws_says_it() {
        for (ours, theirs) in [
            ("the worker exited with code 3", "exit status 3"),
            (
                "the worker was killed by signal 9 (SIGKILL)",
                "signal: killed",
            ),
            ("the worker was killed by signal 11 (SIGSEGV)", "signal: 11"),
            ("it is gone", "it is gone"),
        ] {
            assert_eq!(exit(ours), format!("Runtime exited with error: {theirs}"));
        }
    }

    #[test]
    fn a_result_that_is_too_large_is_told_in_one_wording_with_the_limit() {
        for (ours, most) in [
            (
                "the result has 7340034 bytes or more, the limit `event` is 6MB (6291456 bytes)",
                6_291_456,
            ),
            (
                "the answer has 7340034 bytes, the limit of the isolate runtime is 6291456 (6MB)",
                6_291_456,
            ),
            (
                "the answer takes more than 6291556 bytes, which is the limit `event` and 100 more",
                6_291_556,
            ),
        ] {
            let error = too_large(ours);
            assert_eq!(error.error_type, "Function.ResponseSizeTooLarge");
            let body: serde_json::Value = serde_json::from_slice(&error.body).unwrap();
            let message = format!(
                "Response payload size exceeded maximum allowed payload size ({most} bytes)."
            );
            assert_eq!(body["errorMessage"], message);
        }
    }

    #[test]
    fn a_process_that_never_asked_is_named_by_how_it_ended() {
        for (ours, error_type, says) in [
            (
                "the worker exited with code 7 before it asked for its first invocation: no key",
                "Runtime.ExitError",
                "Runtime exited with error: exit status 7",
            ),
            (
                "`bootstrap` is not executable",
                "Runtime.InvalidEntrypoint",
                "`bootstrap` is not executable",
            ),
            (
                "`bootstrap` is no program for this machine (x86_64): neither",
                "Runtime.InvalidEntrypoint",
                "`bootstrap` is no program for this machine (x86_64): neither",
            ),
            (
                "the worker did not ask within 10s",
                "Runtime.InitError",
                "the worker did not ask within 10s",
            ),
        ] {
            assert_eq!(never_ran(ours), (error_type, says.to_owned()));
        }
    }

    #[test]
    fn a_module_of_javascript_that_does_not_load_is_named_as_on_aws() {
        for (error_type, message, wanted, says) in [
            (
                "Error",
                "Cannot find module 'x'",
                "Runtime.ImportModuleError",
                "Error: Cannot find module 'x'",
            ),
            (
                "SyntaxError",
                "Unexpected end of input",
                "Runtime.UserCodeSyntaxError",
                "SyntaxError: Unexpected end of input",
            ),
            (
                "HandlerNotFound",
                "the module exports nothing",
                "Runtime.HandlerNotFound",
                "the module exports nothing",
            ),
            ("RangeError", "too far", "RangeError", "too far"),
        ] {
            let fault = HandlerFault {
                error_type: error_type.into(),
                message: message.into(),
                stack: None,
                reported: None,
            };
            let error = FunctionError::not_loaded(&fault, Runtime::Node);
            let body: serde_json::Value = serde_json::from_slice(&error.body).unwrap();
            assert_eq!(
                (&*error.error_type, &body["errorMessage"]),
                (wanted, &says.into())
            );
            let error = FunctionError::not_loaded(&fault, Runtime::Python);
            assert_eq!(error.error_type, error_type);
        }
    }

    #[test]
    fn a_trace_begins_with_what_was_thrown() {
        let fault = |stack: &str| HandlerFault {
            error_type: "TypeError".into(),
            message: "no".into(),
            stack: Some(stack.into()),
            reported: None,
        };
        let body = |stack: &str| {
            let error = FunctionError::thrown(How::Thrown, &fault(stack));
            assert_eq!(error.error_type, "TypeError");
            serde_json::from_slice::<serde_json::Value>(&error.body).unwrap()
        };
        let wanted = serde_json::json!({
            "errorType": "TypeError",
            "errorMessage": "no",
            "trace": ["TypeError: no", "    at handler (a.ts:1:2)"],
        });
        assert_eq!(body("    at handler (a.ts:1:2)"), wanted);
        assert_eq!(body("TypeError: no\n    at handler (a.ts:1:2)"), wanted);
    }
}
