//! What may be typed. Parses at the door and does nothing: each command's own file says what its words mean.

use std::net::SocketAddr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use laptop::api::Address;
use model::{FunctionId, Level, LimitError, Limits, Name};

use crate::commands;

/// Serverless functions on an elastic cord.
#[derive(Debug, Parser)]
#[command(
    name = "bungee",
    bin_name = "bungee",
    version,
    about = "Serverless functions on an elastic cord: they run on your own server.",
    after_help = AFTER_HELP,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub struct Arguments {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// Which command.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Example:
  bungee dev examples/hello
  curl http://127.0.0.1:9001/functions/hello/Ann

Exit codes: 0 done, 1 the function failed, 2 usage, 3 configuration, 4 not found, 5 unreachable, 6 refused.

Arrives later: secret, schedule, queue, emit, tunnel, tunnel-server, restore.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a working project
    Init(commands::init::Init),
    /// Build, serve and watch a folder, all in one process
    Dev(commands::dev::Dev),
    /// Run the functions server
    Serve(commands::serve::Serve),
    /// Run the live channel alone: between programs in containers and laptops
    Relay(commands::relay::Relay),
    /// Build, upload and activate the functions of a folder
    Deploy(commands::deploy::Deploy),
    /// Run a function once: result on stdout, logs on stderr
    Invoke(commands::invoke::Invoke),
    /// Show every function of the server
    List(commands::list::List),
    /// Show one function: where it runs, its settings and where each comes from, its limits
    Info(commands::info::Info),
    /// Show the versions of a function, newest first
    Versions(commands::versions::Versions),
    /// Go back to the version that was current before, or to a named one
    Rollback(commands::rollback::Rollback),
    /// Point an alias at a version, or at two by weight; show the aliases
    Alias(commands::alias::Alias),
    /// Let calls in again
    Enable(commands::enable::Enable),
    /// Keep calls out; what is in flight ends by itself
    Disable(commands::enable::Disable),
    /// Delete a function with its versions, overrides, logs and records
    Delete(commands::delete::Delete),
    /// Show, set or unset variables on the server, over those of `bungee.toml`
    Env(commands::env::Env),
    /// Show or follow what a function logged
    Logs(commands::logs::Logs),
    /// Show how the last invocations went
    Invocations(commands::invocations::Invocations),
    /// Run a recorded invocation again, here or on a named version; export it as one file
    Replay(commands::replay::Replay),
    /// Make, show and revoke access tokens
    Token(commands::token::Token),
    /// Keep a token for a server
    Login(commands::login::Login),
    /// Measure how long a function takes: percentiles and a bar chart
    Bench(commands::bench::Bench),
    /// Check this machine and the server
    Doctor(commands::doctor::Doctor),
    /// Teach a shell our words, the names of functions too
    Completions(commands::completions::Completions),
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// Data as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Nothing on stderr but errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more of what is being done; the same as `--log-level debug`
    #[arg(long, short, global = true)]
    pub verbose: bool,
    /// How loud the program's own log is: trace, debug, info, warn or error [default: warn]
    #[arg(long, global = true, value_name = "LEVEL", value_parser = level, hide_possible_values = true)]
    pub log_level: Option<Level>,
    /// How the program's own log and the lines of `serve` are written: text or json
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "text",
        hide_default_value = true
    )]
    #[arg(hide_possible_values = true)]
    pub log_format: LogFormat,
    /// The server to talk to, `unix:PATH` for its socket [default: http://127.0.0.1:9001]
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "BUNGEE_SERVER",
        hide_env_values = true
    )]
    pub server: Option<Address>,
    /// What shows that you may
    #[arg(long, global = true, env = "BUNGEE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// The project of functions that name none [default: the server's own]
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "BUNGEE_PROJECT",
        hide_env_values = true
    )]
    pub project: Option<Name>,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object per line.
    Json,
}

/// A function as it is typed: `NAME`, or `PROJECT/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionName {
    /// Its project, if it was typed.
    pub project: Option<Name>,
    /// Its name.
    pub name: Name,
}

impl FunctionName {
    /// The function itself, in `project` if none was typed.
    pub fn within(&self, project: Name) -> FunctionId {
        FunctionId {
            project: self.project.clone().unwrap_or(project),
            name: self.name.clone(),
        }
    }
}

impl std::str::FromStr for FunctionName {
    type Err = model::NameError;

    fn from_str(text: &str) -> Result<FunctionName, model::NameError> {
        let (project, name) = match text.split_once('/') {
            Some((project, name)) => (Some(project.parse()?), name),
            None => (None, text),
        };
        let name = name.parse()?;
        Ok(FunctionName { project, name })
    }
}

fn level(text: &str) -> Result<Level, String> {
    text.parse()
}

/// Limits that are asked for, each as `NAME=VALUE`.
#[derive(Debug, Clone, clap::Args)]
pub struct Limited {
    /// Change a limit; may be given more than once, `bungee info` shows them all
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = limit)]
    limits: Vec<(String, String)>,
}

impl Limited {
    /// The defaults, changed as was asked.
    pub fn limits(&self) -> Result<Limits, LimitError> {
        let mut limits = Limits::default();
        for (name, value) in &self.limits {
            limits.set(name, value)?;
        }
        Ok(limits)
    }
}

/// `NAME=VALUE`; whether there is such a limit is said here already.
fn limit(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("write it as `NAME=VALUE`, like `worker_age=12h`")?;
    Limits::default()
        .set(name, value)
        .map_err(|error| error.to_string())?;
    Ok((name.into(), value.into()))
}

/// `ADDRESS:PORT`, where the address is an IP address or `localhost`.
pub fn listen(text: &str) -> Result<SocketAddr, String> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    numeric
        .parse()
        .map_err(|_| "write it as an IP address and a port, like `127.0.0.1:9001`".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        let root = Arguments::command();
        let mut open: Vec<clap::Command> = vec![root.clone()];
        while let Some(mut command) = open.pop() {
            open.extend(command.get_subcommands().cloned());
            let help = command.render_long_help().to_string();
            assert!(
                help.contains("Example:"),
                "{} has no example",
                command.get_name()
            );
        }
        insta::assert_snapshot!(root.term_width(100).render_help());
    }

    #[test]
    fn secrets_are_no_part_of_help() {
        let help = Arguments::command().render_long_help().to_string();
        assert!(help.contains("[env: BUNGEE_TOKEN]"), "{help}");
        assert!(help.contains("BUNGEE_SERVER"), "{help}");
    }

    #[test]
    fn a_function_may_name_its_project() {
        let typed: FunctionName = "shop/hello".parse().unwrap();
        let default = Name::default_project();
        assert_eq!(typed.within(default.clone()).to_string(), "shop/hello");
        let typed: FunctionName = "hello".parse().unwrap();
        assert_eq!(typed.within(default).to_string(), "default/hello");
        for bad in ["../x", "a/b/c", "", "a/"] {
            assert!(bad.parse::<FunctionName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_has_a_port() {
        assert!(
            listen("127.0.0.1:9001").is_ok()
                && listen("localhost:0").is_ok()
                && listen("[::1]:80").is_ok()
        );
        assert!(listen("9001").is_err() && listen("example.com:80").is_err());
    }
}
