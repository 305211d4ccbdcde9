//! Source that was handed in, and counts that nothing prunes.

use model::{Outcome, TimeSpan, Trigger, VersionNumber};
use store::{Origin, Store};

use crate::{World, function, version};

fn origin(path: &str) -> Origin {
    Origin {
        file_path: path.into(),
        runtime: "node18".into(),
    }
}

async fn paths(store: &Store) -> Vec<(Option<u32>, String)> {
    let origins = store.origins().await.unwrap();
    let told = origins.into_iter();
    told.map(|((_, version), origin)| (version.map(|version| version.0), origin.file_path))
        .collect()
}

#[tokio::test]
async fn each_version_keeps_its_source_until_its_function_goes() {
    let world = World::new();
    let store = world.open().await;
    let hello = function("shop/hello");
    let keep = async |version: Option<u32>, path: &str, code: Option<&str>| {
        let version = version.map(VersionNumber);
        let code = code.map(str::to_owned);
        store.keep_source(&hello, version, origin(path), code).await
    };
    assert!(keep(None, "a.js", None).await.is_err());
    store.create_function(&hello).await.unwrap();
    keep(None, "a.js", None).await.unwrap();
    store.add_version(&hello, version("one")).await.unwrap();
    keep(Some(1), "b.js", Some("one")).await.unwrap();
    keep(Some(1), "c.js", Some("two")).await.unwrap();
    let told = [(None, "a.js".to_owned()), (Some(1), "c.js".to_owned())];
    assert_eq!(paths(&store).await, told);
    let code = |number| store.code(&hello, VersionNumber(number));
    assert_eq!(code(1).await.unwrap().as_deref(), Some("two"));
    assert_eq!(code(2).await.unwrap(), None);
    store.close().await.unwrap();

    let store = world.open().await;
    assert_eq!(paths(&store).await, told);
    store.delete_function(&hello).await.unwrap();
    assert!(paths(&store).await.is_empty());
}

#[tokio::test]
async fn invocations_are_counted_when_their_records_and_hours_are_long_gone() {
    let mut world = World::new();
    world.limits.keep_time = TimeSpan::seconds(60);
    let store = world.open().await;
    let hello = function("default/hello");
    let sampler = store.records().sampler(&hello);
    let count = async |store: &Store| {
        let counts = store.invocation_counts().await.unwrap();
        counts.get(&hello).copied()
    };
    assert_eq!(count(&store).await, None);
    for _ in 0..5 {
        sampler.ended(Trigger::Http, Outcome::Ok, 300, world.now());
    }
    assert_eq!(count(&store).await, Some(5));
    world.pass_ms(3 * 3_600_000);
    store.prune_now().await.unwrap();
    assert_eq!(count(&store).await, Some(5));
    store.close().await.unwrap();

    let store = world.open().await;
    assert_eq!(count(&store).await, Some(5));
    store.forget(&hello).await.unwrap();
    assert_eq!(count(&store).await, None);
}
