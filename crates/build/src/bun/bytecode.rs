//! Compiles a large bundle ahead: the same modules once more, minified but with their names kept, as CommonJS with
//! bytecode beside it, which Bun loads in about half the time. Without bytecode that fits, a Bun of another version reads the text.

use std::{fs, io, path::Path};

use crate::{child, error::BuildError};

use super::{ENTRY, Order, command, tidy};

/// Smaller bundles load as fast without.
const WORTH_IT: u64 = 64 << 10;

/// What CommonJS does not have.
const META: &[u8] = b"import.meta";

/// Bun's own way to `require` in an ES module; it becomes a plain one in CommonJS.
const REQUIRE: &[u8] = b".require";

/// Where the second build writes, inside the bundle's folder; gone afterwards.
const BESIDE: &str = ".bungee-bytecode";

/// Replaces the entry by its compiled form. Leaves it as it is where that would not mean the same: CommonJS knows no
/// top-level `await`, and Bun writes the folder of the build where `import.meta` stood.
pub(super) async fn compile(order: &Order<'_>, out: &Path) -> Result<(), BuildError> {
    let beside = out.join(BESIDE);
    let failed = |error| BuildError::io("cannot compile the bundle", error);
    if !is_worth_it(&out.join(ENTRY)).map_err(failed)? {
        return Ok(());
    }
    let mut again = command(order, &beside, ENTRY);
    again.args([
        "--bytecode",
        "--format=cjs",
        "--minify-whitespace",
        "--minify-syntax",
    ]);
    let compiled = child::run(again).await;
    if compiled.is_ok_and(|ran| ran.is_success()) {
        replace(order, &beside, out).map_err(failed)?;
    }
    match fs::remove_dir_all(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn is_worth_it(entry: &Path) -> io::Result<bool> {
    if fs::metadata(entry)?.len() < WORTH_IT {
        return Ok(false);
    }
    let text = fs::read(entry)?;
    Ok(!text
        .windows(META.len() + REQUIRE.len())
        .any(|part| part.starts_with(META) && !part.ends_with(REQUIRE)))
}

fn replace(order: &Order<'_>, beside: &Path, out: &Path) -> io::Result<()> {
    tidy::tidy(
        &beside.join(format!("{ENTRY}.map")),
        beside,
        order.folder.real(),
    )?;
    for name in [
        ENTRY.to_owned(),
        format!("{ENTRY}.map"),
        format!("{ENTRY}.jsc"),
    ] {
        fs::rename(beside.join(&name), out.join(&name))?;
    }
    Ok(())
}
