//! A host and a session at work on one channel in memory: what the pieces promise, together.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use model::{ErrorType, InvocationId};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{queue::queue, *};

/// Answers with what it was asked.
#[derive(Default)]
struct Echo {
    runs: AtomicU32,
    hangs: bool,
}

impl Runner for Echo {
    fn would(&self, offer: &Offer) -> Result<(), String> {
        match offer.function.as_str() {
            "default/hello" => Ok(()),
            _ => Err("no local code".into()),
        }
    }

    fn run(&self, mut work: Work) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.runs.fetch_add(1, SeqCst);
        let hangs = self.hangs;
        Box::pin(async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            let head = Answer {
                status: 201,
                headers: vec![("x-method".into(), work.go.method.clone())],
            };
            assert!(work.reply.answer(&head));
            loop {
                let next = std::future::poll_fn(|context| work.body.poll_next(context));
                let Some((bytes, is_last)) = next.await else {
                    return;
                };
                if !work.reply.body(bytes, is_last).await || is_last {
                    return;
                }
            }
        })
    }
}

struct Stage {
    hosting: Hosting,
    session: Attached,
    events: mpsc::UnboundedReceiver<Event>,
    echo: Arc<Echo>,
    leaving: CancellationToken,
    broker: Broker,
}

fn hello(role: Role) -> Hello {
    Hello {
        role,
        name: None,
        program: "test".into(),
        developer: Some("ann@laptop".into()),
        resume: None,
        capabilities: Vec::new(),
        seal: None,
    }
}

/// The same frames, each sealed one behind two that somebody changed on the way.
fn tampered(mut inbox: Inbox) -> Inbox {
    let (feed, changed) = queue(QUEUE_MAX);
    tokio::spawn(async move {
        while let Some(frame) = inbox.recv().await {
            if frame.head.flags.has(Flags::SEALED) {
                let mut other = frame.clone();
                other.body = frame.body.iter().rev().copied().collect();
                feed.push(other.clone()).unwrap();
                other.head.flags = other.head.flags.without(Flags::SEALED);
                feed.push(other).unwrap();
            }
            feed.push(frame).unwrap();
        }
        feed.finish();
    });
    changed
}

/// A channel between whose ends somebody sits.
struct Tampering(Local);

impl Channel for Tampering {
    fn join(&self, hello: Hello) -> Joining<'_> {
        Box::pin(async move {
            let mut joined = self.0.join(hello).await?;
            joined.inbox = tampered(joined.inbox);
            Ok(joined)
        })
    }
}

fn sealed(byte: u8) -> Cover {
    Cover {
        key: Some(SealKey::new([byte; 32])),
        takes_plain: false,
        packs: true,
    }
}

impl Stage {
    async fn set(echo: Echo) -> Stage {
        Stage::between(echo, Cover::default(), Cover::default(), false).await
    }

    async fn between(echo: Echo, host: Cover, session: Cover, tampers: bool) -> Stage {
        let broker = Broker::new(ChannelSettings::default(), Arc::new(Open));
        let who = Credentials {
            may_attach: true,
            may_host: true,
            ..Credentials::default()
        };
        let local = Local {
            broker: broker.clone(),
            who,
        };
        let mut says = hello(Role::Host);
        host.tell(&mut says);
        let mut joined = local.join(says).await.unwrap();
        if tampers {
            joined.inbox = tampered(joined.inbox);
        }
        let hosting = Hosting::new(joined.outbox.clone(), host);
        let serve = Serve {
            functions: Vec::new(),
            all: true,
        };
        joined.outbox.send(Control::from(serve)).unwrap();
        let host = hosting.clone();
        tokio::spawn(async move { host.run(joined.inbox, Duration::from_secs(1)).await });
        let keeper = broker.clone();
        tokio::spawn(async move { keeper.keep_time().await });
        let (sender, events) = mpsc::unbounded_channel();
        let echo = Arc::new(echo);
        let channel: Arc<dyn Channel> = match tampers {
            true => Arc::new(Tampering(local)),
            false => Arc::new(local),
        };
        let says = hello(Role::Session);
        let session = Attached::new(channel, says, echo.clone(), sender, session);
        let wish = Wish {
            function: "default/hello".into(),
            rule: "all".into(),
        };
        let terms = Terms {
            mode: Mode::Take,
            take_over: false,
            concurrency: None,
            hold_deadline: false,
            all: false,
        };
        session.wish(BTreeMap::from([(wish, terms)]));
        let leaving = CancellationToken::new();
        let (running, left) = (session.clone(), leaving.clone());
        tokio::spawn(async move { running.run(left, Duration::from_secs(5)).await });
        let mut stage = Stage {
            hosting,
            session,
            events,
            echo,
            leaving,
            broker,
        };
        stage.until_claimed().await;
        stage
    }

    async fn until_claimed(&mut self) {
        let claimed = async {
            loop {
                if matches!(self.events.recv().await, Some(Event::Claimed { .. })) {
                    return;
                }
            }
        };
        timeout(Duration::from_secs(20), claimed)
            .await
            .expect("claimed");
        while self.hosting.is_quiet() {
            tokio::task::yield_now().await;
        }
    }

    /// What could not be read, in the session's words.
    async fn unreadable(&mut self) -> String {
        let told = async {
            loop {
                match self.events.recv().await {
                    Some(Event::Unreadable { why }) => return why,
                    Some(_) => {}
                    None => panic!("the session ended"),
                }
            }
        };
        timeout(Duration::from_secs(20), told).await.expect("said")
    }

    async fn offer(&self) -> Result<Accepted, String> {
        let claims = self.hosting.claims("default/hello").ok_or("nobody")?;
        let of = Part {
            id: InvocationId(Uuid::now_v7()),
            attempt: 1,
        };
        let offer = Offer {
            claim: claims[0].claim,
            ..Offer::sample()
        };
        self.hosting.offer(&claims[0], of, offer, None).await
    }
}

fn go(body: bool) -> Go {
    Go {
        method: "POST".into(),
        uri: "/".into(),
        headers: Vec::new(),
        deadline_ms: 30_000,
        hold: false,
        body,
    }
}

async fn next(running: &mut Running) -> Option<Told> {
    std::future::poll_fn(|context| running.poll_told(context)).await
}

#[tokio::test]
async fn six_mebibytes_go_there_and_come_back() {
    let stage = Stage::set(Echo::default()).await;
    there_and_back(&stage).await;
    assert_eq!((stage.hosting.dropped(), stage.session.dropped()), (0, 0));
}

#[tokio::test]
async fn sealed_and_packed_they_do_too() {
    let stage = Stage::between(Echo::default(), sealed(7), sealed(7), false).await;
    there_and_back(&stage).await;
    assert_eq!((stage.hosting.dropped(), stage.session.dropped()), (0, 0));
}

#[tokio::test]
async fn what_somebody_changes_on_the_way_is_dropped_and_counted() {
    let mut stage = Stage::between(Echo::default(), sealed(7), sealed(7), true).await;
    there_and_back(&stage).await;
    assert_eq!(stage.echo.runs.load(SeqCst), 1);
    assert!(stage.hosting.dropped() > 2 && stage.session.dropped() > 2);
    let why = stage.unreadable().await;
    assert!(why.contains("cannot be opened"), "{why}");
}

#[tokio::test]
async fn with_another_key_it_runs_deployed_and_both_sides_say_so() {
    for (host, session, words) in [
        (sealed(7), sealed(8), "yours is"),
        (sealed(7), Cover::default(), "you have none"),
    ] {
        let mut stage = Stage::between(Echo::default(), host, session, false).await;
        for _ in 0..2 {
            let why = stage.offer().await.err().unwrap();
            assert!(why.contains("key") && why.contains("4bb06f8e"), "{why}");
        }
        let why = stage.unreadable().await;
        assert!(why.contains("4bb06f8e") && why.contains(words), "{why}");
        assert_eq!(stage.echo.runs.load(SeqCst), 0);
        assert!(stage.events.try_recv().is_err(), "it is said once");
    }
}

#[tokio::test]
async fn a_session_with_a_key_takes_what_nobody_sealed_only_on_its_server_s_own_channel() {
    let mut stage = Stage::between(Echo::default(), Cover::default(), sealed(7), false).await;
    let why = stage.offer().await.err().unwrap();
    assert!(why.contains("only what is sealed"), "{why}");
    let why = stage.unreadable().await;
    assert!(why.contains("offered unsealed"), "{why}");

    let own = Cover {
        takes_plain: true,
        ..sealed(7)
    };
    let stage = Stage::between(Echo::default(), Cover::default(), own.clone(), false).await;
    there_and_back(&stage).await;
    let stage = Stage::between(Echo::default(), sealed(7), own, false).await;
    there_and_back(&stage).await;
}

/// Sends 6 MiB and gets them back.
async fn there_and_back(stage: &Stage) {
    let mut running = stage.offer().await.unwrap().go(&go(true)).unwrap();
    let all: Bytes = (0..6 << 20).map(|n: u32| (n >> 3) as u8).collect();
    let (sender, body) = (running.sender(), all.clone());
    let sending = tokio::spawn(async move { sender.send(body, true).await });
    let Some(Told::Answer(head)) = next(&mut running).await else {
        panic!("no answer");
    };
    assert_eq!(head.status, 201);
    let mut back = Vec::new();
    while let Some(Told::Body(bytes, _)) = next(&mut running).await {
        back.extend_from_slice(&bytes);
    }
    assert!(back == all, "{} of {} bytes", back.len(), all.len());
    sending.await.unwrap();
    while stage.session.running() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn many_at_once_each_get_their_own_answer() {
    let stage = Stage::set(Echo::default()).await;
    let stage = Arc::new(stage);
    let tasks = (0..200).map(|n: u32| {
        let stage = stage.clone();
        tokio::spawn(async move {
            let mut running = stage.offer().await.unwrap().go(&go(true)).unwrap();
            let said = Bytes::from(n.to_string());
            running.sender().send(said.clone(), true).await;
            let mut back = Vec::new();
            while let Some(told) = next(&mut running).await {
                if let Told::Body(bytes, _) = told {
                    back.extend_from_slice(&bytes);
                }
            }
            assert_eq!(back, said);
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(stage.echo.runs.load(SeqCst), 200);
}

#[tokio::test]
async fn whoever_leaves_is_offered_nothing_more_and_what_runs_may_end() {
    let stage = Stage::set(Echo::default()).await;
    let running = stage.offer().await.unwrap().go(&go(true)).unwrap();
    stage.leaving.cancel();
    while !stage.hosting.is_quiet() {
        tokio::task::yield_now().await;
    }
    running
        .sender()
        .send(Bytes::from_static(b"late"), true)
        .await;
    let mut running = running;
    assert!(matches!(next(&mut running).await, Some(Told::Answer(_))));
    let Some(Told::Body(bytes, _)) = next(&mut running).await else {
        panic!("no body");
    };
    assert_eq!(bytes, "late");
    while stage.session.running() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_session_whose_channel_closes_loses_what_it_ran() {
    let stage = Stage::set(Echo {
        hangs: true,
        ..Echo::default()
    })
    .await;
    let mut running = stage.offer().await.unwrap().go(&go(false)).unwrap();
    while stage.echo.runs.load(SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    stage.broker.close("the server goes down");
    let Some(Told::Failed(failure)) = next(&mut running).await else {
        panic!("it goes on");
    };
    assert_eq!(failure.error_type, ErrorType::LiveSessionLost);
    assert!(stage.hosting.is_quiet());
}
