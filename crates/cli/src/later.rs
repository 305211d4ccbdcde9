//! Commands and flags of the product that are known by name and arrive later: refused with that word, never accepted
//! in silence.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Commands, in the order in which the product lists them.
pub const COMMANDS: [&str; 7] = [
    "secret",
    "schedule",
    "queue",
    "emit",
    "tunnel",
    "tunnel-server",
    "restore",
];

/// Flags, and the command that each belongs to.
const FLAGS: [(&str, &str); 20] = [
    ("dev", "--aws"),
    ("dev", "--stack"),
    ("dev", "--with-secrets"),
    ("dev", "--local"),
    ("dev", "--no-tunnel"),
    ("dev", "--assume-role"),
    ("serve", "--admin-listen"),
    ("serve", "--store"),
    ("serve", "--channel"),
    ("serve", "--secret"),
    ("serve", "--insecure"),
    ("relay", "--channel"),
    ("relay", "--local"),
    ("deploy", "--canary"),
    ("deploy", "--for"),
    ("invoke", "--async"),
    ("dev", "--store"),
    ("dev", "--channel"),
    ("dev", "--admin-listen"),
    ("dev", "--secret"),
];

/// Environment names of settings that are refused while they have no effect.
pub const SETTINGS: [&str; 3] = ["BUNGEE_STORE", "BUNGEE_CHANNEL", "BUNGEE_SECRET"];

/// What was typed that arrives later, if that is what clap stumbled over.
pub fn named_in(error: &clap::Error, typed: &[String]) -> Option<String> {
    let word = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let name = word(ContextKind::InvalidSubcommand)?;
            COMMANDS.contains(&name).then(|| name.to_owned())
        }
        ErrorKind::UnknownArgument => {
            let flag = word(ContextKind::InvalidArg)?;
            let flag = flag.split_once('=').map_or(flag, |(flag, _)| flag);
            let known =
                |(command, name): &&(&str, &str)| *name == flag && is_command(command, typed);
            FLAGS.iter().find(known).map(|(_, name)| (*name).to_owned())
        }
        _ => None,
    }
}

/// Whether the words of `command` stand in this order in what was typed.
fn is_command(command: &str, typed: &[String]) -> bool {
    let mut words = typed.iter();
    command
        .split(' ')
        .all(|part| words.any(|word| word == part))
}

/// A setting in the environment that has no effect yet and may not be taken for one that has.
pub fn set_in_environment() -> Option<&'static str> {
    SETTINGS
        .into_iter()
        .find(|name| std::env::var_os(name).is_some())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::Arguments;

    fn later(line: &str) -> Option<String> {
        let typed: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let error =
            Arguments::try_parse_from([&["bungee".to_owned()], &typed[..]].concat()).unwrap_err();
        named_in(&error, &typed)
    }

    #[test]
    fn what_arrives_later_is_known_by_name() {
        for command in COMMANDS {
            assert_eq!(later(command).as_deref(), Some(command));
        }
        for (command, flag) in FLAGS {
            let line = match command {
                "invoke" => format!("invoke hello {flag}"),
                other => format!("{other} {flag} value"),
            };
            assert_eq!(later(&line).as_deref(), Some(flag), "{line}");
        }
        assert_eq!(later("dev --stack=shop").as_deref(), Some("--stack"));
        assert_eq!(
            later("--json dev . --stack shop").as_deref(),
            Some("--stack")
        );
    }

    #[test]
    fn other_mistakes_are_mistakes() {
        assert_eq!(later("dve"), None);
        assert_eq!(later("dev --canary 10%"), None);
        assert_eq!(later("invoke"), None);
    }
}
