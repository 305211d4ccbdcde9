//! Makes a bundle the same wherever it was built: paths in source maps count from the project's folder,
//! and the ids that Bun derives from the old paths go.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use serde_json::Value;

/// Tidies every script and source map directly in `out`.
pub(super) fn tidy(out: &Path, project: &Path) -> io::Result<()> {
    for entry in fs::read_dir(out)? {
        let path = entry?.path();
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("js") => script(&path)?,
            Some("map") => map(&path, out, project)?,
            Some(_) | None => {}
        }
    }
    Ok(())
}

/// Removes the line with the id; it stands behind the code, so that no mapping moves.
fn script(path: &Path) -> io::Result<()> {
    let text = fs::read_to_string(path)?;
    let Some(at) = text.rfind("\n//# debugId=") else {
        return Ok(());
    };
    let end = text[at + 1..]
        .find('\n')
        .map_or(text.len(), |length| at + 1 + length);
    fs::write(path, [&text[..at], &text[end..]].concat())
}

/// Sources become `src/hello.ts`, which stacks then show below the bundle's folder. Bun reads a map only if it lists contents;
/// for packages it gets along with null, which keeps most of the size out.
fn map(path: &Path, out: &Path, project: &Path) -> io::Result<()> {
    let mut map: Value = serde_json::from_slice(&fs::read(path)?)?;
    let sources: Vec<String> = map["sources"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|source| from_project(&out.join(source.as_str().unwrap_or_default()), project))
        .collect();
    if let Some(contents) = map["sourcesContent"].as_array_mut() {
        for (content, source) in contents.iter_mut().zip(&sources) {
            if source.split('/').any(|part| part == "node_modules") {
                *content = Value::Null;
            }
        }
    }
    map["sources"] = sources.into();
    if let Some(map) = map.as_object_mut() {
        map.remove("debugId");
    }
    fs::write(path, map.to_string())
}

/// `path` as seen from the project's folder, `/` between parts, `..` where it lies outside.
fn from_project(path: &Path, project: &Path) -> String {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    let same = plain
        .components()
        .zip(project.components())
        .take_while(|(a, b)| a == b)
        .count();
    let up = project.components().count() - same;
    let mut parts = vec!["..".to_owned(); up];
    parts.extend(
        plain
            .components()
            .skip(same)
            .map(|part| part.as_os_str().to_string_lossy().into_owned()),
    );
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_count_from_the_project() {
        let from = |path: &str| from_project(Path::new(path), Path::new("/home/ann/shop"));
        assert_eq!(from("/tmp/out/../../home/ann/shop/src/a.ts"), "src/a.ts");
        assert_eq!(from("/home/ann/lib/b.ts"), "../lib/b.ts");
        assert_eq!(from("/home/ann/shop/./c.ts"), "c.ts");
    }
}
