//! A folder as a project: its name, its functions, and which module each of them starts with.
//! Reads `bungee.toml`, or takes each file of `functions/` for a function; does not look into modules.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use model::{Name, Runtime, SettingsPatch};

use crate::{
    config,
    error::{ConfigError, Place, shown, utf8},
};
use entry::Search;

mod entry;

/// The file that describes a project.
const FILE: &str = "bungee.toml";

/// Files of `functions/` that are functions when there is no `bungee.toml`.
const FOLDER_MODULES: [&str; 5] = ["ts", "js", "mts", "mjs", "py"];

/// A folder with functions in it.
#[derive(Debug, Clone)]
pub struct Project {
    /// The folder, as it was named.
    pub dir: PathBuf,
    /// The project's name; `default` if the folder gives none.
    pub name: Name,
    /// Each function's settings as they are written, defaults not filled in, checked against the default limits.
    pub functions: BTreeMap<Name, SettingsPatch>,
    /// Where each key stands, for errors that are found after reading.
    places: BTreeMap<String, Place>,
}

impl Project {
    /// Reads the folder's `bungee.toml`, or its `functions/` if the file is absent or names no function.
    /// Errors name the file and line, and what was probably meant; a folder without any function is one.
    pub fn load(dir: &Path) -> Result<Project, ConfigError> {
        let project = Project::read(dir)?;
        if project.functions.is_empty() {
            return Err(no_functions(dir, dir.join(FILE).exists()));
        }
        Ok(project)
    }

    /// The same for a folder that may have lost its last function.
    pub fn read(dir: &Path) -> Result<Project, ConfigError> {
        let file = shown(dir, FILE);
        let text = match fs::read(dir.join(FILE)) {
            Ok(bytes) => {
                let text = utf8(&file, bytes);
                Some(text.map_err(|place| ConfigError::new(Some(place), "this is not UTF-8 text"))?)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(unreadable(&file, &error)),
        };
        let mut project = Project {
            dir: dir.to_owned(),
            name: Name::default_project(),
            functions: BTreeMap::new(),
            places: BTreeMap::new(),
        };
        if let Some(text) = &text {
            let config = config::parse(&file, text)?;
            project.name = config.project;
            project.functions = config.functions;
            project.places = config.places;
        }
        if project.functions.is_empty() {
            project.functions = functions_of_folder(dir)?;
        }
        let entries = project.choose_runtimes();
        config::check_values(&project.functions, &project.places)?;
        entries?;
        Ok(project)
    }

    /// A folder that holds one function and says nothing of it: its settings come from elsewhere.
    pub fn of_one(dir: &Path, name: Name, patch: SettingsPatch) -> Project {
        Project {
            dir: dir.to_owned(),
            name: Name::default_project(),
            functions: BTreeMap::from([(name, patch)]),
            places: BTreeMap::new(),
        }
    }

    /// The module a function starts with, relative to the folder, `/` between parts.
    /// Without an `entry`, `functions/NAME`, `src/NAME` and `NAME` are tried with every known ending; for a `provided`
    /// function, `NAME/bootstrap` in these places, and `bootstrap`.
    pub fn entry(&self, function: &Name) -> Result<String, ConfigError> {
        let patch = self.functions.get(function).ok_or_else(|| {
            ConfigError::new(
                None,
                format!(
                    "there is no function `{function}` in {}",
                    self.dir.display()
                ),
            )
        })?;
        let search = Search {
            project: self,
            function,
            patch,
        };
        search.entry()
    }

    /// A Python file says by its ending what runs it. The error is that of the first function without its entry.
    fn choose_runtimes(&mut self) -> Result<(), ConfigError> {
        let mut on_python = Vec::new();
        let mut missing = Ok(());
        for (name, patch) in &self.functions {
            let entry = match self.entry(name) {
                Ok(entry) => Some(entry),
                Err(error) => {
                    // The user's own build command may be what makes the entry.
                    if patch.build.is_none() {
                        missing = missing.and(Err(error));
                    }
                    patch.entry.clone()
                }
            };
            let is_python = entry.is_some_and(|entry| entry.ends_with(".py"));
            if is_python && patch.runtime.is_none() {
                on_python.push(name.clone());
            }
        }
        for name in on_python {
            if let Some(patch) = self.functions.get_mut(&name) {
                patch.runtime = Some(Runtime::Python);
            }
        }
        missing
    }

    /// Where a function's key stands in `bungee.toml`, or the table around it; `None` without the file.
    pub(crate) fn place(&self, function: &Name, key: &str) -> Option<Place> {
        config::place(&self.places, function, key)
    }
}

fn unreadable(what: &str, error: &io::Error) -> ConfigError {
    ConfigError::new(None, format!("cannot read {what}: {error}"))
}

/// Each module of `functions/` as a function named by its file.
fn functions_of_folder(dir: &Path) -> Result<BTreeMap<Name, SettingsPatch>, ConfigError> {
    let folder = shown(dir, "functions");
    let entries = match fs::read_dir(dir.join("functions")) {
        Ok(entries) => entries,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(BTreeMap::new());
        }
        Err(error) => return Err(unreadable(&folder, &error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(&folder, &error))?;
        files.push(PathBuf::from(entry.file_name()));
    }
    files.sort();
    let mut functions = BTreeMap::new();
    for file in files {
        let (Some(stem), Some(ending)) = (file.file_stem(), file.extension()) else {
            continue;
        };
        let (stem, ending) = (stem.to_string_lossy(), ending.to_string_lossy());
        if !FOLDER_MODULES.contains(&ending.as_ref()) || is_beside(&stem, &ending) {
            continue;
        }
        let place = Some(Place {
            file: shown(dir, &format!("functions/{}", file.display())),
            line: 1,
            column: None,
        });
        let name = Name::function(&stem).map_err(|error| {
            ConfigError::new(
                place.clone(),
                format!("the file names a function, and {error}"),
            )
        })?;
        let patch = SettingsPatch {
            entry: Some(format!("functions/{}", file.display())),
            ..SettingsPatch::default()
        };
        if functions.insert(name.clone(), patch).is_some() {
            return Err(
                ConfigError::new(place, format!("two files name the function `{name}`"))
                    .hint("rename one of them, or write a `bungee.toml`"),
            );
        }
    }
    Ok(functions)
}

/// Whether a module is there for others: tests, types, parts of a package.
fn is_beside(stem: &str, ending: &str) -> bool {
    if ending == "py" {
        return stem.starts_with('_')
            || stem.starts_with("test_")
            || stem.ends_with("_test")
            || stem == "conftest";
    }
    [".d", ".test", ".spec"]
        .iter()
        .any(|end| stem.ends_with(end))
}

fn no_functions(dir: &Path, has_file: bool) -> ConfigError {
    let folder = dir.display();
    if !dir.is_dir() {
        return ConfigError::new(None, format!("there is no folder {folder}"));
    }
    let message = if has_file {
        format!(
            "{} names no function, and there is no module in {}",
            shown(dir, FILE),
            shown(dir, "functions")
        )
    } else {
        format!("{folder} holds neither `bungee.toml` nor a module in `functions/`")
    };
    ConfigError::new(None, message).hint(
        "write `functions/hello.ts` with `export default () => new Response(\"hello\")`, or name a module in `bungee.toml`: `[functions.hello]` and `entry = \"src/hello.ts\"`",
    )
}

#[cfg(test)]
mod tests;
