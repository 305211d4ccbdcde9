//! AWS's words for runtimes and handlers, and what they mean here.

use std::path::Path;

use model::Runtime;

use super::Refusal;

/// Runtimes of AWS that run here; besides them, our own words are taken.
const OFFERED: [&str; 15] = [
    "nodejs18.x",
    "nodejs20.x",
    "nodejs22.x",
    "nodejs24.x",
    "nodejs26.x",
    "python3.9",
    "python3.10",
    "python3.11",
    "python3.12",
    "python3.13",
    "python3.14",
    "python3.15",
    "provided",
    "provided.al2",
    "provided.al2023",
];

/// What runs a function whose runtime is called so.
pub(super) fn runtime(word: &str) -> Result<Runtime, Refusal> {
    if let Ok(ours) = word.parse() {
        return Ok(ours);
    }
    let is_offered = OFFERED.contains(&word);
    if is_offered && word.starts_with("nodejs") {
        return Ok(Runtime::Node);
    }
    if is_offered && word.starts_with("python") {
        return Ok(Runtime::Python);
    }
    if is_offered {
        return Ok(Runtime::Provided);
    }
    let ours = Runtime::ALL.iter().map(|runtime| runtime.as_str());
    let ours: Vec<&str> = ours.filter(|word| !OFFERED.contains(word)).collect();
    let shown: String = word.chars().take(64).collect();
    Err(Refusal::parameter(format!(
        "Value {shown} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [{}, {}] or be a valid ARN",
        OFFERED.join(", "),
        ours.join(", ")
    )))
}

/// The module and the export of a handler.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// A path inside the code.
    pub entry: String,
    /// Which export of it; `None` where the program is the handler.
    pub handler: Option<String>,
}

/// Finds a handler in unpacked code. `provided` has no handler but its program, which may come with the layers.
pub(super) fn entry(
    runtime: Runtime,
    handler: &str,
    code: &Path,
    opt: Option<&Path>,
) -> Result<Entry, Refusal> {
    let extensions: &[&str] = match runtime {
        Runtime::Provided => {
            let handler = (!handler.is_empty()).then(|| handler.to_owned());
            let entry = "bootstrap".to_owned();
            if [Some(code), opt]
                .into_iter()
                .flatten()
                .any(|place| is_file(place, &entry))
            {
                return Ok(Entry { entry, handler });
            }
            return Err(Refusal::parameter(
                "neither the code nor a layer holds a 'bootstrap' at its top, which is the program of the runtime 'provided'",
            ));
        }
        Runtime::Python => &["py"],
        Runtime::Node => &["js", "mjs", "cjs"],
        Runtime::Bun => &["js", "mjs", "cjs", "ts", "mts", "tsx", "jsx"],
        Runtime::Isolate => &["js", "mjs"],
    };
    let (module, export) = split(runtime, handler).ok_or_else(|| {
        let message = format!(
            "the handler '{handler}' names no module and export; write it like 'index.handler' or 'src/app.handler'"
        );
        Refusal::parameter(message)
    })?;
    let candidates = extensions
        .iter()
        .map(|extension| format!("{module}.{extension}"));
    let mut candidates: Vec<String> = candidates.collect();
    if let Some(at) = candidates.iter().position(|path| is_file(code, path)) {
        let entry = candidates.swap_remove(at);
        return Ok(Entry {
            entry,
            handler: Some(export),
        });
    }
    Err(Refusal::parameter(format!(
        "the code holds no {} for the handler '{handler}'; put the module at that path in the zip, or name another handler",
        candidates.join(", ")
    )))
}

fn is_file(code: &Path, path: &str) -> bool {
    let climbs = path.split('/').any(|part| matches!(part, "" | "." | ".."));
    !climbs && code.join(path).is_file()
}

/// The path without its extension, and the export. Node's modules end at the first dot of their name, Python's at the last.
fn split(runtime: Runtime, handler: &str) -> Option<(String, String)> {
    let (module, export) = if runtime == Runtime::Python {
        let (module, export) = handler.rsplit_once('.')?;
        (module.replace('.', "/"), export)
    } else {
        let handler = handler.strip_prefix("./").unwrap_or(handler);
        let folder = handler.rfind('/').map_or(0, |at| at + 1);
        let (name, export) = handler[folder..].split_once('.')?;
        (format!("{}{name}", &handler[..folder]), export)
    };
    (!module.is_empty() && !export.is_empty()).then(|| (module, export.to_owned()))
}

/// The handler of a version in AWS's form.
pub(super) fn handler_of(entry: &str, handler: Option<&str>, runtime: Runtime) -> String {
    if runtime == Runtime::Provided {
        return handler.unwrap_or(entry).to_owned();
    }
    let folder = entry.rfind('/').map_or(0, |at| at + 1);
    let name = entry[folder..].split('.').next().unwrap_or_default();
    let export = handler.unwrap_or("handler");
    format!("{}{name}.{export}", &entry[..folder])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn runtimes_are_called_as_on_aws_or_as_here() {
        for (word, expected) in [
            ("nodejs22.x", Runtime::Node),
            ("python3.12", Runtime::Python),
            ("provided.al2023", Runtime::Provided),
            ("bun", Runtime::Bun),
            ("isolate", Runtime::Isolate),
        ] {
            assert_eq!(runtime(word).unwrap(), expected, "{word}");
        }
        let said = runtime("java21").unwrap_err().message;
        assert!(
            said.starts_with("Value java21 at 'runtime' failed"),
            "{said}"
        );
    }

    #[test]
    fn a_handler_leads_to_a_module_that_is_there() {
        let code = tempfile::tempdir().unwrap();
        for path in [
            "index.mjs",
            "src/app.js",
            "pkg/mod.py",
            "main.ts",
            "bootstrap",
        ] {
            let path = code.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let find = |runtime, handler| {
            let found = entry(runtime, handler, code.path(), None);
            found
                .map(|entry| (entry.entry, entry.handler.unwrap_or_default()))
                .ok()
        };
        let is = |entry: &str, handler: &str| Some((entry.to_owned(), handler.to_owned()));
        assert_eq!(
            find(Runtime::Node, "index.handler"),
            is("index.mjs", "handler")
        );
        assert_eq!(
            find(Runtime::Node, "./src/app.run"),
            is("src/app.js", "run")
        );
        assert_eq!(find(Runtime::Node, "index.a.b"), is("index.mjs", "a.b"));
        assert_eq!(
            find(Runtime::Python, "pkg.mod.main"),
            is("pkg/mod.py", "main")
        );
        assert_eq!(
            find(Runtime::Python, "pkg/mod.main"),
            is("pkg/mod.py", "main")
        );
        assert_eq!(find(Runtime::Bun, "main.handler"), is("main.ts", "handler"));
        assert_eq!(
            find(Runtime::Provided, "anything"),
            is("bootstrap", "anything")
        );
        for bad in [
            "index",
            "index.",
            ".handler",
            "other.handler",
            "../x.handler",
            "/src/app.run",
        ] {
            assert_eq!(find(Runtime::Node, bad), None, "{bad}");
        }
        assert_eq!(find(Runtime::Node, "main.handler"), None);
    }

    #[test]
    fn a_deployed_entry_is_shown_in_awss_form() {
        assert_eq!(
            handler_of("src/app.ts", Some("run"), Runtime::Bun),
            "src/app.run"
        );
        assert_eq!(handler_of("index.js", None, Runtime::Node), "index.handler");
        assert_eq!(
            handler_of("bootstrap", None, Runtime::Provided),
            "bootstrap"
        );
    }
}
