//! `bungee dev`: a save is live for the next request, and a broken one costs nothing.

use crate::{process::until, serving::House};

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
    crate::project::put(
        &folder,
        "functions/hello.ts",
        "export default (r: Request) => new Response('plain')",
    );
    let house = plan.start();
    assert_eq!(house.get("/functions/hello").ok(), "plain");
}
