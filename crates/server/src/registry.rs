//! The functions in memory: an immutable table that the gateway reads without a lock, replaced whole by every change.
//! Knows paths and routes; what stands in the store is brought here by `deploys`.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use arc_swap::ArcSwap;
use http::Method;
use model::{ErrorType, Failure, FunctionId, Name, Params, Route, RouteError, RouteTable, nearest};
use store::Function;
use workers::Counts;

use crate::serving::{self, Serving};

/// What a call to a function meets.
#[derive(Clone)]
pub(crate) enum State {
    /// No version is current.
    NotDeployed,
    /// Switched off.
    Disabled,
    /// Takes no call, for it may run none at once.
    Shut,
    /// Served.
    Deployed(Arc<Serving>),
}

/// One immutable state of everything that can be called.
pub(crate) struct Table {
    /// The project of paths that name none.
    home: Name,
    /// Functions by project and name, as text, for that is what a path holds.
    projects: HashMap<String, HashMap<String, (FunctionId, State)>>,
    routes: RouteTable<Arc<Serving>>,
}

/// Whom a request is for.
pub(crate) enum Found {
    /// A function that is served.
    Function(Arc<Serving>, Params),
    /// A path of a function that cannot be called.
    Refused(Failure),
    /// No path of a function.
    Elsewhere,
}

/// The table that holds now.
pub(crate) struct Registry {
    table: ArcSwap<Table>,
    /// Functions that came through the BunBase profile.
    registered: ArcSwap<HashSet<FunctionId>>,
}

/// Everything below is a function's path.
const FUNCTIONS: &str = "/functions/";

impl Registry {
    pub(crate) fn new(home: Name) -> Registry {
        Registry {
            table: ArcSwap::from_pointee(Table::new(home, BTreeMap::new())),
            registered: ArcSwap::default(),
        }
    }

    /// These functions came through the BunBase profile.
    pub(crate) fn registered(&self, ids: impl IntoIterator<Item = FunctionId>) {
        let mut all = HashSet::clone(&self.registered.load());
        all.extend(ids);
        self.registered.store(Arc::new(all));
    }

    /// A function of this name may come from anywhere again.
    pub(crate) fn unregister(&self, id: &FunctionId) {
        let mut all = HashSet::clone(&self.registered.load());
        all.remove(id);
        self.registered.store(Arc::new(all));
    }

    /// Whether a function of the home project came through the BunBase profile.
    pub(crate) fn is_registered(&self, name: &str) -> bool {
        let registered = self.registered.load();
        if registered.is_empty() {
            return false;
        }
        let Ok(name) = name.parse() else {
            return false;
        };
        let project = self.table.load().home.clone();
        registered.contains(&FunctionId { project, name })
    }

    /// A function of the home project that is served under this name.
    pub(crate) fn at_home(&self, name: &str) -> Option<Arc<Serving>> {
        let table = self.table.load();
        let functions = table.projects.get(table.home.as_str())?;
        match functions.get(name)? {
            (_, State::Deployed(serving)) => Some(serving.clone()),
            (_, State::NotDeployed | State::Disabled | State::Shut) => None,
        }
    }

    /// Whom a request is for.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Found {
        let table = self.table.load();
        if let Some(below) = path.strip_prefix(FUNCTIONS) {
            return table.find_named(below);
        }
        match table.routes.find(method, path) {
            Some(found) => Found::Function(found.target, found.params),
            None => Found::Elsewhere,
        }
    }

    /// The table, to look at.
    pub(crate) fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Puts functions into the state given; all others stay. Only `deploys` does this, one change at a time.
    pub(crate) fn change(&self, changes: impl IntoIterator<Item = (FunctionId, State)>) {
        self.replace(|all| all.extend(changes));
    }

    /// Forgets a function. Only `deploys` does this.
    pub(crate) fn remove(&self, id: &FunctionId) {
        self.replace(|all| {
            all.remove(id);
        });
    }

    fn replace(&self, edit: impl FnOnce(&mut BTreeMap<FunctionId, State>)) {
        let table = self.table.load_full();
        let mut all = table.all();
        edit(&mut all);
        self.table
            .store(Arc::new(Table::new(table.home.clone(), all)));
    }
}

impl Table {
    fn new(home: Name, all: BTreeMap<FunctionId, State>) -> Table {
        let mut projects: HashMap<String, HashMap<String, (FunctionId, State)>> = HashMap::new();
        let mut routes = RouteTable::default();
        for (id, state) in all {
            if let State::Deployed(serving) = &state {
                for route in serving.routes() {
                    // Two routes that mean the same are refused before a version becomes current.
                    if let Err(error) = routes.insert(route.clone(), serving.clone()) {
                        tracing::error!(function = %id, %error, "a route is left out");
                    }
                }
            }
            let project = projects.entry(id.project.as_str().to_owned()).or_default();
            project.insert(id.name.as_str().to_owned(), (id, state));
        }
        Table {
            home,
            projects,
            routes,
        }
    }

    fn all(&self) -> BTreeMap<FunctionId, State> {
        let functions = self.projects.values().flat_map(HashMap::values);
        functions.cloned().collect()
    }

    /// Every function that is served.
    pub(crate) fn served(&self) -> impl Iterator<Item = &Arc<Serving>> {
        let states = self.projects.values().flat_map(HashMap::values);
        states.filter_map(|(_, state)| match state {
            State::Deployed(serving) => Some(serving),
            State::NotDeployed | State::Disabled | State::Shut => None,
        })
    }

    /// The state of one function; `None` if it does not exist.
    pub(crate) fn state(&self, id: &FunctionId) -> Option<&State> {
        let project = self.projects.get(id.project.as_str())?;
        project.get(id.name.as_str()).map(|(_, state)| state)
    }

    /// What is served of one function, or why nothing is.
    pub(crate) fn serving(&self, id: &FunctionId) -> Result<Arc<Serving>, Failure> {
        match self.state(id) {
            Some(state) => served(id, state),
            None => Err(self.not_found(id.project.as_str(), id.name.as_str())),
        }
    }

    /// How far a function has come, as people say it.
    pub(crate) fn lifecycle(&self, function: &Function) -> &'static str {
        if function.current.is_none() {
            return if function.is_built {
                "BUILT"
            } else {
                "REGISTERED"
            };
        }
        let Some(State::Deployed(serving)) = self.state(&function.id) else {
            return "DEPLOYED";
        };
        match serving.counts() {
            Counts { busy: 1.., .. } => "BUSY",
            Counts { idle: 1.., .. } => "IDLE",
            Counts { warm: 1.., .. } => "WARM",
            _ => "DEPLOYED",
        }
    }

    /// The projects that have a function, sorted.
    pub(crate) fn projects(&self) -> Vec<&str> {
        let mut projects: Vec<&str> = self.projects.keys().map(String::as_str).collect();
        projects.sort_unstable();
        projects
    }

    /// The path at which a function is called.
    pub(crate) fn url(&self, id: &FunctionId) -> String {
        if id.project == self.home {
            format!("{FUNCTIONS}{}", id.name)
        } else {
            format!("{FUNCTIONS}{}/{}", id.project, id.name)
        }
    }

    /// Whom `NAME/…` or `PROJECT/NAME/…` is for.
    fn find_named(&self, below: &str) -> Found {
        let (first, rest) = below.split_once('/').unwrap_or((below, ""));
        let (project, name) = if self.is_project(first) {
            (first, rest.split('/').next().unwrap_or(""))
        } else {
            (self.home.as_str(), first)
        };
        let functions = self.projects.get(project);
        match functions.and_then(|functions| functions.get(name)) {
            Some((id, state)) => match served(id, state) {
                Ok(serving) => Found::Function(serving, Params::new()),
                Err(failure) => Found::Refused(failure),
            },
            None => Found::Refused(self.not_found(project, name)),
        }
    }

    /// Whether a path's first part names a project: every one, but the home project where that has a function
    /// of its own name. (No function is called `default`.)
    fn is_project(&self, part: &str) -> bool {
        let Some(functions) = self.projects.get(part) else {
            return false;
        };
        part != self.home.as_str() || !functions.contains_key(part)
    }

    fn not_found(&self, project: &str, name: &str) -> Failure {
        let shown: String = name.chars().take(64).collect();
        let failure = match name {
            "" => Failure::new(
                ErrorType::FunctionNotFound,
                format!("the path names the project `{project}` and no function"),
            ),
            _ => Failure::new(
                ErrorType::FunctionNotFound,
                format!("there is no function `{project}/{shown}`"),
            ),
        };
        let names = self
            .projects
            .get(project)
            .into_iter()
            .flat_map(HashMap::keys);
        match nearest(name, names.map(String::as_str)) {
            Some(near) if !name.is_empty() => failure.hint(format!("did you mean `{near}`?")),
            _ => failure.hint("`bungee list` shows every function"),
        }
    }

    /// Refuses what would make a path mean two things: this function, there with these routes.
    pub(crate) fn check_paths(&self, id: &FunctionId, routes: &[Route]) -> Result<(), Failure> {
        let taken = |message: String| {
            Err(Failure::new(ErrorType::NameTaken, message).hint("choose another name"))
        };
        let (project, name) = (id.project.as_str(), id.name.as_str());
        let is_home = id.project == self.home;
        let home = self.projects.get(self.home.as_str());
        if is_home && project != name && self.projects.contains_key(name) {
            let message = format!(
                "`{FUNCTIONS}{name}` is the project `{name}`, and cannot be a function of `{project}`"
            );
            return taken(message);
        }
        if !is_home && home.is_some_and(|functions| functions.contains_key(project)) {
            let message = format!(
                "`{FUNCTIONS}{project}` is a function of `{}`, and cannot be a project",
                self.home
            );
            return taken(message);
        }
        self.check_routes(id, routes)
    }

    fn check_routes(&self, id: &FunctionId, routes: &[Route]) -> Result<(), Failure> {
        let mut table = RouteTable::default();
        for (other, state) in self.all() {
            let State::Deployed(serving) = state else {
                continue;
            };
            if other == *id {
                continue;
            }
            for route in serving.routes() {
                // What is served was checked when it became current.
                let _ = table.insert(route.clone(), other.clone());
            }
        }
        for route in routes {
            if let Err(error) = table.insert(route.clone(), id.clone()) {
                let owner = match &error {
                    RouteError::Taken { other, .. } => self.owner_of(other, id),
                    RouteError::Shape { .. } | RouteError::Reserved { .. } => id.clone(),
                };
                let message = format!("{error}, of `{owner}`");
                return Err(Failure::new(ErrorType::NameTaken, message)
                    .hint("change one of the two routes"));
            }
        }
        Ok(())
    }

    /// Whose route that is; `id` itself if nobody else's.
    fn owner_of(&self, route: &Route, id: &FunctionId) -> FunctionId {
        let has_it = |state: &State| match state {
            State::Deployed(serving) => serving.routes().contains(route),
            State::NotDeployed | State::Disabled | State::Shut => false,
        };
        let owner = self
            .all()
            .into_iter()
            .find(|(other, state)| other != id && has_it(state));
        owner.map_or_else(|| id.clone(), |(other, _)| other)
    }
}

fn served(id: &FunctionId, state: &State) -> Result<Arc<Serving>, Failure> {
    match state {
        State::Deployed(serving) => Ok(serving.clone()),
        State::NotDeployed => Err(serving::not_deployed(id)),
        State::Shut => {
            let message = format!("`{id}` takes no calls: its reserved concurrency is 0");
            let failure = Failure::new(ErrorType::Throttled, message);
            Err(failure.hint("DeleteFunctionConcurrency lets calls in again"))
        }
        State::Disabled => {
            let failure = Failure::new(ErrorType::FunctionDisabled, format!("`{id}` is disabled"));
            Err(failure.hint(format!("`bungee enable {id}` lets calls in again")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> FunctionId {
        let (project, name) = text.split_once('/').unwrap();
        FunctionId {
            project: project.parse().unwrap(),
            name: name.parse().unwrap(),
        }
    }

    fn registry(home: &str, functions: &[&str]) -> Registry {
        let registry = Registry::new(home.parse().unwrap());
        registry.change(functions.iter().map(|text| (id(text), State::NotDeployed)));
        registry
    }

    /// The function that a path leads to, read from the refusal that names it.
    fn leads_to(registry: &Registry, path: &str) -> String {
        match registry.find(&Method::GET, path) {
            Found::Refused(failure) => {
                let name = failure.message.split('`').nth(1).unwrap_or("").to_owned();
                format!("{} {name}", failure.error_type)
            }
            Found::Function(..) => "function".to_owned(),
            Found::Elsewhere => "elsewhere".to_owned(),
        }
    }

    #[test]
    fn the_first_part_is_a_project_if_there_is_one() {
        let registry = registry("default", &["default/hello", "shop/cart"]);
        for (path, target) in [
            ("/functions/hello", "NotDeployed default/hello"),
            ("/functions/hello/a/b", "NotDeployed default/hello"),
            ("/functions/shop/cart", "NotDeployed shop/cart"),
            ("/functions/shop/cart/x", "NotDeployed shop/cart"),
            ("/functions/shop/hello", "FunctionNotFound shop/hello"),
            ("/functions/shop", "FunctionNotFound shop"),
            ("/functions/cart", "FunctionNotFound default/cart"),
            ("/functions", "elsewhere"),
            ("/hello", "elsewhere"),
        ] {
            assert_eq!(leads_to(&registry, path), target, "{path}");
        }
    }

    #[test]
    fn at_home_the_project_needs_no_name() {
        let registry = registry("shop", &["shop/cart", "shop/shop", "default/hello"]);
        assert_eq!(
            leads_to(&registry, "/functions/cart"),
            "NotDeployed shop/cart"
        );
        assert_eq!(
            leads_to(&registry, "/functions/shop/x"),
            "NotDeployed shop/shop"
        );
        assert_eq!(registry.table().url(&id("shop/cart")), "/functions/cart");
        assert_eq!(
            leads_to(&registry, "/functions/default/hello"),
            "NotDeployed default/hello"
        );
        assert_eq!(
            registry.table().url(&id("default/hello")),
            "/functions/default/hello"
        );
    }

    #[test]
    fn a_path_that_would_mean_two_things_is_refused() {
        let table = registry("default", &["default/hello", "shop/cart"]).table();
        let check = |text| {
            table
                .check_paths(&id(text), &[])
                .map_err(|failure| failure.error_type)
        };
        assert_eq!(check("default/shop"), Err(ErrorType::NameTaken));
        assert_eq!(check("hello/x"), Err(ErrorType::NameTaken));
        assert_eq!(check("shop/hello"), Ok(()));
        assert_eq!(check("shop/shop"), Ok(()));
    }

    #[test]
    fn a_typing_error_gets_a_hint() {
        let Found::Refused(failure) =
            registry("default", &["default/hello"]).find(&Method::GET, "/functions/helo")
        else {
            panic!("`helo` is no function");
        };
        assert_eq!(failure.hint.as_deref(), Some("did you mean `hello`?"));
    }
}
