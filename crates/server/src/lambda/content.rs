//! Links to code: good for ten minutes without a key, as those of AWS are.

use std::{path::PathBuf, sync::Arc};

use axum::{
    body::Body,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, Uri, header};
use model::{Digest, FunctionId, VersionNumber};
use serde::Deserialize;
use store::{LambdaState, Version};

use super::{Answer, Kind, Refusal, draft::now};
use crate::{app::App, layers::zipped};

/// How long a link is good, in milliseconds.
const GOOD: i64 = 10 * 60 * 1000;

/// What a link brings along.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Proof {
    expires: String,
    signature: String,
}

/// Where this server is, as the caller calls it.
pub(super) fn origin(headers: &HeaderMap) -> String {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).unwrap_or("localhost");
    let proto = header::HeaderName::from_static("x-forwarded-proto");
    let scheme = if text(proto) == Some("https") {
        "https"
    } else {
        "http"
    };
    format!("{scheme}://{host}")
}

/// A link to the code of a state.
pub(super) fn of_function(
    app: &App,
    headers: &HeaderMap,
    id: &FunctionId,
    state: &LambdaState,
) -> String {
    let path = format!(
        "/2015-03-31/content/{}/{}/{}",
        id.name,
        state.version.0,
        state.code.hex()
    );
    link(app, headers, &path)
}

/// A link to a layer.
pub(super) fn of_layer(app: &App, headers: &HeaderMap, code: &Digest) -> String {
    link(app, headers, &format!("/2018-10-31/content/{}", code.hex()))
}

fn link(app: &App, headers: &HeaderMap, path: &str) -> String {
    let expires = now(app).0 + GOOD;
    let signature = app.lambda.sign(&signed(path, expires));
    format!(
        "{}{path}?Expires={expires}&Signature={signature}",
        origin(headers)
    )
}

fn signed(path: &str, expires: i64) -> String {
    format!("{path}\n{expires}")
}

fn check(app: &App, uri: &Uri, proof: &Proof) -> Answer<()> {
    let expires = proof.expires.parse().unwrap_or(0);
    let text = signed(uri.path(), expires);
    if app.lambda.is_signed(&text, &proof.signature) && now(app).0 <= expires {
        return Ok(());
    }
    let message = "the link is not one of this server's, or older than ten minutes or than its last start; ask for another with GetFunction";
    Err(Refusal::new(Kind::AccessDenied, message))
}

/// The code of a state: as it was uploaded, or made anew of what was deployed.
pub(super) async fn function(
    State(app): State<Arc<App>>,
    Path((name, version, code)): Path<(String, String, String)>,
    Query(proof): Query<Proof>,
    uri: Uri,
) -> Answer<Response> {
    check(&app, &uri, &proof)?;
    let id: FunctionId = name.parse().map_err(|_| Refusal::no_function(&name))?;
    let number = VersionNumber(version.parse().unwrap_or(0));
    let place = app.deploys.bundles.place(&id, number);
    let version = app.store.version(&id, number).await?;
    let bundle = version.map(|version| version.bundle);
    send(&app, &code, place.dir, bundle, &name).await
}

/// Digest and size of the zip that is made of a version which did not come as one.
pub(super) async fn zip_of(app: &App, version: &Version) -> (Digest, u64) {
    let bundle = version.bundle;
    if let Some(known) = app.lambda.zip(&bundle) {
        return known;
    }
    let place = app.deploys.bundles.place(&version.function, version.number);
    match zipped(place.dir, Some(bundle)).await {
        Ok(zip) => {
            let made = (Digest::of(&zip), zip.len() as u64);
            app.lambda.keep(bundle, made);
            made
        }
        Err(failure) => {
            tracing::warn!(function = %version.function, %failure, "code cannot be shown");
            (bundle, 0)
        }
    }
}

/// A layer.
pub(super) async fn layer(
    State(app): State<Arc<App>>,
    Path(code): Path<String>,
    Query(proof): Query<Proof>,
    uri: Uri,
) -> Answer<Response> {
    check(&app, &uri, &proof)?;
    let dir = code.parse().map(|digest| app.deploys.layers.layer(&digest));
    send(&app, &code, dir.unwrap_or_default(), None, "layer").await
}

async fn send(
    app: &App,
    code: &str,
    dir: PathBuf,
    bundle: Option<Digest>,
    name: &str,
) -> Answer<Response> {
    let kept = match code.parse() {
        Ok(digest) => app.deploys.layers.zip_of(&digest).await,
        Err(_) => None,
    };
    let zip = match kept {
        Some(zip) => zip,
        None if dir.is_dir() => zipped(dir, bundle).await?,
        None => return Err(Refusal::not_found(format!("the code of {name} is gone"))),
    };
    let mut response = Body::from(zip).into_response();
    let kind = HeaderValue::from_static("application/zip");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}
