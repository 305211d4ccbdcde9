//! One file per command: its arguments, and what it does with them.

pub mod alias;
pub mod bench;
pub mod completions;
pub mod delete;
pub mod deploy;
pub mod dev;
pub mod doctor;
pub mod enable;
pub mod env;
pub mod info;
pub mod init;
pub mod invocations;
pub mod invoke;
pub mod list;
pub mod login;
pub mod logs;
pub mod relay;
pub mod replay;
pub mod rollback;
pub mod serve;
pub mod token;
pub mod versions;

use crate::{
    arguments::{Command, Global},
    exit::{Exit, Stop},
    output::Printer,
};

/// Does what was asked.
pub async fn run(command: Command, global: Global) -> Result<Exit, Stop> {
    let printer = Printer::new(global.json, global.quiet);
    let door = Door { global, printer };
    match command {
        Command::Dev(dev) => dev.run(&door).await,
        Command::Serve(serve) => serve.run(&door).await,
        Command::Relay(relay) => relay.run(&door).await,
        Command::Deploy(deploy) => deploy.run(&door).await,
        Command::Invoke(invoke) => invoke.run(&door).await,
        Command::List(list) => list.run(&door).await,
        Command::Info(info) => info.run(&door).await,
        Command::Versions(versions) => versions.run(&door).await,
        Command::Rollback(rollback) => rollback.run(&door).await,
        Command::Alias(alias) => alias.run(&door).await,
        Command::Enable(enable) => enable.run(&door).await,
        Command::Disable(disable) => disable.run(&door).await,
        Command::Delete(delete) => delete.run(&door).await,
        Command::Env(env) => env.run(&door).await,
        Command::Logs(logs) => logs.run(&door).await,
        Command::Invocations(invocations) => invocations.run(&door).await,
        Command::Replay(replay) => replay.run(&door).await,
        Command::Token(token) => token.run(&door).await,
        Command::Init(init) => init.run(&door).await,
        Command::Login(login) => login.run(&door).await,
        Command::Doctor(doctor) => doctor.run(&door).await,
        Command::Completions(completions) => completions.run(&door).await,
        Command::Bench(bench) => bench.run(&door).await,
    }
}

/// What every command gets: the global arguments, and where words go.
#[derive(Debug)]
pub struct Door {
    /// As they were typed, or stood in the environment.
    pub global: Global,
    /// Where words go.
    pub printer: Printer,
}
