//! Our end of the Lambda Runtime API, one per worker: a port that only the worker's own processes may use.
//! On its other side it speaks the worker protocol (docs/protocol.md), so that nothing else notices the difference.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener as StdTcpListener},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use model::{HandlerFault, InvocationId};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, oneshot},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    answer::Answered,
    delivery::Delivery,
    machine::{Machine, PollId},
};
use crate::{house::House, version::Version, wire::Wire, worker::Worker};

mod answer;
mod calls;
mod delivery;
mod extension;
mod fault;
mod machine;
mod peer;
mod prelude;
mod response;
mod work;

/// Connections that the processes of one worker may have open.
const CONNECTIONS_MAX: usize = 1024;

/// Longest head of a call: a client may report the cause of an error in a header of up to 1 MiB.
const HEAD_MAX: usize = 2 << 20;

/// Reasons that are kept for callers who have not asked for them yet, because they read slowly or have left.
const BROKEN_MAX: usize = 64;

/// A whole answer waits this long for the runtime to poll again, so that who asks one thing after the other meets the same worker.
const SETTLE: Duration = Duration::from_millis(5);

/// A port that is bound before the process starts, which is told its address.
pub struct Port {
    listener: TcpListener,
    address: SocketAddr,
}

impl Port {
    /// Binds a free one on loopback.
    pub fn bind() -> io::Result<Port> {
        let listener = StdTcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        Ok(Port {
            address: listener.local_addr()?,
            listener: TcpListener::from_std(listener)?,
        })
    }

    /// What the process finds as `AWS_LAMBDA_RUNTIME_API`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The Runtime API of one worker.
pub struct Api {
    /// Set once the process runs.
    worker: OnceLock<Weak<Worker>>,
    state: Mutex<State>,
    /// Told whenever a poll came, an invocation was settled, or the worker is gone.
    changed: Notify,
    connections: AtomicUsize,
    /// The limit `event`.
    event_max: u64,
    gone: CancellationToken,
    tasks: TaskTracker,
}

/// What is known of polls and invocations.
struct State {
    machine: Machine,
    /// Gets the first word: ready, or why not.
    say: Option<oneshot::Sender<Result<(), HandlerFault>>>,
    polls: HashMap<u64, oneshot::Sender<Delivery>>,
    /// Those that wait for a poll, with what it will get.
    waiting: HashMap<InvocationId, Delivery>,
    /// Who waits for the answer of what.
    callers: HashMap<InvocationId, oneshot::Sender<Answered>>,
    /// Why an answer that had begun broke off.
    broken: VecDeque<(InvocationId, HandlerFault)>,
}

impl Api {
    /// Of a worker that is about to be; `say` gets its first word.
    pub fn new(
        house: &House,
        concurrency: u32,
        say: oneshot::Sender<Result<(), HandlerFault>>,
    ) -> Arc<Api> {
        Arc::new(Api {
            worker: OnceLock::new(),
            state: Mutex::new(State {
                machine: Machine::new(concurrency),
                say: Some(say),
                polls: HashMap::new(),
                waiting: HashMap::new(),
                callers: HashMap::new(),
                broken: VecDeque::new(),
            }),
            changed: Notify::new(),
            connections: AtomicUsize::new(0),
            event_max: house.options.limits.event.0,
            gone: CancellationToken::new(),
            tasks: house.tasks.clone(),
        })
    }

    /// Serves the processes of this worker at this port, until they are gone.
    pub fn serve(self: &Arc<Self>, worker: &Arc<Worker>, port: Port) {
        self.worker.set(Arc::downgrade(worker)).ok();
        self.tasks.spawn(accept(self.clone(), port.listener));
    }

    /// The process is gone: whoever waits for it learns so.
    pub fn close(&self) {
        let mut state = self.lock();
        state.say = None;
        state.polls.clear();
        state.waiting.clear();
        state.callers.clear();
        drop(state);
        self.gone.cancel();
        self.changed.notify_waiters();
    }

    /// A connection that speaks the worker protocol.
    pub fn connect(self: &Arc<Self>) -> Wire {
        let (ours, theirs) = Wire::in_memory();
        self.tasks.spawn(work::serve(self.clone(), theirs));
        ours
    }

    /// Waits until the runtime polls for work; false when its process is gone.
    pub async fn has_room(&self) -> bool {
        self.until(|state| state.machine.has_room()).await
    }

    /// Waits until the runtime is done with this invocation, or its process is gone.
    pub async fn settled(&self, id: InvocationId) {
        self.until(|state| state.machine.is_settled(id)).await;
    }

    /// Whether the runtime is done with this invocation.
    pub fn is_settled(&self, id: InvocationId) -> bool {
        self.lock().machine.is_settled(id) || self.gone.is_cancelled()
    }

    /// Invocations that the runtime is not done with.
    pub fn unsettled(&self) -> u32 {
        self.lock().machine.unsettled() as u32
    }

    /// Why the answer of this invocation broke off, if its runtime said so.
    pub fn why_broken(&self, id: InvocationId) -> Option<HandlerFault> {
        let mut state = self.lock();
        let place = state.broken.iter().position(|(broken, _)| *broken == id)?;
        state.broken.remove(place).map(|(_, fault)| fault)
    }

    fn keep_broken(&self, id: InvocationId, fault: HandlerFault) {
        let mut state = self.lock();
        if state.broken.len() >= BROKEN_MAX {
            state.broken.pop_front();
        }
        state.broken.push_back((id, fault));
    }

    async fn until(&self, is_so: impl Fn(&State) -> bool) -> bool {
        loop {
            let changed = self.changed.notified();
            if self.gone.is_cancelled() {
                return false;
            }
            if is_so(&self.lock()) {
                return true;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn version(&self) -> Option<Arc<Version>> {
        self.worker.get()?.upgrade()?.version.get().cloned()
    }

    fn nonce(&self) -> String {
        let worker = self.worker.get().and_then(Weak::upgrade);
        worker.map_or_else(String::new, |worker| worker.nonce.clone())
    }
}

impl State {
    /// Hands an invocation to a poll; one whose poller left meanwhile goes to the next.
    fn deliver(&mut self, id: InvocationId, mut poll: Option<PollId>, mut delivery: Delivery) {
        while let Some(PollId(number)) = poll {
            let Some(poller) = self.polls.remove(&number) else {
                poll = self.machine.undelivered(id);
                continue;
            };
            match poller.send(delivery) {
                Ok(()) => return,
                Err(back) => {
                    delivery = back;
                    poll = self.machine.undelivered(id);
                }
            }
        }
        self.waiting.insert(id, delivery);
    }
}

/// Takes the connections of a worker's processes, and of nobody else.
async fn accept(api: Arc<Api>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = api.gone.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, most likely; others may be closed soon.
            tokio::time::sleep(SETTLE).await;
            continue;
        };
        if api.connections.fetch_add(1, SeqCst) >= CONNECTIONS_MAX {
            api.connections.fetch_sub(1, SeqCst);
            continue;
        }
        let api = api.clone();
        let tasks = api.tasks.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = serve(&api, stream) => {}
                () = api.gone.cancelled() => {}
            }
            api.connections.fetch_sub(1, SeqCst);
        });
    }
}

/// Serves one connection, as long as it is kept open.
async fn serve(api: &Arc<Api>, stream: TcpStream) {
    stream.set_nodelay(true).ok();
    let is_ours = peer::is_of_group(api, &stream).await;
    let service = service_fn(move |request| {
        let api = api.clone();
        async move {
            if is_ours {
                api.call(request).await
            } else {
                Ok(calls::stranger())
            }
        }
    });
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_MAX);
    builder.keep_alive(is_ours);
    // A process that dies in the middle of a call is no news here; its end is.
    builder
        .serve_connection(TokioIo::new(stream), service)
        .await
        .ok();
}
