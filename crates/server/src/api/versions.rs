//! Versions of a function, and the way back.

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use model::{
    AliasPart, Digest, ErrorType, Failure, Kind, Name, Runtime, Timestamp, VersionNumber,
    VersionRef,
};
use serde::{Deserialize, Serialize};
use store::Alias;

use super::{Answer, MayDeploy, MayLook, Server, json, new_function, to_its_end};
use crate::deploys::{Activated, Wanted, store_failure};

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = Version))]
pub(crate) struct Row {
    version: VersionNumber,
    digest: Digest,
    bundle: Digest,
    kind: Kind,
    runtime: Runtime,
    created_at: Timestamp,
    current: bool,
    /// The aliases that point here, `current` too.
    aliases: Vec<InAlias>,
}

/// A version's part in an alias.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
struct InAlias {
    name: Name,
    weight: u8,
}

/// A body that names a version.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
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

/// Every version, newest first.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/projects/{project}/functions/{function}/versions",
    operation_id = "listVersions",
    tag = "versions",
    security(("token" = ["deploy"]), ("token" = ["live"])),
    params(("project" = model::Name, Path), ("function" = model::Name, Path)),
    responses((status = 200, description = "The versions", body = Vec<Row>)),
))]
pub(crate) async fn list(
    State(app): Server,
    _: MayLook,
    Path((project, function)): Path<(String, String)>,
) -> Answer<Json<Vec<Row>>> {
    let id = super::function(&project, &function)?;
    let fail = |error| store_failure(&error);
    let versions = app.store.versions(&id).await.map_err(fail)?;
    let aliases = app.store.aliases(&id).await.map_err(fail)?;
    let parts_of = |number| {
        let parts = aliases.iter().flat_map(|(name, target)| {
            let parts = target.parts().into_iter();
            parts.map(move |part| (name, part))
        });
        let of_it = parts.filter(|(_, part)| part.version == number);
        let row = |(name, part): (&Name, AliasPart)| InAlias {
            name: name.clone(),
            weight: part.weight,
        };
        of_it.map(row).collect::<Vec<_>>()
    };
    let row = |version: store::Version| {
        let aliases = parts_of(version.number);
        let current = Alias::current().0;
        Row {
            version: version.number,
            digest: version.digest,
            bundle: version.bundle,
            kind: version.kind,
            runtime: version.patch.runtime.unwrap_or(Runtime::Isolate),
            created_at: version.created_at,
            current: aliases.iter().any(|alias| alias.name == current),
            aliases,
        }
    };
    Ok(Json(versions.into_iter().map(row).collect()))
}

/// Make a version of a bundle that was uploaded.
///
/// It takes no calls before an alias points at it.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/projects/{project}/functions/{function}/versions",
    operation_id = "createVersion",
    tag = "versions",
    security(("token" = ["deploy"])),
    params(("project" = model::Name, Path), ("function" = model::Name, Path)),
    request_body(content = Wanted),
    responses((status = 200, description = "The same was there already", body = crate::deploys::Created), (status = 201, description = "It is new", body = crate::deploys::Created)),
))]
pub(crate) async fn create(
    State(app): Server,
    _: MayDeploy,
    Path((project, function)): Path<(String, String)>,
    body: Body,
) -> Answer<Response> {
    let id = new_function(&project, &function)?;
    let wanted: Wanted = json(body).await?;
    let deploys = app.clone();
    let change = async move { deploys.deploys.create(&id, wanted).await };
    let created = to_its_end(&app, change).await?;
    let status = if created.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(created)).into_response())
}

/// Point `current` at what was current before, or at the version given.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/projects/{project}/functions/{function}/rollback",
    operation_id = "rollBack",
    tag = "versions",
    security(("token" = ["deploy"])),
    params(("project" = model::Name, Path), ("function" = model::Name, Path)),
    request_body(content = Option<Target>),
    responses((status = 200, description = "Where it points now", body = Activated)),
))]
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
    let deploys = app.clone();
    let change = async move { deploys.deploys.roll_back(&id, wanted.as_ref()).await };
    Ok(Json(to_its_end(&app, change).await?))
}
