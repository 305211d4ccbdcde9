//! A state that a function is about to have: what it is made from, and how it becomes one.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use model::{Digest, ErrorType, Failure, FunctionId, Kind, SettingsPatch, Timestamp, VersionRef};
use rand::RngCore;
use store::{Alias, FailedUpdate, LambdaState, UsedLayer};

use super::{
    Answer, Refusal, runtimes,
    settings::Asked,
    shown::{Shown, content_of},
};
use crate::{app::App, deploys::Wanted, journal::Invocation};

/// The state, not yet one.
pub(super) struct Draft {
    /// Unpacked code, which waits to become a version.
    pub bundle: Digest,
    pub patch: SettingsPatch,
    /// The module and the shape of its handler; `None`: to be found by the handler's name.
    pub entry: Option<(String, Kind)>,
    /// Digests of its layers, lowest first.
    pub layers: Vec<Digest>,
    pub state: LambdaState,
}

/// How making it went.
pub(super) enum Made {
    Done,
    /// What was asked could be asked, and does not run, for this reason: everything stays as it was.
    Failed(String),
}

/// A new revision.
pub(super) fn revision(app: &App) -> String {
    let mut chance = [0; 10];
    rand::rng().fill_bytes(&mut chance);
    model::InvocationId::new(now(app), chance).to_string()
}

pub(super) fn now(app: &App) -> Timestamp {
    Invocation::now(&app.journal)
}

impl Draft {
    /// A draft of the newest state as it is. Its code is brought to where versions are made from.
    pub(super) async fn of(app: &App, shown: &Shown<'_>) -> Answer<Draft> {
        let version = shown.version()?;
        let place = app.deploys.bundles.place(shown.id(), version.number);
        app.deploys.bundles.stage(&version.bundle, &place).await?;
        Ok(Draft {
            bundle: version.bundle,
            patch: version.patch.clone(),
            entry: Some((version.entry.clone(), version.kind)),
            layers: version.layers.clone(),
            state: shown.latest()?,
        })
    }

    /// Puts what a caller asked into it.
    pub(super) async fn set(&mut self, app: &App, asked: &Asked) -> Answer<()> {
        asked.check()?;
        asked.set(&mut self.patch);
        let state = &mut self.state;
        let texts = [
            (&mut state.runtime, &asked.runtime),
            (&mut state.handler, &asked.handler),
            (&mut state.role, &asked.role),
            (&mut state.description, &asked.description),
        ];
        for (place, asked) in texts {
            if let Some(asked) = asked {
                place.clone_from(asked);
            }
        }
        if let Some(storage) = &asked.ephemeral_storage {
            state.storage = u32::try_from(storage.size).unwrap_or(u32::MAX);
        }
        if asked.runtime.is_some() || asked.handler.is_some() {
            self.entry = None;
        }
        if let Some(arns) = &asked.layers {
            (self.state.layers, self.layers) = layers(app, arns).await?;
        }
        Ok(())
    }

    /// Gives it other code, unpacked.
    pub(super) fn recode(&mut self, bundle: Digest, code: Digest, size: u64) {
        self.bundle = bundle;
        self.state.code = code;
        self.state.code_size = size;
    }

    /// Finds the module, if it is to be found anew, and refuses what is too large with its layers.
    pub(super) async fn settle(&mut self, app: &App) -> Answer<()> {
        let dir = app.deploys.bundles.unpacked(&self.bundle);
        let limit = app.limits.bundle_unpacked.0;
        let mut size = super::shown::size_of(&dir);
        for layer in &self.layers {
            size += super::shown::size_of(&app.deploys.layers.layer(layer));
        }
        if size > limit {
            return Err(Refusal::parameter(format!(
                "Function code combined with layers exceeds the maximum allowed size of {limit} bytes. The actual size is {size} bytes."
            )));
        }
        // Other code may hold the same handler in another module.
        app.deploys.layers.merge(&self.layers).await?;
        let opt = app.deploys.layers.merged(&self.layers);
        self.entry.take_if(|(entry, _)| !dir.join(entry).is_file());
        if self.entry.is_none() {
            let runtime = runtimes::runtime(&self.state.runtime)?;
            let found = runtimes::entry(runtime, &self.state.handler, &dir, opt.as_deref())?;
            self.patch.runtime = Some(runtime);
            self.patch.handler = found.handler;
            self.patch.kind = Some(Kind::Event);
            self.entry = Some((found.entry, Kind::Event));
        }
        Ok(())
    }

    /// Makes it what calls reach. What cannot run is noted, and leaves everything as it was.
    pub(super) async fn become_latest(mut self, app: &Arc<App>, id: &FunctionId) -> Answer<Made> {
        self.settle(app).await?;
        match self.deploy(app, id).await {
            Ok(()) => Ok(Made::Done),
            Err(failure) if is_asked_wrong(failure.error_type) => Err(failure.into()),
            Err(failure) => {
                let refusal = Refusal::from(failure.clone());
                let is_there = app.store.function(id).await?.is_some();
                if !is_there {
                    return Err(refusal);
                }
                let failed = FailedUpdate {
                    code: reason_code(failure.error_type).to_owned(),
                    reason: refusal.message.clone(),
                };
                app.store.set_failed_update(id, Some(failed)).await?;
                Ok(Made::Failed(refusal.message))
            }
        }
    }

    async fn deploy(self, app: &Arc<App>, id: &FunctionId) -> Result<(), Failure> {
        let Draft {
            bundle,
            patch,
            entry,
            layers,
            mut state,
        } = self;
        let (entry, kind) = entry.ok_or_else(|| {
            Failure::new(ErrorType::Internal, "a state was made without its module")
        })?;
        let wanted = Wanted {
            bundle,
            entry,
            kind,
            settings: patch,
            layers,
        };
        let created = app.deploys.create(id, wanted).await?;
        let number = VersionRef::Number(created.version);
        let activated = app
            .deploys
            .activate(id, &Alias::current(), &[(number.clone(), None)])
            .await;
        app.deploys.bundles.sweep(Instant::now()).await;
        activated?;
        let version = app.store.version(id, created.version).await;
        let fail = |error| crate::deploys::store_failure(&error);
        state.version = created.version;
        state.revision = revision(app);
        state.modified_at = now(app);
        if let Some(version) = version.map_err(fail)? {
            state.content = content_of(&state, &version);
        }
        app.store.set_lambda_state(id, state).await.map_err(fail)
    }
}

/// Whether a failure is the caller's to hear at once.
fn is_asked_wrong(error_type: ErrorType) -> bool {
    use ErrorType::{ArrivesLater, BadRequest, NameTaken, PayloadTooLarge, ShuttingDown};
    matches!(
        error_type,
        ArrivesLater | BadRequest | NameTaken | PayloadTooLarge | ShuttingDown
    )
}

/// AWS's code for why a state does not run.
fn reason_code(error_type: ErrorType) -> &'static str {
    match error_type {
        ErrorType::InitError | ErrorType::HandlerError | ErrorType::WorkerCrashed => {
            "FunctionError.RuntimeInitError"
        }
        ErrorType::OutOfMemory => "FunctionError.InitResourceExhausted",
        ErrorType::FunctionTimeout => "FunctionError.InitTimeout",
        _ => "InternalError",
    }
}

/// Most layers of one function.
const LAYERS_MAX: usize = 5;

/// The layers behind ARNs, lowest first.
async fn layers(app: &App, arns: &[String]) -> Answer<(Vec<UsedLayer>, Vec<Digest>)> {
    if arns.len() > LAYERS_MAX {
        return Err(Refusal::parameter(format!(
            "Cannot reference more than {LAYERS_MAX} layers."
        )));
    }
    let mut seen = BTreeMap::new();
    let (mut used, mut digests) = (Vec::new(), Vec::new());
    for arn in arns {
        let missing = || Refusal::parameter(format!("Layer version {arn} does not exist."));
        let (name, number) = super::layers::named(arn).ok_or_else(missing)?;
        let version = app.store.layer(&name, number).await?;
        let version = version.ok_or_else(missing)?;
        if let Some(other) = seen.insert(name, arn) {
            return Err(Refusal::parameter(format!(
                "Two different versions of the same layer are not allowed to be referenced in the same function. {other} and {arn} are versions of the same layer."
            )));
        }
        used.push(UsedLayer {
            arn: arn.clone(),
            size: version.layer.code_size,
        });
        digests.push(version.layer.code);
    }
    Ok((used, digests))
}
