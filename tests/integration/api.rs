//! The API, and `/openapi.json`, which describes it: every operation answers as it is described.

use serde_json::json;

use crate::{knock::Answer, schema::Description, serving::House};

const FUNCTION: &str = "/v1/projects/{project}/functions/{function}";

/// What the paths of the Functions Service profile begin with.
const SERVICE: [&str; 3] = [" /api/", " /_functions/", " /v1/routes"];

fn web_and_event() -> House {
    let event = "export const handler = async (event) => { console.log('seen'); if (event.bad) throw new Error('bad'); return event; }";
    House::serve()
        .function("hello", |f| {
            f.web("export default () => new Response('one')")
        })
        .function("echo", |f| f.event(event).setting("record = 'failed'"))
        .start()
}

/// Asks an operation, with these in the place of its parameters, and checks the answer.
struct Checked<'a> {
    house: &'a House,
    description: Description,
}

impl Checked<'_> {
    #[track_caller]
    fn ask(&self, operation: &str, rest: &str, body: Option<serde_json::Value>) -> Answer {
        let (method, path) = operation.split_once(' ').expect("a method and a path");
        let path = path
            .replace("{project}", "default")
            .replace("{function}", "echo")
            .replace("{alias}", "current");
        let path = match path.split_once('{') {
            Some((before, _)) => format!("{before}{rest}"),
            None => format!("{path}{rest}"),
        };
        let ask = self.house.ask(method, &path);
        let answer = match body {
            Some(body) => ask.json(&body).send(),
            None => ask.send(),
        };
        self.description.check(operation, &answer);
        answer
    }

    #[track_caller]
    fn below(&self, operation: &str, rest: &str, body: Option<serde_json::Value>) -> Answer {
        let (method, path) = operation.split_once(' ').expect("a method and a path");
        self.ask(&format!("{method} {FUNCTION}{path}"), rest, body)
    }
}

impl Checked<'_> {
    #[track_caller]
    fn recording(&self, id: &str) {
        let path = format!("/v1/projects/default/functions/echo/invocations/{id}/recording");
        let answer = self.house.get(&path);
        let operation = format!("GET {FUNCTION}/invocations/{{id}}/recording");
        self.description.check(&operation, &answer);
    }

    /// `current` may be neither weighted nor deleted here.
    #[track_caller]
    fn other_alias(&self, method: &str, body: Option<serde_json::Value>) {
        let path = "/v1/projects/default/functions/echo/aliases/canary";
        let ask = self.house.ask(method, path);
        let answer = match body {
            Some(body) => ask.json(&body).send(),
            None => ask.send(),
        };
        let operation = format!("{method} {FUNCTION}/aliases/{{alias}}");
        self.description.check(&operation, &answer);
    }
}

#[test]
fn every_operation_answers_as_openapi_json_describes_it() {
    let house = web_and_event();
    let checked = Checked {
        house: &house,
        description: Description::read(),
    };
    let served = checked.ask("GET /openapi.json", "", None).json();
    let is_the_file = served == checked.description.document;
    assert!(is_the_file, "another description is served");
    for path in [
        "/health",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/v1/server",
    ] {
        checked.ask(&format!("GET {path}"), "", None);
    }
    checked.ask("GET /metrics", "", None);
    checked.ask("GET /v1/projects/{project}/functions", "", None);
    checked.below("GET ", "", None);
    checked.below("POST /invoke", "", Some(json!({"a": 1})));
    checked.below("POST /invoke", "", Some(json!({"bad": true})));
    house.logged("echo", "seen");
    checked.below(
        "GET /logs",
        "?since=60000&until=0&contains=SEEN&level=info&limit=1",
        None,
    );
    let failed = house.record("echo", |record| record["outcome"] == "HandlerError");
    let id = failed["id"].as_str().expect("an id");
    checked.ask("GET /v1/invocations/{id}", id, None);
    checked.below("GET /invocations/{id}", id, None);
    checked.recording(id);
    checked.below("POST /replay", "", Some(json!({"id": id})));
    checked.below("GET /invocations", "?failed=true&limit=10", None);
    checked.below("GET /invocations", "", None);
    let versions = checked.below("GET /versions", "", None).json();
    let bundle = versions[0]["bundle"].as_str().expect("a digest").to_owned();
    checked.ask("HEAD /v1/bundles/{digest}", &bundle, None);
    let known = house.ask("PUT", &format!("/v1/bundles/{bundle}")).send();
    checked
        .description
        .check("PUT /v1/bundles/{digest}", &known);
    let new = json!({"bundle": bundle, "entry": "src/echo.js", "kind": "event", "settings": {"timeout": "9s"}});
    checked.below("POST /versions", "", Some(new));
    checked.below("PUT /aliases/{alias}", "", Some(json!({"version": "v2"})));
    checked.below("POST /rollback", "", None);
    checked.below("GET /aliases", "", None);
    let two =
        json!({"versions": [{"version": "v1", "weight": 90}, {"version": "v2", "weight": 10}]});
    checked.other_alias("PUT", Some(two));
    checked.below("GET /versions", "", None);
    checked.below("POST /invoke", "?alias=canary", Some(json!({})));
    checked.other_alias("DELETE", None);
    checked.below(
        "PATCH /env",
        "",
        Some(json!({"set": {"A": "1"}, "unset": ["B"]})),
    );
    checked.below("GET /env", "", None);
    checked.below("PATCH ", "", Some(json!({"enabled": true})));
    checked.below("PUT /aliases/{alias}", "", Some(json!({"version": "v9"})));
    checked.below("DELETE ", "", None);
    checked.below("GET ", "", None);
    let registered = json!({"name": "echo", "runtime": "isolate", "handler": null});
    checked.ask("POST /v1/functions/register", "", Some(registered));
    let code = house.code(
        "echo.js",
        "export default () => new Response(console.log('x'))",
    );
    let deployed = json!({"function_id": "echo", "version": "v1", "bundle_path": code});
    checked.ask("POST /v1/functions/deploy", "", Some(deployed));
    checked.ask("POST /v1/functions/deploy", "", Some(json!({})));
    house.get("/functions/echo").ok();
    house.logged("echo", "x");
    checked.ask("GET /functions/{function}/logs", "?limit=5", None);
    checked.ask("GET /functions/{function}/logs", "?limit=no", None);
    // From the first token on everybody needs one.
    let token = checked.ask(
        "POST /v1/tokens",
        "",
        Some(json!({"role": "admin", "expires_ms": 60000})),
    );
    let token = token.json();
    let admin = |method: &str, path: &str| {
        let secret = token["token"].as_str().expect("a secret");
        house.ask(method, path).token(secret).send()
    };
    checked
        .description
        .check("GET /v1/tokens", &admin("GET", "/v1/tokens"));
    let id = token["id"].as_str().expect("an id");
    let gone = admin("DELETE", &format!("/v1/tokens/{id}"));
    checked.description.check("DELETE /v1/tokens/{id}", &gone);
    let mut unseen = checked.description.unseen();
    // `service.rs` looks at these.
    unseen.retain(|operation| !SERVICE.iter().any(|path| operation.contains(path)));
    assert!(unseen.is_empty(), "nobody looked at {unseen:?}");
}
