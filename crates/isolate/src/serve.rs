//! The loop of a child: seal, say so, then answer one request after the other.

use std::{
    io,
    os::{fd::FromRawFd, unix::net::UnixStream},
};

use model::HandlerFault;
use serde::Deserialize;

use crate::{
    console,
    engine::Engine,
    seal,
    wire::{Answer, Request, Wire},
};

/// The descriptor of the connection; see docs/protocol.md.
const CONNECTION: i32 = 4;

/// What `BUNGEE_BOOT` says to a blank child.
#[derive(Deserialize)]
struct Birth {
    nonce: String,
    memory_mb: u64,
}

/// Runs until the server closes the connection.
pub fn run() -> io::Result<()> {
    let birth = std::env::var("BUNGEE_BOOT")
        .map_err(|_| io::Error::other("`isolate-worker` is started by the server, not by hand"))?;
    let Birth { nonce, memory_mb } = serde_json::from_str(&birth)?;
    // SAFETY: the server maps descriptor 4 before this process starts; it is taken here, once.
    #[expect(
        unsafe_code,
        reason = "a descriptor that is inherited has no owner to take it from"
    )]
    let stream = unsafe { UnixStream::from_raw_fd(CONNECTION) };
    let mut engine = Engine::new(memory_mb);
    for gap in seal::seal(memory_mb)? {
        console::line(None, "warn", &format!("not sealed by {gap}"));
    }
    console::ready();
    let mut wire = Wire::new(stream);
    let compile = format!("/{nonce}/compile");
    let load = format!("/{nonce}/load");
    while let Some(request) = wire.next()? {
        let answer = answer(&mut engine, &request, &compile, &load)
            .unwrap_or_else(|fault| describe(&fault, &nonce));
        wire.answer(&request, &answer)?;
        engine.refresh();
    }
    Ok(())
}

fn answer(
    engine: &mut Engine,
    request: &Request,
    compile: &str,
    load: &str,
) -> Result<Answer, HandlerFault> {
    let plain = |body| Answer {
        status: 200,
        headers: Vec::new(),
        body,
    };
    if request.target == compile {
        return engine.compile(&request.body).map(plain);
    }
    if request.target == load {
        let boot = request.header("x-bungee-boot").unwrap_or_default();
        return engine.load(boot, &request.body).map(|()| plain(Vec::new()));
    }
    engine.invoke(request)
}

/// A fault on the wire: only this process and the server know the nonce.
fn describe(fault: &HandlerFault, nonce: &str) -> Answer {
    let headers = vec![
        ("x-bungee-fault".into(), nonce.into()),
        ("content-type".into(), "application/json".into()),
    ];
    Answer {
        status: 500,
        headers,
        body: serde_json::to_vec(fault).unwrap_or_default(),
    }
}
