//! Changes of a function that are no deployment: on and off, its overrides, its aliases, its end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use model::{ErrorType, Failure, FunctionId, SettingsPatch};
use serde::{Deserialize, Serialize};
use store::Alias;

use super::{Deploys, serve, store_failure};
use crate::{invoker::Gone, serving::Deployed};

/// Overrides to set and to unset, all or nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(crate) struct EnvChange {
    pub set: BTreeMap<String, String>,
    #[cfg_attr(test, schema(value_type = Vec<String>))]
    pub unset: BTreeSet<String>,
}

/// What went with a function.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(crate) struct Deleted {
    pub function: FunctionId,
    /// How many versions it had.
    pub versions: usize,
    /// Whether something still ran when the grace was over.
    pub cut_off: bool,
}

/// What takes no more calls, and of which something still runs.
#[derive(Default)]
pub(crate) struct Leaving {
    /// Deleted functions: their names are not free yet.
    names: Mutex<BTreeSet<FunctionId>>,
    /// Versions that another took over from: their folders are in use.
    pub(super) pools: Mutex<Vec<Arc<Deployed>>>,
}

impl Leaving {
    /// Refuses a name that is not free yet.
    pub(super) fn check(&self, id: &FunctionId) -> Result<(), Failure> {
        if !self.locked().contains(id) {
            return Ok(());
        }
        let message = format!("`{id}` is being deleted, and something of it still runs");
        Err(Failure::new(ErrorType::NameTaken, message).hint("try again in a moment"))
    }

    /// A set of names is whole after every statement, so a panic elsewhere leaves it usable.
    fn locked(&self) -> MutexGuard<'_, BTreeSet<FunctionId>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deploys {
    /// Lets calls in, or keeps them out; `false` if it was so already. What is in flight ends by itself.
    pub(crate) async fn set_enabled(
        &self,
        id: &FunctionId,
        enabled: bool,
    ) -> Result<bool, Failure> {
        let _changing = self.changing.lock().await;
        if enabled {
            self.check_free(id).await?;
        }
        let changed = self.store.set_enabled(id, enabled).await;
        let changed = changed.map_err(|error| store_failure(&error))?;
        self.refresh(id).await?;
        Ok(changed)
    }

    /// Refuses to let calls in where another function took a path meanwhile.
    async fn check_free(&self, id: &FunctionId) -> Result<(), Failure> {
        let current = self.store.current(id).await;
        let current = current.map_err(|error| store_failure(&error))?;
        let target = current.aliases.get(&Alias::current().0);
        let version = target.and_then(|target| current.pointed.get(&target.first()));
        let settings =
            version.and_then(|version| self.settings(&version.patch, &current.over).ok());
        // A version that cannot be served has no routes.
        let routes = settings.map_or_else(Vec::new, |settings| settings.routes);
        self.registry.table().check_paths(id, &routes)
    }

    /// Changes the overrides, and answers with what they are then. Workers with the old ones end what they have.
    pub(crate) async fn change_env(
        &self,
        id: &FunctionId,
        change: EnvChange,
    ) -> Result<BTreeMap<String, String>, Failure> {
        if let Some(both) = change.set.keys().find(|name| change.unset.contains(*name)) {
            let message = format!("`{both}` cannot be set and unset at once");
            return Err(Failure::new(ErrorType::BadRequest, message));
        }
        let _changing = self.changing.lock().await;
        let fail = |error| store_failure(&error);
        let current = self.store.current(id).await.map_err(fail)?;
        let mut over = current.over;
        over.env.retain(|name, _| !change.unset.contains(name));
        over.env.extend(change.set.clone());
        // On their own, and over the settings of each version that is served.
        let empty = SettingsPatch::default();
        let patches = current.pointed.values().map(|version| &version.patch);
        for patch in [&empty].into_iter().chain(patches) {
            self.settings(patch, &over)?;
        }
        let set = change
            .set
            .into_iter()
            .map(|(name, value)| (name, Some(value)));
        let unset = change.unset.into_iter().map(|name| (name, None));
        let changes = set.chain(unset).collect();
        self.store.change_env(id, changes).await.map_err(fail)?;
        self.refresh(id).await?;
        Ok(over.env)
    }

    /// Deletes an alias other than `current`.
    pub(crate) async fn drop_alias(&self, id: &FunctionId, alias: &Alias) -> Result<(), Failure> {
        if *alias == Alias::current() {
            let message = "`current` cannot be deleted: it is what calls follow";
            return Err(Failure::new(ErrorType::BadRequest, message)
                .hint("`bungee disable` keeps calls out, `bungee delete` removes the function"));
        }
        let _changing = self.changing.lock().await;
        let is_gone = self.store.delete_alias(id, alias).await;
        if !is_gone.map_err(|error| store_failure(&error))? {
            let message = format!("`{id}` has no alias `{}`", alias.0);
            return Err(Failure::new(ErrorType::NotFound, message));
        }
        self.refresh(id).await
    }

    /// Deletes a function: nothing is routed to it from now on, what is in flight ends within the grace, then all that
    /// was its own goes.
    pub(crate) async fn delete(&self, id: &FunctionId) -> Result<Deleted, Failure> {
        let fail = |error| store_failure(&error);
        let changing = self.changing.lock().await;
        let versions = self.store.versions(id).await.map_err(fail)?.len();
        self.store.delete_function(id).await.map_err(fail)?;
        self.leaving.locked().insert(id.clone());
        let served = serve::pools(self.registry.table().state(id));
        self.registry.remove(id);
        self.codes.forget(id);
        self.registry.unregister(id);
        self.channel
            .revoke(|function| function == id, "the function was deleted");
        for deployed in served.into_values() {
            self.close(deployed);
        }
        let ending = self.ending(id);
        drop(changing);
        let started = Instant::now();
        let mut cut_off = false;
        for deployed in &ending {
            let left = self.grace.saturating_sub(started.elapsed());
            cut_off |= deployed.invoker.gone(left).await == Gone::CutOff;
        }
        self.bundles.remove(id).await;
        if let Err(error) = self.store.forget(id).await {
            tracing::warn!(function = %id, %error, "records of a deleted function stay behind");
        }
        self.leaving.locked().remove(id);
        Ok(Deleted {
            function: id.clone(),
            versions,
            cut_off,
        })
    }
}
