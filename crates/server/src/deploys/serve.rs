//! From what the store says of a function to what is served of it. Pools whose version and settings stay are kept;
//! the others close, and end what they have.

use std::{collections::BTreeMap, sync::Arc};

use model::{
    AliasTarget, Digest, ErrorType, Failure, FunctionId, Kind, Settings, SettingsPatch,
    VersionNumber, VersionRef,
};
use store::{Alias, CurrentFunction, Over};
use workers::Version;

use super::{Deploys, store_failure};
use crate::{
    bundles::Place,
    invoker::Invoker,
    registry::State,
    serving::{Choice, Deployed, Serving},
    tape::Recipe,
};

/// When a version that is about to be called starts a worker first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Where somebody runs this function now, or workers are kept warm.
    IfCalled,
    /// Always: who handed it in is to hear whether it loads.
    First,
}

/// Pools by the version that they run.
pub(super) type Pools = BTreeMap<VersionNumber, Arc<Deployed>>;

impl Deploys {
    /// Serves of one function what the store says now. Whoever calls holds `changing`.
    pub(super) async fn refresh(&self, id: &FunctionId) -> Result<(), Failure> {
        self.refresh_with(id, &Pools::new()).await
    }

    /// Serves what was published, reserved or opened since.
    pub(crate) async fn reload(&self, id: &FunctionId) -> Result<(), Failure> {
        let _changing = self.changing.lock().await;
        self.refresh(id).await
    }

    /// Versions of the function have these variables over all others from now on; they are not stored.
    pub(crate) async fn lend_env(&self, id: &FunctionId, values: BTreeMap<String, String>) {
        self.lent.rcu(|lent| {
            let mut lent = BTreeMap::clone(lent);
            lent.insert(id.clone(), values.clone());
            lent
        });
        let _changing = self.changing.lock().await;
        let is_served = matches!(self.registry.table().state(id), Some(State::Deployed(_)));
        if is_served && let Err(failure) = self.refresh(id).await {
            tracing::warn!(function = %id, %failure, "its lent environment is not used yet");
        }
    }

    /// The same, with pools that were made for it already.
    pub(super) async fn refresh_with(&self, id: &FunctionId, fresh: &Pools) -> Result<(), Failure> {
        let mut before = pools(self.registry.table().state(id));
        before.extend(fresh.clone());
        let current = self.store.current(id).await;
        let current = current.map_err(|error| store_failure(&error))?;
        let state = self.state_of(current, &before);
        let kept = pools(Some(&state));
        self.registry.change([(id.clone(), state)]);
        self.codes.forget(id);
        self.call_back(id);
        for (number, old) in before {
            let is_kept = kept
                .get(&number)
                .is_some_and(|kept| Arc::ptr_eq(kept, &old));
            if !is_kept {
                self.close(old);
            }
        }
        Ok(())
    }

    /// What a function's rows mean. A version that this server cannot run is left out, and said so.
    pub(super) fn state_of(&self, current: CurrentFunction, before: &Pools) -> State {
        if current.aliases.is_empty() {
            return State::NotDeployed;
        }
        if !current.function.enabled {
            return State::Disabled;
        }
        if current.over.reserved == Some(0) {
            return State::Shut;
        }
        let function = current.function.id.clone();
        let served = self.pools_of(&current, before);
        let choice = |target: AliasTarget| {
            let first = served.get(&target.first())?.clone();
            let second = match target {
                AliasTarget::One(_) => None,
                AliasTarget::Two {
                    second, percent, ..
                } => served.get(&second).map(|it| (percent, it.clone())),
            };
            Some(Choice { first, second })
        };
        let mut aliases = BTreeMap::new();
        let mut main = None;
        for (name, target) in current.aliases {
            if name == Alias::current().0 {
                main = choice(target);
            } else if let Some(choice) = choice(target) {
                aliases.insert(name.as_str().to_owned(), choice);
            }
        }
        let published = current.published.iter();
        let published: BTreeMap<_, _> = published
            .filter_map(|(number, version)| Some((*number, served.get(version)?.clone())))
            .collect();
        if main.is_none() && aliases.is_empty() {
            return State::NotDeployed;
        }
        State::Deployed(Arc::new(Serving {
            function,
            current: main,
            aliases,
            published,
        }))
    }

    /// A pool for a version that is about to be called, with workers that are ready; `None` if it is served already, or
    /// if it need not start first: then the first call may start one.
    /// A version that does not load is refused, so that calls stay where they are.
    pub(super) async fn warmed(
        &self,
        id: &FunctionId,
        number: VersionNumber,
        settings: Settings,
        start: Start,
    ) -> Result<Option<Arc<Deployed>>, Failure> {
        let table = self.registry.table();
        let serving = match table.state(id) {
            Some(State::Deployed(serving)) => Some(serving),
            Some(State::NotDeployed | State::Disabled | State::Shut) | None => None,
        };
        let is_called = serving.is_some_and(|serving| {
            let counts = serving.counts();
            counts.warm + counts.busy + counts.idle > 0 || settings.workers_min > 0
        });
        let is_served = serving.is_some_and(|serving| serving.deployed().contains_key(&number));
        if is_served || !(is_called || start == Start::First) {
            return Ok(None);
        }
        let version = self.find(id, &VersionRef::Number(number)).await?;
        let count = settings.workers_min.max(1);
        let deployed = self.serve(&version, settings);
        if let Err(failure) = deployed.invoker.warm(count).await {
            self.close(deployed);
            let current = serving
                .and_then(|serving| serving.current.as_ref())
                .map(|choice| choice.first.version.number);
            let stays = current.map_or_else(String::new, |number| {
                format!("; calls still reach {number}")
            });
            let hint = format!("{id} {number} does not start{stays}");
            return Err(failure.hint(hint));
        }
        Ok(Some(deployed))
    }

    /// A pool for every version that an alias points at: that of before, if nothing about it changed.
    fn pools_of(&self, current: &CurrentFunction, before: &Pools) -> Pools {
        let mut served = Pools::new();
        for (number, version) in &current.pointed {
            let settings = match self.settings(&version.patch, &self.over(current)) {
                Ok(mut settings) => {
                    if !current.is_named(*number) {
                        // Nobody follows it: it runs when it is asked for by its number, and is kept warm for nobody.
                        settings.workers_min = 0;
                    }
                    settings
                }
                Err(failure) => {
                    let function = &version.function;
                    tracing::error!(%function, version = %number, %failure, "a version cannot be served");
                    continue;
                }
            };
            let same = before
                .get(number)
                .filter(|old| old.version.settings == settings && !old.invoker.is_closed());
            let deployed = match same {
                Some(same) => same.clone(),
                None => self.serve(version, settings),
            };
            served.insert(*number, deployed);
        }
        served
    }

    /// What lies over a function's own settings: what was set here, and over its environment what was lent.
    fn over(&self, current: &CurrentFunction) -> Over {
        let mut over = current.over.clone();
        if let Some(lent) = self.lent.load().get(&current.function.id) {
            over.env.extend(lent.clone());
        }
        over
    }

    /// Settings with defaults, and with the server's overrides over them.
    pub(super) fn settings(&self, patch: &SettingsPatch, over: &Over) -> Result<Settings, Failure> {
        let mut patch = patch.clone();
        if !over.env.is_empty() {
            patch.env.get_or_insert_default().extend(over.env.clone());
        }
        patch.auth = over.auth.or(patch.auth);
        let settings = patch
            .resolve(&self.limits)
            .map_err(|error| Failure::new(ErrorType::BadRequest, error.to_string()))?;
        Ok(match over.reserved {
            Some(most) => settings.at_most(most),
            None => settings,
        })
    }

    pub(super) fn serve(&self, version: &store::Version, settings: Settings) -> Arc<Deployed> {
        let version = self.runnable(
            &version.function,
            version.number,
            version.kind,
            &version.entry,
            settings,
            &version.layers,
        );
        let sampler = self.store.records().sampler(&version.function);
        let metrics = self.metrics.function(&version.function);
        let recipe = Recipe::of(&version.settings, &self.limits, &self.held);
        let version = Arc::new(version);
        let invoker = Invoker::Workers(self.workers.pool(version.clone()));
        Arc::new(Deployed {
            version,
            invoker,
            sampler,
            recipe,
            metrics,
        })
    }

    pub(super) fn runnable(
        &self,
        function: &FunctionId,
        number: VersionNumber,
        kind: Kind,
        entry: &str,
        settings: Settings,
        layers: &[Digest],
    ) -> Version {
        let opt = self.layers.merged(layers);
        let Place { dir, image } = self.bundles.place(function, number);
        let (function, entry) = (function.clone(), entry.to_owned());
        Version {
            function,
            number,
            kind,
            entry,
            settings,
            dir,
            opt,
            image,
        }
    }
}

/// The pools of a state.
pub(super) fn pools(state: Option<&State>) -> Pools {
    match state {
        Some(State::Deployed(serving)) => serving.deployed(),
        Some(State::NotDeployed | State::Disabled | State::Shut) | None => Pools::new(),
    }
}
