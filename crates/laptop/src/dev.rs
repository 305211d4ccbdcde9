//! `dev`: the same server as `serve`, in this process, plus a watcher that calls the same deploy.
//! Tells what happens through a channel and prints nothing.

mod attempt;
mod folder;
mod saves;

mod watch;

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, DirBuilder},
    io,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use build::{ConfigError, Project, Tools};
use model::{FunctionId, Limits, Name, VersionNumber};
use server::Server;
use tokio::{
    sync::{mpsc::UnboundedSender, watch::Receiver},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{Address, ApiError, Client},
    deploy::{DeployError, Deployed},
    remote::Borrowed,
};
use folder::{Folder, Place};
use watch::Watch;

/// The folder inside the project's that holds everything `dev` keeps.
const STATE: &str = ".bungee";

/// How to run `dev`.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder with the functions.
    pub dir: PathBuf,
    /// Where to listen.
    pub listen: Vec<SocketAddr>,
    /// Where to speak frames over TCP, if anywhere.
    pub frames_listen: Option<SocketAddr>,
    /// Take the next free port where one is taken, instead of failing.
    pub next_free_port: bool,
    /// How long work in flight may go on at the end.
    pub grace: Duration,
    /// Every limit.
    pub limits: Limits,
    /// Our own program, which is started again as a worker.
    pub program: PathBuf,
    /// Where runtimes are looked for.
    pub path: OsString,
    /// Let other laptops attach.
    pub live: bool,
    /// Let debuggers attach.
    pub inspect: Option<Inspect>,
    /// The server whose functions lend theirs their environment.
    pub lender: Option<Client>,
}

/// The ports of debuggers.
#[derive(Debug, Clone, Copy)]
pub struct Inspect {
    /// The first; each further function gets one of the next.
    pub port: u16,
    /// Whether the first must be this one, instead of the next that is free.
    pub is_explicit: bool,
}

/// What happens while `dev` runs.
#[derive(Debug)]
pub enum Event {
    /// Calls reach this now.
    Deployed {
        /// What was deployed.
        deployed: Deployed,
        /// What works, but perhaps not as meant.
        warnings: Vec<String>,
    },
    /// A function has no working new version.
    Broken {
        /// The function.
        function: Name,
        /// Why.
        error: DeployError,
        /// What calls still reach, if anything.
        serving: Option<VersionNumber>,
    },
    /// The folder is no project any more; everything that ran still runs.
    NoProject(ConfigError),
    /// The folder has no such function any more: calls find it no more, and its versions stay.
    Left {
        /// The function.
        function: FunctionId,
    },
    /// A function has the environment of the deployed one of its name.
    Borrowed(Borrowed),
    /// It has not; it runs with its own.
    NotBorrowed {
        /// The function.
        function: FunctionId,
        /// Why.
        error: ApiError,
    },
    /// A build does something that takes long.
    Busy(String),
    /// The system gives no notifications: files are looked at now and then.
    Polls,
    /// Files cannot be watched at all; saves are not seen.
    Blind(notify::Error),
}

/// Why `dev` does not start.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// The folder is no project.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The folder cannot hold what `dev` keeps.
    #[error("cannot keep state in {}", folder.display())]
    State {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The server does not start.
    #[error(transparent)]
    Server(#[from] server::StartError),
    /// The server started and does not answer on its own socket.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// A running `dev`.
pub struct Dev {
    server: Server,
    client: Client,
    home: Name,
    names: BTreeSet<Name>,
    ready: Receiver<BTreeSet<FunctionId>>,
    stopping: CancellationToken,
    tasks: JoinSet<()>,
}

impl Dev {
    /// Starts the server, deploys every function, and watches. Returns when each function is deployed or told to be broken.
    pub async fn start(options: Options, events: UnboundedSender<Event>) -> Result<Dev, DevError> {
        let project = Project::load(&options.dir)?;
        let root = options
            .dir
            .canonicalize()
            .map_err(|error| DevError::State {
                folder: options.dir.clone(),
                error,
            })?;
        // Watched before the first build, so that no save falls in between.
        let watch = Watch::start(&root);
        let state = root.join(STATE);
        prepare_state(&state)?;
        let home = project.name.clone();
        let names = project.functions.keys().cloned().collect();
        let hears = events.clone();
        let tools = Tools {
            is_for_debuggers: options.inspect.is_some(),
            heard: Some(Arc::new(move |line: &str| {
                // Nobody listens only while everything ends.
                let _nobody_listens = hears.send(Event::Busy(line.to_owned()));
            })),
            ..Tools::default()
        };
        let lender = options.lender.clone();
        let server = start_server(options, &state, &project).await?;
        let client = Client::new(Address::Socket(server.socket().to_owned()), None)?;
        let place = Place {
            root,
            out: state.join("build"),
        };
        let mut folder = Folder::new(
            client.clone(),
            server.workbench(),
            project,
            place,
            tools,
            events,
        );
        folder.lend(lender);
        let ready = folder.ready();
        folder.take_stock().await;
        folder.deploy_all().await;
        let stopping = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let until = stopping.clone();
        tasks.spawn(async move {
            until.run_until_cancelled(folder.follow(watch)).await;
        });
        Ok(Dev {
            server,
            client,
            home,
            names,
            ready,
            stopping,
            tasks,
        })
    }

    /// The server inside.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// A client of the server inside.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The folder's project.
    pub fn home(&self) -> &Name {
        &self.home
    }

    /// The functions of the folder, as it was at the start.
    pub fn names(&self) -> &BTreeSet<Name> {
        &self.names
    }

    /// The functions that have code that runs, as that changes.
    pub fn ready(&self) -> Receiver<BTreeSet<FunctionId>> {
        self.ready.clone()
    }

    /// Stops watching, and gives back the server, which still runs.
    pub async fn unwatch(mut self) -> Server {
        self.stopping.cancel();
        self.tasks.shutdown().await;
        self.server
    }
}

async fn start_server(
    options: Options,
    state: &Path,
    project: &Project,
) -> Result<Server, DevError> {
    let inspect = options.inspect.map(|inspect| server::Inspect {
        port: inspect.port,
        is_explicit: inspect.is_explicit,
        functions: debuggable(project),
    });
    let server = server::start(server::Options {
        listen: options.listen,
        frames_listen: options.frames_listen,
        next_free_port: options.next_free_port,
        data_dir: state.to_owned(),
        socket: None,
        home_project: project.name.clone(),
        require_token: false,
        live: options.live,
        log_jsonl: false,
        grace: options.grace,
        seal_key: None,
        limits: options.limits,
        inspect,
        program: options.program,
        path: options.path,
    })
    .await?;
    Ok(server)
}

/// The functions that a debugger can attach to, in the order in which they get their ports.
fn debuggable(project: &Project) -> Vec<FunctionId> {
    let functions = project.functions.iter();
    functions
        .filter(|(_, patch)| patch.runtime.is_some_and(server::is_debuggable))
        .map(|(name, _)| FunctionId {
            project: project.name.clone(),
            name: name.clone(),
        })
        .collect()
}

/// Makes the folder that holds everything `dev` keeps, and keeps it out of git.
fn prepare_state(state: &Path) -> Result<(), DevError> {
    let ignore = state.join(".gitignore");
    let prepare = || {
        // Code, env and logs lie in it: it is for its user alone.
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(state)?;
        if ignore.exists() {
            return Ok(());
        }
        fs::write(&ignore, "*\n")
    };
    prepare().map_err(|error| DevError::State {
        folder: state.to_owned(),
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_state_is_for_its_user_alone() {
        let root = tempfile::tempdir().unwrap();
        let state = root.path().join(STATE);
        prepare_state(&state).unwrap();
        let mode = fs::metadata(&state).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(fs::read_to_string(state.join(".gitignore")).unwrap(), "*\n");
    }
}
