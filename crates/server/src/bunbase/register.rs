//! Registering a function: a name, a runtime, an export. Its code comes with a deployment.

use std::sync::Arc;

use model::{ErrorType, Failure, FunctionId, Runtime, nearest};
use serde::{Deserialize, Serialize};
use store::Registration;

use crate::{
    api::{new_function, to_its_end},
    app::App,
    deploys::store_failure,
};

/// The runtime of who names none.
const RUNTIME: &str = "bun";

/// The export of who names none.
const HANDLER: &str = "default";

/// What BunBase calls its runtimes, and what they are here.
const RUNTIMES: [(&str, Runtime); 5] = [
    (RUNTIME, Runtime::Bun),
    ("node", Runtime::Node),
    ("isolate", Runtime::Isolate),
    ("quickjs", Runtime::Isolate),
    ("quickjs-ng", Runtime::Isolate),
];

/// Longest name of an export, in bytes.
const HANDLER_MAX: usize = 256;

/// What is to be registered.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = Registering))]
pub(super) struct Wanted {
    /// Also its id.
    #[serde(default)]
    name: String,
    /// `bun` if none is named; or `node`, `isolate`, `quickjs`.
    runtime: Option<String>,
    /// The export; if none is named the default one, else `handler`.
    handler: Option<String>,
}

/// A function that is registered.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(crate) struct Registered {
    /// The same as its name.
    function_id: String,
    name: String,
    runtime: String,
    handler: String,
    /// How far it has come.
    status: &'static str,
}

/// Registers a function. The same again is no change; another runtime or export holds from the next deployment on.
pub(super) async fn register(app: &Arc<App>, wanted: Wanted) -> Result<Registered, Failure> {
    if wanted.name.is_empty() {
        return Err(super::missing("name"));
    }
    let id = new_function(app.home_project.as_str(), &wanted.name)?;
    let given = |word: Option<String>, default: &str| {
        let word = word.filter(|word| !word.is_empty());
        word.unwrap_or_else(|| default.to_owned())
    };
    let how = Registration {
        runtime: given(wanted.runtime, RUNTIME),
        handler: given(wanted.handler, HANDLER),
    };
    runtime(&how.runtime)?;
    if how.handler.len() > HANDLER_MAX || how.handler.contains(char::is_whitespace) {
        let message = format!("`handler` is the name of an export, of at most {HANDLER_MAX} bytes");
        return Err(Failure::new(ErrorType::BadRequest, message));
    }
    let (changing, function, kept) = (app.clone(), id.clone(), how.clone());
    let change = async move { changing.deploys.register(&function, kept).await };
    to_its_end(app, change).await?;
    Ok(Registered {
        function_id: id.name.to_string(),
        name: id.name.to_string(),
        runtime: how.runtime,
        handler: how.handler,
        status: status(app, &id).await?,
    })
}

/// How far a function has come.
async fn status(app: &App, id: &FunctionId) -> Result<&'static str, Failure> {
    let function = app.store.function(id).await;
    let function = function.map_err(|error| store_failure(&error))?;
    Ok(function.map_or("REGISTERED", |function| {
        app.registry.table().lifecycle(&function)
    }))
}

/// What runs a function that is registered for this.
pub(crate) fn runtime(word: &str) -> Result<Runtime, Failure> {
    let known = RUNTIMES.iter().find(|(known, _)| *known == word);
    if let Some((_, runtime)) = known {
        return Ok(*runtime);
    }
    let shown: String = word.chars().take(40).collect();
    let message = format!("the runtime `{shown}` is none of bun, node, isolate and quickjs");
    let failure = Failure::new(ErrorType::BadRequest, message);
    Err(match nearest(word, RUNTIMES.map(|(known, _)| known)) {
        Some(near) => failure.hint(format!("did you mean `{near}`?")),
        None => failure.hint("other runtimes are deployed with `bungee deploy`"),
    })
}

/// The export to look for: the default one, else `handler`, unless another was named.
pub(super) fn handler(word: &str) -> Option<String> {
    let is_usual = matches!(word, HANDLER | "handler");
    (!is_usual).then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_and_handlers_are_words() {
        assert_eq!(runtime("bun"), Ok(Runtime::Bun));
        assert_eq!(runtime("quickjs"), Ok(Runtime::Isolate));
        let refused = runtime("nod").unwrap_err();
        assert_eq!(refused.hint.as_deref(), Some("did you mean `node`?"));
        assert!(runtime("python").unwrap_err().hint.is_some());
        assert_eq!(handler("default"), None);
        assert_eq!(handler("handler"), None);
        assert_eq!(handler("onOrder").as_deref(), Some("onOrder"));
    }
}
