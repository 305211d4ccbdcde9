//! `bungee invocations`: how the last invocations of a function went.

use clap::Args;
use model::Record;

use crate::{
    arguments::FunctionName,
    commands::Door,
    connection,
    exit::{Exit, Stop},
    table,
};

/// Arguments of `invocations`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  bungee invocations hello --failed")]
pub struct Invocations {
    /// The function, as NAME or PROJECT/NAME
    #[arg(value_name = "NAME", add = crate::commands::completions::of_functions())]
    function: FunctionName,
    /// Only those that failed
    #[arg(long)]
    failed: bool,
    /// At most this many, the newest
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
}

impl Invocations {
    /// Prints one row per invocation, newest first.
    pub async fn run(self, door: &Door) -> Result<Exit, Stop> {
        let client = connection::connect(&door.global)?;
        let function = connection::function(&client, &door.global, &self.function).await?;
        let found = client
            .invocations(&function, self.failed, self.limit)
            .await?;
        if door.printer.json {
            door.printer.json(&found)?;
            return Ok(Exit::Done);
        }
        if found.invocations.is_empty() {
            door.printer.note("no such invocations yet");
            return Ok(Exit::Done);
        }
        door.printer.line(&rendered(&found.invocations))?;
        if let Some(note) = sampled(found.sampled.recorded, found.sampled.ended) {
            door.printer.note(&note);
        }
        Ok(Exit::Done)
    }
}

/// The table. Where something was tried has a column only if a developer was ever asked, recordings only if there are any.
fn rendered(records: &[Record]) -> String {
    let mut header = vec![
        "ARRIVED",
        "INVOCATION",
        "VERSION",
        "TRIGGER",
        "OUTCOME",
        "WAITED",
        "RAN",
    ];
    let shows_places = records.iter().any(|record| !record.attempts.is_empty());
    if shows_places {
        header.push("WHERE");
    }
    let shows_recordings = records.iter().any(|record| record.recording);
    if shows_recordings {
        header.push("RECORDING");
    }
    header.push("WHAT");
    let rows = records.iter().map(|record| {
        let mut row = row(record);
        if shows_places {
            row.push(places(record));
        }
        if shows_recordings {
            row.push(if record.recording { "yes" } else { "-" }.to_owned());
        }
        row.push(what(record));
        row
    });
    table::render(&header, rows)
}

fn row(record: &Record) -> Vec<String> {
    let waited = table::micros(record.waited_us);
    vec![
        table::time(record.arrived),
        record.id.to_string(),
        record
            .version
            .map_or("-".into(), |version| version.to_string()),
        record.trigger.to_string(),
        record.outcome.as_str().to_owned(),
        if record.cold {
            format!("{waited} (cold)")
        } else {
            waited
        },
        table::micros(record.ran_us),
    ]
}

/// Where it was tried: `live ann@laptop (all): no accept within 500 ms, then deployed`.
fn places(record: &Record) -> String {
    let places: Vec<String> = record.attempts.iter().map(ToString::to_string).collect();
    places.join(", then ")
}

/// The request, for web requests, and why it failed.
fn what(record: &Record) -> String {
    let request = match (&record.method, &record.path, record.status) {
        (Some(method), Some(path), Some(status)) => Some(format!("{method} {path} {status}")),
        (Some(method), Some(path), None) => Some(format!("{method} {path}")),
        _ => None,
    };
    match (request, &record.message) {
        (Some(request), Some(message)) => format!("{request}: {message}"),
        (Some(request), None) => request,
        (None, Some(message)) => message.clone(),
        (None, None) => String::new(),
    }
}

/// What part of all invocations has a record, if not every one.
fn sampled(recorded: u64, ended: u64) -> Option<String> {
    if recorded == 0 || recorded >= ended {
        return None;
    }
    let every = (ended + recorded / 2) / recorded;
    Some(format!(
        "sampled 1 in {}: {recorded} of {ended} invocations have a record",
        every.max(1)
    ))
}

#[cfg(test)]
mod tests {
    use model::{Attempt, InvocationId, Place, Timestamp, Trigger};

    use super::*;

    fn record(attempts: Vec<Attempt>) -> Record {
        Record {
            id: InvocationId::new(Timestamp(0), [1; 10]),
            function: model::FunctionId {
                project: model::Name::default_project(),
                name: "hello".parse().unwrap(),
            },
            version: None,
            trigger: Trigger::Http,
            outcome: model::Outcome::Ok,
            message: None,
            fault: None,
            method: None,
            path: None,
            status: None,
            arrived: Timestamp(0),
            waited_us: 0,
            ran_us: 0,
            cold: false,
            worker: None,
            attempts,
            recording: false,
        }
    }

    #[test]
    fn where_it_ran_has_a_column_only_where_a_developer_was_asked() {
        assert!(!rendered(&[record(Vec::new())]).contains("WHERE"));
        let mut live = Attempt::new(1, Place::Live);
        live.developer = Some("ann@laptop".into());
        live.rule = Some("header:x-dev=ann".into());
        live.why = Some("no accept within 500 ms".into());
        let table = rendered(&[record(vec![live, Attempt::new(2, Place::Deployed)])]);
        let line = "live ann@laptop (header:x-dev=ann): no accept within 500 ms, then deployed";
        assert!(table.contains("WHERE") && table.contains(line), "{table}");
    }

    #[test]
    fn a_sample_says_so() {
        assert_eq!(sampled(10, 10), None);
        assert_eq!(
            sampled(200, 5000).unwrap(),
            "sampled 1 in 25: 200 of 5000 invocations have a record"
        );
    }
}
