//! Bundles for Node, made without any other program: the entry and every file of the folder that it leads to, TypeScript
//! stripped, as modules of their own, and the packages they name, copied as they are. Node links them at run time.
//! Nothing is put into one file: native add-ons, `require` of computed names and breakpoints work as they do at home.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    fs,
    path::Path,
};

use oxc_allocator::Allocator;
use oxc_ast::ast::Program;

use crate::{
    error::BuildError,
    exports::{self, Format},
    modules::{Modules, first_of, json, print, strip},
    resolve::{Folder, Resolved},
    source::{Reading, Source},
};
use imports::Imports;
use packages::Packages;
use resolver::Resolvers;

mod imports;
mod packages;
mod resolver;

/// How a module asks for another.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Ask {
    /// `import`, `export … from` and `import()`.
    Import,
    /// `require()`.
    Require,
}

/// What a file becomes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Shape {
    /// An ES module.
    Esm,
    /// A CommonJS module.
    CommonJs,
    /// An ES module that exports what a JSON file holds.
    Json,
    /// The same bytes: JSON that is required, native add-ons.
    Copy,
}

/// Reads the entry and follows what it imports and requires.
pub(crate) fn bundle(folder: &Folder, entry: &str) -> Result<(Modules, Packages), BuildError> {
    let mut walk = Walk {
        folder,
        resolvers: Resolvers::new(),
        packages: Packages::default(),
        names: HashMap::new(),
        taken: BTreeSet::new(),
        waiting: VecDeque::new(),
        warnings: Vec::new(),
    };
    let entry = walk.name_of(entry, Ask::Import)?;
    let mut files = BTreeMap::new();
    let mut inputs = BTreeSet::new();
    while let Some((path, shape, name)) = walk.waiting.pop_front() {
        match shape {
            Shape::Copy => {
                let bytes = fs::read(folder.real().join(&path)).map_err(|error| {
                    BuildError::io(format!("cannot read {}", folder.shown(&path)), error)
                })?;
                files.insert(name, bytes);
            }
            Shape::Json => {
                let source = Source::read(folder, &path)?;
                files.insert(name, json(&source)?.into_bytes());
            }
            Shape::Esm | Shape::CommonJs => {
                let source = Source::read(folder, &path)?;
                let (mut code, map) = walk.module(&source, shape, &name)?;
                let file = name.rsplit('/').next().unwrap_or(&name);
                code.push_str(&format!("//# sourceMappingURL={file}.map\n"));
                files.insert(format!("{name}.map"), map.into_bytes());
                files.insert(name, code.into_bytes());
            }
        }
        inputs.insert(path);
    }
    let modules = Modules {
        entry,
        files,
        inputs: inputs.into_iter().collect(),
        warnings: walk.warnings,
    };
    Ok((modules, walk.packages))
}

/// The modules and packages found so far.
struct Walk<'f> {
    folder: &'f Folder,
    resolvers: Resolvers,
    packages: Packages,
    /// Paths in the bundle by paths in the folder and what becomes of them.
    names: HashMap<(String, Shape), String>,
    taken: BTreeSet<String>,
    /// Files that have not been read yet, and their names in the bundle.
    waiting: VecDeque<(String, Shape, String)>,
    warnings: Vec<String>,
}

impl Walk<'_> {
    /// The name in the bundle of a file of the folder, which is put on the list at its first mention.
    /// The ending says what the module is, so no `package.json` is asked.
    fn name_of(&mut self, path: &str, ask: Ask) -> Result<String, BuildError> {
        let shape = self.shape_of(path, ask)?;
        let key = (path.to_owned(), shape);
        if let Some(name) = self.names.get(&key) {
            return Ok(name.clone());
        }
        let stem = path.rsplit_once('.').map_or(path, |(stem, _)| stem);
        let (stem, ending) = match shape {
            Shape::Esm => (stem, ".mjs"),
            Shape::CommonJs => (stem, ".cjs"),
            Shape::Json => (path, ".mjs"),
            Shape::Copy => (path, ""),
        };
        let mut name = format!("{stem}{ending}");
        // `a.ts` beside `a.js`: the second keeps its ending.
        if self.taken.contains(&name) {
            name = format!("{path}{ending}");
        }
        self.taken.insert(name.clone());
        self.names.insert(key, name.clone());
        self.waiting.push_back((path.into(), shape, name.clone()));
        Ok(name)
    }

    fn shape_of(&self, path: &str, ask: Ask) -> Result<Shape, BuildError> {
        let ending = path.rsplit_once('.').map_or("", |(_, ending)| ending);
        Ok(match (ending, ask) {
            ("json", Ask::Import) => Shape::Json,
            ("json", Ask::Require) | ("node", _) => Shape::Copy,
            _ => {
                let source = Source::read(self.folder, path)?;
                let allocator = Allocator::default();
                let program = source.parse(&allocator, Reading::AsWritten)?;
                match is_commonjs(path, &program) {
                    true => Shape::CommonJs,
                    false => Shape::Esm,
                }
            }
        })
    }

    /// Parses, strips, points imports at the bundle and prints: the code and its map.
    fn module(
        &mut self,
        source: &Source,
        shape: Shape,
        name: &str,
    ) -> Result<(String, String), BuildError> {
        let allocator = Allocator::default();
        let reading = match shape {
            Shape::CommonJs => Reading::AsWritten,
            Shape::Esm | Shape::Json | Shape::Copy => Reading::Module,
        };
        let mut program = source.parse(&allocator, reading)?;
        let scoping = strip(source, &mut program, &allocator)?;
        let mut imports = Imports::new(self, source, name, &allocator, &scoping);
        imports.follow(&mut program);
        first_of(imports.errors)?;
        let written = print(source, &program);
        Ok((written.code, written.map))
    }

    /// Where a file of the file system lies in the folder.
    fn inside(&self, file: &Path) -> Resolved {
        self.folder.inside(file)
    }
}

/// Whether Node is to load this file as CommonJS: it says so, or it uses no form of ES modules.
fn is_commonjs(path: &str, program: &Program<'_>) -> bool {
    if path.ends_with(".cjs") || path.ends_with(".cts") {
        return true;
    }
    match exports::format_of(program) {
        Format::CommonJs => true,
        Format::Esm => false,
        Format::Neither => !program.source_type.is_module(),
    }
}
