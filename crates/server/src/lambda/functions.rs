//! Functions: made, shown, listed, deleted.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode};
use model::{Digest, FunctionId, Kind, Name, SettingsPatch, VersionNumber};
use serde::Deserialize;
use serde_json::{Value, json};
use store::LambdaState;

use super::{
    Answer, Caller, Named, Refusal, code, content, draft,
    draft::{Draft, Made},
    pages, settings,
    settings::Asked,
    shown::{Found, LATEST, STORAGE, Shown},
    tags,
};
use crate::{
    api::{new_function, to_its_end},
    app::App,
    rights::Right,
};

/// What a path may ask beside its names.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Beside {
    pub qualifier: Option<String>,
    pub marker: Option<String>,
    pub max_items: Option<String>,
    pub function_version: Option<String>,
}

/// What only a new function says.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct New {
    function_name: String,
    publish: bool,
    tags: BTreeMap<String, String>,
}

/// Seconds that a function may take whose maker says nothing.
const TIMEOUT: i64 = 3;

/// MiB that it may hold.
const MEMORY: i64 = 128;

/// Reads a JSON body.
pub(super) fn read<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Answer<T> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| {
        let message = format!("Could not parse request body into json: {error}");
        Refusal::new(super::Kind::InvalidRequestContent, message)
    })
}

/// `CreateFunction`.
pub(super) async fn create(State(app): State<Arc<App>>, caller: Caller) -> Answer<Response> {
    caller.may(Right::Deploy)?;
    let asked = code::aside(caller.body.clone(), |body| {
        let (new, asked) = (read(body)?, read(body)?);
        check_new(&new, &asked)?;
        Ok((new, asked, code::of_new(body)?))
    });
    let (new, asked, zip) = asked.await?;
    let named = Named::parse(&new.function_name, None, &caller.region)?;
    let id = new_function(
        named.function.project.as_str(),
        named.function.name.as_str(),
    )?;
    if app.store.function(&id).await?.is_some() {
        let message = format!("Function already exist: {}", id.name);
        return Err(Refusal::new(super::Kind::ResourceConflict, message));
    }
    let region = caller.region.clone();
    let work = app.clone();
    let made = async move { Ok(make(&work, id, &region, new, asked, zip).await) };
    let shown = to_its_end(&app, made).await??;
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

/// Refuses what no function can be made of.
fn check_new(new: &New, asked: &Asked) -> Answer<()> {
    let name = Some(new.function_name.clone());
    for (at, value) in [("role", &asked.role), ("functionName", &name)] {
        if value.as_ref().is_none_or(String::is_empty) {
            return Err(Refusal::constraint("null", at, "Member must not be null"));
        }
    }
    asked.check()?;
    tags::check(&new.tags)?;
    if asked.runtime.is_none() || asked.handler.is_none() {
        let message = "Runtime and Handler are mandatory parameters for functions created with deployment packages.";
        return Err(Refusal::parameter(message));
    }
    Ok(())
}

async fn make(
    app: &Arc<App>,
    id: FunctionId,
    region: &str,
    new: New,
    mut asked: Asked,
    zip: code::Zip,
) -> Answer<Value> {
    asked.timeout.get_or_insert(TIMEOUT);
    asked.memory_size.get_or_insert(MEMORY);
    let _changing = app.lambda.begin(&id, region)?;
    let taken = code::take(app, zip).await?;
    let mut draft = Draft {
        bundle: taken.bundle,
        patch: SettingsPatch::default(),
        entry: None,
        layers: Vec::new(),
        state: LambdaState {
            version: VersionNumber(0),
            content: Digest::of(b""),
            runtime: String::new(),
            handler: String::new(),
            role: String::new(),
            description: String::new(),
            code: taken.code,
            code_size: taken.size,
            storage: STORAGE,
            layers: Vec::new(),
            revision: String::new(),
            modified_at: draft::now(app),
        },
    };
    draft.patch.kind = Some(Kind::Event);
    draft.set(app, &asked).await?;
    if let Made::Failed(reason) = draft.become_latest(app, &id).await? {
        // It was there before anybody could call it; nothing of it shall stay.
        app.deploys.delete(&id).await?;
        return Err(Refusal::parameter(reason));
    }
    if !new.tags.is_empty() {
        app.store.change_tags(&id, new.tags, Vec::new()).await?;
    }
    drop(_changing);
    let shown = Shown::load(app, region, &id).await?;
    let mut found = shown.find(None)?;
    if new.publish {
        found = super::versions::publish(&shown, None).await?;
    }
    Shown::load(app, region, &id).await?.configuration(&found)
}

/// `GetFunction`.
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(beside): Query<Beside>,
    headers: HeaderMap,
    caller: Caller,
) -> Answer<Json<Value>> {
    caller.may(Right::Look)?;
    let named = Named::parse(&name, beside.qualifier.as_deref(), &caller.region)?;
    let shown = Shown::load(&app, &caller.region, &named.function).await?;
    let found = shown.find(named.qualifier.as_deref())?;
    let location = content::of_function(&app, &headers, shown.id(), &found.state);
    let mut answer = json!({
        "Configuration": shown.configuration(&found)?,
        "Code": {"RepositoryType": "S3", "Location": location},
    });
    if !shown.function.tags.is_empty() {
        answer["Tags"] = json!(shown.function.tags);
    }
    if let Some(most) = shown.function.reserved {
        answer["Concurrency"] = json!({"ReservedConcurrentExecutions": most});
    }
    Ok(Json(answer))
}

/// `GetFunctionConfiguration`.
pub(super) async fn configuration(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(beside): Query<Beside>,
    caller: Caller,
) -> Answer<Json<Value>> {
    caller.may(Right::Look)?;
    let named = Named::parse(&name, beside.qualifier.as_deref(), &caller.region)?;
    let shown = Shown::load(&app, &caller.region, &named.function).await?;
    let found = shown.find(named.qualifier.as_deref())?;
    Ok(Json(shown.configuration(&found)?))
}

/// `ListFunctions`.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Query(beside): Query<Beside>,
    caller: Caller,
) -> Answer<Json<Value>> {
    caller.may(Right::Look)?;
    let all_versions = beside.function_version.as_deref() == Some("ALL");
    let mut listed = Vec::new();
    for function in app.store.lambdas(&Name::default_project()).await? {
        if function.current.version.is_none() {
            continue;
        }
        let shown = Shown::of(&app, &caller.region, function).await;
        let name = shown.name().to_owned();
        if all_versions {
            let all = super::versions::all(&shown)?.into_iter();
            listed.extend(all.map(|(key, value)| (format!("{name}:{key}"), value)));
        } else {
            listed.push((name, shown.listed(&shown.find(None)?)?));
        }
    }
    pages::page(listed, "Functions", &beside)
}

/// `DeleteFunction`; with a number, that published version.
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(beside): Query<Beside>,
    caller: Caller,
) -> Answer<StatusCode> {
    caller.may(Right::Deploy)?;
    let named = Named::parse(&name, beside.qualifier.as_deref(), &caller.region)?;
    let region = caller.region.clone();
    let work = app.clone();
    let gone = async move {
        Ok(match named.qualifier.as_deref() {
            None => delete_whole(&work, &named, &region).await,
            Some(_) => super::versions::delete(&work, &named, &region).await,
        })
    };
    to_its_end(&app, gone).await??;
    Ok(StatusCode::NO_CONTENT)
}

async fn delete_whole(app: &Arc<App>, named: &Named, region: &str) -> Answer<()> {
    let id = &named.function;
    let codes = match app.store.codes(id).await {
        Err(store::StoreError::NoFunction(_)) => {
            return Err(Refusal::no_function(&named.arn(region)));
        }
        codes => codes?,
    };
    let _changing = app.lambda.begin(id, region)?;
    app.deploys.delete(id).await?;
    for code in codes {
        code::forget(app, &code).await?;
    }
    Ok(())
}

/// The newest state, as found.
pub(super) fn newest(shown: &Shown<'_>) -> Answer<Found> {
    shown.find(None)
}

/// Refuses an operation on a version or an alias that is for functions as a whole.
pub(super) fn unqualified(named: &Named) -> Answer<()> {
    match named.qualifier.as_deref() {
        None | Some(LATEST) => Ok(()),
        Some(other) => {
            let message = format!(
                "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. Please specify either a function name or an unqualified function ARN, and not '{other}'."
            );
            Err(Refusal::parameter(message))
        }
    }
}

/// Refuses a description that is too long.
pub(super) fn check_description(text: Option<&str>) -> Answer<()> {
    settings::shorter(text, "description", 256)
}
