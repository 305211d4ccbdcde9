//! Tags of functions, which are named by their ARNs.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, RawQuery, State},
};
use http::StatusCode;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, Caller, Named, Refusal,
    functions::{read, unqualified},
    shown::Shown,
};
use crate::{app::App, rights::Right};

/// Most tags of one function, and longest name and value.
const TAGS_MAX: usize = 50;
const NAME_MAX: usize = 128;
const VALUE_MAX: usize = 256;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked {
    tags: BTreeMap<String, String>,
}

/// Refuses tags that are too long, or AWS's own.
pub(super) fn check(tags: &BTreeMap<String, String>) -> Answer<()> {
    for (name, value) in tags {
        let is_long = name.chars().count() > NAME_MAX || value.chars().count() > VALUE_MAX;
        if name.is_empty() || is_long || name.starts_with("aws:") {
            let shown: String = name.chars().take(NAME_MAX).collect();
            return Err(Refusal::parameter(format!(
                "the tag '{shown}' cannot be: a name has 1 to {NAME_MAX} characters and does not begin with 'aws:', a value at most {VALUE_MAX}"
            )));
        }
    }
    room(tags.len())
}

fn room(count: usize) -> Answer<()> {
    if count <= TAGS_MAX {
        return Ok(());
    }
    Err(Refusal::parameter(format!(
        "a function has at most {TAGS_MAX} tags, and this would be {count}"
    )))
}

async fn load<'a>(app: &'a App, caller: &'a Caller, arn: &str) -> Answer<Shown<'a>> {
    if !arn.starts_with("arn:") {
        let rule = "Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*):lambda:[a-z0-9-]+:\\d{12}:function:[a-zA-Z0-9-_]+";
        return Err(Refusal::constraint(arn, "resource", rule));
    }
    let named = Named::parse(arn, None, &caller.region)?;
    unqualified(&named)?;
    Shown::load(app, &caller.region, &named.function).await
}

/// `ListTags`.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Path(arn): Path<String>,
    caller: Caller,
) -> Answer<Json<Value>> {
    caller.may(Right::Look)?;
    let shown = load(&app, &caller, &arn).await?;
    Ok(Json(json!({"Tags": shown.function.tags})))
}

/// `TagResource`.
pub(super) async fn add(
    State(app): State<Arc<App>>,
    Path(arn): Path<String>,
    caller: Caller,
) -> Answer<StatusCode> {
    caller.may(Right::Deploy)?;
    let asked: Asked = read(&caller.body)?;
    check(&asked.tags)?;
    let shown = load(&app, &caller, &arn).await?;
    let mut all = shown.function.tags.clone();
    all.extend(asked.tags.clone());
    room(all.len())?;
    app.store
        .change_tags(shown.id(), asked.tags, Vec::new())
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `UntagResource`; names come as `tagKeys=A&tagKeys=B`.
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    Path(arn): Path<String>,
    RawQuery(query): RawQuery,
    caller: Caller,
) -> Answer<StatusCode> {
    caller.may(Right::Deploy)?;
    let query = query.unwrap_or_default();
    let pairs = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("tagKeys="));
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    let names: Vec<String> = pairs.map(decode).collect();
    let shown = load(&app, &caller, &arn).await?;
    app.store
        .change_tags(shown.id(), BTreeMap::new(), names)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
