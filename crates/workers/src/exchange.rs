//! One invocation's exchange with its worker: HTTP/1.1 over the slot's own connection.
//! The connection is driven by the task that waits for the answer, so nothing is handed between tasks.

use std::{
    future::Future,
    mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::HeaderName};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, Limited};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use model::{ErrorType, Failure, HandlerFault, InvocationId};
use tokio::net::UnixStream;

use crate::{
    body::{Body, BodyError},
    limit::Limit,
    pool::Lease,
    socket::Socket,
    trace,
    wire::Wire,
    worker::{Cause, WorkerRef},
};

/// When the invocation will have run for `timeout`, in Unix milliseconds.
const DEADLINE: HeaderName = HeaderName::from_static("x-bungee-deadline");

/// Marks a fault of the handler; its value is the worker's nonce.
const FAULT: HeaderName = HeaderName::from_static("x-bungee-fault");

/// Largest description of a fault that is read.
const FAULT_MAX: usize = 1 << 20;

/// How often an invocation that no worker has seen is given to another worker.
const RESENDS: u32 = 3;

/// One connection to a worker: the sending half, and the half that moves the bytes.
pub struct Conn {
    sender: SendRequest<Body>,
    driver: http1::Connection<TokioIo<Wire>, Body>,
    is_dead: bool,
}

impl Conn {
    /// Prepares a connection on what is connected.
    pub async fn new(wire: Wire) -> hyper::Result<Box<Conn>> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(256 << 10);
        let (sender, driver) = builder.handshake(TokioIo::new(wire)).await?;
        Ok(Box::new(Conn {
            sender,
            driver,
            is_dead: false,
        }))
    }

    /// Moves bytes as far as they go.
    fn drive(&mut self, context: &mut Context<'_>) {
        if !self.is_dead {
            self.is_dead = Pin::new(&mut self.driver).poll(context).is_ready();
        }
    }

    /// Sends one request and waits for the head of its answer; for requests of the server's own.
    pub async fn ask(&mut self, request: Request<Body>) -> hyper::Result<Response<Bytes>> {
        let mut response = pin!(self.sender.send_request(request));
        let head = std::future::poll_fn(|context| {
            if !self.is_dead {
                self.is_dead = Pin::new(&mut self.driver).poll(context).is_ready();
            }
            response.as_mut().poll(context)
        })
        .await?;
        let (parts, body) = head.into_parts();
        let mut body = pin!(body.collect());
        let whole = std::future::poll_fn(|context| {
            self.drive(context);
            body.as_mut().poll(context)
        })
        .await?;
        Ok(Response::from_parts(parts, whole.to_bytes()))
    }
}

/// What became of a request that was to be sent.
enum Sent {
    /// The head of the answer.
    Head(Response<Incoming>),
    /// No byte of it reached the worker.
    Unsent(Request<Body>),
    /// The invocation failed.
    Failed(Failure),
    /// The connection broke after the worker may have seen it.
    Broken,
}

/// Whether a worker takes what is about to be sent.
enum Room {
    Yes,
    /// It is gone.
    Lost,
    /// The deadline came first.
    TimedOut,
}

/// Waits until the worker asks for work, if it is one that asks.
async fn has_room(lease: &Lease) -> Room {
    let worker = lease.worker().0;
    let Some(api) = &worker.api else {
        return Room::Yes;
    };
    let slot = lease.slot();
    // Boxed, so that it makes no future larger that is moved for every request.
    let mut asked = Box::pin(api.has_room());
    std::future::poll_fn(|context| {
        slot.waker.register(context.waker());
        if slot.is_timed_out() {
            return Poll::Ready(Room::TimedOut);
        }
        asked.as_mut().poll(context).map(|asked| match asked {
            true => Room::Yes,
            false => Room::Lost,
        })
    })
    .await
}

/// An invocation that holds a slot and talks to the worker. Dropped before the end, it means that the caller left.
pub(crate) struct Exchange {
    pub lease: Option<Lease>,
    pub conn: Option<Box<Conn>>,
}

impl Exchange {
    /// One that is over, left in the place of one that goes on elsewhere.
    const OVER: Exchange = Exchange {
        lease: None,
        conn: None,
    };

    fn lease(&self) -> &Lease {
        self.lease
            .as_ref()
            .expect("the lease is given back only by `finish` and drop, which consume")
    }

    /// The exchange ended as it should: the connection goes back to the slot, the slot to the pool.
    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            let conn = self
                .conn
                .take()
                .filter(|conn| !conn.is_dead && !conn.sender.is_closed());
            lease.give_back(conn);
        }
    }

    /// It ended otherwise and the worker knows; the connection is not to be used again.
    pub(crate) fn abandon(&mut self) {
        self.conn = None;
        if let Some(lease) = self.lease.take() {
            lease.give_back(None);
        }
    }

    fn poll_timed_out(&self, context: &mut Context<'_>) -> bool {
        let slot = self.lease().slot();
        slot.waker.register(context.waker());
        slot.is_timed_out()
    }

    async fn send(&mut self, request: Request<Body>) -> Sent {
        let Some(conn) = self.conn.as_mut() else {
            return Sent::Unsent(request);
        };
        let ready = std::future::poll_fn(|context| {
            conn.drive(context);
            // hyper learns that the driver is done only once it is dropped; until then it would take the request.
            match conn.is_dead {
                true => Poll::Ready(false),
                false => conn.sender.poll_ready(context).map(|ready| ready.is_ok()),
            }
        });
        if !ready.await {
            return Sent::Unsent(request);
        }
        let mut response = pin!(conn.sender.try_send_request(request));
        let head = std::future::poll_fn(|context| {
            let slot = self.lease.as_ref().map(Lease::slot);
            if let Some(slot) = slot {
                slot.waker.register(context.waker());
                if slot.is_timed_out() {
                    return Poll::Ready(None);
                }
            }
            if let Some(conn) = self.conn.as_mut() {
                conn.drive(context);
            }
            if let Poll::Ready(answered) = response.as_mut().poll(context) {
                return Poll::Ready(Some(answered));
            }
            // A driver that is done answers nothing more; dropping it gives back a request that it did not take.
            self.conn.take_if(|conn| conn.is_dead);
            response.as_mut().poll(context).map(Some)
        });
        match head.await {
            None => Sent::Failed(self.lease().limit().exceeded()),
            Some(Ok(head)) => Sent::Head(head),
            Some(Err(mut error)) => match error.take_message() {
                Some(request) => Sent::Unsent(request),
                None => match body_error(&error.into_error()) {
                    Some(failure) => Sent::Failed(failure),
                    None => Sent::Broken,
                },
            },
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            // Closing the connection is how the handler's `signal` learns that its caller left.
            drop(self.conn.take());
            lease.caller_left();
        }
    }
}

/// The failure of the caller's own body, if that is what broke the exchange.
fn body_error(error: &hyper::Error) -> Option<Failure> {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(BodyError(failure)) = inner.downcast_ref::<BodyError>() {
            return Some(failure.clone());
        }
        source = inner.source();
    }
    None
}

impl Lease {
    /// Sends the invocation and waits for the head of its answer.
    ///
    /// Dropping the future means that the caller left: the handler's `signal` fires.
    /// Fails with `HandlerError` and the fault, `FunctionTimeout`, `OutOfMemory`, `WorkerCrashed`, and, when the worker
    /// died before it saw anything and no other took over, with what [`crate::Pool::acquire`] says.
    pub async fn send(self, mut request: Request<Body>) -> Result<Response<Answer>, Failure> {
        let mut lease = self;
        for _ in 0..RESENDS {
            let (pool, id, limit) = (lease.pool(), lease.id(), lease.limit());
            let deadline = lease.begin();
            request
                .headers_mut()
                .insert(DEADLINE, HeaderValue::from(deadline.0));
            let conn = match lease.slot().conn.lock() {
                Ok(mut conn) => conn.take(),
                Err(_) => None,
            };
            let mut exchange = Exchange {
                lease: Some(lease),
                conn,
            };
            if exchange
                .conn
                .as_ref()
                .is_none_or(|conn| conn.is_dead || conn.sender.is_closed())
            {
                exchange.conn = exchange.lease().connect().await;
            }
            let sent = match has_room(exchange.lease()).await {
                Room::Yes => exchange.send(request).await,
                Room::Lost => Sent::Unsent(request),
                Room::TimedOut => Sent::Failed(limit.exceeded()),
            };
            match sent {
                Sent::Head(head) => return answer(exchange, head).await,
                Sent::Unsent(back) => {
                    request = back;
                    exchange.lease().lost_before_work();
                    exchange.abandon();
                }
                Sent::Failed(failure) => {
                    if failure.error_type == ErrorType::FunctionTimeout {
                        exchange.abandon();
                    }
                    return Err(failure);
                }
                Sent::Broken => return Err(broken(&mut exchange, id).await),
            }
            lease = pool.acquire(id).await?.limited(limit);
        }
        Err(crate::worker::crashed(
            "three workers in a row died before they took this invocation",
        ))
    }
}

/// Why the exchange broke; the slot is given back.
pub(crate) async fn broken(exchange: &mut Exchange, id: InvocationId) -> Failure {
    let lease = exchange.lease();
    if lease.slot().is_timed_out() {
        let failure = lease.limit().exceeded();
        exchange.abandon();
        return failure;
    }
    let worker = lease.worker();
    let said = worker.0.api.as_ref().and_then(|api| api.why_broken(id));
    let failure = match said {
        Some(fault) if fault.reported.is_some() => handler_error(fault),
        Some(fault) => {
            // Nobody says why: mostly because the process is dead, or about to be seen so.
            let failure = worker.0.why_lost(id).await;
            match worker.0.exit.get() {
                Some(_) => failure,
                None => handler_error(fault),
            }
        }
        None => worker.0.why_lost(id).await,
    };
    if worker.0.is_isolate() {
        worker.0.kill(Cause::Disconnected);
    }
    exchange.abandon();
    failure
}

/// Turns the head of an answer into the caller's answer, or into the failure that it stands for.
async fn answer(exchange: Exchange, head: Response<Incoming>) -> Result<Response<Answer>, Failure> {
    let is_fault = head.status() == StatusCode::INTERNAL_SERVER_ERROR
        && head
            .headers()
            .get(FAULT)
            .is_some_and(|nonce| nonce.as_bytes() == exchange.lease().worker().0.nonce.as_bytes());
    let (parts, incoming) = head.into_parts();
    let answer = Answer {
        incoming,
        exchange,
        failing: None,
    };
    if !is_fault {
        return Ok(Response::from_parts(parts, answer));
    }
    let lease = answer.exchange.lease();
    let (version, limit) = (lease.version().clone(), lease.limit());
    let described = Limited::new(answer, FAULT_MAX).collect().await;
    let fault = described
        .ok()
        .and_then(|body| serde_json::from_slice::<HandlerFault>(&body.to_bytes()).ok());
    let Some(fault) = fault else {
        return Err(Failure::new(
            ErrorType::HandlerError,
            "the handler failed, and its error could not be read",
        ));
    };
    Err(failure_of(
        trace::remap(fault, &version.dir),
        &version,
        limit,
    ))
}

/// The failure that a fault means: engines report their own limits as faults too.
fn failure_of(fault: HandlerFault, version: &crate::Version, limit: Limit) -> Failure {
    let is_reported = fault.reported.is_some();
    match fault.error_type.as_str() {
        // A client of the Runtime API names its errors as it likes.
        _ if is_reported => handler_error(fault),
        "FunctionTimeout" => limit.exceeded(),
        "OutOfMemory" => Failure::new(
            ErrorType::OutOfMemory,
            format!(
                "the handler used more memory than its limit, {}",
                version.settings.memory
            ),
        )
        .hint("raise `memory` in bungee.toml, or use less"),
        "PayloadTooLarge" => Failure::new(ErrorType::PayloadTooLarge, fault.message.clone()),
        _ => handler_error(fault),
    }
}

/// The failure of a handler that threw.
pub(crate) fn handler_error(fault: HandlerFault) -> Failure {
    let message = match fault.message.as_str() {
        "" => fault.error_type.clone(),
        message => format!("{}: {message}", fault.error_type),
    };
    Failure::new(ErrorType::HandlerError, message).fault(fault)
}

/// The body of an answer, as it comes. The lease ends with its last byte, or when it is dropped.
pub struct Answer {
    incoming: Incoming,
    exchange: Exchange,
    /// Set once the body broke: finds out why.
    failing: Option<Pin<Box<dyn Future<Output = Failure> + Send>>>,
}

impl Answer {
    /// The worker that answers.
    pub fn worker(&self) -> Option<WorkerRef> {
        self.exchange.lease.as_ref().map(Lease::worker)
    }

    /// From now on the answer may take as long as it likes: whoever reads it looks after its silence.
    pub fn hold_open(&self) {
        if let Some(lease) = &self.exchange.lease {
            lease.slot().hold_open();
        }
    }

    /// The bytes that follow a head which switches protocols; call it for no other.
    ///
    /// Fails with the cause if the worker is lost already.
    pub async fn into_socket(mut self) -> Result<Socket, Failure> {
        self.hold_open();
        let mut exchange = mem::replace(&mut self.exchange, Exchange::OVER);
        // hyper is done with a connection as soon as the head is out.
        std::future::poll_fn(|context| {
            let conn = exchange.conn.as_mut();
            conn.map_or(Poll::Ready(()), |conn| {
                conn.drive(context);
                if conn.is_dead {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
        })
        .await;
        match exchange.conn.take() {
            Some(conn) => Ok(Socket::new(conn.driver.into_parts(), exchange)),
            None => {
                let id = exchange.lease().id();
                Err(broken(&mut exchange, id).await)
            }
        }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let this = &mut *self;
        if let Some(failing) = this.failing.as_mut() {
            let failure = ready!(failing.as_mut().poll(context));
            this.failing = None;
            return Poll::Ready(Some(Err(failure)));
        }
        if this.exchange.lease.is_none() {
            return Poll::Ready(None);
        }
        if this.exchange.poll_timed_out(context) {
            let failure = this.exchange.lease().limit().exceeded();
            this.exchange.abandon();
            return Poll::Ready(Some(Err(failure)));
        }
        if let Some(conn) = this.exchange.conn.as_mut() {
            conn.drive(context);
        }
        match ready!(Pin::new(&mut this.incoming).poll_frame(context)) {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
            None => {
                this.exchange.finish();
                Poll::Ready(None)
            }
            Some(Err(_)) => {
                let id = this.exchange.lease().id();
                let mut exchange = mem::replace(&mut this.exchange, Exchange::OVER);
                this.failing = Some(Box::pin(async move {
                    // Whoever writes the answer out gets to write what came before its end.
                    tokio::task::yield_now().await;
                    broken(&mut exchange, id).await
                }));
                self.poll_frame(context)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream() && self.failing.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // A body of known length is often not polled past its last byte.
        if self.incoming.is_end_stream() {
            self.exchange.finish();
        }
    }
}

/// Opens a connection to a worker.
pub async fn connect(worker: &Arc<crate::worker::Worker>) -> Option<Box<Conn>> {
    let wire = match &worker.api {
        Some(api) => api.connect(),
        None => Wire::Socket(UnixStream::connect(worker.socket.as_ref()?).await.ok()?),
    };
    Conn::new(wire).await.ok()
}
