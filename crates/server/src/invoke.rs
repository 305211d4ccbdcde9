//! An event given to a function from within the server, carried to its end: the invoke call of the API now,
//! later the queue and schedules too.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use model::{Facts, Failure, InvocationId, Kind, Trigger};

use crate::{
    app::App,
    bodies::{BodyLimit, whole_answer},
    gateway,
    invoker::Runner,
    journal::{Invocation, Timing},
    live::Plan,
    marks::Marks,
    serving::{Deployed, Serving},
};

/// An event on its way to a function.
pub(crate) struct Errand {
    pub event: Bytes,
    pub trigger: Trigger,
    /// The alias that the caller named; `None`: `current`.
    pub alias: Option<String>,
}

/// How an invocation went.
pub(crate) struct Outcome {
    pub id: InvocationId,
    pub result: Result<Answer, Failure>,
    pub timing: Timing,
}

/// What the handler answered.
pub(crate) struct Answer {
    /// An event handler's result as JSON, or a web handler's response body.
    pub body: Bytes,
    /// A web handler's status.
    pub status: Option<StatusCode>,
}

/// Invokes with an event and waits for the end, until all that the worker wrote has reached the log.
///
/// # Errors
/// The alias leads nowhere; nothing was begun.
pub(crate) async fn invoke(
    app: &Arc<App>,
    serving: &Serving,
    errand: Errand,
) -> Result<Outcome, Failure> {
    let arrived = Invocation::now(&app.journal);
    let Errand {
        event,
        trigger,
        alias,
    } = errand;
    let marks = Marks::new(arrived, None).with_alias(alias.as_deref());
    let mut deployed = serving.choose(marks.alias.as_deref(), marks.id)?;
    let journal = app.journal.clone();
    let mut invocation =
        Invocation::begin(journal, deployed.clone(), marks.id, arrived, trigger, None);
    let mut worker = None;
    let result = carry(
        app,
        &mut deployed,
        event,
        &marks,
        trigger,
        &mut invocation,
        &mut worker,
    )
    .await;
    let timing = match &result {
        Ok(_) => invocation.succeed(),
        Err(failure) => invocation.fail(failure),
    };
    if let Some(worker) = worker {
        worker.drained().await;
    }
    Ok(Outcome {
        id: marks.id,
        result,
        timing,
    })
}

/// Which developer the event is for, if it is for one. Whoever names an alias means that version.
fn plan(app: &App, deployed: &Deployed, marks: &Marks, trigger: Trigger) -> Option<Box<Plan>> {
    if app.live.is_quiet() || marks.alias.is_some() {
        return None;
    }
    let facts = Facts {
        id: marks.id,
        http: None,
    };
    app.live.plan(&deployed.version.function, &facts, trigger)
}

async fn carry(
    app: &Arc<App>,
    deployed: &mut Arc<Deployed>,
    event: Bytes,
    marks: &Marks,
    trigger: Trigger,
    invocation: &mut Invocation,
    worker: &mut Option<Runner>,
) -> Result<Answer, Failure> {
    let plan = plan(app, deployed, marks, trigger);
    let lease = gateway::acquire(app, deployed, marks, invocation, plan.as_deref()).await?;
    *worker = lease.worker();
    let response = lease
        .send(gateway::event_request(event, marks, trigger))
        .await?;
    let (parts, body) = response.into_parts();
    let body = whole_answer(body, BodyLimit::result(&app.limits)).await?;
    let status = match deployed.version.kind {
        Kind::Event => None,
        Kind::Web => {
            invocation.answers(parts.status);
            Some(parts.status)
        }
    };
    Ok(Answer { body, status })
}
