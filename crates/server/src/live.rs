//! Live development, the server's side: who is attached, which invocation is whose, and what it costs when nobody is: one load.
//! The protocol is the room `live`'s; here it meets requests, workers and records.

mod ask;
mod attach;
mod copies;
mod session;

use std::{collections::HashSet, sync::Arc, time::Duration};

use live::{
    Broker, Channel, ChannelSettings, Control, Cover, Credentials, Hello, Hosting, Inbox, Joined,
    Local, Mode, Policy, Present, Refusal, Role, Serve,
};
use model::{Facts, FunctionId, Trigger};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Options,
    lifecycle::wide,
    registry::{Registry, State},
};

pub(crate) use ask::Plan;
pub(crate) use attach::{is_channel, let_in};
pub(crate) use copies::Observed;
pub(crate) use session::{SessionAnswer, SessionLease};
pub use session::{from_pairs, to_pairs};

/// What is said of this program.
const PROGRAM: &str = concat!("bungee ", env!("CARGO_PKG_VERSION"));

/// So often the server tells its own channel that it is there.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Live development on this server.
pub(crate) struct Live {
    /// Sessions, bridges and claims.
    pub broker: Broker,
    /// Our own invocations, as they are offered.
    pub hosting: Hosting,
}

impl Live {
    /// The channel, with this server on it as the host of all its functions; and what it is told.
    pub(crate) async fn open(registry: Arc<Registry>, options: &Options) -> (Live, Inbox) {
        let allows = options.live;
        let settings = ChannelSettings {
            project: options.home_project.clone(),
            // Whoever asks local programs for tokens expects others, by way of a proxy.
            is_wide: wide(options).is_some() || options.require_token,
            ..ChannelSettings::default()
        };
        let broker = Broker::new(settings, Arc::new(Rules { registry, allows }));
        let who = Credentials {
            may_host: true,
            ..Credentials::default()
        };
        let local = Local {
            broker: broker.clone(),
            who,
        };
        let hello = Hello {
            role: Role::Host,
            name: Some("the server".into()),
            program: PROGRAM.into(),
            developer: None,
            resume: None,
            capabilities: Vec::new(),
            seal: None,
        };
        let joined = local.join(hello).await;
        let Joined { outbox, inbox, .. } = joined.expect("a channel lets its own server in");
        let all = Serve {
            functions: Vec::new(),
            all: true,
        };
        // Who is on this channel talks to the server itself: nobody to seal from. Laptops elsewhere ask for compression.
        let cover = Cover {
            packs: true,
            ..Cover::default()
        };
        let hosting = Hosting::new(outbox.clone(), cover);
        hosting.hear_at_once();
        outbox
            .send(Control::from(all))
            .expect("a channel stays open until it is closed");
        (Live { broker, hosting }, inbox)
    }

    /// Starts what lives as long as the channel.
    pub(crate) fn keep(&self, tasks: &TaskTracker, stopping: &CancellationToken, inbox: Inbox) {
        let (broker, hosting, stopping) =
            (self.broker.clone(), self.hosting.clone(), stopping.clone());
        tasks.spawn(async move {
            let time = stopping.run_until_cancelled(broker.keep_time());
            tokio::join!(time, hosting.run(inbox, HEARTBEAT));
        });
    }

    /// Whether nobody is attached.
    pub(crate) fn is_quiet(&self) -> bool {
        self.hosting.is_quiet()
    }

    /// Whom an invocation of the function is for; `None` where only the deployed code is meant.
    pub(crate) fn plan(
        &self,
        function: &FunctionId,
        facts: &Facts<'_>,
        trigger: Trigger,
    ) -> Option<Box<Plan>> {
        let claims = self.hosting.claims(&function.to_string())?;
        let mut taker = None;
        let mut observers = Vec::new();
        for claim in claims.iter().filter(|claim| claim.rule.matches(facts)) {
            match claim.mode {
                Mode::Take if taker.is_none() => taker = Some(claim.clone()),
                Mode::Take => {}
                Mode::Observe => observers.push(claim.clone()),
            }
        }
        // One copy for a session, however many of its rules match; the taker has the invocation itself.
        let mut seen: HashSet<u32> = taker.iter().map(|taker: &Present| taker.peer).collect();
        observers.retain(|observer: &Present| seen.insert(observer.peer));
        if taker.is_none() && observers.is_empty() {
            return None;
        }
        Some(Box::new(Plan {
            taker,
            observers,
            trigger,
            is_web: false,
            request: None,
            size: None,
            who: None,
        }))
    }
}

/// What this server allows on its channel.
struct Rules {
    registry: Arc<Registry>,
    /// Whether laptops may attach at all.
    allows: bool,
}

impl Policy for Rules {
    fn may_claim(&self, function: &FunctionId, _who: &Credentials) -> Result<(), Refusal> {
        if !self.allows {
            let message = "this server lets no laptop attach".to_owned();
            return Err(live_off(message, "it was started with `--no-live`"));
        }
        match self.registry.table().state(function) {
            Some(State::Deployed(serving)) if serving.keeps_laptops_out() => Err(live_off(
                format!("`{function}` cannot be claimed: its `live` is `off`"),
                "set `live = \"on\"` in bungee.toml and deploy",
            )),
            Some(State::Disabled) => {
                let message = format!("`{function}` cannot be claimed: it is disabled");
                let hint = format!("`bungee enable {}` lets calls in again", function.name);
                Err(Refusal::new("FunctionDisabled", message).hint(hint))
            }
            Some(State::Deployed(_) | State::NotDeployed | State::Shut) | None => Ok(()),
        }
    }

    fn is_deployed(&self, function: &FunctionId) -> Option<bool> {
        let table = self.registry.table();
        Some(matches!(table.state(function), Some(State::Deployed(_))))
    }
}

/// The refusal where live development is switched off.
fn live_off(message: String, hint: &str) -> Refusal {
    Refusal {
        kind: "LiveOff".into(),
        message,
        hint: Some(hint.into()),
    }
}
