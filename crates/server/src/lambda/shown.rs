//! How a function looks by AWS's API: its configuration, from what the store says of it.

use std::{collections::BTreeMap, fs, path::Path};

use model::{ByteSize, Digest, FunctionId, Runtime, Timestamp, VersionNumber};
use serde_json::{Value, json};
use store::{LambdaFunction, LambdaState, Version};

use super::{Answer, Refusal, arn_of, content, runtimes};
use crate::app::App;

/// MiB of `/tmp` of whoever asks for none.
pub(super) const STORAGE: u32 = 512;

/// The qualifier of the newest state.
pub(super) const LATEST: &str = "$LATEST";

/// A function as it is asked for by one caller.
pub(super) struct Shown<'a> {
    pub app: &'a App,
    pub region: &'a str,
    pub function: LambdaFunction,
    /// The state of every version that it names.
    states: BTreeMap<VersionNumber, LambdaState>,
}

/// One of its states.
pub(super) struct Found {
    pub state: LambdaState,
    /// The published number; `None`: `$LATEST`, or a version that was never published.
    pub number: Option<u32>,
    /// What the caller called it.
    pub qualifier: Option<String>,
}

impl<'a> Shown<'a> {
    /// Loads a function that has a current version.
    pub(super) async fn load(app: &'a App, region: &'a str, id: &FunctionId) -> Answer<Shown<'a>> {
        let loaded = app.store.lambda(id).await;
        let missing = || Refusal::no_function(&arn_of(region, id.name.as_str(), None));
        let function = match loaded {
            Err(store::StoreError::NoFunction(_)) => return Err(missing()),
            loaded => loaded?,
        };
        if function.current.version.is_none() {
            return Err(missing());
        }
        Ok(Shown::of(app, region, function).await)
    }

    /// A function that was loaded.
    pub(super) async fn of(app: &'a App, region: &'a str, function: LambdaFunction) -> Shown<'a> {
        let mut states = BTreeMap::new();
        for (number, version) in &function.current.pointed {
            let state = match (function.made.get(number), numbered(&function, *number)) {
                (Some(state), _) => state.clone(),
                (None, Some((_, state))) => LambdaState {
                    revision: revision_of(&version.digest),
                    ..state.clone()
                },
                (None, None) => derived(app, &function, version).await,
            };
            states.insert(*number, state);
        }
        Shown {
            app,
            region,
            function,
            states,
        }
    }

    pub(super) fn id(&self) -> &FunctionId {
        &self.function.current.function.id
    }

    pub(super) fn name(&self) -> &str {
        self.id().name.as_str()
    }

    pub(super) fn arn(&self, qualifier: Option<&str>) -> String {
        arn_of(self.region, self.name(), qualifier)
    }

    /// The version that is current.
    pub(super) fn version(&self) -> Answer<&Version> {
        let version = self.function.current.version.as_ref();
        version.ok_or_else(|| Refusal::no_function(&self.arn(None)))
    }

    /// The newest state, which is that of the current version: as it was made here, or as a deployment left it.
    pub(super) fn latest(&self) -> Answer<LambdaState> {
        self.state(self.version()?.number, None)
    }

    fn state(&self, version: VersionNumber, qualifier: Option<&str>) -> Answer<LambdaState> {
        let state = self.states.get(&version).cloned();
        state.ok_or_else(|| Refusal::no_function(&self.arn(qualifier)))
    }

    /// The state that a qualifier means.
    pub(super) fn find(&self, qualifier: Option<&str>) -> Answer<Found> {
        let found = |state, number| Found {
            state,
            number,
            qualifier: qualifier.map(str::to_owned),
        };
        let missing = || Refusal::no_function(&self.arn(qualifier));
        let Some(text) = qualifier.filter(|text| *text != LATEST) else {
            return Ok(found(self.latest()?, None));
        };
        if let Ok(number) = text.parse::<u32>() {
            let state = self.function.published.get(&number).ok_or_else(missing)?;
            return Ok(found(state.clone(), Some(number)));
        }
        let name = text.parse().map_err(|_| missing())?;
        let target = self.function.current.aliases.get(&name);
        let target = target.filter(|_| text != "current").ok_or_else(missing)?;
        let version = target.first();
        if let Some((number, state)) = self.numbered(version) {
            return Ok(found(state.clone(), Some(number)));
        }
        Ok(found(self.state(version, qualifier)?, None))
    }

    /// The newest published number of a version.
    pub(super) fn numbered(&self, version: VersionNumber) -> Option<(u32, &LambdaState)> {
        numbered(&self.function, version)
    }

    /// A state's configuration, with how it is doing.
    pub(super) fn configuration(&self, found: &Found) -> Answer<Value> {
        let mut shown = self.listed(found)?;
        let state = self.status(found);
        if let (Value::Object(shown), Value::Object(state)) = (&mut shown, state) {
            shown.extend(state);
        }
        Ok(shown)
    }

    fn status(&self, found: &Found) -> Value {
        if found.number.is_some() {
            return json!({"State": "Active", "LastUpdateStatus": "Successful"});
        }
        let mut status = match self.function.current.function.enabled {
            true => json!({"State": "Active"}),
            false => json!({
                "State": "Inactive",
                "StateReason": format!("The function is switched off; `bungee enable {}` lets calls in again.", self.name()),
                "StateReasonCode": "Idle",
            }),
        };
        status["LastUpdateStatus"] = "Successful".into();
        if self.app.lambda.has(self.id()) {
            status["LastUpdateStatus"] = "InProgress".into();
            status["LastUpdateStatusReason"] = "The function is being updated.".into();
        } else if let Some(failed) = &self.function.failed {
            status["LastUpdateStatus"] = "Failed".into();
            status["LastUpdateStatusReason"] = failed.reason.as_str().into();
            status["LastUpdateStatusReasonCode"] = failed.code.as_str().into();
        }
        status
    }

    /// A state's configuration as lists show it.
    pub(super) fn listed(&self, found: &Found) -> Answer<Value> {
        let Found {
            state,
            number,
            qualifier,
        } = found;
        let version = self.function.current.pointed.get(&state.version);
        let version = match version {
            Some(version) => version,
            None => self.version()?,
        };
        let settings = version.patch.resolve(&self.app.limits);
        let settings = settings.map_err(|error| Refusal::parameter(error.to_string()))?;
        let number = number.map_or_else(|| LATEST.to_owned(), |number| number.to_string());
        let mut shown = json!({
            "FunctionName": self.name(),
            "FunctionArn": self.arn(qualifier.as_deref()),
            "Runtime": state.runtime,
            "Role": state.role,
            "Handler": state.handler,
            "CodeSize": state.code_size,
            "Description": state.description,
            "Timeout": settings.timeout.0.div_ceil(1000),
            "MemorySize": settings.memory.0.div_ceil(ByteSize::mebibytes(1).0),
            "LastModified": moment(state.modified_at),
            "CodeSha256": sha256(&state.code),
            "Version": number,
            "TracingConfig": {"Mode": "PassThrough"},
            "RevisionId": state.revision,
            "PackageType": "Zip",
            "Architectures": [architecture()],
            "EphemeralStorage": {"Size": state.storage},
            "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
            "LoggingConfig": {"LogFormat": "Text", "LogGroup": format!("/aws/lambda/{}", self.name())},
        });
        if !settings.env.is_empty() {
            shown["Environment"] = json!({"Variables": settings.env});
        }
        if !state.layers.is_empty() {
            let layers = state.layers.iter();
            let layers = layers.map(|layer| json!({"Arn": layer.arn, "CodeSize": layer.size}));
            shown["Layers"] = layers.collect();
        }
        Ok(shown)
    }
}

fn numbered(function: &LambdaFunction, version: VersionNumber) -> Option<(u32, &LambdaState)> {
    let mut published = function.published.iter().rev();
    let (number, state) = published.find(|(_, state)| state.version == version)?;
    Some((*number, state))
}

/// A state that was not made here, from what was deployed. Its code is the zip that is made of it for who wants to see it.
async fn derived(app: &App, function: &LambdaFunction, version: &Version) -> LambdaState {
    let runtime = version.patch.runtime.unwrap_or(Runtime::Isolate);
    let handler = version.patch.handler.as_deref();
    let last_made = function.made.values().max_by_key(|state| state.modified_at);
    let (code, code_size) = content::zip_of(app, version).await;
    let mut state = LambdaState {
        version: version.number,
        content: version.digest,
        runtime: runtime.to_string(),
        handler: runtimes::handler_of(&version.entry, handler, runtime),
        // The one thing that nobody deploys.
        role: last_made.map_or_else(String::new, |state| state.role.clone()),
        description: String::new(),
        code,
        code_size,
        storage: STORAGE,
        layers: Vec::new(),
        revision: revision_of(&version.digest),
        modified_at: version.created_at,
    };
    state.content = content_of(&state, version);
    state
}

/// What tells a state apart from others that got a number.
pub(super) fn content_of(state: &LambdaState, version: &Version) -> Digest {
    let LambdaState {
        runtime,
        handler,
        role,
        description,
        storage,
        ..
    } = state;
    let layers: Vec<&str> = state.layers.iter().map(|layer| &*layer.arn).collect();
    let parts = json!([
        version.digest,
        runtime,
        handler,
        role,
        description,
        state.code,
        storage,
        layers
    ]);
    Digest::of(parts.to_string().as_bytes())
}

/// A revision that follows from a digest, for what was not made here.
pub(super) fn revision_of(digest: &Digest) -> String {
    let hex = digest.hex();
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..32],
    ];
    parts.join("-")
}

/// A digest as AWS writes it.
pub(super) fn sha256(digest: &Digest) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(digest.bytes())
}

/// A time as AWS writes it.
pub(super) fn moment(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    at.strftime("%Y-%m-%dT%H:%M:%S%.3f+0000").to_string()
}

/// AWS's word for this machine.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "x86_64",
    }
}

/// Bytes of the files in a folder; what cannot be read counts nothing.
pub(super) fn size_of(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() => size_of(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
