//! What is served of one function: its aliases, and a pool for each version that one of them points at.
//! Which version an invocation meets is decided here, from its alias and its id.

use std::{collections::BTreeMap, sync::Arc};

use model::{
    ErrorType, Failure, FunctionId, InvocationId, Live, Route, VersionNumber, falls_within, nearest,
};
use store::Sampler;
use workers::{Counts, Version};

use crate::{invoker::Invoker, metrics::FunctionMetrics, tape::Recipe};

/// A version that calls reach.
pub(crate) struct Deployed {
    /// What runs.
    pub version: Arc<Version>,
    /// Where it runs.
    pub invoker: Invoker,
    /// Decides which of its invocations get a record.
    pub sampler: Sampler,
    /// How they are recorded; `None`: not at all.
    pub recipe: Option<Arc<Recipe>>,
    /// Counts them.
    pub metrics: Arc<FunctionMetrics>,
}

/// Where one alias leads.
pub(crate) struct Choice {
    /// Whom all invocations meet, but those of `second`.
    pub first: Arc<Deployed>,
    /// Its share of a hundred, and whom these meet.
    pub second: Option<(u8, Arc<Deployed>)>,
}

/// One function as it is served.
pub(crate) struct Serving {
    pub function: FunctionId,
    /// Where calls go that name no alias.
    pub current: Option<Choice>,
    /// Where the other aliases lead.
    pub aliases: BTreeMap<String, Choice>,
    /// What was published, by its number.
    pub published: BTreeMap<u32, Arc<Deployed>>,
}

impl Choice {
    fn of(&self, id: InvocationId) -> &Arc<Deployed> {
        match &self.second {
            Some((percent, second)) if falls_within(*percent, id) => second,
            Some(_) | None => &self.first,
        }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Deployed>> {
        let second = self.second.as_ref().map(|(_, deployed)| deployed);
        [&self.first].into_iter().chain(second)
    }
}

impl Serving {
    /// The version that this invocation meets.
    pub(crate) fn choose(
        &self,
        alias: Option<&str>,
        id: InvocationId,
    ) -> Result<Arc<Deployed>, Failure> {
        let choice = match alias {
            None | Some("current") => self.current.as_ref(),
            Some(alias) => Some(
                self.aliases
                    .get(alias)
                    .ok_or_else(|| self.no_alias(alias))?,
            ),
        };
        match choice {
            Some(choice) => Ok(choice.of(id).clone()),
            None => Err(not_deployed(&self.function)),
        }
    }

    /// The declared routes: those of the version that `current` names first.
    pub(crate) fn routes(&self) -> &[Route] {
        match &self.current {
            Some(choice) => &choice.first.version.settings.routes,
            None => &[],
        }
    }

    /// Whether the version that `current` names first may not be run on a laptop.
    pub(crate) fn keeps_laptops_out(&self) -> bool {
        let first = self.current.as_ref().map(|choice| &choice.first);
        first.is_some_and(|deployed| deployed.version.settings.live == Live::Off)
    }

    /// Every version that is served, once.
    pub(crate) fn deployed(&self) -> BTreeMap<VersionNumber, Arc<Deployed>> {
        let choices = self.current.iter().chain(self.aliases.values());
        let all = choices.flat_map(Choice::all).chain(self.published.values());
        all.map(|deployed| (deployed.version.number, deployed.clone()))
            .collect()
    }

    /// The workers of all its versions.
    pub(crate) fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for deployed in self.deployed().values() {
            let counts = deployed.invoker.counts();
            sum.starting += counts.starting;
            sum.warm += counts.warm;
            sum.busy += counts.busy;
            sum.idle += counts.idle;
            sum.retiring += counts.retiring;
            sum.waiting += counts.waiting;
        }
        sum
    }

    fn no_alias(&self, alias: &str) -> Failure {
        let shown: String = alias.chars().take(64).collect();
        let message = format!("`{}` has no alias `{shown}`", self.function);
        let failure = Failure::new(ErrorType::NotFound, message);
        match nearest(alias, self.aliases.keys().map(String::as_str)) {
            Some(near) => failure.hint(format!("did you mean `{near}`?")),
            None => failure.hint(format!("`bungee alias {}` shows them all", self.function)),
        }
    }
}

/// The refusal of a function without a current version.
pub(crate) fn not_deployed(id: &FunctionId) -> Failure {
    let message = format!("`{id}` has no version that is current");
    Failure::new(ErrorType::NotDeployed, message).hint("`bungee deploy` makes one")
}
