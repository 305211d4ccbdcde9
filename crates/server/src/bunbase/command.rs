//! What a frame asks for: five commands, and who may give which.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Uri, header::AUTHORIZATION};
use model::{Auth, ErrorType, Failure, Timestamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    deploy,
    frame::{self, Asked},
    invoke, logs, measure, register,
};
use crate::{app::App, auth::Peer, journal::Invocation, rights::Right};

/// A request that was understood.
pub(super) enum Command {
    Invoke(Box<invoke::Call>),
    Logs(logs::Wanted),
    Metrics(Named),
    Register(register::Wanted),
    Deploy(deploy::Wanted),
}

/// What names a function and nothing else.
#[derive(Deserialize)]
pub(super) struct Named {
    #[serde(default)]
    function_id: String,
}

/// Reads a payload.
pub(super) fn json<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(payload).map_err(|error| {
        let message = format!("the payload is not as expected: {error}");
        Failure::new(ErrorType::BadRequest, message)
    })
}

fn boxed<T: DeserializeOwned>(
    payload: &[u8],
    command: impl FnOnce(T) -> Command,
) -> Result<Command, Failure> {
    json(payload).map(command)
}

impl Command {
    /// What a frame asks for.
    pub(super) fn read(asked: &Asked) -> Result<Command, Failure> {
        let payload = &asked.payload[..];
        match asked.command {
            1 => Ok(Command::Invoke(Box::new(invoke::read(payload)?))),
            2 => boxed(payload, Command::Logs),
            3 => boxed(payload, Command::Metrics),
            4 => boxed(payload, Command::Register),
            5 => boxed(payload, Command::Deploy),
            unknown => {
                let message = format!("there is no command {unknown}");
                Err(Failure::new(ErrorType::BadRequest, message)
                    .hint("1 is INVOKE, 2 GET_LOGS, 3 GET_METRICS, 4 REGISTER and 5 DEPLOY"))
            }
        }
    }

    /// Does it; the answer is a frame.
    pub(super) async fn run(self, app: &Arc<App>, caller: Caller, id: u64) -> Vec<u8> {
        match self {
            Command::Invoke(call) => framed(id, invoke::invoke(app, caller, *call).await),
            Command::Logs(wanted) => framed(id, lines(app, &caller, &wanted).await),
            Command::Metrics(named) => framed(id, figures(app, &caller, &named).await),
            Command::Register(wanted) => framed(
                id,
                match caller.check(app, Right::Deploy) {
                    Ok(()) => register::register(app, wanted).await,
                    Err(failure) => Err(failure),
                },
            ),
            Command::Deploy(wanted) => framed(
                id,
                match caller.check(app, Right::Deploy) {
                    Ok(()) => deploy::deploy(app, wanted).await,
                    Err(failure) => Err(failure),
                },
            ),
        }
    }
}

fn framed<T: Serialize>(id: u64, done: Result<T, Failure>) -> Vec<u8> {
    match done {
        Ok(answer) => frame::answer(id, &answer),
        Err(failure) => frame::refusal(id, &failure),
    }
}

/// The answer of GET_LOGS.
#[derive(Serialize)]
struct Logged {
    logs: Vec<logs::Line>,
}

async fn lines(app: &App, caller: &Caller, wanted: &logs::Wanted) -> Result<Logged, Failure> {
    caller.check(app, Right::Look)?;
    let id = named(app, &wanted.function_id)?;
    let logs = logs::lines(app, &id, wanted).await?;
    Ok(Logged { logs })
}

async fn figures(app: &App, caller: &Caller, named: &Named) -> Result<measure::Figures, Failure> {
    caller.check(app, Right::Look)?;
    measure::figures(app, &self::named(app, &named.function_id)?).await
}

fn named(app: &App, function_id: &str) -> Result<model::FunctionId, Failure> {
    match function_id {
        "" => Err(super::missing("function_id")),
        name => super::function(app, name),
    }
}

/// Who asks: where the connection comes from, and the token in the payload, where one is needed.
pub(super) struct Caller {
    peer: Peer,
    /// As HTTP would carry it.
    token: Option<HeaderMap>,
}

/// The field that carries a token; the wire has no other place for one.
#[derive(Deserialize)]
struct Carrying {
    token: Option<String>,
}

impl Caller {
    /// Who sent this frame.
    pub(super) fn of(app: &App, peer: Peer, asked: &Asked) -> Caller {
        let needs_none = peer == Peer::Owner || (app.access.is_open() && peer != Peer::Stranger);
        let token = match needs_none {
            true => None,
            false => carried(&asked.payload),
        };
        Caller { peer, token }
    }

    fn check(&self, app: &App, right: Right) -> Result<(), Failure> {
        let (none, uri) = (HeaderMap::new(), Uri::default());
        let headers = self.token.as_ref().unwrap_or(&none);
        let now = Invocation::now(&app.journal);
        let checked = app.access.check_api(right, self.peer, headers, &uri, now);
        checked.map_err(where_it_goes)
    }

    /// Whether he may invoke a function with this `auth`; the token may stand in the request's own headers too.
    pub(super) fn check_function(
        &self,
        app: &App,
        auth: Auth,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let headers = self.token.as_ref().unwrap_or(headers);
        let checked = app.access.check_function(auth, self.peer, headers, now);
        checked.map_err(where_it_goes)
    }
}

fn carried(payload: &[u8]) -> Option<HeaderMap> {
    let carrying: Carrying = serde_json::from_slice(payload).ok()?;
    let value = format!("Bearer {}", carrying.token?);
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::try_from(value).ok()?);
    Some(headers)
}

/// A refusal that says where a token goes in a frame.
fn where_it_goes(failure: Failure) -> Failure {
    match failure.error_type {
        ErrorType::Unauthorized => failure.hint("put `\"token\": \"bgt_…\"` into the payload"),
        _ => failure,
    }
}
