//! The embedded channel: ports within this process, frames passed between them, claims kept.
//! Knows no transport; a WebSocket is pumped into a port, a host in this process uses one as it is.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use model::FunctionId;
use rand::RngCore;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    Frame, Kind,
    channel::{Closed, Inbox, Outbox, Outward, Shortcut},
    claims::{ChannelSettings, Claims, Credentials, Policy, Turn},
    message::{Control, Fatal, Gone, Goodbye, Refusal, Role},
    queue::{Feed, Full, Total, queue_of},
};

/// Bytes that wait for one port at most; one that reads more slowly than others write to it is cut off.
pub const QUEUE_MAX: usize = 256 << 20;

/// Bytes that wait for all ports together; beyond that, those who read slowly are cut off earlier.
pub const QUEUES_MAX: usize = 512 << 20;

/// How often leases are looked at.
const TICK: Duration = Duration::from_millis(100);

/// Who looks so many milliseconds late was asleep, and heard nobody meanwhile.
const SLEPT: u64 = 1000;

/// Ports are found in so many tables, so that one that comes or goes copies only a small one.
const SHARDS: usize = 64;

/// The embedded channel; clones are the same one.
#[derive(Clone)]
pub struct Broker(Arc<Shared>);

struct Shared {
    /// Who claims what; held while its outcome is sent, so that everybody hears everything in one order.
    claims: Mutex<Claims>,
    shards: Vec<ArcSwap<HashMap<u32, Arc<Line>>>>,
    queue_max: usize,
    total: Total,
    /// Where the milliseconds of the claims count from.
    began: Instant,
    /// When leases were looked at last.
    looked_at: AtomicU64,
}

/// One connection as the broker sees it.
struct Line {
    who: Credentials,
    feed: Feed,
    /// 0 before it was let in.
    peer: AtomicU32,
    is_host: AtomicBool,
    /// Nothing that comes from it counts any more.
    is_over: AtomicBool,
    /// Where frames of attempts go instead, for a host in this process.
    shortcut: OnceLock<Shortcut>,
}

/// One end's connection. Dropping the last clone of its outbox closes it.
pub struct Port {
    /// What the end says.
    pub outbox: Outbox,
    /// What it is told.
    pub inbox: Inbox,
}

/// A connection's way in; gone when nobody can say anything on it any more.
struct Door {
    broker: Broker,
    line: Arc<Line>,
}

impl Broker {
    /// A channel that nobody is connected to. Somebody has to run [`Broker::keep_time`].
    pub fn new(settings: ChannelSettings, policy: Arc<dyn Policy>) -> Broker {
        Broker::with_queue(settings, policy, QUEUE_MAX)
    }

    /// The same with another limit than [`QUEUE_MAX`].
    pub fn with_queue(
        settings: ChannelSettings,
        policy: Arc<dyn Policy>,
        queue_max: usize,
    ) -> Broker {
        Broker(Arc::new(Shared {
            claims: Mutex::new(Claims::new(settings, policy)),
            shards: (0..SHARDS).map(|_| ArcSwap::default()).collect(),
            queue_max,
            total: Total::new(QUEUES_MAX),
            began: Instant::now(),
            looked_at: AtomicU64::new(0),
        }))
    }

    /// A new connection; its first frame has to be a `Hello`.
    pub fn connect(&self, who: Credentials) -> Port {
        self.connect_within(who, self.0.queue_max)
    }

    /// The same, for whoever reads within this process and must not be cut off.
    pub(crate) fn connect_unlimited(&self, who: Credentials) -> Port {
        self.connect_within(who, usize::MAX / 2)
    }

    fn connect_within(&self, who: Credentials, queue_max: usize) -> Port {
        let (feed, inbox) = queue_of(queue_max, self.0.total.clone());
        let line = Arc::new(Line {
            who,
            feed,
            peer: AtomicU32::new(0),
            is_host: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            shortcut: OnceLock::new(),
        });
        let broker = self.clone();
        let outbox = Outbox::new(Door { broker, line });
        Port { outbox, inbox }
    }

    /// Ends silent ends, for ever.
    pub async fn keep_time(&self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.tick();
        }
    }

    /// Ends those whose lease ran out.
    pub fn tick(&self) {
        let mut claims = self.claims();
        let now = self.now_ms();
        let slept = now.saturating_sub(self.0.looked_at.swap(now, Ordering::Relaxed));
        if slept > SLEPT {
            claims.forgive(slept);
        }
        let turn = claims.tick(now);
        self.apply(&mut claims, turn);
    }

    /// Ends every claim of the functions that `is_meant`: live was switched off, or they were deleted.
    pub fn revoke(&self, is_meant: impl Fn(&FunctionId) -> bool, why: &str) {
        let mut claims = self.claims();
        let turn = claims.revoke(is_meant, why);
        self.apply(&mut claims, turn);
    }

    /// Says goodbye to everybody: the channel closes.
    pub fn close(&self, why: &str) {
        let mut claims = self.claims();
        let goodbye = Goodbye { why: why.into() };
        for shard in &self.0.shards {
            for (peer, line) in shard.load().iter() {
                // One that is cut off needs no goodbye.
                let _ = line.feed.push(Control::from(goodbye.clone()).into());
                self.forget(*peer);
            }
        }
        claims.close(why);
    }

    /// How many claims are held.
    pub fn claim_count(&self) -> usize {
        self.claims().count()
    }

    fn claims(&self) -> MutexGuard<'_, Claims> {
        // A panic under the lock leaves a table that is whole: every change to it ends before anything is sent.
        self.0.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn shard(&self, peer: u32) -> &ArcSwap<HashMap<u32, Arc<Line>>> {
        &self.0.shards[peer as usize % SHARDS]
    }

    /// Takes a frame from a connection.
    fn hear(&self, line: &Arc<Line>, frame: Frame) -> Result<(), Closed> {
        if line.is_over.load(Ordering::Acquire) {
            return Err(Closed);
        }
        if frame.head.kind.is_of_attempt() {
            self.pass_on(line, frame);
        } else {
            match Control::read(&frame) {
                Ok(said) => self.hear_control(line, said),
                Err(error) => {
                    let refusal = Refusal::new("BadFrame", error.to_string());
                    self.refuse(line, refusal);
                }
            }
        }
        Ok(())
    }

    /// From a host to a session or back; takes no lock.
    fn pass_on(&self, line: &Arc<Line>, mut frame: Frame) {
        let from = line.peer.load(Ordering::Acquire);
        if from == 0 {
            return self.refuse(line, hello_first(frame.head.kind));
        }
        let to = frame.head.peer;
        let shard = self.shard(to).load();
        let other = shard.get(&to).filter(|other| other.suits(line));
        let Some(other) = other else {
            let why = "nobody with that number is there".into();
            let gone = Gone { peer: to, why };
            let answer = line.feed.push(Control::from(gone).into());
            return self.look_at(from, line, answer);
        };
        frame.head.peer = from;
        match other.shortcut.get() {
            Some(hear) if !other.is_over.load(Ordering::Acquire) => hear(frame),
            Some(_) | None => self.look_at(to, other, other.feed.push(frame)),
        }
    }

    /// What became of a frame for this connection.
    fn look_at(&self, peer: u32, line: &Arc<Line>, outcome: Result<(), Full>) {
        match outcome {
            Ok(()) => {}
            Err(Full::TooSlow) => self.end(line, &too_slow(peer, self.0.queue_max)),
            Err(Full::Closed) => self.end(line, "its connection closed"),
        }
    }

    fn hear_control(&self, line: &Arc<Line>, said: Control) {
        let mut claims = self.claims();
        let peer = line.peer.load(Ordering::Acquire);
        if line.is_over.load(Ordering::Acquire) {
            return;
        }
        let turn = match (peer, said) {
            (0, Control::Hello(hello)) => {
                let role = hello.role;
                let mut chance = [0; 32];
                rand::rng().fill_bytes(&mut chance);
                let joined = claims.join(self.now_ms(), line.who.clone(), hello, chance);
                match joined {
                    Ok(admitted) => {
                        self.enter(line, admitted.peer, role);
                        admitted.turn
                    }
                    Err(Fatal(refusal)) => {
                        drop(claims);
                        return self.refuse(line, refusal);
                    }
                }
            }
            (0, other) => {
                drop(claims);
                return self.refuse(line, hello_first(other.kind()));
            }
            (peer, said) => claims.hear(self.now_ms(), peer, said),
        };
        self.apply(&mut claims, turn);
    }

    /// From now on this is the connection of that end; an earlier one is over.
    fn enter(&self, line: &Arc<Line>, peer: u32, role: Role) {
        line.is_host.store(role == Role::Host, Ordering::Release);
        line.peer.store(peer, Ordering::Release);
        let before = self.shard(peer).load().get(&peer).cloned();
        self.shard(peer).rcu(|lines| {
            let mut lines = HashMap::clone(lines);
            lines.insert(peer, Arc::clone(line));
            lines
        });
        if let Some(before) = before {
            before.is_over.store(true, Ordering::Release);
            before.feed.cut();
        }
    }

    /// Sends what a turn says; whoever is too slow for it is gone too, which is a turn of its own.
    fn apply(&self, claims: &mut Claims, turn: Turn) {
        let mut turns = vec![turn];
        while let Some(turn) = turns.pop() {
            for (to, said) in turn.send {
                let Some(line) = self.shard(to).load().get(&to).cloned() else {
                    continue;
                };
                // Our own host knows of a claim before its session hears that it holds it.
                if let (Some(hear), Control::Presence(_)) = (line.shortcut.get(), &said) {
                    hear(said.into());
                    continue;
                }
                if line.feed.push(said.into()) == Err(Full::TooSlow) {
                    let why = too_slow(to, self.0.queue_max);
                    turns.insert(0, claims.end(self.now_ms(), to, &why));
                }
            }
            for peer in turn.gone {
                self.forget(peer);
            }
        }
    }

    fn forget(&self, peer: u32) {
        let line = self.shard(peer).load().get(&peer).cloned();
        self.shard(peer).rcu(|lines| {
            let mut lines = HashMap::clone(lines);
            lines.remove(&peer);
            lines
        });
        if let Some(line) = line {
            line.is_over.store(true, Ordering::Release);
            line.feed.finish();
        }
    }

    /// A connection's last word, and its end.
    fn refuse(&self, line: &Arc<Line>, refusal: Refusal) {
        let why = format!("it was dismissed: {refusal}");
        // One that is cut off needs no last word.
        let _ = line.feed.push(Control::from(Fatal(refusal)).into());
        self.end(line, &why);
    }

    /// A connection is no more, and so is its end, unless that has come back on another one.
    fn end(&self, line: &Arc<Line>, why: &str) {
        let mut claims = self.claims();
        if line.is_over.swap(true, Ordering::AcqRel) {
            return;
        }
        let peer = line.peer.load(Ordering::Acquire);
        if peer != 0 {
            let turn = claims.end(self.now_ms(), peer, why);
            self.apply(&mut claims, turn);
        }
        line.feed.finish();
    }
}

impl Line {
    /// Hosts talk to sessions, and sessions to hosts.
    fn suits(&self, other: &Line) -> bool {
        self.is_host.load(Ordering::Relaxed) != other.is_host.load(Ordering::Relaxed)
    }
}

impl Outward for Door {
    fn send(&self, frame: Frame) -> Result<(), Closed> {
        self.broker.hear(&self.line, frame)
    }

    fn refuse(&self, refusal: Refusal) {
        self.broker.refuse(&self.line, refusal);
    }

    fn shortcut(&self, hear: Shortcut) -> bool {
        self.line.shortcut.set(hear).is_ok()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.broker.end(&self.line, "its connection closed");
    }
}

fn hello_first(kind: Kind) -> Refusal {
    let message = format!("a {kind:?} came before the Hello that opens a connection");
    Refusal::new("BadFrame", message)
}

fn too_slow(peer: u32, limit: usize) -> String {
    let limit = limit >> 20;
    format!("end {peer} reads too slowly: more than {limit} MiB waited for it")
}

#[cfg(test)]
mod tests;
