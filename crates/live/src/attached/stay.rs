//! A session's stays on the channel: joining, keeping the lease, noticing what broke, coming back, leaving.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Attached, Claiming, Event, Heard};
use crate::{
    channel::{JoinError, Joined, Outbox},
    clock::ticks,
    message::{Control, Heartbeat, Hello, Refusal, Release, Welcome},
    session::Session,
};

/// Between looks at what time alone asks for.
const TICK: Duration = Duration::from_millis(25);

/// The same, while nothing runs.
const IDLE_TICK: Duration = Duration::from_millis(200);

/// The first pause before joining again, doubled each time …
const PAUSE: Duration = Duration::from_millis(100);

/// … up to this: whoever comes back is back within five seconds.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// A channel that has not answered so many heartbeats is taken for broken, and joined anew.
const HEARTBEATS_MISSED: u64 = 3;

/// Joining takes at most this.
const JOIN_WAIT: Duration = Duration::from_secs(4);

/// Why a stay on the channel ended.
pub(super) enum Stay {
    /// Nothing is heard any more; the connection may still be there.
    Silent,
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
    /// Stays on the channel and comes back to it, until the channel will not have it or `leaving` is cancelled;
    /// then everything is released, and work in flight may go on for `grace`.
    pub async fn run(&self, leaving: CancellationToken, grace: Duration) {
        let mut resume: Option<String> = None;
        let mut lease_end = 0;
        let mut pause = PAUSE;
        let mut broken_at: Option<u64> = None;
        // A connection that is silent may only be slow: the channel would give the session up if it saw that close first.
        let mut silent: Option<Joined> = None;
        loop {
            let joined = tokio::select! {
                joined = self.try_join(resume.clone()) => joined,
                () = self.lapse_at(lease_end) => { lease_end = 0; continue }
                () = leaving.cancelled() => return self.lapse("the session ends").await,
            };
            drop(silent.take());
            let why = match joined {
                // What ran was stopped here, so nobody may wait for it there any longer.
                Ok(joined) if joined.welcome.resumed && lease_end == 0 => {
                    joined.leave("its lease ran out").await;
                    resume = None;
                    continue;
                }
                Ok(mut joined) => {
                    pause = PAUSE;
                    resume = Some(joined.welcome.key.clone());
                    if lease_end != 0 && !joined.welcome.resumed {
                        self.lapse("the channel had given this session up").await;
                    }
                    let now = ticks();
                    lease_end = now + joined.welcome.lease_ms;
                    let away_ms = broken_at.take().map(|at| now.saturating_sub(at));
                    let stay = self.stay(&mut joined, away_ms, &mut lease_end, &leaving, grace);
                    match stay.await {
                        Stay::Silent => {
                            silent = Some(joined);
                            "the channel is silent".to_owned()
                        }
                        Stay::Broken(why) => why,
                        Stay::Rejected(refusal) => return self.rejected(refusal).await,
                        Stay::Left => return self.leave(joined).await,
                    }
                }
                Err(Stay::Rejected(refusal)) => return self.rejected(refusal).await,
                Err(Stay::Broken(why)) => why,
                Err(Stay::Silent | Stay::Left) => continue,
            };
            self.lock().outbox = None;
            match broken_at {
                None => {
                    broken_at = Some(ticks());
                    self.tell(Event::Broken { why });
                }
                Some(_) => self.tell(Event::Unreachable { why }),
            }
            if silent.is_some() {
                continue;
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = self.lapse_at(lease_end) => lease_end = 0,
                () = leaving.cancelled() => return self.lapse("the session ends").await,
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Joins once.
    async fn try_join(&self, resume: Option<String>) -> Result<Joined, Stay> {
        let hello = Hello {
            resume,
            ..self.0.hello.clone()
        };
        let joining = tokio::time::timeout(JOIN_WAIT, self.0.channel.join(hello));
        let Ok(joined) = joining.await else {
            let why = format!("no answer within {} s", JOIN_WAIT.as_secs());
            return Err(Stay::Broken(why));
        };
        joined.map_err(|error| match final_refusal(&error) {
            Some(refusal) => Stay::Rejected(refusal),
            None => Stay::Broken(with_causes(&error)),
        })
    }

    /// The channel will not have this session.
    async fn rejected(&self, refusal: Refusal) {
        self.lapse("the session was rejected").await;
        self.tell(Event::Rejected(refusal));
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
    pub(super) async fn lapse(&self, why: &str) {
        let (running, unheard) = {
            let mut inner = self.lock();
            let (running, unheard) = (inner.machine.running(), inner.machine.unheard());
            inner.machine.lapse(why);
            // Nothing that is said now is for anybody.
            inner.outbox = None;
            for held in inner.wishes.values_mut() {
                if held.state != Claiming::Lost {
                    held.terms.take_over = false;
                    held.state = Claiming::New;
                }
            }
            (running, unheard)
        };
        self.deliver();
        if running + unheard > 0 {
            self.tell(Event::Lapsed {
                running,
                unheard,
                why: why.to_owned(),
            });
        }
    }

    /// One stay on the channel.
    async fn stay(
        &self,
        joined: &mut Joined,
        away_ms: Option<u64>,
        lease_end: &mut u64,
        leaving: &CancellationToken,
        grace: Duration,
    ) -> Stay {
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
                return Stay::Silent;
            }
            self.beat(&mut pulse, now, heartbeat);
            if let Some(by) = leave_by
                && (now >= by || self.lock().machine.is_idle())
            {
                return Stay::Left;
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
        // What was given back while there was nobody to tell is given back now.
        let is_held = |claim: &u64| {
            let mut held = inner.wishes.values();
            held.any(|held| held.state == Claiming::Holds(*claim))
        };
        let stray: Vec<u64> = welcome
            .claims
            .iter()
            .copied()
            .filter(|claim| !is_held(claim))
            .collect();
        for claim in stray {
            let claim = Some(claim);
            inner.send(Control::from(Release { claim }).into());
        }
        let now = ticks();
        if welcome.resumed {
            inner.machine.resumed(now);
        }
        drop(inner);
        self.deliver();
        self.claim();
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

    async fn leave(&self, joined: Joined) {
        self.lock().machine.lapse("the session ends");
        self.deliver();
        self.lock().outbox = None;
        joined.leave("the developer left").await;
        self.0.tasks.close();
        self.0.tasks.wait().await;
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
