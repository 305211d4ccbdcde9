//! `bungee completions`: what a shell needs to complete our words. It asks this program at each press of the key, which is
//! how it knows the functions of the server.

use std::{env, ffi::OsStr, time::Duration};

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::{
    CompleteEnv,
    engine::{ArgValueCompleter, CompletionCandidate},
    env::Shells,
};
use laptop::api::{Address, Client};
use tokio::{runtime::Builder, time::timeout};

use crate::{
    arguments::Arguments,
    commands::Door,
    connection,
    exit::{Complaint, Exit, Stop},
    service,
};

/// The variable by which a shell says that it wants candidates.
const ASKED: &str = "BUNGEE_COMPLETE";

/// A person waits with a finger on the key: after this there are no names.
const BUDGET: Duration = Duration::from_millis(200);

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  source <(bungee completions bash)                            # in ~/.bashrc
  source <(bungee completions zsh)                             # in ~/.zshrc
  bungee completions fish > ~/.config/fish/completions/bungee.fish")]
pub struct Completions {
    /// bash, zsh, fish, elvish or powershell
    #[arg(value_name = "SHELL", hide_possible_values = true)]
    shell: Shell,
}

/// The shells that we can teach.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    Elvish,
    Powershell,
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Shell::Bash => "bash",
            Shell::Zsh => "zsh",
            Shell::Fish => "fish",
            Shell::Elvish => "elvish",
            Shell::Powershell => "powershell",
        }
    }
}

impl Completions {
    /// Prints what the shell is to run.
    pub async fn run(self, door: &Door) -> Result<Exit, Stop> {
        let name = self.shell.name();
        let failed = |why: &str| {
            Complaint::new(
                Exit::Failed,
                format!("cannot write completions for {name}: {why}"),
            )
        };
        let shells = Shells::builtins();
        let shell = shells
            .completer(name)
            .ok_or_else(|| failed("it is not known"))?;
        let mut script = Vec::new();
        shell
            .write_registration(ASKED, "bungee", "bungee", "bungee", &mut script)
            .map_err(|error| failed(&error.to_string()))?;
        door.printer.bytes(&script)?;
        Ok(Exit::Done)
    }
}

/// Whether a shell asked for candidates; then they are printed, and nothing else is to be done.
pub fn answer_shell() -> bool {
    if env::var_os(ASKED).is_none() {
        return false;
    }
    let here = env::current_dir().ok();
    // A shell that asks in a way that we do not know gets no candidates.
    CompleteEnv::with_factory(Arguments::command)
        .var(ASKED)
        .try_complete(env::args_os(), here.as_deref())
        .unwrap_or(true)
}

/// What completes the name of a function.
pub fn of_functions() -> ArgValueCompleter {
    ArgValueCompleter::new(candidates)
}

/// The functions whose name begins so; none where the server does not answer in time.
fn candidates(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let names = functions().unwrap_or_default();
    let fitting = names.into_iter().filter(|name| name.starts_with(&*typed));
    fitting.map(CompletionCandidate::new).collect()
}

fn functions() -> Option<Vec<String>> {
    let server: Address = match given("--server", "BUNGEE_SERVER") {
        Some(server) => server.parse().ok()?,
        None => match service::endpoint().ok()? {
            Some(address) => address,
            None => connection::DEFAULT_SERVER.parse().ok()?,
        },
    };
    let token = given("--token", "BUNGEE_TOKEN").or_else(|| connection::kept_token(&server));
    let client = Client::new(server, token).ok()?;
    let runtime = Builder::new_current_thread().enable_all().build().ok()?;
    let asked = runtime.block_on(async { timeout(BUDGET, client.functions(None)).await });
    // Names that a person would type: the server's paths leave its own project out.
    let names = asked.ok()?.ok()?.into_iter().map(|function| {
        let path = function.url.strip_prefix("/functions/");
        path.map_or_else(|| function.name.to_string(), str::to_owned)
    });
    Some(names.collect())
}

/// What a flag or a variable says, in the line that is being typed.
fn given(flag: &str, variable: &str) -> Option<String> {
    let words: Vec<String> = env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let at = words.iter().position(|word| word == flag);
    let joined = words
        .iter()
        .find_map(|word| word.strip_prefix(flag)?.strip_prefix('='));
    at.and_then(|at| words.get(at + 1))
        .cloned()
        .or_else(|| joined.map(str::to_owned))
        .or_else(|| env::var(variable).ok())
        .filter(|value| !value.is_empty())
}
