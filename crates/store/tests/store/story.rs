//! One tale from registration to pruning. Any other backend of the store has to be able to tell it too.

use std::collections::BTreeMap;

use model::{
    AliasTarget, Attempt, Digest, ErrorType, HandlerFault, Level, Outcome, Place, Timestamp,
    VersionNumber,
};
use store::{
    Alias, AliasChange, FindError, InvocationFilter, LogFilter, NewToken, Role, Store, StoreError,
    TokenId,
};

use crate::{World, function, texts, version};

#[tokio::test]
async fn the_story_of_a_function() {
    let world = World::new();
    let store = world.open().await;
    functions_are_registered_once(&store).await;
    versions_are_counted_and_found(&store).await;
    current_moves_and_returns(&store).await;
    overrides_survive_deployments(&store).await;
    tokens_are_handed_out(&store).await;
    invocations_are_remembered(&world, &store).await;
    store.close().await.unwrap();

    let store = world.open().await;
    all_of_it_is_still_there(&store).await;
    weights_are_part_of_the_history(&store).await;
    nothing_is_left_of_a_deleted_function(&store).await;
    store.close().await.unwrap();
}

async fn weights_are_part_of_the_history(store: &Store) {
    let (hello, current) = (function("shop/hello"), Alias::current());
    let split = AliasTarget::Two {
        first: VersionNumber(1),
        second: VersionNumber(2),
        percent: 10,
    };
    let change = store.point_alias(&hello, &current, split).await.unwrap();
    assert!(change.changed);
    let live = Alias("live".parse().unwrap());
    let absent = AliasTarget::Two {
        first: VersionNumber(1),
        second: VersionNumber(9),
        percent: 10,
    };
    let refused = store.point_alias(&hello, &live, absent).await;
    assert!(matches!(refused, Err(StoreError::NoVersion { .. })));
    store
        .point_alias(&hello, &live, VersionNumber(3))
        .await
        .unwrap();
    assert_eq!(
        store.previous_of(&hello).await.unwrap(),
        Some(AliasTarget::One(VersionNumber(1)))
    );
    let loaded = store.current(&hello).await.unwrap();
    assert_eq!(loaded.aliases[&current.0], split);
    let pointed: Vec<_> = loaded.pointed.keys().map(|number| number.0).collect();
    assert_eq!(pointed, [1, 2, 3]);
    assert!(store.delete_alias(&hello, &live).await.unwrap());
    assert!(!store.delete_alias(&hello, &live).await.unwrap());
    let back = store
        .point_alias(&hello, &current, VersionNumber(1))
        .await
        .unwrap();
    assert_eq!(back.previous, Some(split));
    assert_eq!(store.previous_of(&hello).await.unwrap(), Some(split));
}

async fn nothing_is_left_of_a_deleted_function(store: &Store) {
    let (hello, other) = (function("shop/hello"), function("shop/other"));
    store.create_function(&other).await.unwrap();
    store.add_version(&other, version("two")).await.unwrap();
    let unused = store.delete_function(&hello).await.unwrap();
    assert_eq!(unused.len(), 3, "the bundle of two is used by another");
    assert!(!unused.contains(&version("two").bundle));
    assert!(matches!(
        store.delete_function(&hello).await,
        Err(StoreError::NoFunction(_))
    ));
    store.forget(&hello).await.unwrap();
    let all = InvocationFilter::default();
    let found = store.invocations(&hello, &all).await.unwrap();
    assert_eq!((found.records.len(), found.sampling.ended), (0, 0));
    let lines = store.logs(&hello, &LogFilter::default()).await.unwrap();
    assert!(lines.is_empty());
    store.create_function(&hello).await.unwrap();
    let fresh = store.current(&hello).await.unwrap();
    assert!(fresh.version.is_none() && fresh.over.env.is_empty() && fresh.aliases.is_empty());
}

async fn functions_are_registered_once(store: &Store) {
    let hello = function("shop/hello");
    assert!(store.create_function(&hello).await.unwrap());
    assert!(!store.create_function(&hello).await.unwrap());
    store
        .create_function(&function("shop/Hello"))
        .await
        .unwrap();
    let names: Vec<_> = store.functions().await.unwrap();
    let names: Vec<_> = names
        .iter()
        .map(|function| function.id.to_string())
        .collect();
    assert_eq!(names, ["shop/Hello", "shop/hello"]);
    assert_eq!(
        store.function(&function("shop/absent")).await.unwrap(),
        None
    );
    assert!(store.set_enabled(&hello, false).await.unwrap());
    assert!(!store.function(&hello).await.unwrap().unwrap().enabled);
    assert!(!store.set_enabled(&hello, false).await.unwrap());
    store.set_enabled(&hello, true).await.unwrap();
}

async fn versions_are_counted_and_found(store: &Store) {
    let hello = function("shop/hello");
    for (number, source) in [(1, "one"), (2, "two"), (3, "three")] {
        let added = store.add_version(&hello, version(source)).await.unwrap();
        assert_eq!(added, (VersionNumber(number), true));
    }
    let again = store.add_version(&hello, version("two")).await.unwrap();
    assert_eq!(again, (VersionNumber(2), false));
    let absent = store
        .add_version(&function("shop/absent"), version("one"))
        .await;
    assert!(matches!(absent, Err(StoreError::NoFunction(_))));

    let all = store.versions(&hello).await.unwrap();
    let numbers: Vec<_> = all.iter().map(|version| version.number.0).collect();
    assert_eq!(numbers, [3, 2, 1]);
    assert_eq!(all[1].patch, version("two").patch);
    assert_eq!(all[1].bundle, version("two").bundle);

    let find = async |text: &str| store.find_version(&hello, &text.parse().unwrap()).await;
    assert_eq!(find("v2").await.unwrap().number.0, 2);
    let prefix = &Digest::of(b"three").hex()[..8];
    assert_eq!(find(prefix).await.unwrap().number.0, 3);
    let missing = find("v9").await.unwrap_err();
    assert_eq!(missing.to_string(), "shop/hello has no version v9");
    assert!(matches!(
        find("ffffffff").await,
        Err(FindError::NotFound { .. })
    ));
}

async fn current_moves_and_returns(store: &Store) {
    let (hello, current) = (function("shop/hello"), Alias::current());
    let point = async |number| {
        let change = store
            .point_alias(&hello, &current, VersionNumber(number))
            .await;
        let AliasChange { previous, changed } = change.unwrap();
        (previous.map(|target| target.first().0), changed)
    };
    let previous = async || {
        store
            .previous_of(&hello)
            .await
            .unwrap()
            .map(|target| target.first().0)
    };

    assert_eq!(point(1).await, (None, true));
    assert_eq!(previous().await, None);
    assert_eq!(point(3).await, (Some(1), true));
    assert_eq!(point(3).await, (Some(3), false));
    assert_eq!(previous().await, Some(1));
    // Two rollbacks lead back to where they began.
    assert_eq!(point(1).await, (Some(3), true));
    assert_eq!(previous().await, Some(3));

    let absent = store
        .point_alias(&hello, &current, VersionNumber(9))
        .await
        .unwrap_err();
    assert_eq!(absent.to_string(), "shop/hello has no version v9");
    let loaded = store.all_current().await.unwrap();
    let versions: Vec<_> = loaded
        .iter()
        .map(|each| each.version.as_ref().map(|v| v.number.0))
        .collect();
    assert_eq!(versions, [None, Some(1)]);
}

async fn overrides_survive_deployments(store: &Store) {
    let hello = function("shop/hello");
    let changes = |pairs: &[(&str, Option<&str>)]| -> BTreeMap<String, Option<String>> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).into(), value.map(String::from)))
            .collect()
    };
    store
        .change_env(&hello, changes(&[("A", Some("1")), ("B", Some("2"))]))
        .await
        .unwrap();
    store
        .change_env(&hello, changes(&[("A", None), ("C", Some(""))]))
        .await
        .unwrap();
    store.add_version(&hello, version("four")).await.unwrap();
    let env = store.env(&hello).await.unwrap();
    assert_eq!(
        env,
        [("B".into(), "2".into()), ("C".into(), String::new())].into()
    );
}

async fn tokens_are_handed_out(store: &Store) {
    assert!(!store.has_any_token().await.unwrap());
    for (id, role, user, expires_at) in [
        ("t1", Role::Admin, None, None),
        ("t2", Role::Live, Some("ann"), Some(Timestamp(1))),
    ] {
        let new = NewToken {
            id: TokenId(id.into()),
            secret: Digest::of(id.as_bytes()),
            role,
            user: user.map(Into::into),
            expires_at,
            sealed: (id == "t2").then(|| b"sealed"[..].into()),
        };
        store.add_token(new).await.unwrap();
    }
    assert!(store.delete_token(&TokenId("t1".into())).await.unwrap());
    assert!(!store.delete_token(&TokenId("t1".into())).await.unwrap());
    let left = store.tokens().await.unwrap();
    assert_eq!(
        (left.len(), left[0].role, left[0].secret),
        (1, Role::Live, Digest::of(b"t2"))
    );
    assert_eq!(left[0].user.as_deref(), Some("ann"));
    assert_eq!(left[0].sealed.as_deref(), Some(&b"sealed"[..]));
    assert!(
        store.has_any_token().await.unwrap(),
        "an expired token still counts"
    );
}

async fn invocations_are_remembered(world: &World, store: &Store) {
    let hello = function("shop/hello");
    let sink = store.records();
    let sampler = sink.sampler(&hello);
    let mut failed = world.call(&hello, 1);
    failed.outcome = Outcome::Failed(ErrorType::HandlerError);
    failed.message = Some("it broke".into());
    failed.fault = Some(HandlerFault {
        error_type: "TypeError".into(),
        message: "x is not a function".into(),
        stack: Some("at src/hello.ts:3".into()),
        reported: None,
    });
    failed.attempts = vec![
        Attempt::new(1, Place::Live),
        Attempt::new(2, Place::Deployed),
    ];
    world.pass_ms(1);
    for record in [failed.clone(), world.call(&hello, 2)] {
        assert!(sampler.ended(record.trigger, record.outcome, 357, world.now()));
        sink.record(record);
    }
    let mut line = world.line(&hello, Level::Warn, "odd \u{1b}[31m\0 text\nof two lines");
    line.invocation = Some(failed.id);
    sink.log(line);

    let all = store
        .invocations(&hello, &InvocationFilter::default())
        .await
        .unwrap();
    assert_eq!(all.records, [world.call(&hello, 2), failed.clone()]);
    assert_eq!(
        (all.sampling.recorded, all.sampling.ended, all.sampling.lost),
        (2, 2, 0)
    );
    assert_eq!(store.invocation(failed.id).await.unwrap(), Some(failed));
}

async fn all_of_it_is_still_there(store: &Store) {
    let hello = function("shop/hello");
    let found = store.function(&hello).await.unwrap().unwrap();
    assert_eq!(
        (found.enabled, found.current),
        (true, Some(VersionNumber(1)))
    );
    assert_eq!(
        store.previous_of(&hello).await.unwrap(),
        Some(AliasTarget::One(VersionNumber(3)))
    );
    assert_eq!(store.versions(&hello).await.unwrap().len(), 4);
    assert_eq!(store.env(&hello).await.unwrap().len(), 2);
    assert!(store.has_any_token().await.unwrap());
    let failed_only = InvocationFilter {
        failed_only: true,
        ..InvocationFilter::default()
    };
    let failed = store
        .invocations(&hello, &failed_only)
        .await
        .unwrap()
        .records;
    assert_eq!(failed.len(), 1);
    let of_it = LogFilter {
        invocation: Some(failed[0].id),
        ..LogFilter::default()
    };
    let lines = store.logs(&hello, &of_it).await.unwrap();
    assert_eq!(texts(&lines), ["odd \u{1b}[31m\0 text\nof two lines"]);
}

#[tokio::test]
async fn a_prefix_that_fits_two_versions_is_ambiguous() {
    let world = World::new();
    let store = world.open().await;
    let hello = function("default/hello");
    store.create_function(&hello).await.unwrap();
    for last in [1, 2] {
        let mut bytes = [0xab; 32];
        bytes[31] = last;
        let mut new = version("x");
        new.digest = Digest::from_bytes(bytes);
        store.add_version(&hello, new).await.unwrap();
    }
    let found = store
        .find_version(&hello, &"abab".parse().unwrap())
        .await
        .unwrap_err();
    let FindError::Ambiguous { candidates, .. } = &found else {
        panic!("{found}");
    };
    assert_eq!(candidates, &[VersionNumber(2), VersionNumber(1)]);
    assert_eq!(
        found.to_string(),
        "2 versions of default/hello have a digest that begins with abab"
    );
}

#[tokio::test]
async fn a_digest_of_decimal_digits_is_found_by_them() {
    let world = World::new();
    let store = world.open().await;
    let hello = function("default/hello");
    store.create_function(&hello).await.unwrap();
    let mut new = version("x");
    new.digest = Digest::from_bytes([0x12; 32]);
    store.add_version(&hello, new).await.unwrap();
    let found = store
        .find_version(&hello, &"121212".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(found.number, VersionNumber(1));
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let world = World::new();
    let store = world.open().await;
    let (clone, sink) = (store.clone(), store.records());
    store.probe_write().await.unwrap();
    store.close().await.unwrap();
    clone.close().await.unwrap();
    let hello = function("default/hello");
    assert!(matches!(
        clone.create_function(&hello).await,
        Err(StoreError::Closed)
    ));
    assert!(matches!(clone.functions().await, Err(StoreError::Closed)));
    assert!(matches!(clone.probe_write().await, Err(StoreError::Closed)));
    assert!(matches!(
        clone.logs(&hello, &LogFilter::default()).await,
        Err(StoreError::Closed)
    ));
    sink.record(world.call(&hello, 1));
}
