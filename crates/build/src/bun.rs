//! Bundles for Bun: `bun build` as a child, its complaints as `FILE:LINE:COLUMN: message`, and its output made
//! independent of where it was built, so that the same sources give the same digest.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use model::SettingsPatch;
use serde_json::Value;
use tokio::process::Command;

use crate::{child, error::BuildError, exports::Format, resolve::Folder};

mod bytecode;
mod complaint;
mod tidy;

/// The bundle's entry.
const ENTRY: &str = "index.js";

/// The bundled module behind the entry, if that had to be written by us.
const MODULE: &str = "module.js";

/// Where `bun build` says what it read; removed before the bundle is listed.
const METAFILE: &str = ".bungee-metafile.json";

/// What `bun build` is asked for.
pub(crate) struct Order<'o> {
    /// The `bun` program.
    pub(crate) bun: &'o Path,
    /// The project's folder.
    pub(crate) folder: &'o Folder,
    /// The entry, relative to the folder.
    pub(crate) entry: &'o str,
    /// How the entry exports.
    pub(crate) format: Format,
    /// The function's settings.
    pub(crate) patch: &'o SettingsPatch,
    /// Where the bundle goes: an empty folder.
    pub(crate) out: &'o Path,
    /// Whether a large bundle is compiled ahead.
    pub(crate) is_ahead: bool,
    /// Whether macros run.
    pub(crate) has_macros: bool,
}

/// A bundle that lies in its folder.
pub(crate) struct Bundled {
    /// The entry's path in the bundle.
    pub(crate) entry: String,
    /// The files that were read, relative to the project's folder, those of packages left out.
    pub(crate) inputs: Vec<PathBuf>,
    /// What works, but perhaps not as meant.
    pub(crate) warnings: Vec<String>,
}

/// Runs `bun build`.
pub(crate) async fn bundle(order: &Order<'_>) -> Result<Bundled, BuildError> {
    let out = order
        .out
        .canonicalize()
        .map_err(|error| BuildError::io("cannot open the bundle's folder", error))?;
    // Bun makes the exports of a CommonJS entry one default export; a module of ours takes them apart again.
    let name = if order.format == Format::CommonJs {
        MODULE
    } else {
        ENTRY
    };
    let ran = match child::run(command(order, &out, name)).await {
        Ok(ran) => ran,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(BuildError::new(
                None,
                "this function runs on Bun, and there is no `bun` on PATH",
            )
            .hint("`npm install -g bun` installs it"));
        }
        Err(error) => return Err(BuildError::io("cannot run `bun build`", error)),
    };
    let complaints = complaint::read(&ran.output, order.folder);
    if !ran.is_success() {
        return Err(complaint::error(complaints, &ran, order.folder));
    }
    let inputs = inputs_of(&out)
        .map_err(|error| BuildError::io("cannot read what `bun build` wrote", error))?;
    tidy::tidy(&out.join(format!("{name}.map")), &out, order.folder.real())
        .map_err(|error| BuildError::io("cannot read what `bun build` wrote", error))?;
    if name == MODULE {
        fs::write(out.join(ENTRY), wrapper(order.patch.handler.as_deref()))
            .map_err(|error| BuildError::io("cannot write the bundle", error))?;
    } else if order.is_ahead {
        bytecode::compile(order, &out).await?;
    }
    Ok(Bundled {
        entry: ENTRY.into(),
        inputs,
        warnings: complaints
            .iter()
            .map(|complaint| complaint.line())
            .collect(),
    })
}

fn command(order: &Order<'_>, out: &Path, name: &str) -> Command {
    let mut metafile = OsString::from("--metafile=");
    metafile.push(out.join(METAFILE));
    let mut command = Command::new(order.bun);
    command
        .arg("build")
        .arg(format!("./{}", order.entry))
        .args(["--target=bun", "--sourcemap=linked"])
        .arg(format!("--entry-naming={}", name.replace(".js", ".[ext]")))
        .arg("--outdir")
        .arg(out)
        .arg(metafile)
        .current_dir(order.folder.real())
        .env("NO_COLOR", "1")
        .env_remove("FORCE_COLOR");
    if !order.has_macros {
        command.arg("--no-macros");
    }
    // Bun writes NODE_ENV into the bundle; unset, that would be `development`, on every server.
    let own = order.patch.env.as_ref().and_then(|env| env.get("NODE_ENV"));
    command.env("NODE_ENV", own.map_or("production", String::as_str));
    command
}

/// The entry of a CommonJS bundle: `module.exports` where that is a handler, else what is named.
fn wrapper(handler: Option<&str>) -> String {
    let import = format!(
        "import * as bundled from \"./{MODULE}\";\nconst module = \"default\" in bundled ? bundled.default : bundled;\n"
    );
    match handler {
        None | Some("default") => format!(
            "{import}const isHandler = typeof module === \"function\" || typeof module?.fetch === \"function\";\n\
             export default isHandler ? module : module?.default ?? module?.handler;\n"
        ),
        Some(name) => {
            let name = Value::from(name).to_string();
            format!(
                "{import}const handler = module?.[{name}] ?? module?.default?.[{name}];\nexport {{ handler as {name} }};\n"
            )
        }
    }
}

/// What Bun read, from its metafile, which is removed.
fn inputs_of(out: &Path) -> io::Result<Vec<PathBuf>> {
    let file = out.join(METAFILE);
    let meta: Value = serde_json::from_slice(&fs::read(&file)?)?;
    fs::remove_file(&file)?;
    let inputs = meta["inputs"].as_object();
    let paths = inputs.into_iter().flat_map(|inputs| inputs.keys());
    Ok(paths
        .filter(|path| !path.split('/').any(|part| part == "node_modules"))
        .map(PathBuf::from)
        .collect())
}
