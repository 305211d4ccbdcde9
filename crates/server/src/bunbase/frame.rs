//! Where frames of the BunBase socket begin and end, and what they are written as. Knows no command and no function.
//!
//! ```text
//! u32 length of all that follows | u64 request id | u8 command or status | u32 length of the payload | payload, JSON
//! ```
//! All numbers are little-endian.

use bytes::{Buf, Bytes, BytesMut};
use model::{ErrorType, Failure};
use serde::Serialize;

/// Most bytes behind the first number, as BunBase's own clients hold it. So the fourth byte of a frame is 0 or 1, which no
/// HTTP method has there.
pub(crate) const FRAME_MAX: u32 = 16 << 20;

/// The number that counts the rest.
const LENGTH: usize = 4;

/// Id, command and length of the payload.
const HEAD: usize = 13;

/// Answered, and the payload is the answer.
const OK: u8 = 0;

/// Refused, and the payload says why.
const REFUSED: u8 = 1;

/// What one frame asks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// By which the client knows the answer.
    pub id: u64,
    pub command: u8,
    pub payload: Bytes,
}

/// What stands at the beginning of the bytes that came.
#[derive(Debug)]
pub(crate) enum Next {
    /// A whole frame, which has been taken out.
    Frame(Asked),
    /// A frame that contradicts itself; it has been taken out, and the next one can be read.
    Odd(u64, Failure),
    /// The beginning of a frame, or nothing.
    More,
    /// What is no frame; where the next one begins is not known.
    Broken(u64, Failure),
}

/// Takes the next frame out of what came.
pub(crate) fn next(came: &mut BytesMut) -> Next {
    let Some(length) = number(came, 0) else {
        return Next::More;
    };
    if length > FRAME_MAX {
        return Next::Broken(id(came).unwrap_or(0), too_long(length));
    }
    let rest = length as usize;
    if came.len() < LENGTH + rest {
        return Next::More;
    }
    if rest < HEAD {
        came.advance(LENGTH + rest);
        let message = format!("a frame of {rest} bytes has no room for its head of {HEAD}");
        return Next::Odd(0, Failure::new(ErrorType::BadRequest, message));
    }
    let mut frame = came.split_to(LENGTH + rest).freeze();
    frame.advance(LENGTH);
    let (id, command, payload) = (frame.get_u64_le(), frame.get_u8(), frame.get_u32_le());
    if payload as usize != frame.len() {
        let message = format!(
            "the frame has room for {} bytes of payload, and announces {payload}",
            frame.len()
        );
        return Next::Odd(id, Failure::new(ErrorType::BadRequest, message));
    }
    Next::Frame(Asked {
        id,
        command,
        payload: frame,
    })
}

/// Bytes of the frame that stands at the beginning, once its length has come.
pub(crate) fn announced(came: &[u8]) -> Option<usize> {
    let length = number(came, 0).filter(|length| *length <= FRAME_MAX)?;
    Some(LENGTH + length as usize)
}

fn number(came: &[u8], at: usize) -> Option<u32> {
    let bytes = came.get(at..at + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn id(came: &[u8]) -> Option<u64> {
    let bytes = came.get(LENGTH..LENGTH + 8)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

fn too_long(length: u32) -> Failure {
    let message =
        format!("a frame announces {length} bytes, and may have {FRAME_MAX} behind its length");
    let failure = Failure::new(ErrorType::PayloadTooLarge, message);
    // Four characters, read as a number.
    if length
        .to_le_bytes()
        .iter()
        .all(|byte| byte.is_ascii_graphic() || *byte == b' ')
    {
        return failure.hint("this looks like text, such as HTTP, which is spoken at `--listen`");
    }
    failure
}

/// The answer that was asked for.
pub(crate) fn answer(id: u64, answer: &impl Serialize) -> Vec<u8> {
    match framed(id, OK, answer) {
        Some(frame) => frame,
        None => refusal(id, &past_the_frame()),
    }
}

/// The refusal of a request.
pub(crate) fn refusal(id: u64, failure: &Failure) -> Vec<u8> {
    framed(id, REFUSED, &super::Refusal::of(failure)).unwrap_or_default()
}

/// The frame, if it is no longer than frames may be.
fn framed(id: u64, status: u8, payload: &impl Serialize) -> Option<Vec<u8>> {
    let mut frame = Vec::with_capacity(512);
    frame.extend_from_slice(&[0; LENGTH]);
    frame.extend_from_slice(&id.to_le_bytes());
    frame.push(status);
    frame.extend_from_slice(&[0; 4]);
    serde_json::to_writer(&mut frame, payload).ok()?;
    let rest = u32::try_from(frame.len() - LENGTH).ok()?;
    let payload = u32::try_from(frame.len() - LENGTH - HEAD).ok()?;
    if rest > FRAME_MAX {
        return None;
    }
    frame[..LENGTH].copy_from_slice(&rest.to_le_bytes());
    frame[LENGTH + HEAD - 4..LENGTH + HEAD].copy_from_slice(&payload.to_le_bytes());
    Some(frame)
}

fn past_the_frame() -> Failure {
    let message = format!("the answer is longer than a frame, which may have {FRAME_MAX} bytes");
    Failure::new(ErrorType::PayloadTooLarge, message).hint("ask for less, or over HTTP")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bytes(length: u32, id: u64, command: u8, announced: u32, payload: &[u8]) -> BytesMut {
        let mut frame = BytesMut::new();
        frame.extend_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(&id.to_le_bytes());
        frame.extend_from_slice(&[command]);
        frame.extend_from_slice(&announced.to_le_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn frames_are_read_however_they_are_cut() {
        let whole = [bytes(15, 7, 1, 2, b"{}"), bytes(13, u64::MAX, 5, 0, b"")];
        let all: Vec<u8> = whole.iter().flatten().copied().collect();
        for size in 1..=all.len() {
            let mut came = BytesMut::new();
            let mut read = Vec::new();
            for piece in all.chunks(size) {
                came.extend_from_slice(piece);
                while let Next::Frame(asked) = next(&mut came) {
                    read.push((asked.id, asked.command, asked.payload.to_vec()));
                }
            }
            assert_eq!(read, [(7, 1, b"{}".to_vec()), (u64::MAX, 5, Vec::new())]);
            assert!(came.is_empty());
        }
    }

    #[test]
    fn what_is_no_frame_is_told_from_what_only_contradicts_itself() {
        let broken = |length: u32| match next(&mut bytes(length, 9, 1, 0, b"")) {
            Next::Broken(id, failure) => (id, failure),
            other => panic!("{other:?}"),
        };
        assert_eq!(broken(u32::MAX).1.error_type, ErrorType::PayloadTooLarge);
        assert_eq!(broken(FRAME_MAX + 1).0, 9);
        let http = broken(u32::from_le_bytes(*b"GET "));
        assert!(http.1.hint.is_some());
        assert!(broken(u32::from_le_bytes(*b"POST")).1.hint.is_some());
        let mut odd = bytes(15, 3, 1, 99, b"{}");
        odd.extend_from_slice(&bytes(13, 4, 1, 0, b""));
        assert!(matches!(next(&mut odd), Next::Odd(3, _)));
        assert!(matches!(next(&mut odd), Next::Frame(Asked { id: 4, .. })));
        assert!(matches!(next(&mut odd), Next::More));
        let mut short = BytesMut::from(&b"\x05\0\0\0abcd"[..]);
        assert!(matches!(next(&mut short), Next::More));
        short.extend_from_slice(b"e\0\0\0\0");
        short.extend_from_slice(&bytes(13, 4, 1, 0, b""));
        assert!(matches!(next(&mut short), Next::Odd(0, _)));
        assert!(matches!(next(&mut short), Next::Odd(0, _)));
        assert!(matches!(next(&mut short), Next::Frame(Asked { id: 4, .. })));
    }

    #[test]
    fn an_answer_reads_as_it_was_written() {
        let mut came = BytesMut::from(&answer(5, &json!({"a": 1}))[..]);
        let Next::Frame(read) = next(&mut came) else {
            panic!("no frame");
        };
        assert_eq!((read.id, read.command), (5, OK));
        assert_eq!(&read.payload[..], br#"{"a":1}"#);
        let long = "x".repeat(FRAME_MAX as usize);
        let refused = answer(6, &long);
        assert_eq!(refused[12], REFUSED);
        assert!(String::from_utf8_lossy(&refused).contains("longer than a frame"));
    }
}
