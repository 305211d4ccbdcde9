//! Sampling, bursts, pages and pruning of records.

use model::{ByteSize, Level, Outcome, TimeSpan, Trigger};
use store::{InvocationFilter, LogFilter, Store};

use crate::{World, function, texts};

async fn kept(store: &Store, name: &str) -> usize {
    let filter = InvocationFilter {
        limit: 10_000,
        ..InvocationFilter::default()
    };
    store
        .invocations(&function(name), &filter)
        .await
        .unwrap()
        .records
        .len()
}

#[tokio::test]
async fn fast_successes_are_sampled_and_all_are_counted() {
    let mut world = World::new();
    world.limits.records_per_second = 5;
    let store = world.open().await;
    let hello = function("default/hello");
    let (sink, sampler) = (store.records(), store.records().sampler(&hello));
    for number in 0..100 {
        if sampler.ended(Trigger::Http, Outcome::Ok, 300, world.now()) {
            sink.record(world.call(&hello, number));
        }
    }
    let told = store
        .invocations(&hello, &InvocationFilter::default())
        .await
        .unwrap();
    assert_eq!(
        (
            told.records.len(),
            told.sampling.recorded,
            told.sampling.ended
        ),
        (5, 5, 100)
    );

    store.close().await.unwrap();
    let store = world.open().await;
    let told = store
        .invocations(&hello, &InvocationFilter::default())
        .await
        .unwrap();
    assert_eq!((told.sampling.recorded, told.sampling.ended), (5, 100));
}

#[tokio::test]
async fn pages_follow_one_another() {
    let world = World::new();
    let store = world.open().await;
    let hello = function("default/hello");
    let mut sent = Vec::new();
    for number in 1..=5 {
        // Two arrive in each millisecond.
        world.pass_ms(i64::from(number % 2));
        let call = world.call(&hello, number);
        sent.insert(0, call.id);
        store.records().record(call);
    }
    let mut filter = InvocationFilter {
        limit: 2,
        ..InvocationFilter::default()
    };
    let mut pages = Vec::new();
    for _ in 0..4 {
        let page = store.invocations(&hello, &filter).await.unwrap().records;
        filter.before = page.last().map(|record| record.id).or(filter.before);
        pages.push(page.iter().map(|record| record.id).collect::<Vec<_>>());
    }
    assert_eq!(pages, [&sent[..2], &sent[2..4], &sent[4..], &[]]);
}

/// The writer cannot run while this test, on the only thread, does not await.
#[tokio::test]
async fn what_does_not_fit_is_counted_and_marked() {
    let world = World::new();
    let store = world.open().await;
    let hello = function("default/hello");
    let (sent, text) = (300, "x".repeat(100 << 10));
    for _ in 0..sent {
        store.records().log(world.line(&hello, Level::Info, &text));
    }
    let lines = store.logs(&hello, &LogFilter::default()).await.unwrap();
    let (stored, markers): (Vec<_>, Vec<_>) =
        lines.iter().partition(|stored| stored.line.text == text);
    assert!(
        !stored.is_empty() && stored.len() < sent,
        "{}",
        stored.len()
    );
    let missing = sent - stored.len();
    let words =
        format!("{missing} log lines are missing: they came faster than they could be stored");
    assert_eq!((markers.len(), &markers[0].line.text), (1, &words));
    let told = store
        .invocations(&hello, &InvocationFilter::default())
        .await
        .unwrap();
    assert_eq!(told.sampling.lost, missing as u64);

    store
        .records()
        .log(world.line(&hello, Level::Info, "room again"));
    assert_eq!(
        texts(&store.logs(&hello, &LogFilter::default()).await.unwrap()).last(),
        Some(&"room again")
    );
}

#[tokio::test]
async fn what_is_too_old_goes() {
    let mut world = World::new();
    world.limits.keep_time = TimeSpan::seconds(60);
    let store = world.open().await;
    let hello = function("default/hello");
    store.records().record(world.call(&hello, 1));
    store.records().log(world.line(&hello, Level::Info, "old"));
    store.flush().await.unwrap();
    world.pass_ms(61_000);
    store.records().record(world.call(&hello, 2));
    store.records().log(world.line(&hello, Level::Info, "new"));
    store.prune_now().await.unwrap();
    assert_eq!(kept(&store, "default/hello").await, 1);
    assert_eq!(
        texts(&store.logs(&hello, &LogFilter::default()).await.unwrap()),
        ["new"]
    );
}

#[tokio::test]
async fn what_is_too_many_goes_by_function() {
    let mut world = World::new();
    world.limits.keep_invocations = 3;
    let store = world.open().await;
    for (name, count) in [("default/busy", 2500), ("default/calm", 2)] {
        for number in 0..count {
            world.pass_ms(1);
            store
                .records()
                .record(world.call(&function(name), number as u8));
        }
    }
    store.prune_now().await.unwrap();
    assert_eq!(kept(&store, "default/busy").await, 3);
    assert_eq!(kept(&store, "default/calm").await, 2);
}

#[tokio::test]
async fn what_is_too_large_goes_and_the_file_shrinks() {
    let mut world = World::new();
    world.limits.keep_size = ByteSize::mebibytes(1);
    let store = world.open().await;
    let hello = function("default/hello");
    for number in 0..4000 {
        world.pass_ms(1);
        store.records().log(world.line(
            &hello,
            Level::Info,
            &format!("{number} {}", "x".repeat(1000)),
        ));
    }
    store.prune_now().await.unwrap();
    let newest = LogFilter {
        limit: 1,
        ..LogFilter::default()
    };
    let lines = store.logs(&hello, &newest).await.unwrap();
    assert!(lines[0].line.text.starts_with("3999 "));
    store.close().await.unwrap();
    let size = std::fs::metadata(world.file("records.db")).unwrap().len();
    assert!(size > 500_000 && size <= 1 << 20, "{size}");
}

#[tokio::test]
async fn a_burst_is_pruned_without_waiting_for_the_next_time() {
    let mut world = World::new();
    world.limits.keep_size = ByteSize::mebibytes(1);
    let store = world.open().await;
    let hello = function("default/hello");
    let text = "x".repeat(1000);
    for _ in 0..40 {
        for _ in 0..200 {
            store.records().log(world.line(&hello, Level::Info, &text));
        }
        store.flush().await.unwrap();
    }
    let everything = LogFilter {
        limit: 10_000,
        ..LogFilter::default()
    };
    let left = store.logs(&hello, &everything).await.unwrap().len();
    assert!(left < 2000, "{left} of 8000 lines are left");
}

fn draft(record: &model::Record, size: usize) -> store::RecordingDraft {
    store::RecordingDraft {
        invocation: record.id,
        function: record.function.clone(),
        size,
        write: Box::new(move || vec![b'x'; size]),
    }
}

#[tokio::test]
async fn a_recording_goes_with_its_invocation() {
    let mut world = World::new();
    world.limits.keep_invocations = 2;
    let store = world.open().await;
    let hello = function("default/hello");
    let mut sent = Vec::new();
    for number in 1..=3 {
        // The third is one too many: pruning may come at any time from then on.
        if number == 3 {
            let first: &model::Record = &sent[0];
            let kept = store.recording(first.id).await.unwrap();
            assert_eq!(kept.map(|kept| kept.len()), Some(100 << 10));
        }
        let record = world.call(&hello, number);
        store.records().record(record.clone());
        store.records().recording(draft(&record, 100 << 10));
        sent.push(record);
        world.pass_ms(1);
    }
    let newest = store.invocation(sent[2].id).await.unwrap().unwrap();
    assert!(newest.recording);
    store.prune_now().await.unwrap();
    assert_eq!(store.recording(sent[0].id).await.unwrap(), None);
    assert!(store.recording(sent[1].id).await.unwrap().is_some());
    store.forget(&hello).await.unwrap();
    assert_eq!(store.recording(sent[2].id).await.unwrap(), None);
}

#[tokio::test]
async fn recordings_that_come_too_fast_are_lost_and_no_record_with_them() {
    let world = World::new();
    let store = world.open().await;
    let hello = function("default/hello");
    let mut sent = Vec::new();
    // All before the writer has its first turn.
    for number in 0..9 {
        let record = world.call(&hello, number);
        store.records().record(record.clone());
        store.records().recording(draft(&record, 5 << 20));
        sent.push(record);
    }
    let told = store
        .invocations(&hello, &InvocationFilter::default())
        .await
        .unwrap();
    let kept = told.records.iter().filter(|record| record.recording);
    assert_eq!((told.records.len(), kept.count()), (9, 6));
    assert_eq!(told.sampling.lost, 3);
    // What was lost took no room for good.
    let next = world.call(&hello, 10);
    store.records().record(next.clone());
    store.records().recording(draft(&next, 5 << 20));
    assert!(store.recording(next.id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_recording_without_its_record_is_not_stored() {
    let world = World::new();
    let store = world.open().await;
    let record = world.call(&function("default/hello"), 1);
    store.records().recording(draft(&record, 10));
    assert_eq!(store.recording(record.id).await.unwrap(), None);
}
