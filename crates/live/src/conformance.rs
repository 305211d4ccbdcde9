//! The story that every channel must pass, whatever carries its frames: for tests, here and in rooms that bring a channel.
//! Speaks only through [`Channel`]; panics with the scene's own words where a channel breaks a promise.

use std::time::{Duration, Instant};

use bytes::Bytes;
use model::InvocationId;
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    Flags, Frame, Head, Kind, PAYLOAD_MAX, Part,
    channel::{Channel, Inbox, Joined, Outbox},
    message::{
        Alive, Claim, Claimed, Control, Goodbye, Heartbeat, Hello, Mode, Presence, Refused,
        Release, Role, Serve, Welcome,
    },
};

mod ends;
mod scenes;

/// Longest wait for what has to come at once.
const SOON: Duration = Duration::from_secs(5);

/// So much earlier or later than promised a lease may end: clocks tick, machines are busy.
const SLACK: Duration = Duration::from_secs(2);

/// Where the story plays.
pub struct Stage {
    /// By which sessions join.
    pub session: Box<dyn Channel>,
    /// By which hosts join.
    pub host: Box<dyn Channel>,
    /// The channel sees that a connection closes; if not, the end of its lease has to do.
    pub sees_closing: bool,
}

/// One end on the stage.
struct Actor {
    welcome: Welcome,
    outbox: Outbox,
    inbox: Inbox,
}

/// Plays every scene, one after the other. Leases should be some seconds long: scenes send few heartbeats.
pub async fn story(stage: &Stage) {
    ends::a_heartbeat_is_answered(stage).await;
    ends::an_unknown_key_makes_a_new_end(stage).await;
    ends::nonsense_ends_the_connection_that_said_it(stage).await;
    ends::closing_frees_at_once(stage).await;
    ends::a_goodbye_frees_at_once(stage).await;
    ends::silence_frees_at_the_end_of_the_lease(stage).await;
    ends::one_that_comes_back_keeps_its_claims(stage).await;
    scenes::frames_arrive_once_and_in_order(stage).await;
    scenes::the_largest_payload_crosses(stage).await;
    scenes::hosts_see_claims_come_and_go(stage).await;
    scenes::a_second_claim_is_refused_and_told_who_holds_it(stage).await;
    scenes::a_take_over_is_told_to_the_loser(stage).await;
    scenes::what_is_for_the_gone_is_answered(stage).await;
}

impl Stage {
    async fn session(&self, developer: &str) -> Actor {
        enter(&*self.session, hello(Role::Session, developer)).await
    }

    async fn host(&self, functions: &[&str]) -> Actor {
        let host = enter(&*self.host, hello(Role::Host, "host")).await;
        host.say(Serve {
            functions: functions.iter().map(ToString::to_string).collect(),
            all: false,
        });
        host
    }
}

async fn enter(channel: &dyn Channel, hello: Hello) -> Actor {
    let joined = channel.join(hello).await;
    let Joined {
        welcome,
        outbox,
        inbox,
    } = joined.unwrap_or_else(|error| panic!("an end is let in: {error}"));
    Actor {
        welcome,
        outbox,
        inbox,
    }
}

fn hello(role: Role, developer: &str) -> Hello {
    Hello {
        role,
        name: None,
        program: "conformance 1".into(),
        developer: Some(developer.into()),
        resume: None,
        capabilities: Vec::new(),
        seal: None,
    }
}

fn claim(function: &str, rule: &str) -> Claim {
    Claim {
        reference: 41,
        function: function.into(),
        rule: rule.into(),
        mode: Mode::Take,
        take_over: false,
        concurrency: Some(3),
        hold_deadline: true,
        all: true,
    }
}

/// A frame of an attempt, whose payload says what it is.
fn body(to: u32, attempt: u16, index: u32, payload: Bytes) -> Frame {
    Frame {
        head: Head {
            kind: Kind::Body,
            flags: Flags::default().with(Flags::LAST),
            of: Part {
                id: InvocationId(Uuid::from_u128(7 << 64)),
                attempt,
            },
            index,
            count: 3,
            ack: 5,
            window: 16,
            peer: to,
        },
        body: payload,
    }
}

impl Actor {
    fn say(&self, said: impl Into<Control>) {
        let sent = self.outbox.send(said.into());
        sent.expect("the connection is there");
    }

    /// The next frame that comes, other than who is gone: that may be somebody of another scene.
    async fn next(&mut self) -> Frame {
        loop {
            let next = timeout(SOON, self.inbox.recv()).await;
            let next = next
                .expect("a frame comes in time")
                .expect("the connection is there");
            if next.head.kind != Kind::Gone {
                return next;
            }
        }
    }

    /// The next thing that the channel says.
    async fn hear(&mut self) -> Control {
        let frame = self.next().await;
        Control::read(&frame).expect("a frame of the channel")
    }

    async fn presence(&mut self) -> Presence {
        match self.hear().await {
            Control::Presence(presence) => presence,
            other => panic!("a list of claims, and not {other:?}"),
        }
    }

    async fn claims(&mut self, claim: Claim) -> Claimed {
        self.say(claim);
        match self.hear().await {
            Control::Claimed(claimed) => claimed,
            other => panic!("the claim is held, and not {other:?}"),
        }
    }

    async fn is_refused(&mut self, claim: Claim) -> Refused {
        self.say(claim);
        match self.hear().await {
            Control::Refused(refused) => refused,
            other => panic!("the claim is refused, and not {other:?}"),
        }
    }

    /// Waits until this end is said to be gone; lists without it come before that.
    async fn is_told_gone(&mut self, peer: u32) {
        let told = timeout(SOON, async {
            while let Some(frame) = self.inbox.recv().await {
                match Control::read(&frame) {
                    Ok(Control::Gone(gone)) if gone.peer == peer => return,
                    Ok(Control::Gone(_)) => {}
                    other => panic!("{peer} is gone, and not {other:?}"),
                }
            }
            panic!("the connection ended before {peer} was said to be gone")
        });
        told.await.expect("who is gone is said in time");
    }

    /// Waits until the connection has ended, whatever comes before that.
    async fn ends(&mut self) {
        let ended = timeout(SOON, async { while self.inbox.recv().await.is_some() {} });
        ended.await.expect("the connection ends in time");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        broker::Broker,
        channel::Local,
        claims::{ChannelSettings, Credentials, Open},
    };

    #[tokio::test]
    async fn the_channel_within_one_process_passes() {
        let settings = ChannelSettings {
            lease_ms: 3000,
            ..ChannelSettings::default()
        };
        let broker = Broker::new(settings, Arc::new(Open));
        let who = Credentials {
            may_attach: true,
            may_host: true,
            ..Credentials::default()
        };
        let local = Local {
            broker: broker.clone(),
            who,
        };
        let stage = Stage {
            session: Box::new(local.clone()),
            host: Box::new(local),
            sees_closing: true,
        };
        tokio::select! {
            () = broker.keep_time() => {}
            () = story(&stage) => {}
        }
    }
}
