//! What keeps a server from starting, or a function from running: one clear line each, and nothing half-done.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
};

use crate::{process::until, serving::House};

const HELLO: &str = "export default () => new Response('hello')";

fn hello() -> House {
    House::serve().function("hello", |f| f.web(HELLO)).start()
}

/// One error line, and at most a hint.
fn is_short(said: &str) {
    let errors = said
        .lines()
        .filter(|line| line.starts_with("error:"))
        .count();
    assert_eq!(errors, 1, "{said}");
    assert!(
        !said.contains("panicked") && said.lines().count() <= 5,
        "{said}"
    );
}

#[test]
fn a_port_in_use_ends_with_3_and_is_named() {
    let house = hello();
    let said = House::serve()
        .flag("--listen")
        .flag(&house.address)
        .refuses();
    is_short(&said.stderr);
    said.ends(3).says(&house.address);
    house.get("/functions/hello").ok();
}

#[test]
fn dev_on_a_taken_port_that_was_asked_for_ends_with_3() {
    let house = hello();
    let plan = House::dev();
    let folder = plan.home().join("project");
    crate::project::put(&folder, "functions/a.js", HELLO);
    let said = crate::serving::cli_in(
        plan.home(),
        &["dev", folder.to_str().unwrap(), "--listen", &house.address],
    );
    said.ends(3).says(&house.address);
}

#[test]
fn a_data_folder_that_another_server_holds_is_refused() {
    let house = hello();
    let data = house.data();
    let said = House::serve()
        .flag("--data-dir")
        .flag(data.to_str().unwrap())
        .refuses();
    is_short(&said.stderr);
    said.ends(3).says(data.to_str().unwrap());
    house.get("/functions/hello").ok();
    house.deploy().ok();
}

#[test]
fn a_data_folder_that_cannot_be_written_is_refused() {
    let plan = House::serve();
    let data = plan.home().join("data");
    // A file where a folder must be; permissions alone do not stop root.
    fs::write(&data, "in the way").unwrap();
    let said = plan.refuses();
    is_short(&said.stderr);
    said.ends(3).says("data");
}

#[test]
fn a_read_only_data_folder_is_refused() {
    let plan = House::serve();
    let data = plan.home().join("data");
    fs::create_dir(&data).unwrap();
    let mount = "mount -t tmpfs -o ro tmpfs \"$1\" && shift && exec \"$@\"";
    let output = Command::new("unshare")
        .args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            mount,
            "sh",
        ])
        .args([data.as_path(), &crate::process::bungee()])
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(&data)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    is_short(&said);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("ead-only"), "{said}");
}

#[test]
fn a_corrupt_meta_db_stops_the_start_and_is_left_alone() {
    let mut house = hello();
    house.kill9();
    let meta = house.data().join("meta.db");
    for name in ["meta.db-wal", "meta.db-shm"] {
        let _ = fs::remove_file(house.data().join(name));
    }
    fs::write(&meta, "no database at all, ".repeat(500)).unwrap();
    let data = house.data();
    let said = House::serve()
        .flag("--data-dir")
        .flag(data.to_str().unwrap())
        .refuses();
    is_short(&said.stderr);
    said.ends(3).says("meta.db");
    assert!(
        fs::read_to_string(&meta)
            .unwrap()
            .starts_with("no database at all")
    );
}

#[test]
fn a_corrupt_records_db_is_set_aside_and_work_goes_on() {
    let mut house = hello();
    house.get("/functions/hello").ok();
    house.kill9();
    for name in ["records.db-wal", "records.db-shm"] {
        let _ = fs::remove_file(house.data().join(name));
    }
    fs::write(
        house.data().join("records.db"),
        "no database at all, ".repeat(500),
    )
    .unwrap();
    house.restart();
    house.get("/functions/hello/again").ok();
    house.record("hello", |record| record["path"] == "/functions/hello/again");
    let aside = fs::read_dir(house.data()).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        let name = name.to_string_lossy();
        name.starts_with("records.db")
            && !["records.db", "records.db-wal", "records.db-shm"].contains(&&*name)
    });
    assert!(aside.count() >= 1, "the damaged file is kept");
}

/// A PATH with everything but bun.
fn path_without_bun(folder: &Path) -> String {
    let bin = folder.join("bin");
    fs::create_dir(&bin).expect("a folder can be made");
    for name in ["sh", "env", "true"] {
        symlink(Path::new("/usr/bin").join(name), bin.join(name)).expect("a link can be made");
    }
    bin.to_str().expect("a readable path").to_owned()
}

#[test]
fn without_bun_a_bun_function_is_refused_with_the_command_that_installs_it() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::serve()
        .variable("PATH", path_without_bun(folder.path()))
        .start();
    let project = folder.path().join("project");
    crate::project::put(
        &project,
        "bungee.toml",
        "[functions.f]\nentry = 'f.js'\nruntime = 'bun'\n[functions.g]\nentry = 'g.js'\n",
    );
    crate::project::put(&project, "f.js", HELLO);
    crate::project::put(&project, "g.js", HELLO);
    let project = project.to_str().unwrap();
    let said = house
        .command(&["deploy", project, "--function", "f"])
        .env("PATH", folder.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(3), "{stderr}");
    assert!(
        stderr.contains("bun") && stderr.contains("install"),
        "{stderr}"
    );
    house.cli(&["deploy", project, "--function", "g"]).ok();
    assert_eq!(house.get("/functions/g").ok(), "hello");
}

#[test]
fn a_server_without_bun_says_so_when_the_function_is_called_or_deployed() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::serve()
        .variable("PATH", path_without_bun(folder.path()))
        .start();
    let project = folder.path().join("project");
    crate::project::put(
        &project,
        "bungee.toml",
        "[functions.f]\nentry = 'f.js'\nruntime = 'bun'\n",
    );
    crate::project::put(&project, "f.js", HELLO);
    let said = house.cli(&["deploy", project.to_str().unwrap()]);
    if said.code == 0 {
        house
            .get("/functions/f")
            .fails(502, "InitError")
            .says("bun");
    } else {
        said.says("bun").says("install");
    }
}

#[test]
fn a_folder_that_cannot_be_entered_by_others_is_no_obstacle() {
    let plan = House::serve().function("hello", |f| f.bun().web(HELLO));
    fs::set_permissions(plan.home(), fs::Permissions::from_mode(0o700)).unwrap();
    let house = plan.start();
    assert_eq!(house.get("/functions/hello").ok(), "hello");
}

#[test]
fn a_full_disk_keeps_the_server_from_starting_with_one_clear_line() {
    let plan = House::serve();
    let data = plan.home().join("data");
    fs::create_dir(&data).unwrap();
    let mount = "mount -t tmpfs -o size=64k tmpfs \"$1\" && shift && exec \"$@\"";
    let output = Command::new("unshare")
        .args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            mount,
            "sh",
        ])
        .args([data.as_path(), &crate::process::bungee()])
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(&data)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    is_short(&said);
    assert_eq!(output.status.code(), Some(3), "{said}");
}

#[test]
fn stale_files_of_a_dead_server_do_not_gather() {
    let mut house = House::serve()
        .function("hello", |f| f.bun().web(HELLO))
        .start();
    let run = house.data().join("run");
    house.get("/functions/hello").ok();
    for _ in 0..3 {
        house.kill9();
        house.restart();
        house.get("/functions/hello").ok();
    }
    until("old run folders are gone", || {
        // One worker, two spares and a blank child have a folder each.
        let entries = fs::read_dir(&run).into_iter().flatten().flatten();
        entries.filter(|entry| entry.path().is_dir()).count() <= 4
    });
}
