//! `bungee env`: the server's overrides of a function's environment. They lie over `bungee.toml` and survive deployments.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, Subcommand};
use laptop::api::EnvChange;

use crate::{
    arguments::FunctionName,
    commands::Door,
    connection,
    exit::{Complaint, Exit, Stop},
    table,
};

/// Arguments of `env`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  bungee env hello
  bungee env hello set GREETING=hi LEVEL=2
  bungee env hello unset GREETING

A change starts new workers; what is in flight ends on the old ones. No deployment changes what is set here.
The server sets HOME, TMPDIR and every BUNGEE_ name itself, and refuses them.")]
pub struct Env {
    /// The function, as NAME or PROJECT/NAME
    #[arg(value_name = "NAME", add = crate::commands::completions::of_functions())]
    function: FunctionName,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Set variables
    #[command(after_help = "Example:\n  bungee env hello set GREETING=hi")]
    Set {
        /// Names with their values
        #[arg(value_name = "K=V", required = true)]
        pairs: Vec<String>,
    },
    /// Take overrides away; what `bungee.toml` says holds again
    #[command(after_help = "Example:\n  bungee env hello unset GREETING")]
    Unset {
        /// Names
        #[arg(value_name = "K", required = true)]
        names: Vec<String>,
    },
}

/// Names with values. What is typed wrong is told without its value: it may be a secret.
fn pairs(typed: &[String]) -> Result<BTreeMap<String, String>, Complaint> {
    let mut set = BTreeMap::new();
    for pair in typed {
        let Some((name, value)) = pair.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            let place = typed.iter().position(|other| other == pair).unwrap_or(0) + 1;
            let message = format!("variable {place} is no `K=V`: there is no name before a `=`");
            return Err(Complaint::usage(message).hint("write it like `GREETING=hi`"));
        };
        if set.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(Complaint::usage(format!("`{name}` is set twice")));
        }
    }
    Ok(set)
}

impl Env {
    /// Shows, sets or unsets.
    pub async fn run(self, door: &Door) -> Result<Exit, Stop> {
        let change = match &self.action {
            None => return self.show(door).await,
            Some(Action::Set { pairs: typed }) => EnvChange {
                set: pairs(typed)?,
                unset: BTreeSet::new(),
            },
            Some(Action::Unset { names }) => EnvChange {
                set: BTreeMap::new(),
                unset: names.iter().cloned().collect(),
            },
        };
        let client = connection::connect(&door.global)?;
        let function = connection::function(&client, &door.global, &self.function).await?;
        let before = client.env(&function).await?;
        let env = client.change_env(&function, &change).await?;
        if door.printer.json {
            door.printer.json(&env)?;
            return Ok(Exit::Done);
        }
        let missed = change
            .unset
            .iter()
            .filter(|name| !before.overrides.contains_key(*name));
        for name in missed {
            door.printer.note(&format!("`{name}` was not set here"));
        }
        let words = if env == before {
            format!("the environment of {function} is as it was")
        } else {
            format!("the environment of {function} changed; new workers have it")
        };
        door.printer.note(&words);
        Ok(Exit::Done)
    }

    /// Every variable that the function sees, and where its value comes from.
    async fn show(&self, door: &Door) -> Result<Exit, Stop> {
        let client = connection::connect(&door.global)?;
        let function = connection::function(&client, &door.global, &self.function).await?;
        let info = client.function(&function).await?;
        let settings = info.settings.into_iter();
        let env: BTreeMap<String, _> = settings
            .filter_map(|(key, setting)| Some((key.strip_prefix("env.")?.to_owned(), setting)))
            .collect();
        if door.printer.json {
            door.printer.json(&env)?;
            return Ok(Exit::Done);
        }
        if env.is_empty() {
            door.printer
                .note(&format!("{function} has no variables of its own"));
            return Ok(Exit::Done);
        }
        let rows = env.into_iter().map(|(name, setting)| {
            let value = setting.value.as_str().map(str::to_owned);
            vec![name, value.unwrap_or_default(), setting.from]
        });
        door.printer
            .line(&table::render(&["NAME", "VALUE", "FROM"], rows))?;
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_hold_anything_and_is_never_repeated() {
        let typed =
            |words: &[&str]| pairs(&words.iter().map(|word| (*word).into()).collect::<Vec<_>>());
        assert_eq!(typed(&["A=b=c"]).unwrap()["A"], "b=c");
        assert_eq!(typed(&["A="]).unwrap()["A"], "");
        let complaint = typed(&["A=1", "=hunter2"]).unwrap_err();
        assert!(complaint.message.contains("variable 2"), "{complaint:?}");
        assert!(!complaint.message.contains("hunter2"), "{complaint:?}");
        assert!(
            typed(&["A=1", "A=2"])
                .unwrap_err()
                .message
                .contains("twice")
        );
    }
}
