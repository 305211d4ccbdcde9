//! What holds for builds of every runtime, and for the examples.

use super::*;

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
