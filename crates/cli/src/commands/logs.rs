//! `bungee logs`: what a function wrote, from the store and, with `-f`, as it is written.

use clap::Args;
use laptop::api::{LogQuery, When};
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
    after_help = "Example:\n  bungee logs hello -f --level warn\n  bungee logs hello --since 10m --json\n  bungee logs hello --grep \"not found\" --since 2026-11-21 --until 2026-11-22"
)]
pub struct Logs {
    /// The function, as NAME or PROJECT/NAME
    #[arg(value_name = "NAME", add = crate::commands::completions::of_functions())]
    function: FunctionName,
    /// Go on with what is written from now on, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Not older than this: `10m`, or a time like `2026-11-21T09:00:00Z`
    #[arg(long, value_name = "WHEN", value_parser = when)]
    since: Option<When>,
    /// Not newer than this, given likewise
    #[arg(long, value_name = "WHEN", value_parser = when, conflicts_with = "follow")]
    until: Option<When>,
    /// With this text in it; letters in either case
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
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
            until: self.until,
            contains: self.grep,
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

/// A moment as people write it: a span before now, a time, or a day; without a zone it is UTC, as what `logs` prints.
fn when(text: &str) -> Result<When, String> {
    if let Ok(span) = text.parse::<TimeSpan>() {
        return Ok(When::Ago(span));
    }
    let at = text.parse::<jiff::Timestamp>().or_else(|_| {
        let local = text.parse::<jiff::civil::DateTime>()?;
        Ok(local.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp())
    });
    at.map(|at| When::At(at.to_string()))
        .map_err(|_: jiff::Error| {
            "a span like `10m`, or a time like `2026-11-21T09:00:00Z`".to_owned()
        })
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
    fn a_moment_is_a_span_a_time_or_a_day() {
        assert_eq!(when("10m"), Ok(When::Ago(TimeSpan::seconds(600))));
        for (text, time) in [
            ("2026-11-21T09:00:00Z", "2026-11-21T09:00:00Z"),
            ("2026-11-21T10:00:00+01:00", "2026-11-21T09:00:00Z"),
            ("2026-11-21 09:00", "2026-11-21T09:00:00Z"),
            ("2026-11-21", "2026-11-21T00:00:00Z"),
        ] {
            assert_eq!(when(text), Ok(When::At(time.into())), "{text}");
        }
        assert!(when("yesterday").is_err());
    }

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
            is_info: false,
            text: "hi \x1b[31mAnn\nbye".into(),
        };
        assert_eq!(
            render(&line, Palette::PLAIN),
            "2026-11-21T09:12:13.123Z info  hello 019aa5f2-63ba-7000-8000-000000000001 hi \\u{1b}[31mAnn\n    bye"
        );
    }
}
