//! Which versions go: the oldest, but for those that an alias needs or that still run.

use model::{AliasTarget, VersionNumber};
use store::{Alias, Store};

use crate::{World, function, version};

const V: fn(u32) -> VersionNumber = VersionNumber;

async fn kept(store: &Store) -> Vec<u32> {
    let versions = store.versions(&function("default/hello")).await.unwrap();
    versions.iter().map(|version| version.number.0).collect()
}

#[tokio::test]
async fn old_versions_go_but_for_what_aliases_need_and_what_runs() {
    let world = World::new();
    let store = world.open().await;
    let hello = function("default/hello");
    store.create_function(&hello).await.unwrap();
    for number in 1..=10 {
        let new = version(&format!("source {number}"));
        store.add_version(&hello, new).await.unwrap();
    }
    let current = Alias::current();
    let canary = Alias("canary".parse().unwrap());
    let two = AliasTarget::Two {
        first: V(3),
        second: V(4),
        percent: 10,
    };
    store.point_alias(&hello, &canary, two).await.unwrap();
    for number in [1, 2, 9] {
        let moved = store.point_alias(&hello, &current, V(number));
        moved.await.unwrap();
    }
    // `v2` is where a rollback goes; `v1` was current before that and is needed no more.
    let gone = store.prune_versions(&hello, 2, vec![V(6)]).await.unwrap();
    assert_eq!(gone.len(), 4, "{gone:?}");
    assert_eq!(kept(&store).await, [10, 9, 6, 4, 3, 2]);
    let back = store.previous_of(&hello).await.unwrap();
    assert_eq!(back, Some(AliasTarget::One(V(2))));
    store.prune_versions(&hello, 0, vec![]).await.unwrap();
    assert_eq!(kept(&store).await, [10, 9, 4, 3, 2]);
    let (next, _) = store.add_version(&hello, version("new")).await.unwrap();
    assert_eq!(next, V(11));
}
