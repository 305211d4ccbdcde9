//! Saves on their way from the watcher to whoever builds: a file that a function is made of holds its requests back
//! from the moment it changes, for a save is only complete a little later.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use model::FunctionId;
use server::{Building, Workbench};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::watch::Watch;

/// A save that is complete.
#[derive(Default)]
pub struct Save {
    /// Every file that it touched.
    pub files: BTreeSet<PathBuf>,
    /// Functions whose requests wait since then; `None`: those that nobody knows yet.
    pub held: BTreeMap<Option<FunctionId>, Building>,
}

/// What each function is made of, shared between the one who builds and the one who watches.
#[derive(Clone, Default)]
pub struct Interests(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    /// Files and folders by function; an absent list means that any file may mend it.
    functions: BTreeMap<FunctionId, Option<Vec<PathBuf>>>,
    /// Files and folders that may bring new functions.
    project: Vec<PathBuf>,
}

impl Interests {
    /// Says where new functions come from.
    pub fn of_project(places: Vec<PathBuf>) -> Interests {
        let table = Table {
            project: places,
            ..Table::default()
        };
        Interests(Arc::new(Mutex::new(table)))
    }

    /// The function is made of these; `None`: any file may be what it lacks.
    pub fn set(&self, function: &FunctionId, files: Option<Vec<PathBuf>>) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.functions.insert(function.clone(), files);
    }

    /// The function is gone.
    pub fn forget(&self, function: &FunctionId) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.functions.remove(function);
    }

    /// Whom a change of this file concerns.
    fn of(&self, file: &Path) -> Vec<Option<FunctionId>> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_in = |places: &[PathBuf]| places.iter().any(|place| file.starts_with(place));
        let functions = table.functions.iter();
        let mut concerned: Vec<_> = functions
            .filter(|(_, files)| files.as_deref().is_none_or(is_in))
            .map(|(function, _)| Some(function.clone()))
            .collect();
        if is_in(&table.project) {
            concerned.push(None);
        }
        concerned
    }
}

/// Passes on every save, for as long as there are any.
pub async fn gather(
    mut watch: Watch,
    interests: Interests,
    workbench: Workbench,
    saves: UnboundedSender<Save>,
) {
    loop {
        let mut held = BTreeMap::new();
        let hold = |file: &Path| {
            for function in interests.of(file) {
                held.entry(function.clone())
                    .or_insert_with(|| workbench.building(function));
            }
        };
        let Some(files) = watch.changed(hold).await else {
            return;
        };
        if saves.send(Save { files, held }).is_err() {
            return;
        }
    }
}

/// Saves, and how they are asked for.
pub struct Saves(UnboundedReceiver<Save>);

impl Saves {
    /// Saves, and where they come in.
    pub fn new() -> (UnboundedSender<Save>, Saves) {
        let (sender, receiver) = unbounded_channel();
        (sender, Saves(receiver))
    }

    /// Everything that was saved since the last time; waits for something.
    pub async fn next(&mut self) -> Option<Save> {
        let mut all = self.0.recv().await?;
        while let Ok(more) = self.0.try_recv() {
            all.files.extend(more.files);
            all.held.extend(more.held);
        }
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_concerns_whom_it_is_part_of_and_whoever_is_broken() {
        let name = |text: &str| FunctionId {
            project: "p".parse().unwrap(),
            name: text.parse().unwrap(),
        };
        let interests = Interests::of_project(vec!["/p/bungee.toml".into(), "/p/functions".into()]);
        let files = vec!["/p/src/a.ts".into(), "/p/assets".into()];
        interests.set(&name("a"), Some(files));
        let whom = |file: &str| -> Vec<String> {
            let whom = interests.of(Path::new(file)).into_iter();
            whom.map(|name| name.map_or("?".into(), |id| id.name.to_string()))
                .collect()
        };
        assert_eq!(whom("/p/src/a.ts"), ["a"]);
        assert_eq!(whom("/p/assets/logo.svg"), ["a"]);
        assert!(whom("/p/src/a.tsx").is_empty());
        assert_eq!(whom("/p/functions/b.ts"), ["?"]);
        interests.set(&name("b"), None);
        assert_eq!(whom("/p/notes.md"), ["b"]);
        interests.forget(&name("b"));
        assert!(whom("/p/notes.md").is_empty());
    }
}
