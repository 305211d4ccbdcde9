//! The live channel run on its own: carries frames between hosts and sessions, and knows no functions.
//! Everybody on it holds the same secret; without one it is open to programs of this machine only.

mod options;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use hyper::body::{Body as _, Incoming};
use live::{Broker, ChannelSettings, Credentials, LIVE_PATH, Open};
use model::{Digest, ErrorType, Failure, Limits};
use serde_json::json;
use subtle::ConstantTimeEq;
use tokio::{sync::Mutex, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::{self, Peer},
    door::{Line, Lines},
    errors, guard,
    health::{self, Health},
    listen::{Answers, Entrance, bind_all, is_wide, places},
    live::{is_channel, let_in},
    reply::ReplyBody,
};

use options::read_secret;
pub use options::{RelayError, RelayOptions};

/// The ends get this long to hear goodbye.
const LAST_WORDS: Duration = Duration::from_millis(2500);

/// A relay that runs. Dropping it cuts everybody off.
pub struct Relay {
    channel: Arc<Channel>,
    addresses: Vec<SocketAddr>,
    connections: TaskTracker,
    tasks: TaskTracker,
    /// Cancelled when it goes down.
    stopping: CancellationToken,
    /// Held by the one who stops it.
    ending: Mutex<()>,
}

impl Relay {
    /// Starts a relay: when this returns, its addresses answer. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// Whatever keeps it from being one; see [`RelayError`].
    pub fn start(options: &RelayOptions) -> Result<Relay, RelayError> {
        let wide = options.listen.iter().find(|addr| is_wide(addr));
        let secret = options.secret.as_deref().map(read_secret).transpose()?;
        if let (Some(addr), None) = (wide, &secret) {
            return Err(RelayError::NeedsSecret { addr: *addr });
        }
        let (listeners, addresses) = bind_all(&options.listen, false)?;
        let limits = Arc::new(Limits::default());
        let settings = ChannelSettings {
            // A secret is for a relay that others reach, if only through a proxy.
            is_wide: wide.is_some() || secret.is_some(),
            ..ChannelSettings::default()
        };
        let channel = Arc::new(Channel {
            broker: Broker::new(settings, Arc::new(Open)),
            secret,
            health: Health::new(),
            lines: Arc::new(Lines::new(&limits)),
        });
        let relay = Relay {
            channel,
            addresses,
            connections: TaskTracker::new(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            ending: Mutex::default(),
        };
        relay.open(listeners, limits);
        Ok(relay)
    }

    /// Lets the ends in.
    fn open(&self, listeners: Vec<tokio::net::TcpListener>, limits: Arc<Limits>) {
        let channel = self.channel.clone();
        let places = places(&limits);
        let entrance = Entrance {
            greet: move |peer, line| Caller {
                channel: channel.clone(),
                peer,
                line,
            },
            lines: self.channel.lines.clone(),
            limits,
            connections: self.connections.clone(),
            closing: self.stopping.clone(),
        };
        for listener in listeners {
            let taking = entrance.clone().take_tcp(listener, places.clone());
            self.tasks.spawn(taking);
        }
        let (channel, stopping) = (self.channel.clone(), self.stopping.clone());
        self.tasks.spawn(async move {
            let time = stopping.run_until_cancelled(channel.broker.keep_time());
            tokio::join!(time, channel.lines.sweep(stopping.clone()));
        });
        self.channel.health.ready();
    }

    /// The addresses that it listens on, with the ports that were found.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Whether local programs need no secret.
    pub fn is_open(&self) -> bool {
        self.channel.secret.is_none()
    }

    /// Goes down in good order: everybody hears goodbye. Nothing runs here, so nothing is waited for.
    pub async fn stop(&self) {
        let _ending = self.ending.lock().await;
        let channel = &self.channel;
        channel.health.draining();
        self.stopping.cancel();
        channel.lines.drain();
        channel.broker.close("the relay goes down");
        self.connections.close();
        let is_heard = timeout(LAST_WORDS, self.connections.wait()).await.is_ok();
        if !is_heard {
            channel.lines.sever();
            self.connections.wait().await;
        }
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stopping.cancel();
        self.channel.lines.sever();
    }
}

/// What every connection of a relay shares.
struct Channel {
    broker: Broker,
    /// The digest of what everybody has to show; none: open to local programs.
    secret: Option<Digest>,
    health: Health,
    lines: Arc<Lines>,
}

impl Channel {
    /// Whether a caller may be on the channel.
    fn admit(&self, headers: &HeaderMap, uri: &Uri) -> Result<Credentials, Failure> {
        match &self.secret {
            None => {
                if let Some(why) = guard::why_not_local(headers, uri) {
                    let message = format!(
                        "this relay has no secret and is open to local programs only; refused, for {why}"
                    );
                    let failure = Failure::new(ErrorType::Forbidden, message);
                    return Err(failure.hint("behind a proxy, start it with BUNGEE_SECRET"));
                }
            }
            Some(secret) => {
                let unauthorized = |message| Failure::new(ErrorType::Unauthorized, message);
                let Some(shown) = auth::bearer(headers) else {
                    let failure =
                        unauthorized("this relay asks for its secret, and the request has none");
                    return Err(failure.hint("set BUNGEE_TOKEN, or BUNGEE_KEY, to connect"));
                };
                if !is_same(secret, &Digest::of(shown)) {
                    let failure = unauthorized("this is not the relay's secret");
                    return Err(failure.hint("it is what the relay has in BUNGEE_SECRET"));
                }
            }
        }
        Ok(Credentials {
            may_attach: true,
            may_host: true,
            ..Credentials::default()
        })
    }

    fn report(&self) -> Response<Bytes> {
        let report = json!({
            "status": "ok",
            "uptime": self.health.uptime(),
            "ready": self.health.is_ready(),
            "claims": self.broker.claim_count(),
        });
        of_json(&report)
    }

    fn readiness(&self) -> Response<Bytes> {
        let is_ready = self.health.is_ready();
        let mut response = of_json(&json!({ "ready": is_ready }));
        if !is_ready {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        response
    }
}

/// The caller on one connection.
struct Caller {
    channel: Arc<Channel>,
    peer: Peer,
    line: Arc<Line>,
}

impl Answers for Caller {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<ReplyBody> {
        self.line.working();
        if !request.body().is_end_stream() {
            self.line.leave_unread();
        }
        let response = if is_channel(&request) {
            self.attach(request)
        } else {
            self.look(&request)
        };
        let response = response.unwrap_or_else(|failure| {
            tracing::debug!(peer = ?self.peer, %failure, "refused");
            errors::response(&failure, None)
        });
        ReplyBody::whole(response, &self.line, &self.channel.lines)
    }
}

impl Caller {
    fn attach(&self, request: Request<Incoming>) -> Result<Response<Bytes>, Failure> {
        let channel = &self.channel;
        let who = channel.admit(request.headers(), request.uri())?;
        let_in(request, who, &channel.broker, &self.line)
    }

    /// Everything that is not the channel.
    fn look(&self, request: &Request<Incoming>) -> Result<Response<Bytes>, Failure> {
        let channel = &self.channel;
        let path = request.uri().path();
        let response = match path {
            "/health" if health::wants_text(request.headers()) => of_text(),
            "/health" => channel.report(),
            "/health/live" => of_text(),
            "/health/ready" => channel.readiness(),
            _ => {
                let message = format!(
                    "nothing is here: this is a relay, and has `{LIVE_PATH}` and `/health` only"
                );
                let failure = Failure::new(ErrorType::NotFound, message);
                return Err(failure.hint("functions are on a server: `bungee serve`"));
            }
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let message = format!("`{path}` is read with GET");
            let failure = Failure::new(ErrorType::BadRequest, message);
            return Ok(errors::method_not_allowed(&failure));
        }
        Ok(response)
    }
}

/// Compares in a time that says nothing of what is compared.
fn is_same(one: &Digest, other: &Digest) -> bool {
    one.hex().as_bytes().ct_eq(other.hex().as_bytes()).into()
}

fn of_json(json: &serde_json::Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(json.to_string()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, errors::JSON);
    response
}

fn of_text() -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(b"OK"));
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_secret_is_the_same() {
        let digest = |text: &str| Digest::of(text.as_bytes());
        assert!(is_same(&digest("one"), &digest("one")));
        assert!(!is_same(&digest("one"), &digest("onf")));
    }
}
