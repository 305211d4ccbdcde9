//! Every key that `bungee.toml` may hold, and the shape of what stands behind it.

/// What may stand behind a key.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    Text,
    Runtime,
    Kind,
    Auth,
    Live,
    Span,
    Size,
    Count,
    Routes,
    Env,
    Keep,
    Redact,
    Table(&'static [(&'static str, Shape)]),
    /// Named in the product, not built yet.
    Later,
}

/// The keys of `[functions.NAME]`.
pub(super) const FUNCTION: &[(&str, Shape)] = &[
    ("entry", Shape::Text),
    ("handler", Shape::Text),
    ("kind", Shape::Kind),
    ("runtime", Shape::Runtime),
    ("routes", Shape::Routes),
    ("build", Shape::Text),
    ("timeout", Shape::Span),
    ("memory", Shape::Size),
    ("concurrency", Shape::Count),
    ("workers", Shape::Table(WORKERS)),
    ("queue", Shape::Table(QUEUE)),
    ("env", Shape::Env),
    ("auth", Shape::Auth),
    ("live", Shape::Live),
    ("secrets", Shape::Later),
    ("record", Shape::Keep),
    ("redact", Shape::Redact),
    ("allow_net", Shape::Later),
    ("on", Shape::Later),
    ("aws", Shape::Later),
    ("schedules", Shape::Later),
];
const WORKERS: &[(&str, Shape)] = &[
    ("min", Shape::Count),
    ("max", Shape::Count),
    ("idle", Shape::Span),
];
const QUEUE: &[(&str, Shape)] = &[("depth", Shape::Count), ("wait", Shape::Span)];

/// The keys at the top of the file.
pub(super) const TOP: [&str; 3] = ["project", "functions", "local"];
