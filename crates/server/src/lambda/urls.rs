//! Function URLs: every function has one here already; what is set of it is who may call it.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode};
use model::Auth;
use serde::Deserialize;
use serde_json::{Value, json};
use store::FunctionUrl;

use super::{
    Answer, Caller, Kind, Named, Refusal, content,
    draft::now,
    functions::{Beside, read},
    shown::{LATEST, Shown, moment},
};
use crate::{api::to_its_end, app::App, rights::Right};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked {
    auth_type: Option<String>,
    invoke_mode: Option<String>,
    cors: Option<Value>,
}

/// The function behind a path; its URL leads to the newest state.
fn named(name: &str, beside: &Beside, region: &str) -> Answer<Named> {
    let named = Named::parse(name, beside.qualifier.as_deref(), region)?;
    match named.qualifier.as_deref() {
        None | Some(LATEST) => Ok(named),
        Some(qualifier) => Err(Refusal::parameter(format!(
            "a function URL leads to $LATEST here; leave the Qualifier '{qualifier}' out, and call an alias with the header X-Bungee-Alias"
        ))),
    }
}

impl Asked {
    fn auth(&self) -> Answer<Option<Auth>> {
        match self.auth_type.as_deref() {
            None => Ok(None),
            Some("NONE") => Ok(Some(Auth::None)),
            Some("AWS_IAM") => Ok(Some(Auth::Token)),
            Some(other) => {
                let rule = "Member must satisfy enum value set: [NONE, AWS_IAM]";
                Err(Refusal::constraint(other, "authType", rule))
            }
        }
    }

    fn check(&self) -> Answer<()> {
        if self
            .cors
            .as_ref()
            .is_some_and(|cors| *cors != json!({}) && !cors.is_null())
        {
            let message = "Cors is not served here: nobody would answer by it; let the handler set the headers, and leave it out";
            return Err(Refusal::parameter(message));
        }
        match self.invoke_mode.as_deref() {
            None | Some("BUFFERED" | "RESPONSE_STREAM") => Ok(()),
            Some(other) => {
                let rule = "Member must satisfy enum value set: [BUFFERED, RESPONSE_STREAM]";
                Err(Refusal::constraint(other, "invokeMode", rule))
            }
        }
    }
}

fn shape(shown: &Shown<'_>, headers: &HeaderMap, url: &FunctionUrl) -> Value {
    let path = shown.app.registry.table().url(shown.id());
    let auth = match url.auth {
        Auth::None => "NONE",
        Auth::Token => "AWS_IAM",
    };
    json!({
        "FunctionUrl": format!("{}{path}/", content::origin(headers)),
        "FunctionArn": shown.arn(None),
        "AuthType": auth,
        "InvokeMode": url.mode,
        "CreationTime": moment(url.created_at),
        "LastModifiedTime": moment(url.modified_at),
    })
}

fn missing() -> Refusal {
    Refusal::not_found("The resource you requested does not exist.")
}

/// `CreateFunctionUrlConfig`.
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(beside): Query<Beside>,
    headers: HeaderMap,
    caller: Caller,
) -> Answer<Response> {
    caller.may(Right::Deploy)?;
    let named = named(&name, &beside, &caller.region)?;
    let asked: Asked = read(&caller.body)?;
    asked.check()?;
    let Some(auth) = asked.auth()? else {
        return Err(Refusal::constraint(
            "null",
            "authType",
            "Member must not be null",
        ));
    };
    let shown = Shown::load(&app, &caller.region, &named.function).await?;
    if shown.function.url.is_some() {
        let message = format!(
            "FunctionUrlConfig exists for this Lambda function: {}",
            shown.arn(None)
        );
        return Err(Refusal::new(Kind::ResourceConflict, message));
    }
    let at = now(&app);
    let mode = asked.invoke_mode.unwrap_or_else(|| "BUFFERED".to_owned());
    let url = FunctionUrl {
        auth,
        mode,
        created_at: at,
        modified_at: at,
    };
    set(&app, &named, Some(url.clone())).await?;
    let answer = Json(shape(&shown, &headers, &url));
    Ok((StatusCode::CREATED, answer).into_response())
}

async fn set(app: &Arc<App>, named: &Named, url: Option<FunctionUrl>) -> Answer<()> {
    let (work, id) = (app.clone(), named.function.clone());
    let changed = async move {
        let set = work.store.set_function_url(&id, url).await;
        set.map_err(|error| crate::deploys::store_failure(&error))?;
        work.deploys.reload(&id).await
    };
    Ok(to_its_end(app, changed).await?)
}

/// `UpdateFunctionUrlConfig`.
pub(super) async fn update(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(beside): Query<Beside>,
    headers: HeaderMap,
    caller: Caller,
) -> Answer<Json<Value>> {
    caller.may(Right::Deploy)?;
    let named = named(&name, &beside, &caller.region)?;
    let asked: Asked = read(&caller.body)?;
    asked.check()?;
    let shown = Shown::load(&app, &caller.region, &named.function).await?;
    let mut url = shown.function.url.clone().ok_or_else(missing)?;
    url.auth = asked.auth()?.unwrap_or(url.auth);
    if let Some(mode) = asked.invoke_mode {
        url.mode = mode;
    }
    url.modified_at = now(&app);
    set(&app, &named, Some(url.clone())).await?;
    Ok(Json(shape(&shown, &headers, &url)))
}

/// `GetFunctionUrlConfig`.
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(beside): Query<Beside>,
    headers: HeaderMap,
    caller: Caller,
) -> Answer<Json<Value>> {
    caller.may(Right::Look)?;
    let named = named(&name, &beside, &caller.region)?;
    let shown = Shown::load(&app, &caller.region, &named.function).await?;
    let url = shown.function.url.as_ref().ok_or_else(missing)?;
    Ok(Json(shape(&shown, &headers, url)))
}

/// `ListFunctionUrlConfigs`.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    caller: Caller,
) -> Answer<Json<Value>> {
    caller.may(Right::Look)?;
    let named = named(&name, &Beside::default(), &caller.region)?;
    let shown = Shown::load(&app, &caller.region, &named.function).await?;
    let urls = shown.function.url.iter();
    let urls: Vec<Value> = urls.map(|url| shape(&shown, &headers, url)).collect();
    Ok(Json(json!({"FunctionUrlConfigs": urls})))
}

/// `DeleteFunctionUrlConfig`: who may call it is again what its settings say.
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(beside): Query<Beside>,
    caller: Caller,
) -> Answer<StatusCode> {
    caller.may(Right::Deploy)?;
    let named = named(&name, &beside, &caller.region)?;
    let shown = Shown::load(&app, &caller.region, &named.function).await?;
    if shown.function.url.is_none() {
        return Err(missing());
    }
    set(&app, &named, None).await?;
    Ok(StatusCode::NO_CONTENT)
}
