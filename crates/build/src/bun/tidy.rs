//! Makes a bundle the same wherever it was built: paths in source maps count from the project's folder,
//! not from wherever the bundle happened to be put.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use serde_json::Value;

/// Tidies the source map at `path`, whose sources count from `out`.
/// They become `src/hello.ts`, which stacks then show below the bundle's folder. Bun reads a map only if it lists contents;
/// for packages it gets along with null, which keeps most of the size out.
pub(super) fn tidy(path: &Path, out: &Path, project: &Path) -> io::Result<()> {
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
