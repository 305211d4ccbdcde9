//! Source that somebody hands in becomes a version: built here, deployed as everything is.

use std::path::{Component, Path};

use build::{BuildError, Built, Project, Tools};
use model::{ErrorType, Failure, FunctionId, Kind, Runtime, SettingsPatch};
use store::Origin;

use super::refusal::Refusal;
use crate::{
    app::App,
    bundles::Workshop,
    deploys::{Wanted, store_failure},
};

/// Endings of modules in JavaScript and TypeScript.
const MODULES: [&str; 8] = ["js", "mjs", "cjs", "jsx", "ts", "mts", "cts", "tsx"];

/// What Python imports, whatever the path is called: many paths name no module, or one of Python's own.
const PYTHON_FILE: &str = "function_code.py";

/// Longest path of a source, in bytes: what file systems take for one name.
const PATH_MAX: usize = 255;

/// Source with what was said of it.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) origin: Origin,
    pub(super) code: String,
}

/// The runtime that a word means: those of Node's versions mean the built-in engine, which is what its functions may do.
pub(super) fn runtime_of(word: &str) -> Result<Runtime, Failure> {
    let is_version = |rest: &str| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit());
    if word.strip_prefix("node").is_some_and(is_version) {
        return Ok(Runtime::Isolate);
    }
    word.parse().map_err(|_: String| {
        let shown: String = word.chars().take(64).collect();
        let message = format!("there is no runtime `{shown}`");
        let hint = "use node18 (the default), bun, node, python or provided";
        Failure::new(ErrorType::BadRequest, message).hint(hint)
    })
}

/// Refuses a path that is none inside a project.
pub(super) fn check_path(path: &str) -> Result<(), Failure> {
    let refuse = |why: &str| {
        let shown: String = path.chars().take(64).collect();
        let message = format!("`file_path` is `{shown}`, which {why}");
        Err(Failure::new(ErrorType::BadRequest, message)
            .hint("write it relative to the project, like `api/hello.js`"))
    };
    let mut parts = Path::new(path).components();
    if path.len() > PATH_MAX {
        return refuse(&format!("is longer than {PATH_MAX} bytes"));
    }
    if path.is_empty() || path.contains(['\0', '\\']) || path.ends_with('/') {
        return refuse("names no file");
    }
    if !parts.all(|part| matches!(part, Component::Normal(_))) {
        return refuse("does not lie in the project");
    }
    Ok(())
}

/// Where a source lies whose path nobody said.
pub(super) fn default_path(id: &FunctionId, runtime: Runtime) -> String {
    match runtime {
        Runtime::Isolate | Runtime::Bun | Runtime::Node => format!("api/{}.js", id.name),
        Runtime::Python => format!("api/{}.py", id.name),
        Runtime::Provided => format!("api/{}", id.name),
    }
}

/// Makes a version of the source, over the settings that the function has, and points `current` at it once it has loaded.
pub(super) async fn deploy(app: &App, id: &FunctionId, source: Source) -> Result<(), Refusal> {
    let runtime = runtime_of(&source.origin.runtime)?;
    let settings = settings_of(app, id).await?;
    let wanted = built(app, id, &source, runtime, settings).await;
    let wanted = wanted.map_err(Refusal::code)?;
    let said = |failure| Refusal::code(as_said(failure, &source.origin.file_path, runtime));
    let created = app.deploys.create_unseen(id, wanted).await;
    let created = created.map_err(said)?;
    let Source { origin, code } = source.clone();
    let kept = app
        .store
        .keep_source(id, Some(created.version), origin, Some(code));
    kept.await.map_err(|error| store_failure(&error))?;
    // The version may have been there with another text that means the same.
    app.deploys.codes.forget(id);
    let activated = app.deploys.activate_loaded(id, created.version).await;
    activated.map(drop).map_err(said)
}

/// A failure that names the file as it was handed in.
fn as_said(mut failure: Failure, path: &str, runtime: Runtime) -> Failure {
    if runtime == Runtime::Python {
        failure.message = failure.message.replace(PYTHON_FILE, path);
    }
    failure
}

/// The settings of the current version, if there is one: new code changes nothing about them.
async fn settings_of(app: &App, id: &FunctionId) -> Result<SettingsPatch, Failure> {
    if app.registry.table().state(id).is_none() {
        return Ok(SettingsPatch::default());
    }
    let current = app.store.current(id).await;
    let current = current.map_err(|error| store_failure(&error))?;
    Ok(current.version.map(|it| it.patch).unwrap_or_default())
}

/// Builds the bundle, and leaves it where uploads lie.
async fn built(
    app: &App,
    id: &FunctionId,
    source: &Source,
    runtime: Runtime,
    settings: SettingsPatch,
) -> Result<Wanted, Failure> {
    let workshop = app.deploys.bundles.workshop().await?;
    let folder = workshop.source();
    let entry = file_of(&source.origin.file_path, runtime);
    write(&folder.join(&entry), &source.code, runtime)
        .await
        .map_err(|error| failed("write the source", &error))?;
    let patch = SettingsPatch {
        entry: Some(entry),
        runtime: Some(runtime),
        handler: None,
        kind: None,
        build: None,
        ..settings
    };
    let made = make(app, id, &workshop, patch).await;
    let path = &source.origin.file_path;
    let (built, patch) = made.map_err(|error| as_said(inside(folder, &error), path, runtime))?;
    let bundle = built.manifest.digest();
    app.deploys.bundles.take_built(workshop, bundle).await?;
    Ok(Wanted {
        bundle,
        entry: built.entry,
        kind: built.kind,
        settings: patch,
        layers: Vec::new(),
    })
}

/// Finds out which handler is meant, and builds. `handler` takes events, whatever else there is; a default export alone
/// is a web handler.
async fn make(
    app: &App,
    id: &FunctionId,
    workshop: &Workshop,
    mut patch: SettingsPatch,
) -> Result<(Built, SettingsPatch), BuildError> {
    let project = Project::of_one(workshop.source(), id.name.clone(), patch.clone());
    match patch.runtime.unwrap_or(Runtime::Isolate) {
        Runtime::Isolate | Runtime::Bun | Runtime::Node => {
            if build::has_export(&project, &id.name, "handler").await? {
                patch.handler = Some("handler".to_owned());
                patch.kind = Some(Kind::Event);
            }
        }
        Runtime::Python => {}
        Runtime::Provided => patch.kind = Some(Kind::Event),
    }
    let project = Project::of_one(workshop.source(), id.name.clone(), patch.clone());
    let python = app.deploys.python.clone();
    let tools = Tools {
        bun: app.deploys.bun.clone().unwrap_or_else(|| "bun".into()),
        python: python.unwrap_or_else(|| "python3".into()),
        // What came over the network runs in workers only.
        has_macros: false,
        ..Tools::default()
    };
    let built = build::build(&project, &id.name, workshop.out(), &tools).await?;
    patch.handler = built.handler.clone().or(patch.handler);
    Ok((built, patch))
}

/// The name of the file that is built: its ending says its language, whatever its path is called.
fn file_of(path: &str, runtime: Runtime) -> String {
    let ending = Path::new(path).extension().and_then(|it| it.to_str());
    match runtime {
        Runtime::Isolate | Runtime::Bun | Runtime::Node => match ending {
            Some(ending) if MODULES.contains(&ending) => path.to_owned(),
            Some(_) | None => format!("{path}.js"),
        },
        Runtime::Python => PYTHON_FILE.to_owned(),
        Runtime::Provided => path.to_owned(),
    }
}

async fn write(file: &Path, code: &str, runtime: Runtime) -> std::io::Result<()> {
    if let Some(above) = file.parent() {
        tokio::fs::create_dir_all(above).await?;
    }
    tokio::fs::write(file, code).await?;
    if runtime == Runtime::Provided {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        tokio::fs::set_permissions(file, mode).await?;
    }
    Ok(())
}

/// What is wrong with the source, without the folder that only we know.
fn inside(folder: &Path, error: &BuildError) -> Failure {
    let mut failure = error.failure();
    let prefix = format!("{}/", folder.display());
    failure.message = failure.message.replace(&prefix, "");
    failure
}

fn failed(attempt: &str, error: &std::io::Error) -> Failure {
    Failure::new(ErrorType::Internal, format!("cannot {attempt}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_runtimes_are_known() {
        for (word, runtime) in [
            ("node18", Runtime::Isolate),
            ("node22", Runtime::Isolate),
            ("isolate", Runtime::Isolate),
            ("node", Runtime::Node),
            ("bun", Runtime::Bun),
            ("python", Runtime::Python),
            ("provided", Runtime::Provided),
        ] {
            assert_eq!(runtime_of(word), Ok(runtime), "{word}");
        }
        for word in ["", "deno", "node18x", "Node18"] {
            let refused = runtime_of(word).unwrap_err().error_type;
            assert_eq!(refused, ErrorType::BadRequest, "{word}");
        }
    }

    #[test]
    fn a_path_stays_in_the_project() {
        for good in ["hello.js", "api/hello.js", "api/hello", ".hidden/x"] {
            assert!(check_path(good).is_ok(), "{good}");
        }
        let long = "x".repeat(256);
        for bad in [
            "",
            "/api/x.js",
            "../x.js",
            "a/../../x",
            "api/",
            "a\\b",
            &long,
        ] {
            assert!(check_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_file_that_is_built_ends_as_its_language() {
        for (path, runtime, file) in [
            ("api/x.ts", Runtime::Isolate, "api/x.ts"),
            ("api/x", Runtime::Bun, "api/x.js"),
            ("api/x.v2", Runtime::Node, "api/x.v2.js"),
            ("api/x", Runtime::Python, PYTHON_FILE),
            ("api/json.py", Runtime::Python, PYTHON_FILE),
            ("api/x.sh", Runtime::Provided, "api/x.sh"),
        ] {
            assert_eq!(file_of(path, runtime), file);
        }
    }
}
