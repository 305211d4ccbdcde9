//! Modules in every form that people write, and the kind they have.

use std::fs;

use super::*;
use crate::{exports, resolve::Folder};

/// What the folder's first file is, or what it is told, with the hint behind ` | `.
fn kind_with(patch: SettingsPatch, files: &[(&str, &str)]) -> String {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        fs::write(dir.path().join(path), text).unwrap();
    }
    let folder = Folder::new(dir.path()).unwrap();
    let answer = exports::of_file(&folder, files[0].0).and_then(|exports| {
        let function: Name = "hello".parse().unwrap();
        let place = |file: &str, line| {
            Some(Place {
                file: file.into(),
                line,
                column: None,
            })
        };
        decide(&Question {
            function: &function,
            patch: &patch,
            exports: &exports,
            entry: place(files[0].0, 1),
            handler: place("bungee.toml", 4),
        })
    });
    match answer {
        Ok(kind) => kind.to_string(),
        Err(error) => {
            let hint = error
                .hint
                .as_ref()
                .map(|hint| format!(" | {hint}"))
                .unwrap_or_default();
            format!("{error}{hint}").replace(&format!("{}/", dir.path().display()), "")
        }
    }
}

fn kind(text: &str) -> String {
    kind_with(SettingsPatch::default(), &[("x.ts", text)])
}

#[test]
fn a_default_export_is_web() {
    for text in [
        "export default (req: Request): Response => new Response()",
        "export default async function () {}",
        "const app = { fetch() {} } satisfies object; export default app",
        "export default { port: 1, fetch: app.fetch }",
        "const app = new Hono(); export default app",
        "function f() {} export { f as default }",
        "import app from 'somewhere'; export default app; export const other = 1; export type handler = 1",
        "module.exports = async () => {}",
        "function f() {} module.exports = f",
        "module.exports = exports = () => {}",
        "module.exports = { fetch() {} }",
        "exports.default = () => {}; exports.__esModule = true",
        "const f = () => {}; export = f",
    ] {
        assert_eq!(kind(text), "web", "{text}");
    }
}

#[test]
fn handler_alone_is_event() {
    for text in [
        "export const handler = async (event: unknown) => event",
        "export async function handler() {}",
        "const run = () => {}; export { run as handler }",
        "export const { handler, other } = make()",
        "exports.handler = async () => {}",
        "exports['handler'] = async () => {}",
        "module.exports.handler = async () => {}",
        "const handler = () => {}; module.exports = { handler, helper: 1 }",
        "const all = { handler() {} }; module.exports = all",
        "'use strict'; Object.defineProperty(exports, '__esModule', { value: true }); exports.handler = void 0; exports.handler = () => {}",
        "var all = {}; __export(all, { handler: () => handler }); module.exports = __toCommonJS(all); 0 && (module.exports = { handler })",
    ] {
        assert_eq!(kind(text), "event", "{text}");
    }
}

#[test]
fn a_module_that_could_be_both_is_asked_for_the_line() {
    let told = kind("export default () => {}; export const handler = () => {}");
    assert_eq!(
        told,
        "x.ts:1: cannot tell whether this is a web or an event handler: the module exports both a default and `handler` | \
         under `[functions.hello]` in bungee.toml add `kind = \"web\"` for the default export, or `kind = \"event\"` and `handler = \"handler\"` for the event handler"
    );
    for text in [
        "export * from 'somewhere'",
        "module.exports = make()",
        "module.exports = { ...all }",
        "fill(exports)",
    ] {
        assert!(
            kind(text).contains("found out by running it"),
            "{text}: {}",
            kind(text)
        );
    }
}

#[test]
fn a_module_without_a_handler_says_what_it_exports() {
    for (text, why) in [
        ("const a = 1", "it exports nothing"),
        (
            "export const run = 1; export function b() {}",
            "it exports `b`, `run`",
        ),
        ("export default class {}", "its default export is a class"),
        (
            "export default { a: 1 }",
            "its default export is an object without `fetch`",
        ),
        ("export default 'x'", "its default export is text"),
        (
            "export interface handler {}; export type { a } from './a'",
            "it exports nothing",
        ),
        ("exports.run = () => {}", "it exports `run`"),
    ] {
        let told = kind(text);
        assert!(
            told.starts_with(&format!(
                "x.ts:1: the module exports no handler: {why} | `export default`"
            )),
            "{told}"
        );
    }
}

#[test]
fn settings_win_and_are_checked() {
    let with = |handler: Option<&str>, kind: Option<Kind>| SettingsPatch {
        handler: handler.map(Into::into),
        kind,
        ..SettingsPatch::default()
    };
    let both =
        "export default () => {}; export const handler = () => {}; export const run = () => {}";
    let ask = |patch| kind_with(patch, &[("x.ts", both)]);
    assert_eq!(ask(with(None, Some(Kind::Event))), "event");
    assert_eq!(ask(with(None, Some(Kind::Web))), "web");
    assert_eq!(ask(with(Some("handler"), None)), "event");
    assert_eq!(ask(with(Some("run"), None)), "event");
    assert_eq!(ask(with(Some("run"), Some(Kind::Web))), "web");
    assert_eq!(ask(with(Some("default"), None)), "web");
    assert_eq!(
        ask(with(Some("hander"), None)),
        "bungee.toml:4: `handler` is `hander`, which x.ts does not export; it exports `default`, `handler`, `run` | did you mean `handler`?"
    );
    let told = kind_with(
        with(None, Some(Kind::Web)),
        &[("x.ts", "export const a = 1")],
    );
    assert!(
        told.contains("exports no handler: it exports `a`"),
        "{told}"
    );
    assert_eq!(
        kind_with(
            with(None, Some(Kind::Web)),
            &[("x.ts", "module.exports = make()")]
        ),
        "web"
    );
}

#[test]
fn re_exports_of_the_folder_are_followed() {
    let ask = |text, other| {
        kind_with(
            SettingsPatch::default(),
            &[("x.ts", text), ("other.ts", other)],
        )
    };
    let web = "export default () => {}";
    let event = "export const handler = () => {}";
    assert_eq!(ask("export { default } from './other'", web), "web");
    assert_eq!(ask("export * from './other.js'", event), "event");
    assert_eq!(ask("export { handler } from './other'", event), "event");
    assert_eq!(
        ask("export { handler as default } from './other'", event),
        "web"
    );
    assert_eq!(
        ask(
            "module.exports = require('./other')",
            "exports.handler = () => {}"
        ),
        "event"
    );
    assert_eq!(
        ask(
            "__exportStar(require('./other'), exports)",
            "exports.handler = () => {}"
        ),
        "event"
    );
    assert!(
        ask(
            "export { default } from './other'",
            "export default class {}"
        )
        .contains("is a class")
    );
    assert!(ask("export * from './other'", "export * from './x'").contains("it exports nothing"));
    assert!(ask("export * from './other'", "export * from 'somewhere'").contains("cannot tell"));
}

#[test]
fn what_is_no_module_says_so() {
    assert!(
        kind("export default (").starts_with("x.ts:1:"),
        "{}",
        kind("export default (")
    );
    let ask = |path| kind_with(SettingsPatch::default(), &[(path, "{}")]);
    assert!(ask("x.json").starts_with("x.json:1: `x.json` is no module"));
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x.ts"), b"let a;\n\xff\xfe").unwrap();
    let told = exports::of_file(&Folder::new(dir.path()).unwrap(), "x.ts")
        .unwrap_err()
        .to_string();
    assert!(
        told.ends_with("x.ts:2: this is no module: it is not UTF-8 text"),
        "{told}"
    );
}
