//! Reading and following logs.

use model::{Level, Timestamp};
use store::{LogFilter, Store, StoreError};

use crate::{World, function, texts};

async fn write(world: &World, store: &Store, lines: &[(Level, &str)]) {
    for (level, text) in lines {
        world.pass_ms(10);
        store
            .records()
            .log(world.line(&function("default/hello"), *level, text));
    }
    store.flush().await.unwrap();
}

const FOUR: [(Level, &str); 4] = [
    (Level::Info, "one"),
    (Level::Warn, "two"),
    (Level::Debug, "three"),
    (Level::Error, "four"),
];

#[tokio::test]
async fn filters_narrow_what_is_read() {
    let world = World::new();
    let store = world.open().await;
    let start = world.now();
    write(&world, &store, &FOUR).await;
    let read = async |filter: LogFilter| {
        let lines = store
            .logs(&function("default/hello"), &filter)
            .await
            .unwrap();
        texts(&lines).join(" ")
    };
    let any = LogFilter::default;

    assert_eq!(read(any()).await, "one two three four");
    let loud = LogFilter {
        at_least: Level::Warn,
        ..any()
    };
    assert_eq!(read(loud).await, "two four");
    let late = LogFilter {
        since: Some(Timestamp(start.0 + 30)),
        ..any()
    };
    assert_eq!(read(late).await, "three four");
    let newest = LogFilter { limit: 2, ..any() };
    assert_eq!(read(newest).await, "three four");

    let all = store
        .logs(&function("default/hello"), &any())
        .await
        .unwrap();
    let next = LogFilter {
        after: Some(all[0].cursor),
        limit: 2,
        ..any()
    };
    assert_eq!(read(next).await, "two three");
    assert!(
        store
            .logs(&function("default/other"), &any())
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_follower_misses_nothing_however_slow_it_is() {
    let world = World::new();
    let store = world.open().await;
    let other = function("default/other");
    write(&world, &store, &FOUR).await;
    let filter = LogFilter {
        limit: 3,
        ..LogFilter::default()
    };
    let mut follower = store.follow_logs(&function("default/hello"), filter);
    assert_eq!(
        texts(&follower.next().await.unwrap()),
        ["two", "three", "four"]
    );

    for _ in 0..3 {
        store
            .records()
            .log(world.line(&other, Level::Info, "not mine"));
        write(&world, &store, &FOUR).await;
    }
    let mut seen = Vec::new();
    while seen.len() < 12 {
        let page = follower.next().await.unwrap();
        assert!(page.len() <= 3);
        seen.extend(page.into_iter().map(|stored| stored.line.text));
    }
    assert_eq!(seen, FOUR.map(|(_, text)| text).repeat(3));
}

#[tokio::test]
async fn a_waiting_follower_wakes_for_a_line_and_ends_with_the_store() {
    let world = World::new();
    let store = world.open().await;
    let mut follower = store.follow_logs(&function("default/hello"), LogFilter::default());
    let (page, ()) = tokio::join!(follower.next(), write(&world, &store, &FOUR[..1]));
    assert_eq!(texts(&page.unwrap()), ["one"]);
    let (end, closed) = tokio::join!(follower.next(), store.close());
    closed.unwrap();
    assert!(matches!(end, Err(StoreError::Closed)));
}

#[tokio::test]
async fn places_are_not_given_twice() {
    let mut world = World::new();
    world.limits.keep_time = model::TimeSpan::seconds(1);
    let store = world.open().await;
    write(&world, &store, &FOUR).await;
    let hello = function("default/hello");
    let last = store.logs(&hello, &LogFilter::default()).await.unwrap()[3].cursor;
    world.pass_ms(2000);
    store.prune_now().await.unwrap();
    assert!(
        store
            .logs(&hello, &LogFilter::default())
            .await
            .unwrap()
            .is_empty()
    );
    store.close().await.unwrap();

    let store = world.open().await;
    write(&world, &store, &FOUR[..1]).await;
    assert!(store.logs(&hello, &LogFilter::default()).await.unwrap()[0].cursor > last);
}
