//! The deploy flow: build, upload, version, alias; each step may be done again without harm. `deploy` and `dev` go the same way.

use std::{io, path::Path, path::PathBuf, time::Duration};

use build::{BuildError, Built, Project, Tools};
use model::{Digest, FunctionId, Name, Runtime, SettingsPatch, VersionNumber};
use tokio::{fs, task, time::Instant};

use crate::api::{Activated, ApiError, Client, Created, NewVersion};

/// What is deployed, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// The folder that was read.
    pub project: &'a Project,
    /// Which of its functions.
    pub function: &'a Name,
    /// Where it lies on the server; `None`: the project that the folder names.
    pub target: Option<&'a Name>,
    /// A folder for the bundle, emptied first.
    pub out: &'a Path,
    /// What builds may run.
    pub tools: &'a Tools,
}

/// How far a deployment is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The bundle is built.
    Built {
        /// Its digest.
        bundle: Digest,
        /// How many files.
        files: usize,
        /// Their size, in bytes.
        size: u64,
        /// What works, but perhaps not as meant.
        warnings: Vec<String>,
    },
    /// The server has the bundle.
    Uploaded {
        /// Whether it had to be sent.
        is_new: bool,
    },
    /// The version exists.
    Versioned {
        /// Its ordinal.
        version: VersionNumber,
        /// Whether it is new.
        is_new: bool,
    },
}

/// A deployment that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// The function.
    pub function: FunctionId,
    /// What runs it.
    pub runtime: Runtime,
    /// The version that calls reach now.
    pub version: VersionNumber,
    /// Digest of bundle and settings.
    pub digest: Digest,
    /// The version before; `None` if this is the first.
    pub previous: Option<VersionNumber>,
    /// Whether calls reach something else than before.
    pub changed: bool,
    /// Whether the version is new.
    pub created: bool,
    /// From the first look at the sources until calls reach it.
    pub took: Duration,
    /// Files whose change asks for another deployment, absolute.
    pub inputs: Vec<PathBuf>,
}

/// Why nothing was deployed. What was current still is.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The folder gives no bundle.
    #[error(transparent)]
    Build(Box<BuildError>),
    /// The server did not take it.
    #[error(transparent)]
    Server(Box<ApiError>),
    /// The bundle's folder fails.
    #[error("cannot use {}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

impl From<BuildError> for DeployError {
    fn from(error: BuildError) -> DeployError {
        DeployError::Build(Box::new(error))
    }
}

impl From<ApiError> for DeployError {
    fn from(error: ApiError) -> DeployError {
        DeployError::Server(Box::new(error))
    }
}

/// A version that the server holds and nobody calls yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The function.
    pub function: FunctionId,
    /// What runs it.
    pub runtime: Runtime,
    /// The version to point at.
    pub created: Created,
    /// Files whose change asks for another deployment, absolute.
    pub inputs: Vec<PathBuf>,
    started: Instant,
}

/// Builds one function, uploads its bundle and makes the version. `progress` hears of each step.
pub async fn prepare(
    client: &Client,
    order: Order<'_>,
    progress: impl Fn(Step),
) -> Result<Prepared, DeployError> {
    let started = Instant::now();
    let function = FunctionId {
        project: order.target.unwrap_or(&order.project.name).clone(),
        name: order.function.clone(),
    };
    empty(order.out).await?;
    let built = build::build(order.project, order.function, order.out, order.tools).await?;
    let bundle = built.manifest.digest();
    progress(Step::Built {
        bundle,
        files: built.manifest.files().len(),
        size: built.manifest.size(),
        warnings: built.warnings.clone(),
    });
    let is_new = upload(client, &bundle, order.out, &built).await?;
    progress(Step::Uploaded { is_new });
    let settings = settings(order.project, order.function, built.handler);
    let runtime = settings.runtime.unwrap_or(Runtime::Isolate);
    let new = NewVersion {
        bundle,
        entry: built.entry,
        kind: built.kind,
        settings,
    };
    let created = client.create_version(&function, &new).await?;
    progress(Step::Versioned {
        version: created.version,
        is_new: created.created,
    });
    Ok(Prepared {
        function,
        runtime,
        created,
        inputs: built.inputs,
        started,
    })
}

/// Points `current` at what was prepared.
pub async fn activate(client: &Client, prepared: Prepared) -> Result<Deployed, ApiError> {
    let Prepared {
        function,
        runtime,
        created,
        inputs,
        started,
    } = prepared;
    let Activated {
        version,
        previous,
        changed,
        ..
    } = client.activate(&function, created.version).await?;
    Ok(Deployed {
        function,
        runtime,
        version,
        digest: created.digest,
        previous,
        changed,
        created: created.created,
        took: started.elapsed(),
        inputs,
    })
}

/// The settings as they were written, and what the build found out.
fn settings(project: &Project, function: &Name, handler: Option<String>) -> SettingsPatch {
    let written = project.functions.get(function).cloned().unwrap_or_default();
    SettingsPatch {
        handler: handler.or(written.handler),
        ..written
    }
}

/// Sends the bundle if the server has none of that digest; says whether it was sent.
async fn upload(
    client: &Client,
    bundle: &Digest,
    out: &Path,
    built: &Built,
) -> Result<bool, DeployError> {
    if client.has_bundle(bundle).await? {
        return Ok(false);
    }
    let (dir, manifest) = (out.to_owned(), built.manifest.clone());
    let pack = move || {
        let mut packed = Vec::new();
        build::pack(&dir, &manifest, &mut packed).map(|()| packed)
    };
    let folder = |error| DeployError::Folder {
        folder: out.to_owned(),
        error,
    };
    let packed = task::spawn_blocking(pack)
        .await
        .map_err(|stopped| folder(io::Error::other(stopped)))?
        .map_err(folder)?;
    client.put_bundle(bundle, packed.into()).await?;
    Ok(true)
}

async fn empty(out: &Path) -> Result<(), DeployError> {
    let emptied = match fs::remove_dir_all(out).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => fs::create_dir_all(out).await,
    };
    emptied.map_err(|error| DeployError::Folder {
        folder: out.to_owned(),
        error,
    })
}
