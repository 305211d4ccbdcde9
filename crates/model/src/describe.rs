//! How the words that are written as text look in the API's description. Only for the test that writes it.

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Object, ObjectBuilder, OneOfBuilder, RefOr, Schema, Type,
        schema::{AdditionalProperties, SchemaType},
    },
};

use crate::{Digest, InvocationId, Limits, Name, Outcome, Route, Timestamp, VersionNumber};

/// One of these words.
pub(crate) fn word<'a>(words: impl Iterator<Item = &'a str>) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(words))
        .into()
}

/// Text of this form.
macro_rules! text {
    ($($name:ident: $pattern:literal, $description:literal;)*) => {$(
        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .pattern(Some($pattern))
                    .description(Some($description))
                    .into()
            }
        }

        impl ToSchema for $name {}
    )*};
}

text! {
    Name: "^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$", "A project's or a function's name";
    Digest: "^sha256:[0-9a-f]{64}$", "A SHA-256";
    VersionNumber: "^v[0-9]{1,9}$", "A version's ordinal within its function";
    InvocationId: "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$", "An invocation's id";
    Outcome: "^[A-Za-z]+$", "`ok`, or the type of an error";
    Route: "^([A-Z]+ )?/", "A declared route, such as `GET /hello/:name`";
}

impl PartialSchema for Timestamp {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::Integer)
            .description(Some("Milliseconds since 1970"))
            .into()
    }
}

impl ToSchema for Timestamp {}

impl PartialSchema for Limits {
    fn schema() -> RefOr<Schema> {
        let value = OneOfBuilder::new()
            .item(Object::with_type(SchemaType::Type(Type::String)))
            .item(Object::with_type(SchemaType::Type(Type::Integer)));
        ObjectBuilder::new()
            .description(Some(
                "Every limit by name: spans like `30s`, sizes like `6MB`, or counts",
            ))
            .additional_properties(Some(AdditionalProperties::RefOr(RefOr::T(value.into()))))
            .into()
    }
}

impl ToSchema for Limits {}
