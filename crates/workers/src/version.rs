//! What a pool runs: one version of one function, and where its bundle lies.

use std::path::PathBuf;

use model::{FunctionId, Kind, Settings, VersionNumber};

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
