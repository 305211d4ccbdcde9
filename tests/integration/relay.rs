//! `bungee relay`: who meets on it, who may, what it is beside the channel, and how it stands behind a proxy.

use std::{path::Path, process::Command};

use rustix::process::Signal;
use serde_json::json;

use crate::{
    process::until,
    proxy::Proxy,
    serving::House,
    socket::{Ending, Socket},
    wrapper::Wrapper,
};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn channel(relay: &House) -> String {
    format!("ws://{}", relay.address)
}

/// The headers with which an end asks for the channel.
fn asking(authorization: &str) -> Vec<(&'static str, &str)> {
    vec![
        ("sec-websocket-protocol", "bungee.live.1"),
        ("authorization", authorization),
    ]
}

#[test]
fn a_host_and_a_session_meet_over_a_relay() {
    let relay = House::relay().start();
    let wrapper = Wrapper::install();
    let deployed = wrapper.deployed(&channel(&relay), &[]);
    deployed.until_from("deployed");
    let mut laptop = wrapper.laptop(&channel(&relay), &[]);
    laptop.hears("shop/hello: its invocations run here");
    deployed.until_from("laptop");
    laptop.hears("done in");
    let health = relay.get("/health").json();
    assert_eq!(health["claims"], 1, "{health}");

    laptop.signal(Signal::INT);
    assert_eq!(laptop.ended(), None, "it ends by the signal");
    deployed.until_from("deployed");
    assert_eq!(relay.get("/health").json()["claims"], 0);
    let mut laptop = wrapper.laptop(&channel(&relay), &[]);
    deployed.until_from("laptop");
    laptop.kill9();
    deployed.until_from("deployed");
    wrapper.ran_nothing_twice();
}

#[test]
fn a_relay_is_the_channel_and_health_and_nothing_else() {
    let mut relay = House::relay().start();
    let health = relay.get("/health").json();
    assert_eq!(health["status"], "ok");
    assert!(health["uptime"].as_f64().unwrap() >= 0.0);
    assert_eq!(relay.get("/health/live").ok(), "OK");
    assert_eq!(relay.get("/health/ready").json(), json!({ "ready": true }));
    let plain = relay.ask("GET", "/health").header("accept", "text/plain");
    assert_eq!(plain.send().ok(), "OK");
    for path in ["/", "/functions/hello", "/v1/server", "/metrics"] {
        let answer = relay.get(path);
        answer.fails(404, "NotFound").says("this is a relay");
    }
    let answer = relay.post("/v1/server", [b'x'; 1000]);
    answer.fails(404, "NotFound");
    let answer = relay.post("/health", "");
    assert_eq!(answer.status, 405, "{}", answer.text());
    let answer = relay.get("/v1/live");
    answer.fails(400, "BadRequest").says("`bungee.live.1`");
    relay.signal(Signal::TERM);
    assert_eq!(relay.ended().code(), Some(0));
}

#[test]
fn a_relay_without_a_secret_is_for_local_programs_only() {
    let relay = House::relay().start();
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("x-forwarded-for", "10.0.0.1"),
        ("forwarded", "for=10.0.0.1"),
        ("host", "evil.example"),
    ] {
        let asked = [asking("none"), vec![(name, value)]].concat();
        let answer = Socket::ask(&relay, "/v1/live", &asked).unwrap_err();
        assert_eq!(answer.status(), 403, "{name}");
        let said = String::from_utf8_lossy(answer.body().as_deref().unwrap_or_default());
        assert!(said.contains("open to local programs only"), "{said}");
    }
    Socket::ask(&relay, "/v1/live", &asking("none")).unwrap();
}

#[test]
fn a_relay_with_a_secret_asks_everybody_for_it() {
    let relay = House::relay().variable("BUNGEE_SECRET", SECRET).start();
    let almost = format!("Bearer {}", &SECRET[1..]);
    for wrong in ["", "Bearer", "Bearer wrong", "Basic x", &almost] {
        let answer = Socket::ask(&relay, "/v1/live", &asking(wrong)).unwrap_err();
        assert_eq!(answer.status(), 401, "{wrong:?}");
    }
    Socket::ask(&relay, "/v1/live", &asking(&format!("Bearer {SECRET}"))).unwrap();
    relay.get("/health/ready").ok();

    let wrapper = Wrapper::install();
    let wrong = [("BUNGEE_TOKEN", "0000000000000000")];
    let deployed = wrapper.deployed(&channel(&relay), &wrong);
    assert_eq!(deployed.from(), "deployed");
    let refused = "Unauthorized: this is not the relay's secret";
    deployed.program.hears(refused);
    let mut laptop = wrapper.laptop(&channel(&relay), &wrong);
    laptop.hears(refused);
    assert_eq!(laptop.ended(), Some(6));

    let right = [("BUNGEE_TOKEN", SECRET)];
    let mut laptop = wrapper.laptop(&channel(&relay), &right);
    laptop.hears("BUNGEE_ALL=1 takes all, BUNGEE_WHEN=header:x-dev=NAME some");
    assert_eq!(laptop.ended(), Some(6));
    let some = [right[0], ("BUNGEE_WHEN", "header:x-dev=ann")];
    let laptop = wrapper.laptop(&channel(&relay), &some);
    laptop.hears("shop/hello (header:x-dev=ann): its invocations run here");
}

#[test]
fn a_relay_that_others_reach_needs_a_secret() {
    let wide = || House::relay().flag("--listen").flag("0.0.0.0:0");
    wide()
        .refuses()
        .ends(3)
        .says("there is no secret to tell friends from strangers")
        .says("openssl rand -hex 32");
    for (secret, words) in [
        ("short", "the secret has 5 characters; it needs at least 16"),
        ("0123456789 abcdef", "no header can carry"),
        (
            "bk1.0123456789abcdef.x.0.",
            "whose seal key no relay may know",
        ),
    ] {
        let said = wide().flag("--secret").flag(secret).refuses().ends(3);
        let said = said.says(words);
        assert!(!said.stderr.contains("0123456789"), "{said:?}");
    }
    wide().flag("--secret").flag(SECRET).start();
    for flag in ["--channel", "--local"] {
        let said = House::relay().flag(flag).refuses().ends(2);
        said.says(&format!("`{flag}` arrives later"));
    }
    let other = House::relay().start();
    let taken = House::relay().flag("--listen").flag(&other.address);
    taken.refuses().ends(3).says("is in use");
}

#[test]
fn a_relay_that_goes_down_says_goodbye() {
    let mut relay = House::relay().start();
    let wrapper = Wrapper::install();
    let deployed = wrapper.deployed(&channel(&relay), &[]);
    let laptop = wrapper.laptop(&channel(&relay), &[]);
    deployed.until_from("laptop");
    relay.signal(Signal::INT);
    assert_eq!(relay.ended().code(), Some(0));
    laptop.hears("the channel says goodbye: the relay goes down");
    assert_eq!(deployed.from(), "deployed");
    relay.restart();
    deployed.until_from("laptop");
    wrapper.ran_nothing_twice();
}

/// What the page tells to make: the relay's secret, and the key of both ends.
fn secret_and_key() -> (String, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/relay.md");
    let page = std::fs::read_to_string(path).expect("the page is there");
    let block = page.split("```sh\n").nth(1);
    let block = block.and_then(|block| block.split("```").next());
    let shell = ["-euc", block.expect("the page makes a secret")];
    let made = Command::new("sh").args(shell).output();
    let made = made.expect("a shell is there").stdout;
    let made = String::from_utf8_lossy(&made);
    let value = |name: &str| {
        let mut lines = made.lines();
        let value = lines.find_map(|line| line.strip_prefix(name));
        value.unwrap_or_else(|| panic!("no {name} in {made}"))
    };
    let (secret, key) = (value("BUNGEE_SECRET="), value("BUNGEE_KEY="));
    (secret.into(), key.into())
}

/// Both ends over a proxy that closes what is silent for 3 s, with payloads sealed from end to end.
fn meet_behind(proxy: impl FnOnce(&str) -> Proxy) {
    let (secret, key) = secret_and_key();
    let relay = House::relay().variable("BUNGEE_SECRET", &secret).start();
    let proxy = proxy(&relay.address);
    let authority = proxy.authority();
    let environment = [
        ("BUNGEE_KEY", key.as_str()),
        ("BUNGEE_ALL", "1"),
        ("NODE_EXTRA_CA_CERTS", &authority),
    ];
    let wrapper = Wrapper::install();
    let deployed = wrapper.deployed(&proxy.channel(), &environment);
    let laptop = wrapper.laptop(&proxy.channel(), &environment);
    deployed.until_from("laptop");
    outlive_the_silent(&relay, &secret, &proxy);
    assert_eq!(deployed.from(), "laptop");
    assert_eq!(laptop.times("cannot be reached"), 0, "{}", laptop.said());
    wrapper.ran_nothing_twice();
}

/// Waits until the proxy has closed a connection on which nothing was said.
fn outlive_the_silent(relay: &House, secret: &str, proxy: &Proxy) {
    let authorization = format!("Bearer {secret}");
    let plain = Proxy::plain(&relay.address);
    let silent = Socket::at(&plain.address, "/v1/live", &asking(&authorization));
    let silent = silent.expect("the relay's own secret");
    assert_eq!(silent.end(), Ending::Broken);
    until("nginx says why", || plain.errors().contains("timed out"));
    assert!(!proxy.errors().contains("timed out"), "{}", proxy.errors());
}

#[test]
fn heartbeats_keep_a_relay_s_connections_through_nginx() {
    meet_behind(Proxy::plain);
}

#[test]
fn both_ends_meet_behind_nginx_with_tls() {
    meet_behind(Proxy::tls);
}

#[test]
fn a_certificate_that_nobody_knows_is_no_channel() {
    let relay = House::relay().variable("BUNGEE_SECRET", SECRET).start();
    let proxy = Proxy::tls(&relay.address);
    let wrapper = Wrapper::install();
    let token = [("BUNGEE_TOKEN", SECRET)];
    let laptop = wrapper.laptop(&proxy.channel(), &token);
    let said = laptop.hears("cannot be reached");
    assert!(said.contains("certificate"), "{said}");
    let deployed = wrapper.deployed(&proxy.channel(), &token);
    assert_eq!(deployed.from(), "deployed");
    assert_eq!(relay.get("/health").json()["claims"], 0);
}
