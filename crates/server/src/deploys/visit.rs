//! A version that is called once more, whether an alias points at it or not.

use std::sync::{Arc, PoisonError};

use model::{Failure, FunctionId, VersionRef};

use super::{Deploys, serve, store_failure};
use crate::serving::Deployed;

/// The version, for as long as it is called. A pool that nobody else has closes with it.
pub(crate) struct Visit {
    pub(crate) deployed: Arc<Deployed>,
    is_own: bool,
}

impl Deploys {
    /// The version as it is served, or in a pool of its own.
    pub(crate) async fn visit(
        &self,
        id: &FunctionId,
        wanted: &VersionRef,
    ) -> Result<Visit, Failure> {
        let _changing = self.changing.lock().await;
        let version = self.find(id, wanted).await?;
        let served = serve::pools(self.registry.table().state(id));
        let same = served.get(&version.number);
        if let Some(same) = same.filter(|same| !same.invoker.is_closed()) {
            return Ok(Visit {
                deployed: same.clone(),
                is_own: false,
            });
        }
        let over = self.store.over(id).await;
        let over = over.map_err(|error| store_failure(&error))?;
        let settings = self.servable(id, version.number, &over).await?;
        let deployed = self.serve(&version, settings);
        // Among those on their way out from the first: its folder is in use, and a deletion waits for it.
        let mut leaving = self
            .leaving
            .pools
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        leaving.push(deployed.clone());
        Ok(Visit {
            deployed,
            is_own: true,
        })
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if self.is_own {
            self.deployed.invoker.close();
        }
    }
}
