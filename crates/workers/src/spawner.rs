//! The one thread that starts processes, and the sentinel that outlives us by a moment.
//! The parent-death signal follows the *thread* that started a child, so this thread lives as long as the pools do.

use std::{
    fs,
    io::{self, Write},
    os::{
        fd::{BorrowedFd, RawFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitCode, Stdio},
    sync::{Mutex, mpsc},
    thread,
};

use rustix::{
    io::FdFlags,
    process::{Pid, Signal},
};
use tokio::sync::oneshot;

use crate::{cgroup, exec};

/// A request to start a process, and where its answer goes.
type Order = (Command, oneshot::Sender<io::Result<Child>>);

/// Handle of the starting thread.
pub struct Spawner {
    orders: mpsc::Sender<Order>,
    /// Lifeline of the sentinel, and its list of process groups; `None` once it is gone.
    sentinel: Mutex<Option<(Child, ChildStdin)>>,
}

impl Spawner {
    /// Starts the thread, and the sentinel from our own `program`.
    pub fn start(program: &Path, groups: Option<&Path>) -> io::Result<Spawner> {
        keep_to_ourselves()?;
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                for (mut command, answer) in inbox {
                    // A caller that has left meanwhile must not leave a process behind.
                    if let Err(Ok(mut child)) = answer.send(command.spawn()) {
                        child.kill().and_then(|()| child.wait()).ok();
                    }
                }
            })?;
        let mut sentinel = Command::new(program)
            .arg("sentinel")
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let mut list = sentinel.stdin.take();
        if let (Some(list), Some(groups)) = (list.as_mut(), groups) {
            writeln!(list, "={}", groups.display()).ok();
        }
        Ok(Spawner {
            orders,
            sentinel: Mutex::new(list.map(|list| (sentinel, list))),
        })
    }

    /// Starts `command`, which says its whole environment, in a process group of its own, killed when we die.
    pub async fn spawn(&self, mut command: Command) -> io::Result<Child> {
        die_with_parent(&mut command);
        command.process_group(0);
        exec::by_the_kernel(&mut command)?;
        let (answer, started) = oneshot::channel();
        let gone = || io::Error::other("the starting thread is gone");
        self.orders.send((command, answer)).map_err(|_| gone())?;
        let child = started.await.map_err(|_| gone())??;
        self.tell_sentinel('+', child.id());
        Ok(child)
    }

    /// Tells the sentinel that a group is gone and its number may be another's soon.
    pub fn forget(&self, group: u32) {
        self.tell_sentinel('-', group);
    }

    fn tell_sentinel(&self, sign: char, group: u32) {
        let mut sentinel = self
            .sentinel
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((_, list)) = sentinel.as_mut()
            && writeln!(list, "{sign}{group}").is_err()
        {
            *sentinel = None;
        }
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        let mut sentinel = self
            .sentinel
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((mut child, list)) = sentinel.take() {
            drop(list);
            child.wait().ok();
        }
    }
}

/// Whoever started us may have left descriptors open that our children must not inherit: from now on none of them does.
fn keep_to_ourselves() -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let Some(number) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<RawFd>().ok())
        else {
            continue;
        };
        if number <= 2 {
            continue;
        }
        // SAFETY: the descriptor is only marked. One that was closed meanwhile, as that of this very listing will be, is an error that is ignored.
        #[expect(unsafe_code, reason = "what others opened has no owner here")]
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC).ok();
    }
    Ok(())
}

/// Asks the kernel to kill the child when the starting thread dies, and checks that it was not too late.
fn die_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    let ask = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid() != Some(parent) {
            return Err(io::Error::other(
                "the server died while it started this worker",
            ));
        }
        Ok(())
    };
    // SAFETY: the closure makes two plain system calls and allocates only when it fails.
    #[expect(unsafe_code, reason = "there is no other place between fork and exec")]
    unsafe {
        command.pre_exec(ask);
    }
}

/// Kills a whole process group at once; a group that is gone is fine.
pub fn kill_group(group: u32, signal: Signal) {
    if let Some(group) = i32::try_from(group).ok().and_then(Pid::from_raw) {
        rustix::process::kill_process_group(group, signal).ok();
    }
}

/// The sentinel process: reads `=FOLDER` (of control groups), `+GROUP` and `-GROUP` lines until its input ends, which is when the server is gone,
/// however it went; then kills what is left. The workers themselves die by the parent-death signal; this is for
/// the processes that user code started.
pub fn run_sentinel() -> ExitCode {
    let mut groups = std::collections::HashSet::new();
    let mut folder = None;
    for line in io::stdin().lines().map_while(Result::ok) {
        let (sign, rest) = line.split_at(1.min(line.len()));
        match (sign, rest.parse::<u32>()) {
            ("=", _) => folder = Some(PathBuf::from(rest)),
            ("+", Ok(group)) => drop(groups.insert(group)),
            ("-", Ok(group)) => drop(groups.remove(&group)),
            _ => {}
        }
    }
    groups
        .into_iter()
        .for_each(|group| kill_group(group, Signal::KILL));
    if let Some(folder) = folder {
        cgroup::remove_all(&folder);
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_descriptor_of_whoever_started_us_is_inherited() {
        let file = fs::File::open("/dev/null").unwrap();
        let inherited = rustix::io::dup(&file).unwrap();
        assert_eq!(rustix::io::fcntl_getfd(&inherited), Ok(FdFlags::empty()));
        keep_to_ourselves().unwrap();
        assert_eq!(rustix::io::fcntl_getfd(&inherited), Ok(FdFlags::CLOEXEC));
    }
}
