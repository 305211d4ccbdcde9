//! Other people's clients against a server that runs: what they expect is the contract.

use std::fs;

use crate::{
    peers::python,
    serving::{House, Said},
};

/// What the fuzzer leaves out: the way to take its own token away, an archive that it cannot make up, and a path that is a
/// function's own unless the function was registered.
const NOT_FUZZED: [&str; 3] = [
    "/v1/tokens/{id}",
    "/v1/bundles/{digest}",
    "/functions/{function}/logs",
];

/// A request that its schema allows may still name what is not there, so only the answer's shape is judged there.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,negative_data_rejection,missing_required_header,\
    unsupported_method,allow_header_conformance,ignored_auth";

#[test]
fn a_fuzzer_finds_no_answer_that_the_description_does_not_know() {
    let house = House::serve()
        .function("hello", |f| {
            f.web("export default () => new Response('hi')")
        })
        .function("echo", |f| {
            f.event("export const handler = (event) => event")
        })
        .start();
    let token = house.token("admin");
    let folder = house.home().join("fuzz");
    fs::create_dir(&folder).expect("a folder");
    let names = "[parameters]\nproject = \"default\"\nfunction = \"echo\"\nalias = \"canary\"\n\"query.follow\" = false\n";
    fs::write(folder.join("schemathesis.toml"), names).expect("a file");
    let mut fuzzer = python("schemathesis");
    fuzzer
        .current_dir(&folder)
        .args(["run", "--url"])
        .arg(format!("http://{}", house.address))
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(["--phases", "coverage,fuzzing", "--max-examples", "15"])
        .args(["--generation-deterministic", "--continue-on-failure"])
        .args(["--warnings", "off", "--checks", CHECKS]);
    for path in NOT_FUZZED {
        fuzzer.args(["--exclude-path", path]);
    }
    let output = fuzzer
        .arg(format!("http://{}/openapi.json", house.address))
        .output()
        .expect("schemathesis runs");
    let said = Said::of(&output);
    assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
}
