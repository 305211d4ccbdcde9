//! A control group around each worker, where the system lets us make one: the kernel's own limit on memory behind ours,
//! and a hold on processes that left the worker's process group. Knows versions 1 and 2 (cgroups(7)).

use std::{
    fs, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{self, Command},
};

use model::ByteSize;
use rustix::process::{Pid, Signal};

/// Our own limit counts anonymous memory only and strikes first; the group also holds file pages and buffers.
const HEADROOM: u64 = 64 << 20;

/// How often a group is read again for processes that were being started while it was killed.
const KILL_ROUNDS: u32 = 20;

/// The folder under which workers get their groups.
#[derive(Debug)]
pub struct Groups {
    folder: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Groups {
    /// A folder of our own below our own group; `None` where that cannot be had, which is no fault.
    pub fn prepare() -> Option<Groups> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        let (mount, path, version) = find(&own, &mounts)?;
        let folder = mount
            .join(path.trim_start_matches('/'))
            .join(format!("bungee-{}", process::id()));
        fs::create_dir(&folder).ok()?;
        let groups = Groups { folder, version };
        if version == Version::Two
            && fs::write(groups.folder.join("cgroup.subtree_control"), "+memory").is_err()
        {
            return None;
        }
        Some(groups)
    }

    /// Where the groups of all workers lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// An empty group for one worker.
    pub fn make(&self, name: &str, memory: ByteSize) -> io::Result<Group> {
        let group = Group {
            folder: self.folder.join(name),
            version: self.version,
        };
        fs::create_dir(&group.folder)?;
        group.limit(memory)?;
        Ok(group)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        fs::remove_dir(&self.folder).ok();
    }
}

/// Mount point, our own path below it, and version of the hierarchy that limits memory.
fn find(own: &str, mounts: &str) -> Option<(PathBuf, String, Version)> {
    let mount_of = |kind: &str, option: &str| {
        mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (point, found, options) = (fields.next()?, fields.next()?, fields.next()?);
            let fits = found == kind
                && (option.is_empty() || options.split(',').any(|word| word == option));
            fits.then(|| PathBuf::from(point))
        })
    };
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        if controllers
            .split(',')
            .any(|controller| controller == "memory")
        {
            return Some((mount_of("cgroup", "memory")?, path.into(), Version::One));
        }
    }
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some((mount_of("cgroup2", "")?, path.into(), Version::Two))
}

/// The group of one worker; emptied and removed with it.
#[derive(Debug)]
pub struct Group {
    folder: PathBuf,
    version: Version,
}

impl Group {
    /// Limits the memory of its processes.
    pub fn limit(&self, memory: ByteSize) -> io::Result<()> {
        let file = match self.version {
            Version::One => "memory.limit_in_bytes",
            Version::Two => "memory.max",
        };
        let bytes = memory.0 + memory.0 / 4 + HEADROOM;
        fs::write(self.folder.join(file), bytes.to_string())
    }

    /// Makes the process that `command` starts a member from birth, where the kernel can do that without making others wait:
    /// a thread that moves itself is cheap, anything else stops every fork and exit of the machine for up to 15 ms.
    /// Only version 1 can: version 2 knows whole processes (cgroups(7), "threaded mode"). See [`Group::hold`].
    pub fn be_joined_by(&self, command: &mut Command) {
        let tasks = fs::OpenOptions::new()
            .write(true)
            .open(self.folder.join("tasks"));
        let (Version::One, Ok(tasks)) = (self.version, tasks) else {
            return;
        };
        let join = move || rustix::io::write(&tasks, b"0").map(drop).or(Ok(()));
        // SAFETY: the closure makes one plain system call and allocates nothing.
        #[expect(unsafe_code, reason = "there is no other place between fork and exec")]
        unsafe {
            command.pre_exec(join);
        }
    }

    /// Makes sure that a process which runs already is a member. Blocks, at times for 15 ms.
    pub fn hold(&self, pid: u32) {
        let procs = self.folder.join("cgroup.procs");
        let members = fs::read_to_string(&procs).unwrap_or_default();
        if members.lines().any(|member| member == pid.to_string()) {
            return;
        }
        if let Err(error) = fs::write(procs, pid.to_string()) {
            tracing::debug!(pid, %error, "cannot move a worker into its control group");
        }
    }

    /// Whether the kernel killed one of its processes for going past the limit.
    pub fn was_out_of_memory(&self) -> bool {
        let file = match self.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        };
        let counters = fs::read_to_string(self.folder.join(file)).unwrap_or_default();
        let kills = counters
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "));
        kills
            .and_then(|kills| kills.trim().parse::<u64>().ok())
            .is_some_and(|kills| kills > 0)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        remove(&self.folder);
    }
}

/// Ends all groups below this folder, and the folder; for the sentinel.
pub fn remove_all(folder: &Path) {
    for group in fs::read_dir(folder).into_iter().flatten().flatten() {
        if group.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&group.path());
        }
    }
    fs::remove_dir(folder).ok();
}

fn remove(group: &Path) {
    empty(group);
    fs::remove_dir(group).ok();
}

/// Kills every process of a group.
fn empty(folder: &Path) {
    for _ in 0..KILL_ROUNDS {
        let Ok(processes) = fs::read_to_string(folder.join("cgroup.procs")) else {
            return;
        };
        if processes.is_empty() {
            return;
        }
        for pid in processes
            .lines()
            .filter_map(|line| Pid::from_raw(line.parse().ok()?))
        {
            rustix::process::kill_process(pid, Signal::KILL).ok();
        }
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_found_where_they_are_mounted() {
        let mounts = "cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let one = find("4:memory:/a/b\n0::/c\n", mounts).unwrap();
        assert_eq!(
            one,
            ("/sys/fs/cgroup/memory".into(), "/a/b".into(), Version::One)
        );
        let two = find("0::/c\n", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n").unwrap();
        assert_eq!(two, ("/sys/fs/cgroup".into(), "/c".into(), Version::Two));
        assert!(find("0::/c\n", "").is_none());
    }
}
