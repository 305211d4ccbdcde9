//! What an invocation's failure is to its caller on AWS: the function's error, with the JSON that is its payload, or a
//! refusal of the whole call.

use bytes::Bytes;
use model::{ErrorType, Failure, HandlerFault, InvocationId};
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
    fn new(error_type: &str, message: &str, trace: Option<Vec<String>>) -> FunctionError {
        let body = Body {
            error_type,
            message,
            trace,
        };
        FunctionError {
            error_type: error_type.to_owned(),
            body: serde_json::to_vec(&body).unwrap_or_default().into(),
        }
    }

    /// What the handler threw; as its runtime client reported it, if there was one.
    fn thrown(fault: &HandlerFault) -> FunctionError {
        if let Some(reported) = &fault.reported {
            return FunctionError {
                error_type: fault.error_type.clone(),
                body: Bytes::copy_from_slice(reported.as_bytes()),
            };
        }
        let trace = fault.stack.as_deref().map(|stack| trace(fault, stack));
        FunctionError::new(&fault.error_type, &fault.message, trace)
    }
}

/// The error of an answer that broke off for a reason of ours.
impl From<Refusal> for FunctionError {
    fn from(refusal: Refusal) -> FunctionError {
        FunctionError::new(refusal.name(), &refusal.message, None)
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
    let said = |error_type: &str, what: String| {
        let message = format!("RequestId: {id} Error: {what}");
        Verdict::Function(FunctionError::new(error_type, &message, None))
    };
    match failure.error_type {
        ErrorType::HandlerError | ErrorType::InitError => match &failure.fault {
            Some(fault) => Verdict::Function(FunctionError::thrown(fault)),
            None if failure.error_type == ErrorType::InitError => {
                said("Runtime.InitError", failure.message.clone())
            }
            None => Verdict::Function(FunctionError::new(
                "Runtime.Unknown",
                &failure.message,
                None,
            )),
        },
        ErrorType::FunctionTimeout => {
            let seconds = deployed.version.settings.timeout.duration().as_secs_f64();
            said(
                "Sandbox.Timedout",
                format!("Task timed out after {seconds:.2} seconds"),
            )
        }
        ErrorType::OutOfMemory => said(
            "Runtime.OutOfMemory",
            "Runtime exited with error: signal: killed".into(),
        ),
        ErrorType::WorkerCrashed => said("Runtime.ExitError", exit(&failure.message)),
        ErrorType::PayloadTooLarge => Verdict::Function(too_large(&failure.message)),
        ErrorType::LiveSessionLost => said("Sandbox.Failure", failure.message.clone()),
        _ => Verdict::Refused(refusal(failure, arn)),
    }
}

/// A result that is larger than the limit which the message names.
fn too_large(message: &str) -> FunctionError {
    let message = format!("Response payload size exceeded maximum allowed payload size: {message}");
    FunctionError::new("Function.ResponseSizeTooLarge", &message, None)
}

/// How a worker ended, as AWS says it.
fn exit(message: &str) -> String {
    let word_after = |before: &str| {
        let rest = message.split_once(before)?.1;
        rest.split(|c: char| !c.is_ascii_digit())
            .next()
            .filter(|word| !word.is_empty())
    };
    let how = match (
        word_after("exited with code "),
        word_after("killed by signal "),
    ) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some("9")) => "signal: killed".into(),
        (None, Some(signal)) => format!("signal: {signal}"),
        (None, None) => message.to_owned(),
    };
    format!("Runtime exited with error: {how}")
}

/// The refusal of a call by which the function was not run.
pub(crate) fn refusal(failure: &Failure, arn: &str) -> Refusal {
    match failure.error_type {
        ErrorType::FunctionNotFound | ErrorType::NotDeployed | ErrorType::NotFound => {
            Refusal::no_function(arn)
        }
        ErrorType::QueueFull | ErrorType::Throttled => {
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
    fn a_trace_begins_with_what_was_thrown() {
        let fault = |stack: &str| HandlerFault {
            error_type: "TypeError".into(),
            message: "no".into(),
            stack: Some(stack.into()),
            reported: None,
        };
        let body = |stack: &str| {
            let error = FunctionError::thrown(&fault(stack));
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
