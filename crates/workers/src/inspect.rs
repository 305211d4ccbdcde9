//! Debuggers: one port for each function, behind which is the inspector of the worker that the function has right now.
//! The port stays while workers come and go, and it is how we know whether a debugger is attached: its connection passes here.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, TcpListener as StdTcpListener},
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex, MutexGuard, Weak, atomic::Ordering::SeqCst},
    time::Duration,
};

use model::{FunctionId, Runtime, TimeSpan};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream, UnixStream},
};

use crate::{house::House, version::Version, worker::Worker};

/// Largest head of a debugger's request.
const HEAD_MAX: usize = 16 << 10;

/// A debugger waits this long for a worker whose inspector answers.
const WORKER_WAIT: Duration = Duration::from_secs(10);

/// An inspector that has not answered by then is asked anew: Bun's has left a handshake unanswered while it was starting.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// Between looks for one.
const LOOK: Duration = Duration::from_millis(20);

/// Ports that are tried before giving up.
const PORTS_TRIED: u16 = 200;

/// Which ports to use.
#[derive(Debug, Clone)]
pub struct Inspect {
    /// The first port; each further function gets one of the next. 0 takes any.
    pub port: u16,
    /// Whether the first port must be this one, or may be the next free one.
    pub is_explicit: bool,
    /// The functions that get the first ports, in this order.
    pub functions: Vec<FunctionId>,
}

/// The ports of all functions. Clones share them.
#[derive(Clone)]
pub struct Debuggers(Arc<Mutex<Ports>>);

struct Ports {
    by_function: BTreeMap<FunctionId, Arc<Port>>,
    /// The port to try next.
    next: u16,
}

/// The port of one function.
struct Port {
    wanted: u16,
    port: u16,
    /// Taken by the task that accepts.
    listener: Mutex<Option<StdTcpListener>>,
    workers: Mutex<Latest>,
}

/// The workers of a function that debuggers may reach.
#[derive(Default)]
struct Latest {
    /// The one started last; it can be debugged while it loads.
    started: Weak<Worker>,
    /// The one that became ready last. It still serves where the other did not load.
    ready: Weak<Worker>,
}

/// Where the inspector of a worker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inspector {
    /// Bun's: a socket in the file system.
    Socket(PathBuf),
    /// Node's: `127.0.0.1:PORT`, and a path that nobody can guess.
    Tcp(String, String),
}

impl Inspector {
    /// What Node says of its inspector: `ws://127.0.0.1:PORT/ID`.
    pub fn of_url(url: &str) -> Option<Inspector> {
        let (address, id) = url.strip_prefix("ws://")?.split_once('/')?;
        Some(Inspector::Tcp(address.into(), format!("/{id}")))
    }

    /// Sends it a request; its connection, and the answer up to at least the end of its head.
    async fn ask(&self, request: &Request<'_>) -> io::Result<(Box<dyn Stream>, Vec<u8>)> {
        let (mut upstream, path): (Box<dyn Stream>, &str) = match self {
            Inspector::Socket(socket) => (Box::new(UnixStream::connect(socket).await?), "/"),
            Inspector::Tcp(address, path) => (Box::new(TcpStream::connect(address).await?), path),
        };
        let asked = match request.is_list {
            true => request.listing(),
            false => request.asking(path),
        };
        upstream.write_all(&asked).await?;
        let answer = read_head(&mut upstream).await?;
        Ok((upstream, answer))
    }
}

/// Where the debugger of a function attaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debugger {
    /// `ws://127.0.0.1:PORT/FUNCTION`
    pub url: String,
    /// The port it has.
    pub port: u16,
    /// The port it should have had; another one if that was taken.
    pub wanted: u16,
}

/// Whether workers of this runtime can be debugged.
pub const fn is_debuggable(runtime: Runtime) -> bool {
    match runtime {
        Runtime::Bun | Runtime::Node => true,
        Runtime::Isolate | Runtime::Python | Runtime::Provided => false,
    }
}

impl Debuggers {
    /// Opens the ports of the functions that are known by now. An explicit port that is taken is an error.
    pub fn open(inspect: &Inspect) -> io::Result<Debuggers> {
        let ports = Ports {
            by_function: BTreeMap::new(),
            next: inspect.port,
        };
        let debuggers = Debuggers(Arc::new(Mutex::new(ports)));
        for (index, function) in inspect.functions.iter().enumerate() {
            let tries = if index == 0 && inspect.is_explicit {
                1
            } else {
                PORTS_TRIED
            };
            debuggers.lock().open(function, tries)?;
        }
        Ok(debuggers)
    }

    /// Where the debugger of a function attaches, if it has a port.
    pub fn of(&self, function: &FunctionId) -> Option<Debugger> {
        let port = self.lock().by_function.get(function)?.clone();
        Some(Debugger {
            url: format!(
                "ws://{}:{}/{}",
                Ipv4Addr::LOCALHOST,
                port.port,
                function.name
            ),
            port: port.port,
            wanted: port.wanted,
        })
    }

    /// The version as it runs while it can be debugged: in one worker that is there from the start and stays, so that
    /// breakpoints are hit. Others stay as they are.
    pub(crate) fn adopt(&self, house: &Arc<House>, version: Arc<Version>) -> Arc<Version> {
        if !is_debuggable(version.settings.runtime) {
            return version;
        }
        let port = match self.lock().open(&version.function, PORTS_TRIED) {
            Ok(port) => port,
            Err(error) => {
                tracing::warn!(function = %version.function, %error, "no port for its debugger");
                return version;
            }
        };
        let listener = lock(&port.listener).take();
        if let Some(listener) = listener {
            house.tasks.spawn(accept(house.clone(), port, listener));
        }
        let mut version = (*version).clone();
        version.settings.workers_min = 1;
        version.settings.workers_max = 1;
        version.settings.workers_idle = TimeSpan(u64::from(u32::MAX));
        Arc::new(version)
    }

    /// Debuggers of its function reach this worker from now on, which is about to load, unless it ends.
    pub(crate) fn follow(&self, function: &FunctionId, worker: &Arc<Worker>) {
        if let Some(port) = self.lock().by_function.get(function) {
            lock(&port.workers).started = Arc::downgrade(worker);
        }
    }

    /// This worker has loaded: debuggers come back to it where a later one does not.
    pub(crate) fn is_ready(&self, function: &FunctionId, worker: &Arc<Worker>) {
        if let Some(port) = self.lock().by_function.get(function) {
            lock(&port.workers).ready = Arc::downgrade(worker);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ports> {
        lock(&self.0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Ports {
    /// The port of a function, opened now if it has none.
    fn open(&mut self, function: &FunctionId, tries: u16) -> io::Result<Arc<Port>> {
        if let Some(port) = self.by_function.get(function) {
            return Ok(port.clone());
        }
        let wanted = self.next;
        let mut bound = Err(io::ErrorKind::AddrInUse.into());
        for step in 0..tries {
            bound = StdTcpListener::bind((Ipv4Addr::LOCALHOST, wanted.saturating_add(step)));
            if !matches!(&bound, Err(error) if error.kind() == io::ErrorKind::AddrInUse) {
                break;
            }
        }
        let listener = bound?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        if wanted != 0 {
            self.next = port.saturating_add(1);
        }
        let opened = Arc::new(Port {
            wanted: if wanted == 0 { port } else { wanted },
            port,
            listener: Mutex::new(Some(listener)),
            workers: Mutex::default(),
        });
        self.by_function.insert(function.clone(), opened.clone());
        Ok(opened)
    }
}

/// The command of a worker with its inspector on, and where that will be if it is known before it starts.
pub fn with_inspector(
    house: &House,
    runtime: Runtime,
    command: &Command,
) -> (Command, Option<Inspector>) {
    let mut inspected = Command::new(command.get_program());
    let inspector = if runtime == Runtime::Bun {
        let socket = house.options.run_dir.join(format!("i{}", house.ordinal()));
        inspected.arg(format!("--inspect=ws+unix://{}", socket.display()));
        Some(Inspector::Socket(socket))
    } else {
        // Its bootstrap tells where it is; it need not be said in the log too.
        inspected.args(["--inspect=127.0.0.1:0", "--inspect-publish-uid=http"]);
        None
    };
    inspected.args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        inspected.current_dir(folder);
    }
    let environment = command.get_envs();
    inspected.envs(environment.filter_map(|(name, value)| Some((name, value?))));
    (inspected, inspector)
}

/// Lets debuggers in until the house stops.
async fn accept(house: Arc<House>, port: Arc<Port>, listener: StdTcpListener) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = house.stopping.cancelled() => return,
        };
        let Ok((client, _)) = accepted else {
            tokio::time::sleep(LOOK).await;
            continue;
        };
        let (port, stopping) = (port.clone(), house.stopping.clone());
        house.tasks.spawn(async move {
            // A debugger that breaks off is its own affair.
            stopping.run_until_cancelled(pass(&port, client)).await;
        });
    }
}

/// Passes one connection on to the inspector of the function's worker.
async fn pass(port: &Port, mut client: TcpStream) -> io::Result<()> {
    let head = read_head(&mut client).await?;
    let request = match Request::read(&head) {
        Ok(request) => request,
        Err(refusal) => return refuse(&mut client, refusal).await,
    };
    let reached = tokio::time::timeout(WORKER_WAIT, port.reach(&request)).await;
    let Ok((worker, mut upstream, answer)) = reached else {
        let refusal =
            "503 Service Unavailable\r\n\r\nthe function has no worker; does its module load?\n";
        return refuse(&mut client, refusal).await;
    };
    // Lists are asked for by whoever looks around; only a WebSocket is a debugger.
    if request.is_list {
        return pass_list(&mut client, &answer, upstream).await;
    }
    let _attached = Attached::to(&worker);
    client.write_all(&answer).await?;
    copy_bidirectional(&mut client, &mut upstream).await?;
    Ok(())
}

/// Passes one answer on and no more: a second request on the same connection would reach the inspector unread.
async fn pass_list(
    client: &mut TcpStream,
    answer: &[u8],
    upstream: Box<dyn Stream>,
) -> io::Result<()> {
    let (head, body) = answer.split_at(head_end(answer).unwrap_or(answer.len()));
    let head = std::str::from_utf8(head).map_err(|_| io::ErrorKind::InvalidData)?;
    let length = headers(head).find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    // Without a length the answer ends with the connection.
    let length = length.map_or(Ok(u64::MAX), |(_, value)| value.parse());
    let length = length.map_err(|_| io::ErrorKind::InvalidData)?;
    client.write_all(closing(head).as_bytes()).await?;
    let mut body = body.chain(upstream).take(length);
    tokio::io::copy(&mut body, client).await?;
    client.shutdown().await
}

async fn refuse(client: &mut TcpStream, refusal: &str) -> io::Result<()> {
    let (status, text) = refusal.split_once("\r\n\r\n").unwrap_or((refusal, ""));
    let head = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    );
    client.write_all(head.as_bytes()).await
}

/// Bytes both ways.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Counts a debugger for as long as its connection lasts.
struct Attached(Arc<Worker>);

impl Attached {
    fn to(worker: &Arc<Worker>) -> Attached {
        worker.debuggers.fetch_add(1, SeqCst);
        Attached(worker.clone())
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.0.debuggers.fetch_sub(1, SeqCst);
    }
}

impl Port {
    /// The function's worker, the way to its inspector, and the beginning of what that answered; looks until one answers,
    /// because a worker that is ending, or only starting, does not.
    async fn reach(&self, request: &Request<'_>) -> (Arc<Worker>, Box<dyn Stream>, Vec<u8>) {
        loop {
            let worker = lock(&self.workers).alive();
            if let Some(worker) = worker
                && let Some(inspector) = worker.inspector.get()
            {
                let asked = tokio::time::timeout(ANSWER_WAIT, inspector.ask(request));
                if let Ok(Ok((upstream, answer))) = asked.await {
                    return (worker, upstream, answer);
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Latest {
    fn alive(&self) -> Option<Arc<Worker>> {
        let mut workers = [&self.started, &self.ready].into_iter();
        workers.find_map(|worker| {
            let worker = worker.upgrade()?;
            (worker.exit.get().is_none() && worker.cause.get().is_none()).then_some(worker)
        })
    }
}

/// Reads up to the end of a message's head; what follows belongs to the connection.
async fn read_head(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while head_end(&head).is_none() {
        if head.len() > HEAD_MAX || from.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(head)
}

/// Where a head ends, its empty line included.
fn head_end(bytes: &[u8]) -> Option<usize> {
    let at = bytes.windows(4).position(|end| end == b"\r\n\r\n")?;
    Some(at + 4)
}

/// Names and values in a head.
fn headers(head: &str) -> impl Iterator<Item = (&str, &str)> {
    let fields = head.split("\r\n").skip(1);
    let fields = fields.filter_map(|field| field.split_once(':'));
    fields.map(|(name, value)| (name.trim(), value.trim()))
}

/// The same head, of a message after which the connection closes.
fn closing(head: &str) -> String {
    let mut closing = head.split("\r\n").next().unwrap_or_default().to_owned();
    for (name, value) in headers(head) {
        if !["connection", "keep-alive"].contains(&name.to_ascii_lowercase().as_str()) {
            closing.push_str(&format!("\r\n{name}: {value}"));
        }
    }
    closing + "\r\nConnection: close\r\n\r\n"
}

/// A debugger's request.
struct Request<'h> {
    method: &'h [u8],
    /// The rest, from the space behind the path on.
    rest: &'h [u8],
    head: &'h str,
    /// Whether it asks for Node's list of what can be debugged.
    is_list: bool,
}

impl<'h> Request<'h> {
    /// Reads a head. A web page is refused: the path is known, so any page could attach and run what it likes.
    fn read(bytes: &'h [u8]) -> Result<Request<'h>, &'static str> {
        let bad = "400 Bad Request\r\n\r\nthis is no request of a debugger\n";
        let end = head_end(bytes).ok_or(bad)?;
        let head = std::str::from_utf8(&bytes[..end]).map_err(|_| bad)?;
        let mut parts = head.splitn(3, ' ');
        let (Some(method), Some(path), Some(_)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad);
        };
        if is_of_a_page(head) {
            return Err("403 Forbidden\r\n\r\nweb pages may not debug functions\n");
        }
        let is_websocket = headers(head).any(|(name, value)| {
            name.eq_ignore_ascii_case("upgrade") && value.eq_ignore_ascii_case("websocket")
        });
        let is_list = !is_websocket && method == "GET" && path.starts_with("/json");
        if !is_websocket && !is_list {
            return Err(bad);
        }
        Ok(Request {
            method: method.as_bytes(),
            rest: &bytes[method.len() + path.len() + 1..],
            head,
            is_list,
        })
    }

    /// The same request, for this path of the inspector.
    fn asking(&self, path: &str) -> Vec<u8> {
        [self.method, b" ", path.as_bytes(), self.rest].concat()
    }

    /// The same request, as the only one of its connection.
    fn listing(&self) -> Vec<u8> {
        closing(self.head).into_bytes()
    }
}

/// Whether a browser sent this for a web page. Its own tools have an origin of theirs, and what is typed into it none.
fn is_of_a_page(head: &str) -> bool {
    let value = |wanted: &str| {
        let mut found = headers(head).filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.next().map(|(_, value)| value)
    };
    match (value("origin"), value("sec-fetch-site")) {
        (Some(origin), _) => !origin.starts_with("devtools://"),
        (None, Some(site)) => !site.eq_ignore_ascii_case("none"),
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debugger_s_request_goes_to_the_inspector_s_own_path() {
        let head = b"GET /json-of HTTP/1.1\r\nUpgrade: websocket\r\n\r\n";
        let request = Request::read(head).ok().unwrap();
        assert!(!request.is_list);
        let asked = request.asking("/id");
        assert_eq!(asked, b"GET /id HTTP/1.1\r\nUpgrade: websocket\r\n\r\n");
    }

    #[test]
    fn a_list_is_the_only_request_of_its_connection() {
        let head =
            b"GET /json/list HTTP/1.1\r\nconnection: keep-alive\r\nHost: a:1\r\n\r\nGET /x HTTP/1.1";
        let request = Request::read(head).ok().unwrap();
        assert!(request.is_list);
        assert_eq!(
            request.listing(),
            b"GET /json/list HTTP/1.1\r\nHost: a:1\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn only_a_websocket_is_a_debugger() {
        for head in [
            "GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /x HTTP/1.1\r\nHost: a\r\n\r\nUpgrade: websocket\r\n",
            "POST /json HTTP/1.1\r\n\r\n",
        ] {
            let refusal = Request::read(head.as_bytes()).err().unwrap();
            assert!(refusal.starts_with("400 "), "{head}");
        }
    }

    #[test]
    fn a_web_page_is_refused() {
        let is_let_in = |fields: &str| {
            let head = format!("GET / HTTP/1.1\r\nUpgrade: websocket\r\n{fields}\r\n\r\n");
            Request::read(head.as_bytes()).is_ok()
        };
        assert!(!is_let_in("Origin: http://evil.test"));
        assert!(!is_let_in("Origin: null"));
        assert!(!is_let_in("Sec-Fetch-Site: cross-site"));
        assert!(!is_let_in("sec-fetch-site: same-origin"));
        assert!(is_let_in("Sec-Fetch-Site: none"));
        assert!(is_let_in(
            "Origin: devtools://devtools\r\nSec-Fetch-Site: cross-site"
        ));
    }

    #[test]
    fn the_place_of_an_inspector_is_read_from_its_url() {
        assert_eq!(
            Inspector::of_url("ws://127.0.0.1:5/a-b"),
            Some(Inspector::Tcp("127.0.0.1:5".into(), "/a-b".into()))
        );
        assert_eq!(Inspector::of_url("http://x"), None);
    }
}
