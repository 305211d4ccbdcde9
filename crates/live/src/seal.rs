//! Sealing: what crosses a channel of others is encrypted from end to end, and bound to its place in its attempt.
//! HKDF-SHA256 makes one key per session, attempt and direction; ChaCha20-Poly1305 seals with a random nonce each time.
//! A sealed payload is the nonce (12 bytes), the ciphertext and the tag (16 bytes). `spec/live/sealing.json` has samples.

use bytes::{Bytes, BytesMut};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Prk, Salt},
    rand::{SecureRandom, SystemRandom},
};

use crate::{
    frame::{Flags, Head, Kind, PAYLOAD_MAX, Part, UNNUMBERED},
    key::SealKey,
};

/// By so much a sealed payload is longer: its nonce and its tag.
pub const SEAL_OVERHEAD: usize = NONCE_LEN + 16;

/// Largest payload that still fits a frame once it is sealed.
pub const SEALABLE_MAX: usize = PAYLOAD_MAX - SEAL_OVERHEAD;

/// Which way a frame goes. Each way has keys of its own, so that nothing can be sent back as if it were an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the end that has invocations to the developer's.
    ToSession,
    /// From the developer's end.
    ToHost,
}

impl Direction {
    /// What derives its keys, besides the attempt.
    const fn label(self) -> &'static [u8] {
        match self {
            Direction::ToSession => b"bungee live 1 h2s",
            Direction::ToHost => b"bungee live 1 s2h",
        }
    }
}

/// A payload that was not sealed, or does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsealed {
    /// It came in the clear, where everything has to be sealed.
    #[error("a frame came unsealed, where everything has to be sealed")]
    Plain,
    /// Another key, another place, or a changed byte.
    #[error("a sealed frame does not open: another key sealed it, or it was changed on its way")]
    Broken,
    /// The system has none.
    #[error("the system gives no random bytes")]
    Chance,
    /// It does not fit a frame.
    #[error("a payload of {0} bytes is too large to be sealed; the limit is {SEALABLE_MAX}")]
    Long(usize),
}

/// Seals and opens the frames of one session.
pub struct Sealer {
    session: Prk,
    chance: SystemRandom,
}

impl Sealer {
    /// For the session of this id, as its Welcome and every Presence write it.
    pub fn new(key: &SealKey, session: &str) -> Sealer {
        Sealer {
            session: Salt::new(HKDF_SHA256, session.as_bytes()).extract(key.bytes()),
            chance: SystemRandom::new(),
        }
    }

    /// Whether a frame is one of those whose payload is sealed: all that belong to an attempt, but for bare numbers.
    pub fn covers(head: &Head) -> bool {
        head.kind.is_of_attempt() && (head.index != UNNUMBERED || head.kind == Kind::Log)
    }

    /// Seals a payload, and notes that in the head. Of the head nothing may change afterwards but `ack`, `window` and `peer`.
    ///
    /// # Errors
    /// [`Unsealed::Long`] and [`Unsealed::Chance`].
    pub fn seal(
        &self,
        direction: Direction,
        head: &mut Head,
        payload: &[u8],
    ) -> Result<Bytes, Unsealed> {
        let mut nonce = [0; NONCE_LEN];
        let filled = self.chance.fill(&mut nonce);
        filled.map_err(|_| Unsealed::Chance)?;
        self.seal_with(nonce, direction, head, payload)
    }

    fn seal_with(
        &self,
        nonce: [u8; NONCE_LEN],
        direction: Direction,
        head: &mut Head,
        payload: &[u8],
    ) -> Result<Bytes, Unsealed> {
        if payload.len() > SEALABLE_MAX {
            return Err(Unsealed::Long(payload.len()));
        }
        head.flags = head.flags.with(Flags::SEALED);
        let mut out = BytesMut::with_capacity(payload.len() + SEAL_OVERHEAD);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(payload);
        let tag = self
            .key(direction, head.of)?
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(head.sealed_part()),
                &mut out[NONCE_LEN..],
            )
            .map_err(|_| Unsealed::Long(payload.len()))?;
        out.extend_from_slice(tag.as_ref());
        Ok(out.freeze())
    }

    /// Opens the payload of a frame that came, whose head must be as it came too.
    ///
    /// # Errors
    /// [`Unsealed::Plain`] and [`Unsealed::Broken`]; such a frame is to be dropped.
    pub fn open(
        &self,
        direction: Direction,
        head: &Head,
        payload: &[u8],
    ) -> Result<Bytes, Unsealed> {
        if !head.flags.has(Flags::SEALED) {
            return Err(Unsealed::Plain);
        }
        let Some((nonce, sealed)) = payload.split_first_chunk::<NONCE_LEN>() else {
            return Err(Unsealed::Broken);
        };
        let mut room = BytesMut::from(sealed);
        let length = self
            .key(direction, head.of)?
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(head.sealed_part()),
                &mut room,
            )
            .map_err(|_| Unsealed::Broken)?
            .len();
        room.truncate(length);
        Ok(room.freeze())
    }

    /// The key of one attempt and one direction.
    fn key(&self, direction: Direction, of: Part) -> Result<LessSafeKey, Unsealed> {
        let attempt = of.attempt.to_be_bytes();
        let info = [direction.label(), of.id.0.as_bytes(), &attempt[..]];
        // It fails only for keys that are longer than this cipher's.
        let key = self.session.expand(&info, &CHACHA20_POLY1305);
        key.map(|key| LessSafeKey::new(UnboundKey::from(key)))
            .map_err(|_| Unsealed::Broken)
    }
}

#[cfg(test)]
mod tests;
