//! The way to a channel: the key that seals what crosses it, and where nobody may read along.

use laptop::remote::{ChannelKey, KeyError};
use model::Clock;
use server::SystemClock;

use crate::{
    exit::{Complaint, Exit, Stop},
    system,
};

/// What is known of the way to another machine.
pub struct Way<'a> {
    /// Where to, as it was typed.
    pub url: &'a str,
    /// A server's own channel, and not one of others.
    pub is_server: bool,
    /// The connection itself is not encrypted.
    pub is_plain: bool,
    /// There is a key.
    pub has_key: bool,
    /// `--insecure` was said.
    pub insecure: bool,
}

/// The key in `BUNGEE_KEY`, if there is one. Nothing that is said of it shows any of it.
///
/// # Errors
/// It is none, or its time is over.
pub fn key() -> Result<Option<ChannelKey>, Stop> {
    let Some(text) = system::channel_key() else {
        return Ok(None);
    };
    let now = u64::try_from(SystemClock.now().0 / 1000).unwrap_or(0);
    let key: Result<ChannelKey, KeyError> = text.parse();
    let key = key.and_then(|key| key.check(now).map(|()| key));
    key.map(Some).map_err(|error| {
        let message = format!("BUNGEE_KEY does not hold: {error}");
        let complaint = Complaint::new(Exit::Configuration, message);
        complaint.hint(error.hint()).into()
    })
}

impl Way<'_> {
    /// Refuses a way on which somebody would read along.
    ///
    /// # Errors
    /// See there.
    pub fn check(&self) -> Result<(), Stop> {
        let url = self.url;
        let is_sealed = self.has_key && !self.is_server;
        if !self.is_server && !is_sealed {
            let message = format!(
                "`{url}` is a channel of others, and without a key nothing seals what would cross it; only a loopback ws:// may go unsealed"
            );
            let hint =
                "set BUNGEE_KEY to that of its bridges, or attach to a server itself with https://";
            return Err(Complaint::new(Exit::Refused, message).hint(hint).into());
        }
        if !self.is_plain || self.insecure {
            return Ok(());
        }
        let (what, secure) = match is_sealed {
            true => ("the token would cross the network in the clear", "wss://"),
            false => (
                "payloads and the token would cross the network in the clear",
                "https://",
            ),
        };
        let message = format!("`{url}` is not encrypted: {what}");
        let hint = format!("use {secure}, or say `--insecure` where the network itself is private");
        Err(Complaint::new(Exit::Refused, message).hint(hint).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said against a way; empty: nothing.
    fn said(url: &str, has_key: bool, insecure: bool) -> String {
        let (scheme, _) = url.split_once("://").unwrap();
        let way = Way {
            url,
            is_server: scheme.starts_with("http"),
            is_plain: !scheme.ends_with('s') || scheme == "ws",
            has_key,
            insecure,
        };
        match way.check() {
            Ok(()) => String::new(),
            Err(Stop::Complaint(complaint)) => complaint.message,
            Err(Stop::BrokenPipe) => unreachable!(),
        }
    }

    #[test]
    fn a_channel_of_others_needs_a_key_whatever_else_is_said() {
        for url in ["ws://relay:24193", "wss://relay"] {
            for insecure in [false, true] {
                let said = said(url, false, insecure);
                assert!(
                    said.contains("only a loopback ws:// may go unsealed"),
                    "{said}"
                );
            }
        }
        assert_eq!(said("wss://relay", true, false), "");
    }

    #[test]
    fn nothing_secret_crosses_in_the_clear_unless_that_is_said() {
        let sealed = said("ws://relay:24193", true, false);
        assert!(sealed.contains(": the token would cross"), "{sealed}");
        assert_eq!(said("ws://relay:24193", true, true), "");
        // A server's own invocations are not sealed, key or no key.
        for has_key in [false, true] {
            let plain = said("http://server", has_key, false);
            assert!(plain.contains("payloads and the token"), "{plain}");
            assert_eq!(said("http://server", has_key, true), "");
            assert_eq!(said("https://server", has_key, false), "");
        }
    }
}
