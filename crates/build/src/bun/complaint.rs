//! What `bun build` says, read line by line: an optional frame, `error: message`, then `at FILE:LINE:COLUMN`.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    child::Ran,
    error::{BuildError, Place},
    resolve::{Folder, is_relative},
};

/// Lines of the output shown when no complaint could be read from it.
const LINES: usize = 20;

/// Which package managers leave which file, and what puts their packages in place.
const INSTALLERS: [(&str, &str); 5] = [
    ("bun.lock", "bun"),
    ("bun.lockb", "bun"),
    ("pnpm-lock.yaml", "pnpm"),
    ("yarn.lock", "yarn"),
    ("package-lock.json", "npm"),
];

/// One complaint.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    is_error: bool,
    message: String,
    place: Option<Place>,
    frame: String,
}

impl Complaint {
    /// The complaint in one line.
    pub(super) fn line(&self) -> String {
        BuildError::new(self.place.clone(), self.message.clone()).to_string()
    }
}

/// Reads all complaints of an output.
pub(super) fn read(output: &str, folder: &Folder) -> Vec<Complaint> {
    let mut complaints: Vec<Complaint> = Vec::new();
    let mut frame = Vec::new();
    for line in output.lines() {
        let start = [("error: ", true), ("warn: ", false), ("warning: ", false)]
            .into_iter()
            .find_map(|(word, is_error)| Some((line.strip_prefix(word)?, is_error)));
        if let Some((message, is_error)) = start {
            complaints.push(Complaint {
                is_error,
                message: message.trim_end().into(),
                place: None,
                frame: std::mem::take(&mut frame).join("\n"),
            });
        } else if let Some(place) = line.trim_start().strip_prefix("at ") {
            if let Some(last) = complaints.last_mut()
                && last.place.is_none()
            {
                last.place = place_of(place.trim(), folder);
            }
        } else if is_frame(line) {
            frame.push(line);
        } else {
            frame.clear();
        }
    }
    complaints
}

/// Whether a line is source behind its number, or the caret below.
fn is_frame(line: &str) -> bool {
    let text = line.trim();
    let is_source = text.split_once(" |").is_some_and(|(number, _)| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    is_source || (!text.is_empty() && text.bytes().all(|byte| matches!(byte, b'^' | b'~')))
}

/// `FILE:LINE:COLUMN`, the file as it is shown to people.
fn place_of(text: &str, folder: &Folder) -> Option<Place> {
    let mut parts = text.rsplitn(3, ':');
    let (column, line, file) = (parts.next()?, parts.next()?, parts.next()?);
    let inside = Path::new(file)
        .strip_prefix(folder.real())
        .ok()
        .and_then(Path::to_str);
    Some(Place {
        file: inside.map_or(file.to_owned(), |path| folder.shown(path)),
        line: line.parse().ok()?,
        column: column.parse().ok(),
    })
}

/// The error of a build that failed.
pub(super) fn error(complaints: Vec<Complaint>, ran: &Ran, folder: &Folder) -> BuildError {
    let mut errors = complaints
        .into_iter()
        .filter(|complaint| complaint.is_error);
    let Some(first) = errors.next() else {
        let message = format!("`bun build` failed with {}", ran.how());
        return BuildError::new(None, message).frame(ran.last_lines(LINES));
    };
    let missing = first
        .message
        .strip_prefix("Could not resolve: \"")
        .and_then(|rest| rest.split_once('"'))
        .map(|(specifier, _)| specifier.to_owned());
    let message = match &missing {
        Some(specifier) => format!("Module not found: '{specifier}'"),
        None => first.message,
    };
    let mut error = BuildError::new(first.place, message);
    error.hint = missing.and_then(|specifier| install_hint(&specifier, folder.real()));
    error.frame = (!first.frame.is_empty()).then_some(first.frame);
    error.also = errors.map(|complaint| complaint.line()).collect();
    error
}

/// How a package that is not there gets there.
fn install_hint(specifier: &str, folder: &Path) -> Option<String> {
    if is_relative(specifier) {
        return None;
    }
    let parts = if specifier.starts_with('@') { 2 } else { 1 };
    let package = specifier
        .split('/')
        .take(parts)
        .collect::<Vec<_>>()
        .join("/");
    let installer = INSTALLERS
        .iter()
        .find(|(lock, _)| folder.join(lock).exists())
        .map_or("npm", |(_, installer)| installer);
    let listed = fs::read(folder.join("package.json"))
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
        .is_some_and(|json| {
            let kinds = [
                "dependencies",
                "devDependencies",
                "optionalDependencies",
                "peerDependencies",
            ];
            kinds.iter().any(|kind| !json[*kind][&package].is_null())
        });
    let step = match (listed, installer) {
        (true, installer) => format!("{installer} install"),
        (false, "npm") => format!("npm install {package}"),
        (false, installer) => format!("{installer} add {package}"),
    };
    let why = if listed {
        "package.json names it, but it is not installed: "
    } else {
        ""
    };
    Some(format!("{why}run `{step}` in the folder"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_read_with_frame_and_place() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path()).unwrap();
        let root = folder.real().display();
        let output = format!(
            "Bundled nothing\n2 | import y from \"./nowhere\";\n                  ^\nerror: Could not resolve: \"./nowhere\"\n    at {root}/src/a.ts:2:15\n\nwarn: careful\n    at /else/b.ts:1:1\nerror: no place\n"
        );
        let found = read(&output, &folder);
        let lines: Vec<String> = found.iter().map(Complaint::line).collect();
        let shown = dir.path().display();
        assert_eq!(
            lines,
            [
                format!("{shown}/src/a.ts:2:15: Could not resolve: \"./nowhere\""),
                "/else/b.ts:1:1: careful".into(),
                "no place".into()
            ]
        );
        assert!(
            found[0].frame.ends_with('^') && found[0].frame.starts_with("2 |"),
            "{}",
            found[0].frame
        );
    }

    #[test]
    fn the_hint_names_the_command_of_the_lock_file() {
        let dir = tempfile::tempdir().unwrap();
        let hint = |specifier| install_hint(specifier, dir.path()).unwrap();
        assert_eq!(hint("lodash/fp"), "run `npm install lodash` in the folder");
        fs::write(
            dir.path().join("package.json"),
            r#"{"dependencies":{"@scope/a":"1"}}"#,
        )
        .unwrap();
        fs::write(dir.path().join("bun.lock"), "").unwrap();
        assert_eq!(
            hint("@scope/a/b"),
            "package.json names it, but it is not installed: run `bun install` in the folder"
        );
        assert_eq!(hint("zod"), "run `bun add zod` in the folder");
        assert_eq!(install_hint("./x", dir.path()), None);
    }
}
