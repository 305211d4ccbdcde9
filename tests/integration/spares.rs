//! Spare workers: booted ahead, used once, and exactly what a fresh worker would be.

use serde_json::Value;

use crate::{
    process::{Process, until},
    serving::House,
};

/// Says which process answers, and everything that a spare could get wrong.
const SELF: &str = r#"
    const loadedAt = { env: process.env.GREETING, cwd: process.cwd(), dir: import.meta.dir };
    export default async () => {
        const shell = Bun.spawn(["sh", "-c", "echo $GREETING; pwd"]);
        const sync = Bun.spawnSync({ cmd: ["sh", "-c", "echo $GREETING"] });
        return Response.json({
            pid: process.pid,
            loadedAt,
            env: { ...process.env },
            shell: await new Response(shell.stdout).text(),
            sync: sync.stdout.toString(),
            zone: new Date(0).getHours(),
        });
    };
"#;

fn spares_are_ready(house: &House) -> Vec<i32> {
    until("two spares wait", || house.bun_spares().len() == 2);
    house.bun_spares().iter().map(|spare| spare.pid).collect()
}

fn pid(answer: &Value) -> i32 {
    answer["pid"]
        .as_i64()
        .and_then(|pid| pid.try_into().ok())
        .expect("a process number")
}

#[test]
fn a_spare_becomes_exactly_what_a_fresh_worker_is() {
    let house = House::serve()
        .function("ahead", |f| {
            f.bun().setting("env = { GREETING = 'hi' }").web(SELF)
        })
        .function("fresh", |f| {
            f.bun()
                .setting("env = { GREETING = 'hi', TZ = 'Asia/Tokyo' }")
                .web(SELF)
        })
        .start();
    let spares = spares_are_ready(&house);
    let ahead = house.get("/functions/ahead").json();
    let fresh = house.get("/functions/fresh").json();
    assert!(
        spares.contains(&pid(&ahead)),
        "{ahead} is none of {spares:?}"
    );
    assert!(
        !spares.contains(&pid(&fresh)),
        "{fresh} reads TZ at its start"
    );
    assert_eq!((&ahead["zone"], &fresh["zone"]), (&0.into(), &9.into()));
    for answer in [&ahead, &fresh] {
        assert_eq!(answer["loadedAt"]["env"], "hi");
        assert_eq!(answer["loadedAt"]["cwd"], answer["loadedAt"]["dir"]);
        let cwd = answer["loadedAt"]["cwd"].as_str().unwrap();
        assert_eq!(answer["shell"], format!("hi\n{cwd}\n"));
        assert_eq!(answer["sync"], "hi\n");
    }
    let names = |answer: &Value| -> Vec<String> {
        let names = answer["env"].as_object().unwrap().keys();
        names.filter(|name| *name != "TZ").cloned().collect()
    };
    assert_eq!(names(&ahead), names(&fresh));
}

#[test]
fn a_spare_is_used_once_and_another_takes_its_place() {
    let house = House::serve()
        .function("a", |f| f.bun().web(SELF))
        .function("b", |f| f.bun().web(SELF))
        .start();
    let spares = spares_are_ready(&house);
    let answers = ["a", "b"].map(|name| pid(&house.get(&format!("/functions/{name}")).json()));
    assert_ne!(answers[0], answers[1]);
    assert!(
        answers.iter().all(|pid| spares.contains(pid)),
        "{answers:?}"
    );
    let next = spares_are_ready(&house);
    assert!(next.iter().all(|pid| !spares.contains(pid)), "{next:?}");
}

#[test]
fn a_spare_that_died_costs_nobody_anything() {
    let house = House::serve().function("a", |f| f.bun().web(SELF)).start();
    spares_are_ready(&house);
    let spares = house.bun_spares();
    spares.iter().for_each(Process::kill);
    until("they are dead", || !spares.iter().any(Process::runs));
    house.get("/functions/a").ok();
    spares_are_ready(&house);
}

#[test]
fn a_server_without_such_functions_boots_no_spare() {
    let house = House::serve()
        .function("a", |f| f.web("export default () => new Response('a')"))
        .start();
    house.get("/functions/a").ok();
    assert!(house.bun_spares().is_empty());
}
