//! Whole builds, isolate and Bun, as their users write them. Those of Bun run the real `bun`.

use std::{fmt::Write as _, fs, process};

use super::*;

/// A project with these files.
struct World {
    dir: tempfile::TempDir,
}

fn world(files: &[(&str, &str)]) -> World {
    let world = World {
        dir: tempfile::tempdir().unwrap(),
    };
    for (path, text) in files {
        world.write(path, text);
    }
    world
}

/// The settings of a function on Bun with this entry.
fn on_bun(entry: &str) -> String {
    format!("[functions.hello]\nruntime = 'bun'\nentry = '{entry}'\n")
}

/// A bundle in its folder.
struct Done {
    out: tempfile::TempDir,
    built: Built,
}

impl World {
    fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn project(&self) -> Project {
        Project::load(self.dir.path()).unwrap()
    }

    async fn try_build(&self, tools: &Tools) -> (tempfile::TempDir, Result<Built, BuildError>) {
        let out = tempfile::tempdir().unwrap();
        let name = "hello".parse().unwrap();
        let built = build(&self.project(), &name, out.path(), tools).await;
        (out, built)
    }

    async fn build(&self) -> Done {
        let (out, built) = self.try_build(&Tools::default()).await;
        Done {
            out,
            built: built.unwrap(),
        }
    }

    async fn error(&self) -> BuildError {
        self.try_build(&Tools::default()).await.1.unwrap_err()
    }

    /// The error as people read it: message, hint, further errors; without the folder's own path.
    async fn refused(&self) -> String {
        let error = self.error().await;
        let mut text = error.to_string();
        if let Some(hint) = &error.hint {
            write!(text, " | {hint}").unwrap();
        }
        for also in &error.also {
            write!(text, "\n{also}").unwrap();
        }
        text.replace(&format!("{}/", self.dir.path().display()), "")
    }

    /// The inputs, relative to the folder.
    fn relative(&self, built: &Built) -> Vec<String> {
        let folder = self.dir.path().canonicalize().unwrap();
        let paths = built.inputs.iter();
        paths
            .map(|path| path.strip_prefix(&folder).unwrap().display().to_string())
            .collect()
    }
}

impl Done {
    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.out.path().join(path)).unwrap()
    }

    fn paths(&self) -> Vec<&str> {
        self.built
            .manifest
            .files()
            .iter()
            .map(|file| file.path.as_str())
            .collect()
    }

    /// What `bun` prints when it runs this script with the bundle's entry as `loaded`.
    fn run(&self, script: &str) -> String {
        let main = self.out.path().parent().unwrap().join(format!(
            "run-{}.mjs",
            self.out.path().file_name().unwrap().to_str().unwrap()
        ));
        let entry = self.out.path().join(&self.built.entry);
        fs::write(
            &main,
            format!("const loaded = await import({entry:?});\n{script}\n"),
        )
        .unwrap();
        let ran = process::Command::new("bun").arg(&main).output().unwrap();
        fs::remove_file(&main).unwrap();
        let said = String::from_utf8(ran.stdout).unwrap();
        assert!(
            ran.status.success(),
            "{said}{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        said.trim_end()
            .replace(&format!("{}/", self.out.path().display()), "")
    }
}

// === isolate

#[tokio::test]
async fn typescript_becomes_modules_that_find_one_another() {
    let world = world(&[
        (
            "functions/hello.ts",
            "import { greet, type Name } from '../lib/greet.js';\nimport data from '../data.json' with { type: 'json' };\n\
             import type { Gone } from 'types-only';\nexport * from './deep';\n\
             export default async (req: Request): Promise<Response> => {\n  const late = await import('../lib/late');\n  return new Response(greet('Ann' as Name) + data.x + late.default('you'));\n};\n",
        ),
        (
            "lib/greet.ts",
            "export type Name = string;\nexport const greet = (name: Name): string => `Hello, ${name}!`;\n",
        ),
        (
            "lib/late.mjs",
            "import { greet } from './greet.ts';\nexport default greet;\n",
        ),
        (
            "functions/deep/index.ts",
            "export enum Colour { Red = 1 }\n",
        ),
        ("data.json", "{\"x\": 1, \"__proto__\": 2}"),
    ]);
    let done = world.build().await;
    assert_eq!(done.built.entry, "functions/hello.js");
    assert_eq!(done.built.kind, Kind::Web);
    assert_eq!(
        done.paths(),
        [
            "data.json.js",
            "functions/deep/index.js",
            "functions/deep/index.js.map",
            "functions/hello.js",
            "functions/hello.js.map",
            "lib/greet.js",
            "lib/greet.js.map",
            "lib/late.js",
            "lib/late.js.map"
        ]
    );
    let code = done.read("functions/hello.js");
    for line in [
        "import { greet } from \"../lib/greet.js\";",
        "import data from \"../data.json.js\";",
        "export * from \"./deep/index.js\";",
        "import(\"../lib/late.js\")",
    ] {
        assert!(code.contains(line), "{line} in\n{code}");
    }
    assert!(
        !code.contains("types-only") && !code.contains(": Request"),
        "{code}"
    );
    assert_eq!(
        done.read("data.json.js"),
        "export default JSON.parse(\"{\\\"x\\\": 1, \\\"__proto__\\\": 2}\");\n"
    );
    assert_eq!(
        world.relative(&done.built),
        [
            "data.json",
            "functions/deep/index.ts",
            "functions/hello.ts",
            "lib/greet.ts",
            "lib/late.mjs"
        ]
    );
    // The same modules run elsewhere too.
    let said = done.run("console.log(await (await loaded.default()).text(), loaded.Colour.Red)");
    assert!(said == "Hello, Ann!1Hello, you! 1", "{said}");
}

#[tokio::test]
async fn source_maps_point_at_what_was_written() {
    let source = "interface A {\n  x: number\n}\n\nexport default (a: A) => {\n  throw new Error('boom');\n};\n";
    let done = world(&[("functions/hello.ts", source)]).build().await;
    let json = done.read("functions/hello.js.map");
    let map = sourcemap::SourceMap::from_slice(json.as_bytes()).unwrap();
    let code = done.read("functions/hello.js");
    let (line, text) = code
        .lines()
        .enumerate()
        .find(|(_, text)| text.contains("new Error"))
        .unwrap();
    let column = text.find("new Error").unwrap();
    let token = map.lookup_token(line as u32, column as u32).unwrap();
    assert_eq!(token.get_source(), Some("functions/hello.ts"));
    let wanted = source.lines().nth(5).unwrap().find("new Error").unwrap();
    assert_eq!(token.get_src(), (5, wanted as u32));
}

#[tokio::test]
async fn a_package_in_the_isolate_is_an_init_error_with_the_way_out() {
    let world = world(&[(
        "functions/hello.ts",
        "import { a } from './nowhere';\nimport _ from 'lodash';\nimport fs from 'node:fs';\nexport default () => _(a, fs);\n",
    )]);
    let error = world.error().await;
    assert_eq!(error.error_type, ErrorType::InitError);
    assert_eq!(error.failure().error_type, ErrorType::InitError);
    assert_eq!(
        world.refused().await,
        format!(
            "functions/hello.ts:1:19: Module not found: './nowhere'\n{0}functions/hello.ts:2:15: Module not found: 'lodash'\n{0}functions/hello.ts:3:16: Module not found: 'node:fs'",
            ""
        )
    );
    world.write(
        "functions/hello.ts",
        "import _ from 'lodash';\nexport default () => _();\n",
    );
    assert_eq!(
        world.refused().await,
        "functions/hello.ts:1:15: Module not found: 'lodash' | the isolate loads relative imports only: bundle it into the entry, or choose `runtime = \"bun\"`"
    );
}

#[tokio::test]
async fn what_the_isolate_cannot_load_is_refused_with_its_place() {
    let refused = async |text: &str| {
        world(&[
            ("functions/hello.ts", text),
            ("functions/bad.json", "{\n  x\n}"),
        ])
        .refused()
        .await
    };
    let told = refused("export default () => {\n  const a = ;\n};\n").await;
    assert!(told.starts_with("functions/hello.ts:2:13: "), "{told}");
    let told = refused("const a = 1;\nconst a = 2;\nexport default () => a;\n").await;
    assert!(
        told.contains(": Identifier `a` has already been declared"),
        "{told}"
    );
    let told = refused("import x from '../../../etc/passwd';\nexport default () => x;\n").await;
    assert!(
        told.starts_with("functions/hello.ts:1:15: `../../../etc/passwd` lies outside the folder"),
        "{told}"
    );
    let told = refused("import x from './bad.json';\nexport default () => x;\n").await;
    assert!(
        told.starts_with("functions/bad.json:2:3: this is no JSON"),
        "{told}"
    );
    let told = refused("module.exports = () => {};\n").await;
    assert!(
        told.starts_with("functions/hello.ts:1: this is a CommonJS module"),
        "{told}"
    );
    let told = refused("export default () => {\n  return require('./x');\n};\n").await;
    assert!(
        told.starts_with("functions/hello.ts:2:10: `require(\"./x\")` in a module for the isolate"),
        "{told}"
    );
    let told =
        refused("const require = (x: string) => x;\nexport const a = require('./x');\n").await;
    assert!(
        told.contains("exports no handler: it exports `a`"),
        "{told}"
    );
    let told = refused("export const View = () => <a/>;\n").await;
    assert!(told.starts_with("functions/hello.ts:1:"), "{told}");
}

#[tokio::test]
async fn a_syntax_error_comes_with_a_frame() {
    let error = world(&[(
        "functions/hello.ts",
        "export default () => {\n  const a = ;\n};\n",
    )])
    .error()
    .await;
    let frame = error.frame.unwrap();
    assert!(
        frame.contains("const a = ;") && frame.contains("hello.ts"),
        "{frame}"
    );
}

#[tokio::test]
async fn two_files_never_share_a_name_in_the_bundle() {
    let world = world(&[
        ("bungee.toml", "[functions.hello]\n"),
        (
            "functions/hello.ts",
            "import a from './a.ts';\nimport b from './a.js';\nimport c from './a.json';\nexport default () => a + b + c;\n",
        ),
        ("functions/a.ts", "export default 1 as number;\n"),
        ("functions/a.js", "export default 2;\n"),
        ("functions/a.json", "4"),
    ]);
    let said = world.build().await.run("console.log(loaded.default())");
    assert_eq!(said, "7");
}

#[tokio::test]
async fn a_computed_import_is_a_warning() {
    let done = world(&[(
        "functions/hello.ts",
        "export default (name: string) =>\n  import(name);\n",
    )])
    .build()
    .await;
    assert_eq!(done.built.warnings.len(), 1);
    assert!(
        done.built.warnings[0].contains("hello.ts:2:3: `import()`"),
        "{:?}",
        done.built.warnings
    );
}

#[tokio::test]
async fn the_same_sources_give_the_same_digest_anywhere() {
    for toml in [
        "[functions.hello]\nentry = 'src/a.ts'\n".to_owned(),
        on_bun("src/a.ts"),
    ] {
        let files = [
            ("bungee.toml", toml.as_str()),
            (
                "src/a.ts",
                "import { b } from './b';\nexport default (): number => b;\n",
            ),
            ("src/b.ts", "export const b: number = 1;\n"),
        ];
        let (one, other) = (world(&files), world(&files));
        let (first, second) = (one.build().await, other.build().await);
        assert_eq!(first.built.manifest, second.built.manifest, "{toml}");
        other.write("src/b.ts", "export const b: number = 2;\n");
        assert_ne!(
            first.built.manifest.digest(),
            other.build().await.built.manifest.digest()
        );
    }
}

// === bun

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

#[tokio::test]
async fn an_own_build_command_runs_first() {
    let toml = "[functions.hello]\nentry = 'dist/hello.js'\nbuild = 'mkdir -p dist && cp src/hello.js dist/'\n";
    let world = world(&[
        ("bungee.toml", toml),
        ("src/hello.js", "export default () => {};\n"),
        (".git/x", ""),
    ]);
    let done = world.build().await;
    assert_eq!(done.built.entry, "dist/hello.js");
    assert_eq!(world.relative(&done.built), ["bungee.toml", "src"]);

    world.write("bungee.toml", "[functions.hello]\nentry = 'dist/hello.js'\nbuild = 'echo some words; echo why >&2; exit 7'\n");
    let error = world.error().await;
    assert_eq!(
        world.refused().await,
        "bungee.toml:3: `build` failed with exit code 7: echo some words; echo why >&2; exit 7"
    );
    assert!(error.frame.unwrap().contains("why"));
    world.write(
        "bungee.toml",
        "[functions.hello]\nentry = 'out/gone.js'\nbuild = 'true'\n",
    );
    assert_eq!(
        world.refused().await,
        "bungee.toml:2: `entry` is `out/gone.js`, and there is no such file"
    );
}

#[tokio::test]
async fn a_module_that_is_none_says_so() {
    let toml = "[functions.hello]\nentry = 'hello.json'\n";
    let told = world(&[("bungee.toml", toml), ("hello.json", "{}")])
        .refused()
        .await;
    assert!(
        told.starts_with("hello.json:1: `hello.json` is no module"),
        "{told}"
    );
    let told = world(&[("functions/hello.ts", "export const run = 1;\n")])
        .refused()
        .await;
    assert!(
        told.starts_with("functions/hello.ts:1: the module exports no handler: it exports `run`"),
        "{told}"
    );
    let world = world(&[("bungee.toml", &on_bun("hello.ts")), ("hello.ts", "")]);
    fs::write(world.dir.path().join("hello.ts"), b"\xff\x00\x01").unwrap();
    assert_eq!(
        world.refused().await,
        "hello.ts:1: this is no module: it is not UTF-8 text"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn an_entry_that_leads_out_of_the_folder_is_refused() {
    let outside = tempfile::NamedTempFile::with_suffix(".ts").unwrap();
    let world = world(&[("bungee.toml", "[functions.hello]\nentry = 'hello.ts'\n")]);
    std::os::unix::fs::symlink(outside.path(), world.dir.path().join("hello.ts")).unwrap();
    assert!(
        world
            .refused()
            .await
            .starts_with("bungee.toml:2: the entry `hello.ts` lies outside the folder")
    );
}

// === examples

fn example(name: &str) -> Project {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples")
        .join(name);
    Project::load(&folder).unwrap()
}

#[tokio::test]
async fn the_hello_example_greets() {
    let out = tempfile::tempdir().unwrap();
    let name = "hello".parse().unwrap();
    let built = build(&example("hello"), &name, out.path(), &Tools::default())
        .await
        .unwrap();
    let done = Done { out, built };
    assert_eq!(
        (done.built.entry.as_str(), done.built.kind),
        ("src/hello.js", Kind::Web)
    );
    let greet = |path: &str| {
        let call = format!(
            "loaded.default(new Request('http://x{path}'), {{ env: {{ GREETING: 'Hi' }} }})"
        );
        done.run(&format!("console.log(await {call}.text())"))
    };
    assert_eq!(greet("/functions/hello/Ann"), r#"{"message":"Hi, Ann!"}"#);
    assert_eq!(greet("/hello/Ann%20Lee"), r#"{"message":"Hi, Ann Lee!"}"#);
    assert_eq!(greet("/functions/hello"), r#"{"message":"Hi, World!"}"#);
}

#[test]
fn the_shop_example_is_a_project() {
    let shop = example("shop");
    let names: Vec<&str> = shop.functions.keys().map(Name::as_str).collect();
    assert_eq!(
        (shop.name.as_str(), names),
        ("shop", vec!["orders", "receipt"])
    );
}
