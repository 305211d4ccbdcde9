//! Source maps for debuggers: they say where on this machine the sources lie, so that an editor finds its own files.

use std::{fs, io, path::Path};

use serde_json::Value;

use crate::error::BuildError;

/// Points the maps of the bundle in `out` at the sources in `root`. Those of packages stay as they are.
pub(crate) fn point_at(out: &Path, root: &Path) -> Result<(), BuildError> {
    // Of what a path may hold, only these mean something else in a URL.
    let path = root.display().to_string();
    let path = path
        .replace('%', "%25")
        .replace('?', "%3F")
        .replace('#', "%23")
        .replace(' ', "%20");
    walk(out, &format!("file://{path}/"))
        .map_err(|error| BuildError::io("cannot write the source maps", error))
}

fn walk(folder: &Path, root: &str) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "node_modules") {
                walk(&path, root)?;
            }
        } else if path.extension().is_some_and(|ending| ending == "map") {
            let mut map: Value = serde_json::from_slice(&fs::read(&path)?)?;
            map["sourceRoot"] = root.into();
            fs::write(&path, map.to_string())?;
        }
    }
    Ok(())
}
