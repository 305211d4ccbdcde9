//! Copies for those who observe: the request as it passes, and, once it is whole, an offer whose answer nobody waits for.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use live::{Go, Offer, Part, Present, Told};
use model::{Failure, TimeSpan};
use workers::BodyError;

use super::session::to_go;
use crate::{
    app::App,
    invoker::{Answer, Body, Lease},
};

/// A place to run an invocation that others have copies of.
pub(crate) struct Observed {
    pub lease: Lease,
    pub copies: Copies,
}

/// What copies say besides the request.
pub(crate) struct Copies {
    pub app: Arc<App>,
    pub of: Part,
    /// To whom, and what is said before the payload.
    pub offers: Vec<(Present, Offer)>,
    /// How long they may run.
    pub limit: TimeSpan,
}

impl Observed {
    /// Runs the invocation as its place does; the copies go out once its request has passed whole.
    pub(crate) async fn send(self, request: Request<Body>) -> Result<Response<Answer>, Failure> {
        let (parts, body) = request.into_parts();
        let go = to_go(&parts, &body, self.copies.limit);
        let body = match body {
            Body::Empty => {
                self.copies.send(go, Bytes::new());
                Body::Empty
            }
            Body::Full(bytes) => {
                self.copies.send(go, bytes.clone());
                Body::Full(bytes)
            }
            Body::Stream(inner) => Body::Stream(Box::pin(Copied {
                inner,
                passed: BytesMut::new(),
                copies: Some((self.copies, go)),
            })),
        };
        Box::pin(self.lease.send(Request::from_parts(parts, body))).await
    }
}

impl Copies {
    fn send(self, mut go: Go, body: Bytes) {
        if body.len() as u64 > self.app.limits.event.0 {
            return;
        }
        go.body = !body.is_empty();
        for (claim, offer) in self.offers {
            let (app, go, body) = (self.app.clone(), go.clone(), body.clone());
            let (of, limit, stopping) = (self.of, self.limit, app.stopping.clone());
            self.app.deploys.tasks.spawn(async move {
                let showing = show(app, claim, of, offer, go, body);
                let showing = tokio::time::timeout(limit.duration(), showing);
                // How it went is the observer's own affair.
                let _how = stopping.run_until_cancelled(showing).await;
            });
        }
    }
}

/// Lets one observer run a copy; how that goes is his own affair.
async fn show(app: Arc<App>, claim: Present, of: Part, offer: Offer, go: Go, body: Bytes) {
    let Ok(accepted) = app.live.hosting.offer(&claim, of, offer, None).await else {
        return;
    };
    let Ok(mut running) = accepted.go(&go) else {
        return;
    };
    if go.body {
        running.sender().send(body, true).await;
    }
    loop {
        let told = std::future::poll_fn(|context| running.poll_told(context)).await;
        if matches!(told, None | Some(Told::Body(_, true) | Told::Failed(_))) {
            return;
        }
    }
}

/// A body that is kept while it passes.
struct Copied {
    inner: workers::Streamed,
    passed: BytesMut,
    /// `None` once they are out, or can not be.
    copies: Option<(Copies, Go)>,
}

impl http_body::Body for Copied {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let next = ready!(self.inner.as_mut().poll_frame(context));
        let this = &mut *self;
        if let Some(Ok(frame)) = &next
            && let (Some(bytes), Some((copies, _))) = (frame.data_ref(), &this.copies)
        {
            this.passed.extend_from_slice(bytes);
            if this.passed.len() as u64 > copies.app.limits.event.0 {
                this.copies = None;
                this.passed = BytesMut::new();
            }
        }
        let is_over = next.is_none() || this.inner.is_end_stream();
        let is_whole = !matches!(next, Some(Err(_)));
        if is_over && let Some((copies, go)) = this.copies.take().filter(|_| is_whole) {
            copies.send(go, std::mem::take(&mut this.passed).freeze());
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
