//! Scenes of frames that cross, and of claims that come and go.

use super::*;

/// Per attempt nothing is lost, doubled or overtaken, in both directions at once.
pub(super) async fn frames_arrive_once_and_in_order(stage: &Stage) {
    const ATTEMPTS: u16 = 5;
    const FRAMES: u32 = 200;
    let mut host = stage.host(&[]).await;
    let mut ann = stage.session("ann").await;
    for (from, to) in [(&host, &ann), (&ann, &host)] {
        for index in 0..FRAMES {
            for attempt in 0..ATTEMPTS {
                let payload = Bytes::from(format!("{attempt} {index}"));
                let frame = body(to.welcome.peer, attempt, index, payload);
                from.outbox.send(frame).expect("the connection is there");
            }
        }
    }
    let (host_peer, ann_peer) = (host.welcome.peer, ann.welcome.peer);
    for (reader, from) in [(&mut ann, host_peer), (&mut host, ann_peer)] {
        let mut next = [0; ATTEMPTS as usize];
        for _ in 0..FRAMES * u32::from(ATTEMPTS) {
            let got = reader.next().await;
            let attempt = got.head.of.attempt;
            let index = &mut next[usize::from(attempt)];
            let payload = Bytes::from(format!("{attempt} {index}"));
            assert_eq!(got, body(from, attempt, *index, payload));
            *index += 1;
        }
        reader.say(Heartbeat { n: 1 });
        assert_eq!(reader.hear().await, Alive { n: 1 }.into());
    }
}

/// A frame may be as large as the protocol says.
pub(super) async fn the_largest_payload_crosses(stage: &Stage) {
    let host = stage.host(&[]).await;
    let mut ann = stage.session("ann").await;
    let payload: Vec<u8> = (0..PAYLOAD_MAX).map(|at| (at * 31 % 251) as u8).collect();
    let payload = Bytes::from(payload);
    for index in 0..4 {
        let frame = body(ann.welcome.peer, 1, index, payload.clone());
        host.outbox.send(frame).expect("the connection is there");
    }
    for index in 0..4 {
        let got = ann.next().await;
        let whole = got == body(host.welcome.peer, 1, index, payload.clone());
        assert!(
            whole,
            "frame {index} of {} bytes arrives whole",
            got.body.len()
        );
    }
}

/// A host knows who claims what without asking, in the order in which rules are tried.
pub(super) async fn hosts_see_claims_come_and_go(stage: &Stage) {
    let mut ann = stage.session("ann").await;
    let early = ann.claims(claim("presence", "percent:10")).await;
    assert_eq!((early.reference, early.deployed), (41, false));
    let mut host = stage.host(&["presence", "elsewhere"]).await;
    let told = host.presence().await;
    assert_eq!(told.function, format!("{}/presence", ann.welcome.project));
    let [present] = &told.claims[..] else {
        panic!("one claim, and not {told:?}")
    };
    assert_eq!(present.claim, early.claim);
    assert_eq!(present.peer, ann.welcome.peer);
    assert_eq!(present.session, ann.welcome.session);
    assert_eq!(present.developer, "ann");
    assert_eq!(
        (present.concurrency, present.hold_deadline),
        (Some(3), true)
    );

    let mut bob = stage.session("bob").await;
    let second = bob.claims(claim("presence", "header:x-dev=bob")).await;
    assert!(second.deployed, "a host serves it now");
    let told = host.presence().await;
    let order: Vec<u64> = told.claims.iter().map(|present| present.claim).collect();
    assert_eq!(order, [second.claim, early.claim]);

    bob.claims(claim("not-served", "all")).await;
    ann.say(Release {
        claim: Some(early.claim),
    });
    let told = host.presence().await;
    assert_eq!(told.function, format!("{}/presence", ann.welcome.project));
    let left: Vec<u64> = told.claims.iter().map(|present| present.claim).collect();
    assert_eq!(left, [second.claim]);
}

/// Two developers never wonder whose breakpoint it is.
pub(super) async fn a_second_claim_is_refused_and_told_who_holds_it(stage: &Stage) {
    let (mut ann, mut bob) = (stage.session("ann").await, stage.session("bob").await);
    let held = ann.claims(claim("second", "all")).await;
    let refused = bob.is_refused(claim("second", "all")).await;
    assert_eq!(
        (refused.reference, &*refused.refusal.kind),
        (41, "ClaimHeld")
    );
    let holder = refused.holder.expect("who holds it");
    assert_eq!((&*holder.developer, holder.claim), ("ann", held.claim));
    bob.claims(claim("second", "user:bob")).await;
    let copy = Claim {
        mode: Mode::Observe,
        ..claim("second", "all")
    };
    bob.claims(copy).await;
}

/// The loser knows, and cannot take anything from the new owner by mistake.
pub(super) async fn a_take_over_is_told_to_the_loser(stage: &Stage) {
    let mut host = stage.host(&["take-over"]).await;
    let (mut ann, mut bob) = (stage.session("ann").await, stage.session("bob").await);
    let lost = ann.claims(claim("take-over", "all")).await;
    host.presence().await;
    let taking = Claim {
        take_over: true,
        ..claim("take-over", "all")
    };
    let won = bob.claims(taking).await;
    match ann.hear().await {
        Control::Taken(taken) => {
            assert_eq!(taken.claim, lost.claim);
            assert_eq!(taken.by.as_deref(), Some("bob"));
        }
        other => panic!("it was taken, and not {other:?}"),
    }
    let told = host.presence().await;
    assert_eq!((told.claims.len(), told.claims[0].claim), (1, won.claim));

    for claim in [lost.claim, won.claim] {
        ann.say(Release { claim: Some(claim) });
    }
    ann.say(Release::default());
    ann.is_refused(claim("take-over", "all")).await;
    ann.say(Goodbye::default());
    host.is_told_gone(ann.welcome.peer).await;
    bob.say(Release::default());
    assert_eq!(host.presence().await.claims, []);
}

/// Who writes to nobody is told so, and nobody else gets it.
pub(super) async fn what_is_for_the_gone_is_answered(stage: &Stage) {
    let mut host = stage.host(&[]).await;
    let mut ann = stage.session("ann").await;
    ann.say(Goodbye::default());
    ann.ends().await;
    host.is_told_gone(ann.welcome.peer).await;
    let mut bob = stage.session("bob").await;
    let lost = body(ann.welcome.peer, 1, 0, Bytes::from_static(b"for ann"));
    host.outbox.send(lost).expect("the connection is there");
    host.is_told_gone(ann.welcome.peer).await;
    let frame = body(bob.welcome.peer, 1, 0, Bytes::from_static(b"for bob"));
    host.outbox.send(frame).expect("the connection is there");
    assert_eq!(bob.next().await.body, "for bob");
}
