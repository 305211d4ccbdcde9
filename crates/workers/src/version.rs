//! What a pool runs: one version of one function, and where its bundle lies.

use std::path::PathBuf;

use model::{FunctionId, Kind, Runtime, Settings, VersionNumber};

/// One immutable version, ready to be started.
#[derive(Debug, Clone)]
pub struct Version {
    /// The function.
    pub function: FunctionId,
    /// Its ordinal.
    pub number: VersionNumber,
    /// The shape of its handler.
    pub kind: Kind,
    /// The module to load, a path inside `dir`.
    pub entry: String,
    /// Settings with defaults filled in.
    pub settings: Settings,
    /// The unpacked bundle.
    pub dir: PathBuf,
    /// A folder that its workers see as `/opt`: its layers, one laid over the other.
    pub opt: Option<PathBuf>,
    /// Where the isolate's compiled image is cached; outside `dir`, so that no bundle can bring its own.
    pub image: PathBuf,
}

impl Version {
    /// Whether the entry is there: in the bundle or, for a program, in a layer.
    pub fn has_entry(&self) -> bool {
        self.program_here().is_file()
    }

    /// Where the entry lies for its workers.
    pub(crate) fn program(&self) -> PathBuf {
        match self.layered() {
            Some(_) => PathBuf::from("/opt").join(&self.entry),
            None => self.dir.join(&self.entry),
        }
    }

    /// Where the entry lies for us.
    pub(crate) fn program_here(&self) -> PathBuf {
        self.layered().unwrap_or_else(|| self.dir.join(&self.entry))
    }

    /// A program that is not in the bundle and comes with a layer.
    fn layered(&self) -> Option<PathBuf> {
        let program = self.opt.as_ref()?.join(&self.entry);
        let is_meant = self.settings.runtime == Runtime::Provided
            && !self.dir.join(&self.entry).is_file()
            && program.is_file();
        is_meant.then_some(program)
    }
}
