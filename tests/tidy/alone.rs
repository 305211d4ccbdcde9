//! The server alone: no file, no setting, no network. What `dev` and the tests start is what users start.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Runs in a network namespace that holds nothing but its own loopback, where the default port is always free.
const START_ASK_STOP: &str = r#"
    ip link set lo up 2>/dev/null
    "$1" serve --data-dir "$2" & server=$!
    ready=no
    for _ in $(seq 600); do
        curl --silent --fail --output /dev/null http://127.0.0.1:9001/health/ready && ready=yes && break
        kill -0 "$server" 2>/dev/null || break
        sleep 0.05
    done
    kill "$server" 2>/dev/null
    wait "$server"
    echo "ready: $ready, exit: $?"
"#;

/// The binary beside this test, which `scripts/test` builds first.
fn bungee() -> PathBuf {
    let test = env::current_exe().expect("a test knows where it is");
    let deps = test.parent().expect("a test lies in a folder");
    let binary = deps.with_file_name("bungee");
    assert!(binary.exists(), "build it first: cargo build -p bungee");
    binary
}

fn without_network(bungee: &Path, data: &Path) -> Output {
    Command::new("unshare")
        .args(["--user", "--map-root-user", "--net"])
        .args(["sh", "-c", START_ASK_STOP, "sh"])
        .args([bungee, data])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", data)
        .output()
        .expect("unshare runs")
}

#[test]
fn the_server_starts_with_an_empty_folder_and_no_network() {
    let bungee = bungee();
    let data = env::temp_dir().join(format!("bungee-alone-{}", std::process::id()));
    fs::create_dir_all(&data).expect("a folder can be made");
    let output = without_network(&bungee, &data);
    fs::remove_dir_all(&data).expect("the folder can be removed");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("ready: yes, exit: 0"), "{said}\n{errors}");
}
