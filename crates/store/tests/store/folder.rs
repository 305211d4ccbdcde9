//! Who holds the folder, and what a sudden death leaves behind.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
};

use store::{DataFolder, OpenError, Trouble};

use crate::{World, function};

/// Another process that does what a line on its stdin says, and then waits to be killed.
struct Other(Child);

impl Other {
    /// Starts this test binary again, for [`the_other_process`] only, as `user` if one is given.
    fn start(path: &Path, user: Option<u32>) -> Other {
        let mut program = std::env::current_exe().unwrap();
        if user.is_some() {
            // The build may lie in a home that no other user may enter.
            let beside = path.parent().unwrap().join("other");
            fs::hard_link(&program, &beside).unwrap_or_else(|_| {
                fs::copy(&program, &beside).unwrap();
            });
            program = beside;
        }
        let mut command = Command::new(program);
        command.current_dir("/");
        command
            .args([
                "--exact",
                "folder::the_other_process",
                "--ignored",
                "--nocapture",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        let mut child = command.spawn().unwrap();
        writeln!(child.stdin.as_mut().unwrap(), "{}", path.display()).unwrap();
        Other(child)
    }

    /// What it has to say.
    fn says(&mut self) -> String {
        let lines = BufReader::new(self.0.stdout.as_mut().unwrap()).lines();
        let mut lines = lines.map(Result::unwrap);
        lines
            .find_map(|line| line.split_once("other: ").map(|(_, said)| said.to_owned()))
            .unwrap()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// No test: the life of [`Other`].
#[tokio::test]
#[ignore = "run by the others, as another process"]
async fn the_other_process() {
    let mut path = String::new();
    std::io::stdin().read_line(&mut path).unwrap();
    let mut world = World::new();
    let folder = match DataFolder::open(path.trim()) {
        Ok(folder) => folder,
        Err(error) => return println!("other: {error}"),
    };
    world.limits.records_per_second = 1;
    let opened = store::Store::open(&folder, &world.limits, world.clock.clone()).await;
    let store = match opened {
        Ok((store, _)) => store,
        Err(error) => return println!("other: {error}"),
    };
    store
        .create_function(&function("default/hello"))
        .await
        .unwrap();
    store
        .add_version(&function("default/hello"), crate::version("one"))
        .await
        .unwrap();
    println!("other: done");
    std::io::stdin().read_line(&mut path).unwrap();
}

#[tokio::test]
async fn a_held_folder_names_the_holder_and_sudden_death_frees_it_at_once() {
    let world = World::new();
    let mut other = Other::start(&world.path(), None);
    assert_eq!(other.says(), "done");
    let pid = other.0.id();
    let error = world.try_open().await.unwrap_err();
    assert!(
        matches!(error, OpenError::Held { pid: Some(held_by), .. } if held_by == pid),
        "{error}"
    );
    let words = format!(
        "the data folder {} is held by process {pid}",
        world.path().display()
    );
    assert_eq!(error.to_string(), words);
    assert!(error.hint().is_some());

    drop(other);
    let store = world.open().await;
    let versions = store.versions(&function("default/hello")).await.unwrap();
    assert_eq!(versions.len(), 1, "what was answered was on the disk");
}

#[tokio::test]
async fn the_same_process_cannot_hold_it_twice_either() {
    let world = World::new();
    let store = world.open().await;
    assert!(matches!(
        DataFolder::open(world.path()),
        Err(OpenError::Held { .. })
    ));
    store.close().await.unwrap();
    assert!(!world.file("lock").exists());
    drop(DataFolder::open(world.path()).unwrap());
}

#[tokio::test]
async fn a_store_that_is_only_dropped_writes_what_it_had_and_lets_go() {
    let world = World::new();
    let store = world.open().await;
    let hello = function("default/hello");
    store.create_function(&hello).await.unwrap();
    store.records().record(world.call(&hello, 1));
    drop(store);
    let store = loop {
        match world.try_open().await {
            Ok((store, _)) => break store,
            Err(OpenError::Held { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    assert!(store.function(&hello).await.unwrap().is_some());
    let told = store
        .invocations(&hello, &store::InvocationFilter::default())
        .await
        .unwrap();
    assert_eq!(told.records.len(), 1);
}

#[tokio::test]
async fn folder_and_files_are_for_their_owner_only() {
    let world = World::new();
    let store = world.open().await;
    store.probe_write().await.unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(world.path()), 0o700);
    for entry in fs::read_dir(world.path()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(path.clone()), 0o600, "{}", path.display());
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let path = file.join("data");
    let error = DataFolder::open(&path).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot create the data folder {}", path.display())
    );
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.to_string().contains("Not a directory"), "{source}");
    let OpenError::Storage(error) = error else {
        panic!("{error}")
    };
    assert_eq!(error.trouble, Trouble::Other);
}

/// For root everything is writable, so root lets somebody else try.
#[test]
fn a_folder_without_write_permission_is_named() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("data");
    fs::create_dir(&path).unwrap();
    let is_root = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&path).unwrap()) == 0;
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o555)).unwrap();
    let said = Other::start(&path, is_root.then_some(65_534)).says();
    let lock = path.join("lock");
    assert_eq!(
        said,
        format!(
            "cannot open {}: the permissions do not allow it",
            lock.display()
        )
    );
}
