//! `BUNGEE_KEY`: what a bridge or a laptop holds. Its token says who he is, its seal key is never sent anywhere.
//! `bk1.<token>.<seal key, base64url>.<end, Unix seconds, 0 for none>.<extras, base64url of JSON, or nothing>`.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// How every key of this form begins.
const PREFIX: &str = "bk1";

/// Longest key that is read. An environment of Lambda holds 4 KiB, all variables together.
const KEY_MAX: usize = 4096;

/// What is in `BUNGEE_KEY`. No error and no debug output ever shows a secret of it.
#[derive(Clone, PartialEq, Eq)]
pub struct ChannelKey {
    token: Zeroizing<String>,
    /// What payloads are sealed with.
    pub seal: SealKey,
    /// From then on it is worth nothing, in Unix seconds; `None`: never.
    pub ends: Option<u64>,
    /// What else whoever made it wrote down, by name.
    pub extras: Map<String, Value>,
}

/// The 32 bytes from which every sealing key is derived. Both ends have it, and no channel.
#[derive(Clone, PartialEq, Eq)]
pub struct SealKey(Zeroizing<[u8; 32]>);

/// A text that is no key, or one that is over. Says which part is wrong, and nothing of what stands there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It does not begin as a key does.
    #[error("this is no key: one begins with `bk1.`")]
    NoKey,
    /// A later form of it.
    #[error("this key is of a later form than this program knows; it reads `bk1`")]
    Later,
    /// Longer than any key.
    #[error("this is no key: it has {0} bytes, the longest has {KEY_MAX}")]
    Long(usize),
    /// It was cut off, or two were put together.
    #[error("this key has {0} parts, and should have 5: was it copied whole?")]
    Parts(usize),
    /// No token, or one that no header can carry.
    #[error("the key's token (its 2nd part) is empty or holds characters that no token has")]
    Token,
    /// Not 32 bytes in base64url.
    #[error("the key's seal key (its 3rd part) is not 32 bytes in base64url: was it copied whole?")]
    Seal,
    /// Not a number of seconds.
    #[error("the key's end (its 4th part) is no Unix time in seconds; 0 stands for never")]
    Ends,
    /// Not a JSON object in base64url.
    #[error("the key's extras (its 5th part) are no JSON object in base64url")]
    Extras,
    /// Its time is over.
    #[error("the key ended {} ago", ago(*.0))]
    Over(u64),
    /// The system has none.
    #[error("the system gives no random bytes")]
    Chance,
}

impl KeyError {
    /// The next step.
    pub fn hint(&self) -> &'static str {
        match self {
            KeyError::Later => "update this program",
            KeyError::Chance => "try again",
            KeyError::Over(_) => "make a new one: `bungee token create --role bridge`",
            _ => "`bungee token create --role bridge` prints one, to be copied whole",
        }
    }
}

/// A span in the largest unit that it fills, as people say it.
fn ago(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..120 => (seconds, "s"),
        120..7_200 => (seconds / 60, "min"),
        7_200..172_800 => (seconds / 3_600, "h"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{count} {unit}")
}

impl ChannelKey {
    /// A key for a token, with a new seal key. It ends at `ends` Unix seconds.
    ///
    /// # Errors
    /// The token cannot be part of a key, or the system has no random bytes.
    pub fn make(token: &str, ends: Option<u64>) -> Result<ChannelKey, KeyError> {
        Ok(ChannelKey {
            token: read_token(token)?,
            seal: SealKey::random()?,
            ends: ends.filter(|ends| *ends > 0),
            extras: Map::new(),
        })
    }

    /// The only part that is sent to anybody.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The whole key as text, to be shown once.
    pub fn to_text(&self) -> Zeroizing<String> {
        let seal = Zeroizing::new(URL_SAFE_NO_PAD.encode(*self.seal.0));
        let extras = if self.extras.is_empty() {
            String::new()
        } else {
            URL_SAFE_NO_PAD.encode(Value::Object(self.extras.clone()).to_string())
        };
        let ends = self.ends.unwrap_or(0);
        Zeroizing::new(format!(
            "{PREFIX}.{}.{}.{ends}.{extras}",
            *self.token, *seal
        ))
    }

    /// Refuses a key whose time is over at `now`, in Unix seconds.
    ///
    /// # Errors
    /// [`KeyError::Over`].
    pub fn check(&self, now: u64) -> Result<(), KeyError> {
        match self.ends {
            Some(ends) if ends <= now => Err(KeyError::Over(now - ends)),
            Some(_) | None => Ok(()),
        }
    }
}

impl FromStr for ChannelKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<ChannelKey, KeyError> {
        // What was pasted often has a line end.
        let text = text.trim();
        let (first, rest) = text.split_once('.').ok_or(KeyError::NoKey)?;
        match first.strip_prefix("bk").map(str::parse::<u32>) {
            Some(Ok(1)) if first == PREFIX => {}
            Some(Ok(2..)) => return Err(KeyError::Later),
            Some(_) | None => return Err(KeyError::NoKey),
        }
        if text.len() > KEY_MAX {
            return Err(KeyError::Long(text.len()));
        }
        let parts: Vec<&str> = rest.split('.').collect();
        let [token, seal, ends, extras] = parts[..] else {
            return Err(KeyError::Parts(parts.len() + 1));
        };
        let is_number = !ends.is_empty() && ends.bytes().all(|byte| byte.is_ascii_digit());
        let ends = ends.parse().ok().filter(|_: &u64| is_number);
        Ok(ChannelKey {
            token: read_token(token)?,
            seal: SealKey::read(seal)?,
            ends: Some(ends.ok_or(KeyError::Ends)?).filter(|ends| *ends > 0),
            extras: read_extras(extras)?,
        })
    }
}

fn read_token(text: &str) -> Result<Zeroizing<String>, KeyError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if text.is_empty() || !text.bytes().all(is_plain) {
        return Err(KeyError::Token);
    }
    Ok(Zeroizing::new(text.to_owned()))
}

fn read_extras(text: &str) -> Result<Map<String, Value>, KeyError> {
    if text.is_empty() {
        return Ok(Map::new());
    }
    let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Extras)?;
    serde_json::from_slice(&json).map_err(|_| KeyError::Extras)
}

impl SealKey {
    /// From its 32 bytes.
    pub fn new(bytes: [u8; 32]) -> SealKey {
        SealKey(Zeroizing::new(bytes))
    }

    /// A new one, out of the system's generator.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn random() -> Result<SealKey, KeyError> {
        let mut bytes = Zeroizing::new([0; 32]);
        SystemRandom::new()
            .fill(&mut *bytes)
            .map_err(|_| KeyError::Chance)?;
        Ok(SealKey(bytes))
    }

    fn read(text: &str) -> Result<SealKey, KeyError> {
        let mut bytes = Zeroizing::new([0; 32]);
        // The estimate of the decoder is larger than what comes out.
        let mut room = Zeroizing::new([0; 36]);
        let length = URL_SAFE_NO_PAD
            .decode_slice(text, &mut *room)
            .map_err(|_| KeyError::Seal)?;
        if length != bytes.len() {
            return Err(KeyError::Seal);
        }
        bytes.copy_from_slice(&room[..length]);
        Ok(SealKey(bytes))
    }

    /// Tells keys apart and gives none away: the first eight hex digits of its SHA-256.
    pub fn name(&self) -> String {
        let hash = digest(&SHA256, &*self.0);
        hash.as_ref()[..4]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKey({})", self.name())
    }
}

impl fmt::Debug for ChannelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelKey")
            .field("seal", &self.seal)
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "bgt_c2VjcmV0LXNlY3JldA";
    /// Of 32 bytes of 7.
    const SEAL: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";

    fn read(text: &str) -> Result<ChannelKey, KeyError> {
        text.parse()
    }

    #[test]
    fn a_key_is_read_back_as_it_was_made() {
        let mut key = ChannelKey::make(TOKEN, Some(1_800_000_000)).unwrap();
        key.extras.insert("function".into(), "shop/orders".into());
        let text = key.to_text();
        assert_eq!(read(&text).unwrap(), key);
        assert_eq!(read(&format!("  {}\n", *text)).unwrap(), key);
        assert_eq!(text.split('.').count(), 5);
        assert_ne!(key.seal, ChannelKey::make(TOKEN, None).unwrap().seal);
    }

    #[test]
    fn a_known_key_says_what_is_in_it() {
        let key = read(&format!("bk1.{TOKEN}.{SEAL}.0.")).unwrap();
        assert_eq!((key.token(), key.ends, key.extras.len()), (TOKEN, None, 0));
        assert_eq!(key.seal, SealKey::new([7; 32]));
        assert_eq!(key.seal.name(), "4bb06f8e");
        assert_eq!(key.check(u64::MAX), Ok(()));
    }

    #[test]
    fn a_key_is_worth_nothing_from_its_end_on() {
        let key = read(&format!("bk1.{TOKEN}.{SEAL}.1000.e30")).unwrap();
        assert_eq!(key.check(999), Ok(()));
        let over = key.check(1_000 + 7_200).unwrap_err();
        assert_eq!(over.to_string(), "the key ended 2 h ago");
    }

    #[test]
    fn what_is_wrong_is_named_and_never_shown() {
        let good = |token: &str, seal: &str, ends: &str, extras: &str| {
            format!("bk1.{token}.{seal}.{ends}.{extras}")
        };
        for (text, error) in [
            (String::new(), KeyError::NoKey),
            (TOKEN.into(), KeyError::NoKey),
            (
                format!("bk1{}", &good(TOKEN, SEAL, "0", "")[3..]).replace("bk1", "bk"),
                KeyError::NoKey,
            ),
            (
                good(TOKEN, SEAL, "0", "").replace("bk1", "bk01"),
                KeyError::NoKey,
            ),
            (
                good(TOKEN, SEAL, "0", "").replace("bk1", "bk2"),
                KeyError::Later,
            ),
            (format!("bk1.{TOKEN}.{SEAL}"), KeyError::Parts(3)),
            (good(TOKEN, SEAL, "0", "e30.x"), KeyError::Parts(6)),
            (good("", SEAL, "0", ""), KeyError::Token),
            (good("bgt_ä", SEAL, "0", ""), KeyError::Token),
            (good(TOKEN, &SEAL[1..], "0", ""), KeyError::Seal),
            (good(TOKEN, &format!("{SEAL}A"), "0", ""), KeyError::Seal),
            (good(TOKEN, &SEAL.repeat(2), "0", ""), KeyError::Seal),
            (good(TOKEN, SEAL, "", ""), KeyError::Ends),
            (good(TOKEN, SEAL, "+5", ""), KeyError::Ends),
            (good(TOKEN, SEAL, "0", "e3"), KeyError::Extras),
            (good(TOKEN, SEAL, "0", "W10"), KeyError::Extras),
            (
                good(TOKEN, SEAL, "0", &"A".repeat(5000)),
                KeyError::Long(5067 + 5),
            ),
        ] {
            let got = read(&text).unwrap_err();
            match (&got, &error) {
                (KeyError::Long(_), KeyError::Long(_)) => {}
                _ => assert_eq!(got, error, "{text}"),
            }
            let said = format!("{got} {got:?} {}", got.hint());
            assert!(!said.contains("bgt_") && !said.contains("BwcH"), "{said}");
        }
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let said = format!("{:?}", read(&format!("bk1.{TOKEN}.{SEAL}.0.")).unwrap());
        assert_eq!(
            said,
            "ChannelKey { seal: SealKey(4bb06f8e), ends: None, .. }"
        );
    }
}
