//! `bungee dev`: a save is live for the next request, and a broken one costs nothing.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    knock::Answer,
    process::until,
    project::put,
    serving::{House, Plan},
};

const HELLO: &str = "export default () => new Response('one')";

fn live(house: &House, wanted: &str) {
    until(&format!("{wanted} is live"), || {
        house.get("/functions/hello").text() == wanted
    });
}

#[test]
fn a_save_is_live_for_the_next_request() {
    let house = House::dev().function("hello", |f| f.web(HELLO)).start();
    assert_eq!(house.get("/functions/hello").ok(), "one");
    house.save("src/hello.js", "export default () => new Response('two')");
    live(&house, "two");
}

#[test]
fn a_save_reaches_a_bun_function_too() {
    let house = House::dev()
        .function("hello", |f| f.bun().web(HELLO))
        .start();
    assert_eq!(house.get("/functions/hello").ok(), "one");
    house.save("src/hello.js", "export default () => new Response('two')");
    live(&house, "two");
}

#[test]
fn a_broken_save_keeps_the_last_good_code_and_says_where() {
    let house = House::dev().function("hello", |f| f.web(HELLO)).start();
    house.save("src/hello.js", "export default (");
    until("dev says where it is broken", || {
        house.said().contains("src/hello.js:1")
    });
    assert_eq!(house.get("/functions/hello").ok(), "one");
    house.save("src/hello.js", "export default () => new Response('two')");
    live(&house, "two");
}

#[test]
fn a_broken_configuration_keeps_what_runs_and_says_file_and_line() {
    let house = House::dev().function("hello", |f| f.web(HELLO)).start();
    let good = std::fs::read_to_string(house.folder.join("bungee.toml")).unwrap();
    let line = good.lines().count() + 1;
    house.save("bungee.toml", &format!("{good}timeut = '1s'\n"));
    until("dev says where it is wrong", || {
        house.said().contains(&format!("bungee.toml:{line}"))
    });
    assert!(house.said().contains("did you mean `timeout`?"));
    assert_eq!(house.get("/functions/hello").ok(), "one");
}

#[test]
fn a_new_function_appears_without_a_restart() {
    let house = House::dev().function("hello", |f| f.web(HELLO)).start();
    let config = std::fs::read_to_string(house.folder.join("bungee.toml")).unwrap();
    house.save("src/more.js", "export default () => new Response('more')");
    house.save(
        "bungee.toml",
        &format!("{config}\n[functions.more]\nentry = 'src/more.js'\n"),
    );
    until("the new function answers", || {
        house.get("/functions/more").text() == "more"
    });
}

#[test]
fn dev_prints_a_line_for_each_request() {
    let house = House::dev().function("hello", |f| f.web(HELLO)).start();
    house.get("/functions/hello/Ann").ok();
    until("the line is printed", || {
        house
            .said()
            .contains("← hello GET /functions/hello/Ann 200")
    });
}

#[test]
fn a_folder_without_configuration_serves_each_file_of_functions() {
    let plan = House::dev();
    let folder = plan.home().join("project");
    put(
        &folder,
        "functions/hello.ts",
        "export default (r: Request) => new Response('plain')",
    );
    let house = plan.start();
    assert_eq!(house.get("/functions/hello").ok(), "plain");
}

/// A folder whose one function takes that long to build, and writes `.began` when it begins.
fn slow_to_build(seconds: &str) -> Plan {
    let plan = House::dev();
    let folder = plan.home().join("project");
    let build = format!("touch .began; sleep {seconds}; mkdir -p dist; cp src/hello.js dist");
    let config =
        format!("[functions.hello]\nentry = 'dist/hello.js'\nkind = 'web'\nbuild = '{build}'\n");
    put(&folder, "bungee.toml", &config);
    put(&folder, "src/hello.js", HELLO);
    plan
}

/// Saves, and asks once the build has begun.
fn ask_while_building(house: &House) -> Answer {
    let began = house.folder.join(".began");
    fs::remove_file(&began).expect("an earlier build began");
    house.save("src/hello.js", "export default () => new Response('two')");
    until("the build begins", || began.exists());
    house.get("/functions/hello")
}

#[test]
fn a_request_during_a_build_waits_for_it() {
    let house = slow_to_build("0.2").start();
    assert_eq!(house.get("/functions/hello").ok(), "one");
    let answer = ask_while_building(&house);
    assert_eq!(answer.ok(), "two");
    assert_eq!(answer.header("x-bungee-stale"), None);
}

#[test]
fn a_request_waits_for_a_function_that_is_only_coming() {
    let house = House::dev().function("hello", |f| f.web(HELLO)).start();
    let config = fs::read_to_string(house.folder.join("bungee.toml")).unwrap();
    let build = "touch .began; sleep 0.2; mkdir -p dist; cp src/hello.js dist";
    let more = format!(
        "[functions.more]\nentry = 'dist/hello.js'\nroutes = ['GET /more']\nbuild = '{build}'\n"
    );
    house.save("bungee.toml", &format!("{config}\n{more}"));
    let began = house.folder.join(".began");
    until("the build begins", || began.exists());
    assert_eq!(house.get("/more").ok(), "one");
    assert_eq!(house.get("/functions/more").ok(), "one");
    house.get("/nowhere").fails(404, "NotFound");
}

#[test]
fn a_request_waits_half_a_second_at_most_and_is_told_that_its_code_is_old() {
    let house = slow_to_build("3").start();
    live(&house, "one");
    let start = Instant::now();
    let answer = ask_while_building(&house);
    assert_eq!(answer.ok(), "one");
    let stale = answer.header("x-bungee-stale");
    assert_eq!(stale, Some("a build is still running"));
    assert!(start.elapsed() >= Duration::from_millis(500));
    live(&house, "two");
    assert_eq!(house.get("/functions/hello").header("x-bungee-stale"), None);
}

#[test]
fn answers_of_older_code_say_why_until_it_is_mended() {
    let house = House::dev()
        .function("hello", |f| f.web(HELLO))
        .function("other", |f| f.web(HELLO))
        .start();
    let stale = |name: &str| {
        let answer = house.get(&format!("/functions/{name}"));
        assert_eq!(answer.ok(), "one");
        answer.header("x-bungee-stale").map(str::to_owned)
    };
    assert_eq!(stale("hello"), None);
    house.save("src/hello.js", "export default (");
    until("the answer names the place", || {
        stale("hello").is_some_and(|why| why.contains("src/hello.js:1:") && !why.contains("Some("))
    });
    assert_eq!(stale("other"), None);
    house.save("src/hello.js", HELLO);
    until("nothing is stale", || stale("hello").is_none());
    house.save("bungee.toml", "[functions.hello");
    until("a broken configuration concerns all", || {
        stale("other").is_some_and(|why| why.contains("bungee.toml:1"))
    });
}

#[test]
fn a_function_that_leaves_the_configuration_answers_404_until_it_is_back() {
    let mut house = House::dev()
        .function("hello", |f| f.web(HELLO))
        .function("more", |f| f.web(HELLO).setting("routes = ['GET /more']"))
        .start();
    let config = fs::read_to_string(house.folder.join("bungee.toml")).unwrap();
    let (alone, _) = config.split_once("\n[functions.more]").unwrap();
    house.save("bungee.toml", alone);
    until("it is gone", || house.get("/functions/more").status == 404);
    house
        .get("/functions/more")
        .fails(404, "FunctionNotFound")
        .says("more");
    house.get("/more").fails(404, "NotFound");
    assert_eq!(house.get("/functions/hello").ok(), "one");
    assert!(!house.cli(&["list"]).ok().stdout.contains("more"));

    house.kill9();
    house.restart();
    until("it is still gone", || {
        house.get("/functions/more").status == 404
    });
    house.save("bungee.toml", &config);
    until("it is back", || house.get("/more").text() == "one");
    let versions = house.cli(&["versions", "more", "--json"]).ok().json();
    assert_eq!(versions.as_array().unwrap().len(), 1, "{versions}");
}

#[test]
fn a_function_whose_file_leaves_the_folder_answers_404_until_it_is_back() {
    let plan = House::dev();
    let folder = plan.home().join("project");
    put(&folder, "functions/hello.js", HELLO);
    let house = plan.start();
    assert_eq!(house.get("/functions/hello").ok(), "one");
    fs::remove_file(house.folder.join("functions/hello.js")).unwrap();
    until("it is gone", || house.get("/functions/hello").status == 404);
    until("dev says so", || {
        house.said().contains("hello left the folder")
    });
    house.save("functions/hello.js", HELLO);
    live(&house, "one");
}

/// The versions on disk.
fn folders(versions: &Path) -> usize {
    let entries = fs::read_dir(versions).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().is_dir()).count()
}

#[test]
fn dev_keeps_the_last_twenty_versions_and_what_rollback_needs() {
    let house = House::dev().function("hello", |f| f.web(HELLO)).start();
    let save = |word: &str| {
        let source = format!("export default () => new Response('{word}')");
        house.save("src/hello.js", &source);
        live(&house, word);
    };
    for number in 2..=24 {
        save(&format!("{number}"));
    }
    let kept = || house.cli(&["versions", "hello", "--json"]).ok().json();
    let on_disk = house.folder.join(".bungee/bundles/default/hello");
    until("old versions are gone", || {
        kept().as_array().unwrap().len() == 20 && folders(&on_disk) == 20
    });
    assert_eq!(kept()[19]["version"], "v5");
    house.cli(&["rollback", "hello", "v4"]).ends(4);
    house.cli(&["rollback", "hello", "v5"]).ok();
    save("25");
    save("26");
    until("what was current before stays", || {
        folders(&on_disk) == 20 && !on_disk.join("v6").exists()
    });
    assert_eq!(house.get("/functions/hello").ok(), "26");
    house.cli(&["rollback", "hello"]).ok();
    assert_eq!(house.get("/functions/hello").ok(), "25");
}
