//! What `dev` does to its own server besides deploying to it: requests wait for builds, answers of older code say so,
//! functions leave with their files, and old versions go. No request comes here.

use std::sync::Arc;

use model::FunctionId;

use crate::{app::App, builds::Building};

/// A handle for whoever develops on this server; clones mean the same.
#[derive(Clone)]
pub struct Workbench {
    pub(crate) app: Arc<App>,
}

impl Workbench {
    /// Requests for the function wait, at most 500 ms each, while what is returned lives.
    /// `None` stands for functions that are not there yet.
    pub fn building(&self, function: Option<FunctionId>) -> Building {
        self.app.builds.clone().begin(function)
    }

    /// Answers of the function say, in `x-bungee-stale`, why they are of older code; `None`: they are not.
    pub fn broken(&self, function: &FunctionId, why: Option<&str>) {
        self.app.builds.broken(function, why);
    }

    /// Calls find the function no more; what is in flight ends. Its versions stay, and deploying it brings it back.
    pub async fn unroute(&self, function: &FunctionId) {
        self.app.deploys.unroute(function).await;
    }

    /// Removes the function's versions but for the newest `keep`, those that are or were just current,
    /// those that an alias names, and those whose workers still run.
    /// What cannot be removed stays a whole version, and the server's log says why.
    pub async fn prune(&self, function: &FunctionId, keep: u32) {
        if let Err(failure) = self.app.deploys.prune(function, keep).await {
            tracing::warn!(%function, %failure, "old versions stay");
        }
    }
}
