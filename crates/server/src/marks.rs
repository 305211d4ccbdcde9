//! The marks of one invocation: its id and its trace, made once and shared as header values.

use bytes::Bytes;
use http::HeaderValue;
use model::{InvocationId, Timestamp};
use rand::RngCore;

/// Length of an id in text.
const ID: usize = 36;

/// Length of `00-<trace>-<span>-<flags>`.
const TRACEPARENT: usize = 55;

/// What every invocation carries.
pub(crate) struct Marks {
    /// Its id.
    pub id: InvocationId,
    /// The id as a header's value.
    pub id_header: HeaderValue,
    /// The W3C trace context that the handler continues.
    pub traceparent: HeaderValue,
    /// The alias that the caller named; `None`: `current`.
    pub alias: Option<Box<str>>,
}

impl Marks {
    /// Marks for work that arrived `at`: a caller's trace is continued by a new span, else a new trace begins.
    pub(crate) fn new(at: Timestamp, caller: Option<&HeaderValue>) -> Marks {
        let mut chance = [0; 34];
        // Seeded by the system, kept per thread: no call into the system here.
        rand::rng().fill_bytes(&mut chance);
        let mut unique = [0; 10];
        unique.copy_from_slice(&chance[..10]);
        let id = InvocationId::new(at, unique);

        let mut text = [0; ID + TRACEPARENT];
        let (id_text, trace) = text.split_at_mut(ID);
        let _ = id.0.hyphenated().encode_lower(id_text);
        match caller
            .map(HeaderValue::as_bytes)
            .filter(|caller| is_traceparent(caller))
        {
            Some(caller) => {
                trace.copy_from_slice(&caller[..TRACEPARENT]);
                // Flags of later versions are not ours to pass on as if we knew them.
                trace[..2].copy_from_slice(b"00");
            }
            None => {
                trace.copy_from_slice(b"00-00000000000000000000000000000000-0000000000000000-01");
                write_hex(&chance[10..26], &mut trace[3..35]);
            }
        }
        write_hex(&chance[26..34], &mut trace[36..52]);
        // All zeros would be an invalid trace or span; chance gives that once in 2^64.
        let text = Bytes::copy_from_slice(&text);
        let header = |bytes| {
            HeaderValue::from_maybe_shared(bytes)
                .expect("hex digits and dashes are a header's value")
        };
        Marks {
            id,
            id_header: header(text.slice(..ID)),
            traceparent: header(text.slice(ID..)),
            alias: None,
        }
    }

    /// Marks of an invocation that has an id already; its trace goes on as it is.
    pub(crate) fn brought(id: InvocationId, at: Timestamp, trace: Option<&HeaderValue>) -> Marks {
        let mut marks = Marks::new(at, trace);
        let mut text = [0; ID];
        let id_text = id.0.hyphenated().encode_lower(&mut text);
        marks.id = id;
        marks.id_header =
            HeaderValue::from_str(id_text).expect("hex digits and dashes are a header's value");
        if let Some(trace) = trace.filter(|trace| is_traceparent(trace.as_bytes())) {
            marks.traceparent = trace.clone();
        }
        marks
    }

    /// The same, for a caller who named an alias.
    pub(crate) fn with_alias(mut self, alias: Option<&str>) -> Marks {
        self.alias = alias.map(Box::from);
        self
    }
}

fn write_hex(bytes: &[u8], out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// Whether a caller's header is a trace that can be continued (W3C Trace Context 2.2.2).
fn is_traceparent(text: &[u8]) -> bool {
    let is_hex = |part: &[u8]| {
        part.iter()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b))
    };
    let is_zero = |part: &[u8]| part.iter().all(|b| *b == b'0');
    let longer_is_fine = text.len() == TRACEPARENT
        || (text.len() > TRACEPARENT && &text[..2] != b"00" && text[TRACEPARENT] == b'-');
    longer_is_fine
        && [2, 35, 52].iter().all(|at| text[*at] == b'-')
        && [0..2, 3..35, 36..52, 53..55]
            .iter()
            .all(|part| is_hex(&text[part.clone()]))
        && &text[..2] != b"ff"
        && !is_zero(&text[3..35])
        && !is_zero(&text[36..52])
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    fn trace(caller: Option<&str>) -> String {
        let caller = caller.map(|text| HeaderValue::from_str(text).unwrap());
        let marks = Marks::new(Timestamp(1), caller.as_ref());
        assert_eq!(marks.id_header, marks.id.to_string());
        marks.traceparent.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_callers_trace_goes_on_with_a_new_span() {
        let ours = trace(Some(CALLER));
        assert_eq!(ours[..35], CALLER[..35]);
        assert_ne!(ours[36..52], CALLER[36..52]);
        assert_eq!(ours[52..], CALLER[52..]);
    }

    #[test]
    fn without_a_valid_one_a_trace_begins() {
        for bad in [
            "",
            "x",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        ] {
            let ours = trace(Some(bad));
            assert!(is_traceparent(ours.as_bytes()), "{bad}: {ours}");
            assert!(ours.ends_with("-01"), "{ours}");
        }
        assert_ne!(trace(None)[3..35], trace(None)[3..35]);
    }
}
