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

use crate::*;

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

impl Stage {
    async fn set(echo: Echo) -> Stage {
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
        let joined = local.join(hello(Role::Host)).await.unwrap();
        let hosting = Hosting::new(joined.outbox.clone());
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
        let channel = Arc::new(local);
        let session = Attached::new(channel, hello(Role::Session), echo.clone(), sender);
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

    async fn offer(&self) -> Result<Accepted, String> {
        let claims = self.hosting.claims("default/hello").ok_or("nobody")?;
        let of = Part {
            id: InvocationId(Uuid::now_v7()),
            attempt: 1,
        };
        let offer = Offer {
            claim: claims[0].claim,
            function: "default/hello".into(),
            version: None,
            trigger: "http".into(),
            kind: None,
            rule: "all".into(),
            size: None,
            deadline_ms: 30_000,
            hold: false,
            observe: false,
            ordinal: 0,
            who: None,
            method: None,
            path: None,
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
    let mut running = stage.offer().await.unwrap().go(&go(true)).unwrap();
    let all: Bytes = (0..6 << 20).map(|n: u32| n as u8).collect();
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
