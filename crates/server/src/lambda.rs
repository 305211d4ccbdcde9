//! The AWS Lambda profile: its paths, and which operation stands behind each. The shapes are AWS's, and so are the words
//! of what is refused; what the operations do stands in the files below.

mod account;
mod aliases;
mod arn;
mod caller;
mod code;
mod content;
mod draft;
mod eventstream;
mod functions;
mod invoke;
mod layers;
mod pages;
mod qualifier;
mod refusal;
mod runtimes;
mod settings;
mod shown;
mod sigv4;
mod stream;
mod tags;
mod tail;
mod underway;
mod updates;
mod urls;
mod verdict;
mod versions;

use std::sync::Arc;

use axum::{
    Router,
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, get, post, put},
};
use http::{HeaderName, HeaderValue, Method, Uri, header::Entry};
use model::{ByteSize, InvocationId, Limits};

pub(crate) use self::{
    arn::{Named, arn_of},
    caller::{Caller, Signer, is_signed},
    qualifier::target,
    refusal::{Kind, Refusal},
    underway::Underway,
};
use crate::{app::App, bodies::BodyLimit};

/// Whose functions these are: there are no accounts here, so it is always this one.
pub(crate) const ACCOUNT: &str = "000000000000";

/// The region of whoever names none.
pub(crate) const REGION: &str = "us-east-1";

/// Whether a path's first part is the date of one of AWS's API versions.
pub(crate) fn is_date(part: &str) -> bool {
    let fits = |(at, byte): (usize, u8)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    part.len() == 10 && part.starts_with("20") && part.bytes().enumerate().all(fits)
}

/// Every answer has an id; that of an invocation is its own.
async fn with_id(mut response: Response) -> Response {
    let name = HeaderName::from_static("x-amzn-requestid");
    if let Entry::Vacant(place) = response.headers_mut().entry(name) {
        let id = InvocationId::from_words(rand::random(), rand::random());
        let text = id.map(|id| id.to_string()).unwrap_or_default();
        if let Ok(id) = HeaderValue::from_str(&text) {
            place.insert(id);
        }
    }
    response
}

/// What an operation answers.
pub(crate) type Answer<T> = Result<T, Refusal>;

/// Every path of the profile.
pub(crate) fn router() -> Router<Arc<App>> {
    let mut router = operations();
    for (path, operations) in REFUSED {
        let mut methods = MethodRouter::new();
        for (method, operation) in *operations {
            let refuse = move |_: Caller| async move { Refusal::not_served(operation) };
            methods = methods.on(filter(method), refuse);
        }
        router = both(router, path, methods);
    }
    router.layer(map_response(with_id))
}

/// The path of an operation on one function.
fn function(date: &str, rest: &str) -> String {
    format!("/{date}/functions/{{function}}{rest}")
}

/// The operations that are served.
fn operations() -> Router<Arc<App>> {
    let all = [
        invocations(),
        on_functions(),
        beside_functions(),
        on_layers(),
    ];
    let route = |router, (path, methods): Operation| both(router, &path, methods);
    all.into_iter().flatten().fold(Router::new(), route)
}

/// A path, with a slash at its end and without: AWS has some operations so and some so, and takes both.
fn both(router: Router<Arc<App>>, path: &str, methods: MethodRouter<Arc<App>>) -> Router<Arc<App>> {
    let methods = methods.fallback(unknown);
    let router = router.route(&format!("{path}/"), methods.clone());
    router.route(path, methods)
}

/// A path, and the operations behind its methods.
type Operation = (String, MethodRouter<Arc<App>>);

/// Both ways to invoke.
fn invocations() -> Vec<Operation> {
    let streamed = "/response-streaming-invocations";
    vec![
        (function("2015-03-31", "/invocations"), post(invoke::invoke)),
        (function("2021-11-15", streamed), post(stream::invoke)),
    ]
}

/// Functions, their states and their aliases.
fn on_functions() -> Vec<Operation> {
    let own = |rest: &str| function("2015-03-31", rest);
    vec![
        (
            "/2015-03-31/functions".to_owned(),
            get(functions::list).post(functions::create),
        ),
        (own(""), get(functions::get).delete(functions::delete)),
        (own("/code"), put(updates::code)),
        (
            own("/configuration"),
            get(functions::configuration).put(updates::configuration),
        ),
        (own("/versions"), get(versions::list).post(versions::create)),
        (own("/aliases"), get(aliases::list).post(aliases::create)),
        (
            own("/aliases/{alias}"),
            get(aliases::get)
                .put(aliases::update)
                .delete(aliases::delete),
        ),
        (
            own("/policy"),
            get(account::policy).post(|_: Caller| async { Refusal::not_served("AddPermission") }),
        ),
        (
            "/2015-03-31/content/{function}/{version}/{code}".to_owned(),
            get(content::function),
        ),
    ]
}

/// What a function has besides.
fn beside_functions() -> Vec<Operation> {
    vec![
        (
            "/2016-08-19/account-settings".to_owned(),
            get(account::settings),
        ),
        (
            "/2017-03-31/tags/{arn}".to_owned(),
            get(tags::list).post(tags::add).delete(tags::remove),
        ),
        (
            function("2017-10-31", "/concurrency"),
            put(account::reserve).delete(account::free),
        ),
        (
            function("2019-09-30", "/concurrency"),
            get(account::reserved),
        ),
        (
            function("2020-06-30", "/code-signing-config"),
            get(account::signing),
        ),
        (
            function("2021-10-31", "/url"),
            get(urls::get)
                .post(urls::create)
                .put(urls::update)
                .delete(urls::delete),
        ),
        (function("2021-10-31", "/urls"), get(urls::list)),
    ]
}

/// Layers.
fn on_layers() -> Vec<Operation> {
    vec![
        ("/2018-10-31/layers".to_owned(), get(layers::list)),
        (
            "/2018-10-31/layers/{layer}/versions".to_owned(),
            get(layers::versions).post(layers::publish),
        ),
        (
            "/2018-10-31/layers/{layer}/versions/{number}".to_owned(),
            get(layers::get).delete(layers::delete),
        ),
        ("/2018-10-31/content/{code}".to_owned(), get(content::layer)),
    ]
}

/// The methods of the operations that are refused.
fn filter(method: &Method) -> MethodFilter {
    match *method {
        Method::GET => MethodFilter::GET,
        Method::PUT => MethodFilter::PUT,
        Method::DELETE => MethodFilter::DELETE,
        _ => MethodFilter::POST,
    }
}

/// Operations that are refused by name: what they would promise is not kept here.
const REFUSED: &[(&str, &[(Method, &str)])] = &[
    (
        "/2014-11-13/functions/{function}/invoke-async",
        &[(Method::POST, "InvokeAsync")],
    ),
    (
        "/2015-03-31/event-source-mappings",
        &[
            (Method::GET, "ListEventSourceMappings"),
            (Method::POST, "CreateEventSourceMapping"),
        ],
    ),
    (
        "/2015-03-31/event-source-mappings/{id}",
        &[
            (Method::GET, "GetEventSourceMapping"),
            (Method::PUT, "UpdateEventSourceMapping"),
            (Method::DELETE, "DeleteEventSourceMapping"),
        ],
    ),
    (
        "/2015-03-31/functions/{function}/policy/{statement}",
        &[(Method::DELETE, "RemovePermission")],
    ),
    (
        "/2018-10-31/layers/{layer}/versions/{number}/policy",
        &[
            (Method::GET, "GetLayerVersionPolicy"),
            (Method::POST, "AddLayerVersionPermission"),
        ],
    ),
    (
        "/2019-09-25/functions/{function}/event-invoke-config",
        &[
            (Method::GET, "GetFunctionEventInvokeConfig"),
            (Method::PUT, "PutFunctionEventInvokeConfig"),
            (Method::POST, "UpdateFunctionEventInvokeConfig"),
            (Method::DELETE, "DeleteFunctionEventInvokeConfig"),
        ],
    ),
    (
        "/2019-09-25/functions/{function}/event-invoke-config/list",
        &[(Method::GET, "ListFunctionEventInvokeConfigs")],
    ),
    (
        "/2019-09-30/functions/{function}/provisioned-concurrency",
        &[
            (Method::GET, "GetProvisionedConcurrencyConfig"),
            (Method::PUT, "PutProvisionedConcurrencyConfig"),
            (Method::DELETE, "DeleteProvisionedConcurrencyConfig"),
        ],
    ),
];

/// Most bytes of a request, by what it asks; each number is AWS's own.
pub(crate) fn limit_of(method: &Method, path: &str, limits: &Limits) -> BodyLimit {
    let what = "the request";
    let of = |name, most| BodyLimit { what, name, most };
    let is_of = |end: &str| path.trim_end_matches('/').ends_with(end);
    match *method {
        Method::POST if is_of("invocations") => BodyLimit::event(limits),
        Method::PUT if is_of("/configuration") => of("UpdateFunctionConfiguration", ByteSize(5120)),
        Method::PUT if is_of("/code") => of("UpdateFunctionCode", CODE_MAX),
        Method::POST if is_of("/functions") => of("CreateFunction", CODE_MAX),
        Method::POST if path.starts_with("/2018-10-31/") => of("PublishLayerVersion", CODE_MAX),
        _ => BodyLimit::api(),
    }
}

/// A request with a zip of 50 MiB, in base64, and everything around it.
const CODE_MAX: ByteSize = ByteSize(70_167_211);

/// The refusal of a request past its limit.
fn too_large(limit: BodyLimit) -> Refusal {
    let BodyLimit { name, most, .. } = limit;
    if name == "event" {
        let message = format!(
            "Request must be smaller than {} bytes for the InvokeFunction operation",
            most.0
        );
        return Refusal::new(Kind::RequestTooLarge, message);
    }
    let message = format!(
        "Request must be smaller than {} bytes for the {name} operation",
        most.0
    );
    Refusal::new(Kind::RequestEntityTooLarge, message)
}

/// What is below the profile's dates, and is no operation that we know.
pub(crate) async fn unknown(method: Method, uri: Uri) -> Response {
    let path: String = uri.path().chars().take(200).collect();
    let message = format!("{method} {path} is no operation of AWS Lambda that this server knows");
    with_id(Refusal::new(Kind::UnknownOperation, message).into_response()).await
}
