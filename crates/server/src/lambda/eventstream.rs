//! Frames of `application/vnd.amazon.eventstream`: lengths, headers, payload, and a checksum over each part.

use bytes::{BufMut, Bytes, BytesMut};

/// The content type of a body of such frames.
pub(crate) const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

/// Largest payload of one frame; AWS's clients take sixteen times as much.
pub(crate) const PAYLOAD_MAX: usize = 1 << 20;

/// The type of a header's value that is a text.
const TEXT: u8 = 7;

/// Bytes around headers and payload: two lengths and their checksum, and the checksum of all.
const AROUND: usize = 16;

/// One frame of this event type.
pub(crate) fn frame(event: &str, content_type: &str, payload: &[u8]) -> Bytes {
    let mut headers = BytesMut::new();
    for (name, value) in [
        (":message-type", "event"),
        (":event-type", event),
        (":content-type", content_type),
    ] {
        // Names and values are ours, and short.
        headers.put_u8(name.len() as u8);
        headers.put_slice(name.as_bytes());
        headers.put_u8(TEXT);
        headers.put_u16(value.len() as u16);
        headers.put_slice(value.as_bytes());
    }
    let length = headers.len() + payload.len() + AROUND;
    let mut frame = BytesMut::with_capacity(length);
    frame.put_u32(length as u32);
    frame.put_u32(headers.len() as u32);
    frame.put_u32(crc32fast::hash(&frame));
    frame.put_slice(&headers);
    frame.put_slice(payload);
    frame.put_u32(crc32fast::hash(&frame));
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with botocore's own decoder in mind: the bytes of a frame that it reads.
    #[test]
    fn a_frame_says_its_lengths_and_sums() {
        let frame = frame("PayloadChunk", "application/octet-stream", b"hello");
        let word = |at: usize| {
            let bytes = frame[at..at + 4].try_into().unwrap();
            u32::from_be_bytes(bytes)
        };
        let end = frame.len() - 4;
        assert_eq!(word(0) as usize, frame.len());
        assert_eq!(word(8), crc32fast::hash(&frame[..8]));
        assert_eq!(word(end), crc32fast::hash(&frame[..end]));
        let headers = &frame[12..12 + word(4) as usize];
        assert_eq!(&headers[..15], b"\x0d:message-type\x07");
        assert_eq!(&frame[12 + headers.len()..end], b"hello");
    }
}
