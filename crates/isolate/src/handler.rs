//! Finds a module's handler, and calls it as its kind says.

use model::Kind;
use rquickjs::{
    Array, Ctx, Exception, Function, Object, Persistent, Result, TypedArray, Value, function::This,
    object::Property,
};
use serde::Deserialize;

use crate::{
    context::{Deadline, settle},
    fault,
    globals::{self, lossy},
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

/// What the prelude made for the host, and the context as far as all invocations share it.
pub struct Doors {
    make_request: Persistent<Function<'static>>,
    open_response: Persistent<Function<'static>>,
    fill_context: Persistent<Function<'static>>,
    context: Persistent<Object<'static>>,
}

impl Doors {
    /// Opens the doors of one context.
    pub fn open<'js>(
        ctx: &Ctx<'js>,
        boot: &Boot,
        memory_mb: u64,
        doors: &Object<'js>,
    ) -> Result<Doors> {
        let door = |name: &str| -> Result<_> {
            Ok(Persistent::save(ctx, doors.get::<_, Function<'js>>(name)?))
        };
        let env = Object::new(ctx.clone())?;
        for (name, value) in &boot.env {
            env.set(name.as_str(), value.as_str())?;
        }
        let memory = memory_mb.to_string();
        let fixed = [&boot.function, &boot.version, &memory, &boot.project].map(String::as_str);
        let make: Function<'js> = doors.get("$makeContext")?;
        let context: Object<'js> = make.call((fixed.to_vec(), env))?;
        Ok(Doors {
            make_request: door("$makeRequest")?,
            open_response: door("$openResponse")?,
            fill_context: door("$fillContext")?,
            context: Persistent::save(ctx, context),
        })
    }
}

/// The context is a global too: some handlers take the event alone, and helpers of theirs look around.
pub fn show_context<'js>(ctx: &Ctx<'js>, context: &Object<'js>) -> Result<()> {
    let property = Property::from(context.clone()).writable().configurable();
    ctx.globals().prop("context", property)
}

/// What stands in its place while a top level is only tried out.
pub fn no_context<'js>(ctx: &Ctx<'js>, doors: &Object<'js>) -> Result<()> {
    let make: Function<'js> = doors.get("$makeContext")?;
    let context: Object<'js> = make.call((vec![""; 4], Object::new(ctx.clone())?))?;
    show_context(ctx, &context)
}

/// One invocation, as the wire brought it.
pub struct Call<'a> {
    /// Of the context that it runs in.
    pub doors: &'a Doors,
    /// The request.
    pub request: &'a Request,
    /// Its id.
    pub id: &'a str,
}

impl Call<'_> {
    /// The second argument of both kinds.
    pub fn context<'js>(&self, ctx: &Ctx<'js>) -> Result<Object<'js>> {
        let fill = self.doors.fill_context.clone().restore(ctx)?;
        let context = self.doors.context.clone().restore(ctx)?;
        let trigger = self.request.header("x-bungee-trigger").unwrap_or("http");
        let arn = self.request.header("x-bungee-arn");
        let client = self.request.header("x-bungee-client-context");
        fill.call((context, self.id, trigger, arn, client))
    }

    /// Calls the handler with a Request and opens its Response.
    pub fn web<'js>(
        &self,
        ctx: &Ctx<'js>,
        deadline: &Deadline,
        context: Object<'js>,
        handler: Handler<'js>,
    ) -> Result<Answer> {
        let made = self.make_request(ctx)?;
        let returned: Value<'js> = handler.function.call((This(handler.this), made, context))?;
        let value: Value<'js> = settle(ctx, deadline, returned)?;
        let open = self.doors.open_response.clone().restore(ctx)?;
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
            headers: pairs(ctx, opened.get(1)?)?,
            body: bytes_of(opened.get(2)?)?,
        })
    }

    fn make_request<'js>(&self, ctx: &Ctx<'js>) -> Result<Value<'js>> {
        let request = self.request;
        let url = format!(
            "http://{}{}",
            request.header("host").unwrap_or("localhost"),
            request.target
        );
        // Names and values in turn: most handlers never look at them.
        let headers = Array::new(ctx.clone())?;
        let visible = request
            .headers
            .iter()
            .filter(|(name, _)| !name.starts_with("x-bungee-"));
        for (at, (name, value)) in visible.enumerate() {
            headers.set(2 * at, name.as_str())?;
            headers.set(2 * at + 1, value.as_str())?;
        }
        let body = match request.body.as_slice() {
            [] => Value::new_null(ctx.clone()),
            bytes => TypedArray::new_copy(ctx.clone(), bytes)?.into_value(),
        };
        let params = match request.header("x-bungee-params") {
            Some(params) => ctx.json_parse(params)?,
            None => Value::new_null(ctx.clone()),
        };
        let make = self.doors.make_request.clone().restore(ctx)?;
        make.call((request.method.as_str(), url, headers, body, params))
    }

    /// Calls the handler with the event; its result as JSON.
    pub fn event<'js>(
        &self,
        ctx: &Ctx<'js>,
        deadline: &Deadline,
        context: Object<'js>,
        handler: Handler<'js>,
    ) -> Result<Answer> {
        let event: Value<'js> = match self.request.body.as_slice() {
            [] => Value::new_null(ctx.clone()),
            body => ctx.json_parse(body)?,
        };
        let returned: Value<'js> = handler
            .function
            .call((This(handler.this), event, context))?;
        let value: Value<'js> = settle(ctx, deadline, returned)?;
        let json = ctx.json_stringify(value)?;
        let body = json.map_or_else(|| b"null".to_vec(), |json| lossy(&json).into_bytes());
        Ok(Answer {
            status: 200,
            headers: vec![("content-type".into(), "application/json".into())],
            body,
        })
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

/// The headers of a response. Checked once more: the program could have changed what the prelude checks with, and a
/// line break in a header would begin the answer to somebody else's request.
fn pairs<'js>(ctx: &Ctx<'js>, list: Array<'js>) -> Result<Vec<(String, String)>> {
    let mut headers = Vec::with_capacity(list.len());
    for pair in list.iter::<Array<'_>>() {
        let pair = pair?;
        let (name, value): (String, String) = (pair.get(0)?, pair.get(1)?);
        let is_token = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b':');
        if !is_token || value.contains(['\r', '\n', '\0']) {
            return Err(Exception::throw_type(ctx, "Invalid header"));
        }
        if !OF_THE_CONNECTION.contains(&name.to_ascii_lowercase().as_str()) {
            headers.push((name, value));
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
