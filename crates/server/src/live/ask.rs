//! Asks the developer whom an invocation is for, before the deployed code runs it; records what came of that.

use std::{sync::Arc, time::Instant};

use http::{header::CONTENT_LENGTH, request::Parts};
use live::{Lines, Log, Offer, Part, Present};
use model::{Attempt, Kind, LogLine, Place, TimeSpan, Timestamp, Trigger};
use workers::LogSink;

use super::{
    copies::{Copies, Observed},
    session::SessionLease,
};
use crate::{app::App, invoker::Lease, journal::Invocation, marks::Marks, serving::Deployed};

/// Whom an invocation is for, besides the deployed code; and what is said of it to them.
pub(crate) struct Plan {
    /// Who would run it instead.
    pub taker: Option<Present>,
    /// Who would have a copy.
    pub observers: Vec<Present>,
    /// Where it came from.
    pub trigger: Trigger,
    /// Whether it is a web request, as it was sent.
    pub is_web: bool,
    /// Method, path and query, for web requests.
    pub request: Option<(String, String)>,
    /// Bytes of its payload, if known.
    pub size: Option<u64>,
    /// Who called.
    pub who: Option<String>,
}

impl Plan {
    /// The same, for a web request.
    pub(crate) fn of_request(mut self: Box<Plan>, parts: &Parts, who: Option<String>) -> Box<Plan> {
        let path = parts.uri.path_and_query();
        let path = path.map_or("/", |path| path.as_str());
        self.is_web = true;
        self.request = Some((parts.method.as_str().to_owned(), path.to_owned()));
        let length = parts.headers.get(CONTENT_LENGTH);
        self.size = length.and_then(|length| length.to_str().ok()?.parse().ok());
        self.who = who;
        self
    }

    /// The taker's session, if it accepts. Else nothing of it ran there, nor will: the deployed code is to run.
    pub(crate) async fn taker(
        &self,
        app: &App,
        deployed: &Arc<Deployed>,
        marks: &Marks,
        invocation: &mut Invocation,
    ) -> Option<Lease> {
        let claim = self.taker.as_ref()?;
        keep_warm(app, deployed);
        let mut attempt = Attempt::new(1, Place::Live);
        attempt.developer = Some(claim.developer.clone());
        attempt.rule = Some(claim.rule.to_string());
        attempt.offered_us = Some(invocation.waited_us());
        let asked = Instant::now();
        let of = part(marks, attempt.number);
        let limit = match claim.hold_deadline {
            true => app.limits.timeout,
            false => deployed.version.settings.timeout,
        };
        let offer = self.offer(deployed, claim, limit);
        let log = lines(app, deployed.clone(), marks);
        let offered = app.live.hosting.offer(claim, of, offer, Some(log)).await;
        deployed.metrics.offered(offered.is_ok());
        match offered {
            Ok(accepted) => {
                let after = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
                attempt.accepted_us = attempt.offered_us.map(|offered| offered + after);
                invocation.attempted(attempt);
                let lease = Lease::Session(Box::new(SessionLease {
                    accepted,
                    claim: claim.clone(),
                    id: marks.id,
                    deployed: deployed.clone(),
                    limit,
                }));
                invocation.taken(&lease);
                Some(lease)
            }
            Err(why) => {
                attempt.why = Some(why);
                let next = attempt.number + 1;
                invocation.attempted(attempt);
                invocation.attempted(Attempt::new(next, Place::Deployed));
                None
            }
        }
    }

    /// The same place, whose request is copied to those who observe.
    pub(crate) fn observed(
        &self,
        app: &Arc<App>,
        deployed: &Deployed,
        marks: &Marks,
        lease: Lease,
    ) -> Lease {
        if self.observers.is_empty() {
            return lease;
        }
        let limit = deployed.version.settings.timeout;
        // The second try of an invocation is the deployed code's, so a copy is one further.
        let of = part(marks, COPY);
        let offers = self.observers.iter().map(|claim| {
            let mut offer = self.offer(deployed, claim, limit);
            offer.observe = true;
            (claim.clone(), offer)
        });
        let copies = Copies {
            app: app.clone(),
            of,
            offers: offers.collect(),
            limit,
        };
        Lease::Observed(Box::new(Observed { lease, copies }))
    }

    /// The invocation as it is told without its payload.
    fn offer(&self, deployed: &Deployed, claim: &Present, limit: TimeSpan) -> Offer {
        let version = &deployed.version;
        let (method, path) = self.request.clone().unzip();
        Offer {
            claim: claim.claim,
            function: version.function.to_string(),
            version: Some(version.number.to_string()),
            trigger: self.trigger.as_str().to_owned(),
            kind: Some(
                if self.is_event(deployed) {
                    "event"
                } else {
                    "web"
                }
                .to_owned(),
            ),
            rule: claim.rule.to_string(),
            size: self.size,
            deadline_ms: limit.0,
            hold: claim.hold_deadline,
            observe: false,
            ordinal: 0,
            who: self.who.clone(),
            method,
            path,
            capabilities: Vec::new(),
        }
    }

    /// Whether what is sent is an event, and not what a caller sent.
    fn is_event(&self, deployed: &Deployed) -> bool {
        deployed.version.kind == Kind::Event || !self.is_web
    }
}

/// The number of a copy among the tries of its invocation.
const COPY: u16 = 3;

fn part(marks: &Marks, attempt: u16) -> Part {
    Part {
        id: marks.id,
        attempt,
    }
}

/// The deployed version is to be there the moment nobody is attached any more.
fn keep_warm(app: &App, deployed: &Arc<Deployed>) {
    let counts = deployed.invoker.counts();
    if counts.starting + counts.warm + counts.idle + counts.busy > 0 {
        return;
    }
    let (deployed, stopping) = (deployed.clone(), app.stopping.clone());
    app.deploys.tasks.spawn(async move {
        // One that does not load shows that when it is called.
        let warmed = deployed.invoker.warm(1);
        drop(stopping.run_until_cancelled(warmed).await);
    });
}

/// Writes the lines of a session into the log of the function, under the invocation.
fn lines(app: &App, deployed: Arc<Deployed>, marks: &Marks) -> Log {
    let (id, logs, journal) = (marks.id, app.logs.clone(), app.journal.clone());
    Arc::new(move |said: Lines| {
        let now = Invocation::now(&journal);
        for line in said.lines {
            let ago = i64::try_from(line.ago_ms).unwrap_or(0);
            logs.line(LogLine {
                at: Timestamp(now.0.saturating_sub(ago)),
                function: deployed.version.function.clone(),
                version: deployed.version.number,
                invocation: Some(id),
                level: line.level,
                is_info: false,
                text: line.text,
            });
        }
    })
}
