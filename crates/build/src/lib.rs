//! Folder → functions → bundles: reads `bungee.toml`, finds entries and kinds, and makes what a deployment uploads.
//! Used by deploy and by dev. Runs no user code except the user's own `build` command, and knows neither server nor workers.

mod archive;
mod bun;
mod bundle;
mod child;
mod config;
mod error;
mod exports;
mod files;
mod kind;
mod maps;
mod modules;
mod node;
mod project;
mod provided;
mod python;
mod resolve;
mod source;
mod tools;
mod whole;

pub use archive::{
    UnpackError, pack, unpack,
    zipped::{pack_zip, unpack_zip},
};
pub use bundle::{Built, build};
pub use error::{BuildError, ConfigError, Place};
pub use exports::has_export;
pub use files::{FilesError, manifest_of};
pub use project::Project;
pub use tools::Tools;
