//! A folder with functions, as a developer would write it.

use std::{fs, path::Path};

/// One function of the folder: where it runs, its source, its settings.
#[derive(Default)]
pub struct Function {
    runtime: &'static str,
    extension: &'static str,
    kind: Option<&'static str>,
    source: String,
    settings: Vec<String>,
}

impl Function {
    pub fn new() -> Function {
        Function {
            runtime: "isolate",
            extension: "js",
            ..Function::default()
        }
    }

    /// Runs in Bun; without it, in the isolate.
    pub fn bun(mut self) -> Function {
        self.runtime = "bun";
        self
    }

    /// Runs in the runtime of this name.
    pub fn on(mut self, runtime: &'static str) -> Function {
        self.runtime = runtime;
        self
    }

    /// Source of a web handler.
    pub fn web(mut self, source: impl Into<String>) -> Function {
        self.kind = Some("web");
        self.module(source)
    }

    /// Source of an event handler.
    pub fn event(mut self, source: impl Into<String>) -> Function {
        self.kind = Some("event");
        self.module(source)
    }

    /// Source that says by itself what it is.
    pub fn module(mut self, source: impl Into<String>) -> Function {
        self.source = source.into();
        self
    }

    /// The source is TypeScript, or CommonJS: `ts`, `cjs`.
    pub fn written_in(mut self, extension: &'static str) -> Function {
        self.extension = extension;
        self
    }

    /// A line of its table in `bungee.toml`.
    pub fn setting(mut self, line: impl Into<String>) -> Function {
        self.settings.push(line.into());
        self
    }

    /// Where its source lies in the folder.
    fn path(&self, name: &str) -> String {
        format!("src/{name}.{}", self.extension)
    }

    fn table(&self, name: &str) -> String {
        let mut table = format!(
            "\n[functions.{name}]\nentry = '{}'\nruntime = '{}'\n",
            self.path(name),
            self.runtime
        );
        if let Some(kind) = self.kind {
            table.push_str(&format!("kind = '{kind}'\n"));
        }
        for line in &self.settings {
            table.push_str(line);
            table.push('\n');
        }
        table
    }
}

/// Writes the functions, each with its source, and a `bungee.toml` that names them.
pub fn write(folder: &Path, functions: &[(String, Function)]) {
    let mut config = String::new();
    for (name, function) in functions {
        put(folder, &function.path(name), &function.source);
        config.push_str(&function.table(name));
    }
    put(folder, "bungee.toml", &config);
}

/// Writes one file, and the folders above it.
pub fn put(folder: &Path, path: &str, text: &str) {
    let file = folder.join(path);
    let above = file.parent().expect("a file lies in a folder");
    fs::create_dir_all(above).expect("a folder can be made");
    fs::write(file, text).expect("a file can be written");
}

/// Copies a folder without what was installed or built in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("a folder can be read") {
        let entry = entry.expect("a folder can be listed");
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && name != "node_modules" && name != ".bungee" {
            copy(&path, &to.join(name));
        } else if path.is_file() {
            fs::copy(&path, to.join(name)).expect("a file can be copied");
        }
    }
}
