//! Layers: zips under a number, which functions find below `/opt`.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{LayerVersion, NewLayer};

use super::{
    ACCOUNT, Answer, Caller, Refusal,
    code::{Source, Zip, aside, bad_zip},
    content,
    functions::{Beside, check_description, read},
    pages, settings,
    shown::{moment, sha256},
};
use crate::{app::App, rights::Right};

/// Longest name of a layer.
const NAME_MAX: usize = 140;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked {
    description: Option<String>,
    license_info: Option<String>,
    compatible_runtimes: Vec<String>,
    compatible_architectures: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct New<'a> {
    #[serde(borrow)]
    content: Option<Source<'a>>,
}

/// What a list of layers may ask.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Filter {
    compatible_runtime: Option<String>,
    compatible_architecture: Option<String>,
    marker: Option<String>,
    max_items: Option<String>,
    #[serde(rename = "find")]
    find: Option<String>,
    arn: Option<String>,
}

/// The layer and the number in the ARN of a layer's version.
pub(super) fn named(arn: &str) -> Option<(String, u32)> {
    let (layer, number) = arn.rsplit_once(':')?;
    let parts: Vec<&str> = layer.split(':').collect();
    match parts[..] {
        ["arn", _, "lambda", _, ACCOUNT, "layer", name] => {
            Some((name.to_owned(), number.parse().ok()?))
        }
        _ => None,
    }
}

/// The name in a path, which may be an ARN.
fn layer_name(text: &str) -> Answer<String> {
    let name = match text.starts_with("arn:") {
        true => named(&format!("{text}:0")).map(|(name, _)| name),
        false => Some(text.to_owned()),
    };
    let is_plain = |name: &String| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(fits)
    };
    name.filter(is_plain).ok_or_else(|| {
        let shown: String = text.chars().take(NAME_MAX).collect();
        let rule = "Member must satisfy regular expression pattern: (arn:[a-zA-Z0-9-]+:lambda:[a-zA-Z0-9-]+:\\d{12}:layer:[a-zA-Z0-9-_]+)|[a-zA-Z0-9-_]+";
        Refusal::constraint(&shown, "layerName", rule)
    })
}

fn arn(region: &str, name: &str) -> String {
    format!("arn:aws:lambda:{region}:{ACCOUNT}:layer:{name}")
}

/// A version of a layer as lists show it.
fn listed(region: &str, version: &LayerVersion) -> Value {
    let layer = &version.layer;
    let mut shape = json!({
        "LayerVersionArn": format!("{}:{}", arn(region, &layer.name), version.number),
        "Version": version.number,
        "Description": layer.description,
        "CreatedDate": moment(version.created_at),
        "CompatibleRuntimes": layer.runtimes,
        "CompatibleArchitectures": layer.architectures,
    });
    if !layer.license.is_empty() {
        shape["LicenseInfo"] = layer.license.as_str().into();
    }
    shape
}

/// The same in full, with a link to what is in it.
fn whole(app: &App, region: &str, headers: &HeaderMap, version: &LayerVersion) -> Value {
    let layer = &version.layer;
    let mut shape = listed(region, version);
    shape["LayerArn"] = arn(region, &layer.name).into();
    shape["Content"] = json!({
        "Location": content::of_layer(app, headers, &layer.code),
        "CodeSha256": sha256(&layer.code),
        "CodeSize": layer.code_size,
    });
    shape
}

/// `PublishLayerVersion`.
pub(super) async fn publish(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    caller: Caller,
) -> Answer<Response> {
    caller.may(Right::Deploy)?;
    let name = layer_name(&name)?;
    let asked = aside(caller.body.clone(), |body| {
        let asked: Asked = read(body)?;
        check_description(asked.description.as_deref())?;
        settings::shorter(asked.license_info.as_deref(), "licenseInfo", 512)?;
        let new: New<'_> = read(body)?;
        Ok((asked, new.content.unwrap_or_default().zip()?))
    });
    let (
        asked,
        Zip {
            bytes,
            digest: code,
        },
    ) = asked.await?;
    let code_size = bytes.len() as u64;
    let layers = &app.deploys.layers;
    let unpacked = layers.take(bytes.clone(), &code, &app.limits).await;
    let unpacked_size = unpacked.map_err(|error| bad_zip(&error))?;
    layers.keep_zip(bytes, &code).await?;
    let layer = NewLayer {
        name,
        description: asked.description.unwrap_or_default(),
        license: asked.license_info.unwrap_or_default(),
        runtimes: asked.compatible_runtimes,
        architectures: asked.compatible_architectures,
        code,
        code_size,
        unpacked_size,
    };
    let version = app.store.add_layer(layer).await?;
    let answer = Json(whole(&app, &caller.region, &headers, &version));
    Ok((StatusCode::CREATED, answer).into_response())
}

async fn find(app: &App, region: &str, name: &str, number: &str) -> Answer<LayerVersion> {
    let found = match number.parse() {
        Ok(number) => app.store.layer(name, number).await?,
        Err(_) => None,
    };
    found.ok_or_else(|| {
        let arn = arn(region, name);
        Refusal::not_found(format!("Layer version {arn}:{number} does not exist."))
    })
}

/// `GetLayerVersion`.
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Path((name, number)): Path<(String, String)>,
    headers: HeaderMap,
    caller: Caller,
) -> Answer<Json<Value>> {
    caller.may(Right::Look)?;
    let version = find(&app, &caller.region, &layer_name(&name)?, &number).await?;
    Ok(Json(whole(&app, &caller.region, &headers, &version)))
}

/// `DeleteLayerVersion`, which is content where there is none. Functions that have it keep it.
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Path((name, number)): Path<(String, String)>,
    caller: Caller,
) -> Answer<StatusCode> {
    caller.may(Right::Deploy)?;
    let name = layer_name(&name)?;
    if let Ok(number) = number.parse() {
        app.store.delete_layer(&name, number).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

impl Filter {
    fn lets(&self, version: &LayerVersion) -> bool {
        let has = |all: &Vec<String>, wanted: &Option<String>| match wanted {
            Some(wanted) => all.contains(wanted),
            None => true,
        };
        has(&version.layer.runtimes, &self.compatible_runtime)
            && has(&version.layer.architectures, &self.compatible_architecture)
    }

    fn pages(self) -> Beside {
        Beside {
            marker: self.marker,
            max_items: self.max_items,
            ..Beside::default()
        }
    }
}

/// `ListLayers`; and `GetLayerVersionByArn`, which has the same path.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Query(filter): Query<Filter>,
    headers: HeaderMap,
    caller: Caller,
) -> Answer<Json<Value>> {
    caller.may(Right::Look)?;
    if filter.find.is_some() {
        let wanted = filter.arn.unwrap_or_default();
        let missing = || Refusal::not_found(format!("Layer version {wanted} does not exist."));
        let (name, number) = named(&wanted).ok_or_else(missing)?;
        let version = find(&app, &caller.region, &name, &number.to_string()).await?;
        return Ok(Json(whole(&app, &caller.region, &headers, &version)));
    }
    let mut newest: BTreeMap<String, Value> = BTreeMap::new();
    for version in app.store.layers(None).await? {
        if filter.lets(&version) {
            let name = version.layer.name.clone();
            newest
                .entry(name)
                .or_insert_with(|| listed(&caller.region, &version));
        }
    }
    let shape = |(name, latest): (String, Value)| {
        let arn = arn(&caller.region, &name);
        let shape = json!({"LayerName": name, "LayerArn": arn, "LatestMatchingVersion": latest});
        (name, shape)
    };
    pages::page(
        newest.into_iter().map(shape).collect(),
        "Layers",
        &filter.pages(),
    )
}

/// `ListLayerVersions`, newest first.
pub(super) async fn versions(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(filter): Query<Filter>,
    caller: Caller,
) -> Answer<Json<Value>> {
    caller.may(Right::Look)?;
    let versions = app.store.layers(Some(&layer_name(&name)?)).await?;
    let versions = versions.iter().filter(|version| filter.lets(version));
    // Keys that sort with the newest first.
    let key = |version: &LayerVersion| format!("{:010}", u32::MAX - version.number);
    let listed = versions.map(|version| (key(version), listed(&caller.region, version)));
    pages::page(listed.collect(), "LayerVersions", &filter.pages())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_named_by_name_or_arn() {
        let whole = "arn:aws:lambda:us-east-1:000000000000:layer:tools";
        assert_eq!(named(&format!("{whole}:3")), Some(("tools".to_owned(), 3)));
        assert_eq!(
            named("arn:aws:lambda:us-east-1:123456789012:layer:tools:3"),
            None
        );
        assert_eq!(layer_name(whole).unwrap(), "tools");
        assert_eq!(layer_name("tools_1").unwrap(), "tools_1");
        for bad in ["", "a b", "a/b", "arn:aws:lambda:x", &"x".repeat(141)] {
            assert!(layer_name(bad).is_err(), "{bad}");
        }
    }
}
