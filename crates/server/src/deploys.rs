//! Deployments: versions made from bundles, and the alias that calls follow. Each step is idempotent, and stands only
//! once the store has it; one change at a time.

mod changes;
mod introduce;
mod leaving;
mod register;
mod serve;
mod visit;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use live::Broker;
use model::{
    AliasPart, AliasTarget, Digest, ErrorType, Failure, FunctionId, Kind, Limits, Runtime,
    Settings, SettingsPatch, VersionNumber, VersionRef,
};
use serde::{Deserialize, Serialize};
use store::{Alias, FindError, NewVersion, Over, Store, StoreError};
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;
use workers::{Version, Workers};

pub(crate) use self::changes::{Deleted, EnvChange, Leaving};
use self::serve::{Pools, Start};
use crate::{
    bundles::{Bundles, chain},
    layers::Layers,
    metrics::Metrics,
    registry::{Registry, State},
    service::CodeCache,
    tape::Held,
};

/// Changes what is deployed.
pub(crate) struct Deploys {
    pub store: Store,
    pub workers: Workers,
    pub registry: Arc<Registry>,
    pub bundles: Bundles,
    /// What versions find under `/opt`.
    pub layers: Layers,
    pub limits: Arc<Limits>,
    /// Bun, if it is on PATH.
    pub bun: Option<PathBuf>,
    /// Node, if it is on PATH.
    pub node: Option<PathBuf>,
    /// Python 3, if it is on PATH.
    pub python: Option<PathBuf>,
    /// What its functions are counted by.
    pub metrics: Arc<Metrics>,
    /// What recordings hold while they are made.
    pub held: Held,
    /// What a function's environment is besides what it says itself, by function: lent by whoever develops, and never stored.
    pub lent: ArcSwap<BTreeMap<FunctionId, BTreeMap<String, String>>>,
    /// Where laptops claim functions.
    pub channel: Broker,
    /// Source code for whoever asks for it.
    pub codes: CodeCache,
    /// Held from the look whether a name is free until it is taken.
    pub naming: Mutex<()>,
    /// Held while something changes, so that what was checked still holds when it is done.
    pub changing: Mutex<()>,
    /// Held while a label gets its meaning, build and all.
    pub labelling: Mutex<()>,
    /// What takes no more calls, and of which something still runs.
    pub leaving: Leaving,
    /// What a deleted function's invocations get to end by themselves.
    pub grace: Duration,
    /// Changes that go on when whoever asked for them has left.
    pub tasks: TaskTracker,
}

/// What changes are made with.
pub(crate) struct Parts {
    pub store: Store,
    pub workers: Workers,
    pub registry: Arc<Registry>,
    pub channel: Broker,
    pub data_dir: PathBuf,
    pub limits: Arc<Limits>,
    pub programs: Programs,
    pub metrics: Arc<Metrics>,
    pub grace: Duration,
}

/// Programs on PATH that run functions.
pub(crate) struct Programs {
    pub bun: Option<PathBuf>,
    pub node: Option<PathBuf>,
    pub python: Option<PathBuf>,
}

impl Deploys {
    /// Nothing is served yet.
    pub(crate) fn new(parts: Parts) -> Deploys {
        Deploys {
            store: parts.store,
            workers: parts.workers,
            registry: parts.registry,
            channel: parts.channel,
            layers: Layers::new(&parts.data_dir),
            bundles: Bundles::new(parts.data_dir),
            codes: CodeCache::new(parts.limits.clone()),
            naming: Mutex::new(()),
            limits: parts.limits,
            bun: parts.programs.bun,
            node: parts.programs.node,
            python: parts.programs.python,
            metrics: parts.metrics,
            held: Held::default(),
            lent: ArcSwap::default(),
            changing: Mutex::new(()),
            labelling: Mutex::new(()),
            leaving: Leaving::default(),
            grace: parts.grace,
            tasks: TaskTracker::new(),
        }
    }
}

/// What a new version is made of.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = NewVersion))]
pub(crate) struct Wanted {
    /// The bundle, which was uploaded before.
    pub bundle: Digest,
    /// The module to load, a path inside the bundle.
    pub entry: String,
    /// The shape of its handler.
    pub kind: Kind,
    /// Its settings, as they were written.
    #[serde(default)]
    #[cfg_attr(test, schema(value_type = BTreeMap<String, serde_json::Value>))]
    pub settings: SettingsPatch,
    /// Digests of what it finds under `/opt`, lowest first.
    #[serde(skip)]
    pub layers: Vec<Digest>,
}

/// A version that exists now.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = CreatedVersion))]
pub(crate) struct Created {
    pub version: VersionNumber,
    pub digest: Digest,
    /// Whether it is new.
    pub created: bool,
}

/// Where an alias points now.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(crate) struct Activated {
    /// The version, or the first of two.
    pub version: VersionNumber,
    /// Each version with its share of a hundred.
    pub versions: Vec<AliasPart>,
    /// Where it pointed before, if anywhere: the version, or the first of two.
    pub previous: Option<VersionNumber>,
    /// `false` if it pointed there already.
    pub changed: bool,
}

impl Wanted {
    /// Over the bundle and everything that changes how it runs.
    fn digest(&self) -> Digest {
        let settings = serde_json::to_string(&self.settings).unwrap_or_default();
        let Wanted {
            bundle,
            entry,
            kind,
            layers,
            ..
        } = self;
        let mut text = format!("{bundle}\n{entry}\n{kind}\n{settings}");
        for layer in layers {
            text.push_str(&format!("\n{layer}"));
        }
        Digest::of(text.as_bytes())
    }
}

impl Deploys {
    /// Serves what the store says is current. A version that this server cannot run is left out, and said so.
    pub(crate) async fn load(&self) -> Result<(), StoreError> {
        let _changing = self.changing.lock().await;
        let functions = self.store.all_current().await?;
        let states = functions.into_iter().map(|current| {
            (
                current.function.id.clone(),
                self.state_of(current, &Pools::new()),
            )
        });
        self.registry.change(states);
        self.registry.registered(self.store.registered().await?);
        Ok(())
    }

    /// Makes a version, or finds the one that is the same. It takes no calls before it is activated.
    pub(crate) async fn create(&self, id: &FunctionId, wanted: Wanted) -> Result<Created, Failure> {
        let created = self.create_unseen(id, wanted).await?;
        let _changing = self.changing.lock().await;
        let is_there = self.store.function(id).await;
        let is_there = is_there.map_err(|error| store_failure(&error))?.is_some();
        if is_there && self.registry.table().state(id).is_none() {
            self.registry.change([(id.clone(), State::NotDeployed)]);
        }
        Ok(created)
    }

    /// The same, but a function that comes into being with it is not there for callers until something of it is current.
    pub(crate) async fn create_unseen(
        &self,
        id: &FunctionId,
        wanted: Wanted,
    ) -> Result<Created, Failure> {
        let settings = self.settings(&wanted.settings, &Over::default())?;
        self.check_runtime(settings.runtime)?;
        let digest = wanted.digest();
        let _held = self.bundles.hold(wanted.bundle);
        let _changing = self.changing.lock().await;
        self.leaving.check(id)?;
        self.registry.table().check_paths(id, &settings.routes)?;
        let versions = match self.store.versions(id).await {
            Err(StoreError::NoFunction(_)) => Vec::new(),
            versions => versions.map_err(|error| store_failure(&error))?,
        };
        if let Some(same) = versions.iter().find(|version| version.digest == digest) {
            self.repair(same, settings).await?;
            return Ok(Created {
                version: same.number,
                digest,
                created: false,
            });
        }
        let number = VersionNumber(
            versions
                .iter()
                .map(|version| version.number.0)
                .max()
                .unwrap_or(0)
                + 1,
        );
        let place = self.bundles.place(id, number);
        self.bundles.install(&wanted.bundle, &place).await?;
        let version = self.runnable(
            id,
            number,
            wanted.kind,
            &wanted.entry,
            settings,
            &wanted.layers,
        );
        match self.keep(version, wanted, digest).await {
            Ok(()) => Ok(Created {
                version: number,
                digest,
                created: true,
            }),
            Err(failure) => {
                self.bundles.uninstall(place).await;
                Err(failure)
            }
        }
    }

    /// A version whose folder is gone gets it back from the upload.
    async fn repair(&self, version: &store::Version, settings: Settings) -> Result<(), Failure> {
        let place = self.bundles.place(&version.function, version.number);
        if place.dir.is_dir() {
            return Ok(());
        }
        self.bundles.install(&version.bundle, &place).await?;
        let version = self.runnable(
            &version.function,
            version.number,
            version.kind,
            &version.entry,
            settings,
            &version.layers,
        );
        self.workers.prepare(&version).await
    }

    /// Prepares what was installed, and writes it into the store.
    async fn keep(&self, version: Version, wanted: Wanted, digest: Digest) -> Result<(), Failure> {
        if !version.has_entry() {
            let message = format!(
                "the bundle holds no `{}`, which is to be its entry",
                wanted.entry
            );
            return Err(Failure::new(ErrorType::BadRequest, message));
        }
        self.workers.prepare(&version).await?;
        let fail = |error: StoreError| store_failure(&error);
        self.store
            .create_function(&version.function)
            .await
            .map_err(fail)?;
        let Wanted {
            bundle,
            entry,
            kind,
            settings: patch,
            layers,
        } = wanted;
        let new = NewVersion {
            digest,
            bundle,
            entry,
            kind,
            patch,
            layers,
        };
        let (number, _) = self
            .store
            .add_version(&version.function, new)
            .await
            .map_err(fail)?;
        if number != version.number {
            let message = format!(
                "{} became {number} where {} was next",
                version.function, version.number
            );
            return Err(Failure::new(ErrorType::Internal, message));
        }
        Ok(())
    }

    /// Refuses a runtime that this server does not have.
    fn check_runtime(&self, runtime: Runtime) -> Result<(), Failure> {
        match runtime {
            Runtime::Isolate => Ok(()),
            Runtime::Bun if self.bun.is_some() => Ok(()),
            Runtime::Bun => {
                let message =
                    "the runtime `bun` needs Bun, and the server finds no `bun` on its PATH";
                Err(Failure::new(ErrorType::InitError, message)
                    .hint("install it: npm install -g bun"))
            }
            Runtime::Node if self.node.is_some() => Ok(()),
            Runtime::Node => {
                let message =
                    "the runtime `node` needs Node, and the server finds no `node` on its PATH";
                Err(Failure::new(ErrorType::InitError, message)
                    .hint(format!("install it: {}", workers::INSTALL_NODE)))
            }
            Runtime::Provided => Ok(()),
            Runtime::Python if self.python.is_some() => Ok(()),
            Runtime::Python => {
                let message = "the runtime `python` needs Python, and the server finds no `python3` on its PATH";
                Err(Failure::new(ErrorType::InitError, message)
                    .hint(format!("install it: {}", workers::INSTALL_PYTHON)))
            }
        }
    }

    /// Points an alias at a version, or at two by weight: new calls reach it, those in flight end on the old one.
    pub(crate) async fn activate(
        &self,
        id: &FunctionId,
        alias: &Alias,
        wanted: &[(VersionRef, Option<u32>)],
    ) -> Result<Activated, Failure> {
        self.activate_with(id, alias, wanted, Start::IfCalled).await
    }

    /// Points `current` at a version whose worker has started: one that does not load is refused, and nothing changes.
    pub(crate) async fn activate_loaded(
        &self,
        id: &FunctionId,
        version: VersionNumber,
    ) -> Result<Activated, Failure> {
        let wanted = [(VersionRef::Number(version), None)];
        self.activate_with(id, &Alias::current(), &wanted, Start::First)
            .await
    }

    async fn activate_with(
        &self,
        id: &FunctionId,
        alias: &Alias,
        wanted: &[(VersionRef, Option<u32>)],
        start: Start,
    ) -> Result<Activated, Failure> {
        let _changing = self.changing.lock().await;
        let mut parts = Vec::with_capacity(wanted.len());
        for (version, weight) in wanted {
            parts.push((self.find(id, version).await?.number, *weight));
        }
        let target = AliasTarget::of(&parts).map_err(|error| {
            Failure::new(ErrorType::BadRequest, error.to_string())
                .hint("name one version, or two like `v1=90 v2=10`")
        })?;
        self.point(id, alias, target, start).await
    }

    /// Points `current` at this version, or to where it pointed before, weights and all.
    pub(crate) async fn roll_back(
        &self,
        id: &FunctionId,
        wanted: Option<&VersionRef>,
    ) -> Result<Activated, Failure> {
        let _changing = self.changing.lock().await;
        let target = match wanted {
            Some(wanted) => AliasTarget::One(self.find(id, wanted).await?.number),
            None => self
                .store
                .previous_of(id)
                .await
                .map_err(|error| store_failure(&error))?
                .ok_or_else(|| {
                    let message = format!("`{id}` has no version that was current before");
                    Failure::new(ErrorType::NotFound, message)
                        .hint("`bungee versions` shows them all")
                })?,
        };
        self.point(id, &Alias::current(), target, Start::IfCalled)
            .await
    }

    async fn find(&self, id: &FunctionId, wanted: &VersionRef) -> Result<store::Version, Failure> {
        self.store
            .find_version(id, wanted)
            .await
            .map_err(|error| match error {
                FindError::Store(error) => store_failure(&error),
                FindError::NotFound { .. } => Failure::new(ErrorType::NotFound, error.to_string())
                    .hint("`bungee versions` shows them all"),
                FindError::Ambiguous { ref candidates, .. } => {
                    let names: Vec<String> = candidates.iter().map(ToString::to_string).collect();
                    let hint = format!("type more digits, or one of {}", names.join(", "));
                    Failure::new(ErrorType::BadRequest, error.to_string()).hint(hint)
                }
            })
    }

    async fn point(
        &self,
        id: &FunctionId,
        alias: &Alias,
        target: AliasTarget,
        start: Start,
    ) -> Result<Activated, Failure> {
        let mut fresh = Pools::new();
        let pointed = self.point_with(id, alias, target, start, &mut fresh).await;
        if pointed.is_err() {
            fresh.into_values().for_each(|made| self.close(made));
        }
        pointed
    }

    /// The same; what was made for it is in `fresh`, also when it fails.
    async fn point_with(
        &self,
        id: &FunctionId,
        alias: &Alias,
        target: AliasTarget,
        start: Start,
        fresh: &mut Pools,
    ) -> Result<Activated, Failure> {
        let fail = |error: StoreError| store_failure(&error);
        self.check_room(id, alias).await?;
        let over = self.store.over(id).await.map_err(fail)?;
        for part in target.parts() {
            let settings = self.servable(id, part.version, &over).await?;
            if *alias == Alias::current() && part.version == target.first() {
                self.registry.table().check_paths(id, &settings.routes)?;
            }
            if let Some(deployed) = self.warmed(id, part.version, settings, start).await? {
                fresh.insert(part.version, deployed);
            }
        }
        let pointed = self.store.point_alias(id, alias, target).await;
        let change = pointed.map_err(fail)?;
        self.refresh_with(id, fresh).await?;
        Ok(Activated {
            version: target.first(),
            versions: target.parts(),
            previous: change.previous.map(|target| target.first()),
            changed: change.changed,
        })
    }

    /// Refuses one alias too many.
    async fn check_room(&self, id: &FunctionId, alias: &Alias) -> Result<(), Failure> {
        let aliases = self.store.aliases(id).await;
        let aliases = aliases.map_err(|error| store_failure(&error))?;
        let limit = self.limits.aliases;
        if aliases.contains_key(&alias.0) || aliases.len() < limit as usize {
            return Ok(());
        }
        let message = format!("`{id}` has {limit} aliases, the limit `aliases`");
        Err(Failure::new(ErrorType::BadRequest, message)
            .hint(format!("`bungee alias {id} ALIAS --delete` makes room")))
    }

    /// The settings with which a version would be served, if this server can.
    async fn servable(
        &self,
        id: &FunctionId,
        number: VersionNumber,
        over: &Over,
    ) -> Result<Settings, Failure> {
        let version = self.find(id, &VersionRef::Number(number)).await?;
        let settings = self.settings(&version.patch, over)?;
        self.check_runtime(settings.runtime)?;
        if !self.bundles.place(id, number).dir.is_dir() {
            let message = format!("the bundle of {id} {number} is gone from the data folder");
            return Err(Failure::new(ErrorType::Internal, message).hint("deploy it again"));
        }
        Ok(settings)
    }
}

/// What a caller is told of the store's trouble.
pub(crate) fn store_failure(error: &StoreError) -> Failure {
    match error {
        StoreError::NoFunction(id) => Failure::new(
            ErrorType::FunctionNotFound,
            format!("there is no function `{id}`"),
        )
        .hint("`bungee list` shows every function"),
        StoreError::NoVersion { .. } => Failure::new(ErrorType::NotFound, error.to_string())
            .hint("`bungee versions` shows them all"),
        StoreError::Closed => Failure::new(ErrorType::ShuttingDown, "the server is going down"),
        StoreError::Unreadable { .. } | StoreError::Storage(_) => {
            Failure::new(ErrorType::Internal, chain(error))
        }
    }
}
