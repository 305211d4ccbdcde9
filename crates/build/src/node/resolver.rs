//! Where an import leads, by Node's own rules and those of TypeScript: endings may be left out, `.js` may stand for `.ts`,
//! `paths` of `tsconfig.json` and `imports` of `package.json` count.

use std::path::{Path, PathBuf};

use oxc_resolver::{ResolveError, ResolveOptions, Resolver, TsconfigDiscovery};

use super::Ask;

/// Where a specifier leads.
pub(super) enum Led {
    /// To this file.
    File(PathBuf),
    /// To a module that Node has built in.
    BuiltIn,
    /// Nowhere; why, if there is more to say than that.
    Nowhere(Option<String>),
}

/// One set of rules for `import` and one for `require`.
pub(super) struct Resolvers {
    import: Resolver,
    require: Resolver,
}

impl Resolvers {
    pub(super) fn new() -> Resolvers {
        let import = Resolver::new(options("import"));
        let require = import.clone_with_options(options("require"));
        Resolvers { import, require }
    }

    /// Where `specifier`, written in `file`, leads.
    pub(super) fn resolve(&self, file: &Path, specifier: &str, ask: Ask) -> Led {
        let resolver = match ask {
            Ask::Import => &self.import,
            Ask::Require => &self.require,
        };
        match resolver.resolve_file(file, specifier) {
            Ok(found) => Led::File(found.into_path_buf()),
            Err(ResolveError::Builtin { .. }) => Led::BuiltIn,
            Err(ResolveError::NotFound(_)) => Led::Nowhere(None),
            Err(error) => Led::Nowhere(Some(error.to_string())),
        }
    }
}

fn options(condition: &str) -> ResolveOptions {
    let stands_for = |written: &str, endings: &[&str]| {
        let endings = endings.iter().map(|ending| (*ending).to_owned());
        (written.to_owned(), endings.collect())
    };
    ResolveOptions {
        tsconfig: Some(TsconfigDiscovery::Auto),
        condition_names: vec!["node".into(), condition.into()],
        extensions: [
            ".ts", ".tsx", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs", ".json", ".node",
        ]
        .map(String::from)
        .to_vec(),
        extension_alias: vec![
            stands_for(".js", &[".js", ".ts", ".tsx"]),
            stands_for(".jsx", &[".jsx", ".tsx"]),
            stands_for(".mjs", &[".mjs", ".mts"]),
            stands_for(".cjs", &[".cjs", ".cts"]),
        ],
        builtin_modules: true,
        node_path: false,
        ..ResolveOptions::default()
    }
}
