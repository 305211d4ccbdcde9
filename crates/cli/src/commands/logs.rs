//! `bungee logs`: what a function wrote, from the store and, with `-f`, as it is written.

use clap::Args;
use laptop::api::LogQuery;
use model::{InvocationId, Level, LogLine, TimeSpan};

use crate::{
    arguments::FunctionName,
    commands::Door,
    connection,
    exit::{Exit, Stop},
    output::{Palette, Style, escape},
    table,
};

/// Arguments of `logs`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  bungee logs hello -f --level warn\n  bungee logs hello --since 10m --json"
)]
pub struct Logs {
    /// The function, as NAME or PROJECT/NAME
    #[arg(value_name = "NAME", add = crate::commands::completions::of_functions())]
    function: FunctionName,
    /// Go on with what is written from now on, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Not older than this, like `10m`
    #[arg(long, value_name = "SPAN")]
    since: Option<TimeSpan>,
    /// Of this invocation only
    #[arg(long, value_name = "ID")]
    invocation: Option<InvocationId>,
    /// At least this loud: trace, debug, info, warn or error
    #[arg(long, value_name = "LEVEL")]
    level: Option<Level>,
    /// At most this many lines, the newest
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: u32,
}

impl Logs {
    /// Prints the lines, oldest first; with `--json` one object per line.
    pub async fn run(self, door: &Door) -> Result<Exit, Stop> {
        let client = connection::connect(&door.global)?;
        let function = connection::function(&client, &door.global, &self.function).await?;
        let query = LogQuery {
            since: self.since,
            level: self.level,
            invocation: self.invocation,
            limit: Some(self.limit),
            follow: self.follow,
        };
        let mut lines = client.logs(&function, &query).await?;
        let palette = door.printer.palette_out();
        while let Some(line) = lines.next().await? {
            if door.printer.json {
                door.printer.json(&line)?;
            } else {
                door.printer.line(&render(&line, palette))?;
            }
        }
        Ok(Exit::Done)
    }
}

/// Colour of a level; the word stands beside it.
pub fn style(level: Level) -> Style {
    match level {
        Level::Trace | Level::Debug => Style::Dim,
        Level::Info => Style::Plain,
        Level::Warn => Style::Warning,
        Level::Error => Style::Bad,
    }
}

fn render(line: &LogLine, palette: Palette) -> String {
    let invocation = match line.invocation {
        Some(id) => id.to_string(),
        None => "-".into(),
    };
    format!(
        "{} {} {} {} {}",
        palette.paint(Style::Dim, &table::time(line.at)),
        palette.paint(style(line.level), &format!("{:<5}", line.level)),
        line.function.name,
        palette.paint(Style::Dim, &invocation),
        escape(&line.text, "    "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{FunctionId, Name, Timestamp, VersionNumber};

    #[test]
    fn a_line_tells_when_how_loud_who_and_what() {
        let line = LogLine {
            at: Timestamp(1_795_252_333_123),
            function: FunctionId {
                project: Name::default_project(),
                name: "hello".parse().unwrap(),
            },
            version: VersionNumber(1),
            invocation: Some("019aa5f2-63ba-7000-8000-000000000001".parse().unwrap()),
            level: Level::Info,
            text: "hi \x1b[31mAnn\nbye".into(),
        };
        assert_eq!(
            render(&line, Palette::PLAIN),
            "2026-11-21T09:12:13.123Z info  hello 019aa5f2-63ba-7000-8000-000000000001 hi \\u{1b}[31mAnn\n    bye"
        );
    }
}
