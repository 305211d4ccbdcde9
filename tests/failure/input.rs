//! Bad input: one clear line, the stable type, nothing lost and nothing half-done.

use serde_json::json;

use crate::serving::House;

const HELLO: &str = "export default () => new Response('good')";

/// A server with a good function `f`, whose source a test then breaks.
fn good() -> House {
    House::serve().function("f", |f| f.module(HELLO)).start()
}

/// Deploys the source, which is refused with these words; the good one still answers.
fn refused(house: &House, source: &str, words: &[&str]) {
    house.save("src/f.js", source);
    for runtime in ["isolate", "bun"] {
        house.save(
            "bungee.toml",
            &format!("[functions.f]\nentry = 'src/f.js'\nruntime = '{runtime}'\n"),
        );
        let said = house.deploy().ends(3).says("src/f.js");
        for word in words {
            assert!(
                said.stderr.contains(word),
                "no {word:?} on {runtime}: {}",
                said.stderr
            );
        }
    }
    assert_eq!(house.get("/functions/f").ok(), "good");
    assert_eq!(
        house
            .cli(&["versions", "f", "--json"])
            .ok()
            .json()
            .as_array()
            .expect("a list")
            .len(),
        1
    );
}

#[test]
fn a_module_that_is_none_is_refused_with_file_and_line() {
    refused(&good(), "const a = 1;\nexport default (", &["src/f.js:2"]);
    refused(&good(), "this is no JavaScript", &["src/f.js:1"]);
}

#[test]
fn a_module_without_a_handler_is_refused_and_told_what_it_exports() {
    let house = good();
    refused(
        &house,
        "export const other = 1;",
        &["exports no handler", "other"],
    );
    refused(&house, "export default 7;", &["exports no handler"]);
    refused(&house, "", &["exports no handler"]);
}

#[test]
fn a_module_that_leaves_its_kind_open_is_asked_for_it() {
    let source = "export default () => new Response('x'); export const handler = () => 1;";
    refused(&good(), source, &["web or an event", "kind = \"web\""]);
}

#[test]
fn names_with_slashes_and_dots_are_refused() {
    let house = good();
    house.save("bungee.toml", "[functions.\"../x\"]\nentry = 'src/f.js'\n");
    house.deploy().ends(3).says("bungee.toml:1");
    for path in [
        "/functions/..%2f..%2fetc/passwd",
        "/functions/%2e%2e/f",
        "/functions/a%00b",
        "/functions/a%20b",
    ] {
        let answer = house.get(path);
        assert!(
            matches!(answer.status, 400 | 404),
            "{path}: {}",
            answer.status
        );
    }
    let path = "/v1/projects/default/functions/..%2fx/versions";
    assert!(matches!(house.get(path).status, 400 | 404));
    assert_eq!(house.get("/functions/f").ok(), "good");
}

#[test]
fn an_entry_outside_the_folder_is_refused() {
    let house = good();
    house.save("bungee.toml", "[functions.f]\nentry = '../../etc/passwd'\n");
    house.deploy().ends(3).says("bungee.toml:2");
}

#[test]
fn an_archive_that_climbs_out_or_is_damaged_is_refused() {
    let house = good();
    let digest = "0".repeat(64);
    let path = format!("/v1/bundles/sha256:{digest}");
    for body in [&b"no archive"[..], b"", &[0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0]] {
        let answer = house.ask("PUT", &path).body(body).send();
        answer.fails(400, "BadRequest");
    }
    let answer = house.ask("PUT", &path).body(climbing()).send();
    answer.fails(400, "BadRequest").says("..");
    assert_eq!(
        house
            .ask("HEAD", &path)
            .header("connection", "close")
            .open()
            .hear_the_end()[..12]
            .to_owned(),
        "HTTP/1.1 404"
    );
    assert!(!house.data().join("escaped").exists() && !house.home_folder().exists());
}

/// A zstd frame, stored uncompressed, of a tar whose only file is `../escaped`.
fn climbing() -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"../escaped");
    put(100, b"0000644\0");
    put(124, b"00000000003\0");
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut tar = header.to_vec();
    tar.extend_from_slice(b"out");
    tar.resize(512 * 4, 0);
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x60];
    let length = u16::try_from(tar.len()).unwrap_or(u16::MAX);
    frame.extend_from_slice(&(length - 256).to_le_bytes());
    let block = (u32::from(length) << 3) | 1;
    frame.extend_from_slice(&block.to_le_bytes()[..3]);
    frame.extend_from_slice(&tar);
    frame
}

#[test]
fn a_version_of_a_bundle_that_is_not_there_is_refused() {
    let house = good();
    let body = json!({"bundle": format!("sha256:{}", "1".repeat(64)), "entry": "src/f.js", "kind": "web", "settings": {}});
    let answer = house
        .ask("POST", "/v1/projects/default/functions/f/versions")
        .json(&body)
        .send();
    assert!(matches!(answer.status, 400 | 404), "{}", answer.text());
    assert_eq!(house.get("/functions/f").ok(), "good");
}

#[test]
fn a_half_sent_body_is_the_caller_s_own_loss() {
    let source = "export default async (r) => new Response(await r.text())";
    let house = House::serve()
        .function("bun", |f| f.bun().web(source))
        .function("isolated", |f| f.web(source))
        .start();
    for name in ["bun", "isolated"] {
        let path = format!("/functions/{name}");
        let mut wire = house
            .ask("POST", &path)
            .header("content-length", "100")
            .open();
        wire.send("half");
        wire.end();
        drop(wire);
        house.record(name, |record| record["outcome"] == "Cancelled");
        assert_eq!(house.post(&path, "whole").ok(), "whole");
    }
}

#[test]
fn an_event_that_is_no_json_is_refused_before_anything_runs() {
    let house = House::serve()
        .function("e", |f| f.event("export const handler = () => 1"))
        .start();
    let path = "/v1/projects/default/functions/e/invoke";
    house.post(path, "{no json").fails(400, "BadRequest");
    house.post(path, [0xff, 0xfe]).fails(400, "BadRequest");
    assert_eq!(house.invoke("e", &json!(null))["result"], 1);
}

#[test]
fn requests_that_are_no_http_are_answered_with_400_or_closed() {
    let house = good();
    for bad in [
        "nonsense\r\n\r\n",
        "GET /functions/f HTTP/9.9\r\n\r\n",
        "GET /functions/f HTTP/1.1\r\nhost: x\r\nno colon\r\n\r\n",
    ] {
        let mut wire = house.wire();
        wire.send(bad);
        wire.end();
        let heard = wire.hear_the_end();
        assert!(
            heard.is_empty() || heard.starts_with("HTTP/1.1 4"),
            "{bad:?}: {heard}"
        );
    }
    let both = format!(
        "POST /functions/f HTTP/1.1\r\nhost: {}\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n",
        house.address
    );
    let mut wire = house.wire();
    wire.send(both);
    wire.end();
    let heard = wire.hear_the_end();
    assert!(!heard.contains("smuggled"), "{heard}");
    assert_eq!(house.get("/functions/f").ok(), "good");
}

#[test]
fn a_web_page_that_posts_to_the_open_server_is_refused() {
    let house = good();
    let page = house.ask("POST", "/v1/projects/default/functions/f/rollback");
    let answer = page
        .header("origin", "https://evil.example")
        .header("content-type", "text/plain")
        .body("{}")
        .send();
    answer.fails(403, "Forbidden").says("web page");
}

#[test]
fn unknown_paths_and_wrong_methods_are_told_apart() {
    let house = good();
    house.get("/v1/nothing").fails(404, "NotFound");
    assert_eq!(house.ask("DELETE", "/v1/server").send().status, 405);
    house.get("/dashboard").fails(501, "ArrivesLater");
}

#[test]
fn unknown_fields_of_the_api_are_refused() {
    let house = good();
    let body = json!({"version": "v1", "wieght": 3});
    let answer = house
        .ask("PUT", "/v1/projects/default/functions/f/aliases/current")
        .json(&body)
        .send();
    answer.fails(400, "BadRequest").says("wieght");
}
