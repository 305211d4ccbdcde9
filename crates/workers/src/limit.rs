//! How long one invocation may run, and who says so: its version, or whoever brought it from elsewhere.

use model::{ErrorType, Failure, TimeSpan};

/// The time that one invocation has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    span: TimeSpan,
    is_brought: bool,
}

impl Limit {
    /// The `timeout` of a version.
    pub fn of_version(timeout: TimeSpan) -> Limit {
        Limit {
            span: timeout,
            is_brought: false,
        }
    }

    /// What is left to an invocation that began elsewhere.
    pub fn brought(left: TimeSpan) -> Limit {
        Limit {
            span: left,
            is_brought: true,
        }
    }

    /// In milliseconds.
    pub fn millis(self) -> u64 {
        self.span.0
    }

    /// One word, for a slot.
    pub fn to_word(self) -> u64 {
        (self.span.0.min(u64::MAX >> 1) << 1) | u64::from(self.is_brought)
    }

    /// The limit in such a word.
    pub fn from_word(word: u64) -> Limit {
        Limit {
            span: TimeSpan(word >> 1),
            is_brought: word & 1 == 1,
        }
    }

    /// The failure of an invocation that ran past it.
    pub fn exceeded(self) -> Failure {
        let span = self.span;
        let (message, hint) = if self.is_brought {
            (
                format!("killed at its deadline: {span} were left when the worker took it"),
                "raise the `timeout` of the version that was called, or do less in one invocation",
            )
        } else {
            (
                format!("killed at its deadline: `timeout` is {span}"),
                "raise `timeout` in bungee.toml, or do less in one invocation",
            )
        };
        Failure::new(ErrorType::FunctionTimeout, message).hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_keeps_who_says_it() {
        let own = Limit::of_version(TimeSpan::seconds(30));
        let brought = Limit::brought(TimeSpan(1));
        for limit in [own, brought] {
            assert_eq!(Limit::from_word(limit.to_word()), limit);
        }
        assert_eq!(
            own.exceeded().message,
            "killed at its deadline: `timeout` is 30s"
        );
        assert!(brought.exceeded().message.contains("1ms were left"));
    }
}
