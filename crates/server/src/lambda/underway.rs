//! What the profile holds in memory: which functions are being changed, and the key that signs links.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use model::{Digest, FunctionId};
use ring::{hmac, rand::SystemRandom};

use super::{Kind, Refusal, arn_of};

/// The profile's memory.
pub(crate) struct Underway {
    changing: Arc<Mutex<BTreeSet<FunctionId>>>,
    /// Signs links that are good without a signature of AWS's; a restart makes another one. `None`: the system gave no
    /// random bytes, and no link is good.
    key: Option<hmac::Key>,
    /// Digest and size of the zip that is made of a bundle, for those that did not come as one.
    zips: Mutex<BTreeMap<Digest, (Digest, u64)>>,
}

/// Most zips that are remembered; past it all are forgotten, and made anew when somebody looks.
const ZIPS_MAX: usize = 10_000;

/// A function that is being changed, while this lives.
pub(crate) struct Changing {
    all: Arc<Mutex<BTreeSet<FunctionId>>>,
    id: FunctionId,
}

/// What is locked here is whole after every statement, so a panic elsewhere leaves it usable.
fn locked<T>(all: &Mutex<T>) -> MutexGuard<'_, T> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Underway {
    pub(crate) fn new() -> Underway {
        Underway {
            changing: Arc::default(),
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok(),
            zips: Mutex::default(),
        }
    }

    /// Whether somebody is changing the function.
    pub(crate) fn has(&self, id: &FunctionId) -> bool {
        locked(&self.changing).contains(id)
    }

    /// Keeps others from changing the function.
    ///
    /// # Errors
    /// Somebody is at it.
    pub(crate) fn begin(&self, id: &FunctionId, region: &str) -> Result<Changing, Refusal> {
        if locked(&self.changing).insert(id.clone()) {
            return Ok(Changing {
                all: self.changing.clone(),
                id: id.clone(),
            });
        }
        let arn = arn_of(region, id.name.as_str(), None);
        let message = format!(
            "The operation cannot be performed at this time. An update is in progress for resource: {arn}"
        );
        Err(Refusal::new(Kind::ResourceConflict, message))
    }

    /// Digest and size of the zip of a bundle, if one was made.
    pub(super) fn zip(&self, bundle: &Digest) -> Option<(Digest, u64)> {
        locked(&self.zips).get(bundle).copied()
    }

    /// Remembers digest and size of the zip of a bundle.
    pub(super) fn keep(&self, bundle: Digest, made: (Digest, u64)) {
        let mut zips = locked(&self.zips);
        if zips.len() >= ZIPS_MAX {
            zips.clear();
        }
        zips.insert(bundle, made);
    }

    /// The signature of a link, in hex.
    pub(crate) fn sign(&self, text: &str) -> String {
        let signed = self
            .key
            .as_ref()
            .map(|key| hmac::sign(key, text.as_bytes()));
        signed.map_or_else(String::new, hex::encode)
    }

    /// Whether a link was signed here.
    pub(crate) fn is_signed(&self, text: &str, signature: &str) -> bool {
        let (Some(key), Ok(bytes)) = (&self.key, hex::decode(signature)) else {
            return false;
        };
        hmac::verify(key, text.as_bytes(), &bytes).is_ok()
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        locked(&self.all).remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_change_of_a_function_at_a_time() {
        let underway = Underway::new();
        let id: FunctionId = "cart".parse().unwrap();
        let first = underway.begin(&id, "us-east-1").unwrap();
        let Err(refusal) = underway.begin(&id, "us-east-1") else {
            panic!("two changes at once");
        };
        assert_eq!(refusal.name(), "ResourceConflictException");
        assert!(
            refusal
                .message
                .ends_with("arn:aws:lambda:us-east-1:000000000000:function:cart")
        );
        assert!(
            underway
                .begin(&"other".parse().unwrap(), "us-east-1")
                .is_ok()
        );
        drop(first);
        assert!(!underway.has(&id));
    }

    #[test]
    fn a_link_is_good_as_it_was_signed_and_no_other() {
        let underway = Underway::new();
        let signature = underway.sign("/a?Expires=1");
        assert!(underway.is_signed("/a?Expires=1", &signature));
        assert!(!underway.is_signed("/a?Expires=2", &signature));
        assert!(!underway.is_signed("/a?Expires=1", ""));
        assert!(!Underway::new().is_signed("/a?Expires=1", &signature));
    }
}
