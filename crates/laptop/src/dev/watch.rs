//! Which files changed: the system's notifications, gathered until a save is complete, or polling where there are none.
//! Knows files, not functions.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{
    Config, Event, EventKind, PollWatcher, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, timeout_at},
};

/// Quiet after which a save counts as complete while a file may still be open: editors write in several steps.
const QUIET: Duration = Duration::from_millis(20);

/// The same when every changed file was closed or moved into place: only a formatter may follow.
const QUIET_CLOSED: Duration = Duration::from_millis(3);

/// Longest gathering: a program that writes all the time holds nothing up for longer.
const GATHER: Duration = Duration::from_millis(200);

/// How often files are looked at where the system does not notify.
const POLL: Duration = Duration::from_millis(250);

/// Folders whose changes are not sources; watching them would cost much and tell nothing.
const IGNORED: [&str; 7] = [
    ".bungee",
    ".git",
    ".hg",
    ".venv",
    "__pycache__",
    "node_modules",
    "target",
];

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    /// A file is being written.
    Open,
    /// A file is complete.
    Complete,
}

/// Files and folders under watch.
pub struct Watch {
    root: PathBuf,
    watcher: Box<dyn Watcher + Send>,
    sights: UnboundedReceiver<(PathBuf, Sight)>,
    folders: BTreeSet<PathBuf>,
    polls: bool,
}

impl Watch {
    /// Watches everything below `root`, an absolute path, except what is no source.
    pub fn start(root: &Path) -> notify::Result<Watch> {
        let (sender, sights) = unbounded_channel();
        match Watch::notified(root, sender.clone(), sights) {
            Ok(watch) => Ok(watch),
            Err(_no_more_watches) => {
                let (sender, sights) = unbounded_channel();
                Watch::polled(root, sender, sights)
            }
        }
    }

    fn notified(
        root: &Path,
        sender: UnboundedSender<(PathBuf, Sight)>,
        sights: UnboundedReceiver<(PathBuf, Sight)>,
    ) -> notify::Result<Watch> {
        let watcher =
            RecommendedWatcher::new(move |event| tell(&sender, event), Config::default())?;
        let mut watch = Watch {
            root: root.to_owned(),
            watcher: Box::new(watcher),
            sights,
            folders: BTreeSet::new(),
            polls: false,
        };
        watch.add(root)?;
        Ok(watch)
    }

    fn polled(
        root: &Path,
        sender: UnboundedSender<(PathBuf, Sight)>,
        sights: UnboundedReceiver<(PathBuf, Sight)>,
    ) -> notify::Result<Watch> {
        let config = Config::default()
            .with_poll_interval(POLL)
            .with_compare_contents(true);
        let watcher = PollWatcher::new(move |event| tell(&sender, event), config)?;
        let mut watch = Watch {
            root: root.to_owned(),
            watcher: Box::new(watcher),
            sights,
            folders: BTreeSet::new(),
            polls: true,
        };
        watch.add(root)?;
        Ok(watch)
    }

    /// Whether files are looked at now and then instead of the system notifying.
    pub fn polls(&self) -> bool {
        self.polls
    }

    /// Watches a folder and those inside it. A file is watched through its folder.
    fn add(&mut self, path: &Path) -> notify::Result<()> {
        let mut open = vec![path.to_owned()];
        while let Some(folder) = open.pop() {
            if !folder.is_dir() || self.is_ignored(&folder) || self.folders.contains(&folder) {
                continue;
            }
            self.watcher.watch(&folder, RecursiveMode::NonRecursive)?;
            // A folder that vanishes again before it is read has nothing to show.
            let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
            open.extend(entries.map(|entry| entry.path()));
            self.folders.insert(folder);
        }
        Ok(())
    }

    fn is_ignored(&self, path: &Path) -> bool {
        let inside = path.strip_prefix(&self.root).unwrap_or(path);
        inside
            .components()
            .any(|part| IGNORED.iter().any(|name| part.as_os_str() == *name))
    }

    /// Waits for a save and returns every file it touched; `None` if the watcher is gone.
    /// `seen` hears of each as soon as it changes, before the save is complete.
    pub async fn changed(&mut self, mut seen: impl FnMut(&Path)) -> Option<BTreeSet<PathBuf>> {
        let mut files = BTreeSet::new();
        let mut being_written = BTreeSet::new();
        let mut first = None;
        loop {
            let quiet = if being_written.is_empty() {
                QUIET_CLOSED
            } else {
                QUIET
            };
            let next = match first {
                None => self.sights.recv().await,
                Some(since) => {
                    let latest: Instant = since + GATHER;
                    match timeout_at(latest.min(Instant::now() + quiet), self.sights.recv()).await {
                        Ok(next) => next,
                        Err(_quiet) => return Some(files),
                    }
                }
            };
            let (path, sight) = next?;
            if self.is_ignored(&path) {
                continue;
            }
            seen(&path);
            first.get_or_insert_with(Instant::now);
            match sight {
                Sight::Open => being_written.insert(path.clone()),
                Sight::Complete => being_written.remove(&path),
            };
            self.follow(&path, &mut files);
            files.insert(path);
        }
    }

    /// A new folder is watched too, and what already lies in it counts as changed; a folder that went is forgotten.
    fn follow(&mut self, path: &Path, files: &mut BTreeSet<PathBuf>) {
        if !path.is_dir() {
            self.folders.retain(|folder| !folder.starts_with(path));
            return;
        }
        if self.folders.contains(path) || self.add(path).is_err() {
            return;
        }
        let inside = self
            .folders
            .range(path.to_owned()..)
            .take_while(|folder| folder.starts_with(path));
        for folder in inside {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            files.extend(entries.map(|entry| entry.path()));
        }
    }
}

/// Passes on what says that content changed. Our own reading is not among it.
fn tell(sender: &UnboundedSender<(PathBuf, Sight)>, event: notify::Result<Event>) {
    // An error of the queue means missed events; the next save is seen again.
    let Ok(event) = event else { return };
    let sight = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(
            RenameMode::To | RenameMode::From | RenameMode::Both,
        ))
        | EventKind::Remove(_) => Sight::Complete,
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_)) => return,
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Any | EventKind::Other => {
            Sight::Open
        }
    };
    for path in event.paths {
        // The receiver is gone only when nobody watches any more.
        let _nobody_watches = sender.send((path, sight));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn saved(watch: &mut Watch, file: &Path) {
        loop {
            let files = watch.changed(|_| {}).await.unwrap();
            if files.contains(file) {
                return;
            }
        }
    }

    #[tokio::test]
    async fn saves_are_seen_however_an_editor_writes_them() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let file = root.join("a.ts");
        fs::write(&file, "1").unwrap();
        let mut watch = Watch::start(&root).unwrap();

        fs::write(&file, "2").unwrap();
        saved(&mut watch, &file).await;

        fs::write(root.join("a.ts~"), "3").unwrap();
        fs::rename(root.join("a.ts~"), &file).unwrap();
        saved(&mut watch, &file).await;

        let inner = root.join("new/deep");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("b.ts"), "1").unwrap();
        saved(&mut watch, &inner.join("b.ts")).await;
        fs::write(inner.join("b.ts"), "2").unwrap();
        saved(&mut watch, &inner.join("b.ts")).await;
    }

    #[tokio::test]
    async fn state_and_packages_are_no_sources() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("node_modules/x")).unwrap();
        let mut watch = Watch::start(&root).unwrap();
        fs::write(root.join("node_modules/x/i.js"), "1").unwrap();
        fs::create_dir_all(root.join(".bungee/run")).unwrap();
        fs::write(root.join(".bungee/run/x"), "1").unwrap();
        fs::write(root.join("a.ts"), "1").unwrap();
        let files = watch.changed(|_| {}).await.unwrap();
        assert_eq!(files.into_iter().collect::<Vec<_>>(), [root.join("a.ts")]);
    }

    #[tokio::test]
    async fn polling_sees_saves_too() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let file = root.join("a.ts");
        fs::write(&file, "1").unwrap();
        let (sender, sights) = unbounded_channel();
        let mut watch = Watch::polled(&root, sender, sights).unwrap();
        fs::write(&file, "2").unwrap();
        saved(&mut watch, &file).await;
    }
}
