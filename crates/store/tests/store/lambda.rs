//! What the AWS Lambda profile keeps: numbers, states that stay, aliases that follow, and layers.

use std::collections::BTreeMap;

use model::{AliasTarget, Auth, Digest, FunctionId, Timestamp, VersionNumber as V};
use store::{Alias, FunctionUrl, LambdaAlias, LambdaState, NewLayer, Store, UsedLayer};

use crate::{World, function, version};

fn state(version: u32, content: &str) -> LambdaState {
    LambdaState {
        version: V(version),
        content: Digest::of(content.as_bytes()),
        runtime: "nodejs22.x".into(),
        handler: "index.handler".into(),
        role: String::new(),
        description: content.into(),
        code: Digest::of(b"zip"),
        code_size: 3,
        storage: 512,
        layers: vec![UsedLayer {
            arn: "arn".into(),
            size: 7,
        }],
        revision: "r".into(),
        modified_at: Timestamp(5),
    }
}

async fn with_versions(store: &Store, id: &FunctionId, count: u32) {
    store.create_function(id).await.unwrap();
    for number in 1..=count {
        let new = version(&format!("v{number}"));
        store.add_version(id, new).await.unwrap();
        store
            .point_alias(id, &Alias::current(), V(number))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_number_is_given_once_and_repeats_for_the_same_content() {
    let world = World::new();
    let store = world.open().await;
    let hello = function("shop/hello");
    with_versions(&store, &hello, 2).await;
    let publish = async |version, content| {
        let published = store.publish(&hello, state(version, content)).await;
        published.unwrap().0
    };
    assert_eq!(publish(1, "a").await, 1);
    assert_eq!(publish(1, "a").await, 1);
    assert_eq!(publish(2, "b").await, 2);
    assert!(store.unpublish(&hello, 2).await.unwrap());
    assert!(!store.unpublish(&hello, 2).await.unwrap());
    assert_eq!(publish(1, "a").await, 1);
    assert_eq!(publish(2, "b").await, 3);
    assert!(store.has_code(&Digest::of(b"zip")).await.unwrap());
    assert!(!store.has_code(&Digest::of(b"other")).await.unwrap());
    let found = store.lambda(&hello).await.unwrap();
    let numbers: Vec<_> = found.published.keys().copied().collect();
    assert_eq!(numbers, [1, 3]);
    assert_eq!(found.published[&1], state(1, "a"));
    assert!(found.made.is_empty());
    let served = BTreeMap::from([(1, V(1)), (3, V(2))]);
    assert_eq!(found.current.published, served);
    assert!(found.current.pointed.contains_key(&V(1)));
    assert!(!found.current.is_named(V(1)) && found.current.is_named(V(2)));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_state_stays_with_its_version_and_with_its_number() {
    let world = World::new();
    let store = world.open().await;
    let hello = function("shop/hello");
    with_versions(&store, &hello, 3).await;
    let at = |time, mut state: LambdaState| {
        state.modified_at = Timestamp(time);
        state
    };
    let (first, second) = (at(1, state(1, "a")), at(2, state(2, "b")));
    let third = at(3, state(3, "c"));
    for (number, state) in [(1, &first), (2, &second)] {
        let set = store.set_lambda_state(&hello, state.clone()).await;
        set.unwrap();
        let published = store.publish(&hello, state.clone()).await.unwrap();
        assert_eq!(published.0, number);
    }
    let set = store.set_lambda_state(&hello, third.clone()).await;
    set.unwrap();
    let back = store.point_alias(&hello, &Alias::current(), V(1)).await;
    back.unwrap();
    let found = store.lambda(&hello).await.unwrap();
    assert_eq!(found.made[&V(1)], first);
    assert_eq!(found.made[&V(3)], third, "the last one made");
    assert_eq!(store.publish(&hello, first.clone()).await.unwrap().0, 1);
    // The same content made once more is no state that was there.
    let again = at(4, first);
    assert_eq!(store.publish(&hello, again).await.unwrap().0, 3);
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_was_published_is_never_pruned() {
    let world = World::new();
    let store = world.open().await;
    let hello = function("shop/hello");
    with_versions(&store, &hello, 6).await;
    store.publish(&hello, state(2, "two")).await.unwrap();
    let gone = store.prune_versions(&hello, 1, vec![]).await.unwrap();
    assert_eq!(gone, [V(1), V(3), V(4)]);
    let left = store.versions(&hello).await.unwrap();
    let left: Vec<_> = left.iter().map(|version| version.number.0).collect();
    assert_eq!(left, [6, 5, 2]);
    store.close().await.unwrap();
}

#[tokio::test]
async fn an_alias_for_the_newest_state_goes_where_current_goes() {
    let world = World::new();
    let store = world.open().await;
    let hello = function("shop/hello");
    with_versions(&store, &hello, 3).await;
    let dev = Alias("dev".parse().unwrap());
    store.point_alias(&hello, &dev, V(3)).await.unwrap();
    let follows = LambdaAlias {
        number: 0,
        second: None,
        description: String::new(),
        revision: "r".into(),
    };
    let numbered = store.number_alias(&hello, &dev.0, follows).await;
    numbered.unwrap();
    let split = AliasTarget::Two {
        first: V(1),
        second: V(2),
        percent: 10,
    };
    let current = Alias::current();
    store.point_alias(&hello, &current, split).await.unwrap();
    assert_eq!(store.aliases(&hello).await.unwrap()[&dev.0], split);
    // Pointed by hand, it follows no more.
    store.point_alias(&hello, &dev, V(3)).await.unwrap();
    store.point_alias(&hello, &current, V(2)).await.unwrap();
    let there = store.aliases(&hello).await.unwrap()[&dev.0];
    assert_eq!(there, AliasTarget::One(V(3)));
    assert!(store.lambda(&hello).await.unwrap().aliases.is_empty());
    store.close().await.unwrap();
}

#[tokio::test]
async fn nothing_of_a_function_outlives_it_but_its_layers() {
    let world = World::new();
    let store = world.open().await;
    let hello = function("shop/hello");
    with_versions(&store, &hello, 1).await;
    let latest = store.set_lambda_state(&hello, state(1, "a")).await;
    latest.unwrap();
    let tags = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
    store.change_tags(&hello, tags, vec![]).await.unwrap();
    store.reserve(&hello, Some(4)).await.unwrap();
    let url = FunctionUrl {
        auth: Auth::None,
        mode: "BUFFERED".into(),
        created_at: world.now(),
        modified_at: world.now(),
    };
    let opened = store.set_function_url(&hello, Some(url.clone())).await;
    opened.unwrap();
    let over = store.over(&hello).await.unwrap();
    assert_eq!((over.auth, over.reserved), (Some(Auth::None), Some(4)));
    let layer = NewLayer {
        name: "tools".into(),
        description: String::new(),
        license: "MIT".into(),
        runtimes: vec!["nodejs22.x".into()],
        architectures: vec![],
        code: Digest::of(b"zip"),
        code_size: 3,
        unpacked_size: 9,
    };
    assert_eq!(store.add_layer(layer.clone()).await.unwrap().number, 1);
    assert_eq!(store.add_layer(layer.clone()).await.unwrap().number, 2);
    store.delete_layer("tools", 2).await.unwrap();
    assert_eq!(store.add_layer(layer.clone()).await.unwrap().number, 3);
    store.close().await.unwrap();

    let store = world.open().await;
    let found = store.lambda(&hello).await.unwrap();
    assert_eq!(found.made, BTreeMap::from([(V(1), state(1, "a"))]));
    assert_eq!(store.codes(&hello).await.unwrap(), [Digest::of(b"zip")]);
    assert_eq!((found.url, found.reserved), (Some(url), Some(4)));
    assert_eq!(found.tags["team"], "a");
    store.delete_function(&hello).await.unwrap();
    with_versions(&store, &hello, 1).await;
    let found = store.lambda(&hello).await.unwrap();
    assert_eq!((found.url, found.reserved), (None, None));
    assert!(found.made.is_empty());
    assert!(found.tags.is_empty() && found.published.is_empty());
    let layers = store.layers(Some("tools")).await.unwrap();
    let numbers: Vec<_> = layers.iter().map(|version| version.number).collect();
    assert_eq!(numbers, [3, 1]);
    assert_eq!(layers[0].layer, layer);
    store.close().await.unwrap();
}
