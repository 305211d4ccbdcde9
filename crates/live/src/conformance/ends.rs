//! Scenes of how ends come, stay and leave.

use super::*;

/// Liveness is told both ways.
pub(super) async fn a_heartbeat_is_answered(stage: &Stage) {
    let mut ann = stage.session("ann").await;
    for n in [0, 7, u64::MAX] {
        ann.say(Heartbeat { n });
        assert_eq!(ann.hear().await, Alive { n }.into());
    }
}

/// Nobody becomes somebody else by guessing, and nobody stays out because of an old key.
pub(super) async fn an_unknown_key_makes_a_new_end(stage: &Stage) {
    let first = stage.session("ann").await;
    let stranger = Hello {
        resume: Some("0123456789abcdef0123456789abcdef".into()),
        ..hello(Role::Session, "ann")
    };
    let second = enter(&*stage.session, stranger).await;
    assert!(!second.welcome.resumed);
    assert_ne!(second.welcome.peer, first.welcome.peer);
    assert_ne!(second.welcome.session, first.welcome.session);
    assert_ne!(second.welcome.key, first.welcome.key);
}

/// One end's garbage is its own misfortune.
pub(super) async fn nonsense_ends_the_connection_that_said_it(stage: &Stage) {
    let mut host = stage.host(&["nonsense"]).await;
    let (mut ann, mut eve) = (stage.session("ann").await, stage.session("eve").await);
    let garbage = Frame::control(Kind::Claim, "{\"ref\":");
    eve.outbox.send(garbage).expect("the connection is there");
    match eve.hear().await {
        Control::Fatal(fatal) => assert!(!fatal.0.message.is_empty()),
        other => panic!("why it cannot go on, and not {other:?}"),
    }
    eve.ends().await;
    host.is_told_gone(eve.welcome.peer).await;
    ann.claims(claim("nonsense", "all")).await;
    assert_eq!(host.presence().await.claims.len(), 1);
}

/// A laptop that is closed or killed frees its functions before anybody waits for it.
pub(super) async fn closing_frees_at_once(stage: &Stage) {
    if !stage.sees_closing {
        return;
    }
    let mut host = stage.host(&["closing"]).await;
    let mut ann = stage.session("ann").await;
    ann.claims(claim("closing", "all")).await;
    assert_eq!(host.presence().await.claims.len(), 1);
    let (peer, began) = (ann.welcome.peer, Instant::now());
    drop(ann);
    assert_eq!(host.presence().await.claims, []);
    host.is_told_gone(peer).await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1), "freed after {took:?}");
}

/// One that leaves in good order is gone as soon as it says so.
pub(super) async fn a_goodbye_frees_at_once(stage: &Stage) {
    let mut host = stage.host(&["goodbye"]).await;
    let mut ann = stage.session("ann").await;
    ann.claims(claim("goodbye", "all")).await;
    host.presence().await;
    ann.say(Goodbye {
        why: "Ctrl-C".into(),
    });
    assert_eq!(host.presence().await.claims, []);
    host.is_told_gone(ann.welcome.peer).await;
    ann.ends().await;
}

/// One that sleeps is gone when its lease is over, and not before.
pub(super) async fn silence_frees_at_the_end_of_the_lease(stage: &Stage) {
    let mut host = stage.host(&["silence"]).await;
    let began = Instant::now();
    let mut ann = stage.session("ann").await;
    ann.claims(claim("silence", "all")).await;
    host.presence().await;
    let lease = Duration::from_millis(ann.welcome.lease_ms);
    let beat = Duration::from_millis(host.welcome.heartbeat_ms);
    let freed = loop {
        assert!(
            began.elapsed() < lease + SLACK,
            "it holds on after its lease"
        );
        host.say(Heartbeat { n: 1 });
        match timeout(beat, host.inbox.recv()).await.map(|frame| {
            let frame = frame.expect("the host stays");
            Control::read(&frame).expect("a frame of the channel")
        }) {
            Ok(Control::Presence(presence)) => break presence,
            Ok(Control::Alive(_) | Control::Gone(_)) | Err(_) => {}
            Ok(other) => panic!("a list of claims, and not {other:?}"),
        }
    };
    assert_eq!(freed.claims, []);
    let took = began.elapsed();
    assert!(took + SLACK / 8 >= lease, "freed after {took:?} already");
    ann.ends().await;
}

/// A laptop whose network changed is the same session on its next connection.
pub(super) async fn one_that_comes_back_keeps_its_claims(stage: &Stage) {
    let mut host = stage.host(&["resume"]).await;
    let mut old = stage.session("ann").await;
    let held = old.claims(claim("resume", "all")).await;
    let before = host.presence().await;
    let again = Hello {
        resume: Some(old.welcome.key.clone()),
        ..hello(Role::Session, "ann")
    };
    let mut new = enter(&*stage.session, again).await;
    assert!(new.welcome.resumed);
    assert_eq!(new.welcome.peer, old.welcome.peer);
    assert_eq!(new.welcome.session, old.welcome.session);
    assert_eq!(new.welcome.claims, [held.claim]);
    old.ends().await;
    drop(old);

    let mut bob = stage.session("bob").await;
    bob.is_refused(claim("resume", "all")).await;
    let peer = new.welcome.peer;
    let frame = body(peer, 1, 0, Bytes::from_static(b"after"));
    host.outbox.send(frame).expect("the connection is there");
    assert_eq!(new.next().await.body, "after");
    new.say(Release::default());
    let after = host.presence().await;
    assert_eq!((before.claims.len(), after.claims.len()), (1, 0));
}
