//! What this machine has for workers, for whoever looks for the cause of a trouble. Starts nothing of a user's.

use std::{
    io,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::cgroup::Groups;

/// A program that says its version takes milliseconds; one that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two looks at a program that has not ended yet.
const PAUSE: Duration = Duration::from_millis(5);

/// The first line that `PROGRAM --version` prints. Blocks for as long as that takes.
pub fn version_of(program: &Path) -> io::Result<String> {
    let output = run(Command::new(program).arg("--version"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().next() {
        Some(line) if output.status.success() => Ok(line.trim().to_owned()),
        Some(_) | None => Err(io::Error::other(format!(
            "`--version` ended with {} and said nothing",
            output.status
        ))),
    }
}

/// Seals a child of our own program like an isolate's, and lists the layers that this machine does not give.
/// Blocks for as long as that takes.
///
/// # Errors
/// It cannot be sealed at all.
pub fn seal_gaps(program: &Path) -> io::Result<Vec<String>> {
    let output = run(Command::new(program).arg("isolate-seal"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(io::Error::other(why));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().map(str::to_owned).collect())
}

/// Whether workers get control groups of their own.
pub fn has_groups() -> bool {
    Groups::prepare().is_some()
}

/// Runs a program that says little, to its end.
fn run(command: &mut Command) -> io::Result<Output> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    match wait(&mut child) {
        Ok(()) => child.wait_with_output(),
        Err(error) => {
            // It may have ended meanwhile, which is as good.
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

fn wait(child: &mut Child) -> io::Result<()> {
    let started = Instant::now();
    while child.try_wait()?.is_none() {
        if started.elapsed() > PATIENCE {
            let message = format!("it did not end within {PATIENCE:?}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        sleep(PAUSE);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_none_says_so() {
        assert!(version_of(Path::new("/nowhere/bun")).is_err());
        assert!(version_of(Path::new("/bin/false")).is_err());
    }
}
