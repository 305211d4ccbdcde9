//! The embedded channel as its clients meet it: real WebSockets, on a free port of this machine.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_tungstenite::client_async;

use super::*;
use crate::{
    broker::Broker,
    channel::{Channel, JoinError},
    claims::{ChannelSettings, Credentials, Open},
    conformance::{Stage, story},
    message::{Hello, Role as End},
};

/// A server that has nothing but its channel; gone when it is dropped.
struct Relay {
    address: String,
    broker: Broker,
    tasks: JoinSet<()>,
}

impl Relay {
    async fn start(lease_ms: u64, queue_max: usize) -> Relay {
        let settings = ChannelSettings {
            lease_ms,
            ..ChannelSettings::default()
        };
        let broker = Broker::with_queue(settings, Arc::new(Open), queue_max);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut tasks = JoinSet::new();
        let (accepts, ticks) = (broker.clone(), broker.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (io, _) = listener.accept().await.unwrap();
                io.set_nodelay(true).unwrap();
                let broker = accepts.clone();
                connections.spawn(async move {
                    if let Some((io, who)) = upgrade(io).await {
                        serve(io, broker.connect(who)).await;
                    }
                });
            }
        });
        tasks.spawn(async move { ticks.keep_time().await });
        Relay {
            address,
            broker,
            tasks,
        }
    }

    fn channel(&self, token: Option<&str>) -> WebSocketChannel {
        WebSocketChannel::new(&format!("ws://{}", self.address), token).unwrap()
    }
}

/// The server's half of the handshake; the token `none` may nothing, and `wrong` is not let in.
async fn upgrade(mut io: TcpStream) -> Option<(TcpStream, Credentials)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let value = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.to_owned())
    };
    assert!(head.starts_with("GET /v1/live HTTP/1.1"), "{head}");
    assert_eq!(
        value("sec-websocket-protocol").as_deref(),
        Some(SUBPROTOCOL)
    );
    let token = value("authorization").unwrap_or_default();
    if token == "Bearer wrong" {
        let body = r#"{"error":{"type":"Unauthorized","message":"no such token","hint":"log in"}}"#;
        let length = body.len();
        let answer = format!("HTTP/1.1 401 Unauthorized\r\ncontent-length: {length}\r\n\r\n{body}");
        io.write_all(answer.as_bytes()).await.ok()?;
        return None;
    }
    let key = accept_key(value("sec-websocket-key")?.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {key}\r\nsec-websocket-protocol: {SUBPROTOCOL}\r\n\r\n"
    );
    io.write_all(answer.as_bytes()).await.ok()?;
    let may = token != "Bearer none";
    let who = Credentials {
        may_attach: may,
        may_host: may,
        ..Credentials::default()
    };
    Some((io, who))
}

fn hello() -> Hello {
    Hello {
        role: End::Session,
        name: None,
        program: "test 1".into(),
        developer: None,
        resume: None,
        capabilities: Vec::new(),
        seal: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_channel_passes_over_websockets() {
    let relay = Relay::start(3000, crate::QUEUE_MAX).await;
    let stage = Stage {
        session: Box::new(relay.channel(Some("good"))),
        host: Box::new(relay.channel(None)),
        sees_closing: true,
    };
    story(&stage).await;
}

#[tokio::test]
async fn an_end_that_may_not_come_in_hears_why() {
    let relay = Relay::start(3000, crate::QUEUE_MAX).await;
    let refused = |error: JoinError| match error {
        JoinError::Refused(refusal) => (refusal.kind, refusal.hint.unwrap_or_default()),
        other => panic!("{other:?}"),
    };
    let none = relay.channel(Some("none")).join(hello()).await;
    let (kind, hint) = refused(none.err().unwrap());
    assert_eq!(kind, "Forbidden");
    assert_eq!(hint, "use a token with the role `live`");
    let wrong = relay.channel(Some("wrong")).join(hello()).await;
    let (kind, hint) = refused(wrong.err().unwrap());
    assert_eq!((&*kind, &*hint), ("Unauthorized", "log in"));

    let address = relay.address.clone();
    let mut relay = relay;
    relay.tasks.shutdown().await;
    let gone = WebSocketChannel::new(&format!("http://{address}"), None).unwrap();
    let error = gone.join(hello()).await.err().unwrap();
    let words = format!("cannot reach the live channel at ws://{address}/v1/live");
    assert_eq!(error.to_string(), words);
}

#[test]
fn an_address_is_a_server_or_a_channel() {
    for (address, url) in [
        ("ws://127.0.0.1:9001", "ws://127.0.0.1:9001/v1/live"),
        ("ws://127.0.0.1:9001/", "ws://127.0.0.1:9001/v1/live"),
        ("ws://relay:1/elsewhere", "ws://relay:1/elsewhere"),
        ("http://localhost:9001", "ws://localhost:9001/v1/live"),
        ("https://example.com", "wss://example.com/v1/live"),
        ("https://example.com/fn/", "wss://example.com/fn/v1/live"),
        ("wss://[::1]:7", "wss://[::1]:7/v1/live"),
    ] {
        assert_eq!(WebSocketChannel::new(address, None).unwrap().address(), url);
    }
    for (address, words) in [
        ("redis://x", "none of ws, wss, http, https"),
        ("127.0.0.1:9001", "no address of a live channel"),
        ("localhost", "no address of a live channel"),
        ("wss://ann:secret@host", "a token does not belong into it"),
    ] {
        let error = WebSocketChannel::new(address, None).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(words), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

/// Says one WebSocket message after the hello, and gives the last word and the close code.
async fn last_words(relay: &Relay, said: Message) -> (String, u16) {
    let io = TcpStream::connect(&relay.address).await.unwrap();
    let url = format!("ws://{}/v1/live", relay.address);
    let request = tokio_tungstenite::tungstenite::ClientRequestBuilder::new(url.parse().unwrap())
        .with_sub_protocol(SUBPROTOCOL);
    let (mut socket, _) = client_async(request, io).await.unwrap();
    let hello = Frame::from(Control::from(hello())).encode();
    socket.send(Message::Binary(hello)).await.unwrap();
    // The other side may close before all of it is written.
    let _ = socket.send(said).await;
    let mut last = String::new();
    loop {
        match socket.next().await {
            Some(Ok(Message::Binary(bytes))) => {
                if let Ok(Control::Fatal(Fatal(refusal))) =
                    Control::read(&Frame::decode(bytes).unwrap())
                {
                    last = refusal.message;
                }
            }
            Some(Ok(Message::Close(Some(frame)))) => return (last, frame.code.into()),
            other => panic!("{other:?} after {last}"),
        }
    }
}

#[tokio::test]
async fn garbage_is_answered_with_why_and_closes_only_itself() {
    let relay = Relay::start(3000, crate::QUEUE_MAX).await;
    let bystander = relay.channel(None).join(hello()).await.unwrap();
    let mut other_version = Frame::control(Kind::Heartbeat, "{\"n\":1}")
        .encode()
        .to_vec();
    other_version[0] = 9;
    let mut of_no_kind = Frame::control(Kind::Heartbeat, "{\"n\":1}")
        .encode()
        .to_vec();
    of_no_kind[1] = 31;
    let large = vec![1; HEADER + PAYLOAD_MAX + 1];
    let limit = format!("the limit is {}", HEADER + PAYLOAD_MAX);
    for (said, words, code) in [
        (
            Message::Binary(Bytes::from_static(b"x")),
            "shorter than its head",
            1002,
        ),
        (
            Message::Binary(other_version.into()),
            "a frame of version 9",
            1002,
        ),
        (Message::Binary(of_no_kind.into()), "of the kind 31", 1002),
        (Message::Binary(large.into()), &*limit, 1009),
        (Message::text("hello"), "a text message", 1002),
    ] {
        let (last, closed) = last_words(&relay, said).await;
        assert!(last.contains(words), "{last}");
        assert_eq!(closed, code, "{last}");
    }
    bystander.leave("done").await;
}

#[tokio::test]
async fn an_end_that_is_killed_is_gone_and_one_that_leaves_says_goodbye() {
    let relay = Relay::start(60_000, crate::QUEUE_MAX).await;
    for is_killed in [true, false] {
        let began = Instant::now();
        let mut joined = relay.channel(None).join(hello()).await.unwrap();
        let claim = crate::Claim {
            reference: 1,
            function: "hello".into(),
            rule: "all".into(),
            mode: crate::Mode::Take,
            take_over: false,
            concurrency: None,
            hold_deadline: false,
            all: false,
        };
        joined.outbox.send(Control::from(claim)).unwrap();
        joined.inbox.recv().await.unwrap();
        assert_eq!(relay.broker.claim_count(), 1);
        if is_killed {
            drop(joined);
        } else {
            joined.leave("Ctrl-C").await;
        }
        while relay.broker.claim_count() > 0 {
            assert!(began.elapsed() < Duration::from_secs(5), "{is_killed}");
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_connection_that_does_not_read_is_cut_off() {
    let relay = Relay::start(60_000, 4 << 20).await;
    let host = Hello {
        role: End::Host,
        ..hello()
    };
    let mut host = relay.channel(None).join(host).await.unwrap();
    let io = TcpStream::connect(&relay.address).await.unwrap();
    let url = format!("ws://{}/v1/live", relay.address);
    let request = tokio_tungstenite::tungstenite::ClientRequestBuilder::new(url.parse().unwrap())
        .with_sub_protocol(SUBPROTOCOL);
    let (mut deaf, _) = client_async(request, io).await.unwrap();
    let greeting = Frame::from(Control::from(hello())).encode();
    deaf.send(Message::Binary(greeting)).await.unwrap();
    let Some(Ok(Message::Binary(welcome))) = deaf.next().await else {
        panic!("a welcome")
    };
    let Ok(Control::Welcome(welcome)) = Control::read(&Frame::decode(welcome).unwrap()) else {
        panic!("a welcome")
    };
    let mut frame = Frame::control(Kind::Body, vec![0; PAYLOAD_MAX]);
    frame.head.peer = welcome.peer;
    frame.head.of.attempt = 1;
    let gone = loop {
        host.outbox.send(frame.clone()).unwrap();
        let told = timeout(Duration::from_millis(2), host.inbox.recv()).await;
        if let Ok(frame) = told {
            break Control::read(&frame.unwrap()).unwrap();
        }
    };
    let Control::Gone(gone) = gone else {
        panic!("{gone:?}")
    };
    assert!(
        gone.why.contains("reads too slowly: more than 4 MiB"),
        "{}",
        gone.why
    );
}
