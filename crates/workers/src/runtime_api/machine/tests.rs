//! Every order of calls, up to a length, and what must hold after each.

use super::*;

fn id(number: u64) -> InvocationId {
    InvocationId::from_words(1, number).unwrap()
}

/// What can happen next.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Poll,
    PollLeft(u64),
    Arrive(u64),
    CallerLeft(u64),
    Begin(u64),
    End(u64),
    InitFails,
}

/// What an outsider knows, kept beside the machine.
#[derive(Clone, Default)]
struct Seen {
    is_ready: bool,
    has_failed: bool,
    arrived: Vec<u64>,
    delivered: Vec<u64>,
    answering: Vec<u64>,
    answered: Vec<u64>,
    settled: Vec<u64>,
    left: Vec<u64>,
}

fn machine_of(steps: &[Step], concurrency: u32) -> (Machine, Seen) {
    let (mut machine, mut seen) = (Machine::new(concurrency), Seen::default());
    for step in steps {
        apply(&mut machine, &mut seen, *step, concurrency);
        check(&machine, &seen, steps);
    }
    (machine, seen)
}

fn apply(machine: &mut Machine, seen: &mut Seen, step: Step, concurrency: u32) {
    let number = |id: InvocationId| id.to_words().1;
    match step {
        Step::Poll => {
            let running = seen.delivered.len() - seen.answered.len();
            let may =
                !seen.has_failed && (!seen.answered.is_empty() || running < concurrency as usize);
            match machine.poll() {
                Ok(polled) => {
                    assert!(may);
                    assert_eq!(polled.is_first, !seen.is_ready);
                    seen.is_ready = true;
                    assert_eq!(polled.settled.is_some(), !seen.answered.is_empty());
                    if let Some(over) = polled.settled.map(number) {
                        seen.answered.retain(|one| *one != over);
                        seen.delivered.retain(|one| *one != over);
                        seen.settled.push(over);
                    }
                    seen.delivered.extend(polled.gets.map(number));
                }
                Err(refusal) => {
                    assert!(!may);
                    assert!(matches!(refusal, Refusal::State { to: "Ready", .. }));
                }
            }
        }
        Step::PollLeft(poll) => machine.poll_left(PollId(poll)),
        Step::Arrive(one) if !seen.arrived.contains(&one) => {
            seen.arrived.push(one);
            if machine.arrive(id(one)).is_some() {
                seen.delivered.push(one);
            }
        }
        Step::Arrive(_) => {}
        Step::CallerLeft(one) => {
            machine.caller_left(id(one));
            if seen.arrived.contains(&one) && !seen.delivered.contains(&one) {
                seen.left.push(one);
            }
        }
        Step::Begin(one) => {
            let begun = machine.answer_begins(id(one));
            let is_there = seen.delivered.contains(&one);
            let is_first =
                is_there && !seen.answering.contains(&one) && !seen.answered.contains(&one);
            assert_eq!(begun.is_ok(), is_first);
            assert_eq!(begun == Err(Refusal::UnknownId), !is_there);
            if is_first {
                seen.answering.push(one);
            }
        }
        Step::End(one) if seen.answering.contains(&one) => {
            machine.answer_ends(id(one));
            seen.answering.retain(|other| *other != one);
            seen.answered.push(one);
        }
        Step::End(_) => {}
        Step::InitFails => {
            let failed = machine.init_failed();
            assert_eq!(failed.is_ok(), !seen.is_ready && !seen.has_failed);
            seen.has_failed |= failed.is_ok();
        }
    }
}

fn check(machine: &Machine, seen: &Seen, steps: &[Step]) {
    for one in &seen.arrived {
        let is_over = seen.settled.contains(one) || seen.left.contains(one);
        assert_eq!(
            machine.is_settled(id(*one)),
            is_over,
            "{one} after {steps:?}"
        );
    }
    let over = seen.arrived.iter();
    let over = over.filter(|one| seen.settled.contains(one) || seen.left.contains(one));
    assert_eq!(machine.unsettled(), seen.arrived.len() - over.count());
    // A poll and an invocation never wait for each other.
    assert!(
        machine.polls.is_empty() || machine.waiting.is_empty(),
        "{steps:?}"
    );
}

const STEPS: [Step; 11] = [
    Step::Poll,
    Step::PollLeft(0),
    Step::PollLeft(1),
    Step::Arrive(1),
    Step::Arrive(2),
    Step::CallerLeft(1),
    Step::Begin(1),
    Step::Begin(2),
    Step::End(1),
    Step::End(2),
    Step::InitFails,
];

#[test]
fn every_order_of_calls_keeps_what_must_hold() {
    for concurrency in [1, 2] {
        let mut orders: Vec<Vec<Step>> = vec![Vec::new()];
        for _ in 0..5 {
            orders = orders
                .into_iter()
                .flat_map(|order| {
                    STEPS.map(|step| {
                        let mut longer = order.clone();
                        longer.push(step);
                        longer
                    })
                })
                .collect();
        }
        orders
            .iter()
            .for_each(|order| drop(machine_of(order, concurrency)));
    }
}

#[test]
fn one_after_the_other() {
    use Step::*;
    let (mut machine, seen) = machine_of(
        &[
            Poll,
            Arrive(1),
            Begin(1),
            End(1),
            Poll,
            Arrive(2),
            Begin(2),
            End(2),
        ],
        1,
    );
    assert_eq!(seen.settled, [1]);
    assert!(!machine.has_room());
    assert_eq!(machine.poll().unwrap().settled, Some(id(2)));
    assert!(machine.has_room());
}

#[test]
fn a_runtime_that_asks_for_more_than_it_may_have_is_refused() {
    use Step::*;
    let (mut machine, _) = machine_of(&[Poll, Arrive(1)], 1);
    let refusal = Refusal::State {
        from: "Running",
        to: "Ready",
    };
    assert_eq!(machine.poll(), Err(refusal));
    let (mut machine, _) = machine_of(&[Poll, Poll, Arrive(1)], 2);
    assert!(machine.poll().is_ok());
}

#[test]
fn a_second_answer_is_refused_and_so_is_a_late_one() {
    use Step::*;
    let (mut machine, _) = machine_of(&[Poll, Arrive(1), Begin(1), End(1)], 1);
    let refusal = Refusal::State {
        from: "ResponseSent",
        to: "InvocationResponse",
    };
    assert_eq!(machine.answer_begins(id(1)), Err(refusal));
    machine.poll().unwrap();
    assert_eq!(machine.answer_begins(id(1)), Err(Refusal::UnknownId));
}

#[test]
fn an_invocation_whose_poller_left_goes_to_the_next() {
    use Step::*;
    let (mut machine, _) = machine_of(&[Poll, Poll, Arrive(1)], 2);
    assert_eq!(machine.undelivered(id(1)), Some(PollId(1)));
    assert_eq!(machine.undelivered(id(1)), None);
    let again = machine.poll().unwrap();
    assert_eq!(again.gets, Some(id(1)));
}

#[test]
fn what_nobody_waits_for_is_answered_and_settled_all_the_same() {
    use Step::*;
    let (machine, _) = machine_of(&[Poll, Arrive(1), CallerLeft(1)], 1);
    assert!(!machine.is_settled(id(1)));
    let (machine, seen) = machine_of(&[Poll, Arrive(1), CallerLeft(1), Begin(1), End(1), Poll], 1);
    assert!(machine.is_settled(id(1)) && seen.settled == [1]);
}
