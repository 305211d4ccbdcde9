//! Work given to a function from within the server, carried to its end: the invoke calls of the API and of profiles,
//! replays, frames of the socket and the queue, later schedules too.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header::CONTENT_LENGTH, request::Parts};
use model::{ByteSize, ErrorType, Facts, Failure, InvocationId, Kind, LogLine, Params, Trigger};

use crate::{
    app::App,
    bodies::{BodyLimit, whole_answer},
    context::Context,
    forward, function_url, gateway,
    invoker::{self, Body, Lease, Runner},
    journal::{Invocation, Timing},
    live::Plan,
    logs::KeptLines,
    marks::Marks,
    reply::Streamed,
    serving::{Deployed, Serving},
    tape::{Recipe, Tape},
};

/// Work on its way to a function.
pub(crate) struct Errand {
    pub work: Work,
    pub trigger: Trigger,
    pub target: Target,
    /// Whether the outcome brings what was logged.
    pub wants_logs: bool,
}

/// What the function is asked.
pub(crate) enum Work {
    /// An event, as JSON.
    Event(Bytes),
    /// A web request, all of it.
    Web {
        parts: Box<Parts>,
        params: Params,
        body: Bytes,
    },
}

/// Which version is asked.
pub(crate) enum Target {
    /// The one that an alias leads to; `None`: `current`.
    Alias(Option<String>),
    /// This one, and no other.
    Version(Arc<Deployed>),
}

/// How an invocation went.
pub(crate) struct Outcome {
    pub id: InvocationId,
    /// The version that it met.
    pub deployed: Arc<Deployed>,
    pub result: Result<Answer, Failure>,
    pub timing: Timing,
    /// What was logged, if that was wanted.
    pub logs: Vec<LogLine>,
    /// The memory that its worker holds, if that was wanted and it still runs.
    pub memory: Option<ByteSize>,
}

/// What the handler answered.
pub(crate) struct Answer {
    /// An event handler's result as JSON, or a response's body.
    pub body: Bytes,
    /// Status and headers, if it is a response.
    pub head: Option<(StatusCode, HeaderMap)>,
}

/// What an invocation may have from before.
#[derive(Default)]
pub(crate) struct Brought {
    /// Its id, if it was given one when it was accepted.
    pub id: Option<InvocationId>,
    /// What its handler is told besides.
    pub context: Option<Box<Context>>,
    /// Nobody waits for its outcome, so it always gets a record.
    pub is_queued: bool,
}

/// An invocation whose answer begins, or that has failed before.
pub(crate) struct Begun {
    pub id: InvocationId,
    /// The version that it met.
    pub deployed: Arc<Deployed>,
    pub result: Result<(http::response::Parts, Streamed), Failure>,
    /// Whoever runs it, if somebody does.
    pub worker: Option<Runner>,
    /// When a worker took it, if one did.
    pub taken: Option<Taken>,
    /// What is logged, if that was wanted.
    pub logs: Option<KeptLines>,
}

/// The moment at which a worker took an invocation.
#[derive(Clone, Copy)]
pub(crate) struct Taken {
    pub at: Instant,
    /// Microseconds from the arrival until then.
    pub waited_us: u64,
    /// Whether the worker was started for it.
    pub is_cold: bool,
}

/// Invokes, and waits for the end; if its lines are wanted, until all that the worker wrote has reached the log.
///
/// # Errors
/// The alias leads nowhere; nothing was begun.
pub(crate) async fn invoke(
    app: &Arc<App>,
    serving: &Serving,
    errand: Errand,
) -> Result<Outcome, Failure> {
    invoke_as(app, serving, errand, Brought::default()).await
}

/// The same, for an invocation that has something from before.
pub(crate) async fn invoke_as(
    app: &Arc<App>,
    serving: &Serving,
    errand: Errand,
    brought: Brought,
) -> Result<Outcome, Failure> {
    let (mut carrier, work, kept) = Carrier::set_out(app, serving, errand, brought)?;
    let result = carrier.carry(work).await;
    let Carrier {
        marks,
        deployed,
        mut invocation,
        worker,
        ..
    } = carrier;
    let timing = match &result {
        Ok(answer) => {
            if let Some(tape) = invocation.tape() {
                tape.answered(answer.head.clone());
                tape.heard(&answer.body);
            }
            invocation.succeed()
        }
        Err(failure) => invocation.fail(failure),
    };
    let mut memory = None;
    if let Some(worker) = worker.filter(|_| kept.is_some()) {
        worker.drained().await;
        memory = kept.as_ref().and_then(|_| worker.memory());
    }
    Ok(Outcome {
        id: marks.id,
        deployed,
        result,
        timing,
        logs: kept.map(KeptLines::take).unwrap_or_default(),
        memory,
    })
}

/// Invokes with an event, and waits for the head of the answer. The invocation ends with the answer's last byte.
///
/// # Errors
/// The alias leads nowhere, or the work is no event; nothing was begun.
pub(crate) async fn begin(
    app: &Arc<App>,
    serving: &Serving,
    errand: Errand,
    brought: Brought,
) -> Result<Begun, Failure> {
    let (mut carrier, work, logs) = Carrier::set_out(app, serving, errand, brought)?;
    let Work::Event(event) = work else {
        let message = "only the answer to an event is streamed by this";
        return Err(Failure::new(ErrorType::Internal, message));
    };
    let began = carrier.begin_event(event).await;
    let Carrier {
        marks,
        deployed,
        mut invocation,
        worker,
        taken,
        ..
    } = carrier;
    let result = match began {
        Ok(response) => {
            let (parts, answer) = response.into_parts();
            let streamed = Streamed::answering(&parts, answer, invocation, &app.limits, None);
            Ok((parts, streamed))
        }
        Err(failure) => {
            invocation.fail(&failure);
            Err(failure)
        }
    };
    Ok(Begun {
        id: marks.id,
        deployed,
        result,
        worker,
        taken,
        logs,
    })
}

impl Work {
    /// The trace that the caller is part of; what is replayed begins one of its own.
    fn trace(&self, trigger: Trigger) -> Option<&HeaderValue> {
        match self {
            Work::Web { parts, .. } if trigger == Trigger::Socket => {
                parts.headers.get(forward::TRACEPARENT)
            }
            Work::Web { .. } | Work::Event(_) => None,
        }
    }

    fn tape(&self, recipe: &Arc<Recipe>) -> Tape {
        match self {
            Work::Event(event) => Tape::of_event(recipe, event),
            Work::Web {
                parts,
                params,
                body,
            } => {
                let tape = Tape::of_web(recipe, parts, params);
                tape.asked_whole(body);
                tape
            }
        }
    }
}

/// One errand under way.
struct Carrier<'a> {
    app: &'a Arc<App>,
    deployed: Arc<Deployed>,
    /// No other version may take over.
    is_pinned: bool,
    marks: Marks,
    context: Option<Box<Context>>,
    trigger: Trigger,
    invocation: Invocation,
    worker: Option<Runner>,
    taken: Option<Taken>,
}

impl<'a> Carrier<'a> {
    /// Who carries it, what, and where its lines are kept if they are wanted.
    fn set_out(
        app: &'a Arc<App>,
        serving: &Serving,
        errand: Errand,
        brought: Brought,
    ) -> Result<(Carrier<'a>, Work, Option<KeptLines>), Failure> {
        let arrived = Invocation::now(&app.journal);
        let Errand {
            work,
            trigger,
            target,
            wants_logs,
        } = errand;
        let mut marks = match brought.id {
            Some(id) => Marks::brought(id, arrived, None),
            None => Marks::new(arrived, work.trace(trigger)),
        };
        let (deployed, is_pinned) = match target {
            Target::Alias(alias) => {
                marks = marks.with_alias(alias.as_deref());
                (serving.choose(alias.as_deref(), marks.id)?, false)
            }
            Target::Version(deployed) => (deployed, true),
        };
        let asked = match &work {
            Work::Event(_) => None,
            Work::Web { parts, .. } => Some((parts.method.clone(), parts.uri.clone())),
        };
        let journal = app.journal.clone();
        let mut invocation =
            Invocation::begin(journal, deployed.clone(), marks.id, arrived, trigger, asked);
        if brought.is_queued {
            invocation.keep_record();
        }
        if let Some(recipe) = &deployed.recipe {
            invocation.record_on(work.tape(recipe));
        }
        let kept = wants_logs.then(|| app.logs.keep(marks.id));
        let carrier = Carrier {
            app,
            deployed,
            is_pinned,
            marks,
            context: brought.context,
            trigger,
            invocation,
            worker: None,
            taken: None,
        };
        Ok((carrier, work, kept))
    }
}

impl Carrier<'_> {
    async fn carry(&mut self, work: Work) -> Result<Answer, Failure> {
        match work {
            Work::Event(event) => self.event(event).await,
            Work::Web {
                parts,
                params,
                body,
            } => self.web(*parts, &params, body).await,
        }
    }

    /// Which developer it is for, if it is for one. Whoever names an alias or a version means that.
    fn plan(&self, is_web: bool) -> Option<Box<Plan>> {
        let Carrier { app, marks, .. } = self;
        if app.live.is_quiet() || self.is_pinned || marks.alias.is_some() {
            return None;
        }
        let facts = Facts {
            id: marks.id,
            http: None,
        };
        let function = &self.deployed.version.function;
        let mut plan = app.live.plan(function, &facts, self.trigger)?;
        plan.is_web = is_web;
        Some(plan)
    }

    async fn acquire(&mut self, is_web: bool) -> Result<Lease, Failure> {
        let lease = self.find_place(is_web).await?;
        self.worker = lease.worker();
        self.taken = Some(Taken {
            at: Instant::now(),
            waited_us: self.invocation.waited_us(),
            is_cold: lease.cold(),
        });
        Ok(lease)
    }

    async fn find_place(&mut self, is_web: bool) -> Result<Lease, Failure> {
        let plan = self.plan(is_web);
        let Carrier {
            app,
            deployed,
            marks,
            invocation,
            ..
        } = self;
        if !self.is_pinned {
            return gateway::acquire(app, deployed, marks, invocation, plan.as_deref()).await;
        }
        let lease = deployed.invoker.acquire(marks.id).await;
        let lease = lease.map_err(|failure| match failure.error_type {
            ErrorType::ShuttingDown if deployed.invoker.is_closed() => {
                failure.hint("ask again: what an alias points at changed meanwhile")
            }
            _ => failure,
        })?;
        invocation.taken(&lease);
        Ok(lease)
    }

    /// An event to a handler of either kind, up to the head of its answer.
    async fn begin_event(
        &mut self,
        event: Bytes,
    ) -> Result<http::Response<invoker::Answer>, Failure> {
        let lease = self.acquire(false).await?;
        let mut request = gateway::event_request(event, &self.marks, self.trigger);
        if let Some(context) = &self.context {
            context.write(request.headers_mut());
        }
        lease.send(request).await
    }

    /// An event to a handler of either kind.
    async fn event(&mut self, event: Bytes) -> Result<Answer, Failure> {
        let (mut parts, body) = self.begin_event(event).await?.into_parts();
        let body = whole_answer(body, BodyLimit::result(&self.app.limits)).await?;
        let streams = parts.headers.remove(forward::ANSWER).is_some();
        let head = match self.deployed.version.kind {
            Kind::Event if !streams => None,
            Kind::Event | Kind::Web => {
                self.invocation.answers(parts.status);
                Some((parts.status, parts.headers))
            }
        };
        Ok(Answer { body, head })
    }

    /// A web request to a handler of either kind, as the gateway would bring it.
    async fn web(
        &mut self,
        mut parts: Parts,
        params: &Params,
        body: Bytes,
    ) -> Result<Answer, Failure> {
        let lease = self.acquire(true).await?;
        let limit = BodyLimit::result(&self.app.limits);
        let response = match self.deployed.version.kind {
            Kind::Web => {
                forward::request(&mut parts, &self.marks, params);
                let trigger = HeaderValue::from_static(self.trigger.as_str());
                parts.headers.insert(forward::TRIGGER, trigger);
                // Whoever writes it to the worker says how long it is.
                parts.headers.remove(CONTENT_LENGTH);
                let request = Request::from_parts(parts, Body::from(body));
                let (mut parts, body) = lease.send(request).await?.into_parts();
                if parts.status == StatusCode::SWITCHING_PROTOCOLS {
                    let message = "the handler switched protocols (status 101), and nobody is there to talk to";
                    return Err(Failure::new(ErrorType::HandlerError, message));
                }
                forward::response(&mut parts, &self.marks);
                let body = whole_answer(body, limit).await?;
                http::Response::from_parts(parts, body)
            }
            Kind::Event => {
                if !body.is_empty() {
                    parts.headers.insert(CONTENT_LENGTH, body.len().into());
                }
                let origin = function_url::Origin {
                    id: self.marks.id,
                    at: Invocation::now(&self.app.journal),
                    function: self.deployed.version.function.name.as_str(),
                    source: None,
                    params,
                };
                let event = function_url::event(&parts, &body, &origin)?;
                let request = gateway::event_request(event, &self.marks, self.trigger);
                let (mut parts, body) = lease.send(request).await?.into_parts();
                let streams = forward::streams(&parts.headers);
                forward::response(&mut parts, &self.marks);
                let body = whole_answer(body, limit).await?;
                match streams {
                    true => http::Response::from_parts(parts, body),
                    false => function_url::response(body)?,
                }
            }
        };
        self.invocation.answers(response.status());
        let (parts, body) = response.into_parts();
        Ok(Answer {
            body,
            head: Some((parts.status, parts.headers)),
        })
    }
}
