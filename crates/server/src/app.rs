//! The server's state: one struct, whose fields are its components.

use std::{path::PathBuf, sync::Arc};

use model::{Failure, Limits, Name};
use store::Store;
use tokio_util::sync::CancellationToken;
use workers::Workers;

use crate::{
    auth::Access,
    builds::Builds,
    bunbase::Room,
    deploys::{Deploys, store_failure},
    door::Lines,
    health::Health,
    journal::Journal,
    lambda::Underway,
    live::Live,
    logs::LogHub,
    metrics::Metrics,
    queue::Queue,
    registry::Registry,
};

/// Everything that requests are answered with.
pub(crate) struct App {
    /// Every limit by name.
    pub limits: Arc<Limits>,
    /// The project of names that name none.
    pub home_project: Name,
    /// The data folder, absolute.
    pub data_dir: PathBuf,
    /// What survives a restart.
    pub store: Store,
    /// Processes that run user code.
    pub workers: Workers,
    /// Functions in memory.
    pub registry: Arc<Registry>,
    /// Changes of what is deployed.
    pub deploys: Deploys,
    /// Who is attached.
    pub live: Live,
    /// Where log lines go.
    pub logs: Arc<LogHub>,
    /// What `dev` is building.
    pub builds: Arc<Builds>,
    /// What the AWS Lambda profile holds in memory.
    pub lambda: Underway,
    /// Who may do what.
    pub access: Access,
    /// Whether laptops may attach.
    pub allows_live: bool,
    /// Events that were accepted, until they are done.
    pub queue: Arc<Queue>,
    /// Where invocations end.
    pub journal: Arc<Journal>,
    /// Client connections.
    pub lines: Arc<Lines>,
    /// What frames of all connections may hold.
    pub frames: Arc<Room>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Alive, ready, draining.
    pub health: Health,
    /// Cancelled when the server goes down.
    pub stopping: CancellationToken,
}

impl App {
    /// Tokens changed: what the store holds now counts.
    pub(crate) async fn reload_tokens(&self) -> Result<(), Failure> {
        let tokens = self
            .store
            .tokens()
            .await
            .map_err(|error| store_failure(&error))?;
        self.access.replace(tokens);
        Ok(())
    }
}
