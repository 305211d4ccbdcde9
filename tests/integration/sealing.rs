//! What crosses a channel of others is sealed from end to end: who listens there sees no payload; another key, none, and one
//! that is over are told in words. And claims end when the server keeps laptops out.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::{Value, json};

use crate::{
    knock::Ask,
    laptop::Laptop,
    process::until,
    serving::House,
    wrapper::{Program, Wrapper},
};

/// Keys of an open channel, which differ in what they seal with.
const KEY: &str = "bk1.nobody.BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc.0.";
const OTHER: &str = "bk1.nobody.CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg.0.";

/// What tells [`KEY`] from others.
const KEY_NAME: &str = "4bb06f8e";

/// What an end says must not be found by others.
const ASKED: &str = "the-question-of-ann";
const ANSWERED: &str = "the-answer-of-ann";

/// A deployed program in Node that posts events to its handler.
const DEPLOYED: &str = r#"
import { createServer } from "node:http";
import { live } from "bungee";
const handler = live("default/hello", async () => ({ from: "deployed" }));
createServer(async (incoming, outgoing) => {
  let text = "";
  for await (const piece of incoming) text += piece;
  outgoing.end(JSON.stringify(await handler(JSON.parse(text), {})));
}).listen(0, "127.0.0.1", function () { console.log(`at 127.0.0.1:${this.address().port}.`); });
"#;

/// Sits between an end and its channel: passes on what each says, and keeps what the channel says.
struct Tap {
    address: String,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Tap {
    fn on(channel: &str) -> Tap {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it has one").to_string();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (channel, keeps) = (channel.to_owned(), heard.clone());
        aside(move || {
            for end in listener.incoming() {
                let end = end.expect("an end connects");
                let channel = TcpStream::connect(&channel).expect("the channel is there");
                let (end_too, channel_too) = (twice(&end), twice(&channel));
                aside(move || pass(end, channel, |_| {}));
                let keeps = keeps.clone();
                let keep =
                    move |said: &[u8]| keeps.lock().expect("nobody panics").extend_from_slice(said);
                aside(move || pass(channel_too, end_too, keep));
            }
        });
        Tap { address, heard }
    }

    fn channel(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Whether the channel said this, in the clear.
    fn heard(&self, text: &str) -> bool {
        let heard = self.heard.lock().expect("nobody panics");
        let mut places = heard.windows(text.len());
        places.any(|place| place == text.as_bytes())
    }
}

/// Beside the test; it ends with its connections, or with the process.
fn aside(work: impl FnOnce() + Send + 'static) {
    let begun = thread::Builder::new().name("tap".into()).spawn(work);
    begun.expect("a thread can be started");
}

fn twice(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a connection has two sides")
}

fn pass(mut from: TcpStream, mut to: TcpStream, keep: impl Fn(&[u8])) {
    let mut room = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut room) {
        keep(&room[..length]);
        if to.write_all(&room[..length]).is_err() {
            break;
        }
    }
    // Either may be gone.
    let _ = to.shutdown(Shutdown::Both);
}

/// The deployed program, and where it listens.
fn deployed(wrapper: &Wrapper, channel: &str, key: Option<&str>) -> (Program, String) {
    let mut environment = vec![("BUNGEE_CHANNEL", channel), ("BUNGEE_ROLE", "host")];
    environment.extend(key.map(|key| ("BUNGEE_KEY", key)));
    let program = wrapper.run("sealing", DEPLOYED, &environment);
    let said = program.hears("at 127.0.0.1:");
    let address = said
        .split("at ")
        .nth(1)
        .and_then(|at| at.split(".\n").next());
    let address = address.expect("an address").to_owned();
    (program, address)
}

/// A laptop whose answer is long enough to be told from all else.
fn laptop(house: &House, channel: &str, key: Option<&str>) -> Laptop {
    let answer = format!(
        "export const handler = (event) => ({{ from: 'laptop', said: '{ANSWERED}', length: event.said.length }});"
    );
    let bag = house.laptop().to(channel);
    let bag = bag.function("hello", |f| f.event(answer));
    match key {
        Some(key) => bag.key(key).attach(),
        None => bag.attach(),
    }
}

fn call(address: &str) -> Value {
    let event = json!({ "said": ASKED.repeat(10_000) });
    Ask::new(address, "POST", "/").json(&event).send().json()
}

fn until_from(address: &str, place: &str) {
    until(&format!("an event runs at: {place}"), || {
        call(address)["from"] == place
    });
}

#[test]
fn a_channel_of_others_reads_nothing_of_what_is_sealed() {
    let relay = House::relay().start();
    let wrapper = Wrapper::install();
    for (key, is_seen) in [(None, true), (Some(KEY), false)] {
        let (near, far) = (Tap::on(&relay.address), Tap::on(&relay.address));
        let (_program, address) = deployed(&wrapper, &far.channel(), key);
        let _laptop = laptop(&relay, &near.channel(), key);
        until_from(&address, "laptop");
        let answer = call(&address);
        assert_eq!(answer["length"], ASKED.len() * 10_000, "{answer}");
        assert_eq!(near.heard(ASKED), is_seen);
        assert_eq!(far.heard(ANSWERED), is_seen);
        assert!(
            far.heard("default/hello"),
            "who claims what is the channel's to know"
        );
        for part in key.iter().flat_map(|key| key.split('.')) {
            assert!(part.len() < 20 || !(near.heard(part) || far.heard(part)));
        }
    }
}

#[test]
fn with_another_key_the_deployed_code_runs_and_both_sides_say_so() {
    let relay = House::relay().start();
    let wrapper = Wrapper::install();
    let channel = format!("ws://{}", relay.address);
    let (program, address) = deployed(&wrapper, &channel, Some(KEY));
    for (key, words) in [(Some(OTHER), "yours is"), (None, "you have none")] {
        let mut laptop = laptop(&relay, &channel, key);
        until("the host knows of the claim", || {
            assert_eq!(call(&address)["from"], "deployed");
            program
                .said()
                .contains(&format!("has not the key {KEY_NAME} of this host"))
        });
        laptop.says(&format!("seals with the key {KEY_NAME}, and {words}"));
        laptop.interrupt();
        laptop.ended();
    }
}

#[test]
fn on_a_server_s_own_channel_its_own_work_comes_as_it_is_and_its_bridges_sealed() {
    let web = "export default () => new Response('deployed');";
    let house = House::serve().function("own", |f| f.web(web)).start();
    let wrapper = Wrapper::install();
    let tap = Tap::on(&house.address);
    let (_program, address) = deployed(&wrapper, &tap.channel(), Some(KEY));
    let server = format!("http://{}", house.address);
    let bag = house.laptop().to(&server).key(KEY);
    let answer =
        format!("export const handler = () => ({{ from: 'laptop', said: '{ANSWERED}' }});");
    let bag = bag.function("hello", |f| f.event(answer));
    let own = "export default () => new Response('laptop');";
    let _laptop = bag.function("own", |f| f.web(own)).attach();
    until("the server's own work comes", || {
        house.get("/functions/own").ok() == "laptop"
    });
    until_from(&address, "laptop");
    assert!(!tap.heard(ANSWERED));

    // The same server as if it were somebody's relay: what it does not seal is declined.
    let channel = format!("ws://{}", house.address);
    let bag = house.laptop().to(channel).flag("--take-over");
    let bag = bag.function("own", |f| f.web(own));
    let mut strict = bag.of("bob").key(KEY).attach();
    until("the deployed code answers", || {
        house.get("/functions/own").ok() == "deployed"
    });
    strict.says("offered unsealed and declined");
}

#[test]
fn what_a_key_lacks_and_where_one_is_needed_is_said_before_anything_is_sent() {
    let house = House::serve().start();
    let server = format!("http://{}", house.address);
    let over = KEY.replace(".0.", ".1000000000.");
    let short = KEY.replace("HBwc.0.", ".0.");
    for (key, words) in [
        (over.as_str(), "BUNGEE_KEY does not hold: the key ended"),
        (&short, "is not 32 bytes in base64url"),
        ("bgt_token", "one begins with `bk1.`"),
    ] {
        let bag = house.laptop().to(&server).key(key);
        let said = bag
            .refused()
            .ends(3)
            .says(words)
            .says("bungee token create --role bridge");
        assert!(!said.stderr.contains("BwcHBwc"), "{said:?}");
    }
    for url in ["ws://relay.example:24193", "wss://relay.example"] {
        let bag = house.laptop().to(url).flag("--insecure");
        let said = bag.refused().ends(6);
        said.says("only a loopback ws:// may go unsealed")
            .says("set BUNGEE_KEY");
    }
    let bag = house.laptop().to("ws://relay.example:24193");
    let said = bag.key(KEY).refused().ends(6);
    said.says("the token would cross the network in the clear");
}

#[test]
fn a_change_that_keeps_laptops_out_ends_their_claims() {
    let deployed = "export default () => new Response('deployed');";
    let mut plan = House::serve();
    for name in ["off", "disabled", "deleted", "stays"] {
        plan = plan.function(name, |f| f.web(deployed));
    }
    let house = plan.start();
    let mut bag = house.laptop();
    for name in ["off", "disabled", "deleted", "stays"] {
        bag = bag.function(name, |f| {
            f.web("export default () => new Response('laptop');")
        });
    }
    let mut laptop = bag.attach();
    let at = |name: &str| house.get(&format!("/functions/{name}"));
    for name in ["off", "disabled", "deleted", "stays"] {
        until("it runs on the laptop", || at(name).ok() == "laptop");
    }
    house.save(
        "bungee.toml",
        "[functions.off]\nentry = 'src/off.js'\nkind = 'web'\nlive = 'off'\n",
    );
    house.deploy().ok();
    laptop.says("default/off (all) is not yours any more: its `live` was switched off");
    assert_eq!(at("off").ok(), "deployed");
    house.cli(&["disable", "disabled"]).ok();
    laptop.says("default/disabled (all) is not yours any more: the function was disabled");
    at("disabled").fails(403, "FunctionDisabled");
    house.cli(&["delete", "deleted", "--yes"]).ok();
    laptop.says("default/deleted (all) is not yours any more: the function was deleted");
    at("deleted").fails(404, "FunctionNotFound");
    assert_eq!(at("stays").ok(), "laptop");

    let bag = house.laptop().of("bob");
    let bag = bag.function("disabled", |f| f.web(deployed));
    let said = bag.refused().ends(6);
    said.says("`default/disabled` cannot be claimed: it is disabled")
        .says("bungee enable disabled");
    house.cli(&["enable", "disabled"]).ok();
    assert_eq!(at("disabled").ok(), "deployed");
}
