//! What `dev` tells on the terminal: deployments, invocations and what they logged, each as it happens.

use std::{
    collections::BTreeSet, net::SocketAddr, path::Path, pin::pin, sync::Arc, time::Duration,
};

use laptop::{
    dev::{self, Event},
    remote::{Place, Remote},
};
use model::{FunctionId, LogLine, Name, Runtime, VersionNumber};
use serde::Serialize;
use server::Debuggers;
use tokio::sync::{
    broadcast::{self, error::RecvError},
    mpsc::{Receiver, UnboundedReceiver},
};

use super::remote::{self, Standing, Typed};
use crate::{
    arguments::LogFormat,
    commands::{Door, deploy, logs},
    ends::Looks,
    exit::{Complaint, Exit, Stop, chain, with_stack},
    output::{Palette, Style, escape, stderr_line},
    system, table,
};

/// How long the welcome waits for what becomes of a session's claims.
const SETTLE_WAIT: Duration = Duration::from_secs(10);

/// Where everything is, as `--json` shows it.
#[derive(Serialize)]
struct Ready {
    addresses: Vec<String>,
    /// Where frames are spoken over TCP, if anywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    frames: Option<SocketAddr>,
    functions: Vec<ReadyFunction>,
    /// Where it is attached, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<String>,
    /// What it holds there, each as `project/name (rule)`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    claims: Vec<String>,
}

#[derive(Serialize)]
struct ReadyFunction {
    name: Name,
    version: Option<VersionNumber>,
    url: String,
    /// Where its debugger attaches, if one may.
    #[serde(skip_serializing_if = "Option::is_none")]
    debugger: Option<String>,
}

/// What there is to tell.
pub struct Sources {
    /// What happens to the folder's functions.
    pub events: UnboundedReceiver<Event>,
    /// How invocations ended.
    pub ends: Option<Receiver<server::Ended>>,
    /// What functions logged.
    pub lines: broadcast::Receiver<Arc<LogLine>>,
    /// What happens to the session that is attached elsewhere, if one is.
    pub live: Option<UnboundedReceiver<laptop::remote::Event>>,
    /// What the deployed code of these functions logs, if a session is attached.
    pub far: Option<UnboundedReceiver<LogLine>>,
    /// What is typed, if somebody listens to that.
    pub typed: Option<Receiver<String>>,
}

/// Tells it.
pub struct Terminal<'a> {
    door: &'a Door,
    palette: Palette,
    looks: Looks,
    /// Whether the first deployments are done: from then on they are reloads.
    is_started: bool,
    /// Where debuggers attach, if they may.
    debuggers: Option<Debuggers>,
    /// Functions whose debugger was named already.
    named: BTreeSet<Name>,
    /// The session that is attached elsewhere, if one is.
    remote: Option<Remote>,
    /// Where that is.
    place: String,
    standing: Standing,
}

impl<'a> Terminal<'a> {
    /// A terminal that shows the first deployments next.
    pub fn new(door: &'a Door, looks: Looks, debuggers: Option<Debuggers>) -> Terminal<'a> {
        Terminal {
            door,
            palette: door.printer.palette_err(),
            looks,
            is_started: false,
            debuggers,
            named: BTreeSet::new(),
            remote: None,
            place: String::new(),
            standing: Standing::default(),
        }
    }

    /// Tells of a session too, which is attached elsewhere.
    pub fn attach(&mut self, remote: Remote, place: &Place) {
        self.standing = Standing::of(remote.asked());
        self.place = place.url.clone();
        if place.api.is_none() {
            self.note("functions run with their own environment: a channel alone has none to lend");
        }
        self.remote = Some(remote);
    }

    /// Gives back what the session has, and lets what runs for it end.
    pub async fn leave(&mut self, sources: &mut Sources, signals: &mut system::Signals) {
        let Some(remote) = self.remote.take() else {
            return;
        };
        let running = remote.running();
        if running > 0 {
            let grace = laptop::remote::GRACE.as_secs();
            self.note(&format!(
                "{running} invocation(s) in flight may end within {grace} s; the deployed code takes the next ones"
            ));
        }
        let mut leaving = pin!(remote.leave());
        loop {
            tokio::select! {
                biased;
                () = &mut leaving => return,
                () = signals.next() => return,
                line = sources.lines.recv() => self.log(line),
                Some(ended) = next_of(&mut sources.ends) => self.ended(&ended),
            }
        }
    }

    /// Functions and URLs, and what went wrong on the way.
    pub async fn welcome(
        &mut self,
        dir: &Path,
        asked: &[SocketAddr],
        dev: &dev::Dev,
        sources: &mut Sources,
    ) -> Result<(), Stop> {
        let addresses = dev.server().addresses();
        self.elsewhere(asked, addresses);
        while let Ok(event) = sources.events.try_recv() {
            self.event(event);
        }
        self.is_started = true;
        let base = addresses
            .first()
            .map(|at| format!("http://{at}"))
            .unwrap_or_default();
        let functions = dev.client().functions(Some(dev.home())).await?;
        for function in &functions {
            let name = self.palette.paint(Style::Bold, function.name.as_str());
            let Some(version) = function.current else {
                continue;
            };
            self.note(&format!("{name} {version}  {base}{}", function.url));
            for route in &function.routes {
                self.note(&format!("  {route}"));
            }
            let id = FunctionId {
                project: function.project.clone(),
                name: function.name.clone(),
            };
            self.debugger(&id, function.runtime.unwrap_or(Runtime::Isolate));
        }
        if let Some(address) = dev.server().frames_at() {
            self.note(&format!("frames at {address}"));
        }
        self.settle(sources).await;
        if self.standing.is_over() {
            return Ok(());
        }
        self.note(&format!(
            "watching {}{}; Ctrl-C stops",
            dir.display(),
            self.attachment()
        ));
        if self.door.printer.json {
            let functions = functions.into_iter().map(|function| ReadyFunction {
                url: format!("{base}{}", function.url),
                debugger: self.debuggers.as_ref().and_then(|debuggers| {
                    let (project, name) = (function.project, function.name.clone());
                    Some(debuggers.of(&FunctionId { project, name })?.url)
                }),
                name: function.name,
                version: function.current,
            });
            self.door.printer.json(&Ready {
                addresses: addresses.iter().map(|at| format!("http://{at}")).collect(),
                frames: dev.server().frames_at(),
                functions: functions.collect(),
                remote: self.remote.is_some().then(|| self.place.clone()),
                claims: self.standing.claims().to_vec(),
            })?;
        }
        Ok(())
    }

    /// Says so if the port that was asked for is taken.
    fn elsewhere(&self, asked: &[SocketAddr], addresses: &[SocketAddr]) {
        if let (Some(asked), Some(got)) = (asked.first(), addresses.first())
            && asked.port() != 0
            && asked != got
        {
            self.note(&format!(
                "port {} is taken; listening on {} instead",
                asked.port(),
                got.port()
            ));
        }
    }

    /// What stands behind the folder in the line that ends the welcome.
    fn attachment(&self) -> String {
        match (self.remote.is_some(), self.standing.is_settled()) {
            (true, true) => format!(", attached to {}", self.place),
            (true, false) => format!(", attaching to {}", self.place),
            (false, _) => String::new(),
        }
    }

    /// Waits a moment for what becomes of the session's claims, so that whoever reads on may call at once.
    async fn settle(&mut self, sources: &mut Sources) {
        let Some(live) = &mut sources.live else {
            return;
        };
        let settling = async {
            while !self.standing.is_settled() {
                let Some(event) = live.recv().await else {
                    return;
                };
                self.heard(event);
            }
        };
        // Whoever takes longer is told of later.
        let _in_time = tokio::time::timeout(SETTLE_WAIT, settling).await;
    }

    /// Until the first signal, or until the session that is attached ends by itself: then why.
    /// What a function logged comes before its end, if both are there.
    pub async fn watch(
        &mut self,
        sources: &mut Sources,
        signals: &mut system::Signals,
    ) -> Option<Complaint> {
        loop {
            if let Some(complaint) = self.standing.over() {
                return Some(complaint);
            }
            let far = async {
                match &mut sources.far {
                    Some(far) => far.recv().await,
                    None => None,
                }
            };
            let live = async {
                match &mut sources.live {
                    Some(live) => live.recv().await,
                    None => None,
                }
            };
            tokio::select! {
                biased;
                () = signals.next() => return None,
                Some(event) = sources.events.recv() => self.event(event),
                Some(event) = live => {
                    self.heard(event);
                }
                Some(line) = next_of(&mut sources.typed) => self.typed(&line),
                Some(line) = far => self.far_log(&line),
                line = sources.lines.recv() => self.log(line),
                Some(ended) = next_of(&mut sources.ends) => self.ended(&ended),
            }
        }
    }

    /// What happened to the session, in words, or as data where lines are data.
    fn heard(&mut self, event: laptop::remote::Event) {
        let palette = match self.looks.format {
            LogFormat::Json => Palette::PLAIN,
            LogFormat::Text => self.palette,
        };
        for line in self.standing.hear(event, palette) {
            if self.looks.format == LogFormat::Json {
                let message = line.trim();
                let line = serde_json::json!({ "level": "info", "message": message });
                self.note(&line.to_string());
            } else {
                self.note(&line);
            }
        }
    }

    /// Changes which functions are meant.
    fn typed(&self, line: &str) {
        match (Typed::read(line), &self.remote) {
            (Some(Typed::Say(words)), _) => self.note(&words),
            (Some(typed), Some(remote)) => {
                let names = remote.want(|wanted| typed.apply(wanted));
                let names: Vec<&str> = names.iter().map(Name::as_str).collect();
                self.note(&match names.is_empty() {
                    true => "no function of this folder is meant now".to_owned(),
                    false => format!("meant now: {}", names.join(", ")),
                });
            }
            (_, None) | (None, _) => {}
        }
    }

    /// What came in while everything ended.
    pub fn rest(&self, sources: &mut Sources) {
        while let Ok(line) = sources.lines.try_recv() {
            self.log(Ok(line));
        }
        while let Some(ended) = sources.ends.as_mut().and_then(|ends| ends.try_recv().ok()) {
            self.ended(&ended);
        }
    }

    /// Where the debugger of a function attaches, once.
    fn debugger(&mut self, function: &FunctionId, runtime: Runtime) {
        let Some(debuggers) = &self.debuggers else {
            return;
        };
        if !self.named.insert(function.name.clone()) {
            return;
        }
        let name = &function.name;
        let Some(debugger) = debuggers.of(function) else {
            let why = match runtime {
                Runtime::Python => {
                    "runs on Python, which gets no port here; `debugpy.listen()` in the module opens one"
                }
                Runtime::Provided => {
                    "is a program of its own, which gets no port here; attach to its process with the debugger of its language"
                }
                Runtime::Isolate | Runtime::Bun | Runtime::Node => {
                    "runs in the isolate, which cannot be debugged; choose `runtime = \"bun\"` or \"node\""
                }
            };
            self.note(&format!("debugger: {name} {why}"));
            return;
        };
        if debugger.port != debugger.wanted {
            self.note(&format!(
                "port {} is taken; the debugger of {name} listens on {} instead",
                debugger.wanted, debugger.port
            ));
        }
        self.note(&format!("debugger: {name} {}", debugger.url));
    }

    fn note(&self, text: &str) {
        self.door.printer.note(text);
    }

    fn ended(&self, ended: &server::Ended) {
        if self.door.printer.quiet {
            return;
        }
        let mut text = String::new();
        self.looks.write(&mut text, ended, None);
        let remote = self.remote.as_ref();
        let about = remote.and_then(|remote| remote.stories().about(ended.id()));
        if let (Some(about), LogFormat::Text) = (about, self.looks.format) {
            let about = self
                .palette
                .paint(Style::Dim, &remote::about(&about, ended));
            text = format!("{} {about}\n", text.trim_end());
        }
        let fault = ended.failure().and_then(|failure| failure.fault.as_deref());
        if let (Some(fault), LogFormat::Text) = (fault, self.looks.format) {
            let line = text.trim_end().to_owned();
            text = with_stack(
                &line,
                fault
                    .stack
                    .as_deref()
                    .map(|stack| escape(stack, ""))
                    .as_deref(),
            );
        }
        stderr_line(text.trim_end_matches('\n'));
    }

    fn log(&self, line: Result<Arc<LogLine>, RecvError>) {
        match line {
            Ok(line) if self.looks.format == LogFormat::Json => {
                self.note(&serde_json::to_string(&*line).unwrap_or_default());
            }
            Ok(line) => {
                let level = self
                    .palette
                    .paint(logs::style(line.level), &format!("{:<5}", line.level));
                self.note(&format!("  {level} {}", escape(&line.text, "        ")));
            }
            Err(RecvError::Lagged(missed)) => {
                self.note(&format!("  … {missed} log lines not shown"))
            }
            Err(RecvError::Closed) => {}
        }
    }

    /// A line that the deployed code wrote.
    fn far_log(&self, line: &LogLine) {
        if self.looks.format == LogFormat::Json {
            return self.note(&serde_json::to_string(line).unwrap_or_default());
        }
        let level = self
            .palette
            .paint(logs::style(line.level), &format!("{:<5}", line.level));
        let place = format!("{} deployed:", line.function.name);
        let place = self.palette.paint(Style::Dim, &place);
        self.note(&format!(
            "  {level} {place} {}",
            escape(&line.text, "        ")
        ));
    }

    fn event(&mut self, event: Event) {
        let bad = self.palette.paint(Style::Bad, "✗");
        match event {
            Event::Deployed { deployed, warnings } => {
                for warning in warnings {
                    let word = self.palette.paint(Style::Warning, "warning:");
                    self.note(&format!("{word} {}", escape(&warning, "  ")));
                }
                if self.is_started {
                    let took = u64::try_from(deployed.took.as_micros()).unwrap_or(u64::MAX);
                    let good = self.palette.paint(Style::Good, "✓");
                    let (name, version) = (&deployed.function.name, deployed.version);
                    self.note(&format!(
                        "{good} {name} {version} in {}",
                        table::micros(took)
                    ));
                    self.debugger(&deployed.function, deployed.runtime);
                }
            }
            Event::Broken {
                function,
                error,
                serving,
            } => {
                let kept = match serving {
                    Some(version) => format!("{version} still answers"),
                    None => "nothing answers for it yet".to_owned(),
                };
                stderr_line(&format!("{bad} {function}: {kept}"));
                self.door.printer.complain(&deploy::complaint(error));
            }
            Event::NoProject(error) => {
                stderr_line(&format!("{bad} everything still answers as before"));
                self.door.printer.complain(&error.into());
            }
            Event::Left { function } => self.left(&function),
            Event::Borrowed(borrowed) => self.note(&format!(
                "{} has the environment of the deployed one: {}",
                borrowed.function.name,
                match borrowed.names.is_empty() {
                    true => "nothing".to_owned(),
                    false => borrowed.names.join(", "),
                }
            )),
            Event::NotBorrowed { function, error } => {
                let warning = self.palette.paint(Style::Warning, "warning:");
                let why = chain(&error);
                self.note(&format!(
                    "{warning} {} runs with its own environment: {why}",
                    function.name
                ));
            }
            Event::Busy(line) => self.note(&line),
            Event::Polls => self.note(
                "the system gives no notice of changes: files are looked at four times a second",
            ),
            Event::Blind(error) => {
                let complaint = Complaint::new(
                    Exit::Configuration,
                    format!("cannot watch files: {}", chain(&error)),
                );
                self.door
                    .printer
                    .complain(&complaint.hint("start `bungee dev` again after a change"));
            }
        }
    }

    fn left(&self, function: &FunctionId) {
        let now = match self.remote.is_some() {
            true => "its invocations run deployed",
            false => "answers 404",
        };
        self.note(&format!(
            "{} {} left the folder: {now}; its versions are kept, and it comes back with its file",
            self.palette.paint(Style::Warning, "!"),
            function.name
        ));
    }
}

/// The next one, if there is anything to come.
async fn next_of<T>(source: &mut Option<Receiver<T>>) -> Option<T> {
    match source {
        Some(source) => source.recv().await,
        None => None,
    }
}
