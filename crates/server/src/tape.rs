//! What an invocation is asked and what it answers, kept aside while it streams past, for functions that want it
//! recorded. For all others nothing here runs. Nothing is written out here: that is done on the store's time.

use std::{
    collections::BTreeSet,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_LENGTH, HeaderName},
    request,
};
use http_body::{Body, Frame, SizeHint};
use model::{
    Keep, Limits, Outcome, Params, Payload, RECORDING_FORMAT, Record, RecordedAnswer,
    RecordedFailure, RecordedRequest, RecordedWeb, Recording, Redaction, Settings,
};
use store::RecordingDraft;

use crate::forward;

/// Bytes that all tapes hold at once; what is beyond is kept cut, so that many uploads at once cost no more memory.
const HELD_MAX: usize = 64 << 20;

/// What a tape takes besides its bodies, about, in bytes.
const TAPE_BYTES: usize = 1024;

/// Bytes that all tapes of a server hold now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held(Arc<AtomicUsize>);

/// How a version's invocations are recorded.
pub(crate) struct Recipe {
    keep: Keep,
    redaction: Redaction,
    request_most: usize,
    answer_most: usize,
    held: Held,
}

impl Recipe {
    /// `None` where nothing is to be recorded.
    pub(crate) fn of(settings: &Settings, limits: &Limits, held: &Held) -> Option<Arc<Recipe>> {
        let most = |size: model::ByteSize| usize::try_from(size.0).unwrap_or(usize::MAX);
        (settings.record != Keep::None).then(|| {
            Arc::new(Recipe {
                keep: settings.record,
                redaction: Redaction::new(&settings.redact),
                request_most: most(limits.recorded_request),
                answer_most: most(limits.recorded_answer),
                held: held.clone(),
            })
        })
    }
}

/// The first bytes of something that passes.
struct Reel {
    most: usize,
    held: Held,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    kept: Vec<u8>,
    size: u64,
    /// Nothing more is kept.
    is_full: bool,
    /// It passed to its end.
    is_whole: bool,
    /// How long it is, where that was announced: nobody asks for more then, and so never hears of the end.
    announced: Option<u64>,
}

impl Reel {
    fn new(most: usize, held: &Held) -> Arc<Reel> {
        Arc::new(Reel {
            most,
            held: held.clone(),
            seen: Mutex::default(),
        })
    }

    /// Some bytes passed.
    fn push(&self, data: &[u8]) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.size += data.len() as u64;
        seen.is_whole |= seen.announced == Some(seen.size);
        if seen.is_full {
            return;
        }
        let part = &data[..data.len().min(self.most - seen.kept.len())];
        let before = self.held.0.fetch_add(part.len(), Relaxed);
        if before + part.len() > HELD_MAX {
            self.held.0.fetch_sub(part.len(), Relaxed);
            seen.is_full = true;
            return;
        }
        seen.kept.extend_from_slice(part);
        seen.is_full = part.len() < data.len();
    }

    /// It will be so long.
    fn announced(&self, size: u64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.announced = Some(size);
    }

    /// It has passed to its end.
    fn finish(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.is_whole = true;
    }

    fn kept(&self) -> usize {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.kept.len()
    }

    /// As it is written out. What nobody read to its end is longer than what was seen of it.
    fn payload(&self, redaction: &Redaction, hit: &mut BTreeSet<String>) -> Payload {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let size = seen.size + u64::from(!seen.is_whole);
        redaction.payload(&seen.kept, size, hit)
    }
}

impl Drop for Reel {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.kept(), Relaxed);
    }
}

/// A request's body that is kept aside as it passes.
struct Taped<B> {
    body: B,
    reel: Arc<Reel>,
}

impl<B: Body<Data = Bytes, Error = workers::BodyError> + Unpin> Body for Taped<B> {
    type Data = Bytes;
    type Error = workers::BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, workers::BodyError>>> {
        let next = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &next
            && let Some(data) = frame.data_ref()
        {
            self.reel.push(data);
        }
        if next.is_none() || self.body.is_end_stream() {
            self.reel.finish();
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request's body as the handler gets it, kept aside if there is a tape.
pub(crate) fn passed_on<B>(body: B, tape: Option<&mut Tape>) -> workers::Body
where
    B: Body<Data = Bytes, Error = workers::BodyError> + Send + Unpin + 'static,
{
    match (body.is_end_stream(), tape) {
        (true, Some(tape)) => {
            tape.asked_whole(&[]);
            workers::Body::Empty
        }
        (true, None) => workers::Body::Empty,
        (false, Some(tape)) => workers::Body::Stream(Box::pin(Taped {
            body,
            reel: tape.request.clone(),
        })),
        (false, None) => workers::Body::Stream(Box::pin(body)),
    }
}

/// One invocation's recording while it is made.
pub(crate) struct Tape {
    recipe: Arc<Recipe>,
    asked: Asked,
    request: Arc<Reel>,
    answered: Option<Answered>,
    answer: Arc<Reel>,
}

enum Asked {
    Event,
    Web {
        method: String,
        url: String,
        headers: HeaderMap,
        params: Params,
    },
}

/// The head of an answer; an event's result has none.
type Answered = Option<(StatusCode, HeaderMap)>;

/// Headers of a request that are made anew whenever it is made.
const MADE_ANEW: [HeaderName; 3] = [forward::INVOCATION_ID, forward::TRACEPARENT, CONTENT_LENGTH];

impl Tape {
    /// Of a web request, whose body is to go through [`passed_on`].
    pub(crate) fn of_web(recipe: &Arc<Recipe>, parts: &request::Parts, params: &Params) -> Tape {
        let mut headers = parts.headers.clone();
        for name in MADE_ANEW.iter().chain([&forward::PARAMS]) {
            headers.remove(name);
        }
        let asked = Asked::Web {
            method: parts.method.as_str().to_owned(),
            url: parts.uri.to_string(),
            headers,
            params: params.clone(),
        };
        let tape = Tape::new(recipe, asked);
        let length = parts.headers.get(CONTENT_LENGTH);
        if let Some(size) = length.and_then(|length| length.to_str().ok()?.parse().ok()) {
            tape.request.announced(size);
        }
        tape
    }

    /// Of an event.
    pub(crate) fn of_event(recipe: &Arc<Recipe>, event: &[u8]) -> Tape {
        let tape = Tape::new(recipe, Asked::Event);
        tape.asked_whole(event);
        tape
    }

    fn new(recipe: &Arc<Recipe>, asked: Asked) -> Tape {
        Tape {
            recipe: recipe.clone(),
            asked,
            request: Reel::new(recipe.request_most, &recipe.held),
            answered: None,
            answer: Reel::new(recipe.answer_most, &recipe.held),
        }
    }

    /// All of the request's body.
    pub(crate) fn asked_whole(&self, body: &[u8]) {
        self.request.push(body);
        self.request.finish();
    }

    /// The answer begins; its body is seen by [`Tape::heard`].
    pub(crate) fn answered(&mut self, head: Answered) {
        self.answered = Some(head);
    }

    /// Some of the answer's body.
    pub(crate) fn heard(&self, data: &[u8]) {
        self.answer.push(data);
    }

    /// Whether it is kept of an invocation that ended so.
    pub(crate) fn is_kept(&self, outcome: Outcome) -> bool {
        match self.recipe.keep {
            Keep::None => false,
            Keep::Failed => outcome != Outcome::Ok,
            Keep::All => true,
        }
    }

    /// Another version takes the invocation, and its rules hold; `None` if it has none.
    pub(crate) fn under(mut self, recipe: Option<&Arc<Recipe>>) -> Option<Tape> {
        self.recipe = recipe?.clone();
        Some(self)
    }

    /// As the store takes it, for the record of how it ended.
    pub(crate) fn draft(self, record: &Record) -> RecordingDraft {
        let record = record.clone();
        RecordingDraft {
            invocation: record.id,
            function: record.function.clone(),
            size: TAPE_BYTES + self.request.kept() + self.answer.kept(),
            // A recording is made of maps with text keys, which JSON can hold.
            write: Box::new(move || {
                serde_json::to_vec(&self.recording(record)).unwrap_or_default()
            }),
        }
    }

    fn recording(self, record: Record) -> Recording {
        let redaction = &self.recipe.redaction;
        let mut hit = BTreeSet::new();
        let body = self.request.payload(redaction, &mut hit);
        let request = match self.asked {
            Asked::Event => RecordedRequest::Event(body),
            Asked::Web {
                method,
                url,
                headers,
                params,
            } => RecordedRequest::Web(RecordedWeb {
                method,
                url,
                headers: listed(&headers, redaction, &mut hit),
                params,
                body,
            }),
        };
        self.answer.finish();
        let answer = self.answered.map(|head| RecordedAnswer {
            status: head.as_ref().map(|(status, _)| status.as_u16()),
            headers: head.map_or(Vec::new(), |(_, headers)| {
                listed(&headers, redaction, &mut hit)
            }),
            body: self.answer.payload(redaction, &mut hit),
        });
        let failure = record.message.map(|message| RecordedFailure {
            message,
            fault: record.fault,
        });
        Recording {
            bungee_recording: RECORDING_FORMAT,
            id: record.id,
            function: record.function,
            version: record.version,
            digest: None,
            trigger: record.trigger,
            arrived: record.arrived,
            request,
            outcome: record.outcome,
            failure,
            answer,
            redacted: hit.into_iter().collect(),
        }
    }
}

/// Headers as a recording has them: every byte a character, secrets taken out.
fn listed(
    headers: &HeaderMap,
    redaction: &Redaction,
    hit: &mut BTreeSet<String>,
) -> Vec<(String, String)> {
    let pairs = headers.iter().map(|(name, value)| {
        let value = value.as_bytes().iter().map(|byte| char::from(*byte));
        (name.as_str().to_owned(), value.collect())
    });
    let mut listed: Vec<(String, String)> = pairs.collect();
    redaction.headers(&mut listed, hit);
    listed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reel_keeps_the_first_bytes_and_gives_back_what_it_held() {
        let held = Held::default();
        let reel = Reel::new(5, &held);
        reel.push(b"abc");
        reel.push(b"defg");
        reel.push(b"h");
        reel.finish();
        assert_eq!(held.0.load(Relaxed), 5);
        let payload = reel.payload(&Redaction::new(&[]), &mut BTreeSet::new());
        assert_eq!((payload.text.as_deref(), payload.size), (Some("abcde"), 8));
        assert!(payload.cut);
        drop(reel);
        assert_eq!(held.0.load(Relaxed), 0);
    }

    #[test]
    fn what_is_held_at_once_is_bounded() {
        let held = Held::default();
        held.0.store(HELD_MAX - 2, Relaxed);
        let reel = Reel::new(100, &held);
        reel.push(b"abc");
        reel.push(b"d");
        reel.finish();
        let payload = reel.payload(&Redaction::new(&[]), &mut BTreeSet::new());
        assert_eq!((payload.text, payload.size, payload.cut), (None, 4, true));
        assert_eq!(held.0.load(Relaxed), HELD_MAX - 2);
    }

    #[test]
    fn a_body_of_announced_length_needs_no_end() {
        let reel = Reel::new(100, &Held::default());
        reel.announced(3);
        reel.push(b"ab");
        assert!(reel.payload(&Redaction::new(&[]), &mut BTreeSet::new()).cut);
        reel.push(b"c");
        let payload = reel.payload(&Redaction::new(&[]), &mut BTreeSet::new());
        assert_eq!(payload.whole().unwrap(), b"abc");
    }

    #[test]
    fn what_was_not_read_to_its_end_is_cut() {
        let reel = Reel::new(100, &Held::default());
        reel.push(b"abc");
        let payload = reel.payload(&Redaction::new(&[]), &mut BTreeSet::new());
        assert!(payload.cut && payload.whole().is_err());
    }
}
