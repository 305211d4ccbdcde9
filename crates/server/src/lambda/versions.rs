//! Published versions: states that keep a number, and never change.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Answer, Caller, Kind, Named, Refusal, code,
    draft::revision,
    functions::{Beside, check_description, read, unqualified},
    pages,
    shown::{Found, LATEST, Shown, sha256},
    updates::check_revision,
};
use crate::{api::to_its_end, app::App, rights::Right};

/// What is to be published.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked {
    code_sha256: Option<String>,
    description: Option<String>,
    revision_id: Option<String>,
}

/// Gives the newest state a number, or finds the one that it has.
pub(super) async fn publish(shown: &Shown<'_>, description: Option<String>) -> Answer<Found> {
    let app = shown.app;
    let mut state = shown.latest()?;
    if let Some(description) = description.filter(|text| !text.is_empty()) {
        state.description = description;
    }
    state.revision = revision(app);
    let (number, state) = app.store.publish(shown.id(), state).await?;
    app.deploys.reload(shown.id()).await?;
    Ok(Found {
        state,
        number: Some(number),
        qualifier: Some(number.to_string()),
    })
}

/// `PublishVersion`.
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    caller: Caller,
) -> Answer<Response> {
    caller.may(Right::Deploy)?;
    let named = Named::parse(&name, None, &caller.region)?;
    unqualified(&named)?;
    let asked: Asked = read(&caller.body)?;
    check_description(asked.description.as_deref())?;
    let (region, work) = (caller.region.clone(), app.clone());
    let published = async move { Ok(make(&work, &named, &region, asked).await) };
    let answer = to_its_end(&app, published).await??;
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

async fn make(app: &Arc<App>, named: &Named, region: &str, asked: Asked) -> Answer<Value> {
    let id = &named.function;
    Shown::load(app, region, id).await?;
    let _changing = app.lambda.begin(id, region)?;
    let shown = Shown::load(app, region, id).await?;
    let latest = shown.latest()?;
    check_revision(asked.revision_id.as_deref(), &latest.revision)?;
    let code = sha256(&latest.code);
    if let Some(other) = asked
        .code_sha256
        .filter(|other| !other.is_empty() && *other != code)
    {
        let message = format!(
            "CodeSHA256 ({other}) is different from current CodeSHA256 in $LATEST ({code}). Please try again with the CodeSHA256 in $LATEST."
        );
        return Err(Refusal::parameter(message));
    }
    let found = publish(&shown, asked.description).await?;
    Shown::load(app, region, id).await?.configuration(&found)
}

/// Every state by its number as a key that sorts, the newest state first.
pub(super) fn all(shown: &Shown<'_>) -> Answer<Vec<(String, Value)>> {
    let mut latest = shown.find(None)?;
    latest.qualifier = Some(LATEST.to_owned());
    let mut listed = vec![(format!("{:010}", 0), shown.listed(&latest)?)];
    for (number, state) in &shown.function.published {
        let found = Found {
            state: state.clone(),
            number: Some(*number),
            qualifier: Some(number.to_string()),
        };
        listed.push((format!("{number:010}"), shown.listed(&found)?));
    }
    Ok(listed)
}

/// `ListVersionsByFunction`.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(beside): Query<Beside>,
    caller: Caller,
) -> Answer<Json<Value>> {
    caller.may(Right::Look)?;
    let named = Named::parse(&name, None, &caller.region)?;
    unqualified(&named)?;
    let shown = Shown::load(&app, &caller.region, &named.function).await?;
    pages::page(all(&shown)?, "Versions", &beside)
}

/// Deletes a published version that no alias leads to.
pub(super) async fn delete(app: &Arc<App>, named: &Named, region: &str) -> Answer<()> {
    let qualifier = named.qualifier.as_deref();
    let id = &named.function;
    if qualifier == Some(LATEST) {
        let message = "$LATEST version cannot be deleted without deleting the function.";
        return Err(Refusal::parameter(message));
    }
    let Some(number) = qualifier.and_then(|text| text.parse().ok()) else {
        let message =
            "Deletion of aliases is not currently supported by DeleteFunction; use DeleteAlias.";
        return Err(Refusal::parameter(message));
    };
    let shown = Shown::load(app, region, id).await?;
    let found = shown.find(qualifier)?;
    let has_it =
        |alias: &store::LambdaAlias| alias.number == number || alias.second == Some(number);
    let aliases = shown
        .function
        .aliases
        .iter()
        .filter(|(_, alias)| has_it(alias));
    let aliases: Vec<String> = aliases.map(|(name, _)| name.to_string()).collect();
    if !aliases.is_empty() {
        let message = format!(
            "Version was not able to be deleted because the following aliases reference it: [{}]. Please update them to point to a different version or delete them first.",
            aliases.join(", ")
        );
        return Err(Refusal::new(Kind::ResourceConflict, message));
    }
    app.store.unpublish(id, number).await?;
    app.deploys.reload(id).await?;
    code::forget(app, &found.state.code).await
}
