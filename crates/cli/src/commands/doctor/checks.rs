//! The checks of `doctor`, one after the other. None of them changes anything that stays.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};

use laptop::api::{Address, ApiError, ServerInfo};
use tempfile::NamedTempFile;
use tokio::time::{sleep, timeout};

use super::Finding;
use crate::{
    commands::Door,
    connection,
    exit::{Complaint, chain},
    system,
};

/// A server that does not answer within this is told as one that does not.
const ANSWER: Duration = Duration::from_secs(5);

/// The engine compiles its probe in milliseconds; a slow machine gets this long.
const ENGINE: Duration = Duration::from_secs(15);

/// Between two looks at whether the engine is ready.
const LOOK: Duration = Duration::from_millis(10);

/// Our own release.
const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) fn binary() -> Finding {
    let program = std::env::current_exe();
    let place = program.map_or_else(|_| "?".into(), |path| path.display().to_string());
    Finding::ok("bungee", format!("{VERSION}, {place}"))
}

/// Whether a server answers, and takes our token; and whether it is the one at `listen`.
pub(super) async fn server(door: &Door, listen: SocketAddr) -> (Vec<Finding>, bool) {
    let address = match connection::address(&door.global) {
        Ok(address) => address,
        Err(_) => return (Vec::new(), false),
    };
    let is_here = matches!(&address, Address::Url(url)
        if url.socket_addrs(|| None).is_ok_and(|addresses| addresses.contains(&listen)));
    let client = match connection::connect(&door.global) {
        Ok(client) => client,
        Err(_) => return (Vec::new(), false),
    };
    match timeout(ANSWER, client.server()).await {
        Ok(Ok(info)) => {
            let mut findings = vec![Finding::ok(
                "server",
                format!("{address} runs {}", info.version),
            )];
            if info.version != VERSION {
                let says = format!("{address} runs {}, this program is {VERSION}", info.version);
                findings[0] = Finding::warn("server", says, "bring both to the same release");
            }
            findings.push(token(info.open, door, &address));
            findings.push(live(&info));
            (findings, is_here)
        }
        Ok(Err(error)) => (vec![refusal(&address, error)], is_here),
        Err(_) => {
            let says = format!("{address} did not answer within {ANSWER:?}");
            (
                vec![Finding::warn("server", says, "look at its log")],
                false,
            )
        }
    }
}

fn token(is_open: bool, door: &Door, address: &Address) -> Finding {
    let has_token = door.global.token.is_some() || connection::kept_token(address).is_some();
    match (is_open, has_token) {
        (true, _) => Finding::ok("token", "not needed: the server is open to local programs"),
        (false, true) => Finding::ok("token", "the server takes it"),
        (false, false) => Finding::ok("token", "not needed here"),
    }
}

/// Who may run the server's invocations on a laptop, and whether we may.
fn live(info: &ServerInfo) -> Finding {
    if !info.live {
        return Finding::ok("live", "off: no laptop can attach");
    }
    if info.open {
        return Finding::ok("live", "on, for programs of its own machine");
    }
    let others =
        "on: whoever holds a token with the role `live` or `admin` can run invocations on a laptop";
    let (says, hint) = match info.role.as_deref() {
        Some("live" | "admin") | None => (
            others.to_owned(),
            "`serve --no-live` switches it off, `live = \"off\"` does for one function",
        ),
        Some(role) => (
            format!("{others}; this token's role is `{role}`, which attaches none"),
            "`bungee token create --role live` makes one; `serve --no-live` switches it off",
        ),
    };
    Finding {
        hint: Some(hint.into()),
        ..Finding::ok("live", says)
    }
}

/// A server that does not let us in, or none.
fn refusal(address: &Address, error: ApiError) -> Finding {
    match &error {
        ApiError::Answered { status: 401, error } => {
            let says = format!("{address}: {}", error.message);
            Finding::fail(
                "token",
                says,
                format!("`bungee login {address}` keeps one; `bungee token create` makes one"),
            )
        }
        ApiError::Answered { error, .. } => {
            let says = format!("{address}: {}: {}", error.error_type, error.message);
            Finding::fail("server", says, "the server is there and refuses")
        }
        ApiError::Unreachable { .. }
        | ApiError::Silent { .. }
        | ApiError::NoSocket { .. }
        | ApiError::Setup { .. }
        | ApiError::Broken { .. }
        | ApiError::Unreadable { .. } => {
            let complaint = Complaint::from(error);
            let hint = complaint
                .hint
                .unwrap_or_else(|| "name another one with `--server`".into());
            Finding::warn("server", complaint.message, hint)
        }
    }
}

/// Whether a server could listen there.
pub(super) fn port(listen: SocketAddr, is_server_there: bool) -> Finding {
    match TcpListener::bind(listen) {
        Ok(_) => Finding::ok("port", format!("{listen} is free")),
        Err(_) if is_server_there => Finding::ok("port", format!("{listen} is the server's")),
        Err(error) => Finding::warn(
            "port",
            format!("{listen} cannot be had: {error}"),
            "`bungee serve --listen ADDR` takes another one; `dev` takes the next free one",
        ),
    }
}

/// Whether files can be made in the data folder, or in the nearest folder above it that is there.
pub(super) fn data_folder(dir: &Path) -> Finding {
    let mut place = dir;
    while !place.exists() {
        match place.parent() {
            Some(parent) if parent != Path::new("") => place = parent,
            Some(_) | None => break,
        }
    }
    let shown = dir.display();
    match NamedTempFile::new_in(place) {
        Ok(_) if place == dir => Finding::ok("data folder", format!("{shown} can be written")),
        Ok(_) => Finding::ok("data folder", format!("{shown} can be made")),
        Err(error) => Finding::fail(
            "data folder",
            format!("{shown}: {}", reason(&error)),
            "name another one with `--data-dir DIR`, or give this user the folder",
        ),
    }
}

/// The system's own words, without the name of the file that was tried.
fn reason(error: &io::Error) -> String {
    io::Error::from(error.kind()).to_string()
}

/// Programs that run functions, and how each is had.
pub(super) fn runtimes() -> Vec<Finding> {
    let look = |runtime: &'static str, program: &str, hint: &'static str| {
        let Some(found) = server::find_program(program, &system::path()) else {
            let says = format!(
                "no `{program}` on PATH: functions with `runtime = \"{runtime}\"` do not run"
            );
            return Finding::warn(runtime, says, hint);
        };
        let shown = found.display().to_string();
        match server::machine::version_of(&found) {
            Ok(version) => Finding::ok(runtime, format!("{version}, {shown}")),
            Err(error) => Finding::fail(runtime, format!("{shown}: {error}"), hint),
        }
    };
    vec![
        look("bun", "bun", "install it: npm install -g bun"),
        look(
            "node",
            "node",
            "install it from your system's packages, or from nodejs.org",
        ),
        look(
            "python",
            "python3",
            "install it: apt-get install -y python3 python3-pip",
        ),
    ]
}

/// Whether the isolate engine answers and the store takes a write: a server of our own, which listens nowhere.
pub(super) async fn engine(program: &Path) -> Finding {
    let hint = "run it again with `--log-level debug`, which shows the cause";
    let failed = |says: String| Finding::fail("isolate", says, hint);
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(error) => return failed(format!("no temporary folder can be made: {error}")),
    };
    let mut options = server::Options::new(folder.path().to_owned(), program.to_owned());
    options.listen.clear();
    let server = match server::start(options).await {
        Ok(server) => server,
        Err(error) => return failed(chain(&error)),
    };
    let ready = timeout(ENGINE, async {
        while !server.is_ready() {
            sleep(LOOK).await;
        }
    });
    let is_ready = ready.await.is_ok();
    server.stop().await;
    if is_ready {
        Finding::ok("isolate", "the engine answers, sealed")
    } else {
        failed(format!("the engine did not answer within {ENGINE:?}"))
    }
}

/// The layers that untrusted code is sealed in.
pub(super) fn seal(program: &Path) -> Vec<Finding> {
    const LAYERS: [(&str, &str, &str); 3] = [
        (
            "namespaces",
            "network namespace",
            "let users make namespaces: sysctl user.max_user_namespaces, or run the container with fewer restrictions",
        ),
        (
            "landlock",
            "landlock",
            "use Linux 5.13 or newer, with Landlock enabled",
        ),
        (
            "limits",
            "limits",
            "let the process set its own limits: ulimit",
        ),
    ];
    let gaps = match server::machine::seal_gaps(program) {
        Ok(gaps) => gaps,
        Err(error) => {
            let hint = "functions in `isolate` do not run; let the process set a seccomp filter";
            return vec![Finding::fail("seccomp", error.to_string(), hint)];
        }
    };
    let layer = |(check, name, hint): (&'static str, &str, &str)| match gaps
        .iter()
        .find(|gap| gap.starts_with(name))
    {
        None => Finding::ok(check, "works"),
        Some(gap) => Finding::warn(check, format!("{gap}; the other layers hold"), hint),
    };
    let filter = Finding::ok("seccomp", "works");
    [filter].into_iter().chain(LAYERS.map(layer)).collect()
}

/// Whether memory has a second guard.
pub(super) fn groups() -> Finding {
    if server::machine::has_groups() {
        return Finding::ok("cgroup", "each worker gets one of its own");
    }
    let says = if fs::exists("/sys/fs/cgroup").unwrap_or(false) {
        "workers get none of their own; memory is watched without"
    } else {
        "this system has none; memory is watched without"
    };
    Finding::warn(
        "cgroup",
        says,
        "run the server with a delegated control group, such as systemd's `Delegate=yes`",
    )
}
