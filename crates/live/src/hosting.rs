//! A host at work: knows who claims what, offers invocations, and carries what is said of each to whoever waits for it.
//! While nobody claims anything, asking it costs one load.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::{
    sync::{Notify, mpsc},
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    attempt::{Elsewhere, Go, Lines, Offer, from_json},
    channel::{Inbox, Outbox},
    cover::{Cover, DEFLATE, Seals},
    flow::CHUNK,
    frame::{Frame, Kind, Part},
    host::{Host, Key, Told},
    key::SealKey,
    message::{Control, Heartbeat, Presence, Present},
};

/// Between looks at what time alone asks for, while there are attempts.
const TICK: Duration = Duration::from_millis(25);

/// Attempts whose lines are taken after their end.
const LATE_MAX: usize = 256;

/// A host; clones are the same one.
#[derive(Clone)]
pub struct Hosting(Arc<Shared>);

struct Shared {
    start: Instant,
    inner: Mutex<Inner>,
    /// Claims by function, `project/name`.
    claims: ArcSwap<HashMap<String, Arc<[Present]>>>,
    /// Functions that somebody claims.
    claimed: AtomicUsize,
    /// No more is offered.
    is_retired: AtomicBool,
    /// There is an attempt to look after.
    busy: Notify,
}

struct Inner {
    machine: Host,
    seals: Seals,
    /// Sessions that were told that they have another key.
    strangers: HashSet<u32>,
    mails: HashMap<Key, Mail>,
    /// Where lines of attempts go that have ended: a worker's last words take their time. Oldest first.
    late: VecDeque<(Key, Log)>,
    /// Attempts by claim.
    in_flight: HashMap<u64, u32>,
    outbox: Outbox,
}

/// Where what is said of an attempt goes.
struct Mail {
    told: mpsc::UnboundedSender<Told>,
    room: Arc<Notify>,
    log: Option<Log>,
}

/// Takes the lines that an invocation writes.
pub type Log = Arc<dyn Fn(Lines) + Send + Sync>;

impl Hosting {
    /// A host whose frames go there. It lives while [`Hosting::run`] does; its hello has to say what it covers.
    pub fn new(outbox: Outbox, cover: Cover) -> Hosting {
        let inner = Inner {
            machine: Host::default(),
            seals: Seals::of_host(cover),
            strangers: HashSet::new(),
            mails: HashMap::new(),
            late: VecDeque::new(),
            in_flight: HashMap::new(),
            outbox,
        };
        Hosting(Arc::new(Shared {
            start: Instant::now(),
            inner: Mutex::new(inner),
            claims: ArcSwap::default(),
            claimed: AtomicUsize::new(0),
            is_retired: AtomicBool::new(false),
            busy: Notify::new(),
        }))
    }

    /// Hears frames of attempts where they arrive, on a channel of its own process: no task has to be woken for them.
    pub fn hear_at_once(&self) {
        let heard = Arc::downgrade(&self.0);
        let outbox = self.lock().outbox.clone();
        // A channel that has no such way goes on by the inbox.
        let _has_one = outbox.shortcut(Box::new(move |frame| {
            if let Some(shared) = heard.upgrade() {
                Hosting(shared).hear(frame);
            }
        }));
    }

    /// Whether nobody claims anything: every invocation runs deployed.
    pub fn is_quiet(&self) -> bool {
        self.0.claimed.load(Relaxed) == 0
    }

    /// Frames that came and could not be read: another key sealed them, nobody did, or they were changed on their way.
    pub fn dropped(&self) -> u64 {
        self.lock().seals.dropped()
    }

    /// Offers nothing more, and waits until what runs elsewhere has ended.
    pub async fn retire(&self) {
        self.0.is_retired.store(true, SeqCst);
        self.0.claimed.store(0, SeqCst);
        while !self.lock().mails.is_empty() {
            sleep(TICK).await;
        }
    }

    /// Who claims invocations of a function, in the order in which they are tried.
    pub fn claims(&self, function: &str) -> Option<Arc<[Present]>> {
        self.0.claims.load().get(function).cloned()
    }

    /// Hears what the channel brings and tells it every `heartbeat` that this host is there, until it brings nothing more;
    /// then all that ran elsewhere is lost.
    pub async fn run(&self, mut inbox: Inbox, heartbeat: Duration) {
        let mut beats = interval(heartbeat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut n = 0;
        loop {
            let is_idle = self.lock().machine.is_idle();
            let frame = tokio::select! {
                frame = inbox.recv() => frame,
                _ = ticks.tick(), if !is_idle => {
                    self.step(|machine, now| machine.tick(now));
                    continue;
                }
                () = self.0.busy.notified(), if is_idle => continue,
                _ = beats.tick() => {
                    n += 1;
                    self.lock().send(Control::from(Heartbeat { n }).into());
                    continue;
                }
            };
            match frame {
                Some(frame) => self.hear(frame),
                None => return self.forget("the channel is closed"),
            }
        }
    }

    /// Everybody is gone: what ran elsewhere is lost, and from now on everything runs deployed.
    fn forget(&self, why: &str) {
        self.0.claims.store(Arc::default());
        self.0.claimed.store(0, Relaxed);
        let mut inner = self.lock();
        let peers: Vec<u32> = inner.mails.keys().map(|key| key.peer).collect();
        for peer in peers {
            inner.gone(peer, why);
        }
        inner.deliver();
    }

    /// Takes in a frame of the channel's.
    fn hear(&self, frame: Frame) {
        if frame.head.kind.is_of_attempt() {
            let key = Key {
                peer: frame.head.peer,
                of: frame.head.of,
            };
            let mut inner = self.lock();
            let Ok(frame) = inner.seals.open(frame) else {
                return;
            };
            if frame.head.kind == Kind::Log {
                let log = inner.log(key);
                drop(inner);
                if let (Some(log), Ok(lines)) = (log, from_json("log lines", &frame.body)) {
                    log(lines);
                }
                return;
            }
            let now = self.now();
            inner.machine.hear(now, frame);
            inner.deliver();
            if let Some(mail) = inner.mails.get(&key)
                && inner.machine.has_room(key)
            {
                mail.room.notify_one();
            }
            return;
        }
        match Control::read(&frame) {
            Ok(Control::Presence(presence)) => self.present(presence),
            Ok(Control::Gone(gone)) => {
                let mut inner = self.lock();
                inner.gone(gone.peer, &gone.why);
                inner.deliver();
            }
            // What else a channel says to hosts is for whoever keeps the connection.
            Ok(_) | Err(_) => {}
        }
    }

    fn present(&self, presence: Presence) {
        let mut claims = HashMap::clone(&self.0.claims.load());
        match presence.claims.is_empty() {
            true => drop(claims.remove(&presence.function)),
            false => drop(claims.insert(presence.function, presence.claims.into())),
        }
        self.0.claimed.store(claims.len(), SeqCst);
        // Looked at afterwards, so that whoever retires meanwhile has the last word.
        if self.0.is_retired.load(SeqCst) {
            self.0.claimed.store(0, SeqCst);
        }
        self.0.claims.store(Arc::new(claims));
    }

    /// Offers an invocation to the session that claims it; waits until it accepts. What it writes goes to `log`.
    ///
    /// # Errors
    /// Why it does not run there; nothing of it has, nor will. Dropping the future withdraws the offer.
    pub async fn offer(
        &self,
        to: &Present,
        of: Part,
        mut offer: Offer,
        log: Option<Log>,
    ) -> Result<Accepted, String> {
        let key = Key { peer: to.peer, of };
        self.suits(to, key)?;
        let (told, mut mail) = mpsc::unbounded_channel();
        let room = Arc::new(Notify::new());
        {
            let mut inner = self.lock();
            let running = inner.in_flight.entry(to.claim).or_default();
            if to.concurrency.is_some_and(|most| *running >= most) {
                return Err(format!("busy: {running} in flight there already"));
            }
            *running += 1;
            let room = room.clone();
            inner.mails.insert(key, Mail { told, room, log });
            let now = self.now();
            inner.seals.know(to.peer, &to.session);
            let packs = inner.seals.cover().packs_for(&to.capabilities);
            if inner.seals.cover().packs {
                offer.capabilities.push(DEFLATE.into());
            }
            inner.machine.offer(now, key, offer, packs);
            inner.deliver();
        }
        let attempt = Attempt {
            hosting: self.clone(),
            key,
            claim: to.claim,
            is_over: false,
        };
        self.0.busy.notify_one();
        match mail.recv().await {
            Some(Told::Accepted) => Ok(Accepted {
                attempt,
                mail,
                room,
            }),
            Some(Told::Free(why)) => Err(attempt.ended(why)),
            Some(_) | None => Err("the channel is closed".into()),
        }
    }

    /// Whether a session could read what this host seals. If not it is told so, once.
    fn suits(&self, to: &Present, key: Key) -> Result<(), String> {
        let mut inner = self.lock();
        let Some(mine) = inner.seals.cover().key.as_ref().map(SealKey::name) else {
            return Ok(());
        };
        let why = match &to.seal {
            Some(theirs) if *theirs == mine => return Ok(()),
            Some(theirs) => format!(
                "{} seals with another key, {theirs}, than {mine} of this host",
                to.developer
            ),
            None => format!(
                "{} has no key, and this host seals with {mine}",
                to.developer
            ),
        };
        if inner.strangers.insert(to.peer) {
            let said = Elsewhere {
                why: why.clone(),
                seal: mine,
            };
            inner.machine.keep(key, &said);
            inner.deliver();
        }
        Err(why)
    }

    fn step(&self, step: impl FnOnce(&mut Host, u64)) {
        let mut inner = self.lock();
        let now = self.now();
        step(&mut inner.machine, now);
        inner.deliver();
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        let locked = self.0.inner.lock();
        locked.unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Inner {
    /// Passes on what the machine has to say.
    fn deliver(&mut self) {
        let (frames, told) = self.machine.flush();
        for frame in frames {
            self.send(frame);
        }
        for (key, told) in told {
            if let Some(mail) = self.mails.get(&key) {
                // Whoever waited has left, and says so himself.
                let _waits = mail.told.send(told);
                mail.room.notify_one();
            }
        }
    }

    fn gone(&mut self, peer: u32, why: &str) {
        self.seals.forget(peer);
        self.strangers.remove(&peer);
        self.machine.gone(peer, why);
    }

    fn log(&self, key: Key) -> Option<Log> {
        if let Some(mail) = self.mails.get(&key) {
            return mail.log.clone();
        }
        let mut late = self.late.iter().rev();
        late.find(|(of, _)| *of == key).map(|(_, log)| log.clone())
    }

    fn send(&self, frame: Frame) {
        // What cannot be sealed now is said again later.
        let Some(frame) = self.seals.seal(frame) else {
            return;
        };
        // A channel that is closed says so where it is read.
        let _is_open = self.outbox.send(frame).is_ok();
    }
}

/// An attempt as whoever waits for it holds it; dropped before its end, it is cancelled.
struct Attempt {
    hosting: Hosting,
    key: Key,
    claim: u64,
    is_over: bool,
}

impl Attempt {
    fn ended<T>(mut self, value: T) -> T {
        self.is_over = true;
        value
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let mut inner = self.hosting.lock();
        if !self.is_over {
            let now = self.hosting.now();
            inner.machine.cancel(now, self.key, "the caller left");
            inner.deliver();
        }
        let mail = inner.mails.remove(&self.key);
        if let Some(log) = mail.and_then(|mail| mail.log) {
            inner.late.push_back((self.key, log));
            if inner.late.len() > LATE_MAX {
                inner.late.pop_front();
            }
        }
        if let Some(running) = inner.in_flight.get_mut(&self.claim) {
            *running -= 1;
            if *running == 0 {
                inner.in_flight.remove(&self.claim);
            }
        }
    }
}

/// An invocation that a session would run.
pub struct Accepted {
    attempt: Attempt,
    mail: mpsc::UnboundedReceiver<Told>,
    room: Arc<Notify>,
}

impl Accepted {
    /// Commits: from here on it runs there or fails.
    ///
    /// # Errors
    /// The session went away in between; nothing of it ran there, nor will.
    pub fn go(self, go: &Go) -> Result<Running, String> {
        let Accepted {
            attempt,
            mail,
            room,
        } = self;
        let hosting = attempt.hosting.clone();
        let mut inner = hosting.lock();
        let now = hosting.now();
        let is_there = inner.machine.go(now, attempt.key, go);
        inner.deliver();
        drop(inner);
        if !is_there {
            return Err("the session went away before it was told to go".into());
        }
        let sender = Sender {
            hosting,
            key: attempt.key,
            room,
        };
        Ok(Running {
            attempt,
            mail,
            sender,
        })
    }
}

/// An invocation that runs in a session.
pub struct Running {
    attempt: Attempt,
    mail: mpsc::UnboundedReceiver<Told>,
    sender: Sender,
}

impl Running {
    /// Sends the request's body.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// What is said of it next; `None` after its end.
    pub fn poll_told(&mut self, context: &mut Context<'_>) -> Poll<Option<Told>> {
        if self.attempt.is_over {
            return Poll::Ready(None);
        }
        let Poll::Ready(told) = self.mail.poll_recv(context) else {
            return Poll::Pending;
        };
        match &told {
            Some(Told::Body(_, is_last)) => {
                self.attempt.is_over = *is_last;
                let key = self.attempt.key;
                self.attempt.hosting.step(|machine, _| machine.taken(key));
            }
            Some(Told::Failed(_)) | None => self.attempt.is_over = true,
            Some(_) => {}
        }
        Poll::Ready(told)
    }
}

/// Sends a request's body, no faster than the session takes it.
#[derive(Clone)]
pub struct Sender {
    hosting: Hosting,
    key: Key,
    room: Arc<Notify>,
}

impl Sender {
    /// Sends some of it as there is room; `is_last` with the last.
    pub async fn send(&self, bytes: Bytes, is_last: bool) {
        let mut rest = bytes;
        loop {
            let piece = rest.split_to(rest.len().min(CHUNK));
            while !self.hosting.lock().machine.has_room(self.key) {
                self.room.notified().await;
            }
            let (key, ends) = (self.key, is_last && rest.is_empty());
            self.hosting
                .step(|machine, now| machine.body(now, key, piece, ends));
            if rest.is_empty() {
                return;
            }
        }
    }
}
