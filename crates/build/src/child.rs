//! Tools that a build runs: a child in a process group of its own, its output kept, nothing left behind.
//! Not for user functions; those belong to the workers.

use std::{
    collections::VecDeque,
    io,
    process::{ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
};

/// Most output that is kept, in bytes; what came first goes first. Errors stand at the end.
const OUTPUT_MAX: usize = 256 << 10;

/// A child that has ended.
pub(crate) struct Ran {
    status: ExitStatus,
    /// The end of what it wrote to stdout and stderr, in the order in which it arrived.
    pub(crate) output: String,
}

impl Ran {
    /// Whether it ended with exit code 0.
    pub(crate) fn is_success(&self) -> bool {
        self.status.success()
    }

    /// How it ended, in words.
    pub(crate) fn how(&self) -> String {
        match self.status.code() {
            Some(code) => format!("exit code {code}"),
            None => self.status.to_string(),
        }
    }

    /// The last `count` lines of the output.
    pub(crate) fn last_lines(&self, count: usize) -> String {
        let lines: Vec<&str> = self.output.trim_end().lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

/// Runs to the end. If the future is dropped, the child and what it started are killed.
pub(crate) async fn run(mut command: Command) -> io::Result<Ran> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    #[cfg(unix)]
    command.process_group(0);
    let mut child = command.spawn()?;
    let group = Group { leader: child.id() };
    let tail = Mutex::new(VecDeque::new());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ends = async {
        let status = child.wait().await;
        // What the child left in the background would hold the pipes open for ever.
        drop(group);
        status
    };
    let (status, out, err) = tokio::join!(ends, keep(stdout, &tail), keep(stderr, &tail));
    out.and(err)?;
    let bytes = tail.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Ran {
        status: status?,
        output: String::from_utf8_lossy(&Vec::from(bytes)).into_owned(),
    })
}

/// Reads to the end, and keeps the end of what was read.
async fn keep(pipe: Option<impl AsyncRead + Unpin>, tail: &Mutex<VecDeque<u8>>) -> io::Result<()> {
    let Some(mut pipe) = pipe else {
        return Ok(());
    };
    let mut chunk = vec![0; 16 << 10];
    loop {
        let count = pipe.read(&mut chunk).await?;
        if count == 0 {
            return Ok(());
        }
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend(&chunk[..count]);
        let excess = tail.len().saturating_sub(OUTPUT_MAX);
        tail.drain(..excess);
    }
}

/// A process group that is killed when this is dropped.
struct Group {
    leader: Option<u32>,
}

impl Drop for Group {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(leader) = self.leader
            && let Some(leader) = i32::try_from(leader)
                .ok()
                .and_then(rustix::process::Pid::from_raw)
        {
            // Fails if nobody is left, which is what is wanted.
            let _ = rustix::process::kill_process_group(leader, rustix::process::Signal::KILL);
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn output_and_exit_are_kept() {
        let ran = run(shell("echo one; echo two >&2; exit 3")).await.unwrap();
        assert!(!ran.is_success());
        assert_eq!(ran.how(), "exit code 3");
        assert!(
            ran.output.contains("one\n") && ran.output.contains("two\n"),
            "{}",
            ran.output
        );
        assert_eq!(ran.last_lines(9).lines().count(), 2);
    }

    #[tokio::test]
    async fn what_a_command_leaves_in_the_background_ends_with_it() {
        let ran = run(shell("sleep 1000 & echo $!")).await.unwrap();
        assert!(ran.is_success());
        let pid = ran
            .output
            .trim()
            .parse()
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .unwrap();
        gone(pid).await;
    }

    #[tokio::test]
    async fn a_build_that_nobody_waits_for_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
        let running = tokio::spawn(run(shell(&script)));
        let pid = loop {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            if let Some(pid) = text
                .trim()
                .parse()
                .ok()
                .and_then(rustix::process::Pid::from_raw)
            {
                break pid;
            }
            tokio::task::yield_now().await;
        };
        running.abort();
        gone(pid).await;
    }

    /// Waits until a process has ended.
    async fn gone(pid: rustix::process::Pid) {
        while rustix::process::test_kill_process(pid).is_ok() && !is_zombie(pid) {
            tokio::task::yield_now().await;
        }
    }

    /// A dead child of a dead parent, waiting for init to look at it.
    fn is_zombie(pid: rustix::process::Pid) -> bool {
        let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
        std::fs::read_to_string(path).map_or(true, |stat| stat.contains(") Z "))
    }

    #[tokio::test]
    async fn endless_output_is_cut_at_the_front() {
        let ran = run(shell("yes 0123456789 | head -c 3000000; echo the end"))
            .await
            .unwrap();
        assert!(ran.output.len() <= OUTPUT_MAX + 4);
        assert!(ran.output.ends_with("the end\n"));
    }
}
