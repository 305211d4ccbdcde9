//! Runs invocations from elsewhere on this laptop's own server.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::Request;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use live::{Answer, Go, Offer, Pieces, Runner, Work};
use model::{ErrorType, Failure, FunctionId, TimeSpan, Trigger};
use server::{Guest, GuestAnswer, Workbench};

use super::story::{Stories, Story};

/// Says of a request that it is an event, where the offer did not.
const TRIGGER: &str = "x-bungee-trigger";

/// Runs what is offered on the folder's own versions.
pub struct LocalRunner {
    workbench: Workbench,
    stories: Stories,
}

impl LocalRunner {
    pub fn new(workbench: Workbench, stories: Stories) -> LocalRunner {
        LocalRunner { workbench, stories }
    }
}

impl Runner for LocalRunner {
    fn would(&self, offer: &Offer) -> Result<(), String> {
        let function: FunctionId = function_of(offer)?;
        let code = self.workbench.has_code(&function);
        code.map_err(|why| format!("no code of it there: {why}"))
    }

    fn run(&self, work: Work) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (workbench, stories) = (self.workbench.clone(), self.stories.clone());
        Box::pin(async move {
            let reply = work.reply.clone();
            let _told = stories.begin(Story::of(&work));
            if let Err(failure) = carry(&workbench, work).await {
                reply.fail(&failure);
            }
        })
    }
}

/// Runs one, and sends its answer as it comes.
async fn carry(workbench: &Workbench, work: Work) -> Result<(), Failure> {
    let Work {
        key,
        offer,
        offered_at: _,
        go,
        body,
        reply,
    } = work;
    let wrong = |why: String| Failure::new(ErrorType::BadRequest, why);
    let function = function_of(&offer).map_err(wrong)?;
    let trigger: Trigger = offer.trigger.parse().unwrap_or(Trigger::Http);
    let deadline = TimeSpan(go.deadline_ms);
    let is_event = match offer.kind.as_deref() {
        Some(kind) => kind != "web",
        None => go.headers.iter().any(|(name, _)| name == TRIGGER),
    };
    let request = request(&go, body).map_err(wrong)?;
    let guest = Guest {
        id: key.of.id,
        trigger,
        request,
        is_event,
        deadline,
    };
    let response = workbench.run(&function, guest).await.map_err(left)?;
    let (parts, mut body) = response.into_parts();
    let head = Answer {
        status: parts.status.as_u16(),
        headers: server::to_pairs(&parts.headers),
    };
    // What is there already goes with the head: one message less to wake somebody for.
    let first = match body.is_end_stream() {
        true => Some(Ok(Bytes::new())),
        false => next(&mut body).now_or_never().flatten(),
    };
    let is_last = body.is_end_stream();
    let is_waited_for = match first {
        Some(bytes) => reply.answer_with(&head, bytes?, is_last).await,
        None => reply.answer(&head),
    };
    if !is_waited_for || is_last {
        return Ok(());
    }
    while let Some(bytes) = next(&mut body).await {
        let is_last = body.is_end_stream();
        if !reply.body(bytes?, is_last).await || is_last {
            return Ok(());
        }
    }
    reply.body(Bytes::new(), true).await;
    Ok(())
}

/// The next bytes of an answer; `None` at its end.
async fn next(body: &mut GuestAnswer) -> Option<Result<Bytes, Failure>> {
    loop {
        match body.frame().await? {
            Err(failure) => return Some(Err(failure)),
            // Trailers do not cross.
            Ok(frame) => match frame.into_data() {
                Ok(bytes) => return Some(Ok(bytes)),
                Err(_) => continue,
            },
        }
    }
}

/// The caller's function is there: it is the code here that left the folder since the offer was accepted.
fn left(failure: Failure) -> Failure {
    match failure.error_type {
        ErrorType::FunctionNotFound | ErrorType::NotDeployed | ErrorType::FunctionDisabled => {
            let message = "its code left the developer's folder after it was accepted";
            Failure::new(ErrorType::LiveSessionLost, message)
                .hint("call again: the deployed code runs what has no code there")
        }
        _ => failure,
    }
}

fn function_of(offer: &Offer) -> Result<FunctionId, String> {
    let named = offer.function.parse::<FunctionId>();
    named.map_err(|error| format!("`{}` is no function: {error}", offer.function))
}

/// The request as a worker gets it.
fn request(go: &Go, pieces: Pieces) -> Result<Request<server::GuestBody>, String> {
    let body: server::GuestBody = Box::pin(Arriving {
        pieces,
        is_over: !go.body,
    });
    let mut request = Request::new(body);
    *request.method_mut() = go
        .method
        .parse()
        .map_err(|_| format!("`{}` is no method", go.method))?;
    *request.uri_mut() = go
        .uri
        .parse()
        .map_err(|_| format!("`{}` is no path", go.uri))?;
    *request.headers_mut() = server::from_pairs(&go.headers);
    Ok(request)
}

/// A request's body as it arrives.
struct Arriving {
    pieces: Pieces,
    is_over: bool,
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        loop {
            if self.is_over {
                return Poll::Ready(None);
            }
            let Some((bytes, is_last)) = ready!(self.pieces.poll_next(context)) else {
                let failure = Failure::new(ErrorType::LiveSessionLost, "the request broke off");
                self.is_over = true;
                return Poll::Ready(Some(Err(failure)));
            };
            self.is_over = is_last;
            if !bytes.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}
