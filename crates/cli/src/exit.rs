//! Exit codes, which scripts may rely on, and the errors that lead to them.

use std::{error::Error, fmt::Write as _, process::ExitCode};

use build::{BuildError, ConfigError};
use laptop::api::{ApiError, ErrorBody};

/// How a command ended. The numbers are part of the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// The function failed, or something that is nobody's configuration.
    Failed = 1,
    /// What was typed makes no sense.
    Usage = 2,
    /// A file, a folder, a port or a setting is not as it must be.
    Configuration = 3,
    /// No such function, version or token.
    NotFound = 4,
    /// No server answers.
    Unreachable = 5,
    /// The server does not allow it.
    Refused = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// An error as a person reads it: a line, and the next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// What the process ends with.
    pub exit: Exit,
    /// What went wrong; the first line says it, more may show where.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

/// Why a command ends before its work is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Something to say.
    Complaint(Complaint),
    /// Whoever read our output has read enough, which is no failure.
    BrokenPipe,
}

impl Complaint {
    /// A complaint without a next step.
    pub fn new(exit: Exit, message: impl Into<String>) -> Complaint {
        Complaint {
            exit,
            message: message.into(),
            hint: None,
        }
    }

    /// The same, with the next step.
    pub fn hint(mut self, hint: impl Into<String>) -> Complaint {
        self.hint = Some(hint.into());
        self
    }

    /// Something wrong with what was typed.
    pub fn usage(message: impl Into<String>) -> Complaint {
        Complaint::new(Exit::Usage, message)
    }
}

impl From<Complaint> for Stop {
    fn from(complaint: Complaint) -> Stop {
        Stop::Complaint(complaint)
    }
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Stop {
        Stop::Complaint(Complaint::from(error))
    }
}

impl From<ApiError> for Complaint {
    fn from(error: ApiError) -> Complaint {
        match &error {
            ApiError::Answered { status, error } => of_answer(*status, error),
            ApiError::Unreachable { .. } | ApiError::Silent { .. } | ApiError::NoSocket { .. } => Complaint::new(Exit::Unreachable, first_and_last(&error))
                .hint("start one with `bungee serve` or `bungee dev`, or name another with `--server URL`"),
            ApiError::Setup { .. } | ApiError::Broken { .. } | ApiError::Unreadable { .. } => {
                Complaint::new(Exit::Unreachable, chain(&error))
            }
        }
    }
}

impl From<ConfigError> for Complaint {
    fn from(error: ConfigError) -> Complaint {
        Complaint {
            exit: Exit::Configuration,
            message: error.to_string(),
            hint: error.hint,
        }
    }
}

impl From<BuildError> for Complaint {
    fn from(error: BuildError) -> Complaint {
        Complaint {
            exit: Exit::Configuration,
            message: build_message(&error),
            hint: error.hint,
        }
    }
}

impl From<ConfigError> for Stop {
    fn from(error: ConfigError) -> Stop {
        Stop::Complaint(error.into())
    }
}

/// A build error with the source around it and the errors beside it.
pub fn build_message(error: &BuildError) -> String {
    let mut message = error.to_string();
    for other in &error.also {
        let _infallible = write!(message, "\n{other}");
    }
    if let Some(frame) = &error.frame {
        let _infallible = write!(message, "\n{frame}");
    }
    message
}

/// A message with the handler's stack under it, whose first line mostly says the same again.
pub fn with_stack(message: &str, stack: Option<&str>) -> String {
    let Some(stack) = stack else {
        return message.to_owned();
    };
    let frames = match stack.split_once('\n') {
        Some((first, frames)) if message.contains(first.trim()) => frames,
        Some(_) | None => stack,
    };
    if message.contains(frames.trim()) {
        return message.to_owned();
    }
    format!("{message}\n{frames}")
}

/// What a server's refusal means for a script.
fn of_answer(status: u16, error: &ErrorBody) -> Complaint {
    let exit = match status {
        401 | 403 => Exit::Refused,
        404 => Exit::NotFound,
        400 | 422 | 501 => Exit::Usage,
        409 if error.error_type == "NotDeployed" => Exit::NotFound,
        409 => Exit::Configuration,
        _ => Exit::Failed,
    };
    let hint = match (&error.hint, status) {
        (Some(hint), _) => Some(hint.clone()),
        (None, 401) => Some("give a token with `--token` or `BUNGEE_TOKEN`".to_owned()),
        (None, _) => None,
    };
    Complaint {
        exit,
        message: format!("{}: {}", error.error_type, error.message),
        hint,
    }
}

/// An error and everything behind it, on one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            let _infallible = write!(text, ": {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// An error and its last cause, for chains whose middle only names layers.
fn first_and_last(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    format!("{error}: {last}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, error_type: &str) -> Exit {
        let error = ErrorBody {
            error_type: error_type.into(),
            message: "m".into(),
            hint: None,
            invocation_id: None,
            docs: None,
            fault: None,
        };
        of_answer(status, &error).exit
    }

    #[test]
    fn a_stack_does_not_say_the_message_again() {
        let stack = "TypeError: boom\n    at f (a.ts:1:2)";
        assert_eq!(
            with_stack("HandlerError: TypeError: boom", Some(stack)),
            "HandlerError: TypeError: boom\n    at f (a.ts:1:2)"
        );
        assert_eq!(with_stack("x", Some("other\n  at f")), "x\nother\n  at f");
        assert_eq!(with_stack("Error: x", Some("Error: x")), "Error: x");
        assert_eq!(with_stack("x", None), "x");
    }

    #[test]
    fn what_a_server_says_becomes_an_exit_code() {
        assert_eq!(answered(404, "FunctionNotFound"), Exit::NotFound);
        assert_eq!(answered(409, "NotDeployed"), Exit::NotFound);
        assert_eq!(answered(409, "NameTaken"), Exit::Configuration);
        assert_eq!(answered(401, "Unauthorized"), Exit::Refused);
        assert_eq!(answered(403, "Forbidden"), Exit::Refused);
        assert_eq!(answered(400, "BadRequest"), Exit::Usage);
        assert_eq!(answered(502, "InitError"), Exit::Failed);
    }
}
