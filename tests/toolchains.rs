//! Compilers that functions are built with: a world of its own has an empty home, in which they would begin from nothing.

use std::{env, path::Path, process::Command};

use crate::serving::Plan;

impl Plan {
    /// Go and Rust find what they downloaded and built before; what is built here is kept for the next time.
    pub fn with_compilers(self) -> Plan {
        compilers()
            .into_iter()
            .fold(self, |plan, (name, value)| plan.variable(name, value))
    }

    /// Runs a command in the folder of the project with these compilers, for what takes longer than a test waits.
    pub fn builds(&self, command: &[&str]) {
        let built = Command::new(command[0])
            .args(&command[1..])
            .current_dir(self.home().join("project"))
            .envs(compilers())
            .output()
            .expect("it is installed");
        assert!(built.status.success(), "{built:?}");
    }
}

fn compilers() -> Vec<(&'static str, String)> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/examples");
    let mut variables = vec![("CARGO_TARGET_DIR", target.display().to_string())];
    let home = env::var("HOME").unwrap_or_default();
    for (name, folder) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
        let value = env::var(name).unwrap_or_else(|_| format!("{home}/{folder}"));
        variables.push((name, value));
    }
    for name in ["GOCACHE", "GOMODCACHE"] {
        let said = Command::new("go").args(["env", name]).output();
        let said = said.expect("Go is installed").stdout;
        variables.push((name, String::from_utf8_lossy(&said).trim().to_owned()));
    }
    variables
}
