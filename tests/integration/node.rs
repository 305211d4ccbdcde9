//! What is Node's own: bundles that need no Bun, packages, and requests that are made when they are asked for.

use std::{fs, os::unix::fs::symlink, path::Path};

use serde_json::json;

use crate::{
    process::until,
    project::{Function, put},
    serving::House,
};

/// A folder for PATH that holds only these programs.
fn path_with(folder: &Path, names: &[&str]) -> String {
    let bin = folder.join("bin");
    fs::create_dir_all(&bin).expect("a folder can be made");
    for name in names {
        let path = std::env::var_os("PATH").expect("there is a PATH");
        let found = std::env::split_paths(&path)
            .map(|folder| folder.join(name))
            .find(|program| program.is_file());
        let program = found.expect("the program is there");
        symlink(program, bin.join(name)).expect("a link can be made");
    }
    bin.to_str().expect("a readable path").to_owned()
}

/// A project whose function uses every way to name another module.
fn put_project(folder: &Path) {
    put(
        folder,
        "bungee.toml",
        "[functions.f]\nentry = 'src/main.ts'\nruntime = 'node'\n",
    );
    put(
        folder,
        "tsconfig.json",
        r#"{"compilerOptions": {"paths": {"@/*": ["./src/*"]}}}"#,
    );
    put(
        folder,
        "src/main.ts",
        "import { createRequire } from 'node:module';
         import { basename } from 'path';
         import data from './data.json';
         import { near } from './near';
         import { far } from '@/deep/far.js';
         import cjs from './old.cjs';
         import { esm } from 'esm-package';
         import shout from '@scope/cjs-package/shout';
         const require = createRequire(import.meta.url);
         export const handler = async (): Promise<unknown> => [
           basename('/a/b'), data.n, near, far, cjs.old, esm, shout('hi'),
           require('./data.json').n, (await import('./lazy.ts')).lazy,
         ];",
    );
    put(folder, "src/data.json", r#"{"n": 7}"#);
    put(folder, "src/near.ts", "export const near: string = 'near';");
    put(
        folder,
        "src/deep/far.ts",
        "export enum E { Far = 'far' }; export const far = E.Far;",
    );
    put(
        folder,
        "src/old.cjs",
        "const { n } = require('./data'); exports.old = 'old' + n + require('./older').word;",
    );
    put(
        folder,
        "src/older.js",
        "module.exports = { word: typeof __dirname };",
    );
    put(
        folder,
        "src/lazy.ts",
        "export const lazy = 'lazy' as const;",
    );
    let esm = "node_modules/esm-package";
    put(
        folder,
        &format!("{esm}/package.json"),
        r#"{"name": "esm-package", "type": "module", "exports": "./main.js", "dependencies": {"inner": "*"}}"#,
    );
    put(
        folder,
        &format!("{esm}/main.js"),
        "import inner from 'inner'; export const esm = 'esm ' + inner;",
    );
    put(folder, &format!("{esm}/main.d.ts"), "export {}");
    put(
        folder,
        &format!("{esm}/node_modules/inner/index.js"),
        "module.exports = 'inner';",
    );
    put(
        folder,
        "node_modules/@scope/cjs-package/shout.js",
        "module.exports = (text) => text.toUpperCase();",
    );
    put(folder, "node_modules/unused/index.js", "");
}

#[test]
fn a_bundle_for_node_is_made_where_there_is_only_node() {
    let folder = tempfile::tempdir().unwrap();
    let path = path_with(folder.path(), &["node"]);
    let house = House::serve().variable("PATH", &path).start();
    let project = folder.path().join("project");
    put_project(&project);
    let deployed = house
        .command(&["deploy", project.to_str().unwrap()])
        .env("PATH", &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&deployed.stderr).into_owned();
    assert!(deployed.status.success(), "{said}");
    let invoked = house.invoke("f", &json!({}));
    assert_eq!(
        invoked["result"],
        json!([
            "b",
            7,
            "near",
            "far",
            "old7string",
            "esm inner",
            "HI",
            7,
            "lazy"
        ]),
        "{invoked}"
    );
    let bundle = house.data().join("bundles/default/f/v1");
    let packages = bundle.join("node_modules");
    assert!(packages.join("esm-package/main.js").is_file());
    assert!(!packages.join("esm-package/main.d.ts").exists());
    assert!(!packages.join("unused").exists());
}

#[test]
fn a_package_that_is_not_installed_is_refused_with_the_command_that_brings_it() {
    let house = House::serve().start();
    let folder = house.home_folder();
    put(
        &folder,
        "bungee.toml",
        "[functions.f]\nentry = 'f.ts'\nruntime = 'node'\n",
    );
    put(
        &folder,
        "f.ts",
        "import { a } from '@lost/package/deep';\nimport { b } from './nowhere';\nexport default () => a + b;\n",
    );
    house
        .cli(&["deploy", folder.to_str().unwrap()])
        .ends(3)
        .says("f.ts:1:19: Module not found: '@lost/package/deep'")
        .says("npm install @lost/package")
        .says("f.ts:2:19: Module not found: './nowhere'");
}

#[test]
fn without_node_its_functions_are_refused_with_the_command_that_installs_it() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::serve()
        .variable("PATH", path_with(folder.path(), &[]))
        .start();
    let project = folder.path().join("project");
    put_project(&project);
    house
        .cli(&["deploy", project.to_str().unwrap()])
        .ends(1)
        .says("node")
        .says("apt-get install -y nodejs");
}

#[test]
fn a_request_on_node_is_a_request_and_does_what_one_does() {
    let source = "
        export default async (r) => {
          const copy = r.clone();
          const form = await copy.formData();
          const again = new Request(r, { headers: { 'x-a': 'b' } });
          const brought = await fetch('data:text/plain,brought');
          return Response.json({
            is: [r instanceof Request, again instanceof Request, copy instanceof Request, r.headers instanceof Headers,
                 new Response('') instanceof Response, brought instanceof Response, {} instanceof Response],
            form: form.get('a'), method: again.method, header: again.headers.get('x-a'), text: await again.text(),
            used: r.bodyUsed, twice: await r.text().catch((e) => e.name), brought: await brought.text(),
            aborted: r.signal.aborted,
          }, { status: 201, headers: [['x-c', 'd']] });
        }";
    let house = House::serve()
        .function("f", |f| f.on("node").web(source))
        .start();
    let answer = house
        .ask("POST", "/functions/f")
        .header("content-type", "application/x-www-form-urlencoded")
        .body("a=1")
        .send();
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.header("x-c"), Some("d"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        answer.json(),
        json!({
            "is": [true, true, true, true, true, true, false], "form": "1", "method": "POST", "header": "b", "text": "a=1",
            "used": true, "twice": "TypeError", "brought": "brought", "aborted": false,
        })
    );
}

#[test]
fn bodies_of_every_kind_are_answers_on_node() {
    let source = "
        const bodies = {
          text: () => 'text', bytes: () => new Uint8Array([98, 121]), buffer: () => new TextEncoder().encode('buf').buffer,
          blob: () => new Blob(['blob'], { type: 'text/blob' }), query: () => new URLSearchParams({ a: '1' }), none: () => null,
          stream: () => new Blob(['streamed']).stream(), echo: (r) => r.body,
        };
        export default (r) => new Response(bodies[new URL(r.url).pathname.split('/').pop()](r));";
    let house = House::serve()
        .function("f", |f| f.on("node").web(source))
        .start();
    for (kind, body, content_type) in [
        ("text", "text", Some("text/plain;charset=UTF-8")),
        ("bytes", "by", None),
        ("buffer", "buf", None),
        ("blob", "blob", Some("text/blob")),
        (
            "query",
            "a=1",
            Some("application/x-www-form-urlencoded;charset=UTF-8"),
        ),
        ("none", "", None),
        ("stream", "streamed", None),
        ("echo", "sent", None),
    ] {
        let answer = house.post(&format!("/functions/f/{kind}"), "sent");
        assert_eq!(
            (answer.ok().as_str(), answer.header("content-type")),
            (body, content_type),
            "{kind}"
        );
    }
}

#[test]
fn a_stream_on_node_waits_for_a_slow_reader() {
    let source = "
        let made = 0;
        export default (r) => r.url.endsWith('made') ? new Response(String(made)) : new Response(new ReadableStream({
          pull(c) { made++; c.enqueue(new Uint8Array(1 << 20)); }
        }));";
    let house = House::serve()
        .function("f", |f| f.on("node").web(source).setting("concurrency = 2"))
        .start();
    let _reader = house.ask("GET", "/functions/f").open();
    let mut before = 0;
    until("no more is made", || {
        let made: u32 = house.get("/functions/f/made").ok().parse().unwrap();
        assert!(
            made < 64,
            "{made} MiB were made for a caller that reads nothing"
        );
        made > 0 && std::mem::replace(&mut before, made) == made
    });
}

#[test]
fn a_spare_on_node_becomes_what_a_fresh_worker_is() {
    let source = "
        import { execSync } from 'node:child_process';
        const loaded = { env: process.env.GREETING, mode: process.env.NODE_ENV, cwd: process.cwd() };
        export const handler = () => ({ pid: process.pid, loaded, shell: String(execSync('echo $GREETING; pwd')) });";
    let house = House::serve()
        .function("f", |f| {
            f.on("node")
                .setting("env = { GREETING = 'hi' }")
                .event(source)
        })
        .start();
    until("two spares wait", || house.node_spares().len() == 2);
    let spares: Vec<i32> = house.node_spares().iter().map(|spare| spare.pid).collect();
    let result = house.invoke("f", &json!({}))["result"].clone();
    let folder = house.data().join("bundles/default/f/v1");
    let folder = folder.to_str().unwrap();
    assert_eq!(
        result["loaded"],
        json!({"env": "hi", "mode": "production", "cwd": folder})
    );
    assert_eq!(result["shell"], format!("hi\n{folder}\n"));
    assert!(
        spares.iter().any(|pid| result["pid"] == *pid),
        "{result} is none of {spares:?}"
    );
}

#[test]
fn a_function_for_lambda_finds_lambda_s_environment_in_a_spare_and_afresh() {
    let source = "
        const env = { ...process.env };
        export const handler = (event, context) => ({ env, pid: process.pid, cwd: process.cwd(), stream: context.logStreamName,
          waits: context.callbackWaitsForEmptyEventLoop, node: parseInt(process.versions.node, 10) });";
    for runtime in ["node", "bun"] {
        let house = House::serve()
            .function("ahead", |f| {
                f.on(runtime).setting("memory = '192MB'").event(source)
            })
            .function("fresh", |f| {
                let settings = "memory = '192MB'\nenv = { AWS_REGION = 'eu-west-1', AWS_LAMBDA_FUNCTION_NAME = 'forged' }";
                f.on(runtime).setting(settings).event(source)
            })
            .function("page", |f| {
                // As much memory as the others, so that all are started alike.
                f.on(runtime)
                    .setting("memory = '192MB'")
                    .web("export default () => Response.json(process.env)")
            })
            .start();
        let spares = || match runtime {
            "node" => house.node_spares(),
            _ => house.bun_spares(),
        };
        until("two spares wait", || spares().len() == 2);
        let ready: Vec<i32> = spares().iter().map(|spare| spare.pid).collect();
        for (name, region) in [("ahead", "us-east-1"), ("fresh", "eu-west-1")] {
            let said = house.invoke(name, &json!({}))["result"].clone();
            let is_spare = ready.iter().any(|pid| said["pid"] == *pid);
            assert_eq!(is_spare, name == "ahead", "{runtime} {name}");
            let env = &said["env"];
            for (variable, value) in [
                ("AWS_LAMBDA_FUNCTION_NAME", name),
                ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "192"),
                ("AWS_LAMBDA_LOG_GROUP_NAME", &format!("/aws/lambda/{name}")),
                ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
                (
                    "AWS_EXECUTION_ENV",
                    &format!("AWS_Lambda_nodejs{}.x", said["node"]),
                ),
                ("AWS_REGION", region),
                ("AWS_DEFAULT_REGION", region),
            ] {
                assert_eq!(env[variable], value, "{runtime} {name} {variable}");
            }
            assert_eq!(env["LAMBDA_TASK_ROOT"], said["cwd"]);
            assert_eq!(env["AWS_LAMBDA_LOG_STREAM_NAME"], said["stream"]);
            assert!(env["_HANDLER"].is_string() && env["AWS_LAMBDA_FUNCTION_VERSION"].is_string());
            // Only a client of the Runtime API has one.
            assert!(env.get("AWS_LAMBDA_RUNTIME_API").is_none(), "{env}");
            assert_eq!(said["waits"], true);
        }
        let page = house.get("/functions/page").json();
        assert!(page.get("AWS_LAMBDA_FUNCTION_NAME").is_none(), "{page}");
    }
}

#[test]
fn a_handler_may_answer_by_its_context() {
    let source = "
        const later = (run) => void setTimeout(run, 5);
        const acts = {
          succeed: (context) => later(() => context.succeed('later')),
          fail: (context) => later(() => context.fail(new RangeError('as asked'))),
          done: (context) => later(() => context.done(null, 'done')),
          broken: (context) => later(() => context.done(new TypeError('by done'))),
        };
        export const handler = (event, context) => {
          if (event === 'now') return 'now';
          if (event === 'nothing') return context.succeed();
          if (event === 'twice') context.succeed('first') ?? context.fail(new Error('second'));
          acts[event]?.(context);
        };
        export const promised = async (event, context) => { context.succeed('before'); return 'after'; };
        export const silent = (event, context) => { context.awsRequestId; };";
    for runtime in ["node", "bun"] {
        let named = |name: &'static str| {
            move |f: Function| {
                f.on(runtime)
                    .setting(format!("handler = '{name}'"))
                    .event(source)
            }
        };
        let house = House::serve()
            .function("handler", named("handler"))
            .function("promised", named("promised"))
            .function("silent", named("silent"))
            .start();
        for (act, result) in [
            ("succeed", json!("later")),
            ("done", json!("done")),
            ("now", json!("now")),
            ("nothing", json!(null)),
            ("twice", json!("first")),
        ] {
            let said = house.invoke("handler", &json!(act));
            assert_eq!(said["result"], result, "{runtime} {act} {said}");
        }
        for (act, message) in [
            ("fail", "RangeError: as asked"),
            ("broken", "TypeError: by done"),
        ] {
            let said = house.invoke("handler", &json!(act));
            assert_eq!(said["error"]["message"], message, "{runtime}");
        }
        let said = ["promised", "silent"].map(|name| house.invoke(name, &json!({})));
        assert_eq!(said[0]["result"], "before", "{runtime}");
        assert_eq!(said[1]["result"], json!(null), "{runtime} {}", said[1]);
    }
}

#[test]
fn a_request_without_a_body_can_be_copied_and_read_twice() {
    let source = "export default async (r) => {
        const copy = r.clone();
        return new Response([r.body, r.bodyUsed, await r.text(), await r.text(), await copy.text(), r.bodyUsed].join());
    }";
    let house = House::serve()
        .function("f", |f| f.on("node").web(source))
        .start();
    for method in ["GET", "POST", "DELETE"] {
        let answer = house.ask(method, "/functions/f").send();
        assert_eq!(answer.ok(), ",false,,,,false", "{method}");
    }
}
