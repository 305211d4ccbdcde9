//! The runtime table: which program runs a version, with which arguments and environment.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use model::{ByteSize, ErrorType, Failure, Kind, Runtime};
use serde::Serialize;

use crate::{environment, house::Options, opt, version::Version};

/// Bun's bootstrap, written to the run folder at the start.
const BUN_BOOTSTRAP: &str = include_str!("bootstrap/bun.js");

/// Node's bootstrap and what it loads, written beside it; `.cjs` whatever a `package.json` above the run folder says.
const NODE_BOOTSTRAP: [(&str, &str); 4] = [
    ("node.cjs", include_str!("bootstrap/node.js")),
    (
        "node_headers.cjs",
        include_str!("bootstrap/node_headers.js"),
    ),
    ("node_body.cjs", include_str!("bootstrap/node_body.js")),
    ("node_web.cjs", include_str!("bootstrap/node_web.js")),
];

/// What both of them load for a function that streams as Lambda's do.
const STREAMING: (&str, &str) = ("awslambda.cjs", include_str!("bootstrap/awslambda.js"));

/// Node's heap may grow to this share of a worker's memory, in percent, so that it is Node that finds out and says what
/// happened; the rest is for buffers and for Node itself.
const NODE_HEAP_PERCENT: u64 = 75;

/// The runtime's own limit on headers must not cut in before the server's, 64 KiB and what it adds.
const HEADERS_MAX: &str = "--max-http-header-size=131072";

/// The one command that brings Node.
pub const INSTALL_NODE: &str = "apt-get install -y nodejs";

/// The one command that brings Python.
pub const INSTALL_PYTHON: &str = "apt-get install -y python3";

/// Python's bootstrap, and what it loads for web handlers.
const PYTHON_BOOTSTRAP: [(&str, &str); 2] = [
    ("python.py", include_str!("bootstrap/python.py")),
    ("python_web.py", include_str!("bootstrap/python_web.py")),
];

/// What every worker finds on its PATH.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a bootstrap is told, as JSON in `BUNGEE_BOOT`; see docs/protocol.md.
#[derive(Serialize)]
pub struct Boot<'a> {
    /// Marks faults and pings; absent for a client of the Runtime API, which says nothing of the kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce: Option<&'a str>,
    /// Where to listen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<&'a Path>,
    /// Limit on the worker's memory, in mebibytes.
    pub memory_mb: u64,
    /// What to load; absent for a blank isolate child.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load<'a>>,
}

/// What a worker loads.
#[derive(Serialize)]
pub struct Load<'a> {
    /// The module: a path, for an isolate inside the bundle.
    pub entry: &'a str,
    /// Which export.
    pub handler: Option<&'a str>,
    /// The shape of the handler.
    pub kind: model::Kind,
    /// The function's project.
    pub project: &'a str,
    /// The function's name.
    pub function: &'a str,
    /// The version.
    pub version: model::VersionNumber,
    /// Invocations at once.
    pub concurrency: u32,
    /// Whether requests may carry parameters of a route.
    pub has_params: bool,
    /// Environment that an isolate shows as `context.env`; others have it in their process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<&'a std::collections::BTreeMap<String, String>>,
}

impl<'a> Load<'a> {
    /// What to load for this version, its module called `entry`.
    pub fn of(version: &'a Version, entry: &'a str) -> Load<'a> {
        Load {
            entry,
            handler: version.settings.handler.as_deref(),
            kind: version.kind,
            project: version.function.project.as_str(),
            function: version.function.name.as_str(),
            version: version.number,
            concurrency: version.settings.concurrency,
            has_params: version
                .settings
                .routes
                .iter()
                .any(|route| route.path().contains([':', '*'])),
            env: None,
        }
    }
}

/// Empties the run folder and writes the bootstraps.
pub fn prepare_run_dir(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    fs::write(dir.join("bun.js"), BUN_BOOTSTRAP)?;
    // What a spare loads to have loaded something.
    fs::write(dir.join("blank.js"), "// @bun\n")?;
    let others = NODE_BOOTSTRAP.into_iter().chain(PYTHON_BOOTSTRAP);
    for (name, source) in others.chain([STREAMING]) {
        fs::write(dir.join(name), source)?;
    }
    Ok(())
}

/// The program and arguments for a version's runtime, with its own environment and its layers.
pub fn command(options: &Options, version: &Version) -> Result<Command, Failure> {
    let mut command = bare_command(options, version)?;
    if let Some(folder) = &version.opt {
        opt::show(&mut command, version.settings.runtime, folder).map_err(|error| {
            let message = format!("cannot show {} as /opt: {error}", folder.display());
            Failure::new(ErrorType::Internal, message)
        })?;
    }
    Ok(command)
}

fn bare_command(options: &Options, version: &Version) -> Result<Command, Failure> {
    match version.settings.runtime {
        Runtime::Isolate => Ok(isolate_command(options)),
        Runtime::Bun => {
            let missing = || {
                Failure::new(
                    ErrorType::InitError,
                    "`bun` is not on PATH, and this function's runtime is `bun`",
                )
                .hint("install it with `npm install -g bun`, then start the server again")
            };
            let mut command = Command::new(options.bun.as_ref().ok_or_else(missing)?);
            // Neither a `.env` nor a `bunfig.toml` that lies in a bundle may change the worker behind its settings.
            command
                .arg("--no-env-file")
                .arg("--config=/dev/null")
                .arg("--no-install")
                .arg(HEADERS_MAX)
                .arg(options.run_dir.join("bun.js"));
            command.current_dir(&version.dir);
            give_env(&mut command, options, version);
            Ok(command)
        }
        Runtime::Node => node_command(options, version),
        Runtime::Python => python_command(options, version),
        Runtime::Provided => {
            let mut command = Command::new(version.program());
            command.current_dir(&version.dir);
            environment::give(&mut command, version, &options.run_dir, options.clock.now());
            Ok(command)
        }
    }
}

/// Python, with our bootstrap.
fn python_command(options: &Options, version: &Version) -> Result<Command, Failure> {
    let missing = || {
        Failure::new(
            ErrorType::InitError,
            "`python3` is not on PATH, and this function's runtime is `python`",
        )
        .hint(format!(
            "install it with `{INSTALL_PYTHON}`, then start the server again"
        ))
    };
    let mut command = Command::new(options.python.as_ref().ok_or_else(missing)?);
    command
        .arg(options.run_dir.join("python.py"))
        .current_dir(&version.dir);
    // What Python compiles would end up in the bundle, and come along when that is downloaded.
    let own = &version.settings.env;
    let is_theirs = ["PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"]
        .iter()
        .any(|name| own.contains_key(*name));
    if !is_theirs {
        command.env("PYTHONDONTWRITEBYTECODE", "1");
    }
    environment::give(&mut command, version, &options.run_dir, options.clock.now());
    Ok(command)
}

/// Node, with a heap that fits into the version's memory.
fn node_command(options: &Options, version: &Version) -> Result<Command, Failure> {
    let missing = || {
        Failure::new(
            ErrorType::InitError,
            "`node` is not on PATH, and this function's runtime is `node`",
        )
        .hint(format!(
            "install it with `{INSTALL_NODE}`, then start the server again"
        ))
    };
    let mut command = Command::new(options.node.as_ref().ok_or_else(missing)?);
    command
        .arg(HEADERS_MAX)
        .arg(format!(
            "--max-old-space-size={}",
            node_heap(version.settings.memory).0 >> 20
        ))
        .arg(options.run_dir.join("node.cjs"))
        .current_dir(&version.dir);
    give_env(&mut command, options, version);
    Ok(command)
}

/// The function's own environment; beside it what Lambda's have, for handlers like theirs.
fn give_env(command: &mut Command, options: &Options, version: &Version) {
    match version.kind {
        Kind::Event => {
            environment::give(command, version, &options.run_dir, options.clock.now());
        }
        Kind::Web => drop(command.envs(&version.settings.env)),
    }
}

/// How large the heap of Node may grow in a worker of this memory.
pub fn node_heap(memory: ByteSize) -> ByteSize {
    ByteSize::mebibytes(((memory.0 >> 20) * NODE_HEAP_PERCENT / 100).max(1))
}

/// A blank isolate child.
pub fn isolate_command(options: &Options) -> Command {
    let mut command = Command::new(&options.program);
    command.arg("isolate-worker");
    command
}

/// The environment that every worker starts from; the function's own goes on top.
pub fn scrub(command: &mut Command, folder: &Path) {
    let own: Vec<_> = command
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    command.env_clear();
    command
        .env("PATH", PATH)
        .env("HOME", folder)
        .env("TMPDIR", folder)
        .env("LANG", "C.UTF-8")
        .env("TZ", "UTC");
    command.envs(own);
}

/// Finds an executable file of this name in the folders of `path`, which has the form of `PATH`.
pub fn find_program(name: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path)
        .map(|folder| folder.join(name))
        .find(|candidate| {
            fs::metadata(candidate)
                .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
        })
}
