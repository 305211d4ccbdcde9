//! What becomes known of every invocation: exactly one end, however it ends, counted, sampled, and told to who listens.
//! Formats nothing and waits for nobody: that is done where the ends are read.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use http::{HeaderMap, Method, StatusCode, Uri};
use model::{
    Attempt, Clock, ErrorType, Failure, FunctionId, InvocationId, Outcome, Place, Record,
    Timestamp, Trigger, VersionNumber,
};
use store::RecordSink;
use tokio::sync::mpsc;

use crate::{
    gateway,
    invoker::{Lease, Runner},
    metrics::Reached,
    serving::Deployed,
    tape::Tape,
};

/// Ends that may wait for whoever prints them; what does not fit is not printed, and recorded all the same.
const UNREAD_MAX: usize = 8192;

/// How one invocation ended. Cheap to make and to pass on; [`Ended::record`] writes it out.
pub struct Ended {
    id: InvocationId,
    deployed: Arc<Deployed>,
    trigger: Trigger,
    outcome: Outcome,
    failure: Option<Failure>,
    request: Option<(Method, Uri)>,
    status: Option<StatusCode>,
    arrived: Timestamp,
    waited_us: u64,
    ran_us: u64,
    is_cold: bool,
    worker: Option<Runner>,
    /// What few invocations have; most pay for an empty pointer.
    extras: Option<Box<Extras>>,
}

/// What becomes known of an invocation that somebody takes a special interest in.
#[derive(Default)]
struct Extras {
    attempts: Vec<Attempt>,
    /// Its recording, while it is made.
    tape: Option<Tape>,
    /// It gets a record, however it ends.
    is_kept: bool,
}

impl Ended {
    /// The invocation.
    pub fn id(&self) -> InvocationId {
        self.id
    }

    /// The function that was asked.
    pub fn function(&self) -> &FunctionId {
        &self.deployed.version.function
    }

    /// The version that ran; `None` if no worker was reached.
    pub fn version(&self) -> Option<VersionNumber> {
        self.worker
            .is_some()
            .then_some(self.deployed.version.number)
    }

    /// How it ended.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Why it failed, if it did.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Method, path and query, for web requests.
    pub fn request(&self) -> Option<(&str, &str)> {
        let (method, uri) = self.request.as_ref()?;
        Some((
            method.as_str(),
            uri.path_and_query().map_or("/", |path| path.as_str()),
        ))
    }

    /// The status that the caller got, for web requests.
    pub fn status(&self) -> Option<u16> {
        self.status.map(|status| status.as_u16())
    }

    /// When it arrived.
    pub fn arrived(&self) -> Timestamp {
        self.arrived
    }

    /// Microseconds from the arrival until a worker took it.
    pub fn waited_us(&self) -> u64 {
        self.waited_us
    }

    /// Microseconds from then to the last byte.
    pub fn ran_us(&self) -> u64 {
        self.ran_us
    }

    /// Whether a worker had to be started for it.
    pub fn is_cold(&self) -> bool {
        self.is_cold
    }

    /// Where it was tried, in order. Empty where only the deployed version was ever asked.
    pub fn attempts(&self) -> &[Attempt] {
        self.extras.as_ref().map_or(&[], |extras| &extras.attempts)
    }

    /// The same, with the end of the last one, which is that of the invocation.
    fn tried(&self) -> Vec<Attempt> {
        let mut tried = self.attempts().to_vec();
        if let Some(last) = tried.last_mut() {
            last.outcome = Some(self.outcome.as_str().to_owned());
            last.ran_us = Some(self.ran_us);
        }
        tried
    }

    fn is_kept(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| extras.is_kept)
    }

    /// Whether it was ever offered to a developer.
    fn is_live(&self) -> bool {
        let live = |attempt: &Attempt| attempt.place == Place::Live;
        self.attempts().iter().any(live)
    }

    /// All of it, as it is kept.
    pub fn record(&self) -> Record {
        let (method, path) = self.request().unzip();
        let failure = self.failure.as_ref();
        Record {
            id: self.id,
            function: self.function().clone(),
            version: self.version(),
            trigger: self.trigger,
            outcome: self.outcome,
            message: failure.map(|failure| failure.message.clone()),
            fault: failure
                .and_then(|failure| failure.fault.as_deref())
                .map(model::HandlerFault::without_report),
            method: method.map(str::to_owned),
            path: path.map(str::to_owned),
            status: self.status(),
            arrived: self.arrived,
            waited_us: self.waited_us,
            ran_us: self.ran_us,
            cold: self.is_cold,
            worker: self.worker.as_ref().map(ToString::to_string),
            attempts: self.tried(),
            // The store knows, once it has it.
            recording: false,
        }
    }
}

/// Where ends go. Shared by everything that invokes.
pub(crate) struct Journal {
    clock: Arc<dyn Clock>,
    sink: RecordSink,
    listener: OnceLock<mpsc::Sender<Ended>>,
    succeeded: AtomicU64,
    failed: AtomicU64,
    /// The server ends what is in flight: whoever is cut off now did not leave by himself.
    is_cutting: AtomicBool,
}

/// How many invocations ended since the start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Totals {
    pub succeeded: u64,
    pub failed: u64,
}

impl Journal {
    pub(crate) fn new(clock: Arc<dyn Clock>, sink: RecordSink) -> Journal {
        Journal {
            clock,
            sink,
            listener: OnceLock::new(),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            is_cutting: AtomicBool::new(false),
        }
    }

    /// Every end from now on; `None` if somebody listens already.
    pub(crate) fn listen(&self) -> Option<mpsc::Receiver<Ended>> {
        let (sender, receiver) = mpsc::channel(UNREAD_MAX);
        self.listener.set(sender).ok().map(|()| receiver)
    }

    pub(crate) fn totals(&self) -> Totals {
        Totals {
            succeeded: self.succeeded.load(Relaxed),
            failed: self.failed.load(Relaxed),
        }
    }

    /// From now on, what is cut off ends as `ShuttingDown`.
    pub(crate) fn cutting(&self) {
        self.is_cutting.store(true, Relaxed);
    }

    fn write(&self, mut ended: Ended) {
        let total = match ended.outcome {
            Outcome::Ok => &self.succeeded,
            Outcome::Failed(_) => &self.failed,
        };
        total.fetch_add(1, Relaxed);
        let reached = ended.worker.is_some().then_some(Reached {
            is_cold: ended.is_cold,
            waited_us: ended.waited_us,
            ran_us: ended.ran_us,
        });
        ended.deployed.metrics.ended(ended.outcome, reached);
        let took = ended.waited_us + ended.ran_us;
        let now = Timestamp(ended.arrived.0 + i64::try_from(took / 1000).unwrap_or(0));
        let sampler = &ended.deployed.sampler;
        let is_granted = sampler.ended(ended.trigger, ended.outcome, took, now);
        let tape = ended.extras.as_mut().and_then(|extras| extras.tape.take());
        let tape = tape.filter(|tape| tape.is_kept(ended.outcome));
        if is_granted || ended.is_kept() || ended.is_live() || tape.is_some() {
            let record = ended.record();
            let recording = tape.map(|tape| tape.draft(&record));
            self.sink.record(record);
            if let Some(recording) = recording {
                self.sink.recording(recording);
            }
        }
        if let Some(listener) = self.listener.get() {
            // A terminal that is slower than the server misses lines; the record is kept all the same.
            let _ = listener.try_send(ended);
        }
    }
}

/// One invocation on its way. Whatever happens to it, it ends exactly once; dropped, it ends as cancelled.
pub(crate) struct Invocation {
    journal: Arc<Journal>,
    ended: Option<Ended>,
    started: Instant,
    taken: Option<Instant>,
}

impl Invocation {
    /// An invocation that arrived.
    pub(crate) fn begin(
        journal: Arc<Journal>,
        deployed: Arc<Deployed>,
        id: InvocationId,
        arrived: Timestamp,
        trigger: Trigger,
        request: Option<(Method, Uri)>,
    ) -> Invocation {
        let ended = Ended {
            id,
            deployed,
            trigger,
            outcome: Outcome::Ok,
            failure: None,
            request,
            status: None,
            arrived,
            waited_us: 0,
            ran_us: 0,
            is_cold: false,
            worker: None,
            extras: None,
        };
        Invocation {
            journal,
            ended: Some(ended),
            started: Instant::now(),
            taken: None,
        }
    }

    /// When an invocation that arrives now arrived.
    pub(crate) fn now(journal: &Journal) -> Timestamp {
        journal.clock.now()
    }

    /// Another version took over before a worker was found.
    pub(crate) fn moved_to(&mut self, deployed: Arc<Deployed>) {
        if let Some(ended) = self.ended.as_mut() {
            if let Some(extras) = ended.extras.as_mut() {
                let tape = extras.tape.take();
                extras.tape = tape.and_then(|tape| tape.under(deployed.recipe.as_ref()));
            }
            ended.deployed = deployed;
        }
    }

    /// A worker takes it.
    pub(crate) fn taken(&mut self, lease: &Lease) {
        self.taken = Some(Instant::now());
        if let Some(ended) = self.ended.as_mut() {
            ended.is_cold = lease.cold();
            ended.worker = lease.worker();
        }
    }

    /// Microseconds since it arrived.
    pub(crate) fn waited_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// It was tried somewhere; told in order. Never called where only the deployed version is asked.
    pub(crate) fn attempted(&mut self, attempt: Attempt) {
        if let Some(ended) = self.ended.as_mut() {
            let extras = ended.extras.get_or_insert_default();
            extras.attempts.push(attempt);
        }
    }

    /// It is to have a record, however it ends.
    pub(crate) fn keep_record(&mut self) {
        if let Some(ended) = self.ended.as_mut() {
            ended.extras.get_or_insert_default().is_kept = true;
        }
    }

    /// Its function wants it recorded.
    pub(crate) fn record_on(&mut self, tape: Tape) {
        if let Some(ended) = self.ended.as_mut() {
            ended.extras.get_or_insert_default().tape = Some(tape);
        }
    }

    /// Its recording, while it is made.
    pub(crate) fn tape(&mut self) -> Option<&mut Tape> {
        let extras = self.ended.as_mut()?.extras.as_mut()?;
        extras.tape.as_mut()
    }

    /// The caller sees this status, and these headers.
    pub(crate) fn answers_with(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.answers(status);
        if let Some(tape) = self.tape() {
            tape.answered(Some((status, headers.clone())));
        }
    }

    /// The caller sees some of the answer's body.
    pub(crate) fn heard(&mut self, data: &[u8]) {
        if let Some(tape) = self.tape() {
            tape.heard(data);
        }
    }

    /// The caller sees this status.
    pub(crate) fn answers(&mut self, status: StatusCode) {
        if let Some(ended) = self.ended.as_mut() {
            ended.status = Some(status);
        }
    }

    /// The last byte is out.
    pub(crate) fn succeed(&mut self) -> Timing {
        self.end(Outcome::Ok, None)
    }

    /// It failed.
    pub(crate) fn fail(&mut self, failure: &Failure) -> Timing {
        self.end(Outcome::Failed(failure.error_type), Some(failure.clone()))
    }

    fn end(&mut self, outcome: Outcome, failure: Option<Failure>) -> Timing {
        let Some(mut ended) = self.ended.take() else {
            return Timing::default();
        };
        let now = Instant::now();
        let taken = self.taken.unwrap_or(now);
        ended.waited_us = micros(taken.duration_since(self.started));
        ended.ran_us = micros(now.duration_since(taken));
        ended.outcome = outcome;
        ended.failure = failure;
        let timing = Timing {
            waited_us: ended.waited_us,
            ran_us: ended.ran_us,
            cold: ended.is_cold,
            version: ended.version(),
        };
        self.journal.write(ended);
        timing
    }
}

/// How long it took, and on what it ran.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Timing {
    pub waited_us: u64,
    pub ran_us: u64,
    pub cold: bool,
    pub version: Option<VersionNumber>,
}

fn micros(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

impl Drop for Invocation {
    fn drop(&mut self) {
        if self.ended.is_none() {
            return;
        }
        let failure = if self.journal.is_cutting.load(Relaxed) {
            gateway::cut_off()
        } else {
            Failure::new(
                ErrorType::Cancelled,
                "the caller left before the answer was complete",
            )
        };
        self.end(Outcome::Failed(failure.error_type), Some(failure));
    }
}
