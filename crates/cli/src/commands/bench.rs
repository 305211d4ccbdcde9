//! `bungee bench`: how long a function takes, seen from here, as percentiles and a bar chart.

use std::{collections::BTreeMap, fmt::Write as _};

use clap::Args;
use laptop::{
    api::{FunctionInfo, WebRequest},
    bench::{self, Bar, Plan, Shot, Tally, Until},
};
use model::{FunctionId, Kind, Method, TimeSpan};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{
    arguments::FunctionName,
    commands::{
        Door,
        invoke::{RequestLine, check_json, read_data, request_line},
        serve,
    },
    connection,
    exit::{Complaint, Exit, Stop},
    output::{Style, escape},
    table,
};

/// Clients when nobody says how many.
const CLIENTS: u32 = 16;

/// Most clients: each holds a connection, and the system gives a process about a thousand.
const CLIENTS_MAX: i64 = 1000;

/// How long it takes when nobody says.
const SPAN: TimeSpan = TimeSpan::seconds(5);

/// Width of the longest bar, in characters.
const BAR: u64 = 40;

/// What is told of the latencies, with its name in JSON.
const PERCENTILES: [(&str, f64); 6] = [
    ("p50", 50.0),
    ("p75", 75.0),
    ("p90", 90.0),
    ("p95", 95.0),
    ("p99", 99.0),
    ("p99.9", 99.9),
];

/// Arguments of `bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  bungee bench hello
  bungee bench hello -c 64 -d 10s --http 'GET /Ann'
  bungee bench receipt -n 1000 --data '{\"id\":\"A-1\"}'

Latencies are measured here, from sending to the last byte, and are those of what succeeded.
It ends with 1 if anything failed.")]
pub struct Bench {
    /// The function, as NAME or PROJECT/NAME
    #[arg(value_name = "NAME", add = crate::commands::completions::of_functions())]
    function: FunctionName,
    /// How many ask at once
    #[arg(long, short, value_name = "N", default_value_t = CLIENTS, value_parser = clap::value_parser!(u32).range(1..=CLIENTS_MAX))]
    clients: u32,
    /// How long [default: 5s]
    #[arg(long, short, value_name = "SPAN", conflicts_with = "requests")]
    duration: Option<TimeSpan>,
    /// How many, instead of how long
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// The event, or the body with `--http`: text, `@FILE`, or `-` for stdin [default: {}]
    #[arg(long, value_name = "JSON|@FILE|-")]
    data: Option<String>,
    /// The web request; PATH lies under the function's own path [default: GET / for web handlers]
    #[arg(long, value_name = "METHOD PATH", value_parser = request_line)]
    http: Option<RequestLine>,
}

/// All that was measured.
#[derive(Serialize)]
struct Report {
    function: String,
    clients: u32,
    took_ms: u64,
    succeeded: u64,
    failed: u64,
    errors: BTreeMap<String, u64>,
    /// Successes in a second.
    rate: f64,
    latency_us: BTreeMap<&'static str, u64>,
    histogram: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    from_us: u64,
    to_us: u64,
    count: u64,
}

impl Bench {
    /// Asks until it is enough, or until a signal, and prints what was measured.
    pub async fn run(self, door: &Door) -> Result<Exit, Stop> {
        let data = self.data.as_deref().map(read_data).transpose()?;
        let client = connection::connect(&door.global)?;
        let function = connection::function(&client, &door.global, &self.function).await?;
        let info = client.function(&function).await?;
        if info.current.is_none() {
            let complaint = Complaint::new(
                Exit::NotFound,
                format!("{function} has no version that is current"),
            );
            return Err(complaint.hint("`bungee deploy` makes one").into());
        }
        let until = match (self.requests, self.duration) {
            (Some(requests), _) => Until::Sent(requests),
            (None, span) => Until::After(span.unwrap_or(SPAN).duration()),
        };
        let plan = Plan {
            shot: shot(&function, &info, self.http, data)?,
            clients: self.clients,
            until,
        };
        let mut signals = serve::listen_for_signals()?;
        let stop = CancellationToken::new();
        let measuring = bench::run(&client, plan, stop.clone());
        tokio::pin!(measuring);
        let tally = tokio::select! {
            tally = &mut measuring => tally,
            () = signals.next() => {
                stop.cancel();
                measuring.await
            }
        };
        let report = report(&function, self.clients, &tally);
        if door.printer.json {
            door.printer.json(&report)?;
        } else {
            door.printer.line(&render(&report, door))?;
        }
        Ok(if report.failed == 0 {
            Exit::Done
        } else {
            Exit::Failed
        })
    }
}

/// What is sent: web requests to web handlers and where one was typed, else events.
fn shot(
    function: &FunctionId,
    info: &FunctionInfo,
    http: Option<RequestLine>,
    data: Option<Vec<u8>>,
) -> Result<Shot, Stop> {
    let line = match (http, info.kind) {
        (Some(line), _) => line,
        (None, Some(Kind::Web)) => RequestLine {
            method: Method::GET,
            path: "/".into(),
        },
        (None, Some(Kind::Event) | None) => {
            let event = data.unwrap_or_else(|| b"{}".to_vec());
            check_json(&event)?;
            return Ok(Shot::Event(function.clone(), event.into()));
        }
    };
    let is_json = data.as_deref().is_some_and(|data| check_json(data).is_ok());
    let json = ("content-type".to_owned(), "application/json".to_owned());
    Ok(Shot::Web(WebRequest {
        method: line.method,
        path: format!("{}{}", info.url, line.path),
        headers: is_json.then_some(json).into_iter().collect(),
        body: data.unwrap_or_default().into(),
    }))
}

fn report(function: &FunctionId, clients: u32, tally: &Tally) -> Report {
    let mut latency_us = BTreeMap::new();
    if tally.succeeded() > 0 {
        let (min, max) = tally.range_us();
        latency_us.extend([("min", min), ("mean", tally.mean_us()), ("max", max)]);
        latency_us.extend(PERCENTILES.map(|(name, percent)| (name, tally.percentile_us(percent))));
    }
    let row = |bar: Bar| Row {
        from_us: bar.from_us,
        to_us: bar.to_us,
        count: bar.count,
    };
    Report {
        function: function.to_string(),
        clients,
        took_ms: u64::try_from(tally.took.as_millis()).unwrap_or(u64::MAX),
        succeeded: tally.succeeded(),
        failed: tally.failed(),
        errors: tally.errors.clone(),
        rate: (tally.rate() * 10.0).round() / 10.0,
        latency_us,
        histogram: tally.bars().into_iter().map(row).collect(),
    }
}

/// Rate, percentiles, bars and errors, for people.
fn render(report: &Report, door: &Door) -> String {
    let palette = door.printer.palette_out();
    let mut text = String::new();
    let seconds = report.took_ms as f64 / 1000.0;
    let _infallible = writeln!(
        text,
        "{} with {} clients: {} answers in {seconds:.1} s, {:.0} a second",
        palette.paint(Style::Bold, &report.function),
        report.clients,
        report.succeeded,
        report.rate
    );
    if report.succeeded > 0 {
        text.push('\n');
        for name in ["min", "p50", "p75", "p90", "p95", "p99", "p99.9", "max"] {
            let value = report.latency_us.get(name).copied().unwrap_or(0);
            let _infallible = writeln!(text, "  {name:<6} {:>9}", table::micros(value));
        }
        text.push('\n');
        let most = report.histogram.iter().map(|row| row.count).max();
        for row in &report.histogram {
            let bar = bar(row.count, most.unwrap_or(1));
            let _infallible = writeln!(
                text,
                "  {:>9} {} {}",
                table::micros(row.to_us),
                palette.paint(Style::Good, &format!("{bar:<width$}", width = BAR as usize)),
                row.count
            );
        }
    }
    for (name, count) in &report.errors {
        let name = palette.paint(Style::Bad, &escape(name, ""));
        let _infallible = writeln!(text, "\n  {name} {count} times");
    }
    text.trim_end().to_owned()
}

/// As long as its share of the longest one; whatever is there is seen.
fn bar(count: u64, most: u64) -> String {
    let length = (count * BAR).div_ceil(most.max(1));
    "█".repeat(usize::try_from(length).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_there_is_seen() {
        assert_eq!(bar(0, 1000), "");
        assert_eq!(bar(1, 1000), "█");
        assert_eq!(bar(1000, 1000).chars().count(), 40);
    }
}
