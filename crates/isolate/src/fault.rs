//! Why a handler failed, in the shape that the wire gives it.

use model::HandlerFault;
use rquickjs::{Coerced, Ctx, Object, String as JsString, Value};

use crate::globals::lossy;

/// A fault with our own words.
pub fn fault(error_type: &str, message: impl Into<String>) -> HandlerFault {
    HandlerFault {
        error_type: error_type.into(),
        message: message.into(),
        stack: None,
        reported: None,
    }
}

/// Any thrown value as a fault. Never throws: what the value refuses to say is left out.
pub fn describe<'js>(ctx: &Ctx<'js>, thrown: Value<'js>) -> HandlerFault {
    let read = |key: &str| {
        let value = thrown
            .as_object()?
            .get::<_, Option<Coerced<JsString<'js>>>>(key);
        clear(ctx);
        value.ok().flatten().map(|text| lossy(&text.0))
    };
    let (error_type, message) = (read("name"), read("message"));
    // A DOMException is no Error to the engine, but has all that one has.
    if !thrown.is_error() && (error_type.is_none() || message.is_none() || read("stack").is_none())
    {
        return fault("Error", text_of(ctx, &thrown));
    }
    let error_type = error_type.unwrap_or_else(|| "Error".into());
    let message = message.unwrap_or_default();
    let frames = read("stack").unwrap_or_default();
    if error_type == "InternalError" && message.starts_with("out of memory") {
        return fault("OutOfMemory", "out of memory");
    }
    let head = if message.is_empty() {
        error_type.clone()
    } else {
        format!("{error_type}: {message}")
    };
    let stack = Some(format!("{head}\n{}", frames.trim_end()));
    HandlerFault {
        error_type,
        message,
        stack,
        reported: None,
    }
}

/// A value that is no Error, as text.
fn text_of<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> String {
    if let Some(text) = value.as_string() {
        return lossy(text);
    }
    let json = ctx
        .json_stringify(value.clone())
        .ok()
        .flatten()
        .map(|json| lossy(&json));
    let text = json.or_else(|| {
        let string: rquickjs::Function<'js> = ctx.globals().get("String").ok()?;
        let text: JsString<'js> = string.call((value.clone(),)).ok()?;
        Some(lossy(&text))
    });
    clear(ctx);
    text.unwrap_or_else(|| "a value that cannot be shown".into())
}

/// Forgets what reading a hostile value threw.
fn clear(ctx: &Ctx<'_>) {
    if ctx.has_exception() {
        ctx.catch();
    }
}

/// What class a value is of, for messages: `undefined`, `an object of Foo`.
pub fn name_of(value: &Value<'_>) -> String {
    match value.as_object() {
        None if value.is_null() => "null".into(),
        None => match value.type_name() {
            "bool" => "a boolean".into(),
            "int" | "float" => "a number".into(),
            "string" => "a string".into(),
            other => other.into(),
        },
        Some(object) => {
            let class = object
                .get::<_, Object<'_>>("constructor")
                .and_then(|class| class.get::<_, String>("name"));
            format!(
                "an object of {}",
                class.unwrap_or_else(|_| "no class".into())
            )
        }
    }
}
