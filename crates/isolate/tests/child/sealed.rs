//! What the seal takes away from the process.

use std::{
    os::unix::process::ExitStatusExt,
    process::{Command, ExitCode, ExitStatus},
};

use crate::{
    Test,
    child::{Child, MEMORY_MB},
};

pub const TESTS: &[Test] = &[
    (
        "calls_that_reach_out_kill_the_child",
        calls_that_reach_out_kill_the_child,
    ),
    ("files_are_refused", files_are_refused),
    ("harmless_calls_still_work", harmless_calls_still_work),
    (
        "a_child_leaves_when_the_connection_closes",
        a_child_leaves_when_the_connection_closes,
    ),
];

/// Ends with these when the call failed, or did not.
const REFUSED: u8 = 7;
const DONE: u8 = 8;

/// In the process that was started for it: seals it, then makes the call.
pub fn make_call(call: &str) -> ExitCode {
    isolate::inside::seal(MEMORY_MB).unwrap();
    let (number, [a, b, c]): (i64, [i64; 3]) = match call {
        "socket" => (
            libc::SYS_socket,
            [libc::AF_INET.into(), libc::SOCK_STREAM.into(), 0],
        ),
        "unix socket" => (
            libc::SYS_socket,
            [libc::AF_UNIX.into(), libc::SOCK_STREAM.into(), 0],
        ),
        "connect" => (libc::SYS_connect, [4, 0, 0]),
        "clone" => (libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0]),
        "clone3" => (libc::SYS_clone3, [0, 0, 0]),
        "execve" => (libc::SYS_execve, [c"/bin/true".as_ptr() as i64, 0, 0]),
        "kill" => (libc::SYS_kill, [1, 0, 0]),
        "ptrace" => (libc::SYS_ptrace, [0, 0, 0]),
        "unlink" => (
            libc::SYS_unlinkat,
            [libc::AT_FDCWD.into(), c"/tmp/x".as_ptr() as i64, 0],
        ),
        "prctl" => (libc::SYS_prctl, [0, 0, 0]),
        "executable memory" => (
            libc::SYS_mmap,
            [0, 4096, (libc::PROT_EXEC | libc::PROT_READ).into()],
        ),
        "open" => (
            libc::SYS_openat,
            [libc::AT_FDCWD.into(), c"/etc/passwd".as_ptr() as i64, 0],
        ),
        "getpid" => (libc::SYS_getpid, [0, 0, 0]),
        "memory" => (libc::SYS_mmap, [0, 4096, libc::PROT_READ.into()]),
        other => panic!("no call {other}"),
    };
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: no call here touches memory of this program.
    #[expect(unsafe_code, reason = "calls that no library would make")]
    let answer = unsafe { libc::syscall(number, a, b, c, flags, -1, 0) };
    ExitCode::from(if answer < 0 { REFUSED } else { DONE })
}

fn after(call: &str) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .env("BUNGEE_TEST_CALL", call)
        .status()
        .unwrap()
}

fn calls_that_reach_out_kill_the_child() {
    for call in [
        "socket",
        "unix socket",
        "connect",
        "clone",
        "clone3",
        "execve",
        "kill",
        "ptrace",
        "unlink",
        "prctl",
        "executable memory",
    ] {
        assert_eq!(after(call).signal(), Some(libc::SIGSYS), "{call}");
    }
}

fn files_are_refused() {
    assert_eq!(after("open").code(), Some(REFUSED.into()));
}

fn harmless_calls_still_work() {
    for call in ["getpid", "memory"] {
        assert_eq!(after(call).code(), Some(DONE.into()), "{call}");
    }
}

fn a_child_leaves_when_the_connection_closes() {
    assert!(Child::blank().leave().success());
    let mut child = Child::event("export default () => 1");
    child.send(&serde_json::Value::Null);
    assert!(child.leave().success());
}
