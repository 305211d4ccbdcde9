//! What `dev` does to its own server besides deploying to it: requests wait for builds, answers of older code say so,
//! functions leave with their files, old versions go, and invocations of another server run here.

use std::{collections::BTreeMap, sync::Arc};

use http::Response;
use model::{Failure, FunctionId};

use crate::{
    app::App,
    builds::Building,
    guests::{self, Guest, GuestAnswer},
};

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

    /// Runs an invocation that came from elsewhere on the function's current version, as if it had been called here:
    /// it waits for a build (500 ms at most) and for a worker, and is recorded and logged under its own id.
    /// An answer of older code says so in `x-bungee-stale`. Dropping the future, or the answer's body, means that the
    /// caller left.
    ///
    /// # Errors
    /// What a caller would be told: no such function, no version, or how the invocation failed.
    pub async fn run(
        &self,
        function: &FunctionId,
        guest: Guest,
    ) -> Result<Response<GuestAnswer>, Failure> {
        guests::run(&self.app, function, guest).await
    }

    /// The function has these variables over all others from now on. They are not stored.
    pub async fn lend_env(&self, function: &FunctionId, values: BTreeMap<String, String>) {
        self.app.deploys.lend_env(function, values).await;
    }

    /// Whether the function has code that would run.
    ///
    /// # Errors
    /// Why not: the error of its build, or that there is no such function.
    pub fn has_code(&self, function: &FunctionId) -> Result<(), String> {
        guests::has_code(&self.app, function)
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
