//! Bundles of programs that speak the Lambda Runtime API themselves: the folder of the executable, as it is.
//! Looks at the program before it is sent, because the system's own words for a wrong one are few.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use crate::{
    error::{BuildError, Place},
    resolve::Folder,
    whole,
};

/// Bytes at the front of a program that say what it is.
const HEAD: u64 = 20;

/// How ELF names the machines that Bungee runs on, and what Rust and Go call them.
const MACHINES: [(u16, &str, &str); 3] = [
    (62, "x86_64", "amd64"),
    (183, "aarch64", "arm64"),
    (243, "riscv64", "riscv64"),
];

/// Checks the program and copies its folder; answers with its path in the bundle.
pub(crate) fn bundle(
    folder: &Folder,
    entry: &str,
    place: Option<Place>,
    out: &Path,
) -> Result<String, BuildError> {
    let shown = folder.shown(entry);
    check(&folder.real().join(entry), &shown).map_err(|error| error.at(place))?;
    let (root, name) = entry.rsplit_once('/').unwrap_or(("", entry));
    whole::copy(folder, root, out)?;
    let name = name.to_owned();
    if !out.join(&name).is_file() {
        let message = format!("{shown} is hidden, and hidden files are no part of a bundle");
        return Err(BuildError::new(None, message).hint("name it `bootstrap`"));
    }
    Ok(name)
}

/// Whether the system would start it.
fn check(program: &Path, shown: &str) -> Result<(), BuildError> {
    let failed = |error: io::Error| BuildError::io(format!("cannot read {shown}"), error);
    if !is_executable(&fs::metadata(program).map_err(failed)?) {
        let message = format!("{shown} is not executable, and the `provided` runtime starts it");
        return Err(BuildError::new(None, message).hint(format!("chmod +x {shown}")));
    }
    let mut head = Vec::new();
    let file = File::open(program).map_err(failed)?;
    file.take(HEAD).read_to_end(&mut head).map_err(failed)?;
    match what_is(&head) {
        Program::Script | Program::Elf(_) if cfg!(not(target_os = "linux")) => Ok(()),
        Program::Script => Ok(()),
        Program::Elf(machine) => check_machine(machine, shown),
        Program::Unknown if cfg!(target_os = "linux") => {
            let message =
                format!("{shown} is neither an ELF program nor a script that begins with `#!`");
            Err(BuildError::new(None, message).hint(
                "begin a script with a line like `#!/bin/sh`; build a program for Linux, in Go with `GOOS=linux`",
            ))
        }
        Program::Unknown => Ok(()),
    }
}

/// A program for another machine does not start here.
fn check_machine(machine: u16, shown: &str) -> Result<(), BuildError> {
    let here = std::env::consts::ARCH;
    let known = |is: &dyn Fn(&(u16, &str, &str)) -> bool| MACHINES.into_iter().find(|row| is(row));
    let Some((expected, _, go)) = known(&|(_, name, _)| *name == here) else {
        return Ok(());
    };
    if machine == expected {
        return Ok(());
    }
    let built = known(&|(number, _, _)| *number == machine).map_or_else(
        || format!("machine {machine} of ELF"),
        |(_, name, _)| name.to_owned(),
    );
    let message = format!("{shown} is built for {built}, and this machine is {here}");
    Err(BuildError::new(None, message).hint(format!(
        "build it for {here}: `GOARCH={go}` in Go, `--target {here}-unknown-linux-musl` in Rust"
    )))
}

/// What a file is, by its first bytes.
#[derive(Debug, PartialEq, Eq)]
enum Program {
    /// It names its interpreter.
    Script,
    /// For this machine.
    Elf(u16),
    Unknown,
}

fn what_is(head: &[u8]) -> Program {
    if head.starts_with(b"#!") {
        return Program::Script;
    }
    let (Some(order), Some(machine)) = (head.get(5), head.get(18..20)) else {
        return Program::Unknown;
    };
    if !head.starts_with(b"\x7fELF") {
        return Program::Unknown;
    }
    let machine = [machine[0], machine[1]];
    Program::Elf(match order {
        2 => u16::from_be_bytes(machine),
        _ => u16::from_le_bytes(machine),
    })
}

#[cfg(unix)]
fn is_executable(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o100 != 0
}

#[cfg(not(unix))]
fn is_executable(_: &fs::Metadata) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_by_its_first_bytes() {
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(18, 0);
        elf.extend([183, 0]);
        assert_eq!(what_is(&elf), Program::Elf(183));
        assert_eq!(what_is(b"#!/bin/sh\n"), Program::Script);
        assert_eq!(what_is(b"\x7fELF"), Program::Unknown);
        assert_eq!(
            what_is(b"echo hello, this is long enough"),
            Program::Unknown
        );
        assert_eq!(what_is(b""), Program::Unknown);
    }

    #[test]
    fn another_machine_is_named_with_the_way_out() {
        let other = if cfg!(target_arch = "x86_64") {
            183
        } else {
            62
        };
        let error = check_machine(other, "bootstrap").unwrap_err();
        assert!(error.message.contains("is built for"), "{error:?}");
        assert!(error.hint.unwrap().contains("GOARCH="));
        assert!(
            check_machine(8, "b")
                .unwrap_err()
                .message
                .contains("machine 8")
        );
    }
}
