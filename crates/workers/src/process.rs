//! One process of a worker: its descriptors, its folder, and the task that reads it until it is gone.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{fs::DirBuilderExt, net::UnixStream as StdUnixStream, process::ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
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
    output::{self, Reader},
    runtime::{self, Boot, Load},
    spawner::kill_group,
    worker::{Birth, Cause, Worker},
};

/// What a started process says first: ready, or why not.
pub type FirstWord = oneshot::Receiver<Result<(), HandlerFault>>;

/// What to start.
pub struct Plan<'a> {
    /// Program and arguments, the function's environment included.
    pub command: Command,
    /// What runs it.
    pub runtime: Runtime,
    /// Limit on its anonymous memory.
    pub memory: ByteSize,
    /// Invocations at once.
    pub concurrency: u32,
    /// What to load at boot; `None` for a blank isolate child, which gets a connected socket as descriptor 4.
    pub load: Option<Load<'a>>,
}

/// A process that was started, and what it says first.
pub struct Started {
    /// The worker.
    pub worker: Arc<Worker>,
    /// Ready, or why not; gone without a word means that it died.
    pub first_word: FirstWord,
}

/// Starts a process and the task that reads it. It is in its own process group, with a scrubbed environment.
pub async fn start(house: &Arc<House>, plan: Plan<'_>) -> io::Result<Started> {
    let ordinal = house.ordinal();
    let folder = house.options.run_dir.join(format!("w{ordinal}"));
    fs::DirBuilder::new().mode(0o700).create(&folder)?;
    let nonce = nonce();
    let socket = plan.load.is_some().then(|| folder.join("s"));
    let memory_mb = plan.memory.0 >> 20;
    let boot = serde_json::to_string(&Boot {
        nonce: &nonce,
        socket: socket.as_deref(),
        memory_mb,
        load: plan.load,
    })?;
    let mut command = plan.command;
    let groups = house.groups.as_ref();
    let group = groups.and_then(|groups| groups.make(&format!("w{ordinal}"), plan.memory).ok());
    let is_joined = group
        .as_ref()
        .is_none_or(|group| group.is_joined_by(&mut command));
    let Spawned {
        mut child,
        control,
        conn,
    } = spawn(house, command, &folder, &boot, socket.is_none()).await?;
    let (drain, drains) = mpsc::unbounded_channel();
    let worker = Arc::new(Worker::new(Birth {
        ordinal,
        runtime: plan.runtime,
        pid: child.id(),
        memory: plan.memory,
        nonce,
        socket,
        folder,
        concurrency: plan.concurrency,
        conn,
        now: house.ticks(),
        drain,
    }));
    house.add(&worker);
    let pid = worker.pid;
    let group = tokio::task::spawn_blocking(move || {
        group.inspect(|group| {
            if !is_joined {
                group.add(pid);
            }
        })
    });
    let (say, first_word) = oneshot::channel();
    let pipes = match open_pipes(control, &mut child) {
        Ok(pipes) => pipes,
        Err(error) => {
            kill_group(worker.pid, Signal::KILL);
            reap(house, &worker, child, false);
            return Err(error);
        }
    };
    house.tasks.spawn(supervise(
        house.clone(),
        worker.clone(),
        Life {
            child,
            group,
            pipes,
        },
        drains,
        say,
    ));
    Ok(Started { worker, first_word })
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
    boot: &str,
    is_connected: bool,
) -> io::Result<Spawned> {
    runtime::scrub(&mut command, folder);
    command.env("BUNGEE_BOOT", boot);
    let (control, control_end) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut mappings = vec![FdMapping {
        parent_fd: control_end,
        child_fd: 3,
    }];
    let mut conn = None;
    if is_connected {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        mappings.push(FdMapping {
            parent_fd: OwnedFd::from(theirs),
            child_fd: 4,
        });
        conn = Some(
            Conn::new(UnixStream::from_std(ours)?)
                .await
                .map_err(io::Error::other)?,
        );
    }
    command.fd_mappings(mappings).map_err(io::Error::other)?;
    command
        .stdin(Stdio::piped())
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

/// What a process is to us while it lives. `child` holds the lifeline.
struct Life {
    child: Child,
    group: JoinHandle<Option<Group>>,
    pipes: Pipes,
}

/// Reads the process until it is gone, then reaps it.
async fn supervise(
    house: Arc<House>,
    worker: Arc<Worker>,
    process: Life,
    mut drains: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    say: oneshot::Sender<Result<(), HandlerFault>>,
) {
    let Life {
        child,
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
    worker.slots.iter().for_each(|slot| slot.waker.wake());
    worker.gone.cancel();
}

fn remove_folder(folder: PathBuf) {
    if let Err(error) = fs::remove_dir_all(&folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "cannot remove the folder of an ended worker");
    }
}
