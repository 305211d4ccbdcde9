//! Variables of the Functions Service, whose installations find here what they set: read where ours say nothing.

use std::env;

use laptop::api::Address;
use model::Level;

use crate::exit::{Complaint, Exit};

/// Where clients find the server: `API_ENDPOINT`.
pub fn endpoint() -> Result<Option<Address>, Complaint> {
    let Some(url) = set("API_ENDPOINT") else {
        return Ok(None);
    };
    let parsed = url.parse();
    parsed.map(Some).map_err(|error| {
        refused(format!("`API_ENDPOINT` cannot be used: {error}"))
            .hint("write it like `http://127.0.0.1:9001`, or name the server with `--server URL`")
    })
}

/// The port to listen on: `FUNCTIONS_PORT`.
pub fn port() -> Result<Option<u16>, Complaint> {
    let Some(port) = set("FUNCTIONS_PORT") else {
        return Ok(None);
    };
    port.trim().parse().map(Some).map_err(|_| {
        refused(format!("`FUNCTIONS_PORT` is `{port}`, which is no port"))
            .hint("write a number up to 65535, or use `--listen ADDRESS:PORT`")
    })
}

/// How loud the program's own log is: `LOG_LEVEL`, in either case.
pub fn log_level() -> Result<Option<Level>, Complaint> {
    let Some(word) = set("LOG_LEVEL") else {
        return Ok(None);
    };
    level_of(&word).map(Some).ok_or_else(|| {
        refused(format!("`LOG_LEVEL` is `{word}`, which is no level"))
            .hint("write trace, debug, info, warn or error, or use `--log-level LEVEL`")
    })
}

fn level_of(word: &str) -> Option<Level> {
    match word.trim().to_ascii_lowercase().as_str() {
        "warning" => Some(Level::Warn),
        "fatal" => Some(Level::Error),
        word => word.parse().ok(),
    }
}

/// Refuses a database that would not be used: `DATABASE_URL`. What it says is never shown, for it may hold a password.
pub fn refuse_database() -> Result<(), Complaint> {
    let Some(url) = set("DATABASE_URL") else {
        return Ok(());
    };
    let is_postgres = ["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| url.trim_start().starts_with(scheme));
    let message = if is_postgres {
        "`DATABASE_URL` names a PostgreSQL database; keeping the server's state there arrives later"
    } else {
        "`DATABASE_URL` names a database, and the server would not use it"
    };
    Err(refused(message.to_owned())
        .hint("unset it: everything is kept in SQLite, in the folder of `--data-dir`"))
}

fn refused(message: String) -> Complaint {
    Complaint::new(Exit::Configuration, message)
}

/// A variable that is set and not empty.
fn set(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_the_words_that_services_use() {
        for (word, level) in [
            ("info", Some(Level::Info)),
            ("DEBUG", Some(Level::Debug)),
            ("Warning", Some(Level::Warn)),
            ("fatal", Some(Level::Error)),
            ("loud", None),
        ] {
            assert_eq!(level_of(word), level, "{word}");
        }
    }
}
