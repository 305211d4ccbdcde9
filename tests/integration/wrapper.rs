//! The Node wrapper at either end of a real server's channel.

use serde_json::json;

use crate::{
    knock::Answer,
    process::until,
    proxy::Proxy,
    serving::House,
    wrapper::{Program, Wrapper},
};

fn channel(house: &House) -> String {
    format!("ws://{}", house.address)
}

/// A laptop's program for the function `hello` of the server.
const HELLO: &str = r#"
import { live } from "bungee";
live.web("hello", async (request) => {
  if (request.url.endsWith("/boom")) throw new TypeError("boom");
  const said = await request.text();
  return new Response(`laptop ${request.method} ${said}`, { status: 203, headers: { "x-place": "laptop" } });
});
live("add", async (event) => ({ sum: event.a + event.b, from: "laptop" }));
"#;

/// Deploys two functions to a server, by its socket.
fn deploy(house: &House) {
    house.save(
        "src/hello.js",
        "export default () => new Response('deployed');",
    );
    let add = "export const handler = (event) => ({ sum: event.a + event.b, from: 'deployed' });";
    house.save("src/add.js", add);
    let toml = "[functions.hello]\nentry = 'src/hello.js'\nkind = 'web'\n\n[functions.add]\nentry = 'src/add.js'\nkind = 'event'\n";
    house.save("bungee.toml", toml);
    let folder = house.folder.to_str().expect("a readable path");
    house
        .cli(&["deploy", folder, "--server", &socket(house)])
        .ok();
}

/// A server's own way in, which needs no token.
fn socket(house: &House) -> String {
    format!("unix:{}", house.socket().display())
}

fn laptop(wrapper: &Wrapper, channel: &str, environment: &[(&str, &str)]) -> Program {
    let ends = [("BUNGEE_CHANNEL", channel), ("BUNGEE_ROLE", "session")];
    let laptop = wrapper.run("hello", HELLO, &[&ends[..], environment].concat());
    laptop.hears("default/hello: its invocations run here");
    laptop.hears("default/add: its invocations run here");
    laptop
}

#[test]
fn the_wrapper_is_host_and_session_on_a_server() {
    let house = House::serve().start();
    let wrapper = Wrapper::install();
    let deployed = wrapper.deployed(&channel(&house), &[]);
    let mut laptop = wrapper.laptop(&channel(&house), &[]);
    deployed.until_from("laptop");
    laptop.kill9();
    deployed.until_from("deployed");
    wrapper.ran_nothing_twice();
}

#[test]
fn a_node_program_takes_the_invocations_of_a_deployed_function() {
    let house = House::serve().start();
    deploy(&house);
    let wrapper = Wrapper::install();
    assert_eq!(house.get("/functions/hello").ok(), "deployed");
    let mut program = laptop(&wrapper, &channel(&house), &[]);
    let at = |answer: &Answer| (answer.status, answer.header("x-place").map(str::to_owned));
    let answer = house.post("/functions/hello", "hi");
    assert_eq!(answer.text(), "laptop POST hi");
    assert_eq!(at(&answer), (203, Some("laptop".into())));
    let large = vec![b'x'; 5 << 20];
    let answer = house.post("/functions/hello", &large);
    assert_eq!(answer.body.len(), "laptop POST ".len() + large.len());
    let result = house.invoke("add", &json!({ "a": 1, "b": 2 }));
    assert_eq!(
        result["result"],
        json!({ "sum": 3, "from": "laptop" }),
        "{result}"
    );

    let failed = house.get("/functions/hello/boom");
    failed.fails(502, "HandlerError").says("boom");
    let record = house.record("hello", |record| record["outcome"] == "HandlerError");
    assert_eq!(record["attempts"][0]["place"], "live", "{record}");

    program.kill9();
    until("the deployed code answers", || {
        house.get("/functions/hello").ok() == "deployed"
    });
    let result = house.invoke("add", &json!({ "a": 1, "b": 2 }));
    assert_eq!(result["result"]["from"], "deployed", "{result}");
}

/// A server that asks everybody for a token, behind nginx, and a laptop that has one.
fn attach_behind(proxy: impl FnOnce(&str) -> Proxy) {
    let house = House::serve().flag("--require-token").start();
    deploy(&house);
    let proxy = proxy(&house.address);
    let socket = format!("unix:{}", house.socket().display());
    let made = house.cli(&[
        "token", "create", "--role", "live", "--json", "--server", &socket,
    ]);
    let made = made.ok().json();
    let token = made["token"].as_str().expect("a token");
    let authority = proxy.authority();
    let environment = [
        ("BUNGEE_TOKEN", token),
        ("BUNGEE_ALL", "1"),
        ("NODE_EXTRA_CA_CERTS", &authority),
    ];
    let wrapper = Wrapper::install();
    let mut program = laptop(&wrapper, &proxy.channel(), &environment);
    let ask = || {
        let asked = house.ask("POST", "/functions/hello").token(token);
        asked.body("hi").send().text()
    };
    assert_eq!(ask(), "laptop POST hi");
    program.kill9();
    until("the deployed code answers", || ask() == "deployed");
}

#[test]
fn a_node_program_attaches_to_a_server_behind_nginx() {
    attach_behind(Proxy::plain);
}

#[test]
fn a_node_program_attaches_to_a_server_behind_nginx_with_tls() {
    attach_behind(Proxy::tls);
}
