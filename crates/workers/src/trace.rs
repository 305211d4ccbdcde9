//! Stack traces that point at the sources that were written: `src/hello.js:4:11` becomes `src/hello.ts:7:3`.

use std::{collections::HashMap, fs, path::Path};

use model::HandlerFault;
use sourcemap::SourceMap;

/// Largest source map that is read.
const MAP_MAX: u64 = 32 << 20;

/// Rewrites the places in a fault's stack by the source maps that lie beside the bundle's modules in `dir`.
/// A place without a map stays as it is. Reads files; faults are off the hot path.
pub fn remap(mut fault: HandlerFault, dir: &Path) -> HandlerFault {
    if fault.reported.is_some() {
        // A client of the Runtime API names its own sources.
        return fault;
    }
    let Some(stack) = fault.stack.take().filter(|stack| !stack.is_empty()) else {
        return fault;
    };
    let mut maps = HashMap::new();
    let lines: Vec<String> = stack
        .lines()
        .map(|line| remap_line(line, dir, &mut maps))
        .collect();
    fault.stack = Some(lines.join("\n"));
    fault
}

/// The first place that a stack names, as `FILE:LINE`.
pub fn first_place(stack: &str) -> Option<String> {
    let place = stack.lines().find_map(Place::find)?;
    Some(format!("{}:{}", place.module, place.line))
}

fn remap_line(line: &str, dir: &Path, maps: &mut HashMap<String, Option<SourceMap>>) -> String {
    let Some(place) = Place::find(line) else {
        return line.into();
    };
    let module = place
        .module
        .strip_prefix(&format!("{}/", dir.display()))
        .unwrap_or(place.module);
    let map = maps
        .entry(module.to_owned())
        .or_insert_with(|| read_map(module, dir));
    let token = map
        .as_ref()
        .and_then(|map| map.lookup_token(place.line - 1, place.column.saturating_sub(1)));
    // A map for debuggers says where the sources lie; stacks name them by their path in the folder.
    let root = map.as_ref().and_then(|map| map.get_source_root());
    let found = token.and_then(|token| {
        let source = token.get_source()?;
        let inside = root.and_then(|root| source.strip_prefix(root));
        Some((
            inside.map_or(source, |inside| inside.trim_start_matches('/')),
            token.get_src_line(),
            token.get_src_col(),
        ))
    });
    let (before, after) = (&line[..place.start], &line[place.end..]);
    match found {
        Some((source, line, column)) => {
            format!("{before}{source}:{}:{}{after}", line + 1, column + 1)
        }
        None => format!("{before}{module}:{}:{}{after}", place.line, place.column),
    }
}

fn read_map(module: &str, dir: &Path) -> Option<SourceMap> {
    if module.split('/').any(|part| part == "..") || module.starts_with('/') {
        return None;
    }
    let path = dir.join(format!("{module}.map"));
    if fs::metadata(&path).ok()?.len() > MAP_MAX {
        return None;
    }
    SourceMap::from_slice(&fs::read(path).ok()?).ok()
}

/// A place in a stack line: `MODULE:LINE:COLUMN` or `MODULE:LINE`, in parentheses or at the end.
struct Place<'a> {
    module: &'a str,
    line: u32,
    column: u32,
    start: usize,
    end: usize,
}

impl<'a> Place<'a> {
    fn find(line: &'a str) -> Option<Place<'a>> {
        let end = if line.ends_with(')') {
            line.len() - 1
        } else {
            line.len()
        };
        let start = line[..end].rfind(['(', ' ']).map_or(0, |at| at + 1);
        let mut parts = line[start..end].rsplitn(3, ':');
        let (last, middle, first) = (parts.next()?, parts.next()?, parts.next());
        let (module, line, column) = match (first, middle.parse::<u32>(), last.parse::<u32>()) {
            (Some(module), Ok(line), Ok(column)) => (module, line, column),
            (None, Err(_), Ok(line)) => (middle, line, 1),
            _ => return None,
        };
        (line > 0 && !module.is_empty()).then_some(Place {
            module,
            line,
            column,
            start,
            end,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_in_parentheses_and_at_the_end() {
        let place = Place::find("    at greet (src/hello.js:4:11)").unwrap();
        assert_eq!(
            (place.module, place.line, place.column),
            ("src/hello.js", 4, 11)
        );
        let place = Place::find("    at src/hello.js:4").unwrap();
        assert_eq!(
            (place.module, place.line, place.column),
            ("src/hello.js", 4, 1)
        );
        assert!(Place::find("TypeError: x is not a function").is_none());
    }
}
