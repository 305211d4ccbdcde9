//! The guard of an open server or relay: only programs of this machine may use it, never a web page or a proxy.
//! Looks at headers only; whether it is open at all is decided elsewhere.

use std::net::IpAddr;

use http::{HeaderMap, Uri, header};
use model::{ErrorType, Failure};

/// Headers that a proxy adds; the caller behind it is somebody else.
const PROXY_HEADERS: [&str; 2] = ["forwarded", "via"];

/// Refuses a request that does not look like one of a local program.
pub(crate) fn check(headers: &HeaderMap, uri: &Uri) -> Result<(), Failure> {
    let Some(why) = why_not_local(headers, uri) else {
        return Ok(());
    };
    let message =
        format!("this server has no token and is open to local programs only; refused, for {why}");
    Err(Failure::new(ErrorType::Forbidden, message).hint(
        "create a token with `bungee token create --role admin`, and serve with `--require-token` behind a proxy",
    ))
}

/// Why a request does not look like one of a local program; nothing if it does.
pub(crate) fn why_not_local(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    Some(if headers.contains_key(header::ORIGIN) {
        "it has an `Origin` header: it comes from a web page".to_owned()
    } else if let Some(site) = headers
        .get("sec-fetch-site")
        .filter(|site| site.as_bytes() != b"none")
    {
        format!("its `Sec-Fetch-Site` is {site:?}: it comes from a web page")
    } else if let Some(name) = proxy_header(headers) {
        format!("it has the header `{name}`: it comes through a proxy")
    } else if let Some(host) = foreign_host(headers, uri) {
        format!("its `Host` is `{host}`, which is not this machine")
    } else {
        return None;
    })
}

fn proxy_header(headers: &HeaderMap) -> Option<&str> {
    headers
        .keys()
        .map(header::HeaderName::as_str)
        .find(|name| PROXY_HEADERS.contains(name) || name.starts_with("x-forwarded-"))
}

/// The first host named by the request that is not loopback. A request without any host comes from no browser.
fn foreign_host(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let from_headers = headers
        .get_all(header::HOST)
        .iter()
        .map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    let from_uri = uri.authority().map(|authority| authority.to_string());
    from_headers
        .chain(from_uri)
        .find(|host| !is_loopback_host(host))
}

/// Whether `localhost`, an address in 127.0.0.0/8, or `[::1]`, with or without a port.
fn is_loopback_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    };
    if !port.bytes().all(|b| b.is_ascii_digit()) {
        return false;
    }
    if let Some(address) = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
        return address
            .parse::<std::net::Ipv6Addr>()
            .is_ok_and(|a| a.is_loopback());
    }
    let bare = name.strip_suffix('.').unwrap_or(name);
    bare.eq_ignore_ascii_case("localhost")
        || matches!(name.parse::<IpAddr>(), Ok(IpAddr::V4(address)) if address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(headers: &[(&'static str, &str)]) -> Result<(), Failure> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        check(&map, &Uri::from_static("/v1/server"))
    }

    #[test]
    fn local_programs_pass() {
        for host in [
            "localhost:9001",
            "127.0.0.1:9001",
            "127.8.0.1",
            "[::1]:9001",
            "[::1]",
            "LOCALHOST",
        ] {
            assert_eq!(verdict(&[("host", host)]), Ok(()), "{host}");
        }
        assert_eq!(
            verdict(&[("host", "localhost"), ("sec-fetch-site", "none")]),
            Ok(())
        );
        assert_eq!(verdict(&[]), Ok(()));
    }

    #[test]
    fn web_pages_proxies_and_rebound_names_are_refused() {
        let local = ("host", "127.0.0.1:9001");
        for bad in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-origin"),
            ("forwarded", "for=1.2.3.4"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-anything", "x"),
            ("via", "1.1 proxy"),
            ("host", "evil.example"),
        ] {
            let refused = verdict(&[local, bad]).unwrap_err();
            assert_eq!(refused.error_type, ErrorType::Forbidden, "{bad:?}");
        }
        for host in [
            "evil.example:9001",
            "127.0.0.1.evil.example",
            "0.0.0.0:9001",
            "[::]:9001",
            "127.0.0.1:80:x",
            "192.168.1.2",
            "::1",
        ] {
            assert!(verdict(&[("host", host)]).is_err(), "{host}");
        }
    }

    #[test]
    fn an_absolute_target_counts_as_a_host() {
        let uri = Uri::from_static("http://evil.example/v1/server");
        assert!(check(&HeaderMap::new(), &uri).is_err());
    }
}
