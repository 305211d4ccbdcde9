//! WebSockets that go wrong: each ends as it must, costs its neighbours nothing, and is recorded for what it was.

use rustix::process::Signal;

use crate::{
    process::until,
    serving::House,
    socket::{Ending, Socket},
};

const ROUGH: &str = "
    export default {
      fetch: async (request, server) => request.url.endsWith('/slow') ? await Bun.sleep(60_000) : server.upgrade(request) ? undefined : new Response(String(process.pid)),
      websocket: {
        message(ws, message) {
          if (message === 'throw') throw new RangeError('on purpose');
          if (message === 'reject') return Promise.reject(new RangeError('on purpose'));
          if (message === 'flood') for (let n = 0; n < 400; n++) ws.send(new Uint8Array(65536));
          if (message === 'block') Bun.sleepSync(3000);
          if (message === 'cut') ws.terminate();
          ws.send('heard');
        },
      },
    };";

fn rough(settings: &str) -> House {
    House::serve()
        .flag("--grace")
        .flag("300ms")
        .function("f", |f| f.bun().module(ROUGH).setting(settings))
        .start()
}

fn open(house: &House) -> Socket {
    let mut socket = Socket::open(house, "/functions/f");
    socket.say("hello");
    assert_eq!(socket.words(), "heard");
    socket
}

#[test]
fn a_worker_killed_in_the_middle_breaks_the_socket_off() {
    let house = rough("");
    let socket = open(&house);
    house.bun_workers().iter().for_each(|worker| worker.kill());
    assert_eq!(socket.end(), Ending::Broken);
    let record = house.record("f", |record| record["outcome"] == "WorkerCrashed");
    assert!(
        record["message"].as_str().unwrap().contains("SIGKILL"),
        "{record}"
    );
    open(&house).close();
}

#[test]
fn a_handler_that_throws_closes_with_1011_and_is_recorded() {
    let house = rough("concurrency = 3\nworkers = { max = 1 }");
    let mut neighbour = open(&house);
    for how in ["throw", "reject"] {
        let mut socket = open(&house);
        socket.say(how);
        let ending = socket.end();
        assert!(
            matches!(ending, Ending::Closed(1011, _)),
            "{how}: {ending:?}"
        );
    }
    let record = house.record("f", |record| record["outcome"] == "HandlerError");
    let line = house.logged("f", "RangeError: on purpose");
    assert_eq!(line["level"], "error");
    assert!(record["status"] == 101, "{record}");
    neighbour.say("still here");
    assert_eq!(neighbour.words(), "heard");
}

#[test]
fn a_handler_that_breaks_off_is_a_failure() {
    let house = rough("");
    let mut socket = open(&house);
    socket.say("cut");
    assert_eq!(socket.end(), Ending::Broken);
    house.record("f", |record| record["outcome"] == "HandlerError");
}

#[test]
fn sockets_close_with_1001_when_the_server_goes_down() {
    let mut house = rough("concurrency = 3");
    let (first, second) = (open(&house), open(&house));
    let children = house.children();
    house.signal(Signal::TERM);
    for socket in [first, second] {
        let Ending::Closed(code, reason) = socket.end() else {
            panic!("no close");
        };
        assert_eq!(code, 1001);
        assert!(reason.contains("server"), "{reason}");
    }
    assert_eq!(house.ended().code(), Some(0));
    House::all_gone(&children);
    house.restart();
    house.record("f", |record| record["outcome"] == "ShuttingDown");
}

#[test]
fn who_never_reads_holds_up_nobody() {
    let house = rough("concurrency = 8\nworkers = { max = 1 }");
    let mut deaf: Vec<Socket> = (0..4).map(|_| open(&house)).collect();
    deaf.iter_mut().for_each(|socket| socket.say("flood"));
    let mut neighbour = open(&house);
    for _ in 0..50 {
        neighbour.say("hello");
        assert_eq!(neighbour.words(), "heard");
    }
    assert!(house.memory_mib() < 150, "{}", house.memory_mib());
    let mut shutting = house;
    shutting.signal(Signal::TERM);
    assert_eq!(shutting.ended().code(), Some(0));
}

#[test]
fn who_never_reads_is_cut_off_after_a_while() {
    let house = House::serve()
        .flag("--limit")
        .flag("body_idle=1s")
        .function("f", |f| f.bun().module(ROUGH))
        .start();
    let mut deaf = open(&house);
    deaf.say("flood");
    house.record("f", |record| record["outcome"] == "Cancelled");
    drop(deaf);
}

#[test]
fn a_socket_without_a_byte_is_closed_and_its_slot_freed() {
    let house = House::serve()
        .flag("--limit")
        .flag("stream_idle=500ms")
        .function("f", |f| {
            f.bun().module(ROUGH).setting("workers = { max = 1 }")
        })
        .start();
    let silent = open(&house);
    let Ending::Closed(code, reason) = silent.end() else {
        panic!("no close");
    };
    assert_eq!(code, 1001);
    assert!(reason.contains("stream_idle"), "{reason}");
    house.record("f", |record| record["outcome"] == "FunctionTimeout");
    open(&house).close();
}

#[test]
fn who_floods_is_held_back() {
    let house = rough("workers = { max = 2 }");
    let before = house.memory_mib();
    let mut socket = open(&house);
    socket.say("block");
    let sent = socket.flood(1 << 16, 256 << 20);
    assert!(
        sent < 64 << 20,
        "the server took {sent} bytes that nobody reads"
    );
    assert!(
        house.memory_mib() < before + 20,
        "{} {before}",
        house.memory_mib()
    );
    open(&house).close();
    drop(socket);
    until("both workers are free", || {
        house.cli(&["info", "f", "--json"]).ok().json()["lifecycle"] == "IDLE"
    });
}

#[test]
fn an_open_socket_does_not_keep_the_place_of_a_worker_that_retires() {
    let house = rough("concurrency = 3\nworkers = { max = 1 }\ntimeout = '1s'");
    let mut socket = open(&house);
    house.get("/functions/f/slow").fails(504, "FunctionTimeout");
    socket.say("hello");
    assert_eq!(
        socket.words(),
        "heard",
        "its neighbour's deadline is not its own"
    );
    // The worker takes nobody any more; the socket has one more second, then another worker comes.
    house.get("/functions/f").ok();
    assert_eq!(socket.end(), Ending::Broken);
}
