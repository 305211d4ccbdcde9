//! Functions on a server, changed without a deployment: on and off, overrides, aliases with weights, the end.

use std::fs;

use serde_json::{Value, json};

use crate::{
    knock::Wire,
    process::until,
    serving::{House, Said},
};

const SLOW: &str = "
    export default async (r) => {
      const act = r.url.split('/').pop();
      console.log(act + ' begins');
      if (act === 'second') await new Promise((done) => setTimeout(done, 1000));
      if (act === 'forever') await new Promise(() => setTimeout(() => {}, 1e6));
      return new Response('done');
    };";

const ENV: &str = "export const handler = (event, context) => context.env;";

fn slow() -> House {
    House::serve().function("f", |f| f.bun().web(SLOW)).start()
}

fn begin(house: &House, act: &str) -> Wire {
    let wire = house.ask("GET", &format!("/functions/f/{act}")).open();
    house.logged("f", &format!("{act} begins"));
    wire
}

/// A function `f` whose versions answer with their words.
fn worded(words: &[&str]) -> House {
    let word = |word: &str| format!("export default () => new Response('{word}')");
    let first = word(words[0]);
    let house = House::serve().function("f", |f| f.web(first)).start();
    for next in &words[1..] {
        house.save("src/f.js", &word(next));
        house.deploy().ok();
    }
    house
}

fn aliases(house: &House) -> Value {
    house.cli(&["alias", "f", "--json"]).ok().json()
}

/// How often each word came, of so many calls.
fn count(house: &House, word: &str, calls: usize) -> usize {
    let answers = (0..calls).map(|_| house.get("/functions/f").ok());
    answers.filter(|answer| answer == word).count()
}

#[test]
fn a_disabled_function_is_refused_with_403_also_after_a_restart() {
    let mut house = worded(&["one"]);
    house.cli(&["disable", "f"]).ok().says("is disabled");
    house.get("/functions/f").fails(403, "FunctionDisabled");
    house.cli(&["invoke", "f"]).ends(6).says("bungee enable");
    let again = house.cli(&["disable", "f", "--json"]).ok().json();
    assert_eq!(again, json!({"enabled": false, "changed": false}));
    house.kill9();
    house.restart();
    house.get("/functions/f").fails(403, "FunctionDisabled");
    assert_eq!(
        house.cli(&["list", "--json"]).ok().json()[0]["enabled"],
        false
    );
    house.cli(&["enable", "f"]).ok().says("is enabled");
    assert_eq!(house.get("/functions/f").ok(), "one");
}

#[test]
fn what_is_in_flight_ends_normally_when_its_function_is_disabled() {
    let house = slow();
    let mut wire = begin(&house, "second");
    house.cli(&["disable", "f"]).ok();
    house.get("/functions/f/now").fails(403, "FunctionDisabled");
    assert_eq!(wire.answer().ok(), "done");
    until("its workers end", || house.bun_workers().is_empty());
}

#[test]
fn a_deployment_of_a_disabled_function_does_not_enable_it() {
    let house = worded(&["one"]);
    house.cli(&["disable", "f"]).ok();
    house.save("src/f.js", "export default () => new Response('two')");
    house.deploy().ok();
    house.get("/functions/f").fails(403, "FunctionDisabled");
    house.cli(&["enable", "f"]).ok();
    assert_eq!(house.get("/functions/f").ok(), "two");
}

#[test]
fn a_deleted_function_leaves_nothing_behind() {
    let mut house = worded(&["one", "two"]);
    house.get("/functions/f").ok();
    house.cli(&["env", "f", "set", "A=1"]).ok();
    let said = house.cli(&["delete", "f", "--json"]).ok().json();
    assert_eq!(said["versions"], 2, "{said}");
    assert_eq!(said["cut_off"], false);
    house.get("/functions/f").fails(404, "FunctionNotFound");
    house.cli(&["delete", "f"]).ends(4).says("no function");
    assert!(!house.data().join("bundles/default/f").exists());
    house.kill9();
    house.restart();
    let uploads = fs::read_dir(house.data().join("incoming"));
    let left = uploads.map_or(0, Iterator::count);
    assert_eq!(left, 0, "uploads of the deleted function stay");
    assert_eq!(house.cli(&["list", "--json"]).ok().json(), json!([]));
    house.deploy().ok();
    assert_eq!(house.get("/functions/f").ok(), "two");
    let info = house.cli(&["info", "f", "--json"]).ok().json();
    assert_eq!(info["current"], "v1", "numbers begin anew: {info}");
    assert!(info["settings"].get("env.A").is_none(), "{info}");
    let old = |record: &Value| record["version"] == "v2";
    let records = house.cli(&["invocations", "f", "--json"]).ok().json();
    let records = records["invocations"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    assert!(!records.iter().any(old), "{records:?}");
}

#[test]
fn deleting_one_function_keeps_the_bundle_of_another() {
    let source = "export default () => new Response('same')";
    let house = House::serve()
        .function("a", |f| f.web(source))
        .function("b", |f| f.web(source))
        .start();
    house.cli(&["delete", "a"]).ok();
    assert_eq!(house.get("/functions/b").ok(), "same");
    house.deploy().ok();
    assert_eq!(house.get("/functions/a").ok(), "same");
}

#[test]
fn delete_lets_what_is_in_flight_end_and_takes_nothing_new() {
    let house = slow();
    let mut wire = begin(&house, "second");
    let mut delete = house
        .command(&["delete", "f", "--quiet"])
        .spawn()
        .expect("it starts");
    until("it is not found any more", || {
        house.get("/functions/f/now").status == 404
    });
    let said = house.deploy().ends(3);
    assert!(said.stderr.contains("NameTaken"), "{said:?}");
    assert_eq!(wire.answer().ok(), "done");
    assert!(delete.wait().expect("it ends").success());
    assert!(house.bun_workers().is_empty(), "a worker stays behind");
    house.deploy().ok();
}

#[test]
fn delete_cuts_off_what_outlives_the_grace() {
    let house = House::serve()
        .flag("--grace")
        .flag("1s")
        .function("f", |f| f.bun().web(SLOW))
        .start();
    let mut wire = begin(&house, "forever");
    house.cli(&["delete", "f"]).ok().says("cut off");
    wire.answer()
        .fails(502, "WorkerCrashed")
        .says("was deleted, and the grace is over");
}

#[test]
fn delete_waits_for_calls_of_a_function_that_was_disabled_before() {
    let house = slow();
    let mut wire = begin(&house, "second");
    house.cli(&["disable", "f"]).ok();
    let said = house.cli(&["delete", "f", "--json"]).ok().json();
    assert_eq!(said["cut_off"], false, "{said}");
    assert!(house.bun_workers().is_empty(), "its call still runs");
    assert_eq!(wire.answer().ok(), "done");
    house.deploy().ok();
}

#[test]
fn delete_cuts_off_calls_of_a_version_that_was_superseded_before() {
    let house = House::serve()
        .flag("--grace")
        .flag("1s")
        .function("f", |f| f.bun().web(SLOW))
        .start();
    let mut wire = begin(&house, "forever");
    house.save("src/f.js", &format!("{SLOW}\n// again"));
    house.deploy().ok();
    house.cli(&["delete", "f"]).ok().says("cut off");
    wire.answer().fails(502, "WorkerCrashed");
    assert!(house.bun_workers().is_empty(), "a worker stays behind");
}

#[test]
fn a_function_whose_route_another_has_taken_stays_disabled() {
    let table = |name: &str| {
        format!("[functions.{name}]\nentry = 'src/{name}.js'\nroutes = ['GET /there']\n")
    };
    let source = |word: &str| format!("export default () => new Response('{word}')");
    let house = House::serve()
        .function("f", |f| {
            f.web(source("one")).setting("routes = ['GET /there']")
        })
        .start();
    house.cli(&["disable", "f"]).ok();
    house.save("src/g.js", &source("two"));
    house.save("bungee.toml", &table("g"));
    house.deploy().ok();
    assert_eq!(house.get("/there").ok(), "two");
    let said = house.cli(&["enable", "f"]).ends(3);
    said.says("NameTaken").says("GET /there").says("default/g");
    house.get("/functions/f").fails(403, "FunctionDisabled");
    let list = house.cli(&["list", "--json"]).ok().json();
    assert_eq!(list[0]["enabled"], false, "{list}");
    assert_eq!(house.get("/there").ok(), "two");
    house.cli(&["delete", "g"]).ok();
    house.cli(&["enable", "f"]).ok();
    assert_eq!(house.get("/there").ok(), "one");
}

#[test]
fn an_alias_that_is_refused_leaves_no_worker_of_its_other_half() {
    let source = |word: &str| format!("export default () => new Response('{word}')");
    let plan = House::serve();
    let broken = plan.home().join("broken");
    let three = format!(
        "import {{ existsSync }} from 'node:fs';\nif (existsSync('{}')) throw new Error('not today');\n{}",
        broken.display(),
        source("three")
    );
    let house = plan.function("f", |f| f.bun().web(source("one"))).start();
    for next in [source("two"), three] {
        house.save("src/f.js", &next);
        house.deploy().ok();
    }
    house.cli(&["alias", "f", "current", "v1"]).ok();
    assert_eq!(house.get("/functions/f").ok(), "one");
    until("the workers of v2 and v3 end", || {
        house.bun_workers().len() == 1
    });
    fs::write(broken, "").expect("a folder of ours");
    let said = house.cli(&["alias", "f", "current", "v2=50", "v3=50"]);
    assert_ne!(said.code, 0, "{said:?}");
    said.says("not today");
    until("the worker of v2 ends", || house.bun_workers().len() == 1);
    assert_eq!(house.get("/functions/f").ok(), "one");
}

#[test]
fn a_request_in_line_is_not_moved_to_a_version_that_asks_for_a_token() {
    let house = House::serve()
        .function("f", |f| {
            f.bun()
                .web(SLOW)
                .setting("auth = 'none'\nworkers.max = 1\nconcurrency = 1\nqueue.wait = '60s'")
        })
        .start();
    let _busy = begin(&house, "forever");
    let mut waits = house.ask("GET", "/functions/f/now").open();
    until("it waits in line", || {
        house.cli(&["info", "f", "--json"]).ok().json()["waiting"] == 1
    });
    house.save(
        "bungee.toml",
        "[functions.f]\nentry = 'src/f.js'\nruntime = 'bun'\nkind = 'web'\n",
    );
    house.deploy().ok();
    waits.answer().fails(503, "ShuttingDown");
}

/// What the function sees of its environment.
fn env(house: &House) -> Value {
    house.invoke("f", &json!({}))["result"].clone()
}

#[test]
fn overrides_lie_over_the_file_and_survive_deployments_and_restarts() {
    let house = House::serve().function("f", |f| {
        f.event(ENV).setting("env = { A = 'file', B = 'file' }")
    });
    let mut house = house.start();
    house.cli(&["env", "f", "set", "A=server", "C=1=2"]).ok();
    let seen = json!({"A": "server", "B": "file", "C": "1=2"});
    assert_eq!(env(&house), seen);
    house.save("src/f.js", &format!("{ENV}\n// again"));
    house.deploy().ok();
    assert_eq!(env(&house), seen);
    house.kill9();
    house.restart();
    assert_eq!(env(&house), seen);
    let shown = house.cli(&["env", "f", "--json"]).ok().json();
    assert_eq!(shown["A"], json!({"value": "server", "from": "override"}));
    assert_eq!(shown["B"]["from"], "bungee.toml");
    let info = house.cli(&["info", "f", "--json"]).ok().json();
    assert_eq!(info["settings"]["env.A"]["from"], "override");
    house.cli(&["env", "f", "unset", "A", "C"]).ok();
    assert_eq!(env(&house), json!({"A": "file", "B": "file"}));
    house
        .cli(&["env", "f", "unset", "A"])
        .ok()
        .says("was not set here");
    assert!(!house.said().contains("server"), "{}", house.said());
}

#[test]
fn variables_of_the_server_and_too_many_are_refused_and_nothing_changes() {
    let house = House::serve().function("f", |f| f.event(ENV)).start();
    let set = |pairs: &[&str]| -> Said { house.cli(&[&["env", "f", "set"][..], pairs].concat()) };
    for name in ["BUNGEE_BOOT", "BUNGEE_X", "HOME", "TMPDIR"] {
        let said = set(&["OK=1", &format!("{name}=x")]);
        said.ends(2).says(name).says("the server sets itself");
    }
    set(&["1A=hunter2"]).ends(2).says("env.1A");
    let said = set(&["hunter2"]).ends(2).says("variable 1");
    assert!(!said.stderr.contains("hunter2"), "{said:?}");
    let long = format!("A={}", "x".repeat(40_000));
    set(&[&long]).ok();
    set(&[&long.replace('A', "B")]).ends(2).says("64KB");
    let shown = house.cli(&["env", "f", "--json"]).ok().json();
    assert_eq!(shown.as_object().expect("an object").len(), 1, "{shown}");
    house.cli(&["env", "nobody", "set", "A=1"]).ends(4);
}

#[test]
fn a_change_of_overrides_loses_no_request() {
    let source = "export default async () => { await new Promise((d) => setTimeout(d, 20)); return new Response(process.env.N ?? 'none'); }";
    let house = House::serve().function("f", |f| f.bun().web(source).setting("concurrency = 4"));
    let house = house.start();
    house.get("/functions/f").ok();
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..40).for_each(|_| drop(house.get("/functions/f").ok()))))
            .collect();
        for n in 0..4 {
            house.cli(&["env", "f", "set", &format!("N={n}")]).ok();
        }
        assert_eq!(house.get("/functions/f").ok(), "3");
        for asked in asking {
            asked.join().expect("every request is answered");
        }
    });
}

#[test]
fn an_alias_leads_to_its_version_and_current_to_another() {
    let mut house = worded(&["one", "two"]);
    house
        .cli(&["alias", "f", "live", "v1"])
        .ok()
        .says("points at v1");
    assert_eq!(house.get("/functions/f").ok(), "two");
    let live = |house: &House| {
        let said = house.cli(&["invoke", "f", "--alias", "live", "--http", "GET /"]);
        said.ok().stdout
    };
    assert_eq!(live(&house), "one");
    let said = house.cli(&["invoke", "f", "--alias", "live"]).ok();
    assert_eq!(said.stdout, "one");
    let versions = house.cli(&["versions", "f"]).ok().stdout;
    assert!(versions.contains("live"), "{versions}");
    house.kill9();
    house.restart();
    assert_eq!(live(&house), "one");
    let said = house.cli(&["invoke", "f", "--alias", "lve"]);
    said.ends(4)
        .says("no alias `lve`")
        .says("did you mean `live`?");
    house.cli(&["alias", "f", "live", "--delete"]).ok();
    house.cli(&["invoke", "f", "--alias", "live"]).ends(4);
    house.cli(&["alias", "f", "live", "--delete"]).ends(4);
    house.cli(&["alias", "f", "current", "--delete"]).ends(2);
}

#[test]
fn weights_share_the_calls_between_two_versions() {
    let mut house = worded(&["one", "two"]);
    house.cli(&["alias", "f", "current", "v1=80", "v2=20"]).ok();
    let parts = json!([{"version": "v1", "weight": 80}, {"version": "v2", "weight": 20}]);
    assert_eq!(aliases(&house), json!({"current": parts}));
    house.kill9();
    house.restart();
    // Of 400 calls 80 are expected, and eight deviations are 64.
    let two = count(&house, "two", 400);
    assert!((16..=144).contains(&two), "{two} of 400 met v2");
    let list = house.cli(&["versions", "f", "--json"]).ok().json();
    assert_eq!(
        list[0]["aliases"][0],
        json!({"name": "current", "weight": 20})
    );
    assert_eq!(
        (&list[0]["current"], &list[1]["current"]),
        (&json!(true), &json!(true))
    );
    let info = house.cli(&["info", "f"]).ok().stdout;
    assert!(info.contains("v1 80%, v2 20%"), "{info}");
}

#[test]
fn each_side_of_an_alias_has_workers_of_its_own() {
    let source = |word: &str| format!("export default () => new Response('{word}')");
    let house = House::serve()
        .function("f", |f| f.bun().web(source("one")))
        .start();
    house.save("src/f.js", &source("two"));
    house.deploy().ok();
    until("the workers of v1 end", || house.bun_workers().is_empty());
    house.cli(&["alias", "f", "current", "v1=50", "v2=50"]).ok();
    let two = count(&house, "two", 40);
    assert!((1..40).contains(&two), "{two} of 40 met v2");
    let before = house.bun_workers();
    let info = house.cli(&["info", "f", "--json"]).ok().json();
    assert_eq!(info["workers"]["idle"], 2, "{info}");
    // A version that stays keeps its workers, whatever becomes of the other one.
    house.cli(&["alias", "f", "current", "v2"]).ok();
    until("the other side's workers end", || {
        house.cli(&["info", "f", "--json"]).ok().json()["workers"]["idle"] == 1
    });
    assert_eq!(house.get("/functions/f").ok(), "two");
    let mut after = house.bun_workers();
    after.retain(|worker| before.contains(worker));
    assert!(!after.is_empty(), "{before:?}");
}

#[test]
fn one_alias_too_many_is_refused_by_its_limit() {
    let house = House::serve()
        .flag("--limit")
        .flag("aliases=2")
        .function("f", |f| f.web("export default () => new Response('one')"))
        .start();
    house.cli(&["alias", "f", "live", "v1"]).ok();
    let said = house.cli(&["alias", "f", "more", "v1"]).ends(2);
    assert!(said.stderr.contains("the limit `aliases`"), "{said:?}");
    house
        .cli(&["alias", "f", "live", "v1"])
        .ok()
        .says("already");
}

#[test]
fn rollback_takes_weights_back_and_forth() {
    let house = worded(&["one", "two"]);
    house.cli(&["alias", "f", "current", "v2=90", "v1=10"]).ok();
    house.cli(&["rollback", "f"]).ok();
    assert_eq!(
        aliases(&house)["current"],
        json!([{"version": "v2", "weight": 100}])
    );
    assert_eq!(count(&house, "two", 60), 60);
    house.cli(&["rollback", "f"]).ok();
    assert_eq!(
        aliases(&house)["current"][1],
        json!({"version": "v1", "weight": 10})
    );
    // A deployment of what is there already is a change all the same: it takes the weights away.
    house.deploy().ok().says("is at v2 alone, without weights");
    assert_eq!(
        aliases(&house)["current"],
        json!([{"version": "v2", "weight": 100}])
    );
}

#[test]
fn weights_that_make_no_whole_are_refused_and_nothing_changes() {
    let house = worded(&["one", "two"]);
    for (versions, words) in [
        (&["v1=60", "v2=60"][..], "60 + 60 add up to 120"),
        (&["v1=50"], "50 add up to 50"),
        (&["v1=90", "v2"], "v2 has no weight"),
        (&["v1=50", "v1=50"], "v1 was named twice"),
        (&["v1=100", "v2=0"], "v2 has the weight 0"),
        (&["v1=half"], "no weight"),
        (&[], "where is `current` to point?"),
    ] {
        let said = house.cli(&[&["alias", "f", "current"][..], versions].concat());
        said.ends(2).says(words);
    }
    house
        .cli(&["alias", "f", "current", "v9"])
        .ends(4)
        .says("v9");
    assert_eq!(
        aliases(&house)["current"],
        json!([{"version": "v2", "weight": 100}])
    );
    assert_eq!(house.get("/functions/f").ok(), "two");
}

#[test]
fn whoever_names_an_alias_needs_a_token_where_there_is_one() {
    let source = "export default () => new Response('one')";
    let house = House::serve()
        .function("f", |f| f.web(source).setting("auth = 'none'"))
        .start();
    house.cli(&["alias", "f", "live", "v1"]).ok();
    let ask = || {
        let ask = house.ask("GET", "/functions/f");
        ask.header("x-bungee-alias", "live")
    };
    assert_eq!(ask().send().ok(), "one");
    let socket = house.socket();
    let socket = socket.to_str().expect("a readable path");
    let made = house.cli(&["token", "create", "--role", "invoke", "--socket", socket]);
    let token = made.ok().stdout.trim().to_owned();
    assert_eq!(house.get("/functions/f").ok(), "one");
    ask().send().fails(401, "Unauthorized");
    assert_eq!(ask().token(&token).send().ok(), "one");
}

#[test]
fn an_alias_cannot_be_called_like_a_version() {
    let house = House::serve()
        .function("f", |f| f.web("export default () => new Response('f')"))
        .start();
    for name in ["v1", "7"] {
        house
            .cli(&["alias", "f", name, "v1"])
            .says("names a version");
    }
    house.cli(&["alias", "f", "live", "v1"]).ok();
}
