//! What `dev` is building just now: a request for such a function waits a little for it, and an answer of older code
//! says that it is. In `serve` nothing is ever built, and a request pays one load of a number for that.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderName, HeaderValue};
use model::FunctionId;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// How long a request waits for a build at most: long enough for nearly all, too short to be taken for a hang.
const WAIT: Duration = Duration::from_millis(500);

/// On answers of older code than the folder holds: why.
pub(crate) const STALE: HeaderName = HeaderName::from_static("x-bungee-stale");

/// Characters of the reason in that header: a line that a terminal shows whole.
const REASON_MAX: usize = 300;

/// Every build under way, and every function that has no working new version.
#[derive(Default)]
pub(crate) struct Builds {
    /// How many functions have something in `open`; what the hot path looks at.
    count: AtomicUsize,
    /// By function; `None` stands for functions that nobody knows yet.
    open: Mutex<BTreeMap<Option<FunctionId>, Work>>,
    changed: Notify,
}

/// What is known of one function.
#[derive(Default)]
struct Work {
    /// Builds of it that are under way or about to begin.
    under_way: usize,
    /// Why the last one failed, if it did.
    broken: Option<HeaderValue>,
}

/// What a request meets.
enum Sight {
    UnderWay,
    /// Nothing is built; why the code is old, if it is.
    Settled(Option<HeaderValue>),
}

impl Builds {
    /// Whether no request has to look closer.
    pub(crate) fn is_quiet(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Waits until the function is not being built, or long enough. Returns why its code is old, if it is.
    /// Whoever asks for no function that is there (`None`) waits for all builds: one of them may bring it.
    pub(crate) async fn settled(&self, function: Option<&FunctionId>) -> Option<HeaderValue> {
        let until = Instant::now() + WAIT;
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Sight::Settled(why) = self.look(function) {
                return why;
            }
            if timeout_at(until, changed).await.is_err() {
                return Some(HeaderValue::from_static("a build is still running"));
            }
        }
    }

    /// Why the function has no working new version, if it has none.
    pub(crate) fn why_broken(&self, function: &FunctionId) -> Option<String> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let why = open.get(&Some(function.clone()))?.broken.as_ref()?;
        Some(String::from_utf8_lossy(why.as_bytes()).into_owned())
    }

    fn look(&self, function: Option<&FunctionId>) -> Sight {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(function) = function else {
            let is_any = open.values().any(|work| work.under_way > 0);
            return if is_any {
                Sight::UnderWay
            } else {
                Sight::Settled(None)
            };
        };
        match open.get(&Some(function.clone())) {
            None => Sight::Settled(None),
            Some(work) if work.under_way > 0 => Sight::UnderWay,
            Some(work) => Sight::Settled(work.broken.clone()),
        }
    }

    /// A build begins, or a save was seen that will ask for one. It lasts until what is returned is dropped.
    pub(crate) fn begin(self: Arc<Self>, function: Option<FunctionId>) -> Building {
        self.change(&function, |work| work.under_way += 1);
        Building {
            builds: self,
            function,
        }
    }

    /// The function has no working new version, and why; `None`: it has one.
    pub(crate) fn broken(&self, function: &FunctionId, why: Option<&str>) {
        let why = why.map(header);
        self.change(&Some(function.clone()), |work| work.broken = why);
    }

    fn change(&self, function: &Option<FunctionId>, change: impl FnOnce(&mut Work)) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let work = open.entry(function.clone()).or_default();
        change(work);
        if work.under_way == 0 && work.broken.is_none() {
            open.remove(function);
        }
        self.count.store(open.len(), Ordering::Release);
        drop(open);
        self.changed.notify_waiters();
    }
}

/// A build under way: requests for the function wait while this lives.
#[must_use = "requests wait only while this lives"]
pub struct Building {
    builds: Arc<Builds>,
    function: Option<FunctionId>,
}

impl Drop for Building {
    fn drop(&mut self) {
        self.builds
            .change(&self.function, |work| work.under_way -= 1);
    }
}

/// The first line, in what a header may hold.
fn header(why: &str) -> HeaderValue {
    let line = why.lines().next().unwrap_or_default();
    let plain = |c: char| if (' '..='~').contains(&c) { c } else { '?' };
    let text: String = line.chars().take(REASON_MAX).map(plain).collect();
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("broken"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> FunctionId {
        FunctionId {
            project: "default".parse().unwrap(),
            name: name.parse().unwrap(),
        }
    }

    #[tokio::test]
    async fn a_request_waits_for_its_own_function_and_not_for_ever() {
        let builds = Arc::new(Builds::default());
        assert!(builds.is_quiet());
        let building = builds.clone().begin(Some(id("a")));
        assert!(!builds.is_quiet());
        let start = Instant::now();
        assert_eq!(builds.settled(Some(&id("b"))).await, None);
        assert!(start.elapsed() < WAIT);
        let why = builds.settled(Some(&id("a"))).await;
        assert_eq!(why.unwrap(), "a build is still running");
        assert!(start.elapsed() >= WAIT);
        let (answer, ()) = tokio::join!(builds.settled(None), async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(building);
        });
        assert_eq!(answer, None);
        assert!(builds.is_quiet());
    }

    #[tokio::test]
    async fn a_broken_function_says_why_until_it_is_mended() {
        let builds = Arc::new(Builds::default());
        builds.broken(&id("a"), Some("src/a.ts:1:9: expected `)` — really\nframe"));
        let why = builds.settled(Some(&id("a"))).await;
        assert_eq!(why.unwrap(), "src/a.ts:1:9: expected `)` ? really");
        assert_eq!(builds.settled(Some(&id("b"))).await, None);
        builds.broken(&id("a"), None);
        assert_eq!(builds.settled(Some(&id("a"))).await, None);
        assert!(builds.is_quiet());
    }
}
