//! Web or event: decided from what a module exports and what the settings say.
//! A module that could be both is asked for `kind`, in the words that go into `bungee.toml`.

use model::{Kind, Name, SettingsPatch, nearest};

use crate::{
    error::{BuildError, Place},
    exports::{Exports, Value},
};

/// What is asked about.
pub(crate) struct Question<'q> {
    /// The function, for the line that answers an open question.
    pub(crate) function: &'q Name,
    /// Its settings.
    pub(crate) patch: &'q SettingsPatch,
    /// What its entry exports.
    pub(crate) exports: &'q Exports,
    /// The entry.
    pub(crate) entry: Option<Place>,
    /// Where `handler` is set, if it is.
    pub(crate) handler: Option<Place>,
}

/// The kind of the function's handler.
pub(crate) fn decide(question: &Question<'_>) -> Result<Kind, BuildError> {
    let Question { patch, exports, .. } = question;
    match patch.handler.as_deref() {
        Some("default") => {}
        Some(name) if exports.names.contains(name) || exports.open => {
            return Ok(patch.kind.unwrap_or(Kind::Event));
        }
        Some(name) => return Err(question.not_exported(name)),
        None => {}
    }
    let only_default = patch.handler.is_some();
    let has_handler = !only_default && exports.names.contains("handler");
    if only_default && exports.default.is_none() && !exports.open {
        return Err(question.not_exported("default"));
    }
    match (exports.default, has_handler, patch.kind) {
        // The default export comes first, so with a given kind it is the one that must fit.
        (Some(Value::Unfit(what)), false, _) | (Some(Value::Unfit(what)), true, Some(_)) => {
            Err(question.no_handler(&format!("its default export is {what}")))
        }
        (Some(_), _, Some(kind)) | (None, true, Some(kind)) => Ok(kind),
        (None, false, Some(kind)) if exports.open => Ok(kind),
        (Some(_), true, None) => Err(question.open("exports both a default and `handler`")),
        (Some(_), false, None) if exports.open && !only_default => {
            Err(question.open("exports a default, and may also export `handler`"))
        }
        (Some(_), false, None) => Ok(Kind::Web),
        (None, true, None) => Ok(Kind::Event),
        (None, false, None) if exports.open => {
            Err(question.open("exports what can only be found out by running it"))
        }
        (None, false, _) => Err(question.no_handler(&listed(exports))),
    }
}

/// The module's exports in words.
fn listed(exports: &Exports) -> String {
    let default = exports.default.map(|_| "default");
    let names: Vec<String> = default
        .into_iter()
        .chain(exports.names.iter().map(String::as_str))
        .take(10)
        .map(|name| format!("`{name}`"))
        .collect();
    match names.is_empty() {
        true => "it exports nothing".into(),
        false => format!("it exports {}", names.join(", ")),
    }
}

impl Question<'_> {
    fn no_handler(&self, why: &str) -> BuildError {
        BuildError::new(self.entry.clone(), format!("the module exports no handler: {why}"))
            .hint("`export default` a function, or an object with `fetch`, for web requests; `export` a function named `handler` for events")
    }

    fn not_exported(&self, name: &str) -> BuildError {
        let file = self
            .entry
            .as_ref()
            .map_or("the module", |place| &place.file);
        let message = format!(
            "`handler` is `{name}`, which {file} does not export; {}",
            listed(self.exports)
        );
        let error = BuildError::new(self.handler.clone().or(self.entry.clone()), message);
        match nearest(name, self.exports.names.iter().map(String::as_str)) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error,
        }
    }

    fn open(&self, why: &str) -> BuildError {
        let message =
            format!("cannot tell whether this is a web or an event handler: the module {why}");
        BuildError::new(self.entry.clone(), message).hint(format!(
            "under `[functions.{}]` in bungee.toml add `kind = \"web\"` for the default export, or `kind = \"event\"` and `handler = \"handler\"` for the event handler",
            self.function
        ))
    }
}

#[cfg(test)]
mod tests;
