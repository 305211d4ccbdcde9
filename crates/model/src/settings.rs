//! A function's settings: what `bungee.toml` may say, and what holds after the defaults are filled in.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{ByteSize, Limits, RedactRule, Route, TimeSpan, invocation::words};

words! {
    /// What runs a version.
    Runtime {
        /// The built-in JavaScript engine, sealed.
        Isolate = "isolate",
        /// Bun.
        Bun = "bun",
        /// Node.js.
        Node = "node",
        /// CPython.
        Python = "python",
        /// Any program that speaks the Lambda Runtime API.
        Provided = "provided",
    }
}

words! {
    /// The shape of a handler.
    Kind {
        /// `(Request) => Response`.
        Web = "web",
        /// `handler(event, context)`.
        Event = "event",
    }
}

words! {
    /// Who may call a function.
    Auth {
        /// Whoever holds a token, once the server has one.
        Token = "token",
        /// Everybody.
        None = "none",
    }
}

words! {
    /// Of which invocations the payload is kept for replay.
    Keep {
        /// Of none.
        None = "none",
        /// Of those that fail.
        Failed = "failed",
        /// Of all.
        All = "all",
    }
}

words! {
    /// Whether developers may run a function's invocations on their laptops.
    Live {
        /// Whoever may attach may claim it.
        On = "on",
        /// Every claim is refused.
        Off = "off",
    }
}

/// A table `[functions.NAME]`: everything optional, defaults not filled in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SettingsPatch {
    /// The module, relative to the folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// Which export; the default export, else `handler`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// The shape of the handler; found out from the module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// What runs it; `isolate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
    /// Declared routes besides `/functions/NAME/*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routes: Option<Vec<Route>>,
    /// The user's own build command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// From a worker taking an invocation to the last byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<TimeSpan>,
    /// Most anonymous memory of one worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// Invocations at once in one worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// How many workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<WorkersPatch>,
    /// How many may wait, and how long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueuePatch>,
    /// Environment variables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    /// Who may call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Of which invocations the payload is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<Keep>,
    /// What is taken out of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redact: Option<Vec<RedactRule>>,
    /// Whether laptops may claim it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<Live>,
}

/// `workers = { min, max, idle }`, each optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkersPatch {
    /// Kept warm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<u32>,
    /// At most this many, a fixed limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// A worker unused this long is ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<TimeSpan>,
}

/// `queue = { depth, wait }`, each optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueuePatch {
    /// At most this many wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<u32>,
    /// Nobody waits longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<TimeSpan>,
}

/// Settings with every default filled in and every limit checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Which export; `None`: the default export, else `handler`.
    pub handler: Option<String>,
    /// What runs it.
    pub runtime: Runtime,
    /// Declared routes.
    pub routes: Vec<Route>,
    /// From a worker taking an invocation to the last byte.
    pub timeout: TimeSpan,
    /// Most anonymous memory of one worker.
    pub memory: ByteSize,
    /// Invocations at once in one worker.
    pub concurrency: u32,
    /// Workers kept warm.
    pub workers_min: u32,
    /// Most workers.
    pub workers_max: u32,
    /// A worker unused this long is ended.
    pub workers_idle: TimeSpan,
    /// Most invocations waiting.
    pub queue_depth: u32,
    /// Longest wait.
    pub queue_wait: TimeSpan,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Who may call it.
    pub auth: Auth,
    /// Of which invocations the payload is kept.
    pub record: Keep,
    /// What is taken out of it, besides what always is.
    pub redact: Vec<RedactRule>,
    /// Whether laptops may claim it.
    pub live: Live,
}

/// A setting that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` {why}")]
pub struct SettingsError {
    /// The key as it is written, such as `workers.max`.
    pub key: String,
    /// What is wrong, and the limit.
    pub why: String,
}

/// Smallest `memory` that any runtime starts in.
const MEMORY_MIN: ByteSize = ByteSize::mebibytes(8);

impl SettingsPatch {
    /// Fills in the defaults and checks every value against `limits`.
    pub fn resolve(&self, limits: &Limits) -> Result<Settings, SettingsError> {
        let workers = self.workers.clone().unwrap_or_default();
        let queue = self.queue.clone().unwrap_or_default();
        let settings = Settings {
            handler: self.handler.clone(),
            runtime: self.runtime.unwrap_or(Runtime::Isolate),
            routes: self.routes.clone().unwrap_or_default(),
            timeout: self
                .timeout
                .unwrap_or(TimeSpan::seconds(30).min(limits.timeout)),
            memory: self.memory.unwrap_or(ByteSize::mebibytes(256)),
            concurrency: self.concurrency.unwrap_or(1),
            workers_min: workers.min.unwrap_or(0),
            workers_max: workers
                .max
                .unwrap_or(limits.workers.min(10).max(workers.min.unwrap_or(0))),
            workers_idle: workers.idle.unwrap_or(TimeSpan::seconds(300)),
            queue_depth: queue.depth.unwrap_or(limits.queue_depth.min(1000)),
            queue_wait: queue.wait.unwrap_or(TimeSpan::seconds(10)),
            env: self.env.clone().unwrap_or_default(),
            auth: self.auth.unwrap_or(Auth::Token),
            record: self.record.unwrap_or(Keep::None),
            redact: self.redact.clone().unwrap_or_default(),
            live: self.live.unwrap_or(Live::On),
        };
        settings.check(limits)?;
        Ok(settings)
    }
}

impl Settings {
    /// The same, with at most this many invocations at once; as good as it can be done in whole workers.
    pub fn at_most(mut self, most: u32) -> Settings {
        self.concurrency = self.concurrency.min(most).max(1);
        self.workers_max = self.workers_max.min(most / self.concurrency).max(1);
        self.workers_min = self.workers_min.min(self.workers_max);
        self
    }

    /// Where a value is impossible, says which and what the limit is.
    fn check(&self, limits: &Limits) -> Result<(), SettingsError> {
        let rules = [
            ("timeout", self.timeout.0 == 0, "must be longer than 0".into()),
            ("timeout", self.timeout > limits.timeout, format!("is {}, the limit is {}", self.timeout, limits.timeout)),
            ("memory", self.memory < MEMORY_MIN, format!("is {}, the least is {MEMORY_MIN}", self.memory)),
            ("concurrency", self.concurrency == 0, "must be at least 1".into()),
            ("concurrency", self.concurrency > limits.concurrency, format!("is {}, the limit is {}", self.concurrency, limits.concurrency)),
            (
                "concurrency",
                self.runtime == Runtime::Isolate && self.concurrency > 1,
                "must be 1 for the `isolate` runtime: it runs one invocation at a time; raise `workers.max`".into(),
            ),
            ("workers.max", self.workers_max == 0, "must be at least 1".into()),
            ("workers.max", self.workers_max > limits.workers, format!("is {}, the limit is {}", self.workers_max, limits.workers)),
            ("workers.min", self.workers_min > self.workers_max, format!("is {}, more than `workers.max`, which is {}", self.workers_min, self.workers_max)),
            ("queue.depth", self.queue_depth > limits.queue_depth, format!("is {}, the limit is {}", self.queue_depth, limits.queue_depth)),
        ];
        for (key, broken, why) in rules {
            if broken {
                return Err(SettingsError {
                    key: key.into(),
                    why,
                });
            }
        }
        self.check_env(limits)
    }

    fn check_env(&self, limits: &Limits) -> Result<(), SettingsError> {
        let mut size = 0;
        for (name, value) in &self.env {
            let fits = |(at, c): (usize, char)| {
                c == '_' || c.is_ascii_alphabetic() || (at > 0 && c.is_ascii_digit())
            };
            if name.is_empty() || !name.char_indices().all(fits) || value.contains('\0') {
                let why = "is no variable: use letters, digits and `_` in its name and no NUL in its value".into();
                return Err(SettingsError {
                    key: format!("env.{name}"),
                    why,
                });
            }
            if is_reserved(name) {
                let why = "is a name that the server sets itself: `HOME`, `TMPDIR` and all that begin with `BUNGEE_`".into();
                return Err(SettingsError {
                    key: format!("env.{name}"),
                    why,
                });
            }
            size += name.len() as u64 + value.len() as u64 + 2;
        }
        if size > limits.env.0 {
            let why = format!(
                "takes {size} bytes, the limit is {} per function",
                limits.env
            );
            return Err(SettingsError {
                key: "env".into(),
                why,
            });
        }
        Ok(())
    }
}

/// Whether a variable is not a function's to set: the worker's own folder, and what Bungee tells it.
fn is_reserved(name: &str) -> bool {
    matches!(name, "HOME" | "TMPDIR") || name.starts_with("BUNGEE_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_tables_keep_the_other_defaults() {
        let patch: SettingsPatch = toml::from_str("workers = { max = 4 }").unwrap();
        let settings = patch.resolve(&Limits::default()).unwrap();
        assert_eq!((settings.workers_min, settings.workers_max), (0, 4));
        assert_eq!(settings.workers_idle, TimeSpan::seconds(300));
    }

    #[test]
    fn a_reserve_caps_workers_and_what_each_takes() {
        let settings = |text: &str| {
            let patch: SettingsPatch = toml::from_str(text).unwrap();
            patch.resolve(&Limits::default()).unwrap()
        };
        let ten = "runtime = 'bun'\nconcurrency = 10\nworkers = { min = 4, max = 5 }";
        for (most, concurrency, max, min) in
            [(100, 10, 5, 4), (25, 10, 2, 2), (7, 7, 1, 1), (0, 1, 1, 1)]
        {
            let capped = settings(ten).at_most(most);
            let found = (capped.concurrency, capped.workers_max, capped.workers_min);
            assert_eq!(found, (concurrency, max, min), "{most}");
        }
    }

    #[test]
    fn impossible_values_name_the_key_and_the_limit() {
        let refuse = |text: &str| {
            let patch: SettingsPatch = toml::from_str(text).unwrap();
            patch.resolve(&Limits::default()).unwrap_err().to_string()
        };
        assert_eq!(
            refuse("timeout = '20m'"),
            "`timeout` is 20m, the limit is 15m"
        );
        assert!(refuse("workers = { min = 3, max = 2 }").contains("more than `workers.max`"));
        assert!(refuse("concurrency = 2").contains("isolate"));
        assert!(toml::from_str::<SettingsPatch>("live = 'perhaps'").is_err());
        assert!(refuse("env = { 'A-B' = 'x' }").starts_with("`env.A-B`"));
    }
}
