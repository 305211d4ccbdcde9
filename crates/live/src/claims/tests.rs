//! The rules of claims as short stories, told to a small world of ends.

mod chance;

use model::Name;

use super::*;
use crate::message::{Claim, Goodbye, Mode, Refused, Release, Serve};

/// Refuses one function, and knows another.
struct Strict;

impl Policy for Strict {
    fn may_claim(&self, function: &FunctionId, _who: &Credentials) -> Result<(), Refusal> {
        match function.name.as_str() {
            "closed" => Err(Refusal::new("LiveOff", "shop/closed has `live = \"off\"`")),
            _ => Ok(()),
        }
    }

    fn may_serve(&self, function: Option<&FunctionId>, _who: &Credentials) -> Result<(), Refusal> {
        match function {
            Some(_) => Ok(()),
            None => Err(Refusal::new("Forbidden", "name the functions")),
        }
    }
}

fn claims() -> Claims {
    Claims::new(ChannelSettings::default(), Arc::new(Strict))
}

fn hello(role: Role, developer: &str) -> Hello {
    Hello {
        role,
        name: None,
        program: "test 1".into(),
        developer: Some(developer.into()),
        resume: None,
        capabilities: Vec::new(),
        seal: None,
    }
}

fn anybody() -> Credentials {
    Credentials {
        may_attach: true,
        may_host: true,
        ..Credentials::default()
    }
}

fn join(claims: &mut Claims, role: Role, developer: &str) -> u32 {
    let mut chance = [0; 32];
    chance[12..16].copy_from_slice(&claims.last_peer.to_be_bytes());
    chance[28..32].copy_from_slice(&claims.last_peer.to_be_bytes());
    let admitted = claims.join(0, anybody(), hello(role, developer), chance);
    admitted.unwrap().peer
}

fn ask(function: &str, rule: &str) -> Claim {
    Claim {
        reference: 1,
        function: function.into(),
        rule: rule.into(),
        mode: Mode::Take,
        take_over: false,
        concurrency: None,
        hold_deadline: false,
        all: false,
    }
}

fn take_over(function: &str, rule: &str) -> Claim {
    Claim {
        take_over: true,
        ..ask(function, rule)
    }
}

fn observe(function: &str, rule: &str) -> Claim {
    Claim {
        mode: Mode::Observe,
        ..ask(function, rule)
    }
}

/// What one end is told.
fn told(turn: &Turn, peer: u32) -> Vec<Control> {
    let told = turn.send.iter().filter(|(to, _)| *to == peer);
    told.map(|(_, said)| said.clone()).collect()
}

/// The number of the claim that is granted.
fn granted(claims: &mut Claims, peer: u32, claim: Claim) -> u64 {
    let turn = claims.hear(0, peer, claim.into());
    let answers = told(&turn, peer);
    match answers.as_slice() {
        [Control::Claimed(claimed)] => claimed.claim,
        other => panic!("{other:?}"),
    }
}

fn refused(claims: &mut Claims, peer: u32, claim: Claim) -> Refused {
    let turn = claims.hear(0, peer, claim.into());
    match turn.send.as_slice() {
        [(to, Control::Refused(refused))] if *to == peer => refused.clone(),
        other => panic!("{other:?}"),
    }
}

fn serves(claims: &mut Claims, host: u32, functions: &[&str]) -> Turn {
    let functions = functions.iter().map(ToString::to_string).collect();
    let serve = Serve {
        functions,
        all: false,
    };
    claims.hear(0, host, serve.into())
}

/// The developers of a function's claims, as they are tried.
fn order(claims: &Claims, function: &str) -> Vec<String> {
    let function = FunctionId {
        project: Name::default_project(),
        name: function.parse().unwrap(),
    };
    let held = claims.table.claims_of(&function);
    held.map(|held| format!("{} {}", held.developer, held.rule))
        .collect()
}

#[test]
fn a_second_claim_is_refused_and_told_who_holds_it() {
    let mut claims = claims();
    let (ann, bob) = (
        join(&mut claims, Role::Session, "ann"),
        join(&mut claims, Role::Session, "bob"),
    );
    let number = granted(&mut claims, ann, ask("hello", "header:x-dev"));
    let turn = claims.hear(4000, bob, ask("default/hello", "header:X-Dev").into());
    let [(_, Control::Refused(refused))] = turn.send.as_slice() else {
        panic!("{turn:?}")
    };
    assert_eq!(refused.refusal.kind, "ClaimHeld");
    assert_eq!(
        refused.refusal.message,
        "ann has held default/hello by `header:x-dev` for 4 s"
    );
    let holder = refused.holder.as_ref().unwrap();
    assert_eq!((holder.claim, holder.since_ms), (number, 4000));
    granted(&mut claims, bob, ask("hello", "header:x-dev=bob"));
    granted(&mut claims, bob, observe("hello", "header:x-dev"));
}

#[test]
fn the_loser_of_a_take_over_neither_reclaims_nor_releases_what_the_new_owner_holds() {
    let mut claims = claims();
    let (ann, bob) = (
        join(&mut claims, Role::Session, "ann"),
        join(&mut claims, Role::Session, "bob"),
    );
    let old = granted(&mut claims, ann, ask("hello", "all"));
    let turn = claims.hear(0, bob, take_over("hello", "all").into());
    let [Control::Taken(taken)] = &told(&turn, ann)[..] else {
        panic!("{turn:?}")
    };
    assert_eq!(
        (taken.claim, taken.by.as_deref(), taken.why.as_str()),
        (old, Some("bob"), "taken over")
    );
    assert_eq!(
        refused(&mut claims, ann, ask("hello", "all")).refusal.kind,
        "ClaimHeld"
    );
    for release in [
        Release { claim: Some(old) },
        Release {
            claim: Some(old + 1),
        },
        Release::default(),
    ] {
        claims.hear(0, ann, release.into());
        assert_eq!(order(&claims, "hello"), ["bob all"]);
    }
    claims.end(0, ann, "its connection closed");
    assert_eq!(order(&claims, "hello"), ["bob all"]);
}

#[test]
fn the_most_specific_is_tried_first_and_among_equals_the_earliest() {
    let mut claims = claims();
    let ann = join(&mut claims, Role::Session, "ann");
    let bob = join(&mut claims, Role::Session, "bob");
    for (peer, rule) in [
        (ann, "all"),
        (ann, "percent:10"),
        (bob, "user:bob"),
        (bob, "header:x-b=1"),
        (ann, "header:x-a=1"),
        (ann, "path:/v2/*"),
        (bob, "path:/v2/users/*"),
        (bob, "header:x-c=1"),
    ] {
        granted(&mut claims, peer, ask("hello", rule));
    }
    assert_eq!(
        order(&claims, "hello"),
        [
            "bob header:x-b=1",
            "ann header:x-a=1",
            "bob header:x-c=1",
            "bob user:bob",
            "bob path:/v2/users/*",
            "ann path:/v2/*",
            "ann percent:10",
            "ann all"
        ]
    );
}

#[test]
fn hosts_are_told_the_whole_list_of_what_they_serve_and_nothing_else() {
    let mut claims = claims();
    let ann = join(&mut claims, Role::Session, "ann");
    let host = join(&mut claims, Role::Host, "gateway");
    granted(&mut claims, ann, ask("hello", "all"));
    let turn = serves(&mut claims, host, &["hello", "later"]);
    let [Control::Presence(presence)] = &told(&turn, host)[..] else {
        panic!("{turn:?}")
    };
    assert_eq!(presence.function, "default/hello");
    assert_eq!(presence.claims[0].developer, "ann");

    let turn = claims.hear(0, ann, ask("other", "all").into());
    assert!(told(&turn, host).is_empty(), "{turn:?}");
    let turn = claims.hear(0, ann, ask("later", "all").into());
    assert_eq!(told(&turn, host).len(), 1, "{turn:?}");

    let turn = claims.hear(0, ann, Goodbye::default().into());
    let words: Vec<String> = told(&turn, host)
        .iter()
        .map(|said| match said {
            Control::Presence(presence) => {
                format!("{} {}", presence.function, presence.claims.len())
            }
            Control::Gone(gone) => format!("{} gone: {}", gone.peer, gone.why),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        words,
        ["default/hello 0", "default/later 0", "1 gone: it left"]
    );
    assert_eq!(turn.gone, [ann]);
}

#[test]
fn a_claim_says_whether_somebody_has_the_function_now() {
    let mut claims = claims();
    let ann = join(&mut claims, Role::Session, "ann");
    let host = join(&mut claims, Role::Host, "gateway");
    for is_served in [false, true] {
        if is_served {
            serves(&mut claims, host, &["hello"]);
        }
        let turn = claims.hear(0, ann, ask("hello", "all").into());
        let [Control::Claimed(claimed)] = &told(&turn, ann)[..] else {
            panic!("{turn:?}")
        };
        assert_eq!((claimed.claim, claimed.deployed), (1, is_served));
    }
}

#[test]
fn what_makes_no_claim_is_refused_in_clear_words() {
    let settings = ChannelSettings {
        is_wide: true,
        ..ChannelSettings::default()
    };
    let mut claims = Claims::new(settings, Arc::new(Strict));
    let ann = join(&mut claims, Role::Session, "ann");
    let no_one = Claim {
        concurrency: Some(0),
        ..ask("hello", "user:ann")
    };
    for (claim, kind, words) in [
        (ask("hello", "percent:0"), "BadRule", "would match nothing"),
        (ask("a/b/c", "user:ann"), "BadFunction", "is no function"),
        (ask("register", "user:ann"), "BadFunction", "reserved"),
        (ask("closed", "user:ann"), "LiveOff", "live = \"off\""),
        (ask("hello", "all"), "NeedsAll", "every invocation"),
        (ask("hello", "percent:100"), "NeedsAll", "percent:100"),
        (observe("hello", "path:/*"), "NeedsAll", "path:/*"),
        (no_one, "BadClaim", "would run nothing"),
    ] {
        let refused = refused(&mut claims, ann, claim);
        assert_eq!(refused.refusal.kind, kind);
        assert!(refused.refusal.message.contains(words), "{refused:?}");
    }
    let meant = Claim {
        all: true,
        ..ask("hello", "all")
    };
    granted(&mut claims, ann, meant);
}

#[test]
fn who_may_not_is_not_let_in() {
    let mut claims = claims();
    let bridge = Credentials {
        may_host: true,
        ..Credentials::default()
    };
    let fatal = claims.join(0, bridge.clone(), hello(Role::Session, "eve"), [1; 32]);
    let fatal = fatal.unwrap_err().0;
    assert_eq!(
        (fatal.kind.as_str(), fatal.hint.as_deref()),
        ("Forbidden", Some("use a token with the role `live`"))
    );
    let host = claims.join(0, bridge, hello(Role::Host, "bridge"), [1; 32]);
    let host = host.unwrap().peer;
    for said in [
        Control::from(ask("hello", "all")),
        Serve {
            functions: Vec::new(),
            all: true,
        }
        .into(),
    ] {
        let mut claims = self::claims();
        let ann = join(&mut claims, Role::Session, "ann");
        let host = if host == ann {
            join(&mut claims, Role::Host, "h")
        } else {
            host
        };
        let turn = claims.hear(0, host, said);
        assert!(
            matches!(&told(&turn, host)[..], [Control::Fatal(_)]),
            "{turn:?}"
        );
        assert_eq!(turn.gone, [host]);
        assert!(claims.ends.contains_key(&ann));
    }
}

#[test]
fn the_silent_are_gone_at_the_end_of_their_lease_and_not_before() {
    let mut claims = claims();
    let ann = join(&mut claims, Role::Session, "ann");
    let host = join(&mut claims, Role::Host, "gateway");
    serves(&mut claims, host, &["hello"]);
    granted(&mut claims, ann, ask("hello", "all"));
    claims.hear(3000, host, Heartbeat { n: 1 }.into());
    assert_eq!(claims.tick(4999), Turn::default());
    let turn = claims.tick(5000);
    assert_eq!(turn.gone, [ann]);
    assert_eq!(told(&turn, host).len(), 2, "{turn:?}");
    assert_eq!(claims.count(), 0);
    assert_eq!(
        claims.hear(5001, ann, Heartbeat { n: 1 }.into()),
        Turn::default()
    );
}

#[test]
fn one_that_comes_back_with_its_key_is_the_same_and_hears_what_it_missed() {
    let mut claims = claims();
    let ann = join(&mut claims, Role::Session, "ann");
    let bob = join(&mut claims, Role::Session, "bob");
    let host = join(&mut claims, Role::Host, "gateway");
    serves(&mut claims, host, &["hello"]);
    let kept = granted(&mut claims, ann, ask("hello", "all"));
    granted(&mut claims, ann, ask("hello", "user:ann"));
    granted(&mut claims, bob, take_over("hello", "user:ann"));
    claims.end(1000, bob, "its connection closed");

    let again = |claims: &mut Claims, peer: u32, role| {
        let key = claims.ends[&peer].key.clone();
        let hello = Hello {
            resume: Some(key),
            ..hello(role, "anybody")
        };
        let admitted = claims.join(2000, anybody(), hello, [9; 32]).unwrap();
        assert_eq!((admitted.peer, admitted.resumed), (peer, true));
        told(&admitted.turn, peer)
    };
    let [Control::Welcome(welcome)] = &again(&mut claims, ann, Role::Session)[..] else {
        panic!("only a welcome")
    };
    assert_eq!((welcome.resumed, &welcome.claims[..]), (true, &[kept][..]));
    let heard = again(&mut claims, host, Role::Host);
    let [
        Control::Welcome(_),
        Control::Gone(gone),
        Control::Presence(presence),
    ] = &heard[..]
    else {
        panic!("{heard:?}")
    };
    assert_eq!((gone.peer, presence.claims.len()), (bob, 1));
}

#[test]
fn a_key_of_the_dead_or_of_somebody_else_makes_a_new_end() {
    let mut claims = claims();
    let ann = join(&mut claims, Role::Session, "ann");
    let key = claims.ends[&ann].key.clone();
    let with_key = Hello {
        resume: Some(key),
        ..hello(Role::Session, "ann")
    };
    let eve = Credentials {
        user: Some("eve".into()),
        ..anybody()
    };
    let stolen = claims.join(0, eve, with_key.clone(), [7; 32]).unwrap();
    assert!(!stolen.resumed && stolen.peer != ann);
    claims.end(0, ann, "its connection closed");
    let late = claims.join(0, anybody(), with_key, [8; 32]).unwrap();
    assert!(!late.resumed && late.peer > stolen.peer);
}

#[test]
fn a_function_that_is_called_back_is_told_to_its_owners() {
    let mut claims = claims();
    let ann = join(&mut claims, Role::Session, "ann");
    let number = granted(&mut claims, ann, ask("hello", "all"));
    let other = granted(&mut claims, ann, ask("other", "all"));
    let turn = claims.revoke(
        |function| function.name.as_str() == "hello",
        "live was switched off",
    );
    let [(to, Control::Taken(taken))] = &turn.send[..] else {
        panic!("{turn:?}")
    };
    assert_eq!((*to, taken.claim, taken.by.clone()), (ann, number, None));
    assert_eq!(claims.table.numbers_of(ann), [other]);
}

#[test]
fn neither_a_session_nor_a_function_has_claims_without_end() {
    let mut claims = claims();
    let ann = join(&mut claims, Role::Session, "ann");
    for number in 0..crate::CLAIMS_OF_FUNCTION_MAX {
        granted(&mut claims, ann, ask("full", &format!("user:{number}")));
    }
    let full = refused(&mut claims, ann, ask("full", "user:more"));
    assert_eq!(full.refusal.kind, "TooManyClaims");
    let bob = join(&mut claims, Role::Session, "bob");
    granted(&mut claims, bob, take_over("full", "user:7"));
    for number in claims.table.count_of(ann)..crate::CLAIMS_MAX {
        granted(&mut claims, ann, ask(&format!("f{number}"), "all"));
    }
    let full = refused(&mut claims, ann, ask("more", "all"));
    assert!(full.refusal.message.contains("1000 claims"), "{full:?}");
}
