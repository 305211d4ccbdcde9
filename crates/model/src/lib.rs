//! The words of Bungee and its pure rules.
//! Does no IO, spawns nothing, reads no clock and has no async: what decides here is a function of values.

mod alias;
mod attempt;
mod bundle;
mod clock;
#[cfg(feature = "describe")]
mod describe;
mod failure;
mod invocation;
mod limits;
mod name;
mod pool;
mod recording;
mod redact;
mod route;
mod rule;
mod settings;
mod units;
mod version;

pub use alias::{AliasError, AliasPart, AliasTarget, falls_within};
pub use attempt::{Attempt, Place};
pub use bundle::{BundleFile, Manifest, ManifestError};
pub use clock::{Clock, Timestamp};
pub use failure::{ErrorType, Failure, HandlerFault};
pub use invocation::{InvocationId, Level, LogLine, Outcome, Record, Trigger};
pub use limits::{LimitError, Limits};
pub use name::{FunctionId, Name, NameError, RESERVED_NAMES};
pub use pool::{
    PoolView, Reason, STRESSED_WAIT, Step, Wear, WorkerState, is_worn, next_step, patience,
};
pub use recording::{
    Payload, RECORDING_FORMAT, RecordedAnswer, RecordedFailure, RecordedRequest, RecordedWeb,
    Recording, RecordingError,
};
pub use redact::{REDACTED, RedactError, RedactRule, Redaction};
pub use route::{Method, Params, Route, RouteError, RouteTable, Target, is_server_path};
pub use rule::{Facts, HttpFacts, PathPattern, RULE_FORMS, RULE_MAX, Rank, Rule, RuleError};
pub use settings::{
    Auth, Keep, Kind, Live, QueuePatch, Runtime, Settings, SettingsError, SettingsPatch,
    WorkersPatch,
};
pub use units::{ByteSize, TimeSpan, UnitError};
pub use version::{Digest, VersionNumber, VersionRef, VersionRefError};

/// The valid word nearest to what was typed, if one is near enough to be meant.
pub fn nearest<'a>(typed: &str, valid: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    valid
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(typed, word), word))
        .filter(|(distance, word)| *distance <= 1 + word.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}
