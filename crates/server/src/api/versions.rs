//! Versions of a function, and the alias that calls follow.

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use model::{Digest, ErrorType, Failure, Kind, Runtime, Timestamp, VersionNumber, VersionRef};
use serde::{Deserialize, Serialize};

use super::{Answer, MayDeploy, Server, json, new_function};
use crate::deploys::{Activated, Wanted, store_failure};

#[derive(Serialize)]
pub(crate) struct Row {
    version: VersionNumber,
    digest: Digest,
    bundle: Digest,
    kind: Kind,
    runtime: Runtime,
    created_at: Timestamp,
    current: bool,
}

/// A body that names a version.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    #[serde(default)]
    version: Option<String>,
}

impl Target {
    fn parse(&self) -> Result<Option<VersionRef>, Failure> {
        let parsed = self.version.as_ref().map(|text| text.parse()).transpose();
        parsed.map_err(|error: model::VersionRefError| {
            Failure::new(ErrorType::BadRequest, error.to_string())
        })
    }
}

/// Newest first.
pub(crate) async fn list(
    State(app): Server,
    _: MayDeploy,
    Path((project, function)): Path<(String, String)>,
) -> Answer<Json<Vec<Row>>> {
    let id = super::function(&project, &function)?;
    let fail = |error| store_failure(&error);
    let versions = app.store.versions(&id).await.map_err(fail)?;
    let current = app
        .store
        .function(&id)
        .await
        .map_err(fail)?
        .and_then(|function| function.current);
    let row = |version: store::Version| Row {
        version: version.number,
        digest: version.digest,
        bundle: version.bundle,
        kind: version.kind,
        runtime: version.patch.runtime.unwrap_or(Runtime::Isolate),
        created_at: version.created_at,
        current: Some(version.number) == current,
    };
    Ok(Json(versions.into_iter().map(row).collect()))
}

/// Makes a version of a bundle: 201 if it is new, 200 if the same was there.
pub(crate) async fn create(
    State(app): Server,
    _: MayDeploy,
    Path((project, function)): Path<(String, String)>,
    body: Body,
) -> Answer<Response> {
    let id = new_function(&project, &function)?;
    let wanted: Wanted = json(body).await?;
    let created = app.deploys.create(&id, wanted).await?;
    let status = if created.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(created)).into_response())
}

/// Points `current` at a version.
pub(crate) async fn point(
    State(app): Server,
    _: MayDeploy,
    Path((project, function, alias)): Path<(String, String, String)>,
    body: Body,
) -> Answer<Json<Activated>> {
    let id = super::function(&project, &function)?;
    if alias != "current" {
        let message = format!("aliases other than `current`, such as `{alias}`, arrive later");
        return Err(Failure::new(ErrorType::ArrivesLater, message).into());
    }
    let target: Target = json(body).await?;
    let Some(version) = target.parse()? else {
        let message = "the request body names no `version`";
        return Err(Failure::new(ErrorType::BadRequest, message)
            .hint(r#"send {"version":"v3"}"#)
            .into());
    };
    Ok(Json(app.deploys.activate(&id, &version).await?))
}

/// Points `current` at the version given, or at what was current before.
pub(crate) async fn roll_back(
    State(app): Server,
    _: MayDeploy,
    Path((project, function)): Path<(String, String)>,
    body: Body,
) -> Answer<Json<Activated>> {
    let id = super::function(&project, &function)?;
    let bytes = super::whole(body, crate::bodies::BodyLimit::api()).await?;
    let wanted = if bytes.is_empty() {
        None
    } else {
        let target: Target = serde_json::from_slice(&bytes).map_err(|error| {
            Failure::new(
                ErrorType::BadRequest,
                format!("the request body is not as expected: {error}"),
            )
        })?;
        target.parse()?
    };
    Ok(Json(app.deploys.roll_back(&id, wanted.as_ref()).await?))
}
