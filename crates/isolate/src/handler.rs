//! Finds a module's handler, and calls it as its kind says.

use std::rc::Rc;

use model::Kind;
use rquickjs::{
    Array, Ctx, Exception, Function, Object, Result, TypedArray, Value, function::This,
};
use serde::Deserialize;

use crate::{
    clock::now_ms,
    context::{Deadline, settle},
    fault,
    globals::{self, Host, lossy},
    wire::{Answer, Request},
};

/// What a child runs, from the header `x-bungee-boot` of *load*; see docs/protocol.md.
#[derive(Deserialize)]
pub struct Boot {
    /// The module.
    pub entry: String,
    /// Which export.
    pub handler: Option<String>,
    /// The shape of the handler.
    pub kind: Kind,
    /// The function's project.
    pub project: String,
    /// The function's name.
    pub function: String,
    /// The version.
    pub version: String,
    /// Shown as `context.env`.
    #[serde(default)]
    pub env: std::collections::BTreeMap<String, String>,
}

/// A handler and what it is called on.
pub struct Handler<'js> {
    function: Function<'js>,
    this: Value<'js>,
}

/// The export that was asked for, else the default export, else `handler`; for web also an object with `fetch`.
pub fn find<'js>(
    ctx: &Ctx<'js>,
    module: &Object<'js>,
    wanted: Option<&str>,
) -> Result<Handler<'js>> {
    let read = |name: &str| module.get::<_, Value<'js>>(name);
    let found = match wanted {
        Some(name) => read(name)?,
        None => match read("default")? {
            found if found.is_undefined() => read("handler")?,
            found => found,
        },
    };
    let undefined = Value::new_undefined(ctx.clone());
    if let Some(function) = found.as_function() {
        return Ok(Handler {
            function: function.clone(),
            this: undefined,
        });
    }
    if let Some(object) = found.as_object()
        && let Ok(fetch) = object.get::<_, Function<'js>>("fetch")
    {
        return Ok(Handler {
            function: fetch,
            this: found,
        });
    }
    let names: Vec<String> = module.keys::<String>().filter_map(Result::ok).collect();
    let wanted = wanted.map_or("no handler".into(), |name| format!("no function `{name}`"));
    let names = if names.is_empty() {
        "nothing".into()
    } else {
        names.join(", ")
    };
    Err(Exception::throw_message(
        ctx,
        &format!("the module exports {wanted}; it exports: {names}"),
    ))
}

/// One invocation, as the wire brought it.
pub struct Call<'a> {
    /// What runs.
    pub boot: &'a Boot,
    /// Limit on memory, in mebibytes.
    pub memory_mb: u64,
    /// The request.
    pub request: &'a Request,
    /// Its id.
    pub id: Rc<str>,
    /// When it must have ended, in Unix milliseconds.
    pub ends_at: i64,
}

impl Call<'_> {
    /// Calls the handler with a Request and opens its Response.
    pub fn web<'js>(
        &self,
        ctx: &Ctx<'js>,
        deadline: &Deadline,
        host: &Host,
        handler: Handler<'js>,
    ) -> Result<Answer> {
        let (make, open) = globals::web_doors(ctx, host)?;
        let request = self.request;
        let url = format!(
            "http://{}{}",
            request.header("host").unwrap_or("localhost"),
            request.target
        );
        let headers = Array::new(ctx.clone())?;
        let visible = request
            .headers
            .iter()
            .filter(|(name, _)| !name.starts_with("x-bungee-"));
        for (at, (name, value)) in visible.enumerate() {
            let pair = Array::new(ctx.clone())?;
            pair.set(0, name.as_str())?;
            pair.set(1, value.as_str())?;
            headers.set(at, pair)?;
        }
        let body = match request.body.as_slice() {
            [] => Value::new_null(ctx.clone()),
            bytes => TypedArray::new_copy(ctx.clone(), bytes)?.into_value(),
        };
        let params = match request.header("x-bungee-params") {
            Some(params) => ctx.json_parse(params)?,
            None => Value::new_null(ctx.clone()),
        };
        let made: Value<'js> = make.call((request.method.as_str(), url, headers, body, params))?;
        let returned: Value<'js> =
            handler
                .function
                .call((This(handler.this), made, self.context(ctx)?))?;
        let value: Value<'js> = settle(ctx, deadline, returned)?;
        let opened: Value<'js> = open.call((value.clone(),))?;
        let Some(opened) = opened.as_array() else {
            let what = fault::name_of(&value);
            return Err(Exception::throw_type(
                ctx,
                &format!("the handler returned {what}, not a Response"),
            ));
        };
        Ok(Answer {
            status: opened.get(0)?,
            headers: pairs(opened.get(1)?)?,
            body: bytes_of(opened.get(2)?)?,
        })
    }

    /// Calls the handler with the event; its result as JSON.
    pub fn event<'js>(
        &self,
        ctx: &Ctx<'js>,
        deadline: &Deadline,
        handler: Handler<'js>,
    ) -> Result<Answer> {
        let event: Value<'js> = match self.request.body.as_slice() {
            [] => Value::new_null(ctx.clone()),
            body => ctx.json_parse(body)?,
        };
        let returned: Value<'js> =
            handler
                .function
                .call((This(handler.this), event, self.context(ctx)?))?;
        let value: Value<'js> = settle(ctx, deadline, returned)?;
        let json = ctx.json_stringify(value)?;
        let body = json.map_or_else(|| b"null".to_vec(), |json| lossy(&json).into_bytes());
        Ok(Answer {
            status: 200,
            headers: vec![("content-type".into(), "application/json".into())],
            body,
        })
    }

    /// The second argument of both kinds.
    fn context<'js>(&self, ctx: &Ctx<'js>) -> Result<Object<'js>> {
        let Call {
            boot,
            memory_mb,
            id,
            ends_at,
            ..
        } = self;
        let context = Object::new(ctx.clone())?;
        context.set("functionName", boot.function.as_str())?;
        context.set("functionVersion", boot.version.as_str())?;
        context.set("memoryLimitInMB", memory_mb.to_string())?;
        context.set("awsRequestId", &**id)?;
        context.set("projectId", boot.project.as_str())?;
        context.set("invocationId", &**id)?;
        context.set(
            "trigger",
            self.request.header("x-bungee-trigger").unwrap_or("http"),
        )?;
        let date: Function<'js> = ctx.globals().get("Date")?;
        let date: Object<'js> =
            rquickjs::function::Constructor::from_value(date.into_value())?.construct(())?;
        let to_iso: Function<'js> = date.get("toISOString")?;
        context.set("timestamp", to_iso.call::<_, Value<'js>>((This(date),))?)?;
        let ends_at = *ends_at;
        let left = move || (ends_at - now_ms()).max(0) as f64;
        context.set(
            "getRemainingTimeInMillis",
            Function::new(ctx.clone(), left)?,
        )?;
        let env = Object::new(ctx.clone())?;
        for (name, value) in &boot.env {
            env.set(name.as_str(), value.as_str())?;
        }
        context.set("env", env)?;
        Ok(context)
    }
}

/// Headers that describe the connection are the host's to set.
const OF_THE_CONNECTION: [&str; 5] = [
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "upgrade",
];

fn pairs(list: Array<'_>) -> Result<Vec<(String, String)>> {
    let mut headers = Vec::with_capacity(list.len());
    for pair in list.iter::<Array<'_>>() {
        let pair = pair?;
        let name: String = pair.get(0)?;
        if !OF_THE_CONNECTION.contains(&name.to_ascii_lowercase().as_str()) {
            headers.push((name, pair.get(1)?));
        }
    }
    Ok(headers)
}

fn bytes_of(body: Value<'_>) -> Result<Vec<u8>> {
    if let Some(text) = body.as_string() {
        return Ok(lossy(text).into_bytes());
    }
    if body.is_null() || body.is_undefined() {
        return Ok(Vec::new());
    }
    TypedArray::from_value(body).map(|bytes| globals::copy(&bytes))
}
