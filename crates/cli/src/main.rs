//! The door: arguments in, words and exit codes out. Everything that happens, happens in the rooms behind it.

mod arguments;
mod commands;
mod connection;
mod credentials;
mod ends;
mod exit;
mod later;
mod output;
mod service;
mod system;
mod table;

use std::{env, process::ExitCode};

use clap::Parser;
use model::Level;
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::{EnvFilter, fmt};

use crate::{
    arguments::{Arguments, Command, Global, LogFormat},
    exit::{Complaint, Exit, Stop},
    output::Printer,
};

fn main() -> ExitCode {
    // Children of the server: they are in a hurry, and have no door.
    if let Some(child) = env::args_os().nth(1) {
        if child == "isolate-worker" {
            return isolate::run_worker();
        }
        if child == "isolate-seal" {
            return isolate::check_seal();
        }
        if child == "sentinel" {
            return server::run_sentinel();
        }
    }
    if commands::completions::answer_shell() {
        return Exit::Done.into();
    }
    door().into()
}

/// Reads what was typed, does it, and says how it ended.
fn door() -> Exit {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return misread(&error),
    };
    let printer = Printer::new(arguments.global.json, arguments.global.quiet);
    let level = match &arguments.command {
        Command::Serve(_) => service::log_level(),
        _ => Ok(None),
    };
    match level {
        Ok(level) => start_log(&arguments.global, level),
        Err(complaint) => {
            printer.complain(&complaint);
            return complaint.exit;
        }
    }
    let ended = match runtime(&arguments.command) {
        Ok(runtime) => {
            let ended = runtime.block_on(commands::run(arguments.command, arguments.global));
            // A blocked read of stdin is no reason to stay.
            runtime.shutdown_background();
            ended
        }
        Err(error) => Err(Complaint::new(Exit::Failed, format!("cannot start: {error}")).into()),
    };
    match ended {
        Ok(exit) => exit,
        Err(Stop::BrokenPipe) => Exit::Done,
        Err(Stop::Complaint(complaint)) => {
            printer.complain(&complaint);
            complaint.exit
        }
    }
}

/// Help, a version, something that arrives later, or a mistake.
fn misread(error: &clap::Error) -> Exit {
    let typed: Vec<String> = env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    if let Some(name) = later::named_in(error, &typed) {
        Printer::new(false, false).complain(&Complaint::usage(format!("`{name}` arrives later")));
        return Exit::Usage;
    }
    // Whoever asked for help and left does not miss it.
    let _nobody_reads = error.print();
    if error.use_stderr() {
        Exit::Usage
    } else {
        Exit::Done
    }
}

/// Servers, and who measures them, get a thread per core; a client waits for one answer, and needs none.
fn runtime(command: &Command) -> std::io::Result<Runtime> {
    match command {
        Command::Dev(_)
        | Command::Serve(_)
        | Command::Relay(_)
        | Command::Bench(_)
        | Command::Doctor(_) => Builder::new_multi_thread().enable_all().build(),
        Command::Deploy(_)
        | Command::Invoke(_)
        | Command::List(_)
        | Command::Info(_)
        | Command::Versions(_)
        | Command::Rollback(_)
        | Command::Alias(_)
        | Command::Enable(_)
        | Command::Disable(_)
        | Command::Delete(_)
        | Command::Env(_)
        | Command::Logs(_)
        | Command::Invocations(_)
        | Command::Token(_)
        | Command::Init(_)
        | Command::Login(_)
        | Command::Replay(_)
        | Command::Completions(_) => Builder::new_current_thread().enable_all().build(),
    }
}

/// The program's own log, on stderr: warnings, unless more is asked for. `unless` counts where nothing was typed.
fn start_log(global: &Global, unless: Option<Level>) {
    let level = match (global.log_level, global.verbose, global.quiet) {
        (Some(level), _, _) => level,
        (None, true, _) => Level::Debug,
        (None, false, true) => Level::Error,
        (None, false, false) => unless.unwrap_or(Level::Warn),
    };
    // Libraries have much to say that concerns nobody: one step quieter than ourselves, from `debug` on.
    let filter = match level {
        Level::Trace => EnvFilter::new(
            "debug,bungee=trace,server=trace,workers=trace,store=trace,laptop=trace,build=trace",
        ),
        Level::Debug => EnvFilter::new(
            "info,bungee=debug,server=debug,workers=debug,store=debug,laptop=debug,build=debug",
        ),
        Level::Info | Level::Warn | Level::Error => EnvFilter::new(level.as_str()),
    };
    let log = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match global.log_format {
        LogFormat::Text => log
            .with_ansi(Printer::new(false, false).has_colour())
            .init(),
        LogFormat::Json => log.json().init(),
    }
}
