//! How much runs at once, of a function and altogether; and small questions that have one answer here.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use http::StatusCode;
use model::Name;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, Caller, Named, Refusal,
    functions::{read, unqualified},
    shown::Shown,
};
use crate::{api::to_its_end, app::App, rights::Right};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked {
    reserved_concurrent_executions: Option<i64>,
}

fn named(name: &str, caller: &Caller) -> Answer<Named> {
    let named = Named::parse(name, None, &caller.region)?;
    unqualified(&named)?;
    Ok(named)
}

/// `PutFunctionConcurrency`.
pub(super) async fn reserve(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    caller: Caller,
) -> Answer<Json<Value>> {
    caller.may(Right::Deploy)?;
    let named = named(&name, &caller)?;
    let asked: Asked = read(&caller.body)?;
    let at = "reservedConcurrentExecutions";
    let Some(most) = asked.reserved_concurrent_executions else {
        return Err(Refusal::constraint("null", at, "Member must not be null"));
    };
    let most = u32::try_from(most).map_err(|_| {
        let rule = "Member must have value greater than or equal to 0";
        Refusal::constraint(&most.to_string(), at, rule)
    })?;
    Shown::load(&app, &caller.region, &named.function).await?;
    set(&app, &named, Some(most)).await?;
    Ok(Json(json!({"ReservedConcurrentExecutions": most})))
}

/// `DeleteFunctionConcurrency`.
pub(super) async fn free(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    caller: Caller,
) -> Answer<StatusCode> {
    caller.may(Right::Deploy)?;
    let named = named(&name, &caller)?;
    Shown::load(&app, &caller.region, &named.function).await?;
    set(&app, &named, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn set(app: &Arc<App>, named: &Named, most: Option<u32>) -> Answer<()> {
    let (work, id) = (app.clone(), named.function.clone());
    let changed = async move {
        let set = work.store.reserve(&id, most).await;
        set.map_err(|error| crate::deploys::store_failure(&error))?;
        work.deploys.reload(&id).await
    };
    Ok(to_its_end(app, changed).await?)
}

/// `GetFunctionConcurrency`.
pub(super) async fn reserved(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    caller: Caller,
) -> Answer<Json<Value>> {
    caller.may(Right::Look)?;
    let named = named(&name, &caller)?;
    let shown = Shown::load(&app, &caller.region, &named.function).await?;
    Ok(Json(match shown.function.reserved {
        Some(most) => json!({"ReservedConcurrentExecutions": most}),
        None => json!({}),
    }))
}

/// `GetAccountSettings`: what this server could run at once, and what it holds.
pub(super) async fn settings(State(app): State<Arc<App>>, caller: Caller) -> Answer<Json<Value>> {
    caller.may(Right::Look)?;
    let functions = app.store.lambdas(&Name::default_project()).await?;
    let states = functions.iter().filter_map(|function| {
        let version = function.current.version.as_ref()?;
        function.made.get(&version.number)
    });
    let size: u64 = states.map(|state| state.code_size).sum();
    let limits = &app.limits;
    Ok(Json(json!({
        "AccountLimit": {
            "TotalCodeSize": 80_530_636_800_u64,
            "CodeSizeUnzipped": limits.bundle_unpacked.0,
            "CodeSizeZipped": 50 << 20,
            "ConcurrentExecutions": limits.workers,
            "UnreservedConcurrentExecutions": limits.workers,
        },
        "AccountUsage": {"TotalCodeSize": size, "FunctionCount": functions.len()},
    })))
}

/// `GetPolicy`: there is none.
pub(super) async fn policy(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    caller: Caller,
) -> Answer<Json<Value>> {
    caller.may(Right::Look)?;
    let named = Named::parse(&name, None, &caller.region)?;
    Shown::load(&app, &caller.region, &named.function).await?;
    Err(Refusal::not_found(
        "The resource you requested does not exist.",
    ))
}

/// `GetFunctionCodeSigningConfig`: there is none.
pub(super) async fn signing(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    caller: Caller,
) -> Answer<Json<Value>> {
    caller.may(Right::Look)?;
    let named = named(&name, &caller)?;
    let shown = Shown::load(&app, &caller.region, &named.function).await?;
    Ok(Json(
        json!({"CodeSigningConfigArn": "", "FunctionName": shown.name()}),
    ))
}
