//! The profile's part of the API's description. Only for the test that writes it.

use utoipa::{
    OpenApi,
    openapi::{self, ContentBuilder, PathItem, Ref, RefOr, ResponseBuilder, path::Operation},
};

use super::{changes, functions, invoke, refusal, routes};

#[derive(OpenApi)]
#[openapi(
    paths(
        functions::show,
        functions::list,
        functions::code,
        invoke::invoke,
        routes::resolve,
        changes::create,
        changes::register,
        changes::change,
        changes::delete,
    ),
    components(schemas(refusal::Shape))
)]
struct Service;

/// What stands under several paths: the path, that which it is like, what is added to the operations' ids, and which
/// of them it has.
const ALIKE: [(&str, &str, &str, &str); 4] = [
    (
        "/api/v1/functions/{function}",
        CALLED,
        "AtHome",
        "get post patch",
    ),
    ("/_functions/{function}", CALLED, "ByName", "get post patch"),
    (
        "/api/functions/{project}/{function}",
        CALLED,
        "Managed",
        "get patch",
    ),
    (
        "/api/functions/projects/{project}",
        LISTED,
        "Managed",
        "get",
    ),
];
const CALLED: &str = "/api/v1/functions/{project}/{function}";
const LISTED: &str = "/api/v1/projects/{project}/functions";

/// The profile's operations, which fail in its own shape.
pub(crate) fn described() -> openapi::OpenApi {
    let mut api = Service::openapi();
    for (path, like, id, methods) in ALIKE {
        let from = api.paths.paths.get(like).cloned().unwrap_or_default();
        let to = api.paths.paths.entry(path.to_owned()).or_default();
        let has = |method: &str| methods.split(' ').any(|own| own == method);
        let copies = [
            ("get", from.get, &mut to.get),
            ("post", from.post, &mut to.post),
            ("patch", from.patch, &mut to.patch),
        ];
        for (method, operation, place) in copies {
            if has(method)
                && let Some(operation) = operation
            {
                *place = Some(renamed(operation, id, path));
            }
        }
    }
    for (path, item) in &mut api.paths.paths {
        let shape = match path.starts_with("/v1/") {
            true => "Error",
            false => "ServiceError",
        };
        fail_with(item, shape);
    }
    api
}

fn renamed(mut operation: Operation, id: &str, path: &str) -> Operation {
    operation.operation_id = operation.operation_id.map(|own| format!("{own}{id}"));
    if let Some(parameters) = &mut operation.parameters {
        parameters.retain(|it| match it {
            RefOr::T(it) => path.contains(&format!("{{{}}}", it.name)),
            RefOr::Ref(_) => true,
        });
    }
    operation
}

fn fail_with(item: &mut PathItem, shape: &str) {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(shape)));
    let failure = ResponseBuilder::new()
        .description("It failed; the body says why")
        .content("application/json", content.build())
        .build();
    let operations = [
        &mut item.get,
        &mut item.post,
        &mut item.delete,
        &mut item.patch,
    ];
    for operation in operations.into_iter().flatten() {
        let responses = &mut operation.responses.responses;
        responses.insert("default".into(), failure.clone().into());
    }
}
