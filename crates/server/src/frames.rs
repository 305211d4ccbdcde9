//! Where WebSocket frames begin and end in a stream of bytes (RFC 6455 5.2), and with which code it closes.
//! Looks at heads only: masks, extensions and payloads pass unread, but for the code of a close.

/// The longest head: two bytes, eight of length, four of mask.
const HEAD_MAX: usize = 14;

/// The operation of a close.
const CLOSE: u8 = 8;

/// The code of a close that gives none (RFC 6455 7.1.5).
pub(crate) const NO_CODE: u16 = 1005;

/// The code of a side that goes away.
pub(crate) const GOING_AWAY: u16 = 1001;

/// The code of a handler that failed.
pub(crate) const HANDLER_FAILED: u16 = 1011;

/// Follows one direction of a socket.
#[derive(Default)]
pub(crate) struct Frames {
    head: [u8; HEAD_MAX],
    /// Bytes of the head that have come; 0 between frames and within a payload.
    have: usize,
    /// Bytes of the payload that are still to come.
    left: u64,
    /// While a close is read: its first bytes, as far as they have come, and the mask.
    closing: Option<(Vec<u8>, [u8; 4])>,
    closed: Option<u16>,
}

impl Frames {
    /// Follows more bytes; tells after how many of them the last whole frame ends, if any ends there.
    pub(crate) fn see(&mut self, bytes: &[u8]) -> Option<usize> {
        let (mut at, mut boundary) = (0, None);
        while at < bytes.len() {
            if self.left == 0 {
                self.head[self.have] = bytes[at];
                self.have += 1;
                at += 1;
                self.begin();
            } else {
                let count =
                    (bytes.len() - at).min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.pay(&bytes[at..at + count]);
                at += count;
            }
            if self.is_between() {
                boundary = Some(at);
            }
        }
        boundary
    }

    /// Whether no frame has begun that has not ended.
    pub(crate) fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// The code of the close that has passed, if one has.
    pub(crate) fn closed(&self) -> Option<u16> {
        self.closed
    }

    /// Begins the payload, if the head is whole.
    fn begin(&mut self) {
        let head = &self.head[..self.have];
        let [first, second, ..] = *head else {
            return;
        };
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let is_masked = second & 0x80 != 0;
        if head.len() < 2 + extended + if is_masked { 4 } else { 0 } {
            return;
        }
        self.left = match extended {
            0 => u64::from(second & 0x7f),
            _ => head[2..2 + extended]
                .iter()
                .fold(0, |length, byte| (length << 8) | u64::from(*byte)),
        };
        let mut mask = [0; 4];
        if is_masked {
            mask.copy_from_slice(&head[2 + extended..]);
        }
        self.have = 0;
        if first & 0x0f == CLOSE {
            self.closing = Some((Vec::new(), mask));
            self.close_if_whole();
        }
    }

    /// Takes bytes of the payload.
    fn pay(&mut self, bytes: &[u8]) {
        self.left -= bytes.len() as u64;
        if let Some((code, _)) = &mut self.closing {
            code.extend(bytes.iter().take(2 - code.len().min(2)));
            self.close_if_whole();
        }
    }

    fn close_if_whole(&mut self) {
        if self.left > 0 {
            return;
        }
        if let Some((code, mask)) = self.closing.take() {
            self.closed = Some(match code[..] {
                [high, low, ..] => u16::from_be_bytes([high ^ mask[0], low ^ mask[1]]),
                _ => NO_CODE,
            });
        }
    }
}

/// A close as a server sends it. A reason longer than a control frame holds is cut.
pub(crate) fn close(code: u16, reason: &str) -> Vec<u8> {
    let reason: String = reason
        .char_indices()
        .take_while(|(at, letter)| at + letter.len_utf8() <= 123)
        .map(|(_, letter)| letter)
        .collect();
    let length = u8::try_from(2 + reason.len()).unwrap_or(125);
    let mut frame = vec![0x80 | CLOSE, length];
    frame.extend(code.to_be_bytes());
    frame.extend(reason.as_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize, mask: bool) -> Vec<u8> {
        let bit = if mask { 0x80 } else { 0 };
        let mut frame = vec![0x82];
        match length {
            0..126 => frame.push(bit | length as u8),
            126..65536 => {
                frame.push(bit | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(bit | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        if mask {
            frame.extend([1, 2, 3, 4]);
        }
        frame.extend(vec![0x88; length]);
        frame
    }

    #[test]
    fn every_length_ends_where_it_should_however_it_is_cut() {
        for (length, mask) in [
            (0, false),
            (1, true),
            (125, true),
            (126, false),
            (65535, true),
            (65536, false),
        ] {
            let bytes = frame(length, mask);
            for step in [1, 2, 7, bytes.len()] {
                let mut frames = Frames::default();
                let (last, before) = bytes.split_last().unwrap();
                for piece in before.chunks(step) {
                    assert_eq!(frames.see(piece), None, "{length} {step}");
                }
                assert_eq!(frames.see(&[*last]), Some(1), "{length} {step}");
                assert!(frames.is_between() && frames.closed().is_none());
            }
        }
    }

    #[test]
    fn the_last_boundary_is_told() {
        let mut bytes = frame(3, false);
        bytes.extend(frame(300, true));
        let whole = bytes.len();
        bytes.extend([0x82, 5, 1]);
        let mut frames = Frames::default();
        assert_eq!(frames.see(&bytes), Some(whole));
        assert!(!frames.is_between());
    }

    #[test]
    fn the_code_of_a_close_is_read_masked_or_not() {
        let closed = |bytes: &[u8]| {
            let mut frames = Frames::default();
            for byte in bytes {
                frames.see(&[*byte]);
            }
            frames.closed()
        };
        assert_eq!(closed(&close(1011, "why")), Some(1011));
        assert_eq!(closed(&[0x88, 0]), Some(NO_CODE));
        assert_eq!(
            closed(&[0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xe8 ^ 2]),
            Some(1000)
        );
        assert_eq!(closed(&close(1001, "why")[..5]), None, "not whole yet");
        assert_eq!(closed(&frame(200, true)), None);
    }

    #[test]
    fn a_reason_is_cut_to_what_a_frame_holds() {
        let long = close(1001, &"é".repeat(100));
        assert_eq!((long[1], long.len()), (124, 126));
        assert!(std::str::from_utf8(&long[4..]).is_ok());
    }
}
