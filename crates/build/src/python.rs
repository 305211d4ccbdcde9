//! Bundles of Python functions: the folder that the module's imports start from, as it is, and the packages that its
//! `requirements.txt` names. Python itself reads the module; nothing of it runs.

use std::{collections::BTreeMap, io, path::Path};

use model::{Kind, Name, SettingsPatch, nearest};
use serde::Deserialize;
use tokio::process::Command;

use crate::{
    bundle::blocking,
    child,
    error::{BuildError, Place},
    resolve::Folder,
    tools::Tools,
    whole,
};

mod packages;

/// What reads a module.
const NAMES: &str = include_str!("python/names.py");

/// The one command that brings Python.
const INSTALL: &str = "apt-get install -y python3 python3-pip";

/// Names that are taken for the handler where the settings name none, best first.
const HANDLERS: [&str; 3] = ["handler", "lambda_handler", "app"];

/// Names that web applications go by.
const APPS: [&str; 4] = ["app", "application", "asgi", "wsgi"];

/// What is to be bundled.
pub(crate) struct Order<'o> {
    pub(crate) folder: &'o Folder,
    /// The module's file, as a path in the folder.
    pub(crate) entry: &'o str,
    pub(crate) function: &'o Name,
    pub(crate) patch: &'o SettingsPatch,
    /// Where `handler` is set, if it is.
    pub(crate) handler: Option<Place>,
    pub(crate) out: &'o Path,
    pub(crate) tools: &'o Tools,
}

/// What was made.
pub(crate) struct Made {
    /// The module's file in the bundle.
    pub(crate) entry: String,
    /// The name in it that is called.
    pub(crate) handler: String,
    pub(crate) kind: Kind,
    /// What a change of asks for a new build, as paths in the folder.
    pub(crate) inputs: Vec<String>,
}

/// A handler as it may be written: `name`, or `module.name` as Lambda has it.
pub(crate) fn split_handler(handler: &str) -> (Option<String>, &str) {
    match handler.rsplit_once('.') {
        Some((module, name)) => (Some(module.replace('.', "/")), name),
        None => (None, handler),
    }
}

/// Reads the module, copies the folder, and brings the packages.
pub(crate) async fn bundle(order: &Order<'_>) -> Result<Made, BuildError> {
    let Order { folder, entry, .. } = order;
    let (module, wanted) = match order.patch.handler.as_deref().map(split_handler) {
        Some((module, name)) => (module, Some(name)),
        None => (None, None),
    };
    let root = match &module {
        Some(module) => order.root_of(module)?,
        None => package_root(folder, entry),
    };
    let read = read(order).await?;
    let (handler, kind) = order.decide(&read.names, wanted)?;
    let inside = entry.strip_prefix(root).unwrap_or(entry);
    let inside = inside.trim_start_matches('/').to_owned();
    let (copied, from, out) = (Folder::clone(folder), root.to_owned(), order.out.to_owned());
    blocking(move || whole::copy(&copied, &from, &out)).await?;
    let mut inputs = vec![root.to_owned()];
    if order.patch.build.is_none()
        && let Some(requirements) = packages::file(folder, entry, root)
    {
        packages::bring(order, &requirements, &read.tag).await?;
        inputs.push(requirements);
    }
    Ok(Made {
        entry: inside,
        handler,
        kind,
        inputs,
    })
}

/// The folder that a module's imports start from: the first one above it that is no package.
fn package_root<'e>(folder: &Folder, entry: &'e str) -> &'e str {
    let up = |path: &'e str| path.rsplit_once('/').map_or("", |(parent, _)| parent);
    let mut root = up(entry);
    while !root.is_empty() && folder.real().join(root).join("__init__.py").is_file() {
        root = up(root);
    }
    root
}

/// What Python says of a module.
#[derive(Deserialize)]
struct Read {
    /// Which Python, and for which machine.
    tag: String,
    names: BTreeMap<String, Looks>,
    error: Option<Wrong>,
}

/// What a name looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Looks {
    /// A function with the parameters of a web application.
    Web,
    /// Another function.
    Event,
    /// What only running it would tell.
    Any,
}

#[derive(Deserialize)]
struct Wrong {
    message: String,
    line: u32,
    column: Option<u32>,
}

async fn read(order: &Order<'_>) -> Result<Read, BuildError> {
    let mut python = Command::new(&order.tools.python);
    python.args(["-I", "-c", NAMES]);
    python.arg(order.folder.real().join(order.entry));
    let ran = child::run(python).await.map_err(|error| missing(&error))?;
    let read: Read = match serde_json::from_str(ran.output.trim()) {
        Ok(read) if ran.is_success() => read,
        Ok(_) | Err(_) => {
            let message = format!("`python3` failed with {}", ran.how());
            let hint = "`python3 --version` should say 3.9 or newer";
            return Err(BuildError::new(None, message)
                .frame(ran.last_lines(5))
                .hint(hint));
        }
    };
    let Some(wrong) = read.error else {
        return Ok(read);
    };
    let place = Place {
        file: order.folder.shown(order.entry),
        line: wrong.line,
        column: wrong.column,
    };
    Err(BuildError::new(Some(place), wrong.message))
}

/// The failure of a Python that does not start.
fn missing(error: &io::Error) -> BuildError {
    if error.kind() != io::ErrorKind::NotFound {
        return BuildError::io("cannot run `python3`", error);
    }
    BuildError::new(
        None,
        "this function runs on Python, and there is no `python3` on PATH",
    )
    .hint(format!("`{INSTALL}` installs it"))
}

impl<'o> Order<'o> {
    /// The folder from which `module` is this entry.
    fn root_of(&self, module: &str) -> Result<&'o str, BuildError> {
        let stem = self.entry.strip_suffix(".py").unwrap_or(self.entry);
        let root = stem.strip_suffix(module);
        match root.filter(|root| root.is_empty() || root.ends_with('/')) {
            Some(root) => Ok(root.trim_end_matches('/')),
            None => {
                let message = format!(
                    "`handler` names the module `{}`, and the entry is {}",
                    module.replace('/', "."),
                    self.folder.shown(self.entry)
                );
                Err(BuildError::new(self.handler.clone(), message)
                    .hint("leave `entry` out, or write only the function's name in `handler`"))
            }
        }
    }

    fn module_place(&self) -> Option<Place> {
        Some(Place {
            file: self.folder.shown(self.entry),
            line: 1,
            column: None,
        })
    }

    /// The name that is called, and as what.
    fn decide(
        &self,
        names: &BTreeMap<String, Looks>,
        wanted: Option<&str>,
    ) -> Result<(String, Kind), BuildError> {
        if let Some(name) = wanted {
            // What came by `from … import *` is found only by running it.
            let looks = match names.get(name) {
                Some(looks) => *looks,
                None if names.contains_key("*") => Looks::Any,
                None => return Err(self.no_such(name, names)),
            };
            let kind = self.patch.kind.unwrap_or(kind_of(name, looks));
            return Ok((name.to_owned(), kind));
        }
        let found = |kind: Option<Kind>| {
            let fits = |name: &&&str| {
                names
                    .get(**name)
                    .is_some_and(|looks| kind.is_none_or(|kind| kind_of(name, *looks) == kind))
            };
            HANDLERS.iter().find(fits).copied()
        };
        let (web, event) = (found(Some(Kind::Web)), found(Some(Kind::Event)));
        let (name, kind) = match (self.patch.kind, web, event) {
            (None, Some(web), Some(event)) => return Err(self.open(web, event)),
            (None, Some(name), None) | (Some(Kind::Web), Some(name), _) => (name, Kind::Web),
            (None, None, Some(name)) | (Some(Kind::Event), _, Some(name)) => (name, Kind::Event),
            (Some(kind), _, _) => match found(None) {
                Some(name) => (name, kind),
                None => return Err(self.no_handler(names)),
            },
            (None, None, None) => return Err(self.no_handler(names)),
        };
        Ok((name.to_owned(), kind))
    }

    fn no_such(&self, name: &str, names: &BTreeMap<String, Looks>) -> BuildError {
        let message = format!(
            "`handler` is `{name}`, which {} does not have; {}",
            self.folder.shown(self.entry),
            listed(names)
        );
        let error = BuildError::new(self.handler.clone().or(self.module_place()), message);
        match nearest(name, names.keys().map(String::as_str)) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error,
        }
    }

    fn no_handler(&self, names: &BTreeMap<String, Looks>) -> BuildError {
        let message = format!("the module has no handler: {}", listed(names));
        BuildError::new(self.module_place(), message).hint(
            "write `def handler(event, context):` for events, or an ASGI or WSGI application named `app` for web requests; `handler = \"NAME\"` in bungee.toml names another one",
        )
    }

    fn open(&self, web: &str, event: &str) -> BuildError {
        let message = format!(
            "cannot tell whether this is a web or an event handler: the module has `{web}` and `{event}`"
        );
        BuildError::new(self.module_place(), message).hint(format!(
            "under `[functions.{}]` in bungee.toml add `kind = \"web\"` for `{web}`, or `kind = \"event\"` for `{event}`",
            self.function
        ))
    }
}

/// What a name is called as.
fn kind_of(name: &str, looks: Looks) -> Kind {
    match looks {
        Looks::Web => Kind::Web,
        Looks::Any if APPS.contains(&name) => Kind::Web,
        Looks::Any | Looks::Event => Kind::Event,
    }
}

/// The module's names in words.
fn listed(names: &BTreeMap<String, Looks>) -> String {
    let shown: Vec<String> = names
        .keys()
        .filter(|name| *name != "*")
        .take(10)
        .map(|name| format!("`{name}`"))
        .collect();
    match shown.is_empty() {
        true => "it has no names at its top".into(),
        false => format!("it has {}", shown.join(", ")),
    }
}
