//! The imports of one module: those of the folder's files are pointed at their names in the bundle, packages are noted.

use std::path::Path;

use oxc_allocator::Allocator;
use oxc_ast::ast::{
    CallExpression, ExportAllDeclaration, ExportFromDeclaration, Expression, ImportDeclaration,
    ImportExpression, Program, StringLiteral,
};
use oxc_ast_visit::{VisitMut, walk_mut};
use oxc_semantic::Scoping;

use super::{
    Ask, Walk,
    packages::{has_exports, package_of},
    resolver::Led,
};
use crate::{
    error::{BuildError, Place},
    resolve::{Resolved, is_relative, specifier},
    source::Source,
};

/// Rewrites the specifiers of one module.
pub(super) struct Imports<'w, 'f, 'a> {
    walk: &'w mut Walk<'f>,
    source: &'w Source,
    /// The module's own name in the bundle.
    name: &'w str,
    allocator: &'a Allocator,
    scoping: &'w Scoping,
    /// What was found wrong.
    pub(super) errors: Vec<BuildError>,
}

/// Whether the module can do without what it asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// It does not load without it.
    Load,
    /// Only the line that asks for it fails, which may be meant.
    Line,
}

impl<'w, 'f, 'a> Imports<'w, 'f, 'a> {
    pub(super) fn new(
        walk: &'w mut Walk<'f>,
        source: &'w Source,
        name: &'w str,
        allocator: &'a Allocator,
        scoping: &'w Scoping,
    ) -> Imports<'w, 'f, 'a> {
        Imports {
            walk,
            source,
            name,
            allocator,
            scoping,
            errors: Vec::new(),
        }
    }

    /// Goes through the whole module.
    pub(super) fn follow(&mut self, program: &mut Program<'a>) {
        self.visit_program(program);
    }

    /// Points a specifier at a module of the bundle, or notes its package; whether attributes such as `type: "json"`
    /// have to go, because what it leads to is a plain module now.
    fn rewrite(&mut self, literal: &mut StringLiteral<'a>, ask: Ask, need: Need) -> bool {
        let written = literal.value.as_str();
        let from = self.walk.folder.real().join(&self.source.path);
        let file = match self.walk.resolvers.resolve(&from, written, ask) {
            Led::BuiltIn => return false,
            Led::File(file) => file,
            Led::Nowhere(why) => {
                self.missing(literal, need, why);
                return false;
            }
        };
        let is_package = file
            .components()
            .any(|part| part.as_os_str() == "node_modules");
        match self.walk.inside(&file) {
            Resolved::File(path) if !is_package => match self.walk.name_of(&path, ask) {
                Ok(name) => {
                    let specifier = specifier(self.name, &name);
                    literal.value = self.allocator.alloc_str(&specifier).into();
                    literal.raw = None;
                    path.ends_with(".json") && ask == Ask::Import
                }
                Err(error) => {
                    self.errors.push(error);
                    false
                }
            },
            Resolved::File(_) | Resolved::Outside | Resolved::Missing => {
                self.package(literal, &from, &file, ask);
                false
            }
        }
    }

    /// Notes the package that `file` belongs to, and names the file as Node wants it named.
    fn package(&mut self, literal: &mut StringLiteral<'a>, from: &Path, file: &Path, ask: Ask) {
        let written = literal.value.as_str();
        let found = match is_relative(written) {
            true => None,
            false => package_of(written, from),
        };
        let Some((name, folder)) = found else {
            let message = format!(
                "`{written}` lies outside the folder, and a bundle holds only what is inside"
            );
            self.errors
                .push(BuildError::new(self.place(literal), message));
            return;
        };
        let is_typescript = file.extension().is_some_and(|ending| {
            ["ts", "tsx", "mts", "cts"]
                .iter()
                .any(|known| ending == *known)
        });
        if is_typescript {
            let message =
                format!("`{written}` is a package written in TypeScript, which Node does not load");
            self.errors.push(
                BuildError::new(self.place(literal), message)
                    .hint("build the package to JavaScript first, or choose `runtime = \"bun\"`"),
            );
            return;
        }
        // `import "lodash/fp"`: Node wants the ending, where a package does not say itself what it exports.
        if ask == Ask::Import
            && written.len() > name.len()
            && !has_exports(&folder)
            && let Ok(path) = file.strip_prefix(&folder)
        {
            let specifier = format!("{name}/{}", path.display());
            literal.value = self.allocator.alloc_str(&specifier).into();
            literal.raw = None;
        }
        self.walk.packages.need(&name, folder);
    }

    /// What leads nowhere is an error where the module cannot load without it, else a warning.
    fn missing(&mut self, literal: &StringLiteral<'a>, need: Need, why: Option<String>) {
        let written = literal.value.as_str();
        let place = self.place(literal);
        let is_own = is_relative(written);
        if need == Need::Line && !is_own {
            let place = place.map(|place| format!("{place}: ")).unwrap_or_default();
            self.walk.warnings.push(format!(
                "{place}`{written}` is not installed; this line will fail when it runs"
            ));
            return;
        }
        let mut error = BuildError::new(place, format!("Module not found: '{written}'"));
        error = match (why, is_own) {
            (Some(why), _) => error.hint(why),
            (None, false) => error.hint(format!(
                "`npm install {}` in the project's folder brings it",
                super::packages::name_in(written)
            )),
            (None, true) => error,
        };
        self.errors.push(error);
    }

    fn place(&self, literal: &StringLiteral<'a>) -> Option<Place> {
        self.source.place(literal.span.start)
    }

    /// Whether a callee is `require` or `require.resolve`, Node's own or one made by `createRequire`.
    fn is_require(&self, callee: &Expression<'a>) -> bool {
        match callee {
            Expression::Identifier(name) => {
                let symbol = name
                    .reference_id
                    .get()
                    .and_then(|id| self.scoping.get_reference(id).symbol_id());
                // A `require` of the module's own at its top level comes from `createRequire`; a parameter may be anything.
                name.name == "require"
                    && symbol.is_none_or(|symbol| {
                        self.scoping.symbol_scope_id(symbol) == self.scoping.root_scope_id()
                    })
            }
            Expression::StaticMemberExpression(member) => {
                member.property.name == "resolve" && self.is_require(&member.object)
            }
            _ => false,
        }
    }
}

impl<'a> VisitMut<'a> for Imports<'_, '_, 'a> {
    fn visit_import_declaration(&mut self, it: &mut ImportDeclaration<'a>) {
        if self.rewrite(&mut it.source, Ask::Import, Need::Load) {
            it.with_clause = None;
        }
    }

    fn visit_export_all_declaration(&mut self, it: &mut ExportAllDeclaration<'a>) {
        if self.rewrite(&mut it.source, Ask::Import, Need::Load) {
            it.with_clause = None;
        }
    }

    fn visit_export_from_declaration(&mut self, it: &mut ExportFromDeclaration<'a>) {
        if self.rewrite(&mut it.source, Ask::Import, Need::Load) {
            it.with_clause = None;
        }
    }

    fn visit_import_expression(&mut self, it: &mut ImportExpression<'a>) {
        if let Expression::StringLiteral(literal) = &mut it.source {
            if self.rewrite(literal, Ask::Import, Need::Line) {
                it.options = None;
            }
            return;
        }
        if let Some(place) = self.source.place(it.span.start) {
            self.walk.warnings.push(format!(
                "{place}: `import()` of a computed name is not followed, and finds only modules that are imported elsewhere"
            ));
        }
        walk_mut::walk_import_expression(self, it);
    }

    fn visit_call_expression(&mut self, it: &mut CallExpression<'a>) {
        if self.is_require(&it.callee)
            && let Some(argument) = it.arguments.first_mut()
            && let Some(Expression::StringLiteral(wanted)) = argument.as_expression_mut()
        {
            self.rewrite(wanted, Ask::Require, Need::Line);
        }
        walk_mut::walk_call_expression(self, it);
    }
}
