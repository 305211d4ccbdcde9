//! One source file: read, checked to be text of a known language, and parsed.
//! Turns what the parser finds into `FILE:LINE:COLUMN: message` with a frame around it.

use std::{fs, io};

use model::ErrorType;
use oxc_allocator::Allocator;
use oxc_ast::ast::Program;
use oxc_diagnostics::{NamedSource, OxcDiagnostic};
use oxc_parser::Parser;
use oxc_span::SourceType;

use crate::{
    error::{BuildError, Place, utf8},
    resolve::Folder,
};

/// Largest source file that is read. Far beyond what people write, small enough to parse in memory.
const SOURCE_MAX: u64 = 32 << 20;

/// A source file of the folder.
pub(crate) struct Source {
    /// Its path in the folder, `/` between parts.
    pub(crate) path: String,
    /// The path as it is shown in errors.
    pub(crate) shown: String,
    /// What stands in it.
    pub(crate) text: String,
}

/// How a file is to be understood.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// As an ES module, whatever stands in it.
    Module,
    /// As what its name and its content say.
    AsWritten,
}

impl Source {
    /// Reads a file of the folder. A file that is no UTF-8 text is an `InitError`.
    pub(crate) fn read(folder: &Folder, path: &str) -> Result<Source, BuildError> {
        let shown = folder.shown(path);
        let file = folder.real().join(path);
        let fail = |error: io::Error| BuildError::io(format!("cannot read {shown}"), error);
        if fs::metadata(&file).map_err(fail)?.len() > SOURCE_MAX {
            let message = format!(
                "{shown} is larger than {} MiB, the limit of a source file",
                SOURCE_MAX >> 20
            );
            return Err(BuildError {
                error_type: ErrorType::PayloadTooLarge,
                ..BuildError::new(None, message)
            });
        }
        let text = utf8(&shown, fs::read(&file).map_err(fail)?).map_err(|place| {
            BuildError::new(Some(place), "this is no module: it is not UTF-8 text")
        })?;
        Ok(Source {
            path: path.into(),
            shown,
            text,
        })
    }

    /// Line and column of a byte of the text.
    pub(crate) fn place(&self, offset: u32) -> Option<Place> {
        Some(Place::of(&self.shown, &self.text, offset as usize))
    }

    /// The file as a whole.
    pub(crate) fn whole(&self) -> Option<Place> {
        Some(Place::line_of(&self.shown, &self.text, 0))
    }

    /// Parses the file. Anything the language forbids is an `InitError` with a frame.
    pub(crate) fn parse<'a>(
        &'a self,
        allocator: &'a Allocator,
        reading: Reading,
    ) -> Result<Program<'a>, BuildError> {
        let Ok(by_name) = SourceType::from_path(&self.path) else {
            let message = format!(
                "`{}` is no module: its name does not end with .ts, .js, .mts, .mjs, .tsx or .jsx",
                self.path
            );
            return Err(BuildError::new(self.whole(), message));
        };
        if by_name.is_typescript_definition() {
            return Err(BuildError::new(
                self.whole(),
                "a declaration file holds no code to run",
            ));
        }
        let source_type = match reading {
            Reading::Module => by_name.with_module(true),
            Reading::AsWritten if by_name.is_commonjs() => by_name,
            Reading::AsWritten if self.path.ends_with(".mts") || self.path.ends_with(".mjs") => {
                by_name
            }
            Reading::AsWritten => by_name.with_unambiguous(true),
        };
        let parsed = Parser::new(allocator, &self.text, source_type).parse();
        let errors: Vec<&OxcDiagnostic> = parsed.diagnostics.errors().collect();
        self.refuse(&errors)?;
        Ok(parsed.program)
    }

    /// The first of the errors with its frame, the others as lines; nothing if there is none.
    pub(crate) fn refuse(&self, errors: &[&OxcDiagnostic]) -> Result<(), BuildError> {
        let Some((first, others)) = errors.split_first() else {
            return Ok(());
        };
        let place = |error: &OxcDiagnostic| {
            let at = error.labels.first().map_or(0, |label| label.offset());
            self.place(at)
        };
        let source = NamedSource::new(&self.shown, self.text.as_str());
        let mut error = BuildError::new(place(first), first.message.to_string())
            .frame((*first).clone().render_with_source_code(source).trim_end());
        error.hint = first.help.as_ref().map(ToString::to_string);
        error.also = others
            .iter()
            .map(|other| BuildError::new(place(other), other.message.to_string()).to_string())
            .collect();
        Err(error)
    }
}
