//! Folders that are projects, and every way in which one is not.

use std::{fs, path::Path};

use model::{Kind, Name, Runtime, TimeSpan};

use super::*;

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

/// What a folder with this `bungee.toml` is told: the message, then the hint, without the folder's own path.
fn refused(toml: &str) -> String {
    refused_folder(&[("bungee.toml", toml), ("src/hello.ts", "")])
}

fn refused_folder(files: &[(&str, &str)]) -> String {
    let dir = folder(files);
    let error = Project::load(dir.path()).unwrap_err();
    let hint = error
        .hint
        .as_ref()
        .map(|hint| format!(" | {hint}"))
        .unwrap_or_default();
    let text = format!("{error}{hint}");
    text.replace(&format!("{}/", dir.path().display()), "")
        .replace(&dir.path().display().to_string(), "DIR")
}

fn load(dir: &Path) -> Project {
    Project::load(dir).unwrap()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

#[test]
fn a_file_names_the_project_and_its_functions() {
    let dir = folder(&[
        (
            "bungee.toml",
            "project = 'shop'\n[functions.hello]\nentry = './src/x.ts'\nkind = 'event'\nruntime = 'bun'\ntimeout = '5s'\n\
             memory = '64MB'\nconcurrency = 2\nworkers = { max = 4 }\nqueue = { wait = '1s' }\nroutes = ['GET /hello/:name']\n\
             env = { A = 'b' }\nauth = 'none'\nhandler = 'run'\nbuild = 'true'\n",
        ),
        ("src/x.ts", ""),
    ]);
    let project = load(dir.path());
    assert_eq!(project.name.as_str(), "shop");
    let patch = &project.functions[&name("hello")];
    assert_eq!(
        (patch.kind, patch.runtime),
        (Some(Kind::Event), Some(Runtime::Bun))
    );
    assert_eq!(patch.timeout, Some(TimeSpan::seconds(5)));
    assert_eq!(patch.workers.as_ref().unwrap().max, Some(4));
    assert_eq!(project.entry(&name("hello")).unwrap(), "src/x.ts");
}

#[test]
fn without_an_entry_the_name_finds_the_module() {
    let toml = "[functions.hello]\n";
    for path in ["functions/hello.ts", "src/hello.mjs", "hello.js"] {
        let dir = folder(&[("bungee.toml", toml), (path, "")]);
        assert_eq!(load(dir.path()).entry(&name("hello")).unwrap(), path);
    }
    let told = refused_folder(&[("bungee.toml", toml)]);
    assert!(
        told.starts_with("bungee.toml:1: `hello` has no `entry`"),
        "{told}"
    );
}

#[test]
fn without_a_file_each_module_of_the_folder_is_a_function() {
    let dir = folder(&[
        ("functions/hello.ts", ""),
        ("functions/by-e.mjs", ""),
        ("functions/README.md", ""),
        ("functions/hello.test.ts", ""),
        ("functions/env.d.ts", ""),
    ]);
    let project = load(dir.path());
    assert_eq!(project.name, Name::default_project());
    let names: Vec<&str> = project.functions.keys().map(Name::as_str).collect();
    assert_eq!(names, ["by-e", "hello"]);
    assert_eq!(project.entry(&name("by-e")).unwrap(), "functions/by-e.mjs");
}

#[test]
fn a_folder_without_functions_is_told_the_next_step() {
    let told = refused_folder(&[]);
    assert!(told.starts_with("DIR holds neither `bungee.toml` nor a module in `functions/` | write `functions/hello.ts`"), "{told}");
    let told = refused_folder(&[("bungee.toml", "project = 'x'")]);
    assert!(told.starts_with("bungee.toml names no function"), "{told}");
    let error = Project::load(Path::new("/nowhere/at/all")).unwrap_err();
    assert_eq!(error.to_string(), "there is no folder /nowhere/at/all");
    let told = refused_folder(&[("functions/a b.ts", "")]);
    assert!(
        told.starts_with(
            "functions/a b.ts:1: the file names a function, and `a b` is not a valid name"
        ),
        "{told}"
    );
    let told = refused_folder(&[("functions/a.ts", ""), ("functions/a.js", "")]);
    assert!(
        told.starts_with("functions/a.ts:1: two files name the function `a`"),
        "{told}"
    );
}

#[test]
fn unknown_keys_get_the_nearest_word() {
    assert_eq!(
        refused("projct = 'x'"),
        "bungee.toml:1: `projct` is no key of the file | did you mean `project`?"
    );
    assert_eq!(
        refused("[functions.hello]\nentyr = 'src/hello.ts'"),
        "bungee.toml:2: `entyr` is no key of `functions.hello` | did you mean `entry`?"
    );
    assert_eq!(
        refused("[functions.hello]\n\nworkers = { mx = 4 }"),
        "bungee.toml:3: `mx` is no key of `workers` | did you mean `max`?"
    );
    let told = refused("[functions.hello.queue]\nlength = 4");
    assert_eq!(
        told,
        "bungee.toml:2: `length` is no key of `queue` | the keys are: depth, wait"
    );
    let told = refused("[functions]\nentry = 'x'");
    assert!(told.contains("put it under `[functions.NAME]`"), "{told}");
}

#[test]
fn wrong_values_are_refused_where_they_stand() {
    let hello = |line: &str| refused(&format!("[functions.hello]\n{line}"));
    for (line, told) in [
        (
            "runtime = 'bunn'",
            "`runtime`: `bunn` is none of: isolate, bun, node, python, provided | did you mean `bun`?",
        ),
        (
            "kind = 'webb'",
            "`kind`: `webb` is none of: web, event | did you mean `web`?",
        ),
        ("kind = 1", "`kind` must be text in quotes, not a number"),
        (
            "timeout = 30",
            "`timeout` is a number without a unit; write it like \"30s\"",
        ),
        ("timeout = '20m'", "`timeout` is 20m, the limit is 15m"),
        (
            "concurrency = -1",
            "`concurrency` must be a whole number from 0 to 4294967295",
        ),
        ("concurrency = 0", "`concurrency` must be at least 1"),
        (
            "workers = 4",
            "`workers` must be a table, like `workers = { max = 4 }`",
        ),
        (
            "workers = { min = 5, max = 2 }",
            "`workers.min` is 5, more than `workers.max`, which is 2",
        ),
        (
            "routes = 'GET /x'",
            "`routes` must be a list, like `routes = [\"GET /hello/:name\"]`",
        ),
        (
            "env = { PORT = 80 }",
            "`env.PORT` must be text in quotes, not a number",
        ),
        (
            "entry = '../x.ts'",
            "`entry` is `../x.ts`, which does not lie in the folder | write it relative to the folder, like \"src/hello.ts\"",
        ),
        (
            "entry = 'src/x.ts'",
            "`entry` is `src/x.ts`, and there is no such file",
        ),
    ] {
        assert_eq!(hello(line), format!("bungee.toml:2: {told}"));
    }
    assert!(
        hello("memory = '1 potato'").starts_with("bungee.toml:2: `memory`: `1 potato` is no size")
    );
    assert!(hello("env = { 'A-B' = 'x' }").starts_with("bungee.toml:2: `env.A-B` is no variable"));
    assert!(
        hello("routes = ['GET /a',\n 'GET x']").starts_with("bungee.toml:3: `GET x` is no route")
    );
    assert!(
        hello("routes = ['GET /a/:x',\n 'GET /a/:y']")
            .starts_with("bungee.toml:3: the route `GET /a/:y` matches the same")
    );
    assert!(hello("a = = 1").starts_with("bungee.toml:2: "));
}

#[test]
fn bad_names_are_refused() {
    assert!(refused("project = 'a/b'").starts_with("bungee.toml:1: `a/b` is not a valid name"));
    assert!(refused("[functions.'../x']").starts_with("bungee.toml:1: `../x` is not a valid name"));
    assert!(
        refused("[functions.register]").starts_with("bungee.toml:1: `register` is a reserved name")
    );
}

#[test]
fn what_is_not_built_yet_is_refused_by_name() {
    for key in ["secrets = []", "allow_net = []", "on = []", "aws = 'x'"] {
        let word = key.split(' ').next().unwrap();
        assert_eq!(
            refused(&format!("[functions.hello]\n{key}")),
            format!("bungee.toml:2: `{word}` arrives later")
        );
    }
    assert_eq!(
        refused("[functions.hello]\n[[functions.hello.schedules]]\ncron = ''"),
        "bungee.toml:2: `schedules` arrives later"
    );
    assert_eq!(
        refused("[local.db]\nport = 1"),
        "bungee.toml:1: `[local.*]` arrives later"
    );
}

#[test]
fn a_python_file_says_what_runs_it() {
    let toml = "[functions.hello]\n";
    for path in ["functions/hello.py", "src/hello.py", "hello.py"] {
        let dir = folder(&[("bungee.toml", toml), (path, "")]);
        let project = load(dir.path());
        assert_eq!(project.entry(&name("hello")).unwrap(), path);
        let patch = &project.functions[&name("hello")];
        assert_eq!(patch.runtime, Some(Runtime::Python));
    }
    let told = refused("[functions.hello]\nruntime = 'python'\nhandler = 'shop.main.handler'");
    assert_eq!(
        told,
        "bungee.toml:1: `hello` has no `entry`, and there is no shop/main.py or src/shop/main.py or functions/shop/main.py | add `entry = \"shop/main.py\"` under `[functions.hello]`"
    );
    let wrong = |settings: &str, file: &str| {
        let toml = format!("[functions.hello]\n{settings}\nentry = '{file}'");
        refused_folder(&[("bungee.toml", &toml), (file, "")])
    };
    assert_eq!(
        wrong("runtime = 'bun'", "a.py"),
        "bungee.toml:2: the entry is `a.py`, and `runtime` is `bun` | leave `runtime` out, or write `runtime = \"python\"`"
    );
    assert!(wrong("runtime = 'python'", "a.ts").contains("ends in `.py`"));
}

#[test]
fn python_modules_of_the_folder_are_functions_but_for_tests_and_packages() {
    let dir = folder(&[
        ("functions/hello.py", ""),
        ("functions/__init__.py", ""),
        ("functions/test_hello.py", ""),
        ("functions/conftest.py", ""),
        ("functions/other.ts", ""),
    ]);
    let project = load(dir.path());
    let names: Vec<&str> = project.functions.keys().map(Name::as_str).collect();
    assert_eq!(names, ["hello", "other"]);
    let told = refused_folder(&[("functions/a.ts", ""), ("functions/a.py", "")]);
    assert!(told.contains("two files name the function `a`"), "{told}");
}

#[test]
fn a_provided_function_begins_with_its_bootstrap() {
    let toml = "[functions.hello]\nruntime = 'provided'\n";
    for path in [
        "functions/hello/bootstrap",
        "src/hello/bootstrap",
        "hello/bootstrap",
        "bootstrap",
    ] {
        let dir = folder(&[("bungee.toml", toml), (path, "")]);
        assert_eq!(load(dir.path()).entry(&name("hello")).unwrap(), path);
    }
    let told = refused(toml);
    assert!(
        told.contains("no functions/hello/bootstrap or src/hello/bootstrap or hello/bootstrap"),
        "{told}"
    );
}

#[test]
fn the_first_mistake_of_the_file_is_the_one_reported() {
    let told = refused("[functions.z]\nentyr = ''\n[functions.a]\nentyr = ''");
    assert!(told.starts_with("bungee.toml:2:"), "{told}");
}
