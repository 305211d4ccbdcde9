//! Access keys and signatures: who signs rightly is let in, and who does not hears why in AWS's words.

use serde_json::{Value, json};

use crate::{
    peers::python,
    serving::{House, Said},
    signer::Key,
};

fn hello() -> House {
    let event = "export const handler = (event) => event.name ?? 'nobody'";
    House::serve().function("hello", |f| f.event(event)).start()
}

fn call() -> Value {
    json!({"FunctionName": "hello", "Payload": r#"{"name": "ann"}"#})
}

/// The error of a call, with its message.
#[track_caller]
fn refused(answer: &Value, status: u16, error: &str, says: &str) {
    assert_eq!(
        (&answer["status"], &answer["error"]),
        (&json!(status), &json!(error)),
        "{answer}"
    );
    let message = answer["message"].as_str().unwrap_or_default();
    assert!(message.contains(says), "{answer}");
}

const INVOKE: &str = "/2015-03-31/functions/hello/invocations";

#[test]
fn an_open_server_lets_local_programs_in_whatever_they_sign_with() {
    let house = hello();
    assert_eq!(Key::made_up().call(&house, call())["Payload"], "\"ann\"");
    assert_eq!(house.post(INVOKE, "{}").ok(), "\"nobody\"");
    let page = house
        .ask("POST", INVOKE)
        .header("origin", "https://evil.example");
    let refused = page.send();
    assert_eq!(
        (refused.status, refused.header("x-amzn-errortype")),
        (403, Some("AccessDeniedException"))
    );
}

#[test]
fn only_keys_of_the_server_open_one_that_has_any_token() {
    let house = hello();
    let key = Key::of(&house, "invoke");
    assert!(
        key.id.starts_with("AKIA") && key.id.len() == 20,
        "{}",
        key.id
    );
    house.get("/v1/server").fails(401, "Unauthorized");
    assert_eq!(key.call(&house, call())["Payload"], "\"ann\"");
    let unknown = Key::made_up().call(&house, call());
    refused(
        &unknown,
        403,
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
    );
    let wrong = Key {
        id: key.id.clone(),
        secret: Key::made_up().secret,
    };
    let mismatch = "The request signature we calculated does not match the signature you provided.";
    refused(
        &wrong.call(&house, call()),
        403,
        "InvalidSignatureException",
        mismatch,
    );
    let missing = house.post(INVOKE, "{}");
    assert_eq!(missing.status, 403);
    assert_eq!(
        missing.header("x-amzn-errortype"),
        Some("MissingAuthenticationTokenException")
    );
    assert_eq!(missing.json()["message"], "Missing Authentication Token");
    let incomplete = house
        .ask("POST", INVOKE)
        .header("authorization", "AWS4-HMAC-SHA256 Credential=x");
    let incomplete = incomplete.body("{}").send();
    assert_eq!(
        incomplete.header("x-amzn-errortype"),
        Some("IncompleteSignatureException")
    );
    // A token of ours is as good here as anywhere, and the secret of a key is none.
    let token = house.token("invoke");
    assert_eq!(
        house.ask("POST", INVOKE).token(&token).send().ok(),
        "\"nobody\""
    );
    let bearer = house.ask("POST", INVOKE).token(&key.secret).send();
    assert_eq!(
        bearer.header("x-amzn-errortype"),
        Some("UnrecognizedClientException")
    );
}

#[test]
fn a_signature_counts_for_five_minutes() {
    let house = hello();
    let key = Key::of(&house, "deploy");
    let mut stale = call();
    stale["at"] = json!(-400);
    refused(
        &key.call(&house, stale),
        403,
        "InvalidSignatureException",
        "Signature expired: ",
    );
    let mut early = call();
    early["at"] = json!(400);
    refused(
        &key.call(&house, early),
        403,
        "InvalidSignatureException",
        "Signature not yet current: ",
    );
    let mut late = call();
    late["at"] = json!(-200);
    assert_eq!(key.call(&house, late)["Payload"], "\"ann\"");
}

#[test]
fn a_path_with_an_arn_and_a_qualifier_is_signed_as_it_travels() {
    let house = hello();
    let key = Key::of(&house, "invoke");
    let arn = "arn:aws:lambda:eu-west-1:000000000000:function:hello";
    let calls = json!([
        {"FunctionName": arn, "Qualifier": "$LATEST", "Payload": "{\"name\": \"ž \u{1f600}\"}"},
        {"FunctionName": format!("{arn}:$LATEST"), "ClientContext": "{\"custom\": {\"a\": 1}}", "TenantId": "blue"},
        {"call": "invoke_with_response_stream", "FunctionName": arn},
    ]);
    let answers = key.calls(&house, &calls);
    let name: String =
        serde_json::from_str(answers[0]["Payload"].as_str().expect("a text")).expect("JSON");
    assert_eq!(name, "ž \u{1f600}");
    assert_eq!(answers[1]["Payload"], "\"nobody\"");
    assert_eq!(answers[2]["pieces"], json!(["\"nobody\""]));
}

#[test]
fn a_key_is_listed_without_its_secret_survives_a_restart_and_ends() {
    let mut house = hello();
    let key = Key::with(&house, "deploy", &["--user", "ann"]);
    let brief = Key::with(&house, "deploy", &["--expires", "1ms"]);
    let socket = house.socket().display().to_string();
    let tokens =
        |command: &[&str]| house.cli(&[&["token"], command, &["--socket", &socket]].concat());
    let listed = tokens(&["list"]).ok().stdout;
    assert!(
        listed.contains(&key.id) && listed.contains("aws") && listed.contains("ann"),
        "{listed}"
    );
    assert!(!listed.contains(&key.secret), "{listed}");
    let shown = tokens(&["create", "--role", "invoke", "--aws"]).ok();
    assert!(
        shown.stdout.contains("AccessKeyId") && shown.stdout.contains("SecretAccessKey"),
        "{shown:?}"
    );
    assert!(
        shown.stderr.contains("export AWS_ENDPOINT_URL_LAMBDA="),
        "{shown:?}"
    );
    tokens(&["create", "--role", "bridge", "--aws"])
        .ends(2)
        .says("would open nothing");
    refused(
        &brief.call(&house, call()),
        403,
        "UnrecognizedClientException",
        "is invalid",
    );
    for file in ["meta.db", "meta.db-wal"] {
        let bytes = std::fs::read(house.data().join(file)).unwrap_or_default();
        let secret = key.secret.as_bytes();
        assert!(
            !bytes.windows(secret.len()).any(|part| part == secret),
            "{file}"
        );
    }
    house.kill9();
    house.restart();
    assert_eq!(key.call(&house, call())["Payload"], "\"ann\"");
    let socket = house.socket().display().to_string();
    house
        .cli(&["token", "revoke", &key.id, "--socket", &socket])
        .ok();
    refused(
        &key.call(&house, call()),
        403,
        "UnrecognizedClientException",
        "is invalid",
    );
}

#[test]
fn a_key_may_what_its_role_may() {
    let house = hello();
    let key = Key::of(&house, "live");
    assert_eq!(key.call(&house, call())["Payload"], "\"ann\"");
}

#[test]
fn the_seal_key_may_lie_elsewhere_and_has_to_be_one() {
    let plan = House::serve();
    let file = plan.home().join("mine.key");
    let flag = file.display().to_string();
    std::fs::write(&file, "no key").expect("a file");
    let said = plan.flag("--seal-key").flag(&flag).refuses();
    said.ends(3).says("holds no seal key");
    let plan = House::serve();
    let file = plan.home().join("mine.key");
    std::fs::write(&file, "ab".repeat(32)).expect("a file");
    let house = plan
        .function("hello", |f| f.event("export const handler = () => 1"))
        .flag("--seal-key")
        .flag(file.display().to_string())
        .start();
    let key = Key::of(&house, "invoke");
    assert_eq!(key.call(&house, call())["Payload"], "1");
    assert!(!house.data().join("seal.key").exists());
}

#[test]
fn a_header_that_is_obeyed_must_have_been_signed() {
    let house = hello();
    let key = Key::of(&house, "invoke");
    let program = "
import sys, urllib.request, urllib.error
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
url, key, secret, signs, adds = sys.argv[1:]
headers = lambda text: dict([text.split('=')]) if text else {}
asked = AWSRequest('POST', url, data=b'{}', headers=headers(signs))
SigV4Auth(Credentials(key, secret), 'lambda', 'eu-west-1').add_auth(asked)
request = urllib.request.Request(url, b'{}', {**dict(asked.headers), **headers(adds)}, method='POST')
try:
    answer = urllib.request.urlopen(request)
    print(answer.status)
except urllib.error.HTTPError as error:
    print(error.code, error.headers['x-amzn-errortype'], error.read().decode())
";
    let url = format!("http://{}{INVOKE}", house.address);
    let call = |signs: &str, adds: &str| {
        let mut python = python("python");
        python.args(["-c", program, &url, &key.id, &key.secret, signs, adds]);
        Said::of(&python.output().expect("python runs")).ok().stdout
    };
    let event = "X-Amz-Invocation-Type=Event";
    assert_eq!(call(event, "").trim(), "202");
    assert_eq!(call("", "X-Amzn-Trace-Id=Root").trim(), "200");
    for added in [event, "X-Amz-Log-Type=Tail", "X-Amz-Tenant-Id=blue"] {
        let said = call("", added);
        assert!(
            said.starts_with("403 InvalidSignatureException")
                && said.contains("which were not signed"),
            "{said}"
        );
    }
}

#[test]
fn a_function_s_own_path_takes_signatures_too() {
    let house = House::serve()
        .function("web", |f| {
            f.web("export default async (r) => new Response('got ' + await r.text() + new URL(r.url).search)")
        })
        .start();
    let key = Key::of(&house, "invoke");
    let sign = |key: &Key, body: &str, sent: &str| {
        let program = "
import sys, urllib.request, urllib.error
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
url, key, secret, body, sent = sys.argv[1:]
asked = AWSRequest('POST', url, data=body.encode(), headers={'content-type': 'text/plain'})
SigV4Auth(Credentials(key, secret), 'lambda', 'eu-west-1').add_auth(asked)
request = urllib.request.Request(url, sent.encode(), dict(asked.headers), method='POST')
try:
    print(urllib.request.urlopen(request).read().decode())
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
";
        let url = format!("http://{}/functions/web/?b=2&a=1", house.address);
        let mut python = python("python");
        python.args(["-c", program, &url, &key.id, &key.secret, body, sent]);
        Said::of(&python.output().expect("python runs")).ok().stdout
    };
    assert_eq!(sign(&key, "hi", "hi").trim(), "got hi?b=2&a=1");
    assert_eq!(sign(&key, "", "").trim(), "got ?b=2&a=1");
    let changed = sign(&key, "hi", "ho");
    assert!(
        changed.starts_with("401") && changed.contains("does not match"),
        "{changed}"
    );
    let unknown = sign(&Key::made_up(), "hi", "hi");
    assert!(
        unknown.starts_with("401") && unknown.contains("token create --aws"),
        "{unknown}"
    );
}
