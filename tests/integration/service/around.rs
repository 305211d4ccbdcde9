//! What surrounds the functions of the service: access, routes, variables, the description.

use serde_json::{Value, json};

use super::{HELLO, ask, create, path, refuses};
use crate::{
    schema::Description,
    serving::{House, Said},
};

#[test]
fn a_path_resolves_to_the_function_that_it_means() {
    let house = House::serve()
        .function("orders", |f| {
            f.event("export const handler = () => 1")
                .setting("routes = ['GET /orders/:id']")
        })
        .start();
    create(
        &house,
        json!({"function_name": "hello", "file_path": "api/greet.js", "code": HELLO}),
    );
    let resolve = |project: &str, path: &str| {
        let answer = house.get(&format!("/v1/routes?project={project}&path={path}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    for path in [
        "/_functions/hello",
        "/_functions/hello/more",
        "/api/v1/functions/hello",
        "/api/v1/functions/project-123/hello",
        "/functions/project-123/hello",
        "/api/greet",
        "api/greet.js",
    ] {
        let expected = json!({
            "is_function": true, "project": "project-123", "function_name": "hello",
            "url": "/functions/project-123/hello", "is_active": true, "params": {},
        });
        assert_eq!(resolve("project-123", path), expected, "{path}");
    }
    let order = resolve("default", "/orders/7");
    assert_eq!(
        (&order["function_name"], &order["params"]),
        (&json!("orders"), &json!({"id": "7"}))
    );
    for (project, path) in [
        ("project-123", "/orders/7"),
        ("project-123", "/_functions/none"),
        ("default", "/api/greet"),
        ("nobody", "/_functions/hello"),
    ] {
        let none = json!({"is_function": false, "project": project, "params": {}});
        assert_eq!(resolve(project, path), none, "{path}");
    }
    let off = json!({"is_active": false});
    ask(&house, "PATCH", &path("hello"), &off);
    assert_eq!(
        resolve("project-123", "/_functions/hello")["is_active"],
        false
    );
    house
        .get("/v1/routes?project=project-123")
        .fails(400, "BadRequest")
        .says("`path`");
}

#[test]
fn who_may_not_is_told_so_in_the_service_s_shape() {
    let house = House::serve().flag("--require-token").start();
    let (deploy, caller) = (house.token("deploy"), house.token("invoke"));
    let new = |name: &str| json!({"function_name": name, "code": HELLO});
    let create = |words: &Value| {
        house
            .ask("POST", "/api/functions/projects/project-123")
            .json(words)
    };
    let refused = create(&new("hello")).send();
    refuses(&refused, 401, "Unauthorized", "this needs a token");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    let refused = create(&new("hello")).token(&caller).send();
    refuses(&refused, 403, "Forbidden", "`invoke`");
    assert_eq!(create(&new("hello")).token(&deploy).send().status, 201);
    let post = || {
        house
            .ask("POST", &path("hello"))
            .json(&json!({"name": "Ann"}))
    };
    refuses(&post().send(), 401, "Unauthorized", "token");
    assert_eq!(post().token(&caller).send().status, 200);
    // What everybody may call, everybody may call here too.
    house.save("src/free.js", "export const handler = () => 'free'");
    house.save(
        "bungee.toml",
        "[functions.free]\nentry = 'src/free.js'\nauth = 'none'\n",
    );
    let folder = house.folder.to_str().expect("a readable path");
    house.cli(&["deploy", folder, "--token", &deploy]).ok();
    let free = house
        .ask("POST", "/_functions/free")
        .json(&json!({}))
        .send();
    assert_eq!(free.json()["result"], "free", "{}", free.text());
    // Nobody learns what is there without a token.
    let unknown = house.ask("POST", &path("none")).json(&json!({})).send();
    refuses(&unknown, 401, "Unauthorized", "token");
    for (method, at) in [
        ("GET", path("hello")),
        ("GET", "/api/functions/code/project-123/hello".to_owned()),
        ("DELETE", "/api/functions/project-123/hello".to_owned()),
        ("POST", "/api/functions/register".to_owned()),
        ("GET", "/api/v1/projects/project-123/functions".to_owned()),
    ] {
        let answer = house.ask(method, &at).send();
        refuses(&answer, 401, "Unauthorized", "token");
    }
    let open = House::serve().start();
    let page = open
        .ask("POST", "/api/functions/projects/project-123")
        .header("origin", "https://evil.example")
        .json(&new("hello"));
    refuses(&page.send(), 403, "Forbidden", "web page");
}

#[test]
fn every_operation_of_the_service_answers_as_openapi_json_describes_it() {
    let house = House::serve().start();
    let description = Description::read();
    let seen = |operation: &str, body: Option<Value>| {
        let (method, path) = operation.split_once(' ').expect("a method and a path");
        let at = path
            .replace("{project}", "default")
            .replace("{function}", "hello");
        let answer = match body {
            Some(body) => ask(&house, method, &at, &body),
            None => house.ask(method, &at).send(),
        };
        description.check(operation, &answer);
    };
    let new = json!({"function_name": "hello", "code": HELLO});
    seen("POST /api/functions/projects/{project}", Some(new.clone()));
    seen("POST /api/functions/projects/{project}", Some(new.clone()));
    seen("POST /api/functions/register", Some(new));
    for base in [
        "/api/v1/functions/{project}/{function}",
        "/api/v1/functions/{function}",
        "/_functions/{function}",
    ] {
        seen(&format!("GET {base}"), None);
        seen(&format!("POST {base}"), Some(json!({"name": "Ann"})));
        seen(&format!("POST {base}"), Some(json!(null)));
        seen(&format!("PATCH {base}"), Some(json!({"is_active": true})));
    }
    seen("GET /api/v1/projects/{project}/functions", None);
    seen("GET /api/functions/projects/{project}", None);
    seen("GET /api/functions/{project}/{function}", None);
    seen(
        "PATCH /api/functions/{project}/{function}",
        Some(json!({"code": HELLO})),
    );
    seen("GET /api/functions/code/{project}/{function}", None);
    seen("DELETE /api/functions/{project}/{function}", None);
    seen("GET /api/functions/{project}/{function}", None);
    let routes = house.get("/v1/routes?path=/_functions/hello");
    description.check("GET /v1/routes", &routes);
    let mut unseen = description.unseen();
    unseen.retain(|operation| {
        ["/api/", "/_functions/", "/v1/routes"]
            .iter()
            .any(|path| operation.contains(path))
    });
    assert!(unseen.is_empty(), "nobody looked at {unseen:?}");
}

#[test]
fn variables_of_the_service_are_read_where_ours_are_absent() {
    let house = House::serve()
        .flag("--listen=127.0.0.1:0")
        .variable("FUNCTIONS_PORT", "1")
        .variable("LOG_LEVEL", "DEBUG")
        .start();
    // `--listen` won over the port; the level held.
    assert!(!house.address.ends_with(":1"), "{}", house.address);
    let command = |name: &str, value: &str, arguments: &[&str]| {
        let mut command = house.command(arguments);
        command.env_remove("BUNGEE_SERVER").env(name, value);
        let said = command.output().expect("the program starts");
        Said::of(&said)
    };
    let here = format!("http://{}", house.address);
    command("API_ENDPOINT", &here, &["list"]).ok();
    command("API_ENDPOINT", "nonsense://", &["list"])
        .ends(3)
        .says("`API_ENDPOINT`");
    let data = house.home_folder();
    let data = data.to_str().expect("a readable path");
    let serve = |name: &str, value: &str| command(name, value, &["serve", "--data-dir", data]);
    serve("FUNCTIONS_PORT", "many")
        .ends(3)
        .says("`FUNCTIONS_PORT` is `many`");
    serve("LOG_LEVEL", "loud")
        .ends(3)
        .says("`LOG_LEVEL` is `loud`");
    // A port that is taken tells that it was this one that was asked for.
    let (_, port) = house.address.rsplit_once(':').expect("a port");
    serve("FUNCTIONS_PORT", port)
        .ends(3)
        .says(&format!("127.0.0.1:{port} is in use"));
    let refused = serve("DATABASE_URL", "postgresql://ann:secret@db:5432/functions");
    assert!(!refused.stderr.contains("secret"), "{refused:?}");
    refused
        .ends(3)
        .says("PostgreSQL database; keeping the server's state there arrives later");
    serve("DATABASE_URL", "file:./dev.db")
        .ends(3)
        .says("`DATABASE_URL`");
}
