//! How a function looks by AWS's API: its configuration, from what the store says of it.

use std::{fs, path::Path};

use model::{ByteSize, Digest, FunctionId, Runtime, Timestamp, VersionNumber};
use serde_json::{Value, json};
use store::{LambdaFunction, LambdaState, Version};

use super::{Answer, Refusal, arn_of, runtimes};
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
        Ok(Shown {
            app,
            region,
            function,
        })
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

    /// The newest state: as it was made here, or as a deployment left it.
    pub(super) fn latest(&self) -> Answer<LambdaState> {
        let version = self.version()?;
        match &self.function.latest {
            Some(state) if state.version == version.number => Ok(state.clone()),
            Some(_) | None => Ok(self.derived(version)),
        }
    }

    /// A state that was not made here, from what was deployed.
    fn derived(&self, version: &Version) -> LambdaState {
        let runtime = version.patch.runtime.unwrap_or(Runtime::Isolate);
        let handler = version.patch.handler.as_deref();
        let before = self.function.latest.as_ref();
        let place = self.app.deploys.bundles.place(self.id(), version.number);
        let mut state = LambdaState {
            version: version.number,
            content: version.digest,
            runtime: runtime.to_string(),
            handler: runtimes::handler_of(&version.entry, handler, runtime),
            role: before.map_or_else(String::new, |state| state.role.clone()),
            description: before.map_or_else(String::new, |state| state.description.clone()),
            code: version.bundle,
            code_size: size_of(&place.dir),
            storage: STORAGE,
            layers: Vec::new(),
            revision: revision_of(&version.digest),
            modified_at: version.created_at,
        };
        state.content = content_of(&state, version);
        state
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
        if version == self.version()?.number {
            return Ok(found(self.latest()?, None));
        }
        let version = self.function.current.pointed.get(&version);
        Ok(found(self.derived(version.ok_or_else(missing)?), None))
    }

    /// The newest published number of a version.
    pub(super) fn numbered(&self, version: VersionNumber) -> Option<(u32, &LambdaState)> {
        let mut published = self.function.published.iter().rev();
        let (number, state) = published.find(|(_, state)| state.version == version)?;
        Some((*number, state))
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
