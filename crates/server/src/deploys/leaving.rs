//! What leaves: functions that are served no more, and versions that nobody needs.

use std::sync::{Arc, PoisonError};

use model::{Failure, FunctionId, VersionNumber};
use store::StoreError;

use super::{Deploys, serve, store_failure};
use crate::{registry::State, serving::Deployed};

impl Deploys {
    /// Calls find the function no more; what is in flight ends. Nothing that is stored changes.
    pub(crate) async fn unroute(&self, id: &FunctionId) {
        let _changing = self.changing.lock().await;
        let pools = serve::pools(self.registry.table().state(id));
        self.registry.remove(id);
        for old in pools.into_values() {
            self.close(old);
        }
    }

    /// Ends claims of laptops that the function does not allow any more.
    pub(super) fn call_back(&self, id: &FunctionId) {
        let why = match self.registry.table().state(id) {
            Some(State::Disabled) => "the function was disabled",
            Some(State::Shut) => "its reserved concurrency is 0",
            Some(State::Deployed(serving)) if serving.keeps_laptops_out() => {
                "its `live` was switched off"
            }
            Some(State::Deployed(_) | State::NotDeployed) | None => return,
        };
        self.channel.revoke(|function| function == id, why);
    }

    /// Closes what another version took over from, and remembers it until its workers are gone.
    pub(super) fn close(&self, old: Arc<Deployed>) {
        old.invoker.close();
        let mut closing = self
            .leaving
            .pools
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        closing.retain(|deployed| !deployed.invoker.is_done());
        closing.push(old);
    }

    /// Removes versions but for the newest `keep`, those that an alias names or named just before, and those that run.
    pub(crate) async fn prune(&self, id: &FunctionId, keep: u32) -> Result<(), Failure> {
        let _changing = self.changing.lock().await;
        let gone = match self.store.prune_versions(id, keep, self.running(id)).await {
            // Nothing of it was ever deployed.
            Err(StoreError::NoFunction(_)) => return Ok(()),
            gone => gone.map_err(|error| store_failure(&error))?,
        };
        for number in gone {
            self.bundles.uninstall(self.bundles.place(id, number)).await;
        }
        Ok(())
    }

    /// What is served no more of a function, and has workers yet.
    pub(super) fn ending(&self, id: &FunctionId) -> Vec<Arc<Deployed>> {
        let mut closing = self
            .leaving
            .pools
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        closing.retain(|deployed| !deployed.invoker.is_done());
        let its_own = |deployed: &&Arc<Deployed>| deployed.version.function == *id;
        closing.iter().filter(its_own).cloned().collect()
    }

    /// Versions that have workers, or may get some.
    fn running(&self, id: &FunctionId) -> Vec<VersionNumber> {
        let served = serve::pools(self.registry.table().state(id));
        let ending = self.ending(id).into_iter();
        let ending = ending.map(|deployed| deployed.version.number);
        ending.chain(served.into_keys()).collect()
    }
}
