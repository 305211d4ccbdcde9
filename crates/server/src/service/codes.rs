//! The code cache: source text in memory, for whoever asks for it. No invocation needs it; what runs is compiled.

use std::{
    collections::HashMap,
    path::{Component, Path},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use model::{ErrorType, Failure, FunctionId, Limits, VersionNumber};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use crate::{app::App, deploys::store_failure};

/// Source text by function, within limits of size and age. A function's leaves it when something else is deployed.
pub(crate) struct CodeCache {
    limits: Arc<Limits>,
    entries: Mutex<HashMap<FunctionId, Entry>>,
}

struct Entry {
    version: VersionNumber,
    code: Arc<str>,
    since: Instant,
}

impl CodeCache {
    pub(crate) fn new(limits: Arc<Limits>) -> CodeCache {
        CodeCache {
            limits,
            entries: Mutex::default(),
        }
    }

    fn get(&self, id: &FunctionId, version: VersionNumber, now: Instant) -> Option<Arc<str>> {
        let entries = self.locked();
        let entry = entries.get(id)?;
        let is_good = entry.version == version && !self.is_old(entry, now);
        is_good.then(|| entry.code.clone())
    }

    /// Keeps it, if there is room.
    fn put(&self, id: &FunctionId, version: VersionNumber, code: &Arc<str>, now: Instant) {
        let mut entries = self.locked();
        entries.remove(id);
        let held: usize = entries.values().map(|entry| entry.code.len()).sum();
        if (held + code.len()) as u64 > self.limits.code_cache.0 {
            return;
        }
        let entry = Entry {
            version,
            code: code.clone(),
            since: now,
        };
        entries.insert(id.clone(), entry);
    }

    /// Something else is deployed, or nothing.
    pub(crate) fn forget(&self, id: &FunctionId) {
        self.locked().remove(id);
    }

    /// How many texts it holds, and their bytes.
    pub(crate) fn size(&self) -> (usize, usize) {
        let entries = self.locked();
        let bytes = entries.values().map(|entry| entry.code.len()).sum();
        (entries.len(), bytes)
    }

    /// Takes out what is too old, as often as things become so.
    pub(crate) async fn keep_clean(&self, stop: CancellationToken) {
        let mut turns = interval(self.limits.code_cache_age.duration());
        while stop.run_until_cancelled(turns.tick()).await.is_some() {
            self.sweep(Instant::now());
        }
    }

    fn sweep(&self, now: Instant) {
        self.locked().retain(|_, entry| !self.is_old(entry, now));
    }

    fn is_old(&self, entry: &Entry, now: Instant) -> bool {
        now.duration_since(entry.since) >= self.limits.code_cache_age.duration()
    }

    /// A map is whole after every statement, so a panic elsewhere leaves it usable.
    fn locked(&self) -> MutexGuard<'_, HashMap<FunctionId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Code, and whether it was handed in as such; else it is the entry of a bundle.
pub(super) struct Code {
    pub(super) text: Arc<str>,
    pub(super) is_source: bool,
}

/// The code of a version: the source that was handed in, else the entry of its bundle.
/// `None` if that is no text, or larger than anybody wants to read.
pub(super) async fn code_of(app: &App, version: &store::Version) -> Result<Option<Code>, Failure> {
    let (id, number, codes) = (&version.function, version.number, &app.deploys.codes);
    let now = Instant::now();
    let code = |text, is_source| Some(Code { text, is_source });
    if let Some(text) = codes.get(id, number, now) {
        return Ok(code(text, true));
    }
    let source = app.store.code(id, number).await;
    if let Some(source) = source.map_err(|error| store_failure(&error))? {
        let text: Arc<str> = source.into();
        codes.put(id, number, &text, now);
        return Ok(code(text, true));
    }
    let entry = Path::new(&version.entry);
    let mut parts = entry.components();
    if !parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Ok(None);
    }
    let path = app.deploys.bundles.place(id, number).dir.join(entry);
    let fail = |error: std::io::Error| {
        let message = format!("cannot read {}: {error}", path.display());
        Failure::new(ErrorType::Internal, message)
    };
    let size = tokio::fs::metadata(&path).await.map_err(fail)?.len();
    if size > app.limits.event.0 {
        return Ok(None);
    }
    let bytes = tokio::fs::read(&path).await.map_err(fail)?;
    let text = String::from_utf8(bytes).ok();
    Ok(text.and_then(|text| code(text.into(), false)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::{ByteSize, TimeSpan};

    use super::*;

    fn id(name: &str) -> FunctionId {
        format!("shop/{name}").parse().unwrap()
    }

    #[test]
    fn code_stays_for_its_time_and_within_its_size() {
        let limits = Limits {
            code_cache: ByteSize(10),
            code_cache_age: TimeSpan::seconds(600),
            ..Limits::default()
        };
        let cache = CodeCache::new(Arc::new(limits));
        let (a, b, one) = (id("a"), id("b"), VersionNumber(1));
        let text: Arc<str> = "12345678".into();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        cache.put(&a, one, &text, start);
        cache.put(&b, one, &text, start);
        assert_eq!(cache.size(), (1, 8));
        assert_eq!(cache.get(&a, one, after(599)), Some(text.clone()));
        assert_eq!(cache.get(&b, one, start), None);
        assert_eq!(cache.get(&a, VersionNumber(2), start), None);
        assert_eq!(cache.get(&a, one, after(600)), None);
        cache.sweep(after(599));
        assert_eq!(cache.size(), (1, 8));
        cache.sweep(after(600));
        assert_eq!(cache.size(), (0, 0));
        cache.put(&b, one, &text, start);
        cache.forget(&b);
        assert_eq!(cache.size(), (0, 0));
    }
}
