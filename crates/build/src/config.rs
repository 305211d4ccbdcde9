//! `bungee.toml`: every key is known by name and shape before its value is used.
//! Says where a mistake stands and what was probably meant. Does not look at other files.

use std::collections::BTreeMap;

use model::{Limits, Name, RouteTable, SettingsPatch};
use serde::Deserialize;
use toml::de::DeTable;

use crate::error::{ConfigError, Place};
use reader::Reader;

mod reader;
mod schema;

/// A file in which every word is known; its values are yet to be held against the limits.
pub(crate) struct Config {
    /// The project; `default` if the file names none.
    pub(crate) project: Name,
    /// Its functions, defaults not filled in.
    pub(crate) functions: BTreeMap<Name, SettingsPatch>,
    /// Where each key stands, by its full name, such as `functions.hello.workers.max`.
    pub(crate) places: BTreeMap<String, Place>,
}

/// The file as serde reads it, once every word of it has been checked.
#[derive(Deserialize)]
struct Checked {
    #[serde(default)]
    functions: BTreeMap<Name, SettingsPatch>,
}

/// Reads the text of `file`, which is only used to say where something stands.
pub(crate) fn parse(file: &str, text: &str) -> Result<Config, ConfigError> {
    let broken = |error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        let message = error.message().lines().next().unwrap_or_default();
        ConfigError::new(Some(Place::line_of(file, text, at)), message)
    };
    let document = DeTable::parse(text).map_err(broken)?;
    let mut reader = Reader::new(file, text);
    let project = reader.top(document.get_ref())?;
    let Checked { functions } = toml::from_str(text).map_err(broken)?;
    Ok(Config {
        project,
        functions,
        places: reader.places,
    })
}

/// Checks each function's values against the limits, and all routes against one another.
pub(crate) fn check_values(
    functions: &BTreeMap<Name, SettingsPatch>,
    places: &BTreeMap<String, Place>,
) -> Result<(), ConfigError> {
    let limits = Limits::default();
    let mut routes = RouteTable::default();
    for (name, patch) in functions {
        let settings = patch.resolve(&limits).map_err(|error| {
            let place = place(places, name, &error.key);
            ConfigError::new(place, format!("`{}` {}", error.key, error.why))
        })?;
        for (at, route) in settings.routes.into_iter().enumerate() {
            routes.insert(route, ()).map_err(|error| {
                let place = place(places, name, &format!("routes.{at}"));
                ConfigError::new(place, error.to_string())
            })?;
        }
    }
    Ok(())
}

/// Where `functions.NAME.KEY` stands, or the nearest table around it.
pub(crate) fn place(places: &BTreeMap<String, Place>, function: &Name, key: &str) -> Option<Place> {
    let mut full = format!("functions.{function}.{key}");
    loop {
        if let Some(place) = places.get(&full) {
            return Some(place.clone());
        }
        full.truncate(full.rfind('.')?);
    }
}
