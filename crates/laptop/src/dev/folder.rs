//! What `dev` knows of its folder, and what it does when files change: builds what depends on them and deploys it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use build::{Project, Tools};
use model::{FunctionId, Name, VersionNumber};
use server::{Building, Workbench};
use tokio::{
    sync::{mpsc::UnboundedSender, watch},
    task::JoinSet,
};

use super::{
    Event,
    attempt::{Tried, said, try_one},
    saves::{self, Interests, Save, Saves},
    watch::Watch,
};
use crate::{
    api::{ApiError, Client},
    remote::env,
};

/// The file that describes a project.
const CONFIG: &str = "bungee.toml";

/// The folder whose files are functions where there is no such file.
const FUNCTIONS: &str = "functions";

/// How many versions of a function `dev` keeps: enough to go back to what worked this morning.
const KEEP_VERSIONS: u32 = 20;

/// How long a file must be gone for its function to leave: some editors take a file away before they write it anew.
const GONE: Duration = Duration::from_millis(50);

/// Where a folder lies.
pub struct Place {
    /// The folder, absolute.
    pub root: PathBuf,
    /// Where bundles are built, a folder per function.
    pub out: PathBuf,
}

/// A folder being developed.
pub struct Folder {
    client: Client,
    workbench: Workbench,
    project: Arc<Project>,
    place: Place,
    tools: Arc<Tools>,
    functions: BTreeMap<Name, Known>,
    /// What the watcher knows of them.
    interests: Interests,
    /// What was last said of a folder that is no project.
    complaint: Option<String>,
    /// The server whose functions lend these their environment.
    lender: Option<Client>,
    /// Functions that were lent one, or cannot be.
    lent: BTreeSet<Name>,
    /// Functions that have code that runs.
    ready: watch::Sender<BTreeSet<FunctionId>>,
    events: UnboundedSender<Event>,
}

/// What is known of one function.
#[derive(Debug, Default)]
struct Known {
    /// Files that its bundle was made from, absolute.
    inputs: Vec<PathBuf>,
    /// The version that calls reach.
    serving: Option<VersionNumber>,
    /// What was last said of its broken state.
    broken: Option<String>,
}

impl Folder {
    /// A folder that was read already.
    pub fn new(
        client: Client,
        workbench: Workbench,
        project: Project,
        place: Place,
        tools: Tools,
        events: UnboundedSender<Event>,
    ) -> Folder {
        let sources = vec![place.root.join(CONFIG), place.root.join(FUNCTIONS)];
        Folder {
            client,
            workbench,
            project: Arc::new(project),
            place,
            tools: Arc::new(tools),
            functions: BTreeMap::new(),
            interests: Interests::of_project(sources),
            complaint: None,
            lender: None,
            lent: BTreeSet::new(),
            ready: watch::Sender::default(),
            events,
        }
    }

    /// Functions get the environment of those of their names on that server, before they run the first time.
    pub fn lend(&mut self, lender: Option<Client>) {
        self.lender = lender;
    }

    /// The functions that have code that runs, as that changes.
    pub fn ready(&self) -> watch::Receiver<BTreeSet<FunctionId>> {
        self.ready.subscribe()
    }

    async fn borrow(&mut self, functions: &[Name]) {
        let Some(lender) = self.lender.clone() else {
            return;
        };
        for name in functions {
            if self.lender.is_none() || !self.lent.insert(name.clone()) {
                continue;
            }
            let function = self.id(name);
            match env::borrow(&lender, &self.workbench, &function).await {
                Ok(Some(borrowed)) => self.tell(Event::Borrowed(borrowed)),
                Ok(None) => {}
                Err(error) => {
                    // Whoever says nothing once is not asked for each function in turn.
                    if matches!(error, ApiError::Silent { .. }) {
                        self.lender = None;
                    }
                    self.tell(Event::NotBorrowed { function, error });
                }
            }
        }
    }

    /// Builds and deploys every function of the folder.
    pub async fn deploy_all(&mut self) {
        let all = self.project.functions.keys().cloned().collect();
        self.deploy(all, BTreeMap::new()).await;
    }

    /// Learns what an earlier run left behind; functions that the folder no longer has are not served.
    pub async fn take_stock(&mut self) {
        // Whoever cannot be asked now will show the same in `bungee list`.
        let Ok(served) = self.client.functions(Some(&self.project.name)).await else {
            return;
        };
        for function in served {
            if self.project.functions.contains_key(&function.name) {
                let known = self.functions.entry(function.name).or_default();
                known.serving = function.current;
            } else {
                self.workbench.unroute(&self.id(&function.name)).await;
            }
        }
    }

    /// Deploys what each save changes, for as long as there are saves.
    pub async fn follow(mut self, watch: notify::Result<Watch>) {
        let watch = match watch {
            Ok(watch) => watch,
            Err(error) => return self.tell(Event::Blind(error)),
        };
        if watch.polls() {
            self.tell(Event::Polls);
        }
        let (sender, mut saves) = Saves::new();
        let gathering = saves::gather(
            watch,
            self.interests.clone(),
            self.workbench.clone(),
            sender,
        );
        let building = async {
            while let Some(save) = saves.next().await {
                self.changed(save).await;
            }
        };
        tokio::join!(gathering, building);
    }

    async fn changed(&mut self, save: Save) {
        let Save { files, held } = save;
        let config = self.place.root.join(CONFIG);
        let folder = self.place.root.join(FUNCTIONS);
        let asks_for_reading = |file: &PathBuf| *file == config || file.starts_with(&folder);
        let must_read = files.iter().any(asks_for_reading) || self.complaint.is_some();
        if must_read && !self.read_again().await {
            return;
        }
        let is_stale = |name: &&Name| match self.functions.get(*name) {
            None => true,
            Some(known) => known.broken.is_some() || known.depends_on(&files),
        };
        let stale = self.project.functions.keys().filter(is_stale).cloned();
        self.deploy(stale.collect(), held).await;
    }

    /// Reads the folder again; says whether it is a project.
    async fn read_again(&mut self) -> bool {
        let mut read = Project::read(&self.project.dir);
        if matches!(&read, Ok(project) if !self.leaving(project).is_empty()) {
            tokio::time::sleep(GONE).await;
            read = Project::read(&self.project.dir);
        }
        let project = match read {
            Ok(project) => project,
            Err(error) => {
                let said = error.to_string();
                for name in self.functions.keys() {
                    self.workbench.broken(&self.id(name), Some(&said));
                }
                if self.complaint.as_ref() != Some(&said) {
                    self.complaint = Some(said);
                    self.tell(Event::NoProject(error));
                }
                return false;
            }
        };
        if self.complaint.take().is_some() {
            for (name, known) in &self.functions {
                self.workbench
                    .broken(&self.id(name), known.broken.as_deref());
            }
        }
        for name in self.leaving(&project) {
            let function = self.id(&name);
            self.interests.forget(&function);
            self.workbench.unroute(&function).await;
            self.workbench.broken(&function, None);
            self.ready.send_if_modified(|ready| ready.remove(&function));
            let known = self.functions.remove(&name);
            if known.is_some_and(|known| known.serving.is_some()) {
                self.tell(Event::Left { function });
            }
        }
        self.project = Arc::new(project);
        true
    }

    /// Functions that this project does not have any more.
    fn leaving(&self, project: &Project) -> Vec<Name> {
        let known = self.functions.keys();
        let is_renamed = project.name != self.project.name;
        let is_gone = |name: &&Name| is_renamed || !project.functions.contains_key(*name);
        known.filter(is_gone).cloned().collect()
    }

    /// Builds and deploys these functions side by side, and tells of each as it ends.
    /// Requests of each wait until then; those of all others in `held` go on at once.
    async fn deploy(&mut self, functions: Vec<Name>, held: BTreeMap<Option<FunctionId>, Building>) {
        self.borrow(&functions).await;
        let mut held = held;
        let mut waiting = BTreeMap::new();
        let mut building = JoinSet::new();
        for function in functions {
            let id = Some(self.id(&function));
            let hold = held
                .remove(&id)
                .unwrap_or_else(|| self.workbench.building(id));
            waiting.insert(function.clone(), hold);
            let (client, project, tools) = (
                self.client.clone(),
                self.project.clone(),
                self.tools.clone(),
            );
            let out = self.place.out.join(function.as_str());
            building.spawn(try_one(client, project, function, out, tools));
        }
        drop(held);
        while let Some(ended) = building.join_next().await {
            match ended {
                Ok(tried) => {
                    let function = self.ended(tried);
                    waiting.remove(&function);
                    let function = self.id(&function);
                    self.workbench.prune(&function, KEEP_VERSIONS).await;
                }
                Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
            }
        }
    }

    /// Takes in how it ended, and says whose end it was.
    fn ended(&mut self, tried: Tried) -> Name {
        let Tried {
            function,
            warnings,
            outcome,
        } = tried;
        let known = self.functions.entry(function.clone()).or_default();
        let event = match outcome {
            Ok(deployed) => {
                let is_news = known.serving != Some(deployed.version) || known.broken.is_some();
                known.inputs.clone_from(&deployed.inputs);
                known.serving = Some(deployed.version);
                known.broken = None;
                is_news.then_some(Event::Deployed { deployed, warnings })
            }
            Err(error) => {
                let said = said(&error);
                let is_news = known.broken.as_ref() != Some(&said);
                known.broken = Some(said);
                let (function, serving) = (function.clone(), known.serving);
                is_news.then_some(Event::Broken {
                    function,
                    error,
                    serving,
                })
            }
        };
        let has_code = known.serving.is_some();
        let broken = known.broken.clone();
        let made_of = broken.is_none().then(|| known.inputs.clone());
        let id = self.id(&function);
        if has_code {
            self.ready
                .send_if_modified(|ready| ready.insert(id.clone()));
        }
        self.interests.set(&id, made_of);
        self.workbench.broken(&id, broken.as_deref());
        if let Some(event) = event {
            self.tell(event);
        }
        function
    }

    fn id(&self, function: &Name) -> FunctionId {
        FunctionId {
            project: self.project.name.clone(),
            name: function.clone(),
        }
    }

    fn tell(&self, event: Event) {
        // Nobody listens only while everything ends.
        let _nobody_listens = self.events.send(event);
    }
}

impl Known {
    /// Whether any of these files went into its bundle; an input may be a folder.
    fn depends_on(&self, files: &BTreeSet<PathBuf>) -> bool {
        let is_input = |file: &PathBuf| self.inputs.iter().any(|input| file.starts_with(input));
        files.iter().any(is_input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_depends_on_its_files_and_on_what_lies_in_its_folders() {
        let known = Known {
            inputs: vec!["/p/src/a.ts".into(), "/p/assets".into()],
            ..Known::default()
        };
        let depends = |file: &str| known.depends_on(&BTreeSet::from([PathBuf::from(file)]));
        assert!(depends("/p/src/a.ts") && depends("/p/assets/logo.svg"));
        assert!(!depends("/p/src/b.ts") && !depends("/p/src/a.tsx"));
    }
}
