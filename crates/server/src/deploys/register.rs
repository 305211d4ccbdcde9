//! Functions that exist before they have a version.

use model::{Failure, FunctionId};
use store::Registration;

use super::{Deploys, store_failure};

impl Deploys {
    /// Registers a function, which comes into being if it is not there. It takes calls once a version is current.
    pub(crate) async fn register(&self, id: &FunctionId, how: Registration) -> Result<(), Failure> {
        let _changing = self.changing.lock().await;
        self.leaving.check(id)?;
        let table = self.registry.table();
        let is_known = table.state(id).is_some();
        if !is_known {
            table.check_paths(id, &[])?;
        }
        let kept = self.store.register(id, how).await;
        kept.map_err(|error| store_failure(&error))?;
        self.registry.registered([id.clone()]);
        match is_known {
            true => Ok(()),
            false => self.refresh(id).await,
        }
    }
}
