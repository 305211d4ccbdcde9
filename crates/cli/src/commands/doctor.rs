//! `bungee doctor`: what a server and its functions need, looked at one by one, each with the next step where it is wanting.

mod checks;

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use serde::Serialize;

use crate::{
    arguments::listen,
    commands::{Door, serve},
    exit::{Complaint, Exit, Stop},
    output::{Style, escape},
    system,
};

/// Arguments of `doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  bungee doctor
  bungee doctor --server https://functions.example.com

Each line is ok, warn or fail; it ends with 3 if one of them failed.")]
pub struct Doctor {
    /// The data folder that a server here would use [default: the user's state folder, /var/lib/bungee for root]
    #[arg(
        long,
        value_name = "DIR",
        env = "BUNGEE_DATA_DIR",
        hide_env_values = true
    )]
    data_dir: Option<PathBuf>,
    /// The address that a server here would listen on
    #[arg(long, value_name = "ADDR", default_value = serve::DEFAULT_LISTEN, value_parser = listen)]
    listen: SocketAddr,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mark {
    /// As it should be.
    Ok,
    /// It works without; something is less than it could be.
    Warn,
    /// Something will not work.
    Fail,
}

/// What was looked at, and what was seen.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    mark: Mark,
    says: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, says: impl Into<String>) -> Finding {
        Finding {
            check,
            mark: Mark::Ok,
            says: says.into(),
            hint: None,
        }
    }

    fn warn(check: &'static str, says: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding {
            mark: Mark::Warn,
            hint: Some(hint.into()),
            ..Finding::ok(check, says)
        }
    }

    fn fail(check: &'static str, says: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding {
            mark: Mark::Fail,
            hint: Some(hint.into()),
            ..Finding::ok(check, says)
        }
    }
}

impl Doctor {
    /// Looks at everything, and prints it.
    pub async fn run(self, door: &Door) -> Result<Exit, Stop> {
        let program = serve::program()?;
        let data_dir = match self.data_dir.or_else(system::data_dir) {
            Some(dir) => dir,
            None => {
                let complaint = Complaint::new(Exit::Configuration, "no home folder is known");
                return Err(complaint.hint("name a folder with `--data-dir DIR`").into());
            }
        };
        let mut findings = vec![checks::binary()];
        let (server, is_here) = checks::server(door, self.listen).await;
        findings.extend(server);
        findings.push(checks::port(self.listen, is_here));
        findings.push(checks::data_folder(&data_dir));
        findings.extend(checks::runtimes());
        findings.push(checks::engine(&program).await);
        findings.extend(checks::seal(&program));
        findings.push(checks::groups());
        if door.printer.json {
            door.printer.json(&findings)?;
        } else {
            for finding in &findings {
                door.printer.line(&line(finding, door))?;
            }
        }
        let is_failing = findings.iter().any(|finding| finding.mark == Mark::Fail);
        Ok(if is_failing {
            Exit::Configuration
        } else {
            Exit::Done
        })
    }
}

fn line(finding: &Finding, door: &Door) -> String {
    let (style, word) = match finding.mark {
        Mark::Ok => (Style::Good, "ok  "),
        Mark::Warn => (Style::Warning, "warn"),
        Mark::Fail => (Style::Bad, "fail"),
    };
    let word = door.printer.palette_out().paint(style, word);
    let says = escape(&finding.says, "     ");
    let mut text = format!("{word} {:<12} {says}", finding.check);
    if let Some(hint) = &finding.hint {
        text.push_str(&format!(
            "\n     {:<12} hint: {}",
            "",
            escape(hint, "     ")
        ));
    }
    text
}
