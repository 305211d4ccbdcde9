//! Deployments: versions made from bundles, and the alias that calls follow. Each step is idempotent, and stands only
//! once the store has it; one change at a time.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use model::{
    Digest, ErrorType, Failure, FunctionId, Kind, Limits, Runtime, Settings, SettingsPatch,
    VersionNumber, VersionRef,
};
use serde::{Deserialize, Serialize};
use store::{Alias, CurrentFunction, FindError, NewVersion, Store, StoreError};
use tokio::sync::Mutex;
use workers::{Version, Workers};

use crate::{
    bundles::{Bundles, Place, chain},
    invoker::Invoker,
    registry::{Deployed, Registry, State},
};

/// Changes what is deployed.
pub(crate) struct Deploys {
    pub store: Store,
    pub workers: Workers,
    pub registry: Arc<Registry>,
    pub bundles: Bundles,
    pub limits: Arc<Limits>,
    /// Bun, if it is on PATH.
    pub bun: Option<PathBuf>,
    /// Node, if it is on PATH.
    pub node: Option<PathBuf>,
    /// Held while something changes, so that what was checked still holds when it is done.
    pub changing: Mutex<()>,
}

/// What a new version is made of.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// The bundle, which was uploaded before.
    pub bundle: Digest,
    /// The module to load, a path inside the bundle.
    pub entry: String,
    /// The shape of its handler.
    pub kind: Kind,
    /// Its settings, as they were written.
    #[serde(default)]
    pub settings: SettingsPatch,
}

/// A version that exists now.
#[derive(Debug, Serialize)]
pub(crate) struct Created {
    pub version: VersionNumber,
    pub digest: Digest,
    /// Whether it is new.
    pub created: bool,
}

/// Where `current` points now.
#[derive(Debug, Serialize)]
pub(crate) struct Activated {
    pub version: VersionNumber,
    /// Where it pointed before, if anywhere.
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
            ..
        } = self;
        Digest::of(format!("{bundle}\n{entry}\n{kind}\n{settings}").as_bytes())
    }
}

impl Deploys {
    /// Serves what the store says is current. A version that this server cannot run is left out, and said so.
    pub(crate) async fn load(&self) -> Result<(), StoreError> {
        let _changing = self.changing.lock().await;
        let functions = self.store.all_current().await?;
        self.registry
            .change(functions.into_iter().map(|current| self.state_of(current)));
        Ok(())
    }

    fn state_of(&self, current: CurrentFunction) -> (FunctionId, State) {
        let CurrentFunction {
            function,
            version,
            env,
        } = current;
        let id = function.id;
        let state = match version {
            None => State::NotDeployed,
            Some(_) if !function.enabled => State::Disabled,
            Some(version) => match self.settings(&version.patch, env) {
                Ok(settings) => State::Deployed(self.serve(&version, settings)),
                Err(failure) => {
                    tracing::error!(function = %id, version = %version.number, %failure, "a version cannot be served");
                    State::NotDeployed
                }
            },
        };
        (id, state)
    }

    /// Settings with defaults, and with the server's overrides over them.
    fn settings(
        &self,
        patch: &SettingsPatch,
        overrides: BTreeMap<String, String>,
    ) -> Result<Settings, Failure> {
        let mut patch = patch.clone();
        if !overrides.is_empty() {
            patch.env.get_or_insert_default().extend(overrides);
        }
        patch
            .resolve(&self.limits)
            .map_err(|error| Failure::new(ErrorType::BadRequest, error.to_string()))
    }

    fn serve(&self, version: &store::Version, settings: Settings) -> Arc<Deployed> {
        let version = self.runnable(
            &version.function,
            version.number,
            version.kind,
            &version.entry,
            settings,
        );
        let sampler = self.store.records().sampler(&version.function);
        let version = Arc::new(version);
        let invoker = Invoker::Workers(self.workers.pool(version.clone()));
        Arc::new(Deployed {
            version,
            invoker,
            sampler,
        })
    }

    fn runnable(
        &self,
        function: &FunctionId,
        number: VersionNumber,
        kind: Kind,
        entry: &str,
        settings: Settings,
    ) -> Version {
        let Place { dir, image } = self.bundles.place(function, number);
        let (function, entry) = (function.clone(), entry.to_owned());
        Version {
            function,
            number,
            kind,
            entry,
            settings,
            dir,
            image,
        }
    }

    /// Makes a version, or finds the one that is the same. It takes no calls before it is activated.
    pub(crate) async fn create(&self, id: &FunctionId, wanted: Wanted) -> Result<Created, Failure> {
        let settings = self.settings(&wanted.settings, BTreeMap::new())?;
        self.check_runtime(settings.runtime)?;
        let digest = wanted.digest();
        let _changing = self.changing.lock().await;
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
        let version = self.runnable(id, number, wanted.kind, &wanted.entry, settings);
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
        );
        self.workers.prepare(&version).await
    }

    /// Prepares what was installed, and writes it into the store.
    async fn keep(&self, version: Version, wanted: Wanted, digest: Digest) -> Result<(), Failure> {
        if !version.dir.join(&wanted.entry).is_file() {
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
        } = wanted;
        let new = NewVersion {
            digest,
            bundle,
            entry,
            kind,
            patch,
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
        if self.registry.table().state(&version.function).is_none() {
            self.registry
                .change([(version.function, State::NotDeployed)]);
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
            Runtime::Python | Runtime::Provided => {
                let message = format!("the runtime `{runtime}` arrives later");
                Err(Failure::new(ErrorType::ArrivesLater, message)
                    .hint("use `isolate`, `bun` or `node`"))
            }
        }
    }

    /// Points `current` at a version: new calls reach it, those in flight end on the old one.
    pub(crate) async fn activate(
        &self,
        id: &FunctionId,
        wanted: &VersionRef,
    ) -> Result<Activated, Failure> {
        let _changing = self.changing.lock().await;
        let version = self.find(id, wanted).await?;
        self.point(id, version).await
    }

    /// Points `current` at this version, or at what was current before.
    pub(crate) async fn roll_back(
        &self,
        id: &FunctionId,
        wanted: Option<&VersionRef>,
    ) -> Result<Activated, Failure> {
        let _changing = self.changing.lock().await;
        let before;
        let wanted = match wanted {
            Some(wanted) => wanted,
            None => {
                let previous = self
                    .store
                    .previous_of(id)
                    .await
                    .map_err(|error| store_failure(&error))?;
                let Some(previous) = previous else {
                    let message = format!("`{id}` has no version that was current before");
                    return Err(Failure::new(ErrorType::NotFound, message)
                        .hint("`bungee versions` shows them all"));
                };
                before = VersionRef::Number(previous);
                &before
            }
        };
        let version = self.find(id, wanted).await?;
        self.point(id, version).await
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

    async fn point(&self, id: &FunctionId, version: store::Version) -> Result<Activated, Failure> {
        let fail = |error: StoreError| store_failure(&error);
        let overrides = self.store.env(id).await.map_err(fail)?;
        let settings = self.settings(&version.patch, overrides)?;
        self.check_runtime(settings.runtime)?;
        self.registry.table().check_paths(id, &settings.routes)?;
        if !self.bundles.place(id, version.number).dir.is_dir() {
            let message = format!(
                "the bundle of {id} {} is gone from the data folder",
                version.number
            );
            return Err(Failure::new(ErrorType::Internal, message).hint("deploy it again"));
        }
        let change = self
            .store
            .point_alias(id, &Alias::current(), version.number)
            .await
            .map_err(fail)?;
        let table = self.registry.table();
        let served = table.state(id);
        let is_served =
            matches!(served, Some(State::Deployed(now)) if now.version.number == version.number);
        if !is_served && !matches!(served, Some(State::Disabled)) {
            let deployed = self.serve(&version, settings);
            self.registry
                .change([(id.clone(), State::Deployed(deployed))]);
            if let Some(State::Deployed(old)) = served {
                old.invoker.close();
            }
        }
        Ok(Activated {
            version: version.number,
            previous: change.previous,
            changed: change.changed,
        })
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
