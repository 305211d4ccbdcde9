//! The end: work in flight finishes, a second signal ends at once, nothing stays behind.

use rustix::process::Signal;

use crate::{knock::Wire, process::until, serving::House};

const SLOW: &str = "
    export default async (r) => {
      const act = r.url.split('/').pop();
      console.log(act + ' begins');
      if (act === 'forever') { r.signal.addEventListener('abort', () => console.log('told')); await new Promise(() => setTimeout(() => {}, 1e6)); }
      if (act === 'second') await new Promise((done) => setTimeout(done, 1000));
      return new Response('done');
    };";

fn slow() -> House {
    House::serve().function("f", |f| f.bun().web(SLOW)).start()
}

fn begin(house: &House, act: &str) -> Wire {
    let wire = house.ask("GET", &format!("/functions/f/{act}")).open();
    house.logged("f", &format!("{act} begins"));
    wire
}

#[test]
fn what_is_in_flight_finishes_and_the_server_ends_with_0() {
    let mut house = slow();
    let mut wire = begin(&house, "second");
    let children = house.children();
    house.signal(Signal::TERM);
    assert_eq!(wire.answer().ok(), "done");
    assert_eq!(house.ended().code(), Some(0));
    House::all_gone(&children);
    assert!(!house.socket().exists(), "the socket is gone");
}

#[test]
fn the_last_record_is_kept() {
    let mut house = slow();
    let mut wire = begin(&house, "second");
    house.signal(Signal::INT);
    wire.answer().ok();
    assert_eq!(house.ended().code(), Some(0));
    house.restart();
    house.record("f", |record| {
        record["path"] == "/functions/f/second" && record["outcome"] == "ok"
    });
}

#[test]
fn while_it_drains_nothing_new_is_taken() {
    let mut house = slow();
    let mut kept = house.wire();
    let mut wire = begin(&house, "second");
    house.signal(Signal::TERM);
    until("no new connection gets an answer", || {
        let connected = std::net::TcpStream::connect(&house.address);
        connected.is_err()
    });
    kept.send(format!(
        "GET /functions/f/now HTTP/1.1\r\nhost: {}\r\n\r\n",
        house.address
    ));
    let heard = kept.hear_the_end();
    assert!(
        heard.is_empty() || heard.starts_with("HTTP/1.1 503") || heard.starts_with("HTTP/1.1 200"),
        "{heard}"
    );
    wire.answer().ok();
    assert_eq!(house.ended().code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once_with_1() {
    let mut house = slow();
    let _wire = begin(&house, "forever");
    let children = house.children();
    house.signal(Signal::TERM);
    until("it says that it stops", || {
        house.said().contains("stopping")
    });
    house.signal(Signal::TERM);
    assert_eq!(house.ended().code(), Some(1));
    House::all_gone(&children);
}

#[test]
fn after_the_grace_the_rest_is_told_and_ended() {
    let mut house = House::serve()
        .flag("--grace")
        .flag("300ms")
        .function("f", |f| f.bun().web(SLOW))
        .start();
    let mut wire = begin(&house, "forever");
    let children = house.children();
    house.signal(Signal::TERM);
    let heard = wire.hear_the_end();
    assert!(
        heard.is_empty() || heard.contains("ShuttingDown"),
        "{heard}"
    );
    assert_eq!(house.ended().code(), Some(0));
    House::all_gone(&children);
}

#[test]
fn an_idle_server_ends_at_once() {
    let mut house = slow();
    let _idle = house.wire();
    house.signal(Signal::INT);
    assert_eq!(house.ended().code(), Some(0));
}

#[test]
fn dev_ends_with_0_too() {
    let mut house = House::dev()
        .function("f", |f| f.web("export default () => new Response('ok')"))
        .start();
    house.get("/functions/f").ok();
    let children = house.children();
    house.signal(Signal::INT);
    assert_eq!(house.ended().code(), Some(0));
    House::all_gone(&children);
}
