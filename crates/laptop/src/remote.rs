//! `dev --remote`: the folder's functions run invocations of a server elsewhere, for as long as this session is attached to it.
//! The code, its pool and its watcher are those of `dev`; the channel and the protocol those of the room `live`.

pub(crate) mod env;
mod far;
mod runner;
mod story;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use live::{Attached, Channel, Cover, Hello, JoinError, Role, SealKey, Terms, WebSocketChannel};
use model::{FunctionId, LogLine, Name, Rule};
use server::{Server, Workbench};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::api::Client;
pub use env::Borrowed;
pub use live::{ChannelKey, Event, Holder, KeyError, Mode, Refusal, Welcome, Wish};
use runner::LocalRunner;
pub use story::{About, Stories};

/// What runs when Ctrl-C is pressed may end by itself for so long.
pub const GRACE: Duration = Duration::from_secs(5);

/// How a session wants its functions' invocations.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Only these functions; all of the folder, if there are none.
    pub only: BTreeSet<Name>,
    /// Not these.
    pub except: BTreeSet<Name>,
    /// Which invocations of them; each is claimed by itself.
    pub rules: Vec<Rule>,
    /// The invocations, or copies of them.
    pub mode: Mode,
    /// The deadline waits at a breakpoint.
    pub hold_deadline: bool,
    /// Take claims over from whoever holds them.
    pub take_over: bool,
    /// Everything is meant, also on a server that others reach.
    pub all: bool,
    /// So many at once of each claim.
    pub concurrency: Option<u32>,
}

impl Wanted {
    /// Whether a function of this name is meant.
    pub fn means(&self, function: &Name) -> bool {
        let is_only = self.only.is_empty() || self.only.contains(function);
        is_only && !self.except.contains(function)
    }

    fn terms(&self) -> Terms {
        Terms {
            mode: self.mode,
            take_over: self.take_over,
            concurrency: self.concurrency,
            hold_deadline: self.hold_deadline,
            all: self.all,
        }
    }
}

/// Where to attach.
#[derive(Debug, Clone)]
pub struct Place {
    /// `http(s)://…` of a server, or `ws(s)://…` of a channel.
    pub url: String,
    /// Opens it.
    pub token: Option<String>,
    /// Who is shown to others there, such as `ann@laptop`.
    pub developer: String,
    /// The server's API; `None` where there is only a channel.
    pub api: Option<Client>,
    /// Seals what crosses to whoever has it too.
    pub key: Option<SealKey>,
    /// Whether it is on this machine.
    pub is_loopback: bool,
}

impl Place {
    /// How payloads cross. A server's own channel belongs to nobody else, so its own invocations need no seal there;
    /// a channel on its own is a third party's, and with a key only what is sealed is taken.
    fn cover(&self) -> Cover {
        Cover {
            key: self.key.clone(),
            takes_plain: self.api.is_some(),
            packs: !self.is_loopback,
        }
    }
}

/// A session that is attached, or tries to be.
pub struct Remote {
    attached: Attached,
    stories: Stories,
    wanted: watch::Sender<Wanted>,
    ready: watch::Receiver<BTreeSet<FunctionId>>,
    leaving: CancellationToken,
    tasks: JoinSet<()>,
}

impl Remote {
    /// Attaches, for the functions that `ready` says have code here. What their deployed code logs goes to `far`.
    ///
    /// # Errors
    /// The URL is none of a channel.
    pub fn attach(
        place: &Place,
        server: &Server,
        wanted: Wanted,
        ready: watch::Receiver<BTreeSet<FunctionId>>,
        events: mpsc::UnboundedSender<Event>,
        far: mpsc::UnboundedSender<LogLine>,
    ) -> Result<Remote, JoinError> {
        let channel = WebSocketChannel::new(&place.url, place.token.as_deref())?;
        let channel = Arc::new(channel);
        let mut remote = Remote::over(channel, place, server, wanted, ready, events);
        if let Some(api) = place.api.clone() {
            let (wants, ready) = (remote.wanted.subscribe(), remote.ready.clone());
            let following = far::follow(api, wants, ready, remote.stories.clone(), far);
            let left = remote.leaving.clone();
            remote.tasks.spawn(async move {
                left.run_until_cancelled(following).await;
            });
        }
        Ok(remote)
    }

    fn over(
        channel: Arc<dyn Channel>,
        place: &Place,
        server: &Server,
        wanted: Wanted,
        ready: watch::Receiver<BTreeSet<FunctionId>>,
        events: mpsc::UnboundedSender<Event>,
    ) -> Remote {
        let workbench: Workbench = server.workbench();
        let stories = Stories::default();
        let runner = Arc::new(LocalRunner::new(workbench, stories.clone()));
        let hello = Hello {
            role: Role::Session,
            name: None,
            program: concat!("bungee ", env!("CARGO_PKG_VERSION")).into(),
            developer: Some(place.developer.clone()),
            resume: None,
            capabilities: Vec::new(),
            seal: None,
        };
        let attached = Attached::new(channel, hello, runner, events, place.cover());
        let leaving = CancellationToken::new();
        let (wanted, wants) = watch::channel(wanted);
        let mut tasks = JoinSet::new();
        let (session, left) = (attached.clone(), leaving.clone());
        tasks.spawn(async move { session.run(left, GRACE).await });
        let (session, left) = (attached.clone(), leaving.clone());
        let changing = ready.clone();
        tasks.spawn(async move {
            let wishing = keep_wishing(session, wants, changing);
            left.run_until_cancelled(wishing).await;
        });
        let (lines, left) = (server.logs(), leaving.clone());
        let told = stories.clone();
        tasks.spawn(async move {
            left.run_until_cancelled(told.pass_on(lines)).await;
        });
        Remote {
            attached,
            stories,
            wanted,
            ready,
            leaving,
            tasks,
        }
    }

    /// Which functions are meant from now on; gives those of them that have code here.
    /// What was refused or taken before is asked for again.
    pub fn want(&self, change: impl FnOnce(&mut Wanted)) -> BTreeSet<Name> {
        self.wanted.send_modify(change);
        self.attached.ask_again();
        let (wanted, ready) = (self.wanted.borrow(), self.ready.borrow());
        let names = ready.iter().map(|function| function.name.clone());
        names.filter(|name| wanted.means(name)).collect()
    }

    /// How many claims it asks for, of what has code now.
    pub fn asked(&self) -> usize {
        let (wanted, ready) = (self.wanted.borrow(), self.ready.borrow());
        let meant = ready.iter().filter(|function| wanted.means(&function.name));
        meant.count() * wanted.rules.len()
    }

    /// What is known of invocations that came from there.
    pub fn stories(&self) -> &Stories {
        &self.stories
    }

    /// Invocations from there that run here now.
    pub fn running(&self) -> usize {
        self.attached.running()
    }

    /// Gives everything back, lets what runs end within [`GRACE`], and says goodbye. Returns when that is done, or at once
    /// when the session had ended.
    pub async fn leave(mut self) {
        self.leaving.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Claims what is wanted and has code here, as both change.
async fn keep_wishing(
    session: Attached,
    mut wants: watch::Receiver<Wanted>,
    mut ready: watch::Receiver<BTreeSet<FunctionId>>,
) {
    loop {
        let mut wishes = BTreeMap::new();
        {
            let (wanted, ready) = (wants.borrow_and_update(), ready.borrow_and_update());
            for function in ready.iter().filter(|function| wanted.means(&function.name)) {
                for rule in &wanted.rules {
                    let (function, rule) = (function.to_string(), rule.to_string());
                    wishes.insert(Wish { function, rule }, wanted.terms());
                }
            }
        }
        session.wish(wishes);
        let changed = tokio::select! {
            changed = wants.changed() => changed,
            changed = ready.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}
