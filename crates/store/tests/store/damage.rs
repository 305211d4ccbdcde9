//! Files that are damaged, too new, or cannot be written.

use std::{
    fs,
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
};

use model::Level;
use sqlx::{Connection, SqliteConnection, query};
use store::{InvocationFilter, LogFilter, OpenError, StoreError, Trouble, Warning};

use crate::{World, function, texts};

fn trouble(error: &OpenError) -> Option<Trouble> {
    match error {
        OpenError::Storage(error) => Some(error.trouble),
        OpenError::Held { .. } | OpenError::NewerSchema { .. } => None,
    }
}

/// Overwrites everything behind the first page.
fn damage_behind_the_first_page(path: &Path) {
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut head = [0; 18];
    file.read_exact(&mut head).unwrap();
    let page = u64::from(u16::from_be_bytes([head[16], head[17]]));
    let length = file.metadata().unwrap().len();
    assert!(length > 2 * page, "{length}");
    file.seek(SeekFrom::Start(page)).unwrap();
    file.write_all(&vec![0xa5; usize::try_from(length - page).unwrap()])
        .unwrap();
}

async fn set_aside(world: &World) -> Vec<String> {
    let names = fs::read_dir(world.path()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.starts_with("records.db.corrupt-"))
        .collect()
}

#[tokio::test]
async fn a_meta_db_that_is_no_database_stops_the_start() {
    let world = World::new();
    fs::create_dir(world.path()).unwrap();
    let content = "not a database, and longer than its header would be".repeat(100);
    fs::write(world.file("meta.db"), &content).unwrap();
    let error = world.try_open().await.unwrap_err();
    assert_eq!(trouble(&error), Some(Trouble::Corrupt));
    let words = format!(
        "cannot open {}: it is corrupt",
        world.file("meta.db").display()
    );
    assert_eq!(error.to_string(), words);
    assert!(error.hint().is_some());
    assert_eq!(
        fs::read_to_string(world.file("meta.db")).unwrap(),
        content,
        "it is left alone"
    );
}

#[tokio::test]
async fn a_damaged_meta_db_stops_the_start() {
    let world = World::new();
    let store = world.open().await;
    store
        .create_function(&function("default/hello"))
        .await
        .unwrap();
    store.close().await.unwrap();
    damage_behind_the_first_page(&world.file("meta.db"));
    assert_eq!(
        trouble(&world.try_open().await.unwrap_err()),
        Some(Trouble::Corrupt)
    );
}

#[tokio::test]
async fn records_that_are_no_database_are_set_aside() {
    let world = World::new();
    let store = world.open().await;
    store
        .create_function(&function("default/hello"))
        .await
        .unwrap();
    store.close().await.unwrap();
    let garbage = "garbage ".repeat(2000);
    fs::write(world.file("records.db"), &garbage).unwrap();

    let (store, warnings) = world.try_open().await.unwrap();
    let [Warning::RecordsSetAside { moved_to, .. }] = &warnings[..] else {
        panic!("{warnings:?}");
    };
    assert_eq!(fs::read_to_string(moved_to).unwrap(), garbage);
    assert!(
        warnings[0]
            .to_string()
            .contains("records.db is corrupt and now lies at")
    );
    let hello = function("default/hello");
    assert!(store.function(&hello).await.unwrap().is_some());
    store.records().record(world.call(&hello, 1));
    let told = store
        .invocations(&hello, &InvocationFilter::default())
        .await
        .unwrap();
    assert_eq!(told.records.len(), 1);
}

#[tokio::test]
async fn damage_that_is_met_later_sets_aside_while_work_goes_on() {
    let world = World::new();
    let store = world.open().await;
    let hello = function("default/hello");
    for number in 0..200 {
        store.records().log(world.line(
            &hello,
            Level::Info,
            &format!("{number} {}", "x".repeat(2000)),
        ));
    }
    store.close().await.unwrap();
    // The last page holds the newest lines, and the first the schema; what lies between is not looked at.
    let path = world.file("records.db");
    let length = fs::metadata(&path).unwrap().len();
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let third = length / 3 / 4096 * 4096;
    file.seek(SeekFrom::Start(third)).unwrap();
    file.write_all(&vec![0xa5; usize::try_from(third).unwrap()])
        .unwrap();
    drop(file);

    let (store, warnings) = world.try_open().await.unwrap();
    let everything = LogFilter {
        limit: 10_000,
        ..LogFilter::default()
    };
    let before = store.logs(&hello, &everything).await.unwrap();
    assert!(
        before.is_empty() || !warnings.is_empty(),
        "the damage was not met"
    );
    store
        .records()
        .log(world.line(&hello, Level::Info, "afterwards"));
    assert_eq!(
        texts(&store.logs(&hello, &everything).await.unwrap()),
        ["afterwards"]
    );
    assert_eq!(set_aside(&world).await.len(), 1);
    assert!(
        warnings.is_empty(),
        "found at the start already: {warnings:?}"
    );
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    for (name, newest) in [("meta.db", 8), ("records.db", 4)] {
        let world = World::new();
        world.open().await.close().await.unwrap();
        let url = format!("sqlite://{}", world.file(name).display());
        let mut conn = SqliteConnection::connect(&url).await.unwrap();
        query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (999, 'later', 1, x'00', 0)")
            .execute(&mut conn)
            .await
            .unwrap();
        conn.close().await.unwrap();
        let error = world.try_open().await.unwrap_err();
        assert!(
            matches!(
                error,
                OpenError::NewerSchema {
                    found: 999,
                    known,
                    ..
                } if known == newest
            ),
            "{error}"
        );
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[tokio::test]
async fn a_value_that_nobody_here_wrote_is_named() {
    let world = World::new();
    let store = world.open().await;
    let hello = function("default/hello");
    store.create_function(&hello).await.unwrap();
    store
        .add_version(&hello, crate::version("one"))
        .await
        .unwrap();
    let url = format!("sqlite://{}", world.file("meta.db").display());
    let mut conn = SqliteConnection::connect(&url).await.unwrap();
    query("UPDATE versions SET kind = 'odd'")
        .execute(&mut conn)
        .await
        .unwrap();
    let error = store.versions(&hello).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Unreadable { value, .. } if value == "odd"),
        "{error}"
    );
}
