//! `/v1/bundles/{digest}`: is it here, and here it is.

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode};
use model::{Digest, ErrorType, Failure};
use serde::Serialize;

use super::{Answer, MayDeploy, Server};
use crate::bodies::BodyLimit;

#[derive(Serialize)]
struct Taken {
    bundle: Digest,
    files: u64,
    size: u64,
}

fn digest(text: &str) -> Result<Digest, Failure> {
    text.parse().map_err(|error: model::VersionRefError| {
        Failure::new(ErrorType::BadRequest, error.to_string())
    })
}

/// `HEAD`: 200 if no upload is needed, else 404.
pub(crate) async fn look(
    State(app): Server,
    _: MayDeploy,
    Path(text): Path<String>,
) -> Answer<StatusCode> {
    let is_here = app.deploys.bundles.has(&digest(&text)?).await;
    Ok(if is_here {
        StatusCode::OK
    } else {
        StatusCode::NOT_FOUND
    })
}

/// `PUT` a tar.zst: 201 if it is new, 200 if it was here.
pub(crate) async fn take(
    State(app): Server,
    _: MayDeploy,
    Path(text): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let digest = digest(&text)?;
    BodyLimit::bundle(&app.limits).check_announced(&headers)?;
    let held = app.deploys.bundles.take(digest, body, &app.limits).await?;
    let status = if held.was_known {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    let taken = Taken {
        bundle: digest,
        files: held.files,
        size: held.size,
    };
    Ok((status, Json(taken)).into_response())
}
