//! One process of a worker: its descriptors, its folder, and the task that reads it until it is gone.

use std::{
    fs,
    io::{self, Write},
    os::{
        fd::OwnedFd,
        unix::{fs::DirBuilderExt, net::UnixStream as StdUnixStream, process::ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
};

use command_fds::{CommandFdExt, FdMapping};
use model::{ByteSize, HandlerFault, Runtime};
use rand::RngCore;
use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{PidfdFlags, Signal, pidfd_open},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::{UnixStream, unix::pipe},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use crate::{
    cgroup::Group,
    exchange::Conn,
    house::House,
    inspect::Inspector,
    output::{self, Reader},
    runtime::{self, Boot, Load},
    runtime_api::{Api, Port},
    spawner::kill_group,
    version::Version,
    wire::Wire,
    worker::{Birth, Cause, Worker},
};

/// What a started process says first: ready, or why not.
pub type FirstWord = oneshot::Receiver<Result<(), HandlerFault>>;

/// What to start.
pub struct Plan<'a> {
    /// Program and arguments, the function's environment included.
    pub command: Command,
    /// What it will be.
    pub role: Role,
    /// What to load at boot; `None` for one that is told later.
    pub load: Option<Load<'a>>,
    /// How invocations reach it.
    pub door: Door,
}

/// What a process is as a worker.
#[derive(Clone, Copy)]
pub struct Role {
    /// What runs it.
    pub runtime: Runtime,
    /// Limit on its anonymous memory.
    pub memory: ByteSize,
    /// Invocations at once.
    pub concurrency: u32,
}

impl Role {
    /// What a worker of this version is.
    pub fn of(version: &Version) -> Role {
        Role {
            runtime: version.settings.runtime,
            memory: version.settings.memory,
            concurrency: version.settings.concurrency,
        }
    }
}

/// How invocations reach a process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// It listens on a socket in its folder.
    Listens,
    /// It was born with a connected socket as descriptor 4.
    Connected,
    /// It calls our end of the Runtime API.
    Calls,
}

/// A process that was started and is nobody's worker yet.
pub struct Process {
    ordinal: u64,
    folder: PathBuf,
    nonce: String,
    socket: Option<PathBuf>,
    port: Option<Port>,
    child: Child,
    lifeline: Option<ChildStdin>,
    control: OwnedFd,
    conn: Option<Box<Conn>>,
    group: Option<Group>,
}

/// A process that was started, and what it says first.
pub struct Started {
    /// The worker.
    pub worker: Arc<Worker>,
    /// Ready, or why not; gone without a word means that it died.
    pub first_word: FirstWord,
}

/// Starts a process and the task that reads it.
pub async fn start(house: &Arc<House>, plan: Plan<'_>) -> io::Result<Started> {
    let role = plan.role;
    boot(house, plan).await?.adopt(house, role)
}

/// Starts a process, in its own process group and control group, with a scrubbed environment.
pub async fn boot(house: &Arc<House>, plan: Plan<'_>) -> io::Result<Process> {
    let ordinal = house.ordinal();
    let folder = house.options.run_dir.join(format!("w{ordinal}"));
    fs::DirBuilder::new().mode(0o700).create(&folder)?;
    let nonce = nonce();
    let socket = (plan.door == Door::Listens).then(|| folder.join("s"));
    // Whoever calls us needs no mark: it is our end that marks what it says.
    let is_caller = plan.door == Door::Calls;
    let boot = serde_json::to_string(&Boot {
        nonce: (!is_caller).then_some(&*nonce),
        socket: socket.as_deref(),
        memory_mb: plan.role.memory.0 >> 20,
        load: plan.load,
    })?;
    let mut command = plan.command;
    let port = match plan.door {
        Door::Calls => Some(Port::bind()?),
        Door::Listens | Door::Connected => None,
    };
    if let Some(port) = &port {
        command.env("AWS_LAMBDA_RUNTIME_API", port.address().to_string());
    }
    let groups = house.groups.as_ref();
    let group =
        groups.and_then(|groups| groups.make(&format!("w{ordinal}"), plan.role.memory).ok());
    if let Some(group) = &group {
        group.be_joined_by(&mut command);
    }
    let boot = Some(boot).filter(|_| plan.role.runtime != Runtime::Provided);
    let mut spawned = spawn(house, command, &folder, boot, plan.door).await?;
    Ok(Process {
        ordinal,
        folder,
        nonce,
        socket,
        port,
        lifeline: spawned.child.stdin.take(),
        child: spawned.child,
        control: spawned.control,
        conn: spawned.conn,
        group,
    })
}

impl Process {
    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Tells a process that waits for it what to load, as one line on its lifeline.
    /// Blocks when the line is longer than a pipe holds and the process does not read.
    pub fn tell(&mut self, line: &str) -> io::Result<()> {
        let lifeline = self.lifeline.as_mut();
        let lifeline = lifeline.ok_or_else(|| io::Error::other("the child has no lifeline"))?;
        lifeline.write_all(line.as_bytes())
    }

    /// Ends a process that is nobody's worker.
    pub fn discard(mut self, house: &House) {
        kill_group(self.child.id(), Signal::KILL);
        self.child.wait().ok();
        house.spawner.forget(self.child.id());
        remove_folder(self.folder);
    }

    /// Makes it a worker, and starts the task that reads it.
    pub fn adopt(self, house: &Arc<House>, role: Role) -> io::Result<Started> {
        let Process {
            mut child,
            group,
            port,
            ..
        } = self;
        let (say, first_word) = oneshot::channel();
        let (api, say, port) = match port {
            Some(port) => (
                Some(Api::new(house, role.concurrency, say)),
                None,
                Some(port),
            ),
            None => (None, Some(say), None),
        };
        let (drain, drains) = mpsc::unbounded_channel();
        let worker = Arc::new(Worker::new(Birth {
            ordinal: self.ordinal,
            runtime: role.runtime,
            pid: child.id(),
            memory: role.memory,
            nonce: self.nonce,
            socket: self.socket,
            folder: self.folder,
            concurrency: role.concurrency,
            conn: self.conn,
            api,
            now: house.ticks(),
            drain,
        }));
        if let (Some(api), Some(port)) = (&worker.api, port) {
            api.serve(&worker, port);
        }
        house.add(&worker);
        let pid = worker.pid;
        let group = tokio::task::spawn_blocking(move || {
            group.inspect(|group| {
                group.limit(role.memory).ok();
                group.hold(pid);
            })
        });
        let pipes = match open_pipes(self.control, &mut child) {
            Ok(pipes) => pipes,
            Err(error) => {
                kill_group(worker.pid, Signal::KILL);
                reap(house, &worker, child, false);
                return Err(error);
            }
        };
        let life = Life {
            child,
            _lifeline: self.lifeline,
            group,
            pipes,
        };
        let supervision = supervise(house.clone(), worker.clone(), life, drains, say);
        house.tasks.spawn(supervision);
        Ok(Started { worker, first_word })
    }
}

/// A process, our end of its control pipe, and for an isolate child its one connection.
struct Spawned {
    child: Child,
    control: OwnedFd,
    conn: Option<Box<Conn>>,
}

/// Gives the process its descriptors and its environment, and starts it.
async fn spawn(
    house: &House,
    mut command: Command,
    folder: &Path,
    boot: Option<String>,
    door: Door,
) -> io::Result<Spawned> {
    runtime::scrub(&mut command, folder);
    if let Some(boot) = boot {
        command.env("BUNGEE_BOOT", boot);
    }
    let (control, control_end) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut mappings = vec![FdMapping {
        parent_fd: control_end,
        child_fd: 3,
    }];
    let mut conn = None;
    if door == Door::Connected {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        mappings.push(FdMapping {
            parent_fd: OwnedFd::from(theirs),
            child_fd: 4,
        });
        conn = Some(
            Conn::new(Wire::Socket(UnixStream::from_std(ours)?))
                .await
                .map_err(io::Error::other)?,
        );
    }
    command.fd_mappings(mappings).map_err(io::Error::other)?;
    let stdin = match door {
        Door::Calls => Stdio::null(),
        Door::Listens | Door::Connected => Stdio::piped(),
    };
    command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(Spawned {
        child: house.spawner.spawn(command).await?,
        control,
        conn,
    })
}

/// What user code cannot know: 128 random bits.
fn nonce() -> String {
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    hex::encode(bytes)
}

/// Our ends of what the process writes to, and the watch on its life.
struct Pipes {
    control: pipe::Receiver,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
    life: AsyncFd<OwnedFd>,
}

fn open_pipes(control: OwnedFd, child: &mut Child) -> io::Result<Pipes> {
    let gone = || io::Error::other("the child has no such pipe");
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .ok_or_else(gone)?;
    let stdout = child.stdout.take().ok_or_else(gone)?;
    let stderr = child.stderr.take().ok_or_else(gone)?;
    Ok(Pipes {
        control: pipe::Receiver::from_owned_fd(control)?,
        stdout: pipe::Receiver::from_owned_fd(OwnedFd::from(stdout))?,
        stderr: pipe::Receiver::from_owned_fd(OwnedFd::from(stderr))?,
        life: watch_life(pidfd_open(pid, PidfdFlags::empty())?)?,
    })
}

/// A process descriptor becomes readable when its process ends (pidfd_open(2)).
fn watch_life(life: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by the returned value and nothing closes or replaces it before.
    #[expect(
        unsafe_code,
        reason = "tokio cannot know that an owned descriptor stays open"
    )]
    unsafe {
        AsyncFd::register_with_interest(life, Interest::READABLE).map_err(io::Error::from)
    }
}

/// What a process is to us while it lives.
struct Life {
    child: Child,
    /// Its end tells the process that the server is gone.
    _lifeline: Option<ChildStdin>,
    group: JoinHandle<Option<Group>>,
    pipes: Pipes,
}

/// Reads the process until it is gone, then reaps it.
async fn supervise(
    house: Arc<House>,
    worker: Arc<Worker>,
    process: Life,
    mut drains: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    say: Option<oneshot::Sender<Result<(), HandlerFault>>>,
) {
    let Life {
        child,
        _lifeline,
        group,
        pipes,
    } = process;
    let Pipes {
        mut control,
        mut stdout,
        mut stderr,
        life,
    } = pipes;
    let mut reader = Reader::new(&house, &worker, say);
    let mut buffer = vec![0; output::CHUNK];
    let mut is_open = [true; 3];
    loop {
        tokio::select! {
            biased;
            ready = control.readable(), if is_open[0] => is_open[0] = ready.is_ok() && reader.control(&control, &mut buffer),
            ready = stdout.readable(), if is_open[1] => is_open[1] = ready.is_ok() && reader.raw(&stdout, &mut buffer, output::STDOUT),
            ready = stderr.readable(), if is_open[2] => is_open[2] = ready.is_ok() && reader.raw(&stderr, &mut buffer, output::STDERR),
            Some(done) = drains.recv() => {
                reader.drain(&mut control, &mut stdout, &mut stderr, &mut buffer);
                done.send(()).ok();
            }
            _ = life.readable() => break,
        }
    }
    // First whatever it started, so that nobody writes to the pipes any more; then what they still hold.
    worker.gate.close();
    kill_group(worker.pid, Signal::KILL);
    let group = group.await.ok().flatten();
    let is_out_of_memory = group.as_ref().is_some_and(Group::was_out_of_memory);
    drop(group);
    reader.drain(&mut control, &mut stdout, &mut stderr, &mut buffer);
    reader.finish();
    drop(reader);
    reap(&house, &worker, child, is_out_of_memory);
    drains.close();
}

/// Takes the exit status and removes what the worker had. The kernel may have killed for memory before we did.
fn reap(house: &House, worker: &Worker, mut child: Child, kernel_ran_out: bool) {
    if let Ok(exit) = child.wait() {
        if kernel_ran_out && exit.signal() == Some(Signal::KILL.as_raw()) {
            worker.cause.set(Cause::OutOfMemory(worker.memory)).ok();
        }
        worker.exit.set(exit).ok();
    }
    house.spawner.forget(worker.pid);
    house.remove(worker);
    remove_folder(worker.folder.clone());
    if let Some(Inspector::Socket(socket)) = worker.inspector.get() {
        fs::remove_file(socket).ok();
    }
    worker.slots.iter().for_each(|slot| slot.waker.wake());
    worker.gone.cancel();
    if let Some(api) = &worker.api {
        api.close();
    }
}

fn remove_folder(folder: PathBuf) {
    if let Err(error) = fs::remove_dir_all(&folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "cannot remove the folder of an ended worker");
    }
}
