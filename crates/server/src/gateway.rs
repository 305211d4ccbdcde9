//! A request's walk: route, access, a worker, and the answer streamed back. The hot path: it takes no lock,
//! holds no body, formats no log and asks no database.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll};

use axum::Router;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, request::Parts};
use http_body::Body as _;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use model::{
    Auth, ErrorType, Facts, Failure, FunctionId, HttpFacts, Kind, Limits, Params, Runtime,
    Timestamp, Trigger, is_server_path,
};
use tower_service::Service;

use crate::{
    app::App,
    auth::Peer,
    bodies::{BodyLimit, Broke, RequestBody, Source, whole, whole_answer},
    builds::STALE,
    bunbase,
    door::Line,
    errors, forward, function_url,
    invoker::{Answer, Body, Lease},
    journal::Invocation,
    lambda,
    listen::Answers,
    live::{self, Plan},
    marks::Marks,
    registry::Found,
    reply::{ReplyBody, Streamed},
    serving::{Deployed, Serving},
    sockets::Passage,
    tape::{Tape, passed_on},
};

/// What every runtime can read and show to a handler; each has some more, and calls the rest broken.
const METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// Refuses a method that functions are not called with.
pub(crate) fn check_method(method: &Method) -> Result<(), Failure> {
    if METHODS.contains(method) {
        return Ok(());
    }
    let message = format!(
        "`{}` is no method that functions are called with",
        shown(method)
    );
    let names: Vec<&str> = METHODS.iter().map(Method::as_str).collect();
    Err(Failure::new(ErrorType::BadRequest, message)
        .hint(format!("use one of {}", names.join(", "))))
}

/// A method as it may be said again.
fn shown(method: &Method) -> String {
    method.as_str().chars().take(32).collect()
}

/// One connection's caller.
pub(crate) struct Visitor {
    pub app: Arc<App>,
    /// Everything that is no function's path.
    pub api: Router,
    pub peer: Peer,
    pub line: Arc<Line>,
}

impl Answers for Visitor {
    fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<ReplyBody>> + Send {
        handle(self, request)
    }
}

/// Answers one request.
async fn handle(visitor: Arc<Visitor>, request: Request<Incoming>) -> Response<ReplyBody> {
    visitor.line.working();
    let app = &visitor.app;
    if bunbase::is_logs(app, &request) {
        let answer = visitor.ask_api(request).await;
        return ReplyBody::api(answer, &visitor.line, &app.lines);
    }
    let mut found = app.registry.find(request.method(), request.uri().path());
    let mut stale = None;
    if !app.builds.is_quiet() {
        (found, stale) = after_builds(app, &request, found).await;
    }
    let (line, lines) = (&visitor.line, &app.lines);
    let mut response = match found {
        Found::Function(serving, params) => visitor.invoke(&serving, params, request).await,
        Found::Refused(failure) => {
            if !request.body().is_end_stream() {
                line.leave_unread();
            }
            ReplyBody::whole(errors::response(&failure, None), line, lines)
        }
        Found::Elsewhere if live::is_channel(&request) => visitor.attach(request),
        Found::Elsewhere => ReplyBody::api(visitor.ask_api(request).await, line, lines),
    };
    if let Some(why) = stale {
        response.headers_mut().insert(STALE, why);
    }
    response
}

/// Whom the request is for once what is being built is there, and why that is older code, if it is.
async fn after_builds(
    app: &App,
    request: &Request<Incoming>,
    found: Found,
) -> (Found, Option<HeaderValue>) {
    let (method, path) = (request.method(), request.uri().path());
    let why = match &found {
        Found::Function(serving, _) => app.builds.settled(Some(&serving.function)).await,
        // The API, by which builds arrive.
        Found::Elsewhere if is_server_path(path) => return (found, None),
        Found::Refused(_) | Found::Elsewhere => {
            app.builds.settled(None).await;
            None
        }
    };
    (app.registry.find(method, path), why)
}

impl Visitor {
    /// Everything that is no function's path.
    async fn ask_api(&self, request: Request<Incoming>) -> Response<axum::body::Body> {
        let limits = &self.app.limits;
        let (mut parts, incoming) = request.into_parts();
        parts.extensions.insert(self.peer);
        // The largest that any path takes; each has its own limit below it.
        let body = RequestBody::new(
            Source::Incoming(incoming),
            self.line.clone(),
            BodyLimit::bundle(limits),
            limits,
        );
        let request = Request::from_parts(parts, body);
        let mut api = self.api.clone();
        let answered = unless_cut(&self.line, async {
            match api.call(request).await {
                Ok(response) => Ok(response),
                Err(never) => match never {},
            }
        });
        answered
            .await
            .unwrap_or_else(|failure| errors::response(&failure, None).map(axum::body::Body::from))
    }

    /// A function's path.
    async fn invoke(
        &self,
        serving: &Serving,
        params: Params,
        request: Request<Incoming>,
    ) -> Response<ReplyBody> {
        let app = &self.app;
        let (parts, incoming) = request.into_parts();
        let mut source = Source::Incoming(incoming);
        let arrived = Invocation::now(&app.journal);
        let marks = Marks::new(arrived, parts.headers.get(forward::TRACEPARENT))
            .with_alias(forward::alias(&parts.headers));
        let admitted = match self.admit(serving, &marks, &parts, arrived) {
            Err(failure) if is_for_signers(&failure, &parts) => {
                let signed = self.admit_signer(serving, &marks, &parts, &mut source, arrived);
                unless_cut(&self.line, signed).await
            }
            admitted => admitted,
        };
        let deployed = match admitted {
            Ok(deployed) => deployed,
            Err(failure) => {
                self.leave_unread(&source);
                return ReplyBody::whole(errors::response(&failure, None), &self.line, &app.lines);
            }
        };
        let asked = Some((parts.method.clone(), parts.uri.clone()));
        let kind = deployed.version.kind;
        let plan = self.plan(serving, &marks, &parts, arrived);
        let invocation = Invocation::begin(
            app.journal.clone(),
            deployed.clone(),
            marks.id,
            arrived,
            Trigger::Http,
            asked,
        );
        let mut walk = Walk {
            visitor: self,
            deployed,
            marks,
            params,
            invocation,
            plan,
            broke: None,
        };
        let answered = match kind {
            Kind::Web => unless_cut(&self.line, walk.web(parts, source)).await,
            Kind::Event => unless_cut(&self.line, walk.event(parts, source)).await,
        };
        self.reply(walk, answered)
    }

    /// The response to what became of an invocation, which ends with it.
    fn reply(
        &self,
        mut walk: Walk<'_>,
        answered: Result<Answered, Failure>,
    ) -> Response<ReplyBody> {
        let app = &self.app;
        match answered {
            Ok(Answered::Streamed(parts, answer)) => {
                let streamed =
                    Streamed::answering(&parts, answer, walk.invocation, &app.limits, walk.broke);
                ReplyBody::streamed(
                    Response::from_parts(parts, streamed),
                    &self.line,
                    &app.lines,
                )
            }
            Ok(Answered::Socket(parts, passage)) => {
                self.line.switch_to(passage.carry(walk.invocation));
                let response = Response::from_parts(*parts, Bytes::new());
                ReplyBody::whole(response, &self.line, &app.lines)
            }
            Ok(Answered::Whole(response)) => {
                let invocation = &mut walk.invocation;
                invocation.answers_with(response.status(), response.headers());
                invocation.heard(response.body());
                invocation.succeed();
                ReplyBody::whole(response, &self.line, &app.lines)
            }
            Err(failure) => {
                walk.invocation.answers(errors::status(failure.error_type));
                walk.invocation.fail(&failure);
                let mut response = errors::response(&failure, Some(walk.marks.id));
                response
                    .headers_mut()
                    .insert(forward::INVOCATION_ID, walk.marks.id_header);
                ReplyBody::whole(response, &self.line, &app.lines)
            }
        }
    }

    /// The version that the request meets, if the caller may. Whoever names an alias needs a token, even where the
    /// function asks for none: what is not current is not meant for everybody.
    fn admit(
        &self,
        serving: &Serving,
        marks: &Marks,
        parts: &Parts,
        arrived: Timestamp,
    ) -> Result<Arc<Deployed>, Failure> {
        let check = |auth| {
            let access = &self.app.access;
            access.check_function(auth, self.peer, &parts.headers, arrived)
        };
        check_method(&parts.method)?;
        if marks.alias.is_some() {
            check(Auth::Token)?;
            return serving.choose(marks.alias.as_deref(), marks.id);
        }
        let deployed = serving.choose(None, marks.id)?;
        check(deployed.version.settings.auth)?;
        Ok(deployed)
    }

    /// The same, for a caller who signed the request as AWS's clients do: all of it has to be here to be believed.
    async fn admit_signer(
        &self,
        serving: &Serving,
        marks: &Marks,
        parts: &Parts,
        source: &mut Source,
        arrived: Timestamp,
    ) -> Result<Arc<Deployed>, Failure> {
        let (app, limit) = (&self.app, BodyLimit::event(&self.app.limits));
        let signer = lambda::Signer::of_url(&app.access, parts, arrived)?;
        limit.check_announced(&parts.headers)?;
        let asked = std::mem::replace(source, Source::Read(None));
        let body = whole(RequestBody::new(
            asked,
            self.line.clone(),
            limit,
            &app.limits,
        ))
        .await?;
        signer.check_url(parts, &body)?;
        *source = Source::Read(Some(body));
        serving.choose(marks.alias.as_deref(), marks.id)
    }

    /// Which developer the request is for, if it is for one. Whoever names an alias means that version; and a WebSocket
    /// does not cross to a laptop.
    fn plan(
        &self,
        serving: &Serving,
        marks: &Marks,
        parts: &Parts,
        arrived: Timestamp,
    ) -> Option<Box<Plan>> {
        let app = &self.app;
        if app.live.is_quiet() || marks.alias.is_some() || forward::asks_for_websocket(parts) {
            return None;
        }
        let user = app.access.user(&parts.headers, arrived);
        let http = HttpFacts {
            headers: &parts.headers,
            path: parts.uri.path(),
            user: user.as_deref(),
        };
        let facts = Facts {
            id: marks.id,
            http: Some(http),
        };
        let who = || match &user {
            Some(user) => Some(user.to_string()),
            None => self.peer.address().map(|address| address.to_string()),
        };
        let plan = app.live.plan(&serving.function, &facts, Trigger::Http)?;
        Some(plan.of_request(parts, who()))
    }

    /// A body that nobody will read must not break the answer.
    fn leave_unread(&self, source: &Source) {
        if !source.is_end_stream() {
            self.line.leave_unread();
        }
    }
}

/// Whether somebody was refused for having no token of ours, and signed instead.
fn is_for_signers(failure: &Failure, parts: &Parts) -> bool {
    failure.error_type == ErrorType::Unauthorized && lambda::is_signed(&parts.headers)
}

/// Does the work, until the server cuts off what is in flight.
async fn unless_cut<T>(
    line: &Line,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut work = pin!(work);
    poll_fn(|context| {
        // The connection's own task says so and polls us, so no other waker is needed.
        if line.is_cut() {
            return Poll::Ready(Err(cut_off()));
        }
        work.as_mut().poll(context)
    })
    .await
}

/// The failure of what is in flight when the grace is over.
pub(crate) fn cut_off() -> Failure {
    Failure::new(
        ErrorType::ShuttingDown,
        "the server went down, and its grace was over",
    )
}

/// One web request on its way through a function.
struct Walk<'a> {
    visitor: &'a Visitor,
    deployed: Arc<Deployed>,
    marks: Marks,
    params: Params,
    invocation: Invocation,
    /// Which developer it is for, if it is for one.
    plan: Option<Box<Plan>>,
    /// Why the request's body broke off, if it has one that streams.
    broke: Option<Broke>,
}

enum Answered {
    Streamed(http::response::Parts, Answer),
    Whole(Response<Bytes>),
    Socket(Box<http::response::Parts>, Passage),
}

impl Walk<'_> {
    /// To a web handler: both bodies stream.
    async fn web(&mut self, mut parts: Parts, source: Source) -> Result<Answered, Failure> {
        let app = &self.visitor.app;
        let runtime = self.deployed.version.settings.runtime;
        let limit = BodyLimit::web_request(runtime, &app.limits);
        let body = RequestBody::new(source, self.visitor.line.clone(), limit, &app.limits);
        limit.check_announced(&parts.headers)?;
        let caller = parts.extensions.remove::<OnUpgrade>();
        let caller = caller.filter(|_| forward::asks_for_websocket(&parts));
        if caller.is_some() && runtime != Runtime::Bun {
            let why = format!("a function on `{runtime}` has no WebSockets");
            return Err(forward::no_websocket(&why));
        }
        forward::request(&mut parts, &self.marks, &self.params);
        if caller.is_some() {
            forward::switch_protocol(&mut parts.headers);
        }
        if let Some(recipe) = self.deployed.recipe.as_ref().filter(|_| caller.is_none()) {
            let tape = Tape::of_web(recipe, &parts, &self.params);
            self.invocation.record_on(tape);
        }
        if !body.is_end_stream() {
            self.broke = Some(body.broke());
        }
        let body = passed_on(body, self.invocation.tape());
        let lease = self.acquire().await?;
        let response = lease.send(Request::from_parts(parts, body)).await?;
        let (mut parts, answer) = response.into_parts();
        forward::response(&mut parts, &self.marks);
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            return self.socket(parts, answer, caller).await;
        }
        BodyLimit::response(&app.limits).check_hint(&answer.size_hint())?;
        self.invocation.answers_with(parts.status, &parts.headers);
        Ok(Answered::Streamed(parts, answer))
    }

    /// The handler switched protocols: the caller's connection follows, if it asked for that.
    async fn socket(
        &mut self,
        mut parts: http::response::Parts,
        answer: Answer,
        caller: Option<OnUpgrade>,
    ) -> Result<Answered, Failure> {
        let Some(caller) = caller else {
            return Err(uninvited_switch());
        };
        forward::switch_protocol(&mut parts.headers);
        self.invocation.answers(parts.status);
        let (line, limits) = (&self.visitor.line, &self.visitor.app.limits);
        let passage = Passage::new(caller, answer.into_socket().await?, line.clone(), limits);
        Ok(Answered::Socket(Box::new(parts), passage))
    }

    /// To an event handler: the whole request becomes an event, and its result the response.
    async fn event(&mut self, parts: Parts, source: Source) -> Result<Answered, Failure> {
        let app = &self.visitor.app;
        let limit = BodyLimit::event(&app.limits);
        let body = RequestBody::new(source, self.visitor.line.clone(), limit, &app.limits);
        limit.check_announced(&parts.headers)?;
        if forward::asks_for_websocket(&parts) {
            return Err(forward::no_websocket("an event handler has no WebSockets"));
        }
        let body = whole(body).await?;
        let mut parts = parts;
        crate::auth::strip_token(&mut parts.headers);
        if let Some(recipe) = &self.deployed.recipe {
            let tape = Tape::of_web(recipe, &parts, &self.params);
            tape.asked_whole(&body);
            self.invocation.record_on(tape);
        }
        let origin = function_url::Origin {
            id: self.marks.id,
            at: Invocation::now(&app.journal),
            function: self.deployed.version.function.name.as_str(),
            source: self.visitor.peer.address(),
            params: &self.params,
        };
        let event = function_url::event(&parts, &body, &origin)?;
        limit.check(event.len())?;
        let lease = self.acquire().await?;
        match ask_with_event(lease, event, &self.marks, &app.limits).await? {
            EventAnswer::Whole(response) => Ok(Answered::Whole(response)),
            EventAnswer::Streamed(response) => {
                let (parts, answer) = response.into_parts();
                self.invocation.answers_with(parts.status, &parts.headers);
                Ok(Answered::Streamed(parts, answer))
            }
        }
    }

    async fn acquire(&mut self) -> Result<Lease, Failure> {
        acquire(
            &self.visitor.app,
            &mut self.deployed,
            &self.marks,
            &mut self.invocation,
            self.plan.as_deref(),
        )
        .await
    }
}

/// What became of an event that a web request became.
pub(crate) enum EventAnswer {
    /// The handler's result, as a response.
    Whole(Response<Bytes>),
    /// What the handler streams, with a head that it may have said itself.
    Streamed(Response<Answer>),
}

/// Sends an event handler the event that a web request became; its result becomes the response, or what it streams.
pub(crate) async fn ask_with_event(
    lease: Lease,
    event: Bytes,
    marks: &Marks,
    limits: &Limits,
) -> Result<EventAnswer, Failure> {
    let answer = lease
        .send(event_request(event, marks, Trigger::Http))
        .await?;
    if forward::streams(answer.headers()) {
        let (mut parts, answer) = answer.into_parts();
        forward::response(&mut parts, marks);
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(uninvited_switch());
        }
        BodyLimit::response(limits).check_hint(&answer.size_hint())?;
        return Ok(EventAnswer::Streamed(Response::from_parts(parts, answer)));
    }
    let result = whole_answer(answer.into_body(), BodyLimit::result(limits)).await?;
    let mut response = function_url::response(result)?;
    response
        .headers_mut()
        .insert(forward::INVOCATION_ID, marks.id_header.clone());
    Ok(EventAnswer::Whole(response))
}

/// The failure of a handler that switched protocols for a caller who did not ask for that.
pub(crate) fn uninvited_switch() -> Failure {
    let message = "the handler switched protocols (status 101) without being asked";
    Failure::new(ErrorType::HandlerError, message)
}

/// A place for the invocation: the session of the developer whom it is for, if that accepts, else a worker.
/// Where another version takes over meanwhile, that one's worker.
pub(crate) async fn acquire(
    app: &Arc<App>,
    deployed: &mut Arc<Deployed>,
    marks: &Marks,
    invocation: &mut Invocation,
    plan: Option<&Plan>,
) -> Result<Lease, Failure> {
    let Some(plan) = plan else {
        return acquire_worker(app, deployed, marks, invocation).await;
    };
    let lease = match Box::pin(plan.taker(app, deployed, marks, invocation)).await {
        Some(lease) => lease,
        None => acquire_worker(app, deployed, marks, invocation).await?,
    };
    Ok(plan.observed(app, deployed, marks, lease))
}

async fn acquire_worker(
    app: &App,
    deployed: &mut Arc<Deployed>,
    marks: &Marks,
    invocation: &mut Invocation,
) -> Result<Lease, Failure> {
    loop {
        let failure = match deployed.invoker.acquire(marks.id).await {
            Ok(lease) => {
                invocation.taken(&lease);
                return Ok(lease);
            }
            Err(failure) => failure,
        };
        if failure.error_type != ErrorType::ShuttingDown || !deployed.invoker.is_closed() {
            return Err(failure);
        }
        let function: &FunctionId = &deployed.version.function;
        let serving = app.registry.table().serving(function)?;
        let next = serving.choose(marks.alias.as_deref(), marks.id)?;
        // Nobody took over: the server goes down. A handler of another kind would not understand this request.
        if Arc::ptr_eq(&next, deployed) || next.version.kind != deployed.version.kind {
            return Err(failure);
        }
        if asks_for_more(&next, deployed) && marks.alias.is_none() {
            return Err(failure.hint("ask again: the function's `auth` changed meanwhile"));
        }
        invocation.moved_to(next.clone());
        *deployed = next;
    }
}

/// Whether one version asks its callers for a token, and the other asked for none.
fn asks_for_more(next: &Deployed, before: &Deployed) -> bool {
    next.version.settings.auth == Auth::Token && before.version.settings.auth != Auth::Token
}

/// The request that brings an event to a handler of either kind.
pub(crate) fn event_request(event: Bytes, marks: &Marks, trigger: Trigger) -> Request<Body> {
    let mut request = Request::new(Body::from(event));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static("/");
    let headers = request.headers_mut();
    headers.insert(http::header::HOST, HeaderValue::from_static("localhost"));
    headers.insert(http::header::CONTENT_TYPE, errors::JSON);
    headers.insert(forward::INVOCATION_ID, marks.id_header.clone());
    headers.insert(forward::TRACEPARENT, marks.traceparent.clone());
    // Tells it from a web request, wherever it runs.
    headers.insert(forward::TRIGGER, HeaderValue::from_static(trigger.as_str()));
    request
}
