//! Builds for Bun, by the real `bun`.

use super::*;

#[tokio::test]
async fn a_package_is_bundled_and_stacks_point_at_the_source() {
    let world = world(&[
        ("bungee.toml", &on_bun("src/hello.ts")),
        (
            "src/hello.ts",
            "import { shout } from 'loud';\nimport { boom } from './boom';\ninterface A {\n  x: number\n}\n\
             export default (a: A): string => (a.x > 0 ? `${boom()}` : shout('hi'));\n",
        ),
        (
            "src/boom.ts",
            "type Never = never;\n\n\nexport function boom(): Never {\n  throw new Error('boom');\n}\n",
        ),
        (
            "node_modules/loud/package.json",
            r#"{"name":"loud","version":"1.0.0","main":"main.js"}"#,
        ),
        (
            "node_modules/loud/main.js",
            "exports.shout = (text) => text.toUpperCase() + process.env.NODE_ENV;\n",
        ),
        ("package.json", r#"{"dependencies":{"loud":"1.0.0"}}"#),
    ]);
    let done = world.build().await;
    assert_eq!(
        (done.built.entry.as_str(), done.built.kind),
        ("index.js", Kind::Web)
    );
    assert_eq!(done.paths(), ["index.js", "index.js.map"]);
    assert_eq!(
        world.relative(&done.built),
        ["bungee.toml", "package.json", "src/boom.ts", "src/hello.ts"]
    );
    // The bundle stands alone: packages and sources are gone by now.
    drop(world);
    assert_eq!(
        done.run("console.log(loaded.default({ x: 0 }))"),
        "HIproduction"
    );
    let stack =
        done.run("try { loaded.default({ x: 1 }) } catch (error) { console.log(error.stack) }");
    assert!(
        stack.contains("src/boom.ts:5:") && stack.contains("src/hello.ts:6:"),
        "{stack}"
    );
}

#[tokio::test]
async fn commonjs_entries_keep_their_handler() {
    for (text, kind) in [
        ("module.exports = async (event) => event + 1;\n", Kind::Web),
        (
            "exports.handler = async (event) => event + 1;\n",
            Kind::Event,
        ),
        (
            "const path = require('node:path');\nmodule.exports = { handler: async (event) => event + path.sep.length };\n",
            Kind::Event,
        ),
        (
            "module.exports = { fetch: async (event) => event + this.one, one: 1 }; module.exports.fetch = async function (event) { return event + this.one };\n",
            Kind::Web,
        ),
        (
            "Object.defineProperty(exports, '__esModule', { value: true });\nexports.default = async (event) => event + 1;\n",
            Kind::Web,
        ),
    ] {
        let done = world(&[("bungee.toml", &on_bun("hello.js")), ("hello.js", text)])
            .build()
            .await;
        assert_eq!(done.built.kind, kind, "{text}");
        let found = "const found = loaded.default ?? loaded.handler; console.log(await (found.fetch ? found.fetch(1) : found(1)))";
        assert_eq!(done.run(found), "2", "{text}");
    }
    let toml = format!("{}handler = 'run'\n", on_bun("hello.cjs"));
    let done = world(&[
        ("bungee.toml", &toml),
        (
            "hello.cjs",
            "exports.run = () => 7; exports.other = () => 8;\n",
        ),
    ])
    .build()
    .await;
    assert_eq!(done.built.kind, Kind::Event);
    assert_eq!(done.run("console.log(loaded.run())"), "7");
    let stack = world(&[
        ("bungee.toml", &on_bun("src/x.js")),
        (
            "src/x.js",
            "\n\nmodule.exports = () => {\n  throw new Error('boom');\n};\n",
        ),
    ])
    .build()
    .await
    .run("try { loaded.default() } catch (error) { console.log(error.stack) }");
    assert!(stack.contains("src/x.js:4:"), "{stack}");
}

#[tokio::test]
async fn event_handlers_and_env_are_kept() {
    let toml = format!("{}env = {{ NODE_ENV = 'staging' }}\n", on_bun("hello.ts"));
    let text = "export const handler = async (event: unknown) => process.env.NODE_ENV;\n";
    let done = world(&[("bungee.toml", &toml), ("hello.ts", text)])
        .build()
        .await;
    assert_eq!(done.built.kind, Kind::Event);
    assert_eq!(done.run("console.log(await loaded.handler())"), "staging");
}

#[tokio::test]
async fn errors_of_bun_have_file_and_line() {
    let world = world(&[
        ("bungee.toml", &on_bun("src/hello.ts")),
        (
            "src/hello.ts",
            "import z from 'zod';\nimport { no } from './gone';\nexport default () => z(no);\n",
        ),
        (
            "src/other.ts",
            "import b from './gone';\nexport const yes = b;\n",
        ),
    ]);
    let told = world.refused().await;
    assert!(
        told.starts_with(
            "src/hello.ts:1:15: Module not found: 'zod' | run `npm install zod` in the folder"
        ),
        "{told}"
    );
    assert!(
        told.ends_with("\nsrc/hello.ts:2:20: Could not resolve: \"./gone\""),
        "{told}"
    );
    assert!(world.error().await.frame.unwrap().contains("import z from"));
    world.write("package.json", r#"{"dependencies":{"zod":"4"}}"#);
    let told = world.refused().await;
    assert!(
        told.contains(
            "package.json names it, but it is not installed: run `npm install` in the folder"
        ),
        "{told}"
    );
    world.write(
        "src/hello.ts",
        "export default () => {\n  const a = ;\n};\n",
    );
    let told = world.refused().await;
    assert!(told.starts_with("src/hello.ts:2:13: "), "{told}");
    world.write(
        "src/hello.ts",
        "import './other';\nexport default () => {};\n",
    );
    world.write(
        "src/other.ts",
        "export const a = 1;\nexport const b = = 2;\n",
    );
    let told = world.refused().await;
    assert!(told.starts_with("src/other.ts:2:"), "{told}");
}

#[tokio::test]
async fn without_bun_the_error_names_the_command_that_installs_it() {
    let world = world(&[
        ("bungee.toml", &on_bun("hello.ts")),
        ("hello.ts", "export default () => {};\n"),
    ]);
    let tools = Tools {
        bun: "/nowhere/bun".into(),
        ..Tools::default()
    };
    let error = world.try_build(&tools).await.1.unwrap_err();
    assert_eq!(
        error.to_string(),
        "this function runs on Bun, and there is no `bun` on PATH"
    );
    assert_eq!(
        error.hint.as_deref(),
        Some("`npm install -g bun` installs it")
    );
}

/// A module of more than 64 KiB that ends in `tail`.
fn large(tail: &str) -> World {
    let filling: String = (0..2000)
        .map(|n| format!("export const filling{n} = () => 'filling number {n}';\n"))
        .collect();
    world(&[
        ("bungee.toml", &on_bun("src/hello.ts")),
        ("src/filling.ts", &filling),
        (
            "src/hello.ts",
            &format!("import * as filling from './filling';\nglobalThis.kept = filling;\n{tail}"),
        ),
    ])
}

async fn ahead(world: &World) -> Done {
    let tools = Tools {
        is_ahead: true,
        ..Tools::default()
    };
    let (out, built) = world.try_build(&tools).await;
    Done {
        out,
        built: built.unwrap(),
    }
}

#[tokio::test]
async fn a_large_bundle_is_compiled_ahead_and_stays_what_it_was() {
    let throws = "export const late = () => require('./filling');\nexport default (word: string): string => {\n  if (word) return word;\n  throw new TypeError('boom');\n};\n";
    let world = large(throws);
    let done = ahead(&world).await;
    assert_eq!(done.paths(), ["index.js", "index.js.jsc", "index.js.map"]);
    assert_eq!(
        done.built.manifest.digest(),
        ahead(&large(throws)).await.built.manifest.digest(),
        "the same sources elsewhere give the same bundle"
    );
    assert_eq!(world.build().await.paths(), ["index.js", "index.js.map"]);
    drop(world);
    assert_eq!(done.run("console.log(loaded.default('hi'))"), "hi");
    let stack = done.run("try { loaded.default() } catch (error) { console.log(error.stack) }");
    assert!(
        stack.contains("TypeError: boom") && stack.contains("src/hello.ts:6:"),
        "{stack}"
    );
}

#[tokio::test]
async fn what_commonjs_cannot_say_is_not_compiled() {
    for tail in [
        "export default await Promise.resolve(() => 'hi');\n",
        "export default () => import.meta.dir;\n",
    ] {
        let done = ahead(&large(tail)).await;
        assert_eq!(done.paths(), ["index.js", "index.js.map"], "{tail}");
        done.run("console.log(loaded.default())");
    }
    let small = world(&[
        ("bungee.toml", &on_bun("hello.ts")),
        ("hello.ts", "export default () => 'hi';\n"),
    ]);
    assert_eq!(ahead(&small).await.paths(), ["index.js", "index.js.map"]);
}
