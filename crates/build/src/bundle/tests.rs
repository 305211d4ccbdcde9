//! Whole builds, isolate and Bun, as their users write them. Those of Bun run the real `bun`.

use std::{fmt::Write as _, fs, process};

use super::*;

mod any;
mod isolate;
mod on_bun;
#[cfg(unix)]
mod python;

/// A project with these files.
struct World {
    dir: tempfile::TempDir,
}

fn world(files: &[(&str, &str)]) -> World {
    let world = World {
        dir: tempfile::tempdir().unwrap(),
    };
    for (path, text) in files {
        world.write(path, text);
    }
    world
}

/// The settings of a function on Bun with this entry.
fn on_bun(entry: &str) -> String {
    format!("[functions.hello]\nruntime = 'bun'\nentry = '{entry}'\n")
}

/// A bundle in its folder.
struct Done {
    out: tempfile::TempDir,
    built: Built,
}

impl World {
    fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn project(&self) -> Project {
        Project::load(self.dir.path()).unwrap()
    }

    async fn try_build(&self, tools: &Tools) -> (tempfile::TempDir, Result<Built, BuildError>) {
        let out = tempfile::tempdir().unwrap();
        let name = "hello".parse().unwrap();
        let built = build(&self.project(), &name, out.path(), tools).await;
        (out, built)
    }

    async fn build(&self) -> Done {
        let (out, built) = self.try_build(&Tools::default()).await;
        Done {
            out,
            built: built.unwrap(),
        }
    }

    async fn error(&self) -> BuildError {
        self.try_build(&Tools::default()).await.1.unwrap_err()
    }

    /// The error as people read it: message, hint, further errors; without the folder's own path.
    async fn refused(&self) -> String {
        let error = self.error().await;
        let mut text = error.to_string();
        if let Some(hint) = &error.hint {
            write!(text, " | {hint}").unwrap();
        }
        for also in &error.also {
            write!(text, "\n{also}").unwrap();
        }
        text.replace(&format!("{}/", self.dir.path().display()), "")
    }

    /// The inputs, relative to the folder.
    fn relative(&self, built: &Built) -> Vec<String> {
        let folder = self.dir.path().canonicalize().unwrap();
        let paths = built.inputs.iter();
        paths
            .map(|path| path.strip_prefix(&folder).unwrap().display().to_string())
            .collect()
    }
}

impl Done {
    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.out.path().join(path)).unwrap()
    }

    fn paths(&self) -> Vec<&str> {
        self.built
            .manifest
            .files()
            .iter()
            .map(|file| file.path.as_str())
            .collect()
    }

    /// What `bun` prints when it runs this script with the bundle's entry as `loaded`.
    fn run(&self, script: &str) -> String {
        let main = self.out.path().parent().unwrap().join(format!(
            "run-{}.mjs",
            self.out.path().file_name().unwrap().to_str().unwrap()
        ));
        let entry = self.out.path().join(&self.built.entry);
        fs::write(
            &main,
            format!("const loaded = await import({entry:?});\n{script}\n"),
        )
        .unwrap();
        let ran = process::Command::new("bun").arg(&main).output().unwrap();
        fs::remove_file(&main).unwrap();
        let said = String::from_utf8(ran.stdout).unwrap();
        assert!(
            ran.status.success(),
            "{said}{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        said.trim_end()
            .replace(&format!("{}/", self.out.path().display()), "")
    }
}
