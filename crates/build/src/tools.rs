//! The programs that builds may run, and how they are to be built.

use std::{fmt, path::PathBuf, sync::Arc};

/// Hears one line when a build does something that takes long.
type Heard = dyn Fn(&str) + Send + Sync;

/// The programs that builds may run.
#[derive(Clone)]
pub struct Tools {
    /// Bun: a path, or a name that is looked up on `PATH`.
    pub bun: PathBuf,
    /// Python, likewise.
    pub python: PathBuf,
    /// Whether large bundles for Bun are minified and compiled to bytecode: they start sooner, and take longer to build.
    pub is_ahead: bool,
    /// Whether source maps say where on this machine the sources lie, as debuggers want to know. Such a bundle has a digest
    /// of its own.
    pub is_for_debuggers: bool,
    /// Whether Bun's macros run, which are code of the function's that runs while it is built. Only on the machine of
    /// whoever wrote them.
    pub has_macros: bool,
    /// Who is told what takes long, such as the installing of packages.
    pub heard: Option<Arc<Heard>>,
}

impl Default for Tools {
    fn default() -> Tools {
        Tools {
            bun: "bun".into(),
            python: "python3".into(),
            is_ahead: false,
            is_for_debuggers: false,
            has_macros: true,
            heard: None,
        }
    }
}

impl fmt::Debug for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tools")
            .field("bun", &self.bun)
            .field("python", &self.python)
            .finish_non_exhaustive()
    }
}

impl Tools {
    pub(crate) fn say(&self, line: &str) {
        if let Some(heard) = &self.heard {
            heard(line);
        }
    }
}
