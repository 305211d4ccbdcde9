//! A session at work: claims functions on a channel, runs what is offered, and comes back by itself after whatever happened.

mod opening;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use bytes::Bytes;
use model::Failure;
use tokio::{
    sync::{Notify, mpsc},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    channel::{Channel, JoinError, Joined, Outbox},
    clock::ticks,
    cover::{Cover, Seals},
    flow::CHUNK,
    frame::Frame,
    host::Key,
    message::{
        Claim, Control, Fatal, Heartbeat, Hello, Holder, Mode, Refusal, Refused, Release, Welcome,
    },
    session::{Asked, Session},
    work::{Answer, Go, Lines, Offer},
};

/// Between looks at what time alone asks for.
const TICK: Duration = Duration::from_millis(25);

/// The same, while nothing runs.
const IDLE_TICK: Duration = Duration::from_millis(200);

/// An earlier session of the same developer may hold a claim for as long as its lease runs: so long it is asked for again.
const OWN_WAIT: u64 = 6000;

/// Between such questions.
const OWN_PAUSE: u64 = 400;

/// The first pause before joining again, doubled each time …
const PAUSE: Duration = Duration::from_millis(100);

/// … up to this: whoever comes back is back within five seconds.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// A channel that has not answered so many heartbeats is taken for broken, and joined anew.
const HEARTBEATS_MISSED: u64 = 3;

/// Joining takes at most this.
const JOIN_WAIT: Duration = Duration::from_secs(4);

/// What a session would have of a function.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wish {
    /// `project/name`.
    pub function: String,
    /// Which invocations, as [`model::Rule`] reads it.
    pub rule: String,
}

/// How it would have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The invocations, or copies.
    pub mode: Mode,
    /// Take it from whoever holds it; the first time only.
    pub take_over: bool,
    /// So many at once.
    pub concurrency: Option<u32>,
    /// The deadline waits at a breakpoint.
    pub hold_deadline: bool,
    /// Everything is meant, on a wide channel too.
    pub all: bool,
}

/// What happens to a session, for whoever watches it.
#[derive(Debug, Clone)]
pub enum Event {
    /// It is on the channel. `away_ms`: for how long it was not.
    Joined {
        /// What the channel said.
        welcome: Welcome,
        /// Milliseconds since the connection broke, if there was one.
        away_ms: Option<u64>,
    },
    /// The channel cannot be reached; it is tried again.
    Unreachable {
        /// Why.
        why: String,
    },
    /// The channel will not have this session; it has ended.
    Rejected(Refusal),
    /// A claim is held.
    Claimed {
        /// Of what.
        wish: Wish,
        /// Whether somebody has invocations of it.
        is_deployed: bool,
    },
    /// A claim is not held, and is not asked for again.
    Refused {
        /// Of what.
        wish: Wish,
        /// Why.
        refusal: Refusal,
        /// Who holds it.
        holder: Option<Holder>,
    },
    /// A claim was taken away, and is not asked for again.
    Taken {
        /// Of what.
        wish: Wish,
        /// Who has it now.
        by: Option<String>,
        /// Why.
        why: String,
    },
    /// The connection is broken, or silent.
    Broken {
        /// Why.
        why: String,
    },
    /// Something of a host cannot be read here, or was not offered because of that; said once for each reason.
    Unreadable {
        /// Why.
        why: String,
    },
    /// The lease ran out, or the channel gave this session up: what ran was stopped, so many of it.
    Lapsed {
        /// How many.
        running: usize,
        /// Why.
        why: String,
    },
}

/// Runs invocations, on the laptop's own pool or otherwise.
pub trait Runner: Send + Sync + 'static {
    /// Whether it would run it.
    ///
    /// # Errors
    /// Why not, in words for the other side.
    fn would(&self, offer: &Offer) -> Result<(), String>;

    /// Runs it and tells how it went through [`Work::reply`]; dropped when nobody waits for it any more.
    fn run(&self, work: Work) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// An invocation that is to be run.
pub struct Work {
    /// Which.
    pub key: Key,
    /// What was said of it.
    pub offer: Offer,
    /// When that was heard.
    pub offered_at: Instant,
    /// The head of the request.
    pub go: Go,
    /// The request's body.
    pub body: Pieces,
    /// Where the answer goes.
    pub reply: Reply,
}

/// A session; clones are the same one.
#[derive(Clone)]
pub struct Attached(Arc<Shared>);

struct Shared {
    channel: Arc<dyn Channel>,
    hello: Hello,
    runner: Arc<dyn Runner>,
    events: mpsc::UnboundedSender<Event>,
    tasks: TaskTracker,
    inner: Mutex<Inner>,
    /// The wishes have changed.
    changed: Notify,
}

struct Inner {
    machine: Session,
    seals: Seals,
    /// What of [`Event::Unreadable`] was said already.
    unreadable: BTreeSet<String>,
    outbox: Option<Outbox>,
    offers: HashMap<Key, (Offer, Instant)>,
    mails: HashMap<Key, Mail>,
    wishes: BTreeMap<Wish, Held>,
    next_reference: u64,
    /// When this stay began.
    joined_at: u64,
    /// No more is accepted.
    is_leaving: bool,
}

/// A wish, and what became of it on this connection.
struct Held {
    terms: Terms,
    state: Claiming,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claiming {
    New,
    /// Not before this moment.
    Later(u64),
    Asked(u64),
    Holds(u64),
    /// Refused or taken.
    Lost,
}

/// Where what is said of an attempt goes.
struct Mail {
    body: mpsc::UnboundedSender<(Bytes, bool)>,
    room: Arc<Notify>,
    abort: CancellationToken,
}

/// Why a stay on the channel ended.
enum Stay {
    Broken(String),
    Rejected(Refusal),
    Left,
}

/// The heartbeat of one stay.
struct Pulse {
    sent: u64,
    /// When each unanswered one was sent, by number.
    unanswered: BTreeMap<u64, u64>,
    next_at: u64,
}

impl Attached {
    /// A session on this channel. It lives while [`Attached::run`] does.
    pub fn new(
        channel: Arc<dyn Channel>,
        mut hello: Hello,
        runner: Arc<dyn Runner>,
        events: mpsc::UnboundedSender<Event>,
        cover: Cover,
    ) -> Attached {
        cover.tell(&mut hello);
        let mut machine = Session::default();
        if cover.packs {
            machine.pack();
        }
        let inner = Inner {
            machine,
            seals: Seals::of_session(cover),
            unreadable: BTreeSet::new(),
            outbox: None,
            offers: HashMap::new(),
            mails: HashMap::new(),
            wishes: BTreeMap::new(),
            next_reference: 0,
            joined_at: 0,
            is_leaving: false,
        };
        Attached(Arc::new(Shared {
            channel,
            hello,
            runner,
            events,
            tasks: TaskTracker::new(),
            inner: Mutex::new(inner),
            changed: Notify::new(),
        }))
    }

    /// What it would have from now on; what it holds and is not among these is given back.
    pub fn wish(&self, wishes: BTreeMap<Wish, Terms>) {
        let mut inner = self.lock();
        let mut gone = Vec::new();
        inner.wishes.retain(|wish, held| {
            let stays = wishes.contains_key(wish);
            if let (false, Claiming::Holds(claim)) = (stays, held.state) {
                gone.push(claim);
            }
            stays
        });
        for claim in gone {
            let claim = Some(claim);
            inner.send(Control::Release(Release { claim }).into());
        }
        for (wish, terms) in wishes {
            let state = Claiming::New;
            inner.wishes.entry(wish).or_insert(Held { terms, state });
        }
        drop(inner);
        self.0.changed.notify_one();
    }

    /// Frames that came and could not be read: another key sealed them, nobody did, or they were changed on their way.
    pub fn dropped(&self) -> u64 {
        self.lock().seals.dropped()
    }

    /// Invocations that run here now.
    pub fn running(&self) -> usize {
        self.lock().machine.running()
    }

    /// Stays on the channel and comes back to it, until the channel will not have it or `leaving` is cancelled;
    /// then everything is released, and work in flight may go on for `grace`.
    pub async fn run(&self, leaving: CancellationToken, grace: Duration) {
        let mut resume: Option<String> = None;
        let mut lease_end = 0;
        let mut pause = PAUSE;
        let mut broken_at: Option<u64> = None;
        loop {
            let hello = Hello {
                resume: resume.clone(),
                ..self.0.hello.clone()
            };
            let joining = tokio::time::timeout(JOIN_WAIT, self.0.channel.join(hello));
            let joined = tokio::select! {
                joined = joining => joined,
                () = self.lapse_at(lease_end) => { lease_end = 0; continue }
                () = leaving.cancelled() => return self.lapse("the session ends").await,
            };
            let why = match joined {
                // What ran was stopped here, so nobody may wait for it there any longer.
                Ok(Ok(joined)) if joined.welcome.resumed && lease_end == 0 => {
                    joined.leave("its lease ran out").await;
                    resume = None;
                    continue;
                }
                Ok(Ok(joined)) => {
                    pause = PAUSE;
                    resume = Some(joined.welcome.key.clone());
                    if lease_end != 0 && !joined.welcome.resumed {
                        self.lapse("the channel had given this session up").await;
                    }
                    let now = ticks();
                    lease_end = now + joined.welcome.lease_ms;
                    let away_ms = broken_at.take().map(|at| now.saturating_sub(at));
                    let stay = self.stay(joined, away_ms, &mut lease_end, &leaving, grace);
                    match stay.await {
                        Stay::Broken(why) => why,
                        Stay::Rejected(refusal) => {
                            self.lapse("the session was rejected").await;
                            return self.tell(Event::Rejected(refusal));
                        }
                        Stay::Left => return,
                    }
                }
                Ok(Err(error)) => match final_refusal(&error) {
                    Some(refusal) => {
                        self.lapse("the session was rejected").await;
                        return self.tell(Event::Rejected(refusal));
                    }
                    None => with_causes(&error),
                },
                Err(_) => format!("no answer within {} s", JOIN_WAIT.as_secs()),
            };
            self.lock().outbox = None;
            match broken_at {
                None => {
                    broken_at = Some(ticks());
                    self.tell(Event::Broken { why });
                }
                Some(_) => self.tell(Event::Unreachable { why }),
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = self.lapse_at(lease_end) => lease_end = 0,
                () = leaving.cancelled() => return self.lapse("the session ends").await,
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Waits for the end of the lease, by a clock that counts sleep, and stops what runs; never, if there is none.
    async fn lapse_at(&self, lease_end: u64) {
        if lease_end == 0 {
            return std::future::pending().await;
        }
        while ticks() < lease_end {
            sleep(TICK).await;
        }
        self.lapse("the lease ran out").await;
    }

    /// Stops everything: it has failed elsewhere already.
    async fn lapse(&self, why: &str) {
        let running = {
            let mut inner = self.lock();
            let running = inner.machine.running();
            inner.machine.lapse(why);
            // Nothing that is said now is for anybody.
            inner.outbox = None;
            for held in inner.wishes.values_mut() {
                if held.state != Claiming::Lost {
                    held.terms.take_over = false;
                    held.state = Claiming::New;
                }
            }
            running
        };
        self.deliver();
        if running > 0 {
            let why = why.to_owned();
            self.tell(Event::Lapsed { running, why });
        }
    }

    /// One stay on the channel.
    async fn stay(
        &self,
        joined: Joined,
        away_ms: Option<u64>,
        lease_end: &mut u64,
        leaving: &CancellationToken,
        grace: Duration,
    ) -> Stay {
        let mut joined = joined;
        let welcome = joined.welcome.clone();
        self.begin(&welcome, joined.outbox.clone());
        let heartbeat = welcome.heartbeat_ms.max(50);
        let lease = welcome.lease_ms;
        self.tell(Event::Joined { welcome, away_ms });
        let mut pulse = Pulse {
            sent: 0,
            unanswered: BTreeMap::new(),
            next_at: 0,
        };
        let mut leave_by = None;
        loop {
            let now = ticks();
            if now >= *lease_end {
                self.lapse("the lease ran out").await;
                *lease_end = 0;
                return Stay::Broken("the lease ran out".into());
            }
            if pulse.is_silent(now, heartbeat) {
                return Stay::Broken("the channel is silent".into());
            }
            self.beat(&mut pulse, now, heartbeat);
            if let Some(by) = leave_by
                && (now >= by || self.lock().machine.is_idle())
            {
                return self.leave(joined).await;
            }
            let frame = tokio::select! {
                frame = joined.inbox.recv() => frame,
                () = sleep(self.patience()) => { self.step(Session::tick); self.claim(); continue }
                () = self.0.changed.notified() => { self.claim(); continue }
                () = leaving.cancelled(), if leave_by.is_none() => {
                    leave_by = Some(now + u64::try_from(grace.as_millis()).unwrap_or(0));
                    self.release();
                    continue;
                }
            };
            let Some(frame) = frame else {
                return Stay::Broken("the connection closed".into());
            };
            // Sleep may have passed while this waited.
            if ticks() >= *lease_end {
                continue;
            }
            match self.hear(frame) {
                Heard::Alive(n) => {
                    if let Some(sent) = pulse.answered(n) {
                        *lease_end = (*lease_end).max(sent + lease);
                    }
                }
                Heard::Ended(stay) => return stay,
                Heard::Nothing => {}
            }
        }
    }

    /// Between looks at what time alone asks for.
    fn patience(&self) -> Duration {
        match self.lock().machine.is_idle() {
            true => IDLE_TICK,
            false => TICK,
        }
    }

    fn begin(&self, welcome: &Welcome, outbox: Outbox) {
        let mut inner = self.lock();
        inner.outbox = Some(outbox);
        inner.joined_at = ticks();
        inner.seals.welcome(&welcome.session);
        for held in inner.wishes.values_mut() {
            match held.state {
                Claiming::Holds(claim) if welcome.resumed && welcome.claims.contains(&claim) => {}
                Claiming::Lost | Claiming::New | Claiming::Later(_) => {}
                Claiming::Asked(_) | Claiming::Holds(_) => {
                    held.terms.take_over = false;
                    held.state = Claiming::New;
                }
            }
        }
        let now = ticks();
        if welcome.resumed {
            inner.machine.resumed(now);
        }
        drop(inner);
        self.deliver();
        self.claim();
    }

    /// Asks for what is wished and not held.
    fn claim(&self) {
        let mut inner = self.lock();
        let Inner {
            wishes,
            next_reference,
            outbox: Some(outbox),
            is_leaving: false,
            ..
        } = &mut *inner
        else {
            return;
        };
        for (wish, held) in wishes {
            match held.state {
                Claiming::New => {}
                Claiming::Later(at) if at <= ticks() => {}
                _ => continue,
            }
            *next_reference += 1;
            held.state = Claiming::Asked(*next_reference);
            let terms = &held.terms;
            let claim = Claim {
                reference: *next_reference,
                function: wish.function.clone(),
                rule: wish.rule.clone(),
                mode: terms.mode,
                take_over: terms.take_over,
                concurrency: terms.concurrency,
                hold_deadline: terms.hold_deadline,
                all: terms.all,
            };
            let _is_open = outbox.send(Control::from(claim)).is_ok();
        }
    }

    fn beat(&self, pulse: &mut Pulse, now: u64, heartbeat: u64) {
        if now < pulse.next_at {
            return;
        }
        pulse.sent += 1;
        pulse.unanswered.insert(pulse.sent, now);
        pulse.next_at = now + heartbeat;
        let n = pulse.sent;
        self.lock().send(Control::Heartbeat(Heartbeat { n }).into());
    }

    /// Takes no more, and gives everything back.
    fn release(&self) {
        let mut inner = self.lock();
        inner.is_leaving = true;
        inner.send(Control::Release(Release::default()).into());
    }

    async fn leave(&self, joined: Joined) -> Stay {
        self.lock().machine.lapse("the session ends");
        self.deliver();
        self.lock().outbox = None;
        joined.leave("the developer left").await;
        self.0.tasks.close();
        self.0.tasks.wait().await;
        Stay::Left
    }

    fn hear(&self, frame: Frame) -> Heard {
        if frame.head.kind.is_of_attempt() {
            self.hear_of_attempt(frame);
            return Heard::Nothing;
        }
        match Control::read(&frame) {
            Ok(Control::Alive(alive)) => return Heard::Alive(alive.n),
            Ok(Control::Claimed(claimed)) => {
                let became = Claiming::Holds(claimed.claim);
                if let Some(wish) = self.settled(claimed.reference, became) {
                    let is_deployed = claimed.deployed;
                    self.tell(Event::Claimed { wish, is_deployed });
                } else {
                    // It was given up while the answer was on its way.
                    let claim = Some(claimed.claim);
                    self.lock().send(Control::Release(Release { claim }).into());
                }
            }
            Ok(Control::Refused(refused)) if self.is_own(&refused) => {
                let later = Claiming::Later(ticks() + OWN_PAUSE);
                self.settled(refused.reference, later);
            }
            Ok(Control::Refused(refused)) => {
                if let Some(wish) = self.settled(refused.reference, Claiming::Lost) {
                    self.tell(Event::Refused {
                        wish,
                        refusal: refused.refusal,
                        holder: refused.holder,
                    });
                }
            }
            Ok(Control::Taken(taken)) => {
                if let Some(wish) = self.lost(taken.claim) {
                    let (by, why) = (taken.by, taken.why);
                    self.tell(Event::Taken { wish, by, why });
                }
            }
            Ok(Control::Gone(gone)) => self.step(|machine, _| machine.gone(gone.peer, &gone.why)),
            Ok(Control::Goodbye(goodbye)) => return Heard::Ended(Stay::Broken(goodbye.why)),
            Ok(Control::Fatal(Fatal(refusal))) => return Heard::Ended(Stay::Rejected(refusal)),
            Ok(_) | Err(_) => {}
        }
        Heard::Nothing
    }

    /// Whether what refuses is an earlier session of the same developer, whose lease may still run.
    fn is_own(&self, refused: &Refused) -> bool {
        let holder = refused.holder.as_ref().map(|holder| &holder.developer);
        let is_own = holder.is_some() && holder == self.0.hello.developer.as_ref();
        is_own && ticks() < self.lock().joined_at + OWN_WAIT
    }

    /// The wish that this question was about, in its new state.
    fn settled(&self, reference: u64, became: Claiming) -> Option<Wish> {
        let mut inner = self.lock();
        let mut wishes = inner.wishes.iter_mut();
        let (wish, held) = wishes.find(|(_, held)| held.state == Claiming::Asked(reference))?;
        held.state = became;
        Some(wish.clone())
    }

    /// The wish whose claim was taken.
    fn lost(&self, claim: u64) -> Option<Wish> {
        let mut inner = self.lock();
        let mut wishes = inner.wishes.iter_mut();
        let (wish, held) = wishes.find(|(_, held)| held.state == Claiming::Holds(claim))?;
        held.state = Claiming::Lost;
        Some(wish.clone())
    }

    fn step(&self, step: impl FnOnce(&mut Session, u64)) {
        step(&mut self.lock().machine, ticks());
        self.deliver();
    }

    /// Sends what the machine says, and does what it was asked.
    fn deliver(&self) {
        let mut starts = Vec::new();
        {
            let mut inner = self.lock();
            loop {
                let (frames, asked) = inner.machine.flush();
                if frames.is_empty() && asked.is_empty() {
                    break;
                }
                frames.into_iter().for_each(|frame| inner.send(frame));
                for (key, asked) in asked {
                    starts.extend(self.asked(&mut inner, key, asked));
                }
            }
        }
        for (work, abort) in starts {
            self.start(work, abort);
        }
    }

    fn asked(
        &self,
        inner: &mut Inner,
        key: Key,
        asked: Asked,
    ) -> Option<(Work, CancellationToken)> {
        match asked {
            Asked::Offered(offer) => {
                let would = match inner.is_leaving {
                    true => Err("leaving".to_owned()),
                    false => self.0.runner.would(&offer),
                };
                let now = ticks();
                match would {
                    Ok(()) if inner.machine.accept(now, key) => {
                        drop(inner.offers.insert(key, (offer, Instant::now())))
                    }
                    Ok(()) => {}
                    Err(why) => drop(inner.machine.decline(now, key, &why)),
                }
            }
            Asked::Start(go) => {
                let (offer, offered_at) = inner.offers.remove(&key)?;
                let (body, pieces) = mpsc::unbounded_channel();
                let (room, abort) = (Arc::new(Notify::new()), CancellationToken::new());
                if !go.body {
                    let _it_waits = body.send((Bytes::new(), true));
                }
                let mail = Mail {
                    body,
                    room: room.clone(),
                    abort: abort.clone(),
                };
                inner.mails.insert(key, mail);
                let session = self.clone();
                let reply = Reply { session, key, room };
                let body = Pieces {
                    session: self.clone(),
                    key,
                    pieces,
                    counts: go.body,
                };
                let work = Work {
                    key,
                    offer,
                    offered_at,
                    go,
                    body,
                    reply,
                };
                return Some((work, abort));
            }
            Asked::Body(bytes, is_last) => {
                if let Some(mail) = inner.mails.get(&key) {
                    // Whoever runs it may not read it.
                    let _it_reads = mail.body.send((bytes, is_last));
                }
            }
            Asked::Abort(_) => {
                inner.offers.remove(&key);
                if let Some(mail) = inner.mails.remove(&key) {
                    mail.abort.cancel();
                    mail.room.notify_one();
                }
            }
        }
        None
    }

    fn start(&self, work: Work, abort: CancellationToken) {
        let (session, key) = (self.clone(), work.key);
        let running = self.0.runner.run(work);
        self.0.tasks.spawn(async move {
            abort.run_until_cancelled(running).await;
            session.lock().mails.remove(&key);
        });
    }

    fn tell(&self, event: Event) {
        // Nobody listens only while everything ends.
        let _somebody_listens = self.0.events.send(event);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        let locked = self.0.inner.lock();
        locked.unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// An error and all that it came from, in one line.
fn with_causes(error: &JoinError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    text
}

/// Why the channel will never have this session, if that is why it is not on it.
fn final_refusal(error: &JoinError) -> Option<Refusal> {
    match error {
        JoinError::Refused(refusal) if refusal.kind != "ShuttingDown" => Some(refusal.clone()),
        JoinError::Address { .. } => Some(Refusal::new("BadAddress", error.to_string())),
        JoinError::Status { status, .. } => {
            let kind = match status {
                401 => "Unauthorized",
                403 => "Forbidden",
                404 => "NotFound",
                _ => return None,
            };
            Some(Refusal::new(kind, error.to_string()))
        }
        JoinError::Refused(_)
        | JoinError::Unreachable { .. }
        | JoinError::Silent { .. }
        | JoinError::Closed { .. } => None,
    }
}

enum Heard {
    Nothing,
    Alive(u64),
    Ended(Stay),
}

impl Inner {
    fn send(&mut self, frame: Frame) {
        if let Some(frame) = self.seals.seal(frame) {
            self.pass(frame);
        }
    }

    fn pass(&mut self, frame: Frame) {
        if let Some(outbox) = &self.outbox {
            // A connection that is closed is noticed where it is read.
            let _is_open = outbox.send(frame).is_ok();
        }
    }
}

impl Pulse {
    /// When the heartbeat was sent that is answered now.
    fn answered(&mut self, n: u64) -> Option<u64> {
        let sent = self.unanswered.remove(&n);
        self.unanswered.retain(|number, _| *number > n);
        sent
    }

    fn is_silent(&self, now: u64, heartbeat: u64) -> bool {
        let oldest = self.unanswered.values().next();
        oldest.is_some_and(|sent| sent + HEARTBEATS_MISSED * heartbeat <= now)
    }
}

/// A request's body as it comes.
pub struct Pieces {
    session: Attached,
    key: Key,
    pieces: mpsc::UnboundedReceiver<(Bytes, bool)>,
    /// Whether they came in messages that are to be counted.
    counts: bool,
}

impl Pieces {
    /// The next bytes; `true` with the last. `None`: no more will come.
    pub fn poll_next(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<(Bytes, bool)>> {
        let piece = std::task::ready!(self.pieces.poll_recv(context));
        if piece.is_some() && self.counts {
            let key = self.key;
            self.session.step(|machine, _| machine.taken(key));
        }
        std::task::Poll::Ready(piece)
    }
}

/// Where the answer of an invocation goes.
#[derive(Clone)]
pub struct Reply {
    session: Attached,
    key: Key,
    room: Arc<Notify>,
}

impl Reply {
    /// The head of the answer. `false`: nobody waits for it any more.
    pub fn answer(&self, answer: &Answer) -> bool {
        let mut waits = false;
        self.session
            .step(|machine, now| waits = machine.answer(now, self.key, answer));
        waits
    }

    /// Bytes of the answer, once there is room for them; `is_last` with the last. `false`: nobody waits for it any more.
    pub async fn body(&self, bytes: Bytes, is_last: bool) -> bool {
        let mut rest = bytes;
        loop {
            let piece = rest.split_to(rest.len().min(CHUNK));
            while !self.session.lock().machine.has_room(self.key) {
                self.room.notified().await;
            }
            let (mut waits, ends) = (false, is_last && rest.is_empty());
            self.session
                .step(|machine, now| waits = machine.body(now, self.key, piece, ends));
            if !waits || rest.is_empty() {
                return waits;
            }
        }
    }

    /// It failed. `false`: nobody waits for it any more.
    pub fn fail(&self, failure: &Failure) -> bool {
        let mut waits = false;
        self.session
            .step(|machine, now| waits = machine.fail(now, self.key, failure));
        waits
    }

    /// Lines that it wrote.
    pub fn lines(&self, lines: &Lines) {
        self.session
            .step(|machine, _| machine.lines(self.key, lines));
    }
}
