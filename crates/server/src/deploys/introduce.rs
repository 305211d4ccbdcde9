//! A function that has a name before it has any code.

use model::{Failure, FunctionId};

use super::{Deploys, store_failure};
use crate::registry::State;

impl Deploys {
    /// Gives a function its name; nothing of it can be called yet.
    pub(crate) async fn introduce(&self, id: &FunctionId) -> Result<(), Failure> {
        let _changing = self.changing.lock().await;
        self.leaving.check(id)?;
        self.registry.table().check_paths(id, &[])?;
        let created = self.store.create_function(id).await;
        created.map_err(|error| store_failure(&error))?;
        if self.registry.table().state(id).is_none() {
            self.registry.change([(id.clone(), State::NotDeployed)]);
        }
        Ok(())
    }
}
