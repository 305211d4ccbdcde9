//! Packages of a Python function: what `requirements.txt` names, installed by pip into a folder that is kept, and
//! copied into the bundle. The same list is installed once per Python.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use model::Digest;
use tokio::process::Command;

use super::{Order, missing};
use crate::{
    bundle::blocking,
    child::{self, Ran},
    error::BuildError,
    resolve::Folder,
};

/// The list of packages.
const REQUIREMENTS: &str = "requirements.txt";

/// Where packages are kept, in the project's folder; `dev` keeps its own things beside it.
const STATE: &str = ".bungee";

/// The list that counts for a module, as a path in the folder: beside it, where its imports start, or in the project.
pub(super) fn file(folder: &Folder, entry: &str, root: &str) -> Option<String> {
    let beside = entry.rsplit_once('/').map_or("", |(parent, _)| parent);
    let path = |place: &str| match place {
        "" => REQUIREMENTS.to_owned(),
        place => format!("{place}/{REQUIREMENTS}"),
    };
    let mut places = [beside, root, ""].map(path).into_iter();
    places.find(|path| folder.real().join(path).is_file())
}

/// Puts the packages into the bundle; what lies there already stays.
pub(super) async fn bring(
    order: &Order<'_>,
    requirements: &str,
    tag: &str,
) -> Result<(), BuildError> {
    let list = order.folder.real().join(requirements);
    let shown = order.folder.shown(requirements);
    let failed = |error: io::Error| BuildError::io(format!("cannot read {shown}"), error);
    let Some(key) = key(&list, tag).map_err(failed)? else {
        return Ok(());
    };
    let state = order.folder.real().join(STATE);
    let kept = state.join("python").join(&key);
    if !kept.is_dir() {
        order.tools.say(&format!("installing what {shown} names"));
        install(order, &list, &shown, &kept).await?;
    }
    let out = order.out.to_owned();
    blocking(move || {
        lay(&kept, &out)
            .map_err(|error| BuildError::io(format!("cannot copy {}", kept.display()), error))
    })
    .await
}

/// Names what would be installed: the list and those beside it that it may mention. `None`: it names nothing.
fn key(list: &Path, tag: &str) -> io::Result<Option<String>> {
    let text = fs::read_to_string(list)?;
    let says = |line: &str| !line.trim().is_empty() && !line.trim().starts_with('#');
    if !text.lines().any(says) {
        return Ok(None);
    }
    let folder = list.parent().unwrap_or(Path::new("/"));
    let mut beside: Vec<PathBuf> = fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_list = name.starts_with("requirements") || name.starts_with("constraints");
            is_list && name.ends_with(".txt") && path != list
        })
        .collect();
    beside.sort();
    let mut all = format!("{tag}\n{text}");
    for path in beside {
        all.push_str(&fs::read_to_string(path).unwrap_or_default());
    }
    let digest = Digest::of(all.as_bytes()).hex();
    Ok(Some(format!("{tag}-{}", &digest[..16])))
}

/// Installs into a folder beside `kept`, which takes its place once all of it is there.
async fn install(
    order: &Order<'_>,
    list: &Path,
    shown: &str,
    kept: &Path,
) -> Result<(), BuildError> {
    let coming = kept.with_extension(format!("{}.coming", order.function));
    let failed = |error| BuildError::io(format!("cannot write {}", coming.display()), error);
    fresh(&coming).map_err(failed)?;
    let mut pip = Command::new(&order.tools.python);
    pip.args(["-m", "pip", "install", "--quiet", "--no-input"])
        .args(["--disable-pip-version-check", "--no-compile", "--target"])
        .arg(&coming)
        .arg("-r")
        .arg(list);
    pip.current_dir(list.parent().unwrap_or(Path::new("/")));
    let ran = child::run(pip).await.map_err(|error| missing(&error))?;
    if !ran.is_success() {
        // What was half installed is of no use; a folder that stays is emptied before the next time.
        let _stays = fs::remove_dir_all(&coming);
        return Err(refused(&ran, shown));
    }
    // Compiled now, for the worker must not write into its bundle, and so that every start finds it done.
    let mut compile = Command::new(&order.tools.python);
    compile
        .args([
            "-m",
            "compileall",
            "-q",
            "--invalidation-mode",
            "unchecked-hash",
            ".",
        ])
        .current_dir(&coming);
    // A package may hold files that no Python compiles, such as templates; they are left as they are.
    let _some_are_not = child::run(compile).await.map_err(|error| missing(&error))?;
    match fs::rename(&coming, kept) {
        Err(_) if kept.is_dir() => {
            // Another function of the folder needed the same, and was first.
            let _stays = fs::remove_dir_all(&coming);
            Ok(())
        }
        renamed => renamed.map_err(failed),
    }
}

/// An empty folder, in a state folder that git leaves alone.
fn fresh(coming: &Path) -> io::Result<()> {
    match fs::remove_dir_all(coming) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut builder = fs::DirBuilder::new();
    // What `dev` keeps beside it is for its user alone.
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(coming)?;
    let state = coming.ancestors().nth(2).unwrap_or(coming);
    let ignore = state.join(".gitignore");
    match ignore.exists() {
        true => Ok(()),
        false => fs::write(ignore, "*\n"),
    }
}

/// The failure that pip reports.
fn refused(ran: &Ran, shown: &str) -> BuildError {
    let lines = || ran.output.lines().map(str::trim);
    if lines().any(|line| line.ends_with("No module named pip")) {
        let message = format!("{shown} names packages, and this Python has no pip");
        return BuildError::new(None, message).hint(format!("`{}` brings it", super::INSTALL));
    }
    let error = lines().find_map(|line| line.strip_prefix("ERROR: "));
    let said = error
        .or_else(|| lines().rfind(|line| !line.is_empty()))
        .unwrap_or("it said nothing");
    let message = format!("pip cannot install what {shown} names: {said}");
    BuildError::new(None, message).frame(ran.last_lines(20))
}

/// Lays the files of `from` below `to`, where nothing lies yet.
fn lay(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if fs::metadata(&path)?.is_dir() {
            lay(&path, &target)?;
        } else if !target.exists() {
            // A second name for the same bytes costs nothing; another file system wants a copy.
            if fs::hard_link(&path, &target).is_err() {
                fs::copy(&path, &target)?;
            }
        }
    }
    Ok(())
}
