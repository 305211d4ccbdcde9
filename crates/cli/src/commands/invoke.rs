//! `bungee invoke`: one invocation, from the terminal. Result on stdout, logs on stderr, the outcome as exit code.

mod typed;

use clap::Args;
use laptop::api::{ApiError, Client, ErrorBody, Invoked, LogQuery, WebAnswer, WebRequest};
use model::{FunctionId, InvocationId, LogLine, Name, Outcome};

use crate::{
    arguments::FunctionName,
    commands::{Door, logs},
    connection,
    exit::{Complaint, Exit, Stop, with_stack},
    output::{Style, escape},
    table,
};
pub use typed::{RequestLine, check_json, read_data, request_line};
use typed::{full_path, header};

/// Arguments of `invoke`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  bungee invoke hello --data '{\"name\":\"Ann\"}'
  bungee invoke hello --http 'GET /Ann' --header 'accept: text/plain'")]
pub struct Invoke {
    /// The function, as NAME or PROJECT/NAME
    #[arg(value_name = "NAME", add = crate::commands::completions::of_functions())]
    function: FunctionName,
    /// The event, or the body with `--http`: text, `@FILE`, or `-` for stdin [default: {}]
    #[arg(long, value_name = "JSON|@FILE|-")]
    data: Option<String>,
    /// Follow this alias instead of `current`
    #[arg(long, value_name = "ALIAS")]
    alias: Option<Name>,
    /// A web request: PATH lies under the function's own path, unless it begins with `/functions/`
    #[arg(long, value_name = "METHOD PATH", value_parser = request_line)]
    http: Option<RequestLine>,
    /// A header of the web request, like `accept: text/plain`
    #[arg(long, value_name = "K:V", value_parser = header, requires = "http")]
    header: Vec<(String, String)>,
}

impl Invoke {
    /// Invokes, prints, and ends with the outcome.
    pub async fn run(self, door: &Door) -> Result<Exit, Stop> {
        let data = self.data.as_deref().map(read_data).transpose()?;
        if let (None, Some(data)) = (&self.http, &data) {
            check_json(data)?;
        }
        let client = connection::connect(&door.global)?;
        let function = connection::function(&client, &door.global, &self.function).await?;
        let Some(line) = self.http else {
            let event = data.unwrap_or_else(|| b"{}".to_vec());
            let invoked = client
                .invoke(&function, self.alias.as_ref(), event.into())
                .await?;
            return print(door, &invoked);
        };
        let mut headers = self.header;
        let typed = headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        if !typed && data.as_deref().is_some_and(|data| check_json(data).is_ok()) {
            headers.push(("content-type".into(), "application/json".into()));
        }
        if let Some(alias) = &self.alias {
            headers.push(("x-bungee-alias".into(), alias.to_string()));
        }
        let request = WebRequest {
            method: line.method,
            path: full_path(&function, &line.path),
            headers,
            body: data.unwrap_or_default().into(),
        };
        web(door, &client, &function, request).await
    }
}

/// Prints an event's outcome.
pub fn print(door: &Door, invoked: &Invoked) -> Result<Exit, Stop> {
    if door.printer.json {
        door.printer.json(invoked)?;
    } else {
        for line in &invoked.logs {
            show_log(door, line);
        }
        tell(door, invoked);
        if invoked.outcome == Outcome::Ok {
            print_result(door, invoked)?;
        }
    }
    if let Some(error) = &invoked.error
        && !door.printer.json
    {
        door.printer.complain(&failed(error));
    }
    Ok(exit(invoked))
}

/// The exit code of an outcome.
pub fn exit(invoked: &Invoked) -> Exit {
    match invoked.outcome {
        Outcome::Ok => Exit::Done,
        Outcome::Failed(_) => Exit::Failed,
    }
}

/// The result as the handler gave it; the body of a web handler's response, which travels as a JSON string, as it was.
fn print_result(door: &Door, invoked: &Invoked) -> Result<(), Stop> {
    let raw = invoked
        .result
        .as_ref()
        .map_or("null", |result| result.get());
    if invoked.status.is_none() {
        return door.printer.line(raw);
    }
    match serde_json::from_str::<Option<String>>(raw) {
        Ok(body) => {
            let body = body.unwrap_or_default();
            door.printer.bytes(body.as_bytes())?;
            if !body.ends_with('\n') {
                door.printer.end_line_on_terminal()?;
            }
            Ok(())
        }
        Err(_) => door.printer.line(raw),
    }
}

/// With `--verbose`: which invocation it was, where it ran and how long it took.
fn tell(door: &Door, invoked: &Invoked) {
    if door.global.verbose {
        let version = invoked
            .version
            .map_or("no version".into(), |version| version.to_string());
        door.printer.note(&format!(
            "invocation {} on {version}: waited {}, ran {}",
            invoked.invocation_id,
            table::micros(invoked.waited_us),
            table::micros(invoked.ran_us)
        ));
    }
}

fn show_log(door: &Door, line: &LogLine) {
    let level = door
        .printer
        .palette_err()
        .paint(logs::style(line.level), &format!("{:<5}", line.level));
    door.printer
        .note(&format!("{level} {}", escape(&line.text, "      ")));
}

/// A failure as an error: the handler's stack stands under its message.
fn failed(error: &ErrorBody) -> Complaint {
    let message = format!("{}: {}", error.error_type, error.message);
    let stack = error
        .fault
        .as_ref()
        .and_then(|fault| fault.stack.as_deref());
    Complaint {
        exit: Exit::Failed,
        message: with_stack(&message, stack),
        hint: error.hint.clone(),
    }
}

/// Sends a web request, prints the body as it comes, then what was logged.
async fn web(
    door: &Door,
    client: &Client,
    function: &FunctionId,
    request: WebRequest,
) -> Result<Exit, Stop> {
    let mut answer = client.web(request).await?;
    let status = answer.status();
    let id: Option<InvocationId> = answer
        .header("x-invocation-id")
        .and_then(|id| id.parse().ok());
    if door.global.verbose {
        door.printer.note(
            &door
                .printer
                .palette_err()
                .paint(Style::Dim, &format!("status {status}")),
        );
    }
    if status >= 400 && answer.header("content-type") == Some("application/json") {
        return refused(door, client, function, id, answer).await;
    }
    let mut ends_line = true;
    let is_whole = loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => {
                ends_line = chunk.last().map_or(ends_line, |byte| *byte == b'\n');
                door.printer.bytes(&chunk)?;
            }
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    if !ends_line {
        door.printer.end_line_on_terminal()?;
    }
    show_logs_of(door, client, function, id).await?;
    if is_whole {
        return Ok(Exit::Done);
    }
    let message = format!("the answer of {function} broke off before its end");
    let hint = format!("`bungee invocations {function} --failed` says why");
    Err(Complaint::new(Exit::Failed, message).hint(&hint).into())
}

/// An answer that may be the gateway's own: not allowed, not found, or the invocation failed. Else the handler's.
async fn refused(
    door: &Door,
    client: &Client,
    function: &FunctionId,
    id: Option<InvocationId>,
    answer: WebAnswer,
) -> Result<Exit, Stop> {
    let status = answer.status();
    let error = match answer.failure().await? {
        Ok(error) => error,
        Err(body) => {
            door.printer.bytes(&body)?;
            show_logs_of(door, client, function, id).await?;
            return Ok(Exit::Done);
        }
    };
    let id = id.or_else(|| error.invocation_id.as_ref()?.parse().ok());
    show_logs_of(door, client, function, id).await?;
    let stack = error.fault.as_ref().and_then(|fault| fault.stack.clone());
    let error = ApiError::Answered {
        status,
        error: Box::new(error),
    };
    let mut complaint = Complaint::from(error);
    complaint.message = with_stack(&complaint.message, stack.as_deref());
    Err(complaint.into())
}

/// What an invocation logged, if the server lets us look: a token may allow to invoke and no more.
async fn show_logs_of(
    door: &Door,
    client: &Client,
    function: &FunctionId,
    id: Option<InvocationId>,
) -> Result<(), Stop> {
    let Some(id) = id else { return Ok(()) };
    let query = LogQuery {
        invocation: Some(id),
        ..LogQuery::default()
    };
    let mut lines = match client.logs(function, &query).await {
        Ok(lines) => lines,
        Err(ApiError::Answered { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    while let Some(line) = lines.next().await? {
        show_log(door, &line);
    }
    Ok(())
}
