//! Names, papers and promises: what a reader of the repository meets before any code.

use std::{collections::BTreeSet, fs};

use regex::Regex;

use super::source::{Finding, every_path, every_rust, every_text, line_of, root};
use super::{none, product_below};
use crate::schema::Description;

/// Names that say nothing about what they hold.
const BANNED: [&str; 12] = [
    "common", "util", "utils", "helper", "helpers", "shared", "misc", "types", "manager",
    "managers", "mod", "imp",
];

#[test]
fn nothing_has_a_name_that_says_nothing() {
    let stem = |path: &str| {
        path.rsplit('/')
            .next()
            .unwrap_or(path)
            .split('.')
            .next()
            .unwrap_or("")
            .to_owned()
    };
    let mut findings: Vec<Finding> = every_path()
        .into_iter()
        .filter(|path| BANNED.contains(&stem(path).as_str()))
        .collect();
    let module = Regex::new(r"\bmod\s+(\w+)").expect("a valid pattern");
    for file in every_rust() {
        let code = file.code();
        let named = module
            .captures_iter(&code)
            .filter(|found| BANNED.contains(&&found[1]));
        findings.extend(named.map(|found| {
            file.at(
                line_of(&code, found.get(0).map_or(0, |m| m.start())),
                &found[0],
            )
        }));
    }
    none("find the noun", findings);
}

#[test]
fn nothing_is_left_to_be_done_in_a_comment() {
    let marks =
        Regex::new(r#"\b(TODO|FIXME|XXX)\b|^description = "todo""#).expect("a valid pattern");
    let findings = every_text()
        .iter()
        .filter(|file| !file.path.ends_with(".lock") && file.path != "tests/tidy/paper.rs")
        .flat_map(|file| {
            let lines = file
                .text
                .lines()
                .enumerate()
                .filter(|(_, line)| marks.is_match(line));
            lines
                .map(|(index, line)| file.at(index + 1, line))
                .collect::<Vec<_>>()
        })
        .collect();
    none("do it, or open an issue", findings);
}

#[test]
fn no_file_names_a_machine_or_a_registry() {
    let machines = r"(^|[\s\x22'=(`])/(root|work|home/\w+|Users/\w+)/";
    let registries =
        r"\b(registry\.npmjs\.org|(index|static)\.crates\.io|pypi\.org|proxy\.golang\.org)\b";
    let pattern = Regex::new(&format!("{machines}|{registries}")).expect("a valid pattern");
    let findings = every_text()
        .iter()
        .filter(|file| file.path != "tests/tidy/paper.rs")
        .flat_map(|file| {
            // Ann is nobody: examples and tests may live in her home.
            let lines = file.text.lines().enumerate();
            let found =
                lines.filter(|(_, line)| pattern.is_match(&line.replace("/home/ann/", "~/")));
            found
                .map(|(index, line)| file.at(index + 1, line))
                .collect::<Vec<_>>()
        })
        .collect();
    none("the repository works anywhere", findings);
}

#[test]
fn every_library_says_why_it_is_here() {
    let manifest =
        fs::read_to_string(root().join("Cargo.toml")).expect("the workspace has a manifest");
    let declared = manifest
        .split("[workspace.dependencies]")
        .nth(1)
        .expect("a table of dependencies");
    let declared = declared.split("\n[").next().unwrap_or(declared);
    let mut reason_above = false;
    let mut findings = Vec::new();
    for line in declared.lines() {
        // A family pinned together shares the reason of its first line; our own rooms need none.
        let family = line.starts_with("oxc_") || line.contains("path = \"crates/");
        if line.contains(" = ") && !line.contains(" # ") && !family && !reason_above {
            findings.push(line.to_owned());
        }
        reason_above = line.starts_with("# why: ");
    }
    none("one line, one reason", findings);
}

#[test]
fn openapi_json_names_every_route_of_the_router_and_no_other() {
    let routers = ["crates/server/src/api.rs", "crates/server/src/service.rs"]
        .map(|path| fs::read_to_string(root().join(path)).expect("the router is there"));
    let path = Regex::new(r#"^\s*(&below\()?(?:"([^"]*)"|function\b)"#).expect("a valid pattern");
    let method = Regex::new(r"\b(get|put|post|delete|head|patch)\(").expect("a valid pattern");
    let function = "/v1/projects/{project}/functions/{function}";
    let mut routed = BTreeSet::new();
    let routes = routers
        .iter()
        .flat_map(|router| router.split(".route(").skip(1));
    for route in routes {
        let found = path
            .captures(route)
            .unwrap_or_else(|| panic!("this test does not understand {route}"));
        let is_whole = found.get(1).is_none() && found.get(2).is_some();
        let below = found.get(2).map_or("", |path| path.as_str());
        let path = format!("{}{below}", if is_whole { "" } else { function });
        let route = route.split("fallback(").next().unwrap_or(route);
        for method in method.captures_iter(route) {
            routed.insert(format!("{} {path}", method[1].to_uppercase()));
        }
    }
    let description = Description::read();
    assert_eq!(routed, description.operations());
    let manifest =
        fs::read_to_string(root().join("Cargo.toml")).expect("the workspace has a manifest");
    let version = description.document["info"]["version"]
        .as_str()
        .expect("a version");
    assert!(
        manifest.contains(&format!("version = \"{version}\"")),
        "another release"
    );
}

#[test]
fn every_promise_in_the_coverage_names_a_test_that_exists() {
    let path = "docs/coverage.md";
    let text =
        fs::read_to_string(root().join(path)).unwrap_or_else(|_| panic!("{path} is missing"));
    let tests = names_of_tests();
    let named =
        Regex::new(r"`(?:[\w/.-]+::)*([a-z][a-z0-9_]*_[a-z0-9_]+)`").expect("a valid pattern");
    let mut findings = Vec::new();
    for (index, row) in rows(&text) {
        let proof = row.last().map_or("", |cell| cell.trim());
        let not = proof.to_lowercase();
        let names: Vec<&str> = named
            .captures_iter(proof)
            .filter_map(|found| Some(found.get(1)?.as_str()))
            .collect();
        if names.is_empty() && !not.starts_with("not") && !not.starts_with("later") {
            findings.push(format!(
                "{path}:{index}: name a test in backticks, or begin with \"not\": {proof}"
            ));
        }
        let unknown = names.into_iter().filter(|name| !tests.contains(*name));
        findings.extend(unknown.map(|name| format!("{path}:{index}: no test is called {name}")));
    }
    none("the last column of each row is its proof", findings);
}

#[test]
fn the_configuration_page_names_every_key_and_variable() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("the file is there");
    let page = read("docs/configuration.md");
    let schema = read("crates/build/src/config/schema.rs");
    let (schema, top) = schema.split_once("const TOP").expect("the keys at the top");
    let key = Regex::new(r#"\("(\w+)", (Shape::\w+)"#).expect("a valid pattern");
    let mut table = "";
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    for line in schema.lines() {
        if line.contains("const ") {
            table = match line {
                line if line.contains("WORKERS:") => "workers.",
                line if line.contains("QUEUE:") => "queue.",
                _ => "",
            };
        }
        for found in key.captures_iter(line) {
            wanted.insert(format!("{table}{}", &found[1]));
        }
    }
    let word = Regex::new(r#""(\w+)""#).expect("a valid pattern");
    wanted.extend(word.captures_iter(top).map(|found| found[1].to_owned()));
    let variable = Regex::new(r#"env = "(BUNGEE_\w+)""#).expect("a valid pattern");
    for file in product_below("crates/cli/") {
        wanted.extend(
            variable
                .captures_iter(&file.text)
                .map(|found| found[1].to_owned()),
        );
    }
    assert!(wanted.len() > 25, "this test reads too little: {wanted:?}");
    let missing = wanted
        .into_iter()
        .filter(|word| !page.contains(&format!("`{word}`")));
    none("docs/configuration.md says what it is", missing.collect());
}

/// The rows of every Markdown table, without its head: line number and cells.
fn rows(text: &str) -> Vec<(usize, Vec<&str>)> {
    let mut rows = Vec::new();
    let mut in_body = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if !line.starts_with('|') {
            in_body = false;
        } else if line.chars().all(|c| "|-: ".contains(c)) {
            in_body = true;
        } else if in_body {
            rows.push((index + 1, line.trim_matches('|').split('|').collect()));
        }
    }
    rows
}

/// Every `#[test]`, of whatever kind, by the name of its function.
fn names_of_tests() -> BTreeSet<String> {
    let test =
        Regex::new(r"#\[(?:\w+::)?test[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*(?:async\s+)?fn\s+(\w+)")
            .expect("a valid pattern");
    let mut names = BTreeSet::new();
    for file in every_rust() {
        let code = file.code();
        names.extend(test.captures_iter(&code).map(|found| found[1].to_owned()));
    }
    names
}
