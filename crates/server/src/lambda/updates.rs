//! Changes of the newest state: its code, its configuration. One at a time, each to its end.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Answer, Caller, Kind, Named, Refusal,
    code::{self, Source},
    draft::{Draft, Made},
    functions::{newest, read, unqualified},
    settings::Asked,
    shown::{Shown, sha256},
    versions,
};
use crate::{api::to_its_end, app::App, rights::Right};

/// How code is to be changed.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Recoding {
    dry_run: bool,
    publish: bool,
    revision_id: Option<String>,
}

/// Refuses a change of what was changed since the caller looked.
pub(super) fn check_revision(asked: Option<&str>, found: &str) -> Answer<()> {
    match asked.filter(|asked| !asked.is_empty()) {
        Some(asked) if asked != found => {
            let message = "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id";
            Err(Refusal::new(Kind::PreconditionFailed, message))
        }
        Some(_) | None => Ok(()),
    }
}

/// `UpdateFunctionCode`.
pub(super) async fn code(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    caller: Caller,
) -> Answer<Json<Value>> {
    caller.may(Right::Deploy)?;
    let named = Named::parse(&name, None, &caller.region)?;
    unqualified(&named)?;
    let asked = code::aside(caller.body.clone(), |body| {
        read::<Asked>(body)?.check()?;
        Ok((read(body)?, read::<Source<'_>>(body)?.zip()?))
    });
    let (recoding, zip) = asked.await?;
    let (region, work) = (caller.region.clone(), app.clone());
    let changed = async move { Ok(recode(&work, &named, &region, recoding, zip).await) };
    Ok(Json(to_its_end(&app, changed).await??))
}

async fn recode(
    app: &Arc<App>,
    named: &Named,
    region: &str,
    recoding: Recoding,
    zip: code::Zip,
) -> Answer<Value> {
    let id = &named.function;
    Shown::load(app, region, id).await?;
    let changing = app.lambda.begin(id, region)?;
    let shown = Shown::load(app, region, id).await?;
    let before = shown.latest()?;
    check_revision(recoding.revision_id.as_deref(), &before.revision)?;
    let taken = code::take(app, zip).await?;
    let mut draft = Draft::of(app, &shown).await?;
    draft.recode(taken.bundle, taken.code, taken.size);
    if recoding.dry_run {
        let settled = draft.settle(app).await;
        drop(changing);
        code::forget(app, &taken.code).await?;
        settled?;
        let mut answer = shown.configuration(&newest(&shown)?)?;
        answer["CodeSha256"] = sha256(&taken.code).into();
        answer["CodeSize"] = taken.size.into();
        return Ok(answer);
    }
    let made = draft.become_latest(app, id).await;
    drop(changing);
    // What did not become a state is not kept.
    code::forget(app, &taken.code).await?;
    let made = made?;
    let shown = Shown::load(app, region, id).await?;
    if recoding.publish
        && let Made::Done = made
    {
        let found = versions::publish(&shown, None).await?;
        return Shown::load(app, region, id).await?.configuration(&found);
    }
    shown.configuration(&newest(&shown)?)
}

/// `UpdateFunctionConfiguration`.
pub(super) async fn configuration(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    caller: Caller,
) -> Answer<Json<Value>> {
    caller.may(Right::Deploy)?;
    let named = Named::parse(&name, None, &caller.region)?;
    unqualified(&named)?;
    let asked: Asked = read(&caller.body)?;
    asked.check()?;
    let (region, work) = (caller.region.clone(), app.clone());
    let changed = async move { Ok(reconfigure(&work, &named, &region, asked).await) };
    Ok(Json(to_its_end(&app, changed).await??))
}

async fn reconfigure(app: &Arc<App>, named: &Named, region: &str, asked: Asked) -> Answer<Value> {
    let id = &named.function;
    Shown::load(app, region, id).await?;
    let changing = app.lambda.begin(id, region)?;
    let shown = Shown::load(app, region, id).await?;
    check_revision(asked.revision_id.as_deref(), &shown.latest()?.revision)?;
    let mut draft = Draft::of(app, &shown).await?;
    draft.set(app, &asked).await?;
    draft.become_latest(app, id).await?;
    drop(changing);
    let shown = Shown::load(app, region, id).await?;
    shown.configuration(&newest(&shown)?)
}
