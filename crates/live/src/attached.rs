//! A session at work: claims functions on a channel, runs what is offered, and comes back by itself after whatever happened.

mod opening;
mod stay;
mod work;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    attempt::Offer,
    channel::{Channel, Outbox},
    clock::ticks,
    cover::{Cover, Seals},
    frame::Frame,
    host::Key,
    message::{Claim, Control, Fatal, Hello, Holder, Mode, Refusal, Refused, Release, Welcome},
    session::{Asked, Session},
};
use stay::Stay;
pub use work::{Pieces, Reply, Runner, Work};

/// An earlier session of the same developer may hold a claim for as long as its lease runs: so long it is asked for again.
const OWN_WAIT: u64 = 6000;

/// Between such questions.
const OWN_PAUSE: u64 = 400;

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
        /// Answers that were ready and that nobody has heard.
        unheard: usize,
        /// Why.
        why: String,
    },
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

    /// Claims that were refused or taken are asked for again.
    pub fn ask_again(&self) {
        for held in self.lock().wishes.values_mut() {
            if held.state == Claiming::Lost {
                held.state = Claiming::New;
            }
        }
        self.0.changed.notify_one();
    }

    /// Invocations that run here now.
    pub fn running(&self) -> usize {
        self.lock().machine.running()
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
