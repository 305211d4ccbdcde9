//! What `dev` knows of its folder, and what it does when files change: builds what depends on them and deploys it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use build::{Project, Tools};
use model::{FunctionId, Name, VersionNumber};
use tokio::{sync::mpsc::UnboundedSender, task::JoinSet};

use super::{Event, watch::Watch};
use crate::{
    api::Client,
    deploy::{self, DeployError, Deployed, Order, Step},
};

/// The file that describes a project.
const CONFIG: &str = "bungee.toml";

/// The folder whose files are functions where there is no such file.
const FUNCTIONS: &str = "functions";

/// A folder being developed.
pub struct Session {
    client: Client,
    project: Arc<Project>,
    root: PathBuf,
    /// Where bundles are built, a folder per function.
    out: PathBuf,
    tools: Arc<Tools>,
    functions: BTreeMap<Name, Known>,
    /// What was last said of a folder that is no project.
    complaint: Option<String>,
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

/// How building and deploying one function ended.
struct Tried {
    function: Name,
    warnings: Vec<String>,
    outcome: Result<Deployed, DeployError>,
}

impl Session {
    /// A session over a folder that was read already.
    pub fn new(
        client: Client,
        project: Project,
        root: PathBuf,
        out: PathBuf,
        tools: Tools,
        events: UnboundedSender<Event>,
    ) -> Session {
        Session {
            client,
            project: Arc::new(project),
            root,
            out,
            tools: Arc::new(tools),
            functions: BTreeMap::new(),
            complaint: None,
            events,
        }
    }

    /// Builds and deploys every function of the folder.
    pub async fn deploy_all(&mut self) {
        let all = self.project.functions.keys().cloned().collect();
        self.deploy(all).await;
    }

    /// Learns what an earlier run left behind: what still answers, and which functions the folder no longer has.
    pub async fn take_stock(&mut self) {
        // Whoever cannot be asked now will show the same in `bungee list`.
        let Ok(served) = self.client.functions(Some(&self.project.name)).await else {
            return;
        };
        for function in served {
            if self.project.functions.contains_key(&function.name) {
                let known = self.functions.entry(function.name).or_default();
                known.serving = function.current;
            } else if function.current.is_some() {
                let (project, name) = (function.project, function.name);
                self.tell(Event::Left {
                    function: FunctionId { project, name },
                });
            }
        }
    }

    /// Deploys what each save changes, for as long as there are saves.
    pub async fn follow(mut self, watch: notify::Result<Watch>) {
        let mut watch = match watch {
            Ok(watch) => watch,
            Err(error) => return self.tell(Event::Blind(error)),
        };
        if watch.polls() {
            self.tell(Event::Polls);
        }
        while let Some(files) = watch.changed().await {
            self.changed(&files).await;
        }
    }

    async fn changed(&mut self, files: &BTreeSet<PathBuf>) {
        let config = self.root.join(CONFIG);
        let folder = self.root.join(FUNCTIONS);
        let asks_for_reading = |file: &PathBuf| *file == config || file.starts_with(&folder);
        if (files.iter().any(asks_for_reading) || self.complaint.is_some()) && !self.read_again() {
            return;
        }
        let is_stale = |name: &&Name| match self.functions.get(*name) {
            None => true,
            Some(known) => known.broken.is_some() || known.depends_on(files),
        };
        let stale = self
            .project
            .functions
            .keys()
            .filter(is_stale)
            .cloned()
            .collect();
        self.deploy(stale).await;
    }

    /// Reads the folder again; says whether it is a project.
    fn read_again(&mut self) -> bool {
        let project = match Project::load(&self.project.dir) {
            Ok(project) => project,
            Err(error) => {
                let said = error.to_string();
                if self.complaint.as_ref() != Some(&said) {
                    self.complaint = Some(said);
                    self.tell(Event::NoProject(error));
                }
                return false;
            }
        };
        self.complaint = None;
        let left: Vec<Name> = self
            .functions
            .keys()
            .filter(|name| !project.functions.contains_key(name))
            .cloned()
            .collect();
        for name in left {
            let known = self.functions.remove(&name);
            if known.is_some_and(|known| known.serving.is_some()) {
                let project = self.project.name.clone();
                self.tell(Event::Left {
                    function: FunctionId { project, name },
                });
            }
        }
        self.project = Arc::new(project);
        true
    }

    /// Builds and deploys these functions side by side, and tells of each as it ends.
    async fn deploy(&mut self, functions: Vec<Name>) {
        let mut building = JoinSet::new();
        for function in functions {
            let (client, project, tools) = (
                self.client.clone(),
                self.project.clone(),
                self.tools.clone(),
            );
            let out = self.out.join(function.as_str());
            building.spawn(try_one(client, project, function, out, tools));
        }
        while let Some(ended) = building.join_next().await {
            match ended {
                Ok(tried) => self.ended(tried),
                Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
            }
        }
    }

    fn ended(&mut self, tried: Tried) {
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
                let serving = known.serving;
                is_news.then_some(Event::Broken {
                    function,
                    error,
                    serving,
                })
            }
        };
        if let Some(event) = event {
            self.tell(event);
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

/// The whole of what is said, to be compared with what was said before.
fn said(error: &DeployError) -> String {
    match error {
        DeployError::Build(error) => format!("{error}{:?}{:?}", error.frame, error.also),
        DeployError::Server(_) | DeployError::Folder { .. } => error.to_string(),
    }
}

async fn try_one(
    client: Client,
    project: Arc<Project>,
    function: Name,
    out: PathBuf,
    tools: Arc<Tools>,
) -> Tried {
    let warned = Mutex::new(Vec::new());
    let order = Order {
        project: &project,
        function: &function,
        target: None,
        out: Path::new(&out),
        tools: &tools,
    };
    let note = |step| {
        if let (Step::Built { warnings, .. }, Ok(mut warned)) = (step, warned.lock()) {
            *warned = warnings;
        }
    };
    let outcome = match deploy::prepare(&client, order, note).await {
        Ok(prepared) => deploy::activate(&client, prepared)
            .await
            .map_err(DeployError::from),
        Err(error) => Err(error),
    };
    Tried {
        warnings: warned.into_inner().unwrap_or_default(),
        function,
        outcome,
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
