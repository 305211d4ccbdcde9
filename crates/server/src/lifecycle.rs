//! Birth and death of a server: in which order things begin to live, and in which they end.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use model::{Clock, Limits, LogLine};
use store::{DataFolder, OpenError, Store};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{Mutex, broadcast, mpsc},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use workers::{Debuggers, Workers};

use crate::{
    Options, StartError, SystemClock, api,
    app::App,
    auth::Access,
    bunbase,
    deploys::{Deploys, Parts, Programs},
    door::Lines,
    gateway::Visitor,
    health::{self, Health},
    journal::{Ended, Journal},
    jsonl,
    keys::Seal,
    lambda::Underway,
    listen::{Entrance, SocketFile, bind_all, bind_unix, is_wide, places},
    live::Live,
    logs::LogHub,
    metrics::Metrics,
    queue::{self, Queue},
    registry::Registry,
    workbench::Workbench,
};

/// Workers of invocations whose callers have left get this long to end, once nobody else is waited for.
const LEFTOVERS: Duration = Duration::from_secs(1);

/// Callers whose invocations are cut off get this long to be told.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A server that runs. Dropping it without [`Server::stop`] cuts everything off.
pub struct Server {
    app: Arc<App>,
    logs: Arc<LogHub>,
    addresses: Vec<SocketAddr>,
    frames_at: Option<SocketAddr>,
    socket: SocketFile,
    debuggers: Option<Debuggers>,
    grace: Duration,
    connections: TaskTracker,
    tasks: TaskTracker,
    /// Taken by the one who stops the server.
    folder: Mutex<Option<DataFolder>>,
}

/// Starts a server: when this returns, its addresses answer. Call it inside a tokio runtime.
///
/// # Errors
/// Whatever keeps it from being a whole server; see [`StartError`]. Nothing stays behind.
pub async fn start(options: Options) -> Result<Server, StartError> {
    let data_dir =
        std::path::absolute(&options.data_dir).unwrap_or_else(|_| options.data_dir.clone());
    let limits = Arc::new(options.limits.clone());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let folder = DataFolder::open(&data_dir)?;
    let store = open_store(&folder, &limits, clock.clone()).await?;
    let access = access(&options, &store, &data_dir).await?;
    let doors = Doors::open(&options, &data_dir).await?;
    let files = || jsonl::line_files(data_dir.join("logs"), &limits);
    let (files, file_writer) = options.log_jsonl.then(files).unzip();
    let logs = Arc::new(LogHub::new(store.records(), files));
    let programs = Programs::find(&options);
    let workers = Workers::start(workers::Options {
        run_dir: data_dir.join("run"),
        limits: limits.clone(),
        clock: clock.clone(),
        program: options.program.clone(),
        bun: programs.bun.clone(),
        node: programs.node.clone(),
        python: programs.python.clone(),
        debuggers: doors.debuggers.clone(),
        logs: logs.clone(),
    })
    .map_err(StartError::Workers)?;
    let registry = Arc::new(Registry::new(options.home_project.clone()));
    let (live, live_inbox) = Live::open(registry.clone(), &options).await;
    let metrics = Arc::new(Metrics::new());
    let deploys = Deploys::new(Parts {
        store: store.clone(),
        workers: workers.clone(),
        registry: registry.clone(),
        channel: live.broker.clone(),
        data_dir: data_dir.clone(),
        limits: limits.clone(),
        programs,
        metrics: metrics.clone(),
        grace: options.grace,
    });
    deploys.load().await?;
    let queue = Arc::new(Queue::open(store.clone(), limits.clone()).await?);
    let app = Arc::new(App {
        live,
        logs: logs.clone(),
        journal: Arc::new(Journal::new(clock, store.records())),
        lines: Arc::new(Lines::new(&limits)),
        frames: Arc::new(bunbase::Room::new(&limits)),
        limits,
        home_project: options.home_project,
        data_dir,
        store,
        workers,
        registry,
        deploys,
        builds: Arc::default(),
        lambda: Underway::new(),
        queue,
        access,
        allows_live: options.live,
        metrics,
        health: Health::new(),
        stopping: CancellationToken::new(),
    });
    app.live.keep(&app.deploys.tasks, &app.stopping, live_inbox);
    let server = open(app, doors, logs, options.grace, folder);
    if let Some(writer) = file_writer {
        server.tasks.spawn(writer.run());
    }
    Ok(server)
}

/// The store of a folder; what did not stop it is said.
async fn open_store(
    folder: &DataFolder,
    limits: &Limits,
    clock: Arc<dyn Clock>,
) -> Result<Store, OpenError> {
    let (store, warnings) = Store::open(folder, limits, clock).await?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(store)
}

impl Programs {
    /// Those of the options' path.
    fn find(options: &Options) -> Programs {
        Programs {
            bun: workers::find_program("bun", &options.path),
            node: workers::find_program("node", &options.path),
            python: workers::find_program("python3", &options.path),
        }
    }
}

/// Who may do what; nobody could, from other machines, while there is no token.
async fn access(options: &Options, store: &Store, data_dir: &Path) -> Result<Access, StartError> {
    let tokens = store.tokens().await?;
    let seal = match &options.seal_key {
        Some(path) => Seal::at(path.clone())?,
        None => Seal::of(data_dir),
    };
    let wide = wide(options);
    match wide {
        Some(addr) if tokens.is_empty() => Err(StartError::NeedsToken {
            addr: *addr,
            data_dir: data_dir.to_owned(),
        }),
        Some(_) | None => {
            let is_open = wide.is_none() && !options.require_token;
            Ok(Access::new(tokens, seal, is_open))
        }
    }
}

/// An address that other machines reach.
pub(crate) fn wide(options: &Options) -> Option<&SocketAddr> {
    let mut listen = options.listen.iter().chain(&options.frames_listen);
    listen.find(|addr| is_wide(addr))
}

/// What clients come in by.
struct Doors {
    tcp: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    frames: Option<(TcpListener, SocketAddr)>,
    unix: UnixListener,
    socket: SocketFile,
    /// Those of debuggers.
    debuggers: Option<Debuggers>,
}

impl Doors {
    async fn open(options: &Options, data_dir: &Path) -> Result<Doors, StartError> {
        let (tcp, addresses) = bind_all(&options.listen, options.next_free_port)?;
        let frames: Vec<SocketAddr> = options.frames_listen.into_iter().collect();
        let (listeners, found) = bind_all(&frames, false)?;
        let path = options
            .socket
            .clone()
            .unwrap_or_else(|| data_dir.join("bungee.sock"));
        let path: PathBuf = std::path::absolute(&path).unwrap_or(path);
        let (unix, socket) = bind_unix(path).await?;
        let debuggers = match &options.inspect {
            Some(inspect) => {
                let port = inspect.port;
                let opened = Debuggers::open(inspect);
                Some(opened.map_err(|error| StartError::DebuggerPort { port, error })?)
            }
            None => None,
        };
        Ok(Doors {
            tcp,
            addresses,
            frames: listeners.into_iter().zip(found).next(),
            unix,
            socket,
            debuggers,
        })
    }
}

/// Lets clients in.
fn open(
    app: Arc<App>,
    doors: Doors,
    logs: Arc<LogHub>,
    grace: Duration,
    folder: DataFolder,
) -> Server {
    let (tasks, connections) = (app.deploys.tasks.clone(), TaskTracker::new());
    let (visited, api) = (app.clone(), api::router(app.clone()));
    let entrance = Entrance {
        greet: move |peer, line| Visitor {
            app: visited.clone(),
            api: api.clone(),
            peer,
            line,
        },
        lines: app.lines.clone(),
        limits: app.limits.clone(),
        connections: connections.clone(),
        closing: app.stopping.clone(),
    };
    let places = places(&app.limits);
    for listener in doors.tcp {
        tasks.spawn(entrance.clone().take_tcp(listener, places.clone()));
    }
    let frames_at = doors.frames.as_ref().map(|(_, address)| *address);
    let (socket, network) = (app.clone(), app.clone());
    if let Some((listener, _)) = doors.frames {
        let speak = move |stream, peer| bunbase::serve(network.clone(), stream, peer);
        tasks.spawn(entrance.clone().take_frames(listener, places, speak));
    }
    let speak = move |stream, peer| bunbase::serve(socket.clone(), stream, peer);
    tasks.spawn(entrance.take_unix(doors.unix, speak));
    tasks.spawn(health::become_ready(app.clone(), app.stopping.clone()));
    let (codes, stopping) = (app.clone(), app.stopping.clone());
    tasks.spawn(async move { codes.deploys.codes.keep_clean(stopping).await });
    tasks.spawn(queue::run(app.clone()));
    let sweeper = app.clone();
    tasks.spawn(async move {
        sweeper.lines.sweep(sweeper.stopping.clone()).await;
    });
    Server {
        app,
        logs,
        addresses: doors.addresses,
        frames_at,
        socket: doors.socket,
        debuggers: doors.debuggers,
        grace,
        connections,
        tasks,
        folder: Mutex::new(Some(folder)),
    }
}

impl Server {
    /// The TCP addresses that it listens on, with the ports that were found.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The TCP address at which frames are spoken, if there is one.
    pub fn frames_at(&self) -> Option<SocketAddr> {
        self.frames_at
    }

    /// The Unix socket.
    pub fn socket(&self) -> &Path {
        self.socket.path()
    }

    /// Where debuggers attach, if workers can be debugged.
    pub fn debuggers(&self) -> Option<&Debuggers> {
        self.debuggers.as_ref()
    }

    /// The end of every invocation from now on, for the line on the terminal; `None` if somebody has it already.
    /// Whoever takes it must read it: what does not fit is dropped.
    pub fn ended(&self) -> Option<mpsc::Receiver<Ended>> {
        self.app.journal.listen()
    }

    /// Every log line from now on.
    pub fn logs(&self) -> broadcast::Receiver<Arc<LogLine>> {
        self.logs.listen()
    }

    /// What `dev` does to this server besides deploying to it.
    pub fn workbench(&self) -> Workbench {
        Workbench {
            app: self.app.clone(),
        }
    }

    /// Whether the engine answered and the store could be written, and it is not going down.
    pub fn is_ready(&self) -> bool {
        self.app.health.is_ready()
    }

    /// Whether local programs need no token.
    pub fn is_open(&self) -> bool {
        self.app.access.is_open()
    }

    /// Goes down in good order: takes no more, lets what is in flight end within the grace, ends the workers,
    /// closes the store. A second call waits for the first, and does nothing.
    pub async fn stop(&self) {
        let mut folder = self.folder.lock().await;
        let Some(held) = folder.take() else {
            return;
        };
        let app = &self.app;
        let until = Instant::now() + self.grace;
        app.health.draining();
        app.queue.close();
        // Listeners close; followers of logs hear the end.
        app.stopping.cancel();
        app.lines.drain();
        self.connections.close();
        // What runs with developers may end too; then they hear goodbye, and their connections close.
        let farewell = async {
            let _in_time = timeout(self.grace, app.live.hosting.retire()).await;
            app.live.broker.close("the server goes down");
        };
        let draining = async { tokio::join!(farewell, self.connections.wait(), app.queue.ended()) };
        let is_drained = timeout(self.grace, draining).await.is_ok();
        app.live.broker.close("the server went down");
        if !is_drained {
            tracing::warn!(
                "the grace of {:?} is over; what is still in flight is cut off",
                self.grace
            );
        }
        app.journal.cutting();
        app.queue.cut_off();
        app.lines.cut();
        if timeout(LAST_WORDS, self.connections.wait()).await.is_err() {
            app.lines.sever();
            self.connections.wait().await;
        }
        app.queue.ended().await;
        let left = until.saturating_duration_since(Instant::now());
        app.workers.stop(left.min(LEFTOVERS)).await;
        self.logs.close();
        self.tasks.close();
        self.tasks.wait().await;
        if let Err(error) = app.store.close().await {
            tracing::error!(
                error = crate::bundles::chain(&error),
                "the last records could not be written"
            );
        }
        self.socket.remove();
        drop(held);
    }

    /// Ends at once: workers are killed, nothing is waited for. The caller exits next.
    pub fn kill(&self) {
        self.app.stopping.cancel();
        self.app.queue.cut_off();
        self.app.journal.cutting();
        self.app.lines.sever();
        self.app.workers.kill_all();
        self.socket.remove();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.app.stopping.cancel();
        self.app.queue.cut_off();
        self.app.journal.cutting();
        self.app.lines.sever();
    }
}
