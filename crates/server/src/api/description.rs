//! The API in OpenAPI's words: what `GET /openapi.json` answers, and the test that writes it from the handlers and
//! types themselves. `BUNGEE_WRITE=1` makes the test write the file; without it, the test compares.

/// `spec/openapi.json`. Each handler stands for its own operation, each type for its own schema.
pub(super) const DESCRIPTION: &str = include_str!("../../../../spec/openapi.json");

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, env, fs, path::Path};

    use utoipa::{
        Modify, OpenApi,
        openapi::{
            self, ContentBuilder, ResponseBuilder,
            path::Operation,
            security::{Http, HttpAuthScheme, SecurityScheme},
        },
    };

    use crate::{
        api::{
            aliases, bundles, env as overrides, functions, invocations, invoke, replay, server,
            tokens, versions,
        },
        bunbase::paths,
        errors, health,
    };

    #[derive(OpenApi)]
    #[openapi(
        info(
            title = "Bungee",
            description = "Functions themselves answer at `/functions/{name}` and at the routes they declare. Every failure is an `Error`. Where a token is asked for, its role is named; a server on loopback without any token is open to local programs.",
        ),
        servers((url = "/")),
        paths(
            health::report, health::live, health::ready, server::describe, server::metrics, server::show,
            functions::list, functions::show, functions::change, functions::delete,
            overrides::show, overrides::change,
            versions::list, versions::create, versions::roll_back,
            aliases::list, aliases::point, aliases::delete, bundles::look, bundles::take,
            invoke::invoke, replay::replay, replay::show, replay::export, replay::find,
            invocations::logs, invocations::list,
            tokens::list, tokens::create, tokens::delete,
            paths::register, paths::deploy, paths::logs,
        ),
        components(schemas(errors::Envelope)),
        modifiers(&Token, &Failures),
    )]
    struct Api;

    /// How a caller says who he is.
    struct Token;

    impl Modify for Token {
        fn modify(&self, api: &mut openapi::OpenApi) {
            let scheme = Http::builder()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some("A role beside it is the least that is asked for; where it stands twice, either will do. `admin` may everything, `deploy` and `live` what `invoke` may too; `bridge` is for `/v1/live` only"))
                .build();
            if let Some(components) = &mut api.components {
                components.add_security_scheme("token", SecurityScheme::Http(scheme));
            }
        }
    }

    /// Every operation fails in the same shape, but for those of a profile, which say their own.
    struct Failures;

    impl Modify for Failures {
        fn modify(&self, api: &mut openapi::OpenApi) {
            let content = ContentBuilder::new()
                .schema(Some(openapi::Ref::from_schema_name("Error")))
                .build();
            let failure = ResponseBuilder::new()
                .description("It failed; `type` says how")
                .content("application/json", content)
                .build();
            for item in api.paths.paths.values_mut() {
                let operations = [
                    &mut item.get,
                    &mut item.put,
                    &mut item.post,
                    &mut item.delete,
                    &mut item.head,
                    &mut item.patch,
                ];
                for operation in operations.into_iter().flatten() {
                    fails_with(operation, failure.clone());
                }
            }
        }
    }

    fn fails_with(operation: &mut Operation, failure: openapi::Response) {
        let responses: &mut BTreeMap<_, _> = &mut operation.responses.responses;
        responses
            .entry("default".into())
            .or_insert_with(|| failure.into());
    }

    #[test]
    fn the_description_is_what_the_handlers_and_types_say() {
        let mut api = Api::openapi();
        api.merge(crate::service::description::described());
        let mut written = api.to_pretty_json().expect("a description is JSON");
        written.push('\n');
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/openapi.json");
        if env::var_os("BUNGEE_WRITE").is_some() {
            fs::write(&path, &written).expect("the file can be written");
        }
        let stands = fs::read_to_string(&path).expect("the description is there");
        assert!(
            stands == written,
            "spec/openapi.json is not what the handlers say; write it: BUNGEE_WRITE=1 cargo test -p bungee-server description"
        );
    }
}
