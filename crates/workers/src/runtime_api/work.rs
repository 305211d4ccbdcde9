//! The worker protocol in front of a runtime client: one invocation in, its answer out, over a connection of our own making.

use std::{io, pin::pin, sync::Arc};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use model::InvocationId;
use tokio::{io::DuplexStream, sync::oneshot};

use super::{
    Api,
    answer::{AnswerBody, Answered},
    delivery::Delivery,
};

/// Serves one connection of the pool's.
pub async fn serve(api: Arc<Api>, stream: DuplexStream) {
    let gone = api.gone.clone();
    let service = service_fn(move |request| invoke(api.clone(), request));
    let mut builder = http1::Builder::new();
    builder.max_buf_size(256 << 10);
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    // A connection that ends in the middle means that the caller left, or that the worker is gone: both are known.
    tokio::select! {
        _ = serving.as_mut() => {}
        () = gone.cancelled() => {
            // What was answered still leaves.
            serving.as_mut().graceful_shutdown();
            serving.await.ok();
        }
    }
}

/// One invocation, to the head of its answer. An error closes the connection, which says that the worker was lost.
async fn invoke(
    api: Arc<Api>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, io::Error> {
    let lost = || io::Error::other("the runtime is gone");
    let version = api.version().ok_or_else(lost)?;
    let (parts, body) = request.into_parts();
    let (id, delivery) = Delivery::of(&version, &parts, body).ok_or_else(lost)?;
    let (answer, answered) = oneshot::channel();
    let caller = Caller { api: &api, id };
    {
        let mut state = api.lock();
        state.callers.insert(id, answer);
        let poll = state.machine.arrive(id);
        state.deliver(id, poll, delivery);
    }
    let answered: Answered = answered.await.map_err(|_| lost())?;
    // What streams tells by itself when its caller leaves.
    let response = answered.into_response(&api, id, version.kind).await;
    drop(caller);
    Ok(response)
}

/// Whoever waits for an answer; dropped, nobody does.
struct Caller<'a> {
    api: &'a Api,
    id: InvocationId,
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        let mut state = self.api.lock();
        state.callers.remove(&self.id);
        state.waiting.remove(&self.id);
        state.machine.caller_left(self.id);
    }
}
