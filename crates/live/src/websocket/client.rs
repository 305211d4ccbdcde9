//! The client's half: an address, a token, and a connection whenever an end joins.

use std::{fmt, sync::Arc, time::Duration};

use rustls::{ClientConfig, crypto::ring, pki_types::ServerName};
use rustls_platform_verifier::BuilderVerifierExt;
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    client_async_with_config,
    tungstenite::{
        Error,
        client::IntoClientRequest,
        handshake::client::{Request, Response},
        http::{HeaderValue, header},
    },
};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::{LIVE_PATH, SUBPROTOCOL, config, pump};
use crate::{
    Frame,
    channel::{Channel, Closed, JoinError, Joined, Joining, Outbox, Outward, greet},
    message::{Control, Fatal, Hello, Refusal},
    queue::{Feed, queue},
};

/// Longest wait for a connection and its handshake.
const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// Bytes that wait at most, each way: more than all windows of a busy session.
const WAITING_MAX: usize = 256 << 20;

/// Longest piece of a stranger's answer that an error shows, in characters.
const SHOWN: usize = 200;

/// A channel behind a WebSocket.
#[derive(Clone)]
pub struct WebSocketChannel {
    url: Url,
    token: Option<HeaderValue>,
    tls: Option<Arc<ClientConfig>>,
}

impl fmt::Debug for WebSocketChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebSocketChannel({})", self.url)
    }
}

impl WebSocketChannel {
    /// The channel of a server (`https://functions.example.com`) or a relay (`ws://127.0.0.1:24193`).
    /// `http` and `https` get `/v1/live` behind their path, `ws` and `wss` only if they have none.
    pub fn new(address: &str, token: Option<&str>) -> Result<WebSocketChannel, JoinError> {
        let (url, is_secure) = parse(address)?;
        let wrong = |why: String| JoinError::Address {
            address: url.to_string(),
            why,
        };
        let token = match token {
            None => None,
            Some(token) => {
                let value = HeaderValue::from_str(&format!("Bearer {token}"));
                let mut value =
                    value.map_err(|_| wrong("its token holds a character that none has".into()))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let tls = if is_secure {
            let trusted = trusted_by_this_machine();
            Some(Arc::new(trusted.map_err(|error| wrong(error.to_string()))?))
        } else {
            None
        };
        Ok(WebSocketChannel { url, token, tls })
    }

    /// Where it is, without anything secret.
    pub fn address(&self) -> &str {
        self.url.as_str()
    }

    async fn connect(&self, hello: Hello) -> Result<Joined, JoinError> {
        let dialing = self.dial();
        let dialed = timeout(CONNECT_WAIT, dialing).await;
        let (outbox, inbox) = dialed.unwrap_or_else(|_| {
            let wait = CONNECT_WAIT.as_secs();
            Err(self.unreachable(format!("no answer within {wait} s")))
        })?;
        greet(self.address(), hello, outbox, inbox).await
    }

    async fn dial(&self) -> Result<(Outbox, crate::Inbox), JoinError> {
        let host = self.url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = self.url.port_or_known_default().unwrap_or(80);
        let tcp = TcpStream::connect((host, port)).await;
        let tcp = tcp.map_err(|error| self.unreachable(error))?;
        tcp.set_nodelay(true)
            .map_err(|error| self.unreachable(error))?;
        let Some(tls) = &self.tls else {
            return self.upgrade(tcp).await;
        };
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|error| self.unreachable(error))?;
        let connector = TlsConnector::from(Arc::clone(tls));
        let secure = connector.connect(name, tcp).await;
        self.upgrade(secure.map_err(|error| self.unreachable(error))?)
            .await
    }

    async fn upgrade<S>(&self, io: S) -> Result<(Outbox, crate::Inbox), JoinError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let request = self.request().map_err(|error| self.unreachable(error))?;
        let shaken = client_async_with_config(request, io, Some(config())).await;
        let (socket, _) = shaken.map_err(|error| match error {
            Error::Http(answer) => self.turned_away(&answer),
            other => self.unreachable(other),
        })?;
        let (says, said) = queue(WAITING_MAX);
        let (hears, heard) = queue(WAITING_MAX);
        let inward = Outbox::new(Inward(hears));
        let pumping = tokio::spawn(pump(socket, inward, said, Duration::MAX));
        let inbox = heard.kept_by(AbortOnDropHandle::new(pumping));
        Ok((Outbox::new(Says(says)), inbox))
    }

    fn request(&self) -> Result<Request, Error> {
        let mut request = self.url.as_str().into_client_request()?;
        let headers = request.headers_mut();
        let subprotocol = HeaderValue::from_static(SUBPROTOCOL);
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
        if let Some(token) = &self.token {
            headers.insert(header::AUTHORIZATION, token.clone());
        }
        Ok(request)
    }

    fn unreachable(&self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> JoinError {
        JoinError::Unreachable {
            address: self.address().into(),
            cause: cause.into(),
        }
    }

    /// An answer that is no upgrade: our own server says why in its own words.
    fn turned_away(&self, answer: &Response) -> JoinError {
        #[derive(Deserialize)]
        struct Says {
            error: Refusal,
        }
        let body = answer.body().as_deref().unwrap_or_default();
        if let Ok(says) = serde_json::from_slice::<Says>(body) {
            return JoinError::Refused(says.error);
        }
        let said = String::from_utf8_lossy(body);
        let plain = said.chars().filter(|c| !c.is_control());
        JoinError::Status {
            address: self.address().into(),
            status: answer.status().as_u16(),
            said: plain.take(SHOWN).collect(),
        }
    }
}

impl Channel for WebSocketChannel {
    fn join(&self, hello: Hello) -> Joining<'_> {
        Box::pin(self.connect(hello))
    }
}

/// An address as the URL of its WebSocket, and whether that is one with TLS.
fn parse(address: &str) -> Result<(Url, bool), JoinError> {
    let wrong = |why: &str| JoinError::Address {
        // What stands before an `@` may be a secret.
        address: match address.rsplit_once('@') {
            Some((_, rest)) => format!("…@{rest}"),
            None => address.chars().take(SHOWN).collect(),
        },
        why: why.into(),
    };
    let mut url = Url::parse(address).map_err(|error| wrong(&error.to_string()))?;
    let (scheme, is_secure, is_server) = match url.scheme() {
        "ws" => ("ws", false, false),
        "wss" => ("wss", true, false),
        "http" => ("ws", false, true),
        "https" => ("wss", true, true),
        _ => return Err(wrong("it begins with none of ws, wss, http, https")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("a token does not belong into it"));
    }
    if !url.has_host() {
        return Err(wrong("it names no host"));
    }
    let base = url.path().trim_end_matches('/').to_owned();
    if is_server || base.is_empty() {
        url.set_path(&format!("{base}{LIVE_PATH}"));
    }
    url.set_fragment(None);
    // `set_scheme` refuses to make `ws` of `http` in some versions of the URL standard's library.
    let text = url.as_str().split_once(':').map_or("", |(_, rest)| rest);
    let url = Url::parse(&format!("{scheme}:{text}"));
    Ok((url.map_err(|error| wrong(&error.to_string()))?, is_secure))
}

fn trusted_by_this_machine() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    Ok(config)
}

/// Behind the client's own outbox: what it says waits to be written.
struct Says(Feed);

impl Outward for Says {
    fn send(&self, frame: Frame) -> Result<(), Closed> {
        self.0.push(frame).map_err(|_| Closed)
    }

    fn refuse(&self, _refusal: Refusal) {
        self.0.cut();
    }
}

impl Drop for Says {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// Where the pump puts what it reads.
struct Inward(Feed);

impl Outward for Inward {
    fn send(&self, frame: Frame) -> Result<(), Closed> {
        self.0.push(frame).map_err(|_| Closed)
    }

    fn refuse(&self, refusal: Refusal) {
        // If nobody reads any more, nobody is to know.
        let _ = self.0.push(Control::from(Fatal(refusal)).into());
        self.0.finish();
    }
}

impl Drop for Inward {
    fn drop(&mut self) {
        self.0.finish();
    }
}
