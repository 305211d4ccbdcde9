//! `bungee info`: one function, its settings and where each comes from, the limits that hold.

use std::fmt::Write as _;

use clap::Args;
use laptop::api::{FunctionInfo, WorkerCounts};
use serde_json::Value;

use crate::{
    arguments::FunctionName,
    commands::{Door, alias},
    connection,
    exit::{Exit, Stop},
    output::escape,
    table,
};

/// Arguments of `info`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  bungee info hello")]
pub struct Info {
    /// The function, as NAME or PROJECT/NAME
    #[arg(value_name = "NAME", add = crate::commands::completions::of_functions())]
    function: FunctionName,
}

impl Info {
    /// Prints what the server knows of the function.
    pub async fn run(self, door: &Door) -> Result<Exit, Stop> {
        let client = connection::connect(&door.global)?;
        let function = connection::function(&client, &door.global, &self.function).await?;
        let info = client.function(&function).await?;
        if door.printer.json {
            door.printer.json(&info)?;
        } else {
            door.printer.line(&render(&info))?;
        }
        Ok(Exit::Done)
    }
}

/// A value as it is written in `bungee.toml`, strings bare.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".into(),
        other => other.to_string(),
    }
}

/// Everything as text: what it is, its settings, its limits.
fn render(info: &FunctionInfo) -> String {
    let mut text = String::new();
    for (name, value) in facts(info) {
        let _infallible = writeln!(text, "{name:<9} {}", escape(&value, "          "));
    }
    if !info.settings.is_empty() {
        let settings = info.settings.iter();
        let rows = settings
            .map(|(key, setting)| vec![key.clone(), plain(&setting.value), setting.from.clone()]);
        let table = table::render(&["SETTING", "VALUE", "FROM"], rows);
        let _infallible = writeln!(text, "\n{table}");
    }
    if !info.limits.is_empty() {
        let limits = info.limits.iter();
        let rows = limits.map(|(name, value)| vec![name.clone(), plain(value)]);
        let _infallible = writeln!(text, "\n{}", table::render(&["LIMIT", "VALUE"], rows));
    }
    text.trim_end().to_owned()
}

fn facts(info: &FunctionInfo) -> [(&'static str, String); 11] {
    let absent = || "-".to_owned();
    let aliases = info.aliases.iter();
    let aliases: Vec<String> = aliases
        .filter(|(name, parts)| parts.len() > 1 || name.as_str() != "current")
        .map(|(name, parts)| format!("{name}: {}", alias::words(parts)))
        .collect();
    let aliases = if aliases.is_empty() {
        absent()
    } else {
        aliases.join("; ")
    };
    let current = match (info.current, info.digest) {
        (Some(version), Some(digest)) => format!("{version}  {digest}"),
        (Some(version), None) => version.to_string(),
        (None, _) => "none deployed".into(),
    };
    let routes: Vec<String> = info.routes.iter().map(ToString::to_string).collect();
    let routes = if routes.is_empty() {
        absent()
    } else {
        routes.join(", ")
    };
    let state = if info.enabled {
        info.lifecycle.clone()
    } else {
        "DISABLED".into()
    };
    let WorkerCounts {
        starting,
        warm,
        busy,
        idle,
        retiring,
    } = info.workers;
    let workers =
        format!("{starting} starting, {warm} warm, {busy} busy, {idle} idle, {retiring} retiring");
    [
        ("function", format!("{}/{}", info.project, info.name)),
        ("path", info.url.clone()),
        ("routes", routes),
        ("current", current),
        ("aliases", aliases),
        (
            "deployed",
            info.deployed_at.map_or_else(absent, table::time),
        ),
        (
            "runtime",
            info.runtime
                .map_or_else(absent, |runtime| runtime.to_string()),
        ),
        (
            "kind",
            info.kind.map_or_else(absent, |kind| kind.to_string()),
        ),
        ("state", state),
        ("workers", workers),
        ("waiting", info.waiting.to_string()),
    ]
}
