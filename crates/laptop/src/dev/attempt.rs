//! One try at building and deploying one function, and how it ended.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use build::{Project, Tools};
use model::Name;

use crate::{
    api::Client,
    deploy::{self, DeployError, Deployed, Order, Step},
};

/// How building and deploying one function ended.
pub struct Tried {
    /// The function.
    pub function: Name,
    /// What works, but perhaps not as meant.
    pub warnings: Vec<String>,
    /// What is deployed, or why nothing is.
    pub outcome: Result<Deployed, DeployError>,
}

/// Builds and deploys one function.
pub async fn try_one(
    client: Client,
    project: Arc<Project>,
    function: Name,
    out: PathBuf,
    tools: Arc<Tools>,
) -> Tried {
    let warned = Mutex::new(Vec::new());
    let order = Order {
        project: &project,
        function: &function,
        target: None,
        out: Path::new(&out),
        tools: &tools,
    };
    let note = |step| {
        if let (Step::Built { warnings, .. }, Ok(mut warned)) = (step, warned.lock()) {
            *warned = warnings;
        }
    };
    let outcome = match deploy::prepare(&client, order, note).await {
        Ok(prepared) => deploy::activate(&client, prepared)
            .await
            .map_err(DeployError::from),
        Err(error) => Err(error),
    };
    Tried {
        warnings: warned.into_inner().unwrap_or_default(),
        function,
        outcome,
    }
}

/// The whole of what is said, to be compared with what was said before; its first line is the error.
pub fn said(error: &DeployError) -> String {
    match error {
        DeployError::Build(error) => format!("{error}\n{:?}{:?}", error.frame, error.also),
        DeployError::Server(_) | DeployError::Folder { .. } => error.to_string(),
    }
}
