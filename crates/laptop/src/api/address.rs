//! Where a server is: a base URL, or a Unix socket.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use reqwest::Url;
use rustls::{ClientConfig, RootCertStore, crypto::ring};

use super::socket::SocketPath;

/// Longest wait for a connection; a server that is there answers within milliseconds, one across the world within one second.
const CONNECT: Duration = Duration::from_secs(10);

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `http://…` or `https://…`, possibly with a path in front of `/v1`.
    Url(Url),
    /// The path of a Unix socket, written `unix:PATH`.
    Socket(PathBuf),
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no server; write it like `http://127.0.0.1:9001`, `https://functions.example.com` or `unix:/path/to.sock`"
)]
pub struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(AddressError(text.into()));
            }
            return Ok(Address::Socket(path.into()));
        }
        match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
                Ok(Address::Url(url))
            }
            Ok(_) | Err(_) => Err(AddressError(text.into())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Url(url) => f.write_str(url.as_str().trim_end_matches('/')),
            Address::Socket(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Address {
    /// The URL of `path`, which starts with `/`.
    pub(super) fn join(&self, path: &str) -> String {
        match self {
            Address::Url(url) => format!("{}{path}", url.as_str().trim_end_matches('/')),
            Address::Socket(_) => format!("http://localhost{path}"),
        }
    }

    /// Whether it is on this machine.
    pub fn is_loopback(&self) -> bool {
        match self {
            Address::Socket(_) => true,
            Address::Url(url) => {
                let host = url.host_str().unwrap_or_default();
                let host = host.trim_start_matches('[').trim_end_matches(']');
                host == "localhost"
                    || host
                        .parse::<std::net::IpAddr>()
                        .is_ok_and(|ip| ip.is_loopback())
            }
        }
    }
}

/// An HTTP client that fits the address: no proxy on this machine, and no root certificates loaded where no TLS is spoken.
pub(super) fn connector(
    address: &Address,
    socket: Option<&SocketPath>,
) -> Result<reqwest::Client, reqwest::Error> {
    let builder = reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .redirect(reqwest::redirect::Policy::none())
        .tcp_nodelay(true);
    let builder = match (socket, address) {
        (Some(socket), _) => socket.connect(builder).tls_backend_preconfigured(no_tls()),
        (None, Address::Url(url)) if url.scheme() == "https" => {
            // An error only says that a provider is there already, which is as good.
            let _there = ring::default_provider().install_default();
            builder
        }
        (None, Address::Url(_) | Address::Socket(_)) => builder.tls_backend_preconfigured(no_tls()),
    };
    finish(builder, address)
}

fn finish(
    builder: reqwest::ClientBuilder,
    address: &Address,
) -> Result<reqwest::Client, reqwest::Error> {
    if address.is_loopback() {
        builder.no_proxy().build()
    } else {
        builder.build()
    }
}

/// A TLS configuration that trusts nobody: for connections that never speak it.
fn no_tls() -> ClientConfig {
    ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("ring speaks the default TLS versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_urls_or_sockets() {
        let join = |text: &str| text.parse::<Address>().unwrap().join("/v1/server");
        assert_eq!(
            join("http://127.0.0.1:9001"),
            "http://127.0.0.1:9001/v1/server"
        );
        assert_eq!(
            join("https://x.example/base/"),
            "https://x.example/base/v1/server"
        );
        assert_eq!(join("unix:/run/b.sock"), "http://localhost/v1/server");
        assert_eq!(
            "unix:///run/b.sock".parse(),
            Ok(Address::Socket("/run/b.sock".into()))
        );
        for bad in ["", "127.0.0.1:9001", "ftp://x", "unix:", "localhost"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn this_machine_needs_no_proxy() {
        let loopback = |text: &str| text.parse::<Address>().unwrap().is_loopback();
        assert!(loopback("http://127.0.0.1:9001"));
        assert!(loopback("http://[::1]:9001"));
        assert!(loopback("http://localhost"));
        assert!(!loopback("http://10.0.0.1"));
    }
}
