//! The broker by itself: who hears what, and who is sent away.

use std::time::Duration;

use bytes::Bytes;
use model::InvocationId;
use uuid::Uuid;

use super::*;
use crate::{
    Flags, HEADER, Head, Part, UNNUMBERED,
    channel::{Channel, Joined, Local, greet},
    claims::Open,
    message::{Claim, Hello, Mode, Serve},
};

fn who() -> Credentials {
    Credentials {
        may_attach: true,
        may_host: true,
        ..Credentials::default()
    }
}

fn hello(role: Role) -> Hello {
    Hello {
        role,
        name: None,
        program: "test 1".into(),
        developer: Some("ann".into()),
        resume: None,
        capabilities: Vec::new(),
        seal: None,
    }
}

fn broker(queue_max: usize) -> Broker {
    Broker::with_queue(ChannelSettings::default(), Arc::new(Open), queue_max)
}

async fn join(broker: &Broker, hello: Hello) -> Joined {
    let local = Local {
        broker: broker.clone(),
        who: who(),
    };
    local.join(hello).await.unwrap()
}

fn frame(to: u32, index: u32, length: usize) -> Frame {
    Frame {
        head: Head {
            kind: Kind::Body,
            flags: Flags::default(),
            of: Part {
                id: InvocationId(Uuid::max()),
                attempt: 1,
            },
            index,
            count: 1,
            ack: 0,
            window: 0,
            peer: to,
        },
        body: Bytes::from(vec![7; length]),
    }
}

/// The next thing that the channel says.
async fn control(joined: &mut Joined) -> Control {
    let next = tokio::time::timeout(Duration::from_secs(5), joined.inbox.recv());
    let frame = next.await.expect("in time").expect("a frame");
    Control::read(&frame).unwrap()
}

fn claim(function: &str) -> Control {
    let claim = Claim {
        reference: 1,
        function: function.into(),
        rule: "all".into(),
        mode: Mode::Take,
        take_over: false,
        concurrency: None,
        hold_deadline: false,
        all: false,
    };
    claim.into()
}

#[tokio::test]
async fn frames_cross_in_order_and_say_whom_they_are_from() {
    let broker = broker(QUEUE_MAX);
    let host = join(&broker, hello(Role::Host)).await;
    let mut session = join(&broker, hello(Role::Session)).await;
    for index in 0..100 {
        let sent = host
            .outbox
            .send(frame(session.welcome.peer, index, index as usize));
        sent.unwrap();
    }
    for index in 0..100 {
        let got = session.inbox.recv().await.unwrap();
        assert_eq!(got, frame(host.welcome.peer, index, index as usize));
    }
}

#[tokio::test]
async fn sessions_do_not_reach_one_another() {
    let broker = broker(QUEUE_MAX);
    let mut ann = join(&broker, hello(Role::Session)).await;
    let mut bob = join(&broker, hello(Role::Session)).await;
    ann.outbox.send(frame(bob.welcome.peer, 0, 1)).unwrap();
    let Control::Gone(gone) = control(&mut ann).await else {
        panic!("gone")
    };
    assert_eq!(gone.peer, bob.welcome.peer);
    assert_eq!(bob.inbox.try_recv(), None);
}

#[tokio::test]
async fn who_speaks_out_of_turn_hears_why_and_is_sent_away() {
    let broker = broker(QUEUE_MAX);
    let bad_claim = Frame::control(Kind::Claim, "no JSON");
    let said: [(Frame, bool, &str); 5] = [
        (frame(1, 0, 1), false, "a Body came before the Hello"),
        (
            claim("hello").into(),
            false,
            "a Claim came before the Hello",
        ),
        (
            Control::from(hello(Role::Host)).into(),
            true,
            "a Hello is nothing that this end may say",
        ),
        (bad_claim, true, "payload of no sense"),
        (
            Frame::control(Kind::Welcome, "{}"),
            true,
            "payload of no sense",
        ),
    ];
    for (frame, is_in, words) in said {
        let port = broker.connect(who());
        let (outbox, mut inbox) = (port.outbox, port.inbox);
        if is_in {
            let hello = Control::from(hello(Role::Session));
            outbox.send(hello).unwrap();
            inbox.recv().await.unwrap();
        }
        outbox.send(frame).unwrap();
        let last = Control::read(&inbox.recv().await.unwrap());
        let Ok(Control::Fatal(fatal)) = last else {
            panic!("{last:?}")
        };
        assert!(fatal.0.message.contains(words), "{fatal}");
        assert_eq!(inbox.recv().await, None);
        assert_eq!(outbox.send(Control::from(hello(Role::Host))), Err(Closed));
    }
}

#[tokio::test]
async fn one_that_does_not_read_is_cut_off_and_holds_nothing() {
    let broker = broker(100 * HEADER);
    let mut host = join(&broker, hello(Role::Host)).await;
    let port = broker.connect(who());
    let joining = greet("afar", hello(Role::Session), port.outbox, port.inbox);
    let mut session = joining.await.unwrap();
    let all = Serve {
        functions: Vec::new(),
        all: true,
    };
    host.outbox.send(Control::from(all)).unwrap();
    session.outbox.send(claim("hello")).unwrap();
    assert!(matches!(control(&mut host).await, Control::Presence(_)));
    for index in 0..101 {
        host.outbox
            .send(frame(session.welcome.peer, index, 0))
            .unwrap();
    }
    let Control::Presence(presence) = control(&mut host).await else {
        panic!("presence")
    };
    assert_eq!((presence.claims.len(), broker.claim_count()), (0, 0));
    let Control::Gone(gone) = control(&mut host).await else {
        panic!("gone")
    };
    assert!(gone.why.contains("reads too slowly"), "{}", gone.why);
    assert_eq!(session.inbox.recv().await, None);
}

#[tokio::test]
async fn the_earlier_connection_of_one_that_came_back_counts_no_more() {
    let broker = broker(QUEUE_MAX);
    let host = join(&broker, hello(Role::Host)).await;
    let mut old = join(&broker, hello(Role::Session)).await;
    old.outbox.send(claim("hello")).unwrap();
    assert!(matches!(control(&mut old).await, Control::Claimed(_)));
    let again = Hello {
        resume: Some(old.welcome.key.clone()),
        ..hello(Role::Session)
    };
    let mut new = join(&broker, again).await;
    assert!(new.welcome.resumed);
    assert_eq!(new.welcome.peer, old.welcome.peer);
    assert_eq!(old.inbox.recv().await, None);
    assert_eq!(old.outbox.send(claim("other")), Err(Closed));
    drop(old);
    assert_eq!(broker.claim_count(), 1);
    host.outbox.send(frame(new.welcome.peer, 0, 3)).unwrap();
    assert_eq!(new.inbox.recv().await.unwrap().head.index, 0);
    drop(new);
    assert_eq!(broker.claim_count(), 0);
}

#[tokio::test]
async fn a_channel_that_closes_says_goodbye_and_lets_nobody_in() {
    let broker = broker(QUEUE_MAX);
    let mut session = join(&broker, hello(Role::Session)).await;
    session.outbox.send(claim("hello")).unwrap();
    assert!(matches!(control(&mut session).await, Control::Claimed(_)));
    broker.close("the server goes down");
    let Control::Goodbye(goodbye) = control(&mut session).await else {
        panic!("goodbye")
    };
    assert_eq!(goodbye.why, "the server goes down");
    assert_eq!(
        (session.inbox.recv().await, broker.claim_count()),
        (None, 0)
    );
    let local = Local { broker, who: who() };
    let late = local.join(hello(Role::Session)).await.err().unwrap();
    assert_eq!(late.to_string(), "ShuttingDown: the server goes down");
}

#[tokio::test]
async fn an_unnumbered_frame_crosses_like_any_other() {
    let broker = broker(QUEUE_MAX);
    let mut host = join(&broker, hello(Role::Host)).await;
    let session = join(&broker, hello(Role::Session)).await;
    session
        .outbox
        .send(frame(host.welcome.peer, UNNUMBERED, 0))
        .unwrap();
    let got = host.inbox.recv().await.unwrap();
    assert_eq!(got.head.peer, session.welcome.peer);
}
