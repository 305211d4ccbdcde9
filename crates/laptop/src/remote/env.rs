//! The environment that deployed functions have, lent to the same functions here for as long as `dev` runs; it rests on no disk.

use std::{collections::BTreeMap, time::Duration};

use model::FunctionId;
use server::Workbench;
use tokio::time::timeout;

use crate::api::{ApiError, Client};

/// Who waits for the server to say what it has waits no longer than this before the first build.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was lent of one function's environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Borrowed {
    /// The function.
    pub function: FunctionId,
    /// Names of the variables.
    pub names: Vec<String>,
}

/// Fetches what the deployed function has, and gives it to the one here. `None`: it is not deployed there.
///
/// # Errors
/// The server does not say.
pub async fn borrow(
    api: &Client,
    workbench: &Workbench,
    function: &FunctionId,
) -> Result<Option<Borrowed>, ApiError> {
    let asked = timeout(PATIENCE, api.function(function)).await;
    let silent = |_| ApiError::Silent {
        server: api.address().to_string(),
        after: PATIENCE,
    };
    let deployed = match asked.map_err(silent)? {
        Ok(deployed) => deployed,
        Err(error) if error.error_type() == Some("FunctionNotFound") => return Ok(None),
        Err(error) => return Err(error),
    };
    let variables = deployed.settings.into_iter().filter_map(|(name, set)| {
        let name = name.strip_prefix("env.")?.to_owned();
        Some((name, set.value.as_str()?.to_owned()))
    });
    let values: BTreeMap<String, String> = variables.collect();
    let names = values.keys().cloned().collect();
    workbench.lend_env(function, values).await;
    let function = function.clone();
    Ok(Some(Borrowed { function, names }))
}
