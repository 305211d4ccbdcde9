//! SIGKILL in each state of a runtime, and deadlines: who was served knows it, who was not learns why, and the next is served.

use model::ErrorType;
use rustix::process::{Pid, Signal, kill_process};

use crate::world::{World, plan, until};

fn kill(process: i32) {
    kill_process(Pid::from_raw(process).unwrap(), Signal::KILL).unwrap();
}

/// Whoever asks next is served by another worker.
async fn goes_on(world: &World, dead: i32) {
    assert_ne!(world.process().await, dead);
    until("nobody is busy", || world.pool.counts().busy == 0).await;
    world.stop().await;
}

#[tokio::test]
async fn death_while_it_waits_for_work_costs_nothing() {
    let world = plan().start();
    let process = world.process().await;
    kill(process);
    until("the pool knows", || world.pool.counts().idle == 0).await;
    goes_on(&world, process).await;
}

#[tokio::test]
async fn death_with_an_invocation_in_its_hands_is_named() {
    let world = plan().start();
    let process = world.process().await;
    let failure = world.fails("os.kill(os.getpid(), 9)").await;
    assert_eq!(failure.error_type, ErrorType::WorkerCrashed);
    assert!(failure.message.contains("SIGKILL"), "{failure}");
    goes_on(&world, process).await;
}

#[tokio::test]
async fn death_in_the_middle_of_an_answer_breaks_it_off() {
    let world = plan().start();
    let process = world.process().await;
    let failure = world
        .fails("stream(id, b'part', lambda: time.sleep(0.05), lambda: os.kill(os.getpid(), 9))")
        .await;
    assert_eq!(failure.error_type, ErrorType::WorkerCrashed);
    goes_on(&world, process).await;
}

#[tokio::test]
async fn death_after_an_answer_does_not_take_it_back() {
    let world = plan().start();
    let process = world.process().await;
    let answer = world
        .json("done(id, 'done'); os.kill(os.getpid(), 9)")
        .await;
    assert_eq!(answer, "done");
    goes_on(&world, process).await;
}

#[tokio::test]
async fn a_deadline_holds_before_and_after_the_answer() {
    let world = plan().setting("timeout = '300ms'").start();
    let process = world.process().await;
    let failure = world.fails("time.sleep(60)").await;
    assert_eq!(failure.error_type, ErrorType::FunctionTimeout);
    let second = world.process().await;
    assert_ne!(second, process);
    // It has answered, and never asks again: its place is not lost.
    assert_eq!(world.json("done(id, 1); time.sleep(60)").await, 1);
    goes_on(&world, second).await;
}
