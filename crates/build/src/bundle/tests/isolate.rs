//! Builds for the isolate.

use super::*;

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
