//! `bungee dev --remote URL`: what is asked for, and what the terminal says of the session.

use std::{collections::BTreeSet, time::Duration};

use clap::Args;
use laptop::{
    api::{Address, Client},
    dev::Dev,
    remote::{
        About, Event, Holder, Mode, Place, Refusal, Remote as Session, Wanted, Welcome, Wish,
    },
};
use model::{Name, Rule, nearest};
use tokio::sync::mpsc::unbounded_channel;

use super::{
    terminal::{Sources, Terminal},
    way::{Way, key},
};
use crate::{
    commands::Door,
    connection,
    exit::{Complaint, Exit, Stop},
    output::{Palette, Style, escape},
    system, table,
};

/// Arguments of `dev --remote`.
#[derive(Debug, Clone, Args)]
pub struct Remote {
    /// Run the invocations of this server's functions here: http(s)://… of a server, or ws(s)://… of a relay, sealed with BUNGEE_KEY
    #[arg(long, value_name = "URL", help_heading = "Attached to a server")]
    pub remote: Option<String>,
    /// Only these functions of the folder, separated by commas
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        requires = "remote",
        help_heading = "Attached to a server"
    )]
    only: Vec<Name>,
    /// Not these functions of the folder
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        requires = "remote",
        help_heading = "Attached to a server"
    )]
    except: Vec<Name>,
    /// Only invocations that this matches: header:NAME=VALUE, path:/v2/*, user:NAME, percent:N or all; may be given more than once
    #[arg(
        long,
        value_name = "RULE",
        requires = "remote",
        help_heading = "Attached to a server"
    )]
    when: Vec<Rule>,
    /// Get copies: the deployed code answers
    #[arg(long, requires = "remote", help_heading = "Attached to a server")]
    observe: bool,
    /// Let the deadline wait at a breakpoint, 900 s at most
    #[arg(long, requires = "remote", help_heading = "Attached to a server")]
    hold_deadline: bool,
    /// Take functions over from whoever holds them
    #[arg(long, requires = "remote", help_heading = "Attached to a server")]
    take_over: bool,
    /// Yes, every invocation is meant, on a server that others use too
    #[arg(long, requires = "remote", help_heading = "Attached to a server")]
    all: bool,
    /// At most so many invocations of a function at once; the rest run deployed
    #[arg(long, value_name = "N", requires = "remote", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Attached to a server")]
    concurrency: Option<u32>,
    /// Attach over plain http:// to another machine, where everybody on the way reads along; over plain ws:// with BUNGEE_KEY
    #[arg(long, requires = "remote", help_heading = "Attached to a server")]
    insecure: bool,
}

/// A server that is there answers a first question within this.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

impl Remote {
    /// Where to attach, if that was asked for.
    ///
    /// # Errors
    /// The URL is none that can be attached to, or not safely.
    pub fn place(&self, door: &Door) -> Result<Option<Place>, Stop> {
        let Some(url) = &self.remote else {
            return Ok(None);
        };
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        if matches!(scheme, "redis" | "rediss" | "nats" | "appsync") {
            let message = format!("`{scheme}://` channels arrive later");
            return Err(Complaint::usage(message)
                .hint("attach to the server itself with http(s)://, or to a relay with ws(s)://")
                .into());
        }
        let is_api = matches!(scheme, "http" | "https");
        let as_http = url.replacen("ws", "http", usize::from(scheme.starts_with("ws")));
        let address: Address = as_http.parse().map_err(|_| {
            Complaint::usage(format!("`{url}` is nothing to attach to"))
                .hint("write it like https://functions.example.com or ws://127.0.0.1:24193")
        })?;
        let key = key()?;
        let is_loopback = address.is_loopback();
        if !is_loopback {
            let way = Way {
                url,
                is_server: is_api,
                is_plain: matches!(scheme, "http" | "ws"),
                has_key: key.is_some(),
                insecure: self.insecure,
            };
            way.check()?;
        }
        let token = door.global.token.clone();
        let token = token.or_else(|| connection::kept_token(&address));
        // A key's own token is mostly a bridge's: whoever has one of his own comes with that.
        let token = token.or_else(|| Some(key.as_ref()?.token().to_owned()));
        let api = match is_api {
            true => Some(Client::new(address, token.clone())?),
            false => None,
        };
        Ok(Some(Place {
            url: url.clone(),
            token,
            developer: system::developer(),
            api,
            key: key.map(|key| key.seal),
            is_loopback,
        }))
    }

    /// Attaches what runs here to the place, and lets the terminal tell of it.
    ///
    /// # Errors
    /// The URL is none of a channel.
    pub fn attach(
        &self,
        place: &Place,
        dev: &Dev,
        terminal: &mut Terminal,
        sources: &mut Sources,
    ) -> Result<(), Stop> {
        self.check_names(dev.names())?;
        let (sender, live) = unbounded_channel();
        let (far_sender, far) = unbounded_channel();
        let (wanted, ready) = (self.wanted(), dev.ready());
        let session = Session::attach(place, dev.server(), wanted, ready, sender, far_sender);
        let session = session.map_err(|error| Complaint::usage(error.to_string()))?;
        terminal.attach(session, place);
        sources.live = Some(live);
        sources.far = Some(far);
        sources.typed = Some(system::typed());
        Ok(())
    }

    /// Whether the names that were typed are functions of the folder, and leave some.
    fn check_names(&self, known: &BTreeSet<Name>) -> Result<(), Stop> {
        for name in self.only.iter().chain(&self.except) {
            if !known.contains(name) {
                return Err(Complaint::usage(unknown(name, known)).into());
            }
        }
        let wanted = self.wanted();
        if !known.is_empty() && !known.iter().any(|name| wanted.means(name)) {
            let message = "`--only` and `--except` leave no function to attach for";
            return Err(Complaint::usage(message).into());
        }
        Ok(())
    }

    /// What the session wants.
    fn wanted(&self) -> Wanted {
        let rules = match self.when.is_empty() {
            true => vec![Rule::All],
            false => self.when.clone(),
        };
        Wanted {
            only: self.only.iter().cloned().collect(),
            except: self.except.iter().cloned().collect(),
            rules,
            mode: if self.observe {
                Mode::Observe
            } else {
                Mode::Take
            },
            hold_deadline: self.hold_deadline,
            take_over: self.take_over,
            all: self.all,
            concurrency: self.concurrency,
        }
    }
}

/// Whether there is a server that answers, before anything is built for it.
///
/// # Errors
/// There is none, it is no server of ours, or it does not know the token.
pub async fn look_at(place: &Place) -> Result<(), Stop> {
    let Some(api) = &place.api else {
        return Ok(());
    };
    let Ok(answered) = tokio::time::timeout(ANSWER_WAIT, api.server()).await else {
        let seconds = ANSWER_WAIT.as_secs();
        let message = format!(
            "`{}` took the connection and did not answer within {seconds} s",
            place.url
        );
        return Err(Complaint::new(Exit::Unreachable, message)
            .hint("is that a Bungee server?")
            .into());
    };
    answered.map(drop).map_err(Stop::from)
}

/// What is known of the session, for its end.
#[derive(Debug, Default)]
pub struct Standing {
    /// Claims that are held, each as `project/name (rule)`.
    held: Vec<String>,
    /// Claims that somebody else holds, or that are not allowed.
    refused: Vec<String>,
    was_joined: bool,
    was_held: bool,
    /// All that was refused is held by somebody else.
    is_others: bool,
    /// Claims that are asked for at first.
    asked: usize,
    /// Why it will not go on, with the exit code.
    over: Option<Complaint>,
}

impl Standing {
    /// A session that will ask for so many claims.
    pub fn of(asked: usize) -> Standing {
        Standing {
            asked,
            is_others: true,
            ..Standing::default()
        }
    }

    /// Why `dev` ends by itself, if it does.
    pub fn over(&mut self) -> Option<Complaint> {
        self.over.take()
    }

    /// The claims that are held.
    pub fn claims(&self) -> &[String] {
        &self.held
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// Whether it is known what became of all that was asked for at first.
    pub fn is_settled(&self) -> bool {
        self.over.is_some()
            || (self.was_joined && self.held.len() + self.refused.len() >= self.asked)
    }

    /// Takes in what happened, and says it as people read it.
    pub fn hear(&mut self, event: Event, palette: Palette) -> Vec<String> {
        let good = palette.paint(Style::Good, "✓");
        let warn = palette.paint(Style::Warning, "!");
        match event {
            Event::Joined { welcome, away_ms } => {
                self.was_joined = true;
                vec![format!("{good} {}", joined(&welcome, away_ms))]
            }
            Event::Claimed { wish, is_deployed } => {
                self.held.push(format!("{} ({})", wish.function, wish.rule));
                self.was_held = true;
                let waits = match is_deployed {
                    true => "",
                    false => "; it is not deployed there, and waits for a bridge that has it",
                };
                let function = palette.paint(Style::Bold, &wish.function);
                vec![format!(
                    "{good} {function} runs here ({}){waits}",
                    wish.rule
                )]
            }
            Event::Refused {
                wish,
                refusal,
                holder,
            } => self.refused(&wish, refusal, holder, palette),
            Event::Taken { wish, by, why } => {
                let lost = format!("{} ({})", wish.function, wish.rule);
                self.held.retain(|held| *held != lost);
                let by = by.map_or_else(String::new, |by| format!(" by {}", escape(&by, "")));
                vec![format!(
                    "{warn} {} ({}) is not yours any more: {}{by}; its invocations do not come here",
                    wish.function,
                    wish.rule,
                    escape(&why, "")
                )]
            }
            Event::Broken { why } | Event::Unreachable { why } if !self.was_joined => {
                self.over = Some(Complaint::new(Exit::Unreachable, why));
                Vec::new()
            }
            Event::Broken { why } => {
                self.held.clear();
                vec![format!(
                    "{warn} the connection is gone ({}); coming back by itself, and the deployed code answers meanwhile",
                    escape(&why, "")
                )]
            }
            Event::Unreachable { .. } => Vec::new(),
            Event::Unreadable { why } => vec![format!("{warn} {why}")],
            Event::Lapsed {
                running,
                unheard,
                why,
            } => vec![format!(
                "{warn} {why}: {running} invocation(s) stopped here and {unheard} answer(s) thrown away; they have failed where they came from"
            )],
            Event::Rejected(refusal) => {
                self.over = Some(rejected(refusal));
                Vec::new()
            }
        }
    }

    fn refused(
        &mut self,
        wish: &Wish,
        refusal: Refusal,
        holder: Option<Holder>,
        palette: Palette,
    ) -> Vec<String> {
        let bad = palette.paint(Style::Bad, "✗");
        let message = escape(&refusal.message, "");
        let said = format!("{} ({}): {message}", wish.function, wish.rule);
        let mut lines = vec![format!("{bad} {said}")];
        self.refused.push(said);
        self.is_others &= refusal.kind == "ClaimHeld";
        let hint = refusal.hint.or_else(|| {
            let holder = holder?;
            Some(format!("`--take-over` takes it from {}", holder.developer))
        });
        lines.extend(hint.map(|hint| format!("  hint: {}", escape(&hint, ""))));
        self.over = self.all_refused();
        lines
    }

    /// The end of a session that never held anything, because everything it asked for was refused.
    fn all_refused(&self) -> Option<Complaint> {
        if self.was_held || self.refused.len() < self.asked {
            return None;
        }
        let message = format!("nothing is yours to run: {}", self.refused.join("; "));
        let complaint = Complaint::new(Exit::Refused, message);
        Some(match self.is_others {
            true => complaint.hint(
                "`--take-over` takes it; `--when header:x-dev=NAME` takes only your own requests",
            ),
            false => complaint,
        })
    }
}

/// What is wrong with a name that the folder does not have.
fn unknown(name: &Name, known: &BTreeSet<Name>) -> String {
    let names = || known.iter().map(Name::as_str);
    match nearest(name.as_str(), names()) {
        Some(near) => format!("the folder has no function `{name}`; did you mean `{near}`?"),
        None => {
            let all: Vec<&str> = names().collect();
            format!(
                "the folder has no function `{name}`; it has {}",
                all.join(", ")
            )
        }
    }
}

/// How a session came to be on the channel.
fn joined(welcome: &Welcome, away_ms: Option<u64>) -> String {
    let away = |ms: u64| table::micros(ms.saturating_mul(1000));
    match (away_ms, welcome.resumed) {
        (None, _) => format!("attached to {}", escape(&welcome.server, "")),
        (Some(ms), true) => format!(
            "back after {}; work in flight goes on, nothing ran twice",
            away(ms)
        ),
        (Some(ms), false) => format!(
            "back after {}, as a new session: only what arrives from now on runs here",
            away(ms)
        ),
    }
}

/// Why the channel will not have this session.
fn rejected(refusal: Refusal) -> Complaint {
    let exit = match refusal.kind.as_str() {
        "BadAddress" => Exit::Usage,
        "NotFound" => Exit::NotFound,
        _ => Exit::Refused,
    };
    let complaint = Complaint::new(exit, refusal.message);
    match refusal.hint {
        Some(hint) => complaint.hint(hint),
        None => complaint,
    }
}

/// What is typed while a session is attached.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    /// Only these functions.
    Only(BTreeSet<Name>),
    /// Not these.
    Except(BTreeSet<Name>),
    /// All of the folder.
    Everything,
    /// Something to say back.
    Say(String),
}

impl Typed {
    /// Reads a line; `None` for an empty one.
    pub fn read(line: &str) -> Option<Typed> {
        const FORMS: &str = "type `only NAMES`, `except NAMES` or `everything`, and Enter";
        let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let names = rest.split([',', ' ']).filter(|name| !name.is_empty());
        let names: Result<BTreeSet<Name>, _> = names.map(str::parse).collect();
        Some(match (word, names) {
            ("", _) => return None,
            ("everything", _) => Typed::Everything,
            ("only" | "except", Err(error)) => Typed::Say(error.to_string()),
            ("only", Ok(names)) if !names.is_empty() => Typed::Only(names),
            ("except", Ok(names)) if !names.is_empty() => Typed::Except(names),
            _ => Typed::Say(FORMS.to_owned()),
        })
    }

    /// Makes it so.
    pub fn apply(self, wanted: &mut Wanted) {
        match self {
            Typed::Only(names) => {
                wanted.only = names;
                wanted.except.clear();
            }
            Typed::Except(names) => {
                wanted.except = names;
                wanted.only.clear();
            }
            Typed::Everything => {
                wanted.only.clear();
                wanted.except.clear();
            }
            Typed::Say(_) => {}
        }
    }
}

/// What stands behind the line of an invocation that came from there: who asked, why it is here, and each leg.
pub fn about(about: &About, ended: &server::Ended) -> String {
    let who = about.who.as_deref().unwrap_or("somebody");
    let copy = if about.is_copy { ", a copy" } else { "" };
    let offered = u64::try_from(about.offered.as_micros()).unwrap_or(u64::MAX);
    format!(
        "from {} ({}{copy}): offered {}, waited {}, ran {}",
        escape(who, ""),
        about.rule,
        table::micros(offered),
        table::micros(ended.waited_us()),
        table::micros(ended.ran_us())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_changes_what_is_wanted() {
        let read = |line| Typed::read(line).unwrap();
        let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        assert_eq!(read("only a,b"), Typed::Only(names(&["a", "b"])));
        assert_eq!(read("  except a "), Typed::Except(names(&["a"])));
        assert_eq!(read("everything"), Typed::Everything);
        assert_eq!(Typed::read(" "), None);
        for unclear in ["only", "what", "only ../x"] {
            assert!(matches!(read(unclear), Typed::Say(_)), "{unclear}");
        }
    }
}
