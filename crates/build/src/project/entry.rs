//! The file that a function starts with: the one that is named, or the one that its name finds.

use std::path::{Component, Path};

use model::{Name, Runtime, SettingsPatch};

use super::Project;
use crate::{
    config,
    error::{ConfigError, Place},
    python,
};

/// What a module's name may end with, in the order in which files are looked for.
const MODULES: [&str; 9] = ["ts", "tsx", "mts", "js", "jsx", "mjs", "cts", "cjs", "py"];

/// How the program of a `provided` function is called where nothing else is said.
const PROGRAM: &str = "bootstrap";

/// A function whose entry is looked for.
pub(super) struct Search<'s> {
    pub(super) project: &'s Project,
    pub(super) function: &'s Name,
    pub(super) patch: &'s SettingsPatch,
}

impl Search<'_> {
    /// The entry, relative to the folder, `/` between parts.
    pub(super) fn entry(&self) -> Result<String, ConfigError> {
        let path = match &self.patch.entry {
            Some(entry) => self.named(entry)?,
            None => self.found()?,
        };
        let is_python = path.ends_with(".py");
        match self.patch.runtime {
            Some(Runtime::Python) if !is_python => {
                let message = format!("the entry is `{path}`, and `runtime` is `python`");
                Err(ConfigError::new(self.place("entry"), message)
                    .hint("a Python function begins with a file that ends in `.py`"))
            }
            Some(other @ (Runtime::Isolate | Runtime::Bun | Runtime::Node)) if is_python => {
                let message = format!("the entry is `{path}`, and `runtime` is `{other}`");
                Err(ConfigError::new(self.place("runtime"), message)
                    .hint("leave `runtime` out, or write `runtime = \"python\"`"))
            }
            Some(_) | None => Ok(path),
        }
    }

    fn place(&self, key: &str) -> Option<Place> {
        config::place(&self.project.places, self.function, key)
    }

    fn is_there(&self, path: &str) -> bool {
        self.project.dir.join(path).is_file()
    }

    fn named(&self, entry: &str) -> Result<String, ConfigError> {
        let parts: Option<Vec<&str>> = Path::new(entry)
            .components()
            .filter(|part| !matches!(part, Component::CurDir))
            .map(|part| match part {
                Component::Normal(part) => part.to_str(),
                Component::Prefix(_)
                | Component::RootDir
                | Component::CurDir
                | Component::ParentDir => None,
            })
            .collect();
        let path = match parts {
            Some(parts) if !parts.is_empty() => parts.join("/"),
            Some(_) | None => {
                let message = format!("`entry` is `{entry}`, which does not lie in the folder");
                return Err(ConfigError::new(self.place("entry"), message)
                    .hint("write it relative to the folder, like \"src/hello.ts\""));
            }
        };
        if self.is_there(&path) {
            return Ok(path);
        }
        let message = format!("`entry` is `{entry}`, and there is no such file");
        Err(ConfigError::new(self.place("entry"), message))
    }

    fn found(&self) -> Result<String, ConfigError> {
        let candidates = self.candidates();
        match candidates.iter().find(|path| self.is_there(path)) {
            Some(path) => Ok(path.clone()),
            None => Err(self.missing(&candidates)),
        }
    }

    /// Where the entry may lie, best first.
    fn candidates(&self) -> Vec<String> {
        let name = self.function;
        let handler = self.patch.handler.as_deref().map(python::split_handler);
        match (self.patch.runtime, handler) {
            (Some(Runtime::Provided), _) => ["functions", "src", "."]
                .map(|folder| format!("{folder}/{name}/{PROGRAM}"))
                .into_iter()
                .chain([PROGRAM.to_owned()])
                .map(|path| path.trim_start_matches("./").to_owned())
                .collect(),
            (Some(Runtime::Python), Some((Some(module), _))) => [
                String::new(),
                "src/".into(),
                "functions/".into(),
                format!("functions/{name}/"),
                format!("src/{name}/"),
                format!("{name}/"),
            ]
            .map(|folder| format!("{folder}{module}.py"))
            .into(),
            (runtime, _) => {
                let endings = MODULES.iter().filter(|ending| match runtime {
                    Some(Runtime::Python) => **ending == "py",
                    Some(_) => **ending != "py",
                    None => true,
                });
                let endings: Vec<_> = endings.collect();
                ["functions/", "src/", ""]
                    .iter()
                    .flat_map(|folder| {
                        let path = move |ending| format!("{folder}{name}.{ending}");
                        endings.clone().into_iter().map(path)
                    })
                    .collect()
            }
        }
    }

    fn missing(&self, candidates: &[String]) -> ConfigError {
        let function = self.function;
        let (looked, example) = match self.patch.runtime {
            Some(Runtime::Python | Runtime::Provided) => {
                let shown: Vec<&str> = candidates.iter().take(3).map(String::as_str).collect();
                let example = candidates.first().cloned().unwrap_or_default();
                (shown.join(" or "), example)
            }
            Some(Runtime::Isolate | Runtime::Bun | Runtime::Node) | None => (
                format!("functions/{function}.ts or src/{function}.ts"),
                format!("src/{function}.ts"),
            ),
        };
        let message = format!("`{function}` has no `entry`, and there is no {looked}");
        let hint = format!("add `entry = \"{example}\"` under `[functions.{function}]`");
        ConfigError::new(self.place("entry"), message).hint(hint)
    }
}
