//! The files of the repository as text, and Rust text taken apart just far enough to search it honestly.
//! Not a parser: it knows comments, literals, braces and `#[cfg(test)]`, nothing else.

use std::{
    fs,
    path::{Path, PathBuf},
};

use regex::Regex;

/// One text file of the repository.
pub struct Source {
    /// From the root of the repository, with `/`.
    pub path: String,
    /// As it stands on disk.
    pub text: String,
}

/// Where a check found what it forbids: `path:line: what`.
pub type Finding = String;

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the repository")
        .to_path_buf()
}

/// Every folder and file, as paths from the root; what is built, installed or measured is left out.
pub fn every_path() -> Vec<String> {
    const NOT_OURS: [&str; 6] = [
        ".git",
        "node_modules",
        ".bungee",
        "dist",
        "results",
        "__pycache__",
    ];
    let (root, mut found, mut open) = (root(), Vec::new(), vec![root()]);
    while let Some(folder) = open.pop() {
        let entries = fs::read_dir(&folder).expect("a folder of the repository can be read");
        for entry in entries.map(|entry| entry.expect("a folder can be listed")) {
            let path = entry.path();
            // Cargo marks its target folder, whatever it is called.
            let built = path.join("CACHEDIR.TAG").exists();
            if built || NOT_OURS.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            let relative = path.strip_prefix(&root).expect("found below the root");
            found.push(relative.to_string_lossy().replace('\\', "/"));
            if entry.file_type().expect("an entry has a type").is_dir() {
                open.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Every file that is text.
pub fn every_text() -> Vec<Source> {
    let root = root();
    every_path()
        .into_iter()
        .filter_map(|path| {
            let text = fs::read_to_string(root.join(&path)).ok()?;
            Some(Source { path, text })
        })
        .collect()
}

/// Every Rust file, the tests too.
pub fn every_rust() -> Vec<Source> {
    let mut files = every_text();
    files.retain(|file| file.path.ends_with(".rs"));
    files
}

/// The Rust that ends in the product: no test files, and `#[cfg(test)]` items blanked.
pub fn product_rust() -> Vec<Source> {
    let files = every_rust();
    let test_files: Vec<String> = files.iter().flat_map(Source::test_modules).collect();
    files
        .into_iter()
        .filter(|file| file.path.starts_with("crates/"))
        .filter(|file| !file.path.split('/').any(|part| part == "tests"))
        .filter(|file| !file.path.ends_with("/tests.rs") && !test_files.contains(&file.path))
        .map(|file| Source {
            text: without_tests(&file.text),
            path: file.path,
        })
        .collect()
}

impl Source {
    /// The crate folder that the file lies in, or the first part of its path.
    pub fn room(&self) -> &str {
        let inner = self.path.strip_prefix("crates/").unwrap_or(&self.path);
        inner.split('/').next().unwrap_or(inner)
    }

    /// Code only: comments and the insides of literals are blanked, lines keep their numbers.
    pub fn code(&self) -> String {
        split(&self.text).code
    }

    /// The string literals, each with the line it begins on.
    pub fn strings(&self) -> Vec<(usize, String)> {
        split(&self.text).strings
    }

    /// Each place where `pattern` matches the code.
    pub fn find_in_code(&self, pattern: &Regex) -> Vec<Finding> {
        let code = self.code();
        pattern
            .find_iter(&code)
            .map(|found| self.at(line_of(&code, found.start()), found.as_str()))
            .collect()
    }

    /// A finding in this file.
    pub fn at(&self, line: usize, what: &str) -> Finding {
        format!("{}:{line}: {}", self.path, what.trim())
    }

    /// Every function with the line it begins on and how many lines it has.
    pub fn functions(&self) -> Vec<(usize, String, usize)> {
        let code = self.code();
        let head = Regex::new(r"\bfn\s+(\w+)").expect("a valid pattern");
        head.captures_iter(&code)
            .filter_map(|found| {
                let start = found.get(0).expect("the whole match").start();
                let end = end_of_item(&code, start)?;
                let length = code[start..end].matches('\n').count() + 1;
                Some((line_of(&code, start), found[1].to_owned(), length))
            })
            .collect()
    }

    /// Files that this one declares as `#[cfg(test)] mod name;`.
    fn test_modules(&self) -> Vec<String> {
        let declared = Regex::new(r"#\[cfg\(test\)\]\s*mod\s+(\w+)\s*;").expect("a valid pattern");
        let stem = self.path.trim_end_matches(".rs");
        let folder = match stem.rsplit_once('/') {
            Some((folder, "lib" | "main")) => folder,
            _ => stem,
        };
        declared
            .captures_iter(&self.text)
            .map(|found| format!("{folder}/{}.rs", &found[1]))
            .collect()
    }
}

/// The line, from 1, that byte `at` stands on.
pub fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The first character behind the brackets that open at `at`, closing ones of calls around it left out.
pub fn after_brackets(code: &str, at: usize) -> Option<char> {
    let mut depth = 0_usize;
    let mut rest = code[at..].chars().filter(|c| !c.is_whitespace());
    for c in rest.by_ref() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    rest.find(|c| *c != ')')
}

/// Blanks every item behind `#[cfg(test)]`.
fn without_tests(text: &str) -> String {
    let code = split(text).code;
    let mut kept = text.as_bytes().to_vec();
    for (start, _) in code.match_indices("#[cfg(test)]") {
        let end = end_of_item(&code, start)
            .or_else(|| Some(start + code[start..].find(';')? + 1))
            .unwrap_or(code.len());
        blank(&mut kept, start, end);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// The end of the item that begins at `start`: its closing brace, or `None` if a semicolon comes first.
fn end_of_item(code: &str, start: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut brackets = 0_usize;
    for (offset, byte) in code[start..].bytes().enumerate() {
        match byte {
            b'(' | b'[' => brackets += 1,
            b')' | b']' => brackets = brackets.saturating_sub(1),
            b';' if depth == 0 && brackets == 0 => return None,
            b'{' => depth += 1,
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(start + offset + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Rust text, taken apart.
struct Split {
    /// The text with comments and the insides of literals blanked; as many bytes, as many lines.
    code: String,
    /// String literals and the line each begins on.
    strings: Vec<(usize, String)>,
}

/// Walks the text once; each step is a comment, a literal, or one byte of code.
fn split(text: &str) -> Split {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut strings = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let (end, inner) = token_at(bytes, at);
        if let Some((from, to)) = inner {
            if bytes[from - 1] == b'"' {
                strings.push((line, text[from..to].to_owned()));
            }
            blank(&mut code, from, to);
        }
        line += bytes[at..end].iter().filter(|byte| **byte == b'\n').count();
        at = end;
    }
    Split {
        code: String::from_utf8_lossy(&code).into_owned(),
        strings,
    }
}

/// The end of what begins at `at`, and the part of it to blank.
fn token_at(bytes: &[u8], at: usize) -> (usize, Option<(usize, usize)>) {
    let rest = &bytes[at..];
    let after_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if rest.starts_with(b"//") {
        let end = at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
        return (end, Some((at + 2, end)));
    }
    if rest.starts_with(b"/*") {
        let end = end_of_block_comment(bytes, at);
        return (end, Some((at + 2, end)));
    }
    if rest[0] == b'"' {
        return quoted(bytes, at, b'"');
    }
    if (rest[0] == b'r' || rest.starts_with(b"br")) && !after_word {
        return raw_string(bytes, at).unwrap_or((at + 1, None));
    }
    if rest[0] == b'\'' {
        // A lifetime has no closing quote one character (or escape) later.
        let escaped = rest.get(1) == Some(&b'\\');
        let width = rest.get(1).map_or(1, |first| utf8_width(*first));
        if escaped || rest.get(1 + width) == Some(&b'\'') {
            return quoted(bytes, at, b'\'');
        }
    }
    (at + 1, None)
}

fn quoted(bytes: &[u8], at: usize, quote: u8) -> (usize, Option<(usize, usize)>) {
    let mut end = at + 1;
    while end < bytes.len() && bytes[end] != quote {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    let end = end.min(bytes.len());
    ((end + 1).min(bytes.len()), Some((at + 1, end)))
}

fn raw_string(bytes: &[u8], at: usize) -> Option<(usize, Option<(usize, usize)>)> {
    let start = at + if bytes[at] == b'b' { 2 } else { 1 };
    let hashes = bytes[start..].iter().take_while(|b| **b == b'#').count();
    if bytes.get(start + hashes) != Some(&b'"') {
        return None;
    }
    let from = start + hashes + 1;
    let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let length = bytes[from..]
        .windows(close.len())
        .position(|window| window == close)?;
    let to = from + length;
    Some((to + close.len(), Some((from, to))))
}

fn end_of_block_comment(bytes: &[u8], at: usize) -> usize {
    let (mut depth, mut end) = (0_usize, at);
    while end < bytes.len() {
        if bytes[end..].starts_with(b"/*") {
            depth += 1;
            end += 2;
        } else if bytes[end..].starts_with(b"*/") {
            depth -= 1;
            end += 2;
            if depth == 0 {
                return end;
            }
        } else {
            end += 1;
        }
    }
    end
}

fn utf8_width(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}

fn blank(bytes: &mut [u8], from: usize, to: usize) {
    for byte in &mut bytes[from..to] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

#[test]
fn comments_and_literals_are_no_code() {
    let file = Source {
        path: "crates/x/src/a.rs".into(),
        text: "let a = \"SELECT \\\" 1\"; // println!\nlet b = '\"'; let c: &'static str = r#\"x \"y\"#; /* é */ z".into(),
    };
    let code = file.code();
    assert!(!code.contains("println") && !code.contains("SELECT") && code.ends_with('z'));
    assert!(code.contains("&'static str"));
    let strings: Vec<String> = file.strings().into_iter().map(|found| found.1).collect();
    assert_eq!(strings, ["SELECT \\\" 1", "x \"y"]);
}

#[test]
fn items_for_tests_are_no_product() {
    let text =
        "fn a() { if x { y } }\n#[cfg(test)]\nmod tests { fn b() { println!() } }\nfn c() {}";
    let kept = without_tests(text);
    assert!(kept.contains("fn a") && kept.contains("fn c") && !kept.contains("fn b"));
    let file = Source {
        path: "a.rs".into(),
        text: text.into(),
    };
    let names: Vec<String> = file.functions().into_iter().map(|found| found.1).collect();
    assert_eq!(names, ["a", "b", "c"]);
}
