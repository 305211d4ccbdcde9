//! Bundles for the isolate: the entry and everything it imports by relative path, as plain ES modules.
//! TypeScript is stripped, specifiers are rewritten, and each module gets a source map. Packages are refused.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use oxc_allocator::Allocator;
use oxc_ast::ast::{
    CallExpression, ExportAllDeclaration, ExportFromDeclaration, Expression, ImportDeclaration,
    ImportExpression, Program, StringLiteral,
};
use oxc_ast_visit::{VisitMut, walk_mut};
use oxc_codegen::{Codegen, CodegenOptions};
use oxc_semantic::{Scoping, SemanticBuilder};
use oxc_transformer::{TransformOptions, Transformer};

use crate::{
    error::{BuildError, Place},
    exports,
    resolve::{Folder, Resolved, is_relative, specifier},
    source::{Reading, Source},
};

/// A bundle that has not been written yet.
pub(crate) struct Modules {
    /// The entry's path in the bundle.
    pub(crate) entry: String,
    /// Each file's content, by its path in the bundle.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// The source files that were read, relative to the folder.
    pub(crate) inputs: Vec<String>,
    /// What works, but perhaps not as meant.
    pub(crate) warnings: Vec<String>,
}

/// Reads the entry and follows its imports.
pub(crate) fn bundle(folder: &Folder, entry: &str) -> Result<Modules, BuildError> {
    let mut walk = Walk {
        folder,
        names: HashMap::new(),
        taken: BTreeSet::new(),
        waiting: VecDeque::new(),
        warnings: Vec::new(),
    };
    let entry = walk.name_of(entry);
    let mut files = BTreeMap::new();
    let mut inputs = Vec::new();
    while let Some(path) = walk.waiting.pop_front() {
        let source = Source::read(folder, &path)?;
        let name = walk.name_of(&path);
        if path.ends_with(".json") {
            files.insert(name, json(&source)?.into_bytes());
        } else {
            let written = walk.module(&source, &name)?;
            files.insert(format!("{name}.map"), written.map.into_bytes());
            files.insert(name, written.code.into_bytes());
        }
        inputs.push(path);
    }
    Ok(Modules {
        entry,
        files,
        inputs,
        warnings: walk.warnings,
    })
}

/// Turns TypeScript and JSX into JavaScript; the names that are left are those of the answer.
pub(crate) fn strip<'a>(
    source: &Source,
    program: &mut Program<'a>,
    allocator: &'a Allocator,
) -> Result<Scoping, BuildError> {
    let semantic = SemanticBuilder::new_compiler()
        .with_enum_eval(true)
        .build(program);
    source.refuse(&semantic.diagnostics.errors().collect::<Vec<_>>())?;
    let scoping = semantic.semantic.into_scoping();
    let options = TransformOptions::default();
    let transformed = Transformer::new(allocator, source.path.as_ref(), &options)
        .build_with_scoping(scoping, program);
    source.refuse(&transformed.diagnostics.errors().collect::<Vec<_>>())?;
    Ok(transformed.scoping)
}

/// Prints a module, with a map that names the source by its path from the bundle's root, as stacks shall show it.
pub(crate) fn print(source: &Source, program: &Program<'_>) -> Written {
    let options = CodegenOptions {
        source_map_path: Some(source.path.clone().into()),
        ..CodegenOptions::default()
    };
    let printed = Codegen::new().with_options(options).build(program);
    Written {
        code: printed.code,
        map: printed
            .map
            .map(|map| map.to_json_string())
            .unwrap_or_default(),
    }
}

/// A JSON file as a module. Parsed at run time, so that keys such as `__proto__` stay what they are.
pub(crate) fn json(source: &Source) -> Result<String, BuildError> {
    let text = source.text.trim_start_matches('\u{feff}');
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let place = Place {
            file: source.shown.clone(),
            line: number(error.line()),
            column: Some(number(error.column())),
        };
        BuildError::new(Some(place), format!("this is no JSON: {error}"))
    })?;
    let literal = serde_json::Value::from(text).to_string();
    Ok(format!("export default JSON.parse({literal});\n"))
}

/// The modules found so far.
struct Walk<'f> {
    folder: &'f Folder,
    /// Paths in the bundle by paths in the folder.
    names: HashMap<String, String>,
    taken: BTreeSet<String>,
    /// Paths in the folder that have not been read yet.
    waiting: VecDeque<String>,
    warnings: Vec<String>,
}

/// A module as it goes into the bundle.
pub(crate) struct Written {
    pub(crate) code: String,
    pub(crate) map: String,
}

impl Walk<'_> {
    /// The name in the bundle of a file of the folder, which is put on the list at its first mention.
    fn name_of(&mut self, path: &str) -> String {
        if let Some(name) = self.names.get(path) {
            return name.clone();
        }
        let stem = path.rsplit_once('.').map_or(path, |(stem, _)| stem);
        let mut name = format!("{stem}.js");
        // `a.ts` beside `a.js`, and JSON, keep their ending.
        while path.ends_with(".json") && name == format!("{stem}.js") || self.taken.contains(&name)
        {
            name = if name == format!("{stem}.js") {
                format!("{path}.js")
            } else {
                format!("{name}.js")
            };
        }
        self.taken.insert(name.clone());
        self.names.insert(path.into(), name.clone());
        self.waiting.push_back(path.into());
        name
    }

    /// Parses, strips, rewrites and prints one module.
    fn module(&mut self, source: &Source, name: &str) -> Result<Written, BuildError> {
        let allocator = Allocator::default();
        let mut program = source.parse(&allocator, Reading::Module)?;
        if exports::is_commonjs(&program) {
            let error = BuildError::new(
                source.whole(),
                "this is a CommonJS module, and the isolate loads ES modules only",
            );
            return Err(error.hint(
                "write `export` instead of `module.exports`, or choose `runtime = \"bun\"`",
            ));
        }
        let scoping = strip(source, &mut program, &allocator)?;
        let mut imports = Imports {
            walk: self,
            source,
            name,
            allocator: &allocator,
            scoping: &scoping,
            errors: Vec::new(),
        };
        imports.visit_program(&mut program);
        first_of(imports.errors)?;
        Ok(print(source, &program))
    }
}

/// The first error, the others as its lines.
pub(crate) fn first_of(errors: Vec<BuildError>) -> Result<(), BuildError> {
    let mut errors = errors.into_iter();
    match errors.next() {
        Some(mut first) => {
            first.also = errors.map(|error| error.to_string()).collect();
            Err(first)
        }
        None => Ok(()),
    }
}

/// Rewrites the specifiers of one module.
struct Imports<'w, 'f, 'a> {
    walk: &'w mut Walk<'f>,
    source: &'w Source,
    /// The module's own name in the bundle.
    name: &'w str,
    allocator: &'a Allocator,
    scoping: &'w Scoping,
    errors: Vec<BuildError>,
}

impl<'a> Imports<'_, '_, 'a> {
    /// Points a specifier at a module of the bundle; whether it now is a module made of JSON.
    fn rewrite(&mut self, literal: &mut StringLiteral<'a>) -> bool {
        let written = literal.value.as_str();
        let found = match is_relative(written) {
            true => self.walk.folder.resolve(&self.source.path, written),
            false => Resolved::Missing,
        };
        match found {
            Resolved::File(path) => {
                let name = self.walk.name_of(&path);
                let specifier = specifier(self.name, &name);
                literal.value = self.allocator.alloc_str(&specifier).into();
                literal.raw = None;
                path.ends_with(".json")
            }
            Resolved::Outside => {
                let message = format!(
                    "`{written}` lies outside the folder, and a bundle holds only what is inside"
                );
                self.errors
                    .push(BuildError::new(self.place(literal), message));
                false
            }
            Resolved::Missing => {
                let error = BuildError::new(
                    self.place(literal),
                    format!("Module not found: '{written}'"),
                );
                self.errors.push(match is_relative(written) {
                    true => error,
                    false => error.hint("the isolate loads relative imports only: bundle it into the entry, or choose `runtime = \"bun\"`"),
                });
                false
            }
        }
    }

    fn place(&self, literal: &StringLiteral<'a>) -> Option<Place> {
        self.source.place(literal.span.start)
    }
}

impl<'a> VisitMut<'a> for Imports<'_, '_, 'a> {
    fn visit_import_declaration(&mut self, it: &mut ImportDeclaration<'a>) {
        if self.rewrite(&mut it.source) {
            it.with_clause = None;
        }
    }

    fn visit_export_all_declaration(&mut self, it: &mut ExportAllDeclaration<'a>) {
        if self.rewrite(&mut it.source) {
            it.with_clause = None;
        }
    }

    fn visit_export_from_declaration(&mut self, it: &mut ExportFromDeclaration<'a>) {
        if self.rewrite(&mut it.source) {
            it.with_clause = None;
        }
    }

    fn visit_import_expression(&mut self, it: &mut ImportExpression<'a>) {
        if let Expression::StringLiteral(literal) = &mut it.source {
            if self.rewrite(literal) {
                it.options = None;
            }
            return;
        }
        if let Some(place) = self.source.place(it.span.start) {
            let warning = format!(
                "{place}: `import()` of a computed name is not followed, and finds only modules that are imported elsewhere"
            );
            self.walk.warnings.push(warning);
        }
        walk_mut::walk_import_expression(self, it);
    }

    fn visit_call_expression(&mut self, it: &mut CallExpression<'a>) {
        if let Expression::Identifier(callee) = &it.callee
            && callee.name == "require"
            && let Some(argument) = it.arguments.first()
            && let Some(Expression::StringLiteral(wanted)) = argument.as_expression()
        {
            let reference = callee.reference_id.get();
            let is_own =
                reference.is_some_and(|id| self.scoping.get_reference(id).symbol_id().is_some());
            if !is_own {
                let message = format!(
                    "`require(\"{}\")` in a module for the isolate, which loads ES modules only",
                    wanted.value
                );
                let error = BuildError::new(self.source.place(it.span.start), message);
                self.errors
                    .push(error.hint("write `import`, or choose `runtime = \"bun\"`"));
            }
        }
        walk_mut::walk_call_expression(self, it);
    }
}
