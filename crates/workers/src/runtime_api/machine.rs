//! What a runtime client may do when, and which invocation goes to which of its polls.
//! Values only: no sockets, no clock, no bodies.

use std::collections::{BTreeMap, VecDeque};

use model::InvocationId;

/// One `/next` that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollId(pub u64);

/// Where a runtime stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It has not asked for anything yet.
    Starting,
    /// It has asked for its first invocation.
    Ready,
    /// It has said that it cannot start.
    Failed,
}

/// Where an invocation that reached the runtime stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The runtime has it, and has said nothing.
    Delivered,
    /// Its answer is coming.
    Answering,
    /// Its answer has come; it ends with the next poll.
    Answered,
}

/// Why a call of the runtime's is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It has no such invocation.
    UnknownId,
    /// Not now: from one state to another, in words.
    State {
        from: &'static str,
        to: &'static str,
    },
}

/// What a poll has brought about.
#[derive(Debug, PartialEq, Eq)]
pub struct Polled {
    /// Its name, until it is answered.
    pub poll: PollId,
    /// Whether the runtime is ready by this.
    pub is_first: bool,
    /// The invocation that is over by this.
    pub settled: Option<InvocationId>,
    /// The invocation that it gets at once.
    pub gets: Option<InvocationId>,
}

/// One worker's side of the Runtime API.
#[derive(Debug)]
pub struct Machine {
    phase: Phase,
    /// Invocations that the runtime may have at once.
    concurrency: usize,
    next_poll: u64,
    polls: VecDeque<PollId>,
    waiting: VecDeque<InvocationId>,
    /// In the order of their ids, which is that of their arrival.
    reached: BTreeMap<InvocationId, Stage>,
}

impl Machine {
    /// A runtime that has not asked for anything.
    pub fn new(concurrency: u32) -> Machine {
        Machine {
            phase: Phase::Starting,
            concurrency: concurrency as usize,
            next_poll: 0,
            polls: VecDeque::new(),
            waiting: VecDeque::new(),
            reached: BTreeMap::new(),
        }
    }

    /// The runtime asks for an invocation. That ends the oldest one that it has answered.
    pub fn poll(&mut self) -> Result<Polled, Refusal> {
        let settled = self.oldest_answered();
        let unanswered = self.reached.len() - self.answered();
        if self.phase == Phase::Failed || (settled.is_none() && unanswered >= self.concurrency) {
            return Err(self.refusal("Ready"));
        }
        if let Some(id) = settled {
            self.reached.remove(&id);
        }
        let is_first = self.phase == Phase::Starting;
        self.phase = Phase::Ready;
        let poll = PollId(self.next_poll);
        self.next_poll += 1;
        let gets = self.waiting.pop_front();
        match gets {
            Some(id) => drop(self.reached.insert(id, Stage::Delivered)),
            None => self.polls.push_back(poll),
        }
        Ok(Polled {
            poll,
            is_first,
            settled,
            gets,
        })
    }

    /// Whoever polled is gone.
    pub fn poll_left(&mut self, poll: PollId) {
        self.polls.retain(|waiting| *waiting != poll);
    }

    /// An invocation arrives; it goes to this poll, or waits for one.
    pub fn arrive(&mut self, id: InvocationId) -> Option<PollId> {
        let poll = self.polls.pop_front();
        match poll {
            Some(_) => drop(self.reached.insert(id, Stage::Delivered)),
            None => self.waiting.push_back(id),
        }
        poll
    }

    /// The poll that got this invocation was gone: it goes to another one, or waits for one.
    pub fn undelivered(&mut self, id: InvocationId) -> Option<PollId> {
        self.reached.remove(&id);
        let poll = self.polls.pop_front();
        match poll {
            Some(_) => drop(self.reached.insert(id, Stage::Delivered)),
            None => self.waiting.push_front(id),
        }
        poll
    }

    /// Nobody waits for this answer any more. What has reached the runtime stays until it has answered.
    pub fn caller_left(&mut self, id: InvocationId) {
        self.waiting.retain(|waiting| *waiting != id);
    }

    /// The runtime begins to answer.
    pub fn answer_begins(&mut self, id: InvocationId) -> Result<(), Refusal> {
        match self.reached.get_mut(&id) {
            Some(stage @ Stage::Delivered) => {
                *stage = Stage::Answering;
                Ok(())
            }
            Some(Stage::Answering | Stage::Answered) => Err(self.refusal("InvocationResponse")),
            None => Err(Refusal::UnknownId),
        }
    }

    /// The answer has come, whole or not.
    pub fn answer_ends(&mut self, id: InvocationId) {
        if let Some(stage) = self.reached.get_mut(&id) {
            *stage = Stage::Answered;
        }
    }

    /// The runtime says that it cannot start.
    pub fn init_failed(&mut self) -> Result<(), Refusal> {
        if self.phase != Phase::Starting {
            return Err(self.refusal("InitError"));
        }
        self.phase = Phase::Failed;
        Ok(())
    }

    /// Whether an invocation would be taken at once.
    pub fn has_room(&self) -> bool {
        self.polls.len() > self.waiting.len()
    }

    /// Whether this invocation is neither waiting nor with the runtime.
    pub fn is_settled(&self, id: InvocationId) -> bool {
        !self.reached.contains_key(&id) && !self.waiting.contains(&id)
    }

    /// Invocations that wait or have reached the runtime, and are not over.
    pub fn unsettled(&self) -> usize {
        self.reached.len() + self.waiting.len()
    }

    fn answered(&self) -> usize {
        let stages = self.reached.values();
        stages.filter(|stage| **stage == Stage::Answered).count()
    }

    fn oldest_answered(&self) -> Option<InvocationId> {
        let mut reached = self.reached.iter();
        let found = reached.find(|(_, stage)| **stage == Stage::Answered);
        found.map(|(id, _)| *id)
    }

    fn refusal(&self, to: &'static str) -> Refusal {
        let from = match self.phase {
            Phase::Starting => "Started",
            Phase::Failed => "InitError",
            Phase::Ready if self.reached.is_empty() => "Ready",
            Phase::Ready if self.answered() == self.reached.len() => "ResponseSent",
            Phase::Ready => "Running",
        };
        Refusal::State { from, to }
    }
}

#[cfg(test)]
mod tests;
