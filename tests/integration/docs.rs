//! The pages of `docs/`: every command in them runs, in order, and says what the page shows.
//!
//! A block of `ts`, `js`, `toml`, `python` or `bash` whose first line, or that behind `#!`, is a comment with a path is a
//! file, and written;
//! a block of `sh` is run; a block of `text` is part of what the `sh` block before it said, `…` standing for anything.
//! What cannot run here is a block of `console`.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    os::unix::{fs::symlink, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
};

use regex::Regex;
use serde_json::{Value, json};

use crate::{process::bungee, serving::House};

/// Waiting, in the words of the shell: for a server that was started, and for `dev` to have seen a save.
const HELPERS: &str = r#"
started() {
    for _ in $(seq 600); do
        curl -sf http://127.0.0.1:9001/health/ready >/dev/null && return
        sleep 0.1
    done
    exit 98
}
watching() {
    for _ in $(seq 600); do
        cat said-* | grep -q '^watching ' && return
        sleep 0.1
    done
    exit 99
}
news() { cat said-* | grep -cE '^(✓|✗|!) ' || true; }
saved() {
    for _ in $(seq 600); do
        [ "$(news)" -gt "$1" ] && return
        sleep 0.1
    done
    exit 97
}
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
"#;

/// A block between fences: its language, its text, the line where it begins.
struct Block {
    language: String,
    text: String,
    line: usize,
}

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_inside = false;
    for (index, line) in page.lines().enumerate() {
        if let Some(language) = line.strip_prefix("```") {
            is_inside = !is_inside;
            if is_inside {
                blocks.push(Block {
                    language: language.to_owned(),
                    text: String::new(),
                    line: index + 2,
                });
            }
        } else if let (true, Some(block)) = (is_inside, blocks.last_mut()) {
            block.text.push_str(line);
            block.text.push('\n');
        }
    }
    blocks
}

/// The path that the first line of a file names.
fn path_of(block: &Block) -> Option<&str> {
    let mut lines = block.text.lines();
    let first = lines.find(|line| !line.starts_with("#!"))?;
    let path = first.strip_prefix("// ").or(first.strip_prefix("# "))?;
    (!path.contains(' ')).then_some(path)
}

/// The page as one script. What each of its commands says goes into a file named by the block's line.
fn script(blocks: &[Block]) -> String {
    let mut script = format!("set -eu\n{HELPERS}: > said-0\n");
    let mut is_dev = false;
    for block in blocks {
        match block.language.as_str() {
            "sh" => {
                script.push_str(&format!("exec > said-{0} 2>&1\n", block.line));
                for line in block.text.lines() {
                    let is_save = is_dev && line.starts_with("rm ");
                    if is_save {
                        script.push_str("before=$(news)\n");
                    }
                    script.push_str(&format!("{line}\n"));
                    if is_save {
                        script.push_str("saved \"$before\"\n");
                    }
                    if line.ends_with(" &") {
                        is_dev = line.starts_with("bungee dev");
                        let wait = if is_dev { "watching" } else { "started" };
                        script.push_str(&format!("{wait}\n"));
                    }
                    if let Some(job) = line.strip_prefix("kill ")
                        && job.starts_with('%')
                    {
                        script.push_str(&format!("wait {job} || true\n"));
                        is_dev = false;
                    }
                }
            }
            "ts" | "js" | "toml" | "python" | "bash" => {
                let Some(path) = path_of(block) else { continue };
                script.push_str("before=$(news)\n");
                script.push_str(&format!("mkdir -p \"$(dirname {path})\"\n"));
                script.push_str(&format!(
                    "cat > {path} <<'END OF FILE'\n{}END OF FILE\n",
                    block.text
                ));
                if block.text.starts_with("#!") {
                    script.push_str(&format!("chmod +x {path}\n"));
                }
                if is_dev {
                    script.push_str("saved \"$before\"\n");
                }
            }
            "text" | "console" | "json" | "nginx" | "caddyfile" | "" => {}
            unknown => panic!("line {}: this test does not know {unknown}", block.line),
        }
    }
    script
}

/// Runs every command of a page and compares what it says with what the page shows.
fn runs(name: &str) {
    let home = tempfile::tempdir().expect("a folder can be made");
    let (bin, work) = (home.path().join("bin"), home.path().join("work"));
    fs::create_dir_all(&bin).expect("a folder can be made");
    fs::create_dir_all(&work).expect("a folder can be made");
    symlink(bungee(), bin.join("bungee")).expect("a link can be made");
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = free.expect("there is a free port").to_string();
    let page = page(name).replace("127.0.0.1:9001", &address);
    let blocks = blocks(&page);
    let script = script(&blocks).replace("127.0.0.1:9001", &address);
    let path = std::env::var("PATH").unwrap_or_default();
    let ended = Command::new("bash")
        .args(["-c", &script])
        .current_dir(&work)
        .env_clear()
        .env("PATH", format!("{}:{path}", bin.display()))
        .env("HOME", home.path())
        .env("BUNGEE_LISTEN", &address)
        .env("BUNGEE_SERVER", format!("http://{address}"))
        .stdin(Stdio::null())
        .process_group(0)
        .status();
    let ended = ended.expect("bash starts");
    let said =
        |line: usize| fs::read_to_string(work.join(format!("said-{line}"))).unwrap_or_default();
    let mut last = 0;
    for block in &blocks {
        match block.language.as_str() {
            "sh" => {
                last = block.line;
                let is_run = work.join(format!("said-{last}")).exists();
                assert!(
                    is_run,
                    "docs/{name}:{last} was not reached; {ended}: {}",
                    said_last(&work)
                );
            }
            "text" => shows(
                &format!("docs/{name}:{}", block.line),
                &block.text,
                &said(last),
            ),
            _ => {}
        }
    }
    assert!(
        ended.success(),
        "docs/{name}: {ended}: {}",
        said_last(&work)
    );
}

/// What was said last, for whoever looks for the reason.
fn said_last(work: &Path) -> String {
    let files = fs::read_dir(work).into_iter().flatten().flatten();
    let said = files.filter(|file| file.file_name().to_string_lossy().starts_with("said-"));
    let number = |path: &Path| -> usize {
        let name = path.to_string_lossy();
        let (_, number) = name.rsplit_once('-').unwrap_or_default();
        number.parse().unwrap_or(0)
    };
    let last = said.map(|file| file.path()).max_by_key(|path| number(path));
    let text = last.map(|path| fs::read_to_string(path).unwrap_or_default());
    text.unwrap_or_default()
}

/// Asserts that each line that is shown is part of what was said.
fn shows(at: &str, shown: &str, said: &str) {
    for line in shown.lines().filter(|line| !line.trim().is_empty()) {
        let parts: Vec<String> = line
            .split('…')
            .map(|part| regex::escape(part.trim()))
            .collect();
        let pattern = Regex::new(&parts.join(".*")).expect("a valid pattern");
        assert!(
            pattern.is_match(said),
            "{at} shows {line:?}, and it said:\n{said}"
        );
    }
}

#[test]
fn every_command_of_getting_started_works() {
    runs("getting-started.md");
}

#[test]
fn every_command_of_functions_works() {
    runs("functions.md");
}

#[test]
fn every_command_of_configuration_works() {
    runs("configuration.md");
}

#[test]
fn every_command_of_deployment_works() {
    runs("deployment.md");
}

#[test]
fn every_command_of_profiles_works() {
    runs("profiles.md");
}

#[test]
fn every_command_of_languages_works() {
    runs("languages.md");
}

#[test]
fn every_command_of_a_new_language_works() {
    runs("new-language.md");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bash/hello/bootstrap");
    let example = fs::read_to_string(example).expect("the example is there");
    let page = page("new-language.md");
    assert!(page.contains(&example), "the page shows the example");
    assert!(example.lines().count() < 100);
}

#[test]
fn every_command_of_live_works() {
    runs("live.md");
}

#[test]
fn every_command_of_relay_works() {
    runs("relay.md");
}

#[test]
fn every_command_of_replay_works() {
    runs("replay.md");
}

#[test]
fn every_command_of_the_framed_socket_works() {
    runs("frames.md");
}

#[test]
fn every_command_of_troubleshooting_works() {
    runs("troubleshooting.md");
}

/// The first three cells of each row of a page's tables, without backticks, below one heading.
fn rows(page: &str, heading: &str) -> Vec<[String; 3]> {
    let (_, below) = page
        .split_once(&format!("# {heading}\n"))
        .expect("the heading is there");
    let below = below.split("\n#").next().unwrap_or(below);
    let rows = below.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row
            .trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().trim_matches('`'));
        std::array::from_fn(|_| cells.next().unwrap_or_default().to_owned())
    })
    .collect()
}

/// A value of the API as a page writes it.
fn written(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[test]
fn defaults_and_limits_in_the_configuration_page_are_those_of_the_server() {
    let house = House::serve()
        .function("hello", |f| {
            f.web("export default () => new Response('one')")
        })
        .start();
    let info = house.cli(&["info", "hello", "--json"]).ok().json();
    let page = page("configuration.md");
    let keys = rows(&page, "Keys of `[functions.NAME]`");
    for (key, setting) in info["settings"].as_object().expect("settings by name") {
        let row = keys.iter().find(|[named, ..]| named == key);
        let [_, default, _] = row.unwrap_or_else(|| panic!("no row for {key}"));
        if setting["from"] == "default"
            && !setting["value"].is_null()
            && setting["value"] != json!([])
        {
            assert_eq!(*default, written(&setting["value"]), "the default of {key}");
        }
    }
    let limits = rows(&page, "Limits of a server");
    let shown: BTreeMap<&str, &str> = limits
        .iter()
        .map(|[name, value, _]| (name.as_str(), value.as_str()))
        .collect();
    let limits = info["limits"].as_object().expect("limits by name");
    let real: BTreeMap<&str, String> = limits
        .iter()
        .map(|(name, value)| (name.as_str(), written(value)))
        .collect();
    assert_eq!(
        shown,
        real.iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect()
    );
    for (key, limit) in [
        ("timeout", "timeout"),
        ("concurrency", "concurrency"),
        ("workers.max", "workers"),
        ("queue.depth", "queue_depth"),
        ("env", "env"),
    ] {
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| `{key}` |")));
        assert!(
            row.is_some_and(|row| row.contains(&real[limit])),
            "the limit of {key}"
        );
    }
}

#[test]
fn every_page_with_commands_is_run() {
    let here =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/docs.rs"));
    let here = here.expect("this file is there");
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    for entry in fs::read_dir(docs).expect("docs can be listed").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.ends_with(".md")
            || !blocks(&page(&name))
                .iter()
                .any(|block| block.language == "sh")
        {
            continue;
        }
        assert!(
            here.contains(&format!("runs(\"{name}\")")),
            "nobody runs docs/{name}"
        );
    }
}
