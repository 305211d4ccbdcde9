//! Who gets a function's invocations: ends with their leases, claims with their owners, and what every host is told of them.
//! Values in, values out: no clock, no chance, no IO; whoever drives it sends what a [`Turn`] says, in that order.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use model::FunctionId;
use uuid::Uuid;

use crate::message::{
    Alive, CAPABILITIES_TOLD, CAPABILITY_TOLD_MAX, Control, Fatal, Gone, Heartbeat, Hello,
    Presence, Refusal, Role, Welcome,
};

mod grant;
mod policy;
mod table;

pub use policy::{ChannelSettings, Credentials, Open, Policy};
use table::Table;

/// Most ends of one channel.
pub const ENDS_MAX: usize = 2_000;

/// Departures are remembered for so many leases, and told again to an end that comes back.
const REMEMBERED_LEASES: u64 = 4;

/// What is to be done after an event: first everything is sent, in this order; then the departed are forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Turn {
    /// To whom, and what.
    pub send: Vec<(u32, Control)>,
    /// Ends that are no more; their connections close.
    pub gone: Vec<u32>,
}

/// An end that was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Its number; one that came back has its old one, and its earlier connection is to be closed.
    pub peer: u32,
    /// Whether it came back.
    pub resumed: bool,
    /// What is to be done.
    pub turn: Turn,
}

/// One end.
#[derive(Debug)]
struct End {
    role: Role,
    who: Credentials,
    developer: String,
    session: String,
    key: String,
    seal: Option<String>,
    capabilities: Vec<String>,
    /// When it was heard last.
    heard_ms: u64,
    serves: BTreeSet<FunctionId>,
    serves_all: bool,
}

/// One that left, for those who were away meanwhile.
#[derive(Debug)]
struct Departed {
    at_ms: u64,
    role: Role,
    gone: Gone,
}

/// The state of a channel.
pub struct Claims {
    settings: ChannelSettings,
    policy: Arc<dyn Policy>,
    ends: BTreeMap<u32, End>,
    by_key: HashMap<String, u32>,
    departed: VecDeque<Departed>,
    table: Table,
    last_peer: u32,
    /// Why nobody is let in any more.
    closed: Option<String>,
}

impl Claims {
    /// Nobody is there yet.
    pub fn new(settings: ChannelSettings, policy: Arc<dyn Policy>) -> Claims {
        Claims {
            settings,
            policy,
            ends: BTreeMap::new(),
            by_key: HashMap::new(),
            departed: VecDeque::new(),
            table: Table::default(),
            last_peer: 0,
            closed: None,
        }
    }

    /// The channel's times and names.
    pub fn settings(&self) -> &ChannelSettings {
        &self.settings
    }

    /// How many claims are held.
    pub fn count(&self) -> usize {
        self.table.count()
    }

    /// An end introduces itself; `chance` are bytes that nobody can guess.
    pub fn join(
        &mut self,
        now_ms: u64,
        who: Credentials,
        hello: Hello,
        chance: [u8; 32],
    ) -> Result<Admitted, Fatal> {
        if let Some(why) = &self.closed {
            return Err(Fatal(Refusal::new("ShuttingDown", why.as_str())));
        }
        let (is_allowed, needs) = match hello.role {
            Role::Session => (who.may_attach, "live"),
            Role::Host => (who.may_host, "bridge"),
        };
        if !is_allowed {
            let refusal = Refusal::new("Forbidden", "this token may not do that on this channel");
            return Err(Fatal(
                refusal.hint(format!("use a token with the role `{needs}`")),
            ));
        }
        let known = hello.resume.as_ref().and_then(|key| self.by_key.get(key));
        if let Some(peer) = known.copied()
            && let Some(end) = self.ends.get_mut(&peer)
            && end.role == hello.role
            && end.who == who
        {
            let last_heard = std::mem::replace(&mut end.heard_ms, now_ms);
            return Ok(self.welcome_back(peer, last_heard));
        }
        if self.ends.len() >= ENDS_MAX {
            let message = format!("this channel has {ENDS_MAX} ends already, its limit");
            return Err(Fatal(Refusal::new("ChannelFull", message)));
        }
        self.last_peer += 1;
        let peer = self.last_peer;
        let (id, key) = chance.split_at(16);
        let text = |bytes: &[u8]| Uuid::from_slice(bytes).unwrap_or_default().simple();
        let shown = hello.developer.or(hello.name).or_else(|| who.user.clone());
        let end = End {
            role: hello.role,
            who,
            developer: shown.unwrap_or_else(|| "somebody".into()),
            session: format!("ses_{}", text(id)),
            key: text(key).to_string(),
            seal: hello.seal,
            capabilities: told(hello.capabilities),
            heard_ms: now_ms,
            serves: BTreeSet::new(),
            serves_all: false,
        };
        self.by_key.insert(end.key.clone(), peer);
        let welcome = self.welcome(peer, &end, false);
        self.ends.insert(peer, end);
        let turn = Turn {
            send: vec![(peer, welcome.into())],
            gone: Vec::new(),
        };
        Ok(Admitted {
            peer,
            resumed: false,
            turn,
        })
    }

    /// It may have missed whatever was sent since shortly before it was heard last: it is told all of that again.
    fn welcome_back(&mut self, peer: u32, last_heard_ms: u64) -> Admitted {
        let end = &self.ends[&peer];
        let mut send = vec![(peer, self.welcome(peer, end, true).into())];
        let since = last_heard_ms.saturating_sub(self.settings.lease_ms);
        for departed in &self.departed {
            if departed.role != end.role && departed.at_ms >= since {
                send.push((peer, departed.gone.clone().into()));
            }
        }
        if end.role == Role::Host {
            send.extend(self.all_presence(peer));
        }
        let gone = Vec::new();
        Admitted {
            peer,
            resumed: true,
            turn: Turn { send, gone },
        }
    }

    fn welcome(&self, peer: u32, end: &End, resumed: bool) -> Welcome {
        let settings = &self.settings;
        Welcome {
            session: end.session.clone(),
            peer,
            key: end.key.clone(),
            resumed,
            claims: self.table.numbers_of(peer),
            lease_ms: settings.lease_ms,
            heartbeat_ms: settings.heartbeat_ms,
            offer_ms: settings.offer_ms,
            server: settings.server.clone(),
            project: settings.project.to_string(),
            capabilities: settings.capabilities.clone(),
            is_wide: settings.is_wide,
        }
    }

    /// An end says something; whatever it is, it is alive.
    pub fn hear(&mut self, now_ms: u64, peer: u32, said: Control) -> Turn {
        let mut turn = Turn::default();
        let Some(end) = self.ends.get_mut(&peer) else {
            return turn;
        };
        end.heard_ms = now_ms;
        let role = end.role;
        match (said, role) {
            (Control::Heartbeat(Heartbeat { n }), _) => {
                turn.send.push((peer, Alive { n }.into()));
            }
            (Control::Goodbye(goodbye), _) => {
                let why = match goodbye.why {
                    why if why.is_empty() => "it left".into(),
                    why => format!("it left: {why}"),
                };
                self.depart(now_ms, peer, &why, &mut turn);
            }
            (Control::Claim(claim), Role::Session) => {
                self.claim(now_ms, peer, claim, &mut turn);
            }
            (Control::Release(release), Role::Session) => {
                let changed = self.table.release(peer, release.claim);
                self.tell_hosts(changed, &mut turn);
            }
            (Control::Serve(serve), Role::Host) => self.serve(now_ms, peer, &serve, &mut turn),
            (Control::Fatal(Fatal(refusal)), _) => {
                let why = format!("it gave up: {refusal}");
                self.depart(now_ms, peer, &why, &mut turn);
            }
            (other, _) => {
                let message = format!("a {:?} is nothing that this end may say", other.kind());
                let refusal = Refusal::new("BadFrame", message);
                self.dismiss(now_ms, peer, refusal, &mut turn);
            }
        }
        turn
    }

    /// An end's connection closed, or the channel gives up on it.
    pub fn end(&mut self, now_ms: u64, peer: u32, why: &str) -> Turn {
        let mut turn = Turn::default();
        self.depart(now_ms, peer, why, &mut turn);
        turn
    }

    /// The channel closes: nobody is here any more, nobody is told so, and nobody is let in.
    pub fn close(&mut self, why: &str) {
        for peer in self.ends.keys() {
            self.table.release(*peer, None);
        }
        self.ends.clear();
        self.by_key.clear();
        self.departed.clear();
        self.closed = Some(why.into());
    }

    /// Nobody could be heard for so long: it counts for nobody's lease.
    pub fn forgive(&mut self, millis: u64) {
        for end in self.ends.values_mut() {
            end.heard_ms = end.heard_ms.saturating_add(millis);
        }
    }

    /// Time has passed: the silent are gone.
    pub fn tick(&mut self, now_ms: u64) -> Turn {
        let lease = self.settings.lease_ms;
        let is_silent = |end: &End| now_ms.saturating_sub(end.heard_ms) >= lease;
        let silent: Vec<u32> = self
            .ends
            .iter()
            .filter(|(_, end)| is_silent(end))
            .map(|(peer, _)| *peer)
            .collect();
        let mut turn = Turn::default();
        let why = format!("it was silent for {lease} ms");
        for peer in silent {
            self.depart(now_ms, peer, &why, &mut turn);
        }
        let kept = now_ms.saturating_sub(lease.saturating_mul(REMEMBERED_LEASES));
        while self.departed.front().is_some_and(|old| old.at_ms < kept) {
            self.departed.pop_front();
        }
        turn
    }

    /// Its last word is why it has to go.
    fn dismiss(&mut self, now_ms: u64, peer: u32, refusal: Refusal, turn: &mut Turn) {
        let why = format!("it was dismissed: {refusal}");
        turn.send.push((peer, Fatal(refusal).into()));
        self.depart(now_ms, peer, &why, turn);
    }

    /// Frees what it held, and tells the ends of the other role; lists first, so that nobody offers it anything more.
    fn depart(&mut self, now_ms: u64, peer: u32, why: &str, turn: &mut Turn) {
        let Some(end) = self.ends.remove(&peer) else {
            return;
        };
        self.by_key.remove(&end.key);
        let changed = self.table.release(peer, None);
        self.tell_hosts(changed, turn);
        let gone = Gone {
            peer,
            why: why.into(),
        };
        let others = self.ends.iter().filter(|(_, other)| other.role != end.role);
        let told = others.map(|(other, _)| (*other, gone.clone().into()));
        turn.send.extend(told);
        turn.gone.push(peer);
        self.departed.push_back(Departed {
            at_ms: now_ms,
            role: end.role,
            gone,
        });
    }

    fn tell_hosts(&self, functions: impl IntoIterator<Item = FunctionId>, turn: &mut Turn) {
        for function in functions {
            let presence = self.presence(&function);
            let hosts = self.ends.iter().filter(|(_, end)| end.hosts(&function));
            let told = hosts.map(|(host, _)| (*host, presence.clone().into()));
            turn.send.extend(told);
        }
    }

    /// Everything that a host knows when it knows nothing yet.
    fn all_presence(&self, host: u32) -> Vec<(u32, Control)> {
        let Some(end) = self.ends.get(&host) else {
            return Vec::new();
        };
        let functions = self.table.functions().filter(|name| end.hosts(name));
        functions
            .map(|name| (host, self.presence(name).into()))
            .collect()
    }

    fn presence(&self, function: &FunctionId) -> Presence {
        Presence {
            function: function.to_string(),
            claims: self.table.claims_of(function).cloned().collect(),
        }
    }
}

/// Those of an end's capabilities that hosts are told: a presence has to fit a frame.
fn told(mut capabilities: Vec<String>) -> Vec<String> {
    capabilities.retain(|named| named.len() <= CAPABILITY_TOLD_MAX);
    capabilities.truncate(CAPABILITIES_TOLD);
    capabilities
}

impl End {
    fn hosts(&self, function: &FunctionId) -> bool {
        self.role == Role::Host && (self.serves_all || self.serves.contains(function))
    }
}

#[cfg(test)]
mod tests;
