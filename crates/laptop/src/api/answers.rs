//! What the API answers, as values. Fields that a newer server adds are ignored.

use std::collections::BTreeMap;

use model::{
    AliasPart, Digest, FunctionId, InvocationId, Kind, LogLine, Name, Outcome, Record, Route,
    Runtime, Timestamp, VersionNumber,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use super::ErrorBody;

/// What a server says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Its release.
    pub version: String,
    /// Every project that has a function.
    pub projects: Vec<Name>,
    /// The project of names that name none.
    pub home_project: Name,
    /// Its data folder, on its machine.
    #[serde(default)]
    pub data_dir: Option<String>,
    /// Every limit, by name.
    #[serde(default)]
    pub limits: BTreeMap<String, Value>,
    /// Whether it asks nobody for a token.
    pub open: bool,
    /// Whether laptops may attach.
    #[serde(default)]
    pub live: bool,
    /// The runtimes it has, with their versions.
    #[serde(default)]
    pub runtimes: BTreeMap<String, Option<String>>,
    /// The role of the token that asked, if one was needed.
    #[serde(default)]
    pub role: Option<String>,
    /// Whom that token stands for, if for anybody.
    #[serde(default)]
    pub user: Option<String>,
}

/// The functions of a project.
#[derive(Debug, Clone, Deserialize)]
pub struct FunctionList {
    /// Sorted by project and name.
    pub functions: Vec<FunctionSummary>,
}

/// How many workers of a function are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerCounts {
    /// Being started.
    pub starting: u32,
    /// Ready and never used.
    pub warm: u32,
    /// With work in flight.
    pub busy: u32,
    /// Ready, used before.
    pub idle: u32,
    /// On their way out.
    pub retiring: u32,
}

/// One function in a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FunctionSummary {
    /// Its project.
    pub project: Name,
    /// Its name.
    pub name: Name,
    /// The version that calls reach; `None` if none is deployed.
    pub current: Option<VersionNumber>,
    /// That version's digest.
    #[serde(default)]
    pub digest: Option<Digest>,
    /// The shape of its handler.
    #[serde(default)]
    pub kind: Option<Kind>,
    /// What runs it.
    #[serde(default)]
    pub runtime: Option<Runtime>,
    /// Whether calls are taken.
    pub enabled: bool,
    /// Declared routes.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// When `current` was last moved.
    #[serde(default)]
    pub deployed_at: Option<Timestamp>,
    /// `REGISTERED`, `BUILT`, `DEPLOYED`, `WARM`, `BUSY` or `IDLE`.
    pub lifecycle: String,
    /// Its workers.
    #[serde(default)]
    pub workers: WorkerCounts,
    /// Its path on the server.
    pub url: String,
}

/// A setting, and where its value comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SettingValue {
    /// The value as it is written in `bungee.toml`.
    pub value: Value,
    /// `default`, `bungee.toml` or `override`.
    pub from: String,
}

/// One function in full.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FunctionInfo {
    /// Its project.
    pub project: Name,
    /// Its name.
    pub name: Name,
    /// The version that calls reach; `None` if none is deployed.
    pub current: Option<VersionNumber>,
    /// That version's digest.
    #[serde(default)]
    pub digest: Option<Digest>,
    /// The shape of its handler.
    #[serde(default)]
    pub kind: Option<Kind>,
    /// What runs it.
    #[serde(default)]
    pub runtime: Option<Runtime>,
    /// Whether calls are taken.
    pub enabled: bool,
    /// Declared routes.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// When `current` was last moved.
    #[serde(default)]
    pub deployed_at: Option<Timestamp>,
    /// `REGISTERED`, `BUILT`, `DEPLOYED`, `WARM`, `BUSY` or `IDLE`.
    pub lifecycle: String,
    /// Its workers.
    #[serde(default)]
    pub workers: WorkerCounts,
    /// Its path on the server.
    pub url: String,
    /// Every setting.
    #[serde(default)]
    pub settings: BTreeMap<String, SettingValue>,
    /// Where each alias points, `current` too.
    #[serde(default)]
    pub aliases: BTreeMap<Name, Vec<AliasPart>>,
    /// Invocations that wait for a worker now.
    #[serde(default)]
    pub waiting: u32,
    /// The server's limits, by name.
    #[serde(default)]
    pub limits: BTreeMap<String, Value>,
}

/// One version in a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VersionRow {
    /// Its ordinal.
    pub version: VersionNumber,
    /// Digest of bundle and settings.
    pub digest: Digest,
    /// Digest of the bundle alone.
    pub bundle: Digest,
    /// The shape of its handler.
    pub kind: Kind,
    /// What runs it.
    pub runtime: Runtime,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether calls reach it.
    pub current: bool,
    /// The aliases that point at it, `current` too.
    #[serde(default)]
    pub aliases: Vec<InAlias>,
}

/// A version's part in an alias.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InAlias {
    /// The alias.
    pub name: Name,
    /// Of a hundred invocations, those that the version gets.
    pub weight: u8,
}

/// Where the aliases of a function point.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Aliases {
    /// Each version with its share, by the alias's name.
    pub aliases: BTreeMap<Name, Vec<AliasPart>>,
}

/// Whether a function takes calls.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Changed {
    /// Whether it does.
    pub enabled: bool,
    /// Whether that is a change.
    pub changed: bool,
}

/// What went with a function.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Deleted {
    /// The function.
    pub function: FunctionId,
    /// How many versions it had.
    pub versions: u32,
    /// Whether something of it still ran when the grace was over.
    pub cut_off: bool,
}

/// The overrides of a function's environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Env {
    /// Names with their values.
    pub overrides: BTreeMap<String, String>,
}

/// A bundle that the server has.
#[derive(Debug, Clone, Deserialize)]
pub struct Uploaded {
    /// Its digest.
    pub bundle: Digest,
    /// How many files.
    pub files: u64,
    /// Their size in bytes, unpacked.
    pub size: u64,
}

/// A version that exists now.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Created {
    /// Its ordinal.
    pub version: VersionNumber,
    /// Digest of bundle and settings.
    pub digest: Digest,
    /// Whether it is new.
    pub created: bool,
}

/// Where an alias points now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Activated {
    /// The version, or the first of two.
    pub version: VersionNumber,
    /// Each version with its share.
    #[serde(default)]
    pub versions: Vec<AliasPart>,
    /// The one before, if there was one.
    pub previous: Option<VersionNumber>,
    /// Whether that is a change.
    pub changed: bool,
}

/// How an invocation went.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Invoked {
    /// Its id.
    pub invocation_id: InvocationId,
    /// The version that ran; `None` if none was reached.
    #[serde(default)]
    pub version: Option<VersionNumber>,
    /// `ok`, or the error's type.
    pub outcome: Outcome,
    /// What the handler gave, untouched.
    #[serde(default)]
    pub result: Option<Box<RawValue>>,
    /// The status of a web handler's response.
    #[serde(default)]
    pub status: Option<u16>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<ErrorBody>,
    /// What it logged.
    #[serde(default)]
    pub logs: Vec<LogLine>,
    /// Microseconds until a worker took it.
    #[serde(default)]
    pub waited_us: u64,
    /// Microseconds from then to the last byte.
    #[serde(default)]
    pub ran_us: u64,
    /// Whether a worker was started for it.
    #[serde(default)]
    pub cold: bool,
}

/// How many of the ended invocations have a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampled {
    /// With a record.
    pub recorded: u64,
    /// All.
    pub ended: u64,
    /// With a record that could not be written.
    #[serde(default)]
    pub lost: u64,
}

/// Records, newest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Invocations {
    /// The records.
    pub invocations: Vec<Record>,
    /// What part of the whole they are.
    pub sampled: Sampled,
}

/// A token just made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CreatedToken {
    /// Names it in lists and when it is revoked.
    pub id: String,
    /// The secret, shown once.
    pub token: String,
    /// What it allows.
    pub role: String,
    /// Whom it stands for, if for anybody.
    #[serde(default)]
    pub user: Option<String>,
    /// When it ends; `None`: never.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}

/// An access key just made, as AWS names its parts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CreatedAccessKey {
    /// Names it, in lists and in every request that it signs.
    #[serde(rename(serialize = "AccessKeyId"))]
    pub access_key_id: String,
    /// The secret, shown once.
    #[serde(rename(serialize = "SecretAccessKey"))]
    pub secret_access_key: String,
    /// What it allows.
    pub role: String,
    /// Whom it stands for, if for anybody.
    #[serde(default)]
    pub user: Option<String>,
    /// When it ends; `None`: never.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}

/// A token, without its secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Token {
    /// Names it.
    pub id: String,
    /// What it is: `token`, or `aws` for an access key.
    #[serde(default = "token")]
    pub kind: String,
    /// What it allows.
    pub role: String,
    /// Whom it stands for, if for anybody.
    #[serde(default)]
    pub user: Option<String>,
    /// When it was made.
    #[serde(default)]
    pub created_at: Option<Timestamp>,
    /// When it ends; `None`: never.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}

/// What everything was before there were access keys.
fn token() -> String {
    "token".into()
}

/// Every token.
#[derive(Debug, Clone, Deserialize)]
pub struct TokenList {
    /// Oldest first.
    pub tokens: Vec<Token>,
}
