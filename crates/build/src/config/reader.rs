//! Walks `bungee.toml` word by word: which keys there are, what may stand behind each, and where each stands.

use std::{collections::BTreeMap, str::FromStr};

use model::{
    Auth, ByteSize, Keep, Kind, Live, Name, RedactRule, Route, Runtime, TimeSpan, nearest,
};
use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::schema::{FUNCTION, Shape, TOP};
use crate::error::{ConfigError, Place};

/// Walks the document and remembers where every key stands.
pub(super) struct Reader<'t> {
    file: &'t str,
    text: &'t str,
    pub(super) places: BTreeMap<String, Place>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(file: &'t str, text: &'t str) -> Reader<'t> {
        Reader {
            file,
            text,
            places: BTreeMap::new(),
        }
    }

    fn at(&self, offset: usize) -> Option<Place> {
        Some(Place::line_of(self.file, self.text, offset))
    }

    fn error(&self, at: usize, message: impl Into<String>) -> ConfigError {
        ConfigError::new(self.at(at), message)
    }

    fn remember(&mut self, full: &str, at: usize) {
        let place = Place::line_of(self.file, self.text, at);
        self.places.insert(full.into(), place);
    }

    /// The top of the file; gives the project's name.
    pub(super) fn top(&mut self, table: &DeTable<'_>) -> Result<Name, ConfigError> {
        let mut project = Name::default_project();
        for (key, value) in in_order(table) {
            let at = key.span().start;
            match key.get_ref().as_ref() {
                "project" => {
                    let name = self.string("project", value)?.parse::<Name>();
                    project =
                        name.map_err(|error| self.error(value.span().start, error.to_string()))?;
                }
                "functions" => self.functions(value)?,
                "local" => return Err(self.error(at, "`[local.*]` arrives later")),
                unknown => return Err(self.unknown(at, unknown, "the file", TOP)),
            }
        }
        Ok(project)
    }

    fn functions(&mut self, value: &Spanned<DeValue<'_>>) -> Result<(), ConfigError> {
        let DeValue::Table(functions) = value.get_ref() else {
            return Err(self.error(
                value.span().start,
                "`functions` must be tables: write `[functions.hello]`",
            ));
        };
        for (key, value) in in_order(functions) {
            let at = key.span().start;
            let name = key.get_ref();
            Name::function(name).map_err(|error| self.error(at, error.to_string()))?;
            let full = format!("functions.{name}");
            self.remember(&full, at);
            let DeValue::Table(table) = value.get_ref() else {
                let known = FUNCTION.iter().find(|(key, _)| *key == name.as_ref());
                let error = self.error(at, format!("`{full}` must be a table: write `[{full}]`"));
                return Err(match known {
                    Some(_) => error.hint(format!(
                        "`{name}` is a setting of a function; put it under `[functions.NAME]`"
                    )),
                    None => error,
                });
            };
            self.table(&full, &full, table, FUNCTION)?;
        }
        Ok(())
    }

    /// Checks the keys of one table. `shown` is the table's name in messages.
    fn table(
        &mut self,
        full: &str,
        shown: &str,
        table: &DeTable<'_>,
        keys: &'static [(&'static str, Shape)],
    ) -> Result<(), ConfigError> {
        for (key, value) in in_order(table) {
            let at = key.span().start;
            let name = key.get_ref().as_ref();
            let Some((_, shape)) = keys.iter().find(|(known, _)| *known == name) else {
                let words = keys.iter().map(|(known, _)| *known);
                return Err(self.unknown(at, name, &format!("`{shown}`"), words));
            };
            self.remember(&format!("{full}.{name}"), at);
            self.value(full, name, value, *shape)?;
        }
        Ok(())
    }

    fn unknown<'w>(
        &self,
        at: usize,
        typed: &str,
        inside: &str,
        words: impl IntoIterator<Item = &'w str> + Clone,
    ) -> ConfigError {
        let error = self.error(at, format!("`{typed}` is no key of {inside}"));
        match nearest(typed, words.clone()) {
            Some(word) => error.hint(format!("did you mean `{word}`?")),
            None => {
                let words: Vec<&str> = words.into_iter().collect();
                error.hint(format!("the keys are: {}", words.join(", ")))
            }
        }
    }

    fn value(
        &mut self,
        full: &str,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        shape: Shape,
    ) -> Result<(), ConfigError> {
        let at = value.span().start;
        match shape {
            Shape::Later => Err(self.error(at, format!("`{key}` arrives later"))),
            Shape::Text => self.string(key, value).map(drop),
            Shape::Kind => {
                self.word::<Kind>(key, value, Kind::ALL.iter().map(|kind| kind.as_str()))
            }
            Shape::Auth => {
                self.word::<Auth>(key, value, Auth::ALL.iter().map(|auth| auth.as_str()))
            }
            Shape::Keep => {
                self.word::<Keep>(key, value, Keep::ALL.iter().map(|keep| keep.as_str()))
            }
            Shape::Live => {
                self.word::<Live>(key, value, Live::ALL.iter().map(|live| live.as_str()))
            }
            Shape::Runtime => {
                self.word::<Runtime>(key, value, Runtime::ALL.iter().map(|word| word.as_str()))
            }
            Shape::Span => self.unit::<TimeSpan>(key, value, "30s"),
            Shape::Size => self.unit::<ByteSize>(key, value, "256MB"),
            Shape::Count => self.count(key, value),
            Shape::Routes => self.list::<Route>(full, key, value, "GET /hello/:name"),
            Shape::Redact => self.list::<RedactRule>(full, key, value, "json:$.card.number"),
            Shape::Env => self.env(full, key, value),
            Shape::Table(keys) => match value.get_ref() {
                DeValue::Table(table) => self.table(&format!("{full}.{key}"), key, table, keys),
                _ => {
                    let example = if key == "workers" {
                        "max = 4"
                    } else {
                        "depth = 100"
                    };
                    Err(self.error(
                        at,
                        format!("`{key}` must be a table, like `{key} = {{ {example} }}`"),
                    ))
                }
            },
        }
    }

    fn string<'v>(
        &self,
        key: &str,
        value: &'v Spanned<DeValue<'_>>,
    ) -> Result<&'v str, ConfigError> {
        match value.get_ref() {
            DeValue::String(text) => Ok(text),
            other => {
                let message = format!("`{key}` must be text in quotes, not {}", name_of(other));
                Err(self.error(value.span().start, message))
            }
        }
    }

    fn word<'w, T: FromStr<Err = String>>(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        words: impl Iterator<Item = &'w str>,
    ) -> Result<(), ConfigError> {
        let typed = self.string(key, value)?;
        let Err(why) = typed.parse::<T>() else {
            return Ok(());
        };
        let error = self.error(value.span().start, format!("`{key}`: {why}"));
        Err(match nearest(typed, words) {
            Some(word) => error.hint(format!("did you mean `{word}`?")),
            None => error,
        })
    }

    fn unit<T: FromStr<Err = model::UnitError>>(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        example: &str,
    ) -> Result<(), ConfigError> {
        let at = value.span().start;
        if let DeValue::Integer(_) | DeValue::Float(_) = value.get_ref() {
            let message =
                format!("`{key}` is a number without a unit; write it like \"{example}\"");
            return Err(self.error(at, message));
        }
        let typed = self.string(key, value)?;
        match typed.parse::<T>() {
            Ok(_) => Ok(()),
            Err(error) => Err(self.error(at, format!("`{key}`: {error}"))),
        }
    }

    fn count(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<(), ConfigError> {
        if let DeValue::Integer(number) = value.get_ref()
            && u32::from_str_radix(number.as_str(), number.radix()).is_ok()
        {
            return Ok(());
        }
        let message = format!("`{key}` must be a whole number from 0 to {}", u32::MAX);
        Err(self.error(value.span().start, message))
    }

    fn list<T: FromStr<Err: std::fmt::Display>>(
        &mut self,
        full: &str,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        example: &str,
    ) -> Result<(), ConfigError> {
        let DeValue::Array(items) = value.get_ref() else {
            let message = format!("`{key}` must be a list, like `{key} = [\"{example}\"]`");
            return Err(self.error(value.span().start, message));
        };
        for (at, value) in items.iter().enumerate() {
            let item = self.string(key, value)?.parse::<T>();
            item.map_err(|error| self.error(value.span().start, error.to_string()))?;
            self.remember(&format!("{full}.{key}.{at}"), value.span().start);
        }
        Ok(())
    }

    fn env(
        &mut self,
        full: &str,
        key: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), ConfigError> {
        let DeValue::Table(table) = value.get_ref() else {
            let message =
                format!("`{key}` must be a table, like `{key} = {{ GREETING = \"hi\" }}`");
            return Err(self.error(value.span().start, message));
        };
        for (name, value) in in_order(table) {
            let name_shown = format!("{key}.{}", name.get_ref());
            self.string(&name_shown, value)?;
            self.remember(&format!("{full}.{name_shown}"), name.span().start);
        }
        Ok(())
    }
}

/// A table's entries in the order in which they stand, so that the first mistake of the file is the one reported.
fn in_order<'t, 'i>(
    table: &'t DeTable<'i>,
) -> Vec<(&'t Spanned<DeString<'i>>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// What a value is, in words.
fn name_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
