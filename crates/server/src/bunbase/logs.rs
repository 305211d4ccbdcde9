//! What a function logged, in this profile's shape.

use model::{ErrorType, Failure, FunctionId, InvocationId, Level, Timestamp};
use serde::{Deserialize, Serialize};
use store::{LogFilter, ROWS_MAX};

use crate::{app::App, deploys::store_failure};

/// Which lines are wanted.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    pub function_id: String,
    /// A time as RFC 3339 writes it; none: from the beginning.
    pub since: Option<String>,
    /// At most this many, the newest; none or 0: 1000.
    pub limit: Option<u32>,
}

/// One line.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = RegisteredLogLine))]
pub(crate) struct Line {
    function_id: String,
    invocation_id: Option<InvocationId>,
    level: Level,
    message: String,
    created_at: String,
}

/// The lines, oldest first.
pub(super) async fn lines(
    app: &App,
    id: &FunctionId,
    wanted: &Wanted,
) -> Result<Vec<Line>, Failure> {
    if app.registry.table().state(id).is_none() {
        return Err(store_failure(&store::StoreError::NoFunction(id.clone())));
    }
    let default = LogFilter::default();
    let filter = LogFilter {
        since: since(wanted.since.as_deref())?,
        limit: match wanted.limit {
            None | Some(0) => default.limit,
            Some(limit) => limit.min(ROWS_MAX),
        },
        ..default
    };
    let found = app.store.logs(id, &filter).await;
    let found = found.map_err(|error| store_failure(&error))?;
    let shaped = found.into_iter().map(|stored| {
        let line = stored.line;
        Line {
            function_id: id.name.to_string(),
            invocation_id: line.invocation,
            level: line.level,
            message: line.text,
            created_at: written(line.at),
        }
    });
    Ok(shaped.collect())
}

/// The moment that a client names.
fn since(text: Option<&str>) -> Result<Option<Timestamp>, Failure> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match text.parse::<jiff::Timestamp>() {
        Ok(at) => Ok(Some(Timestamp(at.as_millisecond()))),
        Err(_) => {
            let shown: String = text.chars().take(80).collect();
            let message = format!("`since` is `{shown}`, which is no time");
            Err(Failure::new(ErrorType::BadRequest, message)
                .hint("write it as RFC 3339 does, like 2026-01-31T12:00:00Z"))
        }
    }
}

/// A moment as RFC 3339 writes it, to the millisecond.
fn written(at: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(at.0) {
        Ok(at) => format!("{at:.3}"),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_and_written() {
        let at = since(Some("2026-01-31T12:00:00.250+01:00")).unwrap();
        assert_eq!(written(at.unwrap()), "2026-01-31T11:00:00.250Z");
        assert_eq!(since(Some("")), Ok(None));
        assert_eq!(
            since(Some("yesterday")).unwrap_err().error_type,
            ErrorType::BadRequest
        );
    }
}
