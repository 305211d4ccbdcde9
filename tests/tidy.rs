//! The rules of the house, each as a test whose name is the rule; ARCHITECTURE.md tells them in words.
//! Reads text and `cargo metadata`; runs nothing of ours. Bans that need types stand in clippy.toml.

mod alone;
mod arrows;
mod packaging;
mod paper;
mod source;

use regex::Regex;
use source::{Finding, Source, every_rust, product_rust};

/// A place that may do what its rule forbids elsewhere, and why.
struct Exception {
    /// A path, or the beginning of paths.
    place: &'static str,
    /// What would break without it.
    reason: &'static str,
}

const fn except(place: &'static str, reason: &'static str) -> Exception {
    Exception { place, reason }
}

/// Fails with every finding in the product outside the exceptions.
fn nowhere(rule: &str, pattern: &str, exceptions: &[Exception]) {
    let pattern = Regex::new(pattern).expect("a valid pattern");
    let excepted = |path: &str| exceptions.iter().any(|known| path.starts_with(known.place));
    let findings = product_rust()
        .iter()
        .filter(|file| !excepted(&file.path))
        .flat_map(|file| file.find_in_code(&pattern))
        .collect();
    let only = exceptions
        .iter()
        .map(|Exception { place, reason }| format!("\n  (only {place}: {reason})"));
    none(&format!("{rule}{}", only.collect::<String>()), findings);
}

/// Fails with the rule and every finding.
fn none(rule: &str, findings: Vec<Finding>) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

/// The product's files below one path.
fn product_below(path: &str) -> Vec<Source> {
    let mut files = product_rust();
    files.retain(|file| file.path.starts_with(path));
    files
}

// 1

#[test]
fn model_does_no_io_spawns_nothing_reads_no_clock_and_has_no_async() {
    let outside = Regex::new(
        r"\basync\b|\.await\b|\bstd::(fs|net|process|env|io|thread|os)\b|\b(SystemTime|Instant)::now\b|\be?print(ln)?!",
    )
    .expect("a valid pattern");
    let findings = product_below("crates/model/")
        .iter()
        .flat_map(|file| file.find_in_code(&outside))
        .collect();
    none("model is values and functions of values", findings);
}

// 3

#[test]
fn sql_appears_only_in_store() {
    let sql = Regex::new(
        r"(?is)\b(SELECT\s.+\sFROM|INSERT\s+(OR\s+\w+\s+)?INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|(CREATE|ALTER|DROP)\s+(TABLE|INDEX)|PRAGMA\s+\w+)\b",
    )
    .expect("a valid pattern");
    let findings = product_rust()
        .iter()
        .filter(|file| file.room() != "store")
        .flat_map(|file| {
            let found = file
                .strings()
                .into_iter()
                .filter(|(_, text)| sql.is_match(text));
            found
                .map(|(line, text)| file.at(line, &text))
                .collect::<Vec<_>>()
        })
        .collect();
    none("ask `store` in verbs of the domain", findings);
}

#[test]
fn no_row_type_leaves_the_store() {
    let public_row =
        Regex::new(r"derive\([^)]*\bFromRow\b[^)]*\)\]\s*(#\[[^\]]*\]\s*)*pub\s+struct\s+\w+")
            .expect("a valid pattern");
    let findings = product_below("crates/store/")
        .iter()
        .flat_map(|file| file.find_in_code(&public_row))
        .collect();
    none("a row becomes a word of `model` before it leaves", findings);
}

// 4

#[test]
fn only_workers_starts_processes_that_run_user_code() {
    nowhere(
        "ask `workers` to start it",
        r"\bCommand::new\b|\bfork\(\)|\bexecve?\(",
        &[
            except(
                "crates/workers/src/",
                "starts every worker, the isolate child too",
            ),
            except(
                "crates/build/src/",
                "runs bundlers, which never execute the user's code",
            ),
        ],
    );
}

#[test]
fn only_one_place_reads_the_wall_clock() {
    let clock = Regex::new(
        r"\b(SystemTime|Timestamp|Zoned|Utc|Local|OffsetDateTime)::now\(|\bclock_gettime\([^)]*Realtime\b",
    )
    .expect("a valid pattern");
    // A sealed child is another process, to which no clock can be handed.
    const ANOTHER_PROCESS: &str = "crates/isolate/";
    let findings: Vec<Finding> = product_rust()
        .iter()
        .filter(|file| !file.path.starts_with(ANOTHER_PROCESS))
        .flat_map(|file| file.find_in_code(&clock))
        .collect();
    assert!(
        findings.len() <= 1,
        "take a `model::Clock`:\n  {}",
        findings.join("\n  ")
    );
}

#[test]
fn only_the_doors_read_the_environment() {
    nowhere(
        "take it in options, which `cli` fills",
        r"\benv::(var|vars|var_os|vars_os|args|args_os|home_dir)\b",
        &[
            except("crates/cli/src/", "the door of `bungee`"),
            except("crates/bridge/src/", "the door of `bungee-bridge`"),
            except(
                "crates/isolate/src/",
                "the door of the sealed child: BUNGEE_BOOT",
            ),
        ],
    );
}

#[test]
fn only_the_doors_print() {
    nowhere(
        "return it, or log it with `tracing`",
        r"\b(e?print(ln)?|dbg)!|\bio::(stdout|stderr)\b|\bstd(out|err)\(\)\.(lock|write)",
        &[
            except("crates/cli/src/", "the door of `bungee`"),
            except("crates/bridge/src/", "the door of `bungee-bridge`"),
            except(
                "crates/isolate/src/",
                "the door of the sealed child: why it could not be sealed",
            ),
        ],
    );
}

#[test]
fn only_the_doors_exit() {
    nowhere(
        "return an error, and let `cli` choose the exit code",
        r"\bprocess::(exit|abort)\b|\bexit_group\(",
        &[
            except("crates/cli/src/", "the door of `bungee`"),
            except("crates/bridge/src/", "the door of `bungee-bridge`"),
            except("crates/isolate/src/", "the door of the sealed child"),
        ],
    );
}

// 5

#[test]
fn only_server_maps_our_errors_to_http_status() {
    let mapping =
        Regex::new(r"\b(ErrorType|Failure)::\w+[^;{}\n]*=>\s*(\w+::)*(StatusCode\b|[1-5]\d\d\b)")
            .expect("a valid pattern");
    let mut places: Vec<String> = product_rust()
        .iter()
        .filter(|file| !file.find_in_code(&mapping).is_empty())
        .map(|file| file.path.clone())
        .collect();
    let elsewhere: Vec<Finding> = places
        .extract_if(.., |path| !path.starts_with("crates/server/"))
        .collect();
    none(
        "answer with an ErrorType; `server` knows its status",
        elsewhere,
    );
    assert!(places.len() <= 1, "one mapping, not {places:?}");
}

#[test]
fn only_rooms_that_speak_a_wire_know_status_codes() {
    nowhere(
        "status codes belong to wires",
        r"\bStatusCode\b",
        &[
            except("crates/server/src/", "gateway, API and profiles"),
            except("crates/workers/src/", "the worker protocol"),
            except("crates/laptop/src/", "the client of the API"),
            except("crates/aws/src/", "the AWS APIs"),
        ],
    );
}

// 6

#[test]
fn tunnel_knows_bytes_and_streams_and_no_functions() {
    let functions =
        Regex::new(r"\b(FunctionId|InvocationId|Invocation|InvokeRequest|Handler|Version\w*)\b")
            .expect("a valid pattern");
    let findings = product_below("crates/tunnel/")
        .iter()
        .flat_map(|file| file.find_in_code(&functions))
        .collect();
    none("a tunnel carries bytes", findings);
}

#[test]
fn the_gateway_does_not_know_where_a_function_runs() {
    let places = Regex::new(r"\bworkers::\w+").expect("a valid pattern");
    let findings = product_below("crates/server/src/gateway")
        .iter()
        .flat_map(|file| file.find_in_code(&places))
        .collect();
    none("ask the `Invoker`", findings);
}

// 7

#[test]
fn no_task_runs_without_an_owner() {
    let spawn =
        Regex::new(r"\b(tokio|task|thread)::spawn\(|\b(handle|rt|runtime|current\(\))\.spawn\(")
            .expect("a valid pattern");
    let dropped = Regex::new(r"([;{}]|\b_\s*=|\bdrop\()\s*(\w+::)*$").expect("a valid pattern");
    let mut findings = Vec::new();
    for file in product_rust() {
        let code = file.code();
        for found in spawn.find_iter(&code) {
            // A handle that is the value of its block goes to someone; behind a semicolon it goes nowhere.
            let kept = !dropped.is_match(&code[..found.start()])
                || source::after_brackets(&code, found.end() - 1) != Some(';');
            if !kept {
                findings.push(file.at(source::line_of(&code, found.start()), found.as_str()));
            }
        }
    }
    none(
        "spawn on a JoinSet or a TaskTracker, or keep the handle where someone awaits it",
        findings,
    );
}

#[test]
fn no_static_holds_state() {
    nowhere(
        "state is a field of what was started",
        r"\bstatic\s+mut\b|\bthread_local!|\blazy_static!|\bstatic\s+\w+\s*:[^=;]*\b(\w*Mutex|RwLock|Atomic\w+|\w*Cell|OnceLock|LazyLock|Once|Lazy)\b",
        &[],
    );
}

// Habits

#[test]
fn every_rust_file_opens_by_saying_what_it_is() {
    let findings = every_rust()
        .iter()
        .filter(|file| !file.text.starts_with("//! "))
        .map(|file| file.at(1, "open with `//!`"))
        .collect();
    none("a module says what it is and what it is not", findings);
}

#[test]
fn lints_are_expected_with_a_reason_and_never_allowed() {
    let allowed = Regex::new(r"#!?\[\s*(cfg_attr\([^\]]*,\s*)?allow\(|#!?\[\s*expect\([^\])]*\)\]")
        .expect("a valid pattern");
    let reasoned = Regex::new(r"reason\s*=").expect("a valid pattern");
    let findings = every_rust()
        .iter()
        .flat_map(|file| file.find_in_code(&allowed))
        .filter(|finding| !reasoned.is_match(finding))
        .collect();
    none("`#[expect(…, reason = \"…\")]`", findings);
}

#[test]
fn a_function_fits_a_screen() {
    const SCREEN: usize = 70;
    let findings = product_rust()
        .iter()
        .flat_map(|file| {
            let long = file
                .functions()
                .into_iter()
                .filter(|(_, _, lines)| *lines > SCREEN);
            long.map(|(line, name, lines)| file.at(line, &format!("fn {name} has {lines} lines")))
                .collect::<Vec<_>>()
        })
        .collect();
    none("at most 70 lines", findings);
}
