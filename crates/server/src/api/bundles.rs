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
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = Bundle))]
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

/// Whether a bundle can be made a version without an upload.
#[cfg_attr(test, utoipa::path(
    head,
    path = "/v1/bundles/{digest}",
    operation_id = "hasBundle",
    tag = "versions",
    security(("token" = ["deploy"])),
    params(("digest" = model::Digest, Path, description = "Over the sorted manifest of the bundle")),
    responses((status = 200, description = "It can"), (status = 404, description = "Upload it first")),
))]
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

/// Upload a bundle.
///
/// It stays for a minute, or until a version is made of it.
#[cfg_attr(test, utoipa::path(
    put,
    path = "/v1/bundles/{digest}",
    operation_id = "putBundle",
    tag = "versions",
    security(("token" = ["deploy"])),
    params(("digest" = model::Digest, Path, description = "Over the sorted manifest of the bundle")),
    request_body(content = Vec<u8>, content_type = "application/zstd", description = "A tar archive, compressed with zstd"),
    responses((status = 200, description = "It was here already", body = Taken), (status = 201, description = "It is new", body = Taken)),
))]
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
