//! Where clients come in: TCP addresses and the Unix socket, and the loops that take their connections.

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use model::Limits;
use rustix::net::RecvFlags;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest},
    net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::Peer,
    door::{self, Line, Lines},
    options::StartError,
    reply::ReplyBody,
};

/// Connections that wait for us to take them; the system may hold fewer.
const BACKLOG: u32 = 4096;

/// How many ports are tried when the first is taken.
const PORTS_TRIED: u16 = 100;

/// After an accept that failed, for want of file descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Whether other machines reach an address.
pub(crate) fn is_wide(addr: &SocketAddr) -> bool {
    !addr.ip().to_canonical().is_loopback()
}

/// Room for as many connections as the limit says.
pub(crate) fn places(limits: &Limits) -> Arc<Semaphore> {
    let most = usize::try_from(limits.connections).unwrap_or(Semaphore::MAX_PERMITS);
    Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)))
}

/// Listens on every address; and the addresses with the ports that were found.
pub(crate) fn bind_all(
    listen: &[SocketAddr],
    next_free_port: bool,
) -> Result<(Vec<TcpListener>, Vec<SocketAddr>), StartError> {
    let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
    for addr in listen {
        let listener = bind_tcp(*addr, next_free_port)?;
        let bound = listener.local_addr();
        addresses.push(bound.map_err(|error| StartError::Listen { addr: *addr, error })?);
        listeners.push(listener);
    }
    Ok((listeners, addresses))
}

/// Listens on an address, or on the next free port.
fn bind_tcp(addr: SocketAddr, next_free_port: bool) -> Result<TcpListener, StartError> {
    let mut tried = addr;
    for _ in 0..PORTS_TRIED {
        match listen(tried) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let next = tried.port().checked_add(1).filter(|_| next_free_port);
                let Some(next) = next else {
                    break;
                };
                tried.set_port(next);
            }
            Err(error) => return Err(StartError::Listen { addr: tried, error }),
        }
    }
    Err(StartError::PortTaken { addr })
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // The same port at once after a restart, though old connections linger in the system.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// A Unix socket file that is ours, removed when it is dropped.
pub(crate) struct SocketFile(PathBuf);

impl SocketFile {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Takes the file away before the drop.
    pub(crate) fn remove(&self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Listens on a Unix socket that only our user may open. A stale file is replaced; one that answers is not.
pub(crate) async fn bind_unix(path: PathBuf) -> Result<(UnixListener, SocketFile), StartError> {
    let failed = |error| StartError::Socket {
        path: path.clone(),
        error,
    };
    match std::fs::symlink_metadata(&path) {
        Ok(data) if !data.file_type().is_socket() => {
            return Err(failed(io::Error::other(
                "something that is no socket lies there",
            )));
        }
        Ok(_) if connects(&path).await => return Err(StartError::SocketTaken { path }),
        Ok(_) | Err(_) => {}
    }
    let listener = bind_private(&path).map_err(failed)?;
    Ok((listener, SocketFile(path)))
}

async fn connects(path: &Path) -> bool {
    match Short::of(path) {
        Ok(short) => UnixStream::connect(&short.path).await.is_ok(),
        Err(_) => false,
    }
}

/// Binds beside the path, closes the file to others, and only then moves it there.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(Short::of(&beside)?.path)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&beside, path)?;
    Ok(listener)
}

/// A name for a socket that fits into the 107 bytes that the system gives it, however deep its folder lies.
struct Short {
    path: PathBuf,
    /// Keeps the name valid.
    _folder: std::fs::File,
}

impl Short {
    fn of(path: &Path) -> io::Result<Short> {
        use std::os::fd::AsRawFd;
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let folder = std::fs::File::open(parent)?;
        let path = Path::new("/proc/self/fd")
            .join(folder.as_raw_fd().to_string())
            .join(name);
        Ok(Short {
            path,
            _folder: folder,
        })
    }
}

/// Who answers what comes in on one connection.
pub(crate) trait Answers: Send + Sync + 'static {
    /// Answers one request.
    fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<ReplyBody>> + Send;
}

/// What the loops that take connections share. `greet` says who answers a caller on a connection.
#[derive(Clone)]
pub(crate) struct Entrance<F> {
    pub greet: F,
    /// All connections.
    pub lines: Arc<Lines>,
    /// How long they may be silent.
    pub limits: Arc<Limits>,
    /// The connections' tasks.
    pub connections: TaskTracker,
    /// Cancelled when no more connections are taken.
    pub closing: CancellationToken,
}

impl<F, A> Entrance<F>
where
    F: Fn(Peer, Arc<Line>) -> A + Clone + Send + Sync + 'static,
    A: Answers,
{
    /// Takes TCP connections until the entrance closes. Two listeners share `places`.
    pub(crate) async fn take_tcp(self, listener: TcpListener, places: Arc<Semaphore>) {
        while let Some((stream, place)) = self
            .next(&places, |context| listener.poll_accept(context))
            .await
        {
            let (stream, address): (TcpStream, SocketAddr) = stream;
            // Answers leave at once; a stream that is gone already will say so itself.
            let _ = stream.set_nodelay(true);
            self.serve(stream, Peer::Tcp(address.ip().to_canonical()), place);
        }
    }

    /// Takes connections on the Unix socket until the entrance closes; `frames` serves those that speak frames. They have
    /// places of their own: its owner gets in even when TCP is full.
    pub(crate) async fn take_unix<W>(
        self,
        listener: UnixListener,
        frames: impl Fn(UnixStream, Peer) -> W + Clone + Send + 'static,
    ) where
        W: Future<Output = ()> + Send + 'static,
    {
        let places = places(&self.limits);
        while let Some((stream, place)) = self
            .next(&places, |context| listener.poll_accept(context))
            .await
        {
            let (stream, _): (UnixStream, _) = stream;
            let peer = peer_of(&stream);
            let (entrance, frames) = (self.clone(), frames.clone());
            self.connections.spawn(async move {
                match entrance.first_word(&stream).await {
                    Some(Spoken::Frames) => frames(stream, peer).await,
                    Some(Spoken::Http) => entrance.converse(stream, peer).await,
                    None => {}
                }
                drop(place);
            });
        }
    }

    /// Takes TCP connections that speak frames until the entrance closes.
    pub(crate) async fn take_frames<W>(
        self,
        listener: TcpListener,
        places: Arc<Semaphore>,
        frames: impl Fn(TcpStream, Peer) -> W + Send + 'static,
    ) where
        W: Future<Output = ()> + Send + 'static,
    {
        while let Some((stream, place)) = self
            .next(&places, |context| listener.poll_accept(context))
            .await
        {
            let (stream, address): (TcpStream, SocketAddr) = stream;
            // A stream that is gone already will say so itself. Connections stay for as long as their clients do, so the
            // system looks whether these are still there.
            let _ = stream.set_nodelay(true);
            let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
            let served = frames(stream, Peer::Tcp(address.ip().to_canonical()));
            self.connections.spawn(async move {
                served.await;
                drop(place);
            });
        }
    }

    /// Which language a connection speaks; its bytes stay where they are. `None` if it ends, or falls silent, before that
    /// is known. Before its first byte it may wait: a client may connect long before it has something to ask.
    async fn first_word(&self, stream: &UnixStream) -> Option<Spoken> {
        let looked = async {
            // Woken is not yet spoken to: only a byte that is there tells.
            peek(stream, &mut [0; 1]).await?;
            timeout(self.limits.header_read.duration(), first_word(stream)).await?
        };
        self.closing.run_until_cancelled(looked).await?.ok()
    }

    /// The next connection, taken only once there is a place for it; `None` once the entrance closes.
    async fn next<T>(
        &self,
        places: &Arc<Semaphore>,
        mut poll_accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Option<(T, OwnedSemaphorePermit)> {
        loop {
            let place = self
                .closing
                .run_until_cancelled(places.clone().acquire_owned())
                .await?
                .ok()?;
            match self
                .closing
                .run_until_cancelled(poll_fn(&mut poll_accept))
                .await?
            {
                Ok(stream) => return Some((stream, place)),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    self.closing
                        .run_until_cancelled(sleep(ACCEPT_PAUSE))
                        .await?;
                }
            }
        }
    }

    fn serve<S>(&self, stream: S, peer: Peer, place: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let entrance = self.clone();
        self.connections.spawn(async move {
            entrance.converse(stream, peer).await;
            drop(place);
        });
    }

    /// Serves one connection that speaks HTTP.
    async fn converse<S>(&self, stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        door::serve(stream, &self.lines, &self.limits, |line| {
            let answers = Arc::new((self.greet)(peer, line));
            service_fn(move |request| {
                let answers = answers.clone();
                async move { Ok::<_, Infallible>(answers.answer(request).await) }
            })
        })
        .await;
    }
}

/// What a connection on the Unix socket speaks.
enum Spoken {
    Http,
    Frames,
}

/// The fourth byte of a frame is the highest of its length, which is at most 16 MiB; no method of HTTP has such a byte.
const FRAME_FOURTH_MAX: u8 = 1;

/// Looks at the first four bytes, which stay where they are.
async fn first_word(stream: &UnixStream) -> io::Result<Spoken> {
    let mut word = [0; 4];
    peek(stream, &mut word).await?;
    Ok(match word[3] <= FRAME_FOURTH_MAX {
        true => Spoken::Frames,
        false => Spoken::Http,
    })
}

/// Waits until there are enough bytes to fill the buffer; they stay where they are.
async fn peek(stream: &UnixStream, buffer: &mut [u8]) -> io::Result<()> {
    let look = || {
        let (count, _) = rustix::net::recv(stream, &mut *buffer, RecvFlags::PEEK)?;
        match count {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count if count == buffer.len() => Ok(()),
            // The next bytes will wake us.
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    };
    stream.async_io(Interest::READABLE, look).await
}

/// Who is at the other end of the Unix socket.
fn peer_of(stream: &UnixStream) -> Peer {
    let ours = rustix::process::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == ours || peer.uid() == 0 => Peer::Owner,
        Ok(_) | Err(_) => Peer::Stranger,
    }
}
