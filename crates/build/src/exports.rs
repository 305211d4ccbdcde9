//! What a module exports, found by reading it: ES modules and the common forms of CommonJS.
//! Runs nothing. What it cannot know it says, instead of guessing.

use std::collections::BTreeSet;

use model::Name;
use oxc_allocator::Allocator;
use oxc_ast::ast::{ExportDefaultDeclarationKind, ImportOrExportKind, Program, Statement};
use tokio::task;

use crate::{
    error::BuildError,
    project::Project,
    resolve::{Folder, Resolved, is_relative},
    source::{Reading, Source},
};
use locals::{Locals, for_each_name, locals_of, value_of, value_of_local};

mod commonjs;
mod locals;

/// Most files whose exports are read for one entry; far more than people pass exports through.
const FILES_MAX: usize = 256;

/// What a module exports.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Exports {
    /// How it says so.
    pub(crate) format: Format,
    /// Its default export; of CommonJS, `module.exports` itself where that is a handler.
    pub(crate) default: Option<Value>,
    /// Its other exports.
    pub(crate) names: BTreeSet<String>,
    /// Whether there may be more than what was found.
    pub(crate) open: bool,
}

/// The two kinds of modules.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Neither imports nor exports.
    #[default]
    Neither,
    /// `import` and `export`.
    Esm,
    /// `module.exports` and `exports`.
    CommonJs,
}

/// What is known about an exported value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    /// A function, or an object with `fetch`.
    Handler,
    /// The result of a call, say.
    Unknown,
    /// Certainly no handler: what it is, with its article.
    Unfit(&'static str),
}

/// An export that comes from another module.
enum Link {
    /// `export * from`.
    Star(String),
    /// `export { imported as exported } from`.
    Name {
        from: String,
        imported: String,
        exported: String,
    },
    /// `module.exports = require(…)`.
    Whole(String),
}

/// Whether the module of JavaScript or TypeScript that a function starts with exports `wanted`.
///
/// # Errors
/// The module cannot be read.
pub async fn has_export(
    project: &Project,
    function: &Name,
    wanted: &str,
) -> Result<bool, BuildError> {
    let entry = project.entry(function)?;
    let folder = Folder::new(&project.dir)
        .map_err(|error| BuildError::io(format!("cannot open {}", project.dir.display()), error))?;
    let read = task::spawn_blocking(move || of_file(&folder, &entry)).await;
    let exports = read.map_err(|error| BuildError::io("the reading stopped", error))??;
    Ok(exports.names.contains(wanted))
}

/// The exports of a file, re-exports from files of the folder included.
/// Fails if the file itself cannot be read; a file it re-exports from that cannot is left to the bundler.
pub(crate) fn of_file(folder: &Folder, path: &str) -> Result<Exports, BuildError> {
    of_new_file(folder, path, &mut BTreeSet::new())
}

/// `seen` holds the files whose exports are already on their way up: modules may pass on each other's exports.
fn of_new_file(
    folder: &Folder,
    path: &str,
    seen: &mut BTreeSet<String>,
) -> Result<Exports, BuildError> {
    if seen.len() >= FILES_MAX || !seen.insert(path.into()) {
        return Ok(Exports::default());
    }
    let source = Source::read(folder, path)?;
    let allocator = Allocator::default();
    let program = source.parse(&allocator, Reading::AsWritten)?;
    let (mut exports, links) = of_program(&program);
    for link in links {
        let (Link::Star(from) | Link::Whole(from) | Link::Name { from, .. }) = &link;
        let there = match folder.resolve(path, from) {
            Resolved::File(file) if is_relative(from) => of_new_file(folder, &file, seen).ok(),
            Resolved::File(_) | Resolved::Outside | Resolved::Missing => None,
        };
        exports.add(link, there);
    }
    Ok(exports)
}

/// How a module says what it exports.
pub(crate) fn format_of(program: &Program<'_>) -> Format {
    of_program(program).0.format
}

/// Whether a module uses the forms of CommonJS and none of ES modules.
pub(crate) fn is_commonjs(program: &Program<'_>) -> bool {
    of_program(program).0.format == Format::CommonJs
}

impl Exports {
    /// Adds what a link brings, `there` being the other module's exports if they could be found.
    fn add(&mut self, link: Link, there: Option<Exports>) {
        match (link, there) {
            (Link::Star(_), Some(there)) => {
                self.names.extend(there.names);
                self.open |= there.open;
            }
            (Link::Whole(_), Some(there)) => {
                self.names.extend(there.names);
                self.default = self.default.or(there.default);
                self.open |= there.open;
            }
            (Link::Star(_) | Link::Whole(_), None) => self.open = true,
            (
                Link::Name {
                    imported, exported, ..
                },
                there,
            ) => {
                let value = match &there {
                    Some(there) if imported == "default" => there.default,
                    Some(_) | None => Some(Value::Unknown),
                };
                self.export(&exported, value.unwrap_or(Value::Unknown));
            }
        }
    }

    fn export(&mut self, name: &str, value: Value) {
        if name == "default" {
            self.default = Some(value);
        } else if name != "__esModule" {
            self.names.insert(name.into());
        }
    }
}

/// What one module exports by itself, and what it passes on.
fn of_program(program: &Program<'_>) -> (Exports, Vec<Link>) {
    let locals = locals_of(program);
    let mut exports = Exports::default();
    let mut links = Vec::new();
    let mut imports = false;
    for statement in &program.body {
        let before = (exports.names.len(), exports.default, links.len());
        add_statement(statement, &locals, &mut exports, &mut links);
        let is_export = before != (exports.names.len(), exports.default, links.len());
        if is_export {
            exports.format = Format::Esm;
        }
        imports |= matches!(statement, Statement::ImportDeclaration(_));
    }
    if exports.format == Format::Neither {
        let (commonjs, more) = commonjs::of_program(program, &locals);
        links.extend(more);
        exports = commonjs;
    }
    if exports.format == Format::Neither && imports {
        exports.format = Format::Esm;
    }
    (exports, links)
}

fn add_statement<'a>(
    statement: &Statement<'a>,
    locals: &Locals<'_, 'a>,
    exports: &mut Exports,
    links: &mut Vec<Link>,
) {
    match statement {
        Statement::ExportDeclaration(it) => {
            for_each_name(&it.declaration, |name, local| {
                exports.export(name, value_of_local(local, locals, 0));
            });
        }
        Statement::ExportDefaultDeclaration(it) => {
            let value = match &it.declaration {
                ExportDefaultDeclarationKind::FunctionDeclaration(_) => Value::Handler,
                ExportDefaultDeclarationKind::ClassDeclaration(_) => Value::Unfit("a class"),
                ExportDefaultDeclarationKind::TSInterfaceDeclaration(_) => return,
                other => other
                    .as_expression()
                    .map_or(Value::Unknown, |value| value_of(value, locals, 0)),
            };
            exports.export("default", value);
        }
        Statement::ExportNamedDeclaration(it) if it.export_kind == ImportOrExportKind::Value => {
            for item in &it.specifiers {
                if item.export_kind == ImportOrExportKind::Value {
                    let local = locals.get(item.local.name().as_str());
                    let value =
                        local.map_or(Value::Unknown, |local| value_of_local(*local, locals, 0));
                    exports.export(&item.exported.name(), value);
                }
            }
        }
        Statement::ExportFromDeclaration(it) if it.export_kind == ImportOrExportKind::Value => {
            let values = it.specifiers.iter();
            let values = values.filter(|item| item.export_kind == ImportOrExportKind::Value);
            links.extend(values.map(|item| Link::Name {
                from: it.source.value.to_string(),
                imported: item.local.name().to_string(),
                exported: item.exported.name().to_string(),
            }));
        }
        Statement::ExportAllDeclaration(it) if it.export_kind == ImportOrExportKind::Value => {
            match &it.exported {
                Some(name) => exports.export(&name.name(), Value::Unknown),
                None => links.push(Link::Star(it.source.value.to_string())),
            }
        }
        _ => {}
    }
}
