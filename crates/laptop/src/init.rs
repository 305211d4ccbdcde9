//! A new project from a template: what files it has, and that none of them is written over one that is there.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// A path in the project, and what the file holds.
type File = (&'static str, &'static str);

/// A project to begin with.
#[derive(Debug, Clone, Copy)]
pub struct Template {
    /// How it is asked for: the runtime or the language that it shows.
    pub name: &'static str,
    files: &'static [File],
}

const GITIGNORE: File = (".gitignore", include_str!("../templates/gitignore"));

const TSCONFIG: File = ("tsconfig.json", include_str!("../templates/tsconfig.json"));

/// Every template, the default first.
pub const TEMPLATES: [Template; 7] = [
    Template {
        name: "isolate",
        files: &[
            (
                "bungee.toml",
                include_str!("../templates/isolate/bungee.toml"),
            ),
            (
                "src/hello.ts",
                include_str!("../templates/isolate/src/hello.ts"),
            ),
            TSCONFIG,
            GITIGNORE,
        ],
    },
    Template {
        name: "bun",
        files: &[
            ("bungee.toml", include_str!("../templates/bun/bungee.toml")),
            (
                "src/hello.ts",
                include_str!("../templates/bun/src/hello.ts"),
            ),
            (
                "package.json",
                include_str!("../templates/bun/package.json"),
            ),
            TSCONFIG,
            GITIGNORE,
        ],
    },
    Template {
        name: "node",
        files: &[
            ("bungee.toml", include_str!("../templates/node/bungee.toml")),
            (
                "src/hello.ts",
                include_str!("../templates/node/src/hello.ts"),
            ),
            (
                "package.json",
                include_str!("../templates/node/package.json"),
            ),
            TSCONFIG,
            GITIGNORE,
        ],
    },
    Template {
        name: "python",
        files: &[
            (
                "bungee.toml",
                include_str!("../templates/python/bungee.toml"),
            ),
            (
                "src/hello.py",
                include_str!("../templates/python/src/hello.py"),
            ),
            GITIGNORE,
        ],
    },
    Template {
        name: "go",
        files: &[
            ("bungee.toml", include_str!("../templates/go/bungee.toml")),
            (
                "cmd/hello/main.go",
                include_str!("../../../examples/go/cmd/hello/main.go"),
            ),
            ("go.mod", include_str!("../../../examples/go/go.mod")),
            ("go.sum", include_str!("../../../examples/go/go.sum")),
            (
                ".gitignore",
                include_str!("../../../examples/go/.gitignore"),
            ),
        ],
    },
    Template {
        name: "rust",
        files: &[
            (
                "bungee.toml",
                include_str!("../../../examples/rust/bungee.toml"),
            ),
            (
                "Cargo.toml",
                include_str!("../../../examples/rust/Cargo.toml"),
            ),
            (
                "src/main.rs",
                include_str!("../../../examples/rust/src/main.rs"),
            ),
            (
                ".gitignore",
                include_str!("../../../examples/rust/.gitignore"),
            ),
        ],
    },
    Template {
        name: "bash",
        files: &[
            (
                "bungee.toml",
                include_str!("../../../examples/bash/bungee.toml"),
            ),
            (
                "hello/bootstrap",
                include_str!("../../../examples/bash/hello/bootstrap"),
            ),
            (
                "hello/hello.sh",
                include_str!("../../../examples/bash/hello/hello.sh"),
            ),
            GITIGNORE,
        ],
    },
];

/// What lets an editor attach to the debugger ports of `dev --inspect`, which begin at 9229.
const IDE: [File; 2] = [
    (
        ".vscode/launch.json",
        include_str!("../templates/ide/launch.json"),
    ),
    (
        ".run/bungee.run.xml",
        include_str!("../templates/ide/attach.run.xml"),
    ),
];

/// Files for editors, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ide {
    /// For VS Code and JetBrains.
    Attach,
    /// None.
    Without,
}

/// Why nothing was made of a folder, or not all.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Files that would be written are there; nothing was written.
    #[error("already there: {}", list(.0))]
    Exists(Vec<PathBuf>),
    /// A file could not be written; those before it were.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or its folder.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

fn list(paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    shown.join(", ")
}

/// The template of this name.
pub fn template(name: &str) -> Option<Template> {
    TEMPLATES.into_iter().find(|template| template.name == name)
}

/// Writes a template's files into `dir`, which is made if need be; answers with their paths inside it.
pub fn write(dir: &Path, template: Template, ide: Ide) -> Result<Vec<&'static str>, InitError> {
    let mut files = template.files.to_vec();
    match ide {
        Ide::Attach => files.extend(IDE),
        Ide::Without => {}
    }
    let there = files.iter().map(|(path, _)| dir.join(path));
    let there: Vec<PathBuf> = there
        .filter(|path| path.symlink_metadata().is_ok())
        .collect();
    if !there.is_empty() {
        return Err(InitError::Exists(there));
    }
    for (path, text) in &files {
        let path = dir.join(path);
        write_new(&path, text).map_err(|error| InitError::Write { path, error })?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

/// Fails where a file came into being meanwhile.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = fs::File::create_new(path)?;
    file.write_all(text.as_bytes())?;
    if text.starts_with("#!") {
        file.set_permissions(fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}
