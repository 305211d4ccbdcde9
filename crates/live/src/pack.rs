//! Packing: a message is compressed (DEFLATE, RFC 1951) where that pays, before it is cut into frames and sealed.
//! What it grows to again is limited, whatever it claims.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};

/// Smaller messages cross in one packet anyway.
const PACK_MIN: usize = 1024;

/// A tenth must be saved, or the time that it takes is lost.
const PAYS: (usize, usize) = (9, 10);

/// A message that cannot be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unpackable {
    /// It would grow beyond what a message may have.
    #[error("a compressed message grows beyond the limit of {0} bytes")]
    Long(usize),
    /// It is no DEFLATE, or was cut off.
    #[error("a compressed message cannot be read")]
    Broken,
}

/// The message in fewer bytes, if that is at least a tenth fewer.
pub fn pack(message: &[u8]) -> Option<Bytes> {
    if message.len() <= PACK_MIN {
        return None;
    }
    let room = message.len() / PAYS.1 * PAYS.0;
    // The fast level: a laptop's connection is rarely slower than the better ones are.
    let mut packed = DeflateEncoder::new(Vec::with_capacity(room), Compression::fast());
    for piece in message.chunks(64 << 10) {
        packed.write_all(piece).ok()?;
        // What does not shrink is given up early.
        if packed.get_ref().len() >= room {
            return None;
        }
    }
    let packed = packed.finish().ok()?;
    (packed.len() < room).then(|| packed.into())
}

/// The message that was packed, if it has at most `most` bytes.
///
/// # Errors
/// See [`Unpackable`].
pub fn unpack(packed: &[u8], most: usize) -> Result<Bytes, Unpackable> {
    let mut message = Vec::with_capacity(packed.len().saturating_mul(2).min(most));
    let mut reader = DeflateDecoder::new(packed);
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let read = reader.by_ref().take(limit).read_to_end(&mut message);
    read.map_err(|_| Unpackable::Broken)?;
    if message.len() > most {
        return Err(Unpackable::Long(most));
    }
    // What stands behind the end belongs to no message.
    if reader.total_in() != packed.len() as u64 {
        return Err(Unpackable::Broken);
    }
    Ok(message.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shrinks_is_packed_and_comes_back_whole() {
        let message = r#"{"name":"value"},"#.repeat(10_000);
        let packed = pack(message.as_bytes()).unwrap();
        assert!(packed.len() * 20 < message.len(), "{}", packed.len());
        assert_eq!(unpack(&packed, message.len()).unwrap(), message.as_bytes());
    }

    #[test]
    fn what_is_small_or_does_not_shrink_stays_as_it_is() {
        assert_eq!(pack(&[0; PACK_MIN]), None);
        assert!(pack(&[0; PACK_MIN + 1]).is_some());
        let mut state = 1_u64;
        let noise: Vec<u8> = (0..200_000)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        assert_eq!(pack(&noise), None);
    }

    #[test]
    fn a_bomb_is_refused_at_its_limit() {
        let packed = pack(&vec![0; 64 << 20]).unwrap();
        assert!(packed.len() < 1 << 20);
        assert_eq!(unpack(&packed, 1 << 20), Err(Unpackable::Long(1 << 20)));
        assert_eq!(
            unpack(&packed, (64 << 20) - 1),
            Err(Unpackable::Long((64 << 20) - 1))
        );
        assert!(unpack(&packed, 64 << 20).is_ok());
    }

    #[test]
    fn what_is_cut_off_or_followed_by_more_is_broken() {
        let packed = pack("words and words ".repeat(500).as_bytes()).unwrap();
        for length in 0..packed.len() {
            assert_eq!(
                unpack(&packed[..length], 1 << 20),
                Err(Unpackable::Broken),
                "{length}"
            );
        }
        let more = [&packed[..], b"x"].concat();
        assert_eq!(unpack(&more, 1 << 20), Err(Unpackable::Broken));
        assert_eq!(unpack(&[0xff; 64], 1 << 20), Err(Unpackable::Broken));
    }
}
