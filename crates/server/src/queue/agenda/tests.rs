//! The agenda told as a table: events, a clock that is set by hand, and what may run.

use super::*;

fn slip(function: &str, at: i64, number: u8) -> Slip {
    Slip {
        id: InvocationId::new(Timestamp(at), [number; 10]),
        function: FunctionId {
            project: "shop".parse().unwrap(),
            name: function.parse().unwrap(),
        },
        accepted_at: Timestamp(at),
        failed: 0,
        deferred: 0,
    }
}

fn numbers(slips: &[Slip]) -> Vec<i64> {
    slips.iter().map(|slip| slip.accepted_at.0).collect()
}

#[test]
fn a_slow_function_keeps_nobody_else_waiting() {
    let mut agenda = Agenda::default();
    for at in 1..=5 {
        agenda.add(slip("slow", at, 1), Timestamp(at));
    }
    agenda.add(slip("quick", 6, 1), Timestamp(6));
    let now = Timestamp(10);
    let first = agenda.take(now, 100, |_| 2);
    assert_eq!(numbers(&first), [1, 2, 6]);
    assert!(agenda.take(now, 100, |_| 2).is_empty());
    assert_eq!(agenda.next_due(now), None, "an end wakes us, not the clock");
    agenda.done(&first[0]);
    assert_eq!(numbers(&agenda.take(now, 100, |_| 2)), [3]);
    assert_eq!(agenda.size(), 5);
}

#[test]
fn no_more_run_than_may_and_the_longest_due_come_first() {
    let mut agenda = Agenda::default();
    agenda.add(slip("b", 2, 1), Timestamp(2));
    agenda.add(slip("a", 3, 1), Timestamp(3));
    agenda.add(slip("c", 1, 1), Timestamp(50));
    let taken = agenda.take(Timestamp(10), 1, |_| 9);
    assert_eq!(numbers(&taken), [2]);
    assert!(agenda.take(Timestamp(10), 1, |_| 9).is_empty());
    assert_eq!(agenda.next_due(Timestamp(10)), Some(Timestamp(50)));
    agenda.again(taken[0].clone(), Timestamp(20));
    assert_eq!(numbers(&agenda.take(Timestamp(10), 9, |_| 9)), [3]);
    assert_eq!(numbers(&agenda.take(Timestamp(20), 9, |_| 9)), [2]);
}

#[test]
fn the_oldest_is_seen_until_it_is_done() {
    let mut agenda = Agenda::default();
    agenda.add(slip("a", 3, 1), Timestamp(3));
    agenda.add(slip("a", 7, 2), Timestamp(7));
    let [first]: [Slip; 1] = agenda.take(Timestamp(3), 9, |_| 9).try_into().unwrap();
    let seen = |agenda: &Agenda| {
        agenda
            .seen()
            .first()
            .map(|seen| (seen.depth, seen.oldest.0))
    };
    assert_eq!(seen(&agenda), Some((2, 3)));
    agenda.done(&first);
    assert_eq!(seen(&agenda), Some((1, 7)));
    let rest = agenda.take(Timestamp(9), 9, |_| 9);
    agenda.done(&rest[0]);
    assert_eq!((seen(&agenda), agenda.size()), (None, 0));
}

#[test]
fn what_waits_for_a_deleted_function_is_forgotten_and_what_runs_ends() {
    let mut agenda = Agenda::default();
    for at in 1..=3 {
        agenda.add(slip("a", at, 1), Timestamp(at));
    }
    let running = agenda.take(Timestamp(9), 9, |_| 1);
    agenda.forget(&running[0].function);
    assert_eq!(agenda.size(), 1);
    agenda.done(&running[0]);
    assert_eq!((agenda.size(), agenda.seen()), (0, vec![]));
    assert!(agenda.take(Timestamp(9), 9, |_| 1).is_empty());
}

#[test]
fn two_retries_after_one_and_two_spans_and_then_no_more() {
    let mut slip = slip("a", 0, 1);
    let mut fate = |why, failed, deferred| {
        slip.failed = failed;
        slip.deferred = deferred;
        let (retry, age) = (TimeSpan::seconds(60), TimeSpan::seconds(3600));
        slip.fate(why, Timestamp(1_000), retry, age)
    };
    let threw = ErrorType::HandlerError;
    assert_eq!(fate(threw, 0, 0), Fate::Retry(Timestamp(61_000)));
    assert_eq!(fate(threw, 1, 0), Fate::Retry(Timestamp(121_000)));
    assert_eq!(fate(threw, 2, 0), Fate::GiveUp);
    let full = ErrorType::QueueFull;
    assert_eq!(fate(full, 2, 0), Fate::Defer(Timestamp(2_000)));
    assert_eq!(fate(full, 2, 3), Fate::Defer(Timestamp(9_000)));
    assert_eq!(fate(full, 0, 60), Fate::Defer(Timestamp(301_000)));
}

#[test]
fn what_would_be_too_old_by_then_is_given_up() {
    let slip = slip("a", 0, 1);
    let fate = |now| {
        let (retry, age) = (TimeSpan::seconds(60), TimeSpan::seconds(100));
        slip.fate(ErrorType::Throttled, Timestamp(now), retry, age)
    };
    assert_eq!(fate(99_000), Fate::Defer(Timestamp(100_000)));
    assert_eq!(fate(99_001), Fate::GiveUp);
}
