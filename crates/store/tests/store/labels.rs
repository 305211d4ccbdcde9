//! Registrations and labels: what a label means never changes, and what it names is never pruned.

use model::{Digest, VersionNumber};
use store::{Label, Registration};

use crate::{World, function, version};

fn how(runtime: &str) -> Registration {
    Registration {
        runtime: runtime.into(),
        handler: "handler".into(),
    }
}

fn label(version: u32, source: &str) -> Label {
    Label {
        version: VersionNumber(version),
        source: Digest::of(source.as_bytes()),
    }
}

#[tokio::test]
async fn a_registration_makes_the_function_and_may_change() {
    let world = World::new();
    let store = world.open().await;
    let hello = function("default/hello");
    assert_eq!(store.registration(&hello).await.unwrap(), None);
    store.register(&hello, how("bun")).await.unwrap();
    let made = store.function(&hello).await.unwrap().unwrap();
    assert!(!made.is_built && made.current.is_none());
    store.register(&hello, how("isolate")).await.unwrap();
    let found = store.registration(&hello).await.unwrap();
    assert_eq!(found, Some(how("isolate")));
    store.close().await.unwrap();
    let store = world.open().await;
    assert_eq!(store.registered().await.unwrap(), vec![hello.clone()]);
    store.delete_function(&hello).await.unwrap();
    assert!(store.registered().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_label_keeps_its_meaning_and_its_version() {
    let world = World::new();
    let store = world.open().await;
    let hello = function("default/hello");
    store.register(&hello, how("bun")).await.unwrap();
    for source in ["one", "two", "three"] {
        store.add_version(&hello, version(source)).await.unwrap();
    }
    assert!(store.function(&hello).await.unwrap().unwrap().is_built);
    let given = label(1, "one");
    store.give_label(&hello, "v1", given.clone()).await.unwrap();
    store
        .give_label(&hello, "v1", label(2, "two"))
        .await
        .unwrap();
    assert_eq!(store.label(&hello, "v1").await.unwrap(), Some(given));
    assert_eq!(store.label(&hello, "v2").await.unwrap(), None);
    let gone = store.prune_versions(&hello, 1, vec![]).await.unwrap();
    assert_eq!(gone, [VersionNumber(2)]);
}
