//! Deploying a file of the server's own disk under a label: read, built, made a version, and made current.
//! A label means one content for ever; named again, it becomes current again.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use build::{Project, Tools};
use model::{
    ByteSize, Digest, ErrorType, Failure, FunctionId, Kind, Runtime, SettingsPatch, VersionNumber,
};
use serde::{Deserialize, Serialize};
use store::{Label, Registration};

use super::register::{handler, runtime};
use crate::{
    api::to_its_end,
    app::App,
    bundles::Workshop,
    deploys::{Wanted as WantedVersion, store_failure},
};

/// What a file may end with, to be code.
const ENDINGS: [&str; 8] = ["js", "ts", "mjs", "mts", "cjs", "cts", "jsx", "tsx"];

/// Longest label, in characters.
const LABEL_MAX: usize = 128;

/// Digits of a version's digest that name it here, as the commands take them.
const DIGITS: usize = 12;

/// What is to be deployed.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = Deploying))]
pub(super) struct Wanted {
    #[serde(default)]
    function_id: String,
    /// The label.
    #[serde(default)]
    version: String,
    /// A file on the server's disk that holds all it imports, JavaScript or TypeScript.
    #[serde(default)]
    bundle_path: String,
}

/// A label that is current now.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(crate) struct Deployment {
    deployment_id: String,
    function_id: String,
    /// The label.
    version: String,
    /// What the commands take for a version: the first digits of its digest.
    version_id: String,
    status: &'static str,
}

/// The code, as it was read.
struct Code {
    text: Vec<u8>,
    digest: Digest,
    ending: String,
    path: PathBuf,
}

/// Deploys a file under a label, whether or not the caller stays to hear of it.
pub(super) async fn deploy(app: &Arc<App>, wanted: Wanted) -> Result<Deployment, Failure> {
    for (what, given) in [
        ("function_id", &wanted.function_id),
        ("version", &wanted.version),
        ("bundle_path", &wanted.bundle_path),
    ] {
        if given.is_empty() {
            return Err(super::missing(what));
        }
    }
    if wanted.version.chars().count() > LABEL_MAX || wanted.version.contains(char::is_control) {
        let message = format!("`version` is at most {LABEL_MAX} characters, none of control");
        return Err(Failure::new(ErrorType::BadRequest, message));
    }
    let id = super::function(app, &wanted.function_id)?;
    let deploying = app.clone();
    let change = async move { make_current(&deploying, id, wanted).await };
    to_its_end(app, change).await
}

async fn make_current(app: &App, id: FunctionId, wanted: Wanted) -> Result<Deployment, Failure> {
    let fail = |error| store_failure(&error);
    let how = app.store.registration(&id).await.map_err(fail)?;
    let how = how.ok_or_else(|| unregistered(&id))?;
    // What a label means is looked up and decided by one at a time.
    let _deploying = app.deploys.labelling.lock().await;
    let limit = app.limits.bundle_unpacked;
    let code =
        crate::bundles::blocking(move || read(Path::new(&wanted.bundle_path), limit)).await?;
    let label = app.store.label(&id, &wanted.version).await.map_err(fail)?;
    let version = match &label {
        Some(label) => {
            let version = app.store.version(&id, label.version).await.map_err(fail)?;
            let version = version.filter(|_| label.source == code.digest);
            let version = version.ok_or_else(|| taken(&id, &wanted.version, label, &code))?;
            check_same(&id, &wanted.version, &version.patch, &how)?;
            label.version
        }
        None => make(app, &id, &how, &code).await?,
    };
    app.deploys.activate_loaded(&id, version).await?;
    if label.is_none() {
        let source = code.digest;
        let given = Label { version, source };
        let given = app.store.give_label(&id, &wanted.version, given).await;
        given.map_err(fail)?;
    }
    let made = app.store.version(&id, version).await.map_err(fail)?;
    let digits = made.map_or_else(String::new, |made| made.digest.hex());
    let version_id: String = digits.chars().take(DIGITS).collect();
    Ok(Deployment {
        deployment_id: format!("{}@{version_id}", id.name),
        function_id: id.name.to_string(),
        version: wanted.version,
        version_id,
        status: "DEPLOYED",
    })
}

fn unregistered(id: &FunctionId) -> Failure {
    let message = format!("no function `{}` is registered", id.name);
    Failure::new(ErrorType::FunctionNotFound, message)
        .hint("register it first: POST /v1/functions/register, or the command REGISTER")
}

fn taken(id: &FunctionId, label: &str, before: &Label, code: &Code) -> Failure {
    let message = format!(
        "the version `{label}` of `{}` is {}, and {} is {}: a version never changes",
        id.name,
        before.source,
        code.path.display(),
        code.digest
    );
    Failure::new(ErrorType::NameTaken, message).hint("deploy it as another version")
}

/// Refuses a label whose version is of another runtime or export than the function is registered for now.
fn check_same(
    id: &FunctionId,
    label: &str,
    patch: &SettingsPatch,
    how: &Registration,
) -> Result<(), Failure> {
    if *patch == settings(how)? {
        return Ok(());
    }
    let message = format!(
        "the version `{label}` of `{}` was made before the function was registered for the runtime `{}` and the handler `{}`",
        id.name, how.runtime, how.handler
    );
    Err(Failure::new(ErrorType::NameTaken, message).hint("deploy it as another version"))
}

/// The settings of what is deployed here: those that were registered, and defaults.
fn settings(how: &Registration) -> Result<SettingsPatch, Failure> {
    Ok(SettingsPatch {
        runtime: Some(runtime(&how.runtime)?),
        handler: handler(&how.handler),
        kind: Some(Kind::Web),
        ..SettingsPatch::default()
    })
}

/// Makes a version of the code.
async fn make(
    app: &App,
    id: &FunctionId,
    how: &Registration,
    code: &Code,
) -> Result<VersionNumber, Failure> {
    let patch = settings(how)?;
    let workshop = app.deploys.bundles.workshop().await?;
    let entry = format!("bundle.{}", code.ending);
    let text = tokio::fs::write(workshop.source().join(&entry), &code.text).await;
    text.map_err(|error| {
        Failure::new(
            ErrorType::Internal,
            format!("cannot write {entry}: {error}"),
        )
    })?;
    let within = SettingsPatch {
        entry: Some(entry.clone()),
        ..patch.clone()
    };
    let project = Project::of_one(workshop.source(), id.name.clone(), within);
    let bun = app.deploys.bun.clone();
    let tools = Tools {
        bun: bun.unwrap_or_else(|| Tools::default().bun),
        is_ahead: patch.runtime == Some(Runtime::Bun),
        has_macros: false,
        ..Tools::default()
    };
    let built = build::build(&project, &id.name, workshop.out(), &tools).await;
    let built = built.map_err(|error| said_of(&error.failure(), &workshop, &entry, code))?;
    let bundle = built.manifest.digest();
    app.deploys.bundles.take_built(workshop, bundle).await?;
    let wanted = WantedVersion {
        bundle,
        entry: built.entry,
        kind: Kind::Web,
        settings: patch,
        layers: Vec::new(),
    };
    Ok(app.deploys.create(id, wanted).await?.version)
}

/// A failure of the build, in which the file has the name that the caller knows.
fn said_of(failure: &Failure, workshop: &Workshop, entry: &str, code: &Code) -> Failure {
    let file = workshop.source().join(entry).display().to_string();
    let shown = code.path.display().to_string();
    let mut failure = failure.clone();
    failure.message = failure.message.replace(&file, &shown);
    let is_import = ["resolve", "ot found"].map(|word| failure.message.contains(word));
    if failure.hint.is_none() && is_import.contains(&true) {
        failure.hint = Some("`bundle_path` is one file that holds everything it imports".into());
    }
    failure
}

/// Reads a plain file within the limit.
fn read(path: &Path, limit: ByteSize) -> Result<Code, Failure> {
    let refuse = |why: String| {
        let message = format!("`bundle_path` is `{}`, {why}", path.display());
        Failure::new(ErrorType::BadRequest, message)
    };
    if !path.is_absolute() {
        return Err(refuse("which does not begin at the root".into())
            .hint("give the whole path, as it is on the server's disk"));
    }
    let ending = path.extension().and_then(|ending| ending.to_str());
    let ending = ending.filter(|ending| ENDINGS.contains(ending));
    let Some(ending) = ending else {
        let words = ENDINGS.join(", .");
        return Err(refuse(format!("which does not end with .{words}")));
    };
    let unreadable = |error: std::io::Error| refuse(format!("which cannot be read: {error}"));
    // Looked at before it is opened: opening a pipe would wait for whoever writes to it.
    let data = std::fs::metadata(path).map_err(unreadable)?;
    if !data.is_file() {
        return Err(refuse("which is no plain file".into()));
    }
    let mut text = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(limit.0.saturating_add(1))
        .read_to_end(&mut text)
        .map_err(unreadable)?;
    if text.len() as u64 > limit.0 {
        let message = format!(
            "{} has more than {limit}, the limit `bundle_unpacked`",
            path.display()
        );
        return Err(Failure::new(ErrorType::PayloadTooLarge, message));
    }
    Ok(Code {
        digest: Digest::of(&text),
        text,
        ending: ending.to_owned(),
        path: path.to_owned(),
    })
}
