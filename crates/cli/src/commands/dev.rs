//! `bungee dev`: the folder's functions, served and reloaded, until Ctrl-C.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use laptop::dev::{self, DevError, Event, Options};
use model::{FunctionId, LogLine, Name};
use serde::Serialize;
use tokio::sync::{
    broadcast::{self, error::RecvError},
    mpsc::{Receiver, UnboundedReceiver, unbounded_channel},
};

use crate::{
    arguments::{LogFormat, listen},
    commands::{Door, deploy, logs, serve},
    ends::Looks,
    exit::{Complaint, Exit, Stop, chain},
    output::{Palette, Style, escape, stderr_line},
    system, table,
};

/// How long work in flight may go on after Ctrl-C: whoever develops does not wait for it.
const GRACE: Duration = Duration::from_secs(2);

/// Arguments of `dev`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  bungee dev examples/hello
  curl http://127.0.0.1:9001/functions/hello/Ann")]
pub struct Dev {
    /// The folder with the functions
    #[arg(default_value = ".", hide_default_value = true)]
    dir: PathBuf,
    /// Where to listen; may be given more than once [default: 127.0.0.1:9001, or the next free port]
    #[arg(long, value_name = "ADDR", env = "BUNGEE_LISTEN", hide_env_values = true, value_delimiter = ',', value_parser = listen)]
    listen: Vec<SocketAddr>,
}

/// Where everything is, as `--json` shows it.
#[derive(Serialize)]
struct Ready {
    addresses: Vec<String>,
    functions: Vec<ReadyFunction>,
}

#[derive(Serialize)]
struct ReadyFunction {
    name: Name,
    version: Option<model::VersionNumber>,
    url: String,
}

impl Dev {
    /// Serves and reloads until a signal.
    pub async fn run(self, door: &Door) -> Result<Exit, Stop> {
        serve::refuse_settings()?;
        let mut signals = serve::listen_for_signals()?;
        let is_explicit = !self.listen.is_empty();
        let listen = serve::listen_or_default(self.listen);
        let options = Options {
            dir: self.dir.clone(),
            listen: listen.clone(),
            next_free_port: !is_explicit,
            grace: GRACE,
            program: serve::program()?,
            path: system::path(),
        };
        let (sender, events) = unbounded_channel();
        let started = tokio::select! {
            started = dev::Dev::start(options, sender) => started,
            () = signals.next() => return Ok(Exit::Done),
        };
        let dev = started.map_err(cannot_start)?;
        let mut terminal = Terminal {
            door,
            palette: door.printer.palette_err(),
            looks: Looks {
                format: door.global.log_format,
                with_time: false,
                palette: door.printer.palette_err(),
                home: dev.home().clone(),
            },
            is_started: false,
        };
        let mut sources = Sources {
            events,
            ends: dev.server().ended(),
            lines: dev.server().logs(),
        };
        terminal
            .welcome(&self.dir, &listen, &dev, &mut sources)
            .await?;
        terminal.watch(&mut sources, &mut signals).await;
        let server = dev.unwatch().await;
        let exit = serve::stop(door, &server, &mut signals, GRACE).await;
        terminal.rest(&mut sources);
        Ok(exit)
    }
}

/// What there is to tell.
struct Sources {
    events: UnboundedReceiver<Event>,
    ends: Option<Receiver<server::Ended>>,
    lines: broadcast::Receiver<Arc<LogLine>>,
}

/// Tells it.
struct Terminal<'a> {
    door: &'a Door,
    palette: Palette,
    looks: Looks,
    /// Whether the first deployments are done: from then on they are reloads.
    is_started: bool,
}

impl Terminal<'_> {
    /// Functions and URLs, and what went wrong on the way.
    async fn welcome(
        &mut self,
        dir: &Path,
        asked: &[SocketAddr],
        dev: &dev::Dev,
        sources: &mut Sources,
    ) -> Result<(), Stop> {
        let addresses = dev.server().addresses();
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
        }
        self.note(&format!("watching {}; Ctrl-C stops", dir.display()));
        if self.door.printer.json {
            let functions = functions.into_iter().map(|function| ReadyFunction {
                url: format!("{base}{}", function.url),
                name: function.name,
                version: function.current,
            });
            self.door.printer.json(&Ready {
                addresses: addresses.iter().map(|at| format!("http://{at}")).collect(),
                functions: functions.collect(),
            })?;
        }
        Ok(())
    }

    /// Until the first signal. What a function logged comes before its end, if both are there.
    async fn watch(&self, sources: &mut Sources, signals: &mut system::Signals) {
        loop {
            let end = async {
                match &mut sources.ends {
                    Some(ends) => ends.recv().await,
                    None => None,
                }
            };
            tokio::select! {
                biased;
                () = signals.next() => return,
                Some(event) = sources.events.recv() => self.event(event),
                line = sources.lines.recv() => self.log(line),
                Some(ended) = end => self.ended(&ended),
            }
        }
    }

    /// What came in while everything ended.
    fn rest(&self, sources: &mut Sources) {
        while let Ok(line) = sources.lines.try_recv() {
            self.log(Ok(line));
        }
        while let Some(ended) = sources.ends.as_mut().and_then(|ends| ends.try_recv().ok()) {
            self.ended(&ended);
        }
    }

    fn note(&self, text: &str) {
        self.door.printer.note(text);
    }

    fn ended(&self, ended: &server::Ended) {
        if self.door.printer.quiet {
            return;
        }
        let mut text = String::new();
        self.looks.write(&mut text, ended);
        let stack = ended
            .failure()
            .and_then(|failure| failure.fault.as_ref()?.stack.as_deref());
        if let (Some(stack), LogFormat::Text) = (stack, self.looks.format) {
            text.push_str(&format!("    {}\n", escape(stack, "    ")));
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

    fn event(&self, event: Event) {
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
        self.note(&format!(
            "{} {} is no function of the folder any more; it still answers, for `bungee delete` arrives later",
            self.palette.paint(Style::Warning, "!"),
            function.name
        ));
    }
}

/// What keeps `dev` from starting: the folder, its configuration, or the port.
fn cannot_start(error: DevError) -> Stop {
    match error {
        DevError::Config(error) => error.into(),
        DevError::Server(error) => serve::cannot_start(error).into(),
        DevError::Api(error) => error.into(),
        error @ DevError::State { .. } => Complaint::new(Exit::Configuration, chain(&error)).into(),
    }
}
