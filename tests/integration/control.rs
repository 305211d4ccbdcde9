//! The control plane of AWS Lambda, as unmodified SDKs drive it: each story stands in `tests/peers`.

use std::{fs, process::Command};

use crate::{
    peers::{peers, python},
    serving::{House, Said},
};

/// Tells one of the stories of `control.py` to this server.
#[track_caller]
fn tell(house: &House, story: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/control.py");
    let url = format!("http://{}", house.address);
    let told = python("python").args([script, &url, story]).output();
    let said = Said::of(&told.expect("python starts"));
    assert_eq!(said.code, 0, "{}\n{}", said.stderr, house.said());
}

#[track_caller]
fn told(story: &str) {
    tell(&House::serve().start(), story);
}

#[test]
fn boto3_makes_changes_and_deletes_a_function() {
    told("one_function_from_birth_to_death");
}

#[test]
fn published_numbers_are_contiguous_and_repeat_when_nothing_changed() {
    told("published_numbers");
}

#[test]
fn lambda_s_aliases_lead_to_published_numbers() {
    told("aliases");
}

#[test]
fn layers_are_numbered_and_functions_keep_theirs() {
    told("layers");
}

#[test]
fn every_language_comes_as_a_zip_and_sees_its_layers() {
    told("every_language_and_its_layers");
}

#[test]
fn a_function_url_and_a_reserve_say_who_may_call_and_how_many() {
    told("urls_and_concurrency");
}

#[test]
fn tags_are_set_and_taken_away() {
    told("tags");
}

#[test]
fn a_second_change_is_refused_while_one_runs() {
    told("a_change_at_a_time");
}

#[test]
fn a_change_that_does_not_run_leaves_everything_as_it_was() {
    told("a_change_that_does_not_run");
}

#[test]
fn what_lambda_would_refuse_is_refused_in_its_words() {
    told("what_is_refused");
}

#[test]
fn what_bungee_deployed_is_there_for_lambda_s_clients() {
    let hello = "export default () => 'hello'";
    let house = House::serve()
        .function("hello", |f| f.bun().event(hello))
        .start();
    tell(&house, "what_bungee_deployed");
    let info = house.cli(&["info", "hello", "--json"]).ok().json();
    assert_eq!(info["settings"]["timeout"]["value"], "11s");
    house.save("src/hello.js", "export default () => 'hello again'");
    house.deploy().ok();
    house.cli(&["alias", "hello", "staging", "v3"]).ok();
    tell(&house, "what_bungee_deployed_since");
}

#[test]
fn what_is_shown_is_the_state_that_current_leads_to() {
    let house = House::serve().start();
    let back_to = |version: &str| drop(house.cli(&["rollback", "back", version]).ok());
    tell(&house, "three_states");
    back_to("v1");
    tell(&house, "back_at_the_first");
    back_to("v2");
    tell(&house, "back_at_the_second");
    back_to("v1");
    tell(&house, "back_at_the_first_again");
}

#[test]
fn what_a_deployment_left_is_shown_as_its_zip() {
    let hello = "def handler(event, context):\n    import words\n    return 'hello'\n";
    let house = House::serve()
        .function("hello", |f| f.on("python").written_in("py").event(hello))
        .start();
    house.save("src/words.py", "");
    house.deploy().ok();
    tell(&house, "what_a_deployment_left");
}

#[test]
fn what_lambda_s_clients_made_survives_kill_9() {
    let mut house = House::serve().start();
    tell(&house, "published_numbers");
    house.kill9();
    house.restart();
    tell(&house, "after_a_restart");
    let list = house.cli(&["list", "--json"]).ok().json();
    assert_eq!(list[0]["name"], "cart");
}

#[test]
fn the_aws_sdk_for_javascript_drives_it_too() {
    let house = House::serve().start();
    let zip = house.home().join("code.zip");
    let pack = "import sys, zipfile; zipfile.ZipFile(sys.argv[1], 'w').writestr('index.js', 'exports.handler = () => 1')";
    let packed = python("python").args(["-c", pack]).arg(&zip).status();
    assert!(packed.expect("python starts").success());
    assert!(fs::metadata(&zip).is_ok());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/control.mjs");
    let url = format!("http://{}", house.address);
    let told = Command::new("node")
        .args([script, &url])
        .arg(&zip)
        .env("PEERS_NODE", peers().join("node"))
        .output();
    let said = Said::of(&told.expect("node starts"));
    assert_eq!(said.code, 0, "{}\n{}", said.stderr, house.said());
}

#[test]
fn with_tokens_a_role_may_what_it_may_elsewhere() {
    let house = House::serve()
        .function("f", |f| f.event("export default () => 1"))
        .start();
    let made = house.cli(&["token", "create", "--role", "invoke", "--json"]);
    let made = made.ok().json();
    let token = made["token"].as_str().expect("a token");
    let ask = |method: &str, path: &str| house.ask(method, path).token(token).send();
    let functions = "/2015-03-31/functions/";
    assert_eq!(house.get(functions).status, 403);
    let refused = ask("GET", functions);
    assert_eq!(refused.status, 403, "{refused:?}");
    let words = "this needs `deploy` or `live`";
    assert!(refused.text().contains(words), "{refused:?}");
    assert_eq!(ask("POST", "/2021-10-31/functions/f/url").status, 403);
}
