//! A folder that one worker sees as `/opt`, read-only, and nobody else: its layers.
//! A mount namespace of its own, made between fork and exec; without root, inside a user namespace of its own.

use std::{
    ffi::CString,
    io,
    os::unix::{ffi::OsStrExt, process::CommandExt},
    path::Path,
    process::Command,
};

use model::{ErrorType, Failure, Runtime};
use rustix::{
    fs::StatVfsMountFlags,
    fs::{Mode, OFlags},
    io::Errno,
    mount::{MountFlags, MountPropagationFlags, mount_bind, mount_change, mount_remount},
    process::{getegid, geteuid},
    thread::UnshareFlags,
};

use crate::runtime::PATH;

/// Where layers are seen.
const OPT: &str = "/opt";

/// Shows `folder` as `/opt` to what `command` starts, and names what layers bring to where their runtimes look.
pub fn show(command: &mut Command, runtime: Runtime, folder: &Path) -> io::Result<()> {
    prepend(command, "PATH", "/opt/bin", PATH);
    prepend(command, "LD_LIBRARY_PATH", "/opt/lib", "");
    match runtime {
        Runtime::Python => prepend(command, "PYTHONPATH", "/opt/python", ""),
        Runtime::Node | Runtime::Bun => {
            prepend(command, "NODE_PATH", "/opt/nodejs/node_modules", "");
        }
        Runtime::Isolate | Runtime::Provided => {}
    }
    let source = CString::new(folder.as_os_str().as_bytes())?;
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    let maps = [
        (c"/proc/self/setgroups", "deny".to_owned()),
        (c"/proc/self/uid_map", format!("{user} {user} 1")),
        (c"/proc/self/gid_map", format!("{group} {group} 1")),
    ];
    let mount = move || {
        match unshare(UnshareFlags::NEWNS) {
            Err(Errno::PERM) => {
                unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)?;
                for (file, line) in &maps {
                    let file = rustix::fs::open(*file, OFlags::WRONLY, Mode::empty())?;
                    rustix::io::write(&file, line.as_bytes())?;
                }
            }
            made => made?,
        }
        let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
        mount_change(c"/", private)?;
        mount_bind(source.as_c_str(), c"/opt")?;
        make_read_only()?;
        Ok(())
    };
    // SAFETY: the closure makes plain system calls on what was prepared before, and allocates nothing.
    #[expect(unsafe_code, reason = "there is no other place between fork and exec")]
    unsafe {
        command.pre_exec(mount);
    }
    Ok(())
}

/// All functions with the same layers share one folder, so none of them may change it.
fn make_read_only() -> rustix::io::Result<()> {
    let now = rustix::fs::statvfs(c"/opt")?.f_flag;
    let mut flags = MountFlags::BIND | MountFlags::RDONLY;
    // In a user namespace of its own nobody may drop what the mount below is bound to (mount_namespaces(7)).
    for (is_so, stays) in [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ] {
        if now.contains(is_so) {
            flags |= stays;
        }
    }
    mount_remount(c"/opt", flags, c"")
}

/// What a start fails with where the system lets us make no such view.
pub fn refused(error: &io::Error) -> Option<Failure> {
    let errno = Errno::from_raw_os_error(error.raw_os_error()?);
    let is_refused = [Errno::PERM, Errno::NOSPC, Errno::NOSYS, Errno::INVAL].contains(&errno);
    let message = format!(
        "cannot show the function's layers at {OPT}: this system lets us make no mount namespace ({error})"
    );
    is_refused.then(|| {
        Failure::new(ErrorType::InitError, message)
            .hint("run the server as root, or where users may make namespaces (`sysctl kernel.unprivileged_userns_clone=1`), or deploy the function without layers")
    })
}

fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: between fork and exec there is one thread, and its table of descriptors is its own already.
    #[expect(unsafe_code, reason = "namespaces are a thread's own matter")]
    unsafe {
        rustix::thread::unshare_unsafe(flags)
    }
}

/// Puts `first` before what the function's own environment says, or before `usual`.
fn prepend(command: &mut Command, name: &str, first: &str, usual: &str) {
    let own = command
        .get_envs()
        .find(|(known, _)| *known == name)
        .and_then(|(_, value)| value?.to_str().map(str::to_owned));
    let rest = own.unwrap_or_else(|| usual.to_owned());
    let value = match rest.as_str() {
        "" => first.to_owned(),
        rest => format!("{first}:{rest}"),
    };
    command.env(name, value);
}
