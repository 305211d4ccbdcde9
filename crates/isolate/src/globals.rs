//! The globals of a context: each loads its part of the prelude when it is first touched.

use std::rc::Rc;

use rquickjs::{
    Array, Coerced, Ctx, Exception, Function, IntoJs, Module, Object, Result, TypedArray, Value,
    WriteOptions,
    function::Opt,
    object::{Accessor, Property},
};
use url::Url;

use crate::{console, modules::load_bytecode};

/// Parts of the prelude and the globals that each brings; those that start with `$` are for the host and other parts.
const PARTS: [(&str, &str, &[&str]); 6] = [
    (
        "web",
        include_str!("prelude/web.js"),
        &["Headers", "Request", "Response"],
    ),
    (
        "url",
        include_str!("prelude/url.js"),
        &["URL", "URLSearchParams"],
    ),
    (
        "encoding",
        include_str!("prelude/encoding.js"),
        &["TextEncoder", "TextDecoder", "atob", "btoa", "crypto"],
    ),
    (
        "clone",
        include_str!("prelude/clone.js"),
        &["structuredClone"],
    ),
    ("console", include_str!("prelude/console.js"), &["console"]),
    ("inspect", include_str!("prelude/inspect.js"), &["$format"]),
];

/// The prelude, compiled once per process.
pub struct Prelude(Vec<Vec<u8>>);

impl Prelude {
    /// Compiles every part, in a context that may.
    pub fn compile(ctx: &Ctx<'_>) -> Result<Prelude> {
        let options = || WriteOptions {
            strip_source: true,
            strip_debug: true,
            ..WriteOptions::default()
        };
        let compile = |(name, source, _): &(&str, &str, _)| {
            Module::declare(ctx.clone(), format!("bungee:{name}"), *source)?.write(options())
        };
        PARTS
            .iter()
            .map(compile)
            .collect::<Result<_>>()
            .map(Prelude)
    }
}

/// What the globals of one context need of the host.
#[derive(Clone)]
pub struct Host {
    /// The compiled prelude.
    pub prelude: Rc<Prelude>,
    /// Whose log lines these are.
    pub invocation: Option<Rc<str>>,
}

/// Gives the context its globals.
pub fn install<'js>(ctx: &Ctx<'js>, host: &Host) -> Result<()> {
    let globals = ctx.globals();
    for (part, (_, _, names)) in PARTS.iter().enumerate() {
        for name in names.iter().filter(|name| !name.starts_with('$')) {
            let host = host.clone();
            let get =
                move |ctx: Ctx<'js>| -> Result<Value<'js>> { load(&ctx, &host, part)?.get(*name) };
            let set = move |ctx: Ctx<'js>, value: Value<'js>| define(&ctx, name, value);
            globals.prop(*name, Accessor::new(get, set).configurable())?;
        }
    }
    Ok(())
}

/// Makes `name` an ordinary global.
fn define<'js>(ctx: &Ctx<'js>, name: &str, value: Value<'js>) -> Result<()> {
    ctx.globals()
        .prop(name, Property::from(value).writable().configurable())
}

/// Loads a part, and makes what it brings ordinary globals.
fn load<'js>(ctx: &Ctx<'js>, host: &Host, part: usize) -> Result<Object<'js>> {
    let (module, _) = load_bytecode(ctx, &host.prelude.0[part])?.eval()?;
    let install: Function<'js> = module.get("install")?;
    let lazy_host = host.clone();
    let lazy = Function::new(ctx.clone(), move |ctx: Ctx<'js>, name: String| {
        lazy(&ctx, &lazy_host, &name)
    })?;
    let brought: Object<'js> = install.call((natives(ctx, host, part)?, lazy))?;
    for name in PARTS[part].2.iter().filter(|name| !name.starts_with('$')) {
        define(ctx, name, brought.get(*name)?)?;
    }
    Ok(brought)
}

/// A global, or a hidden part of the prelude, for another part.
fn lazy<'js>(ctx: &Ctx<'js>, host: &Host, name: &str) -> Result<Value<'js>> {
    if !name.starts_with('$') {
        return ctx.globals().get(name);
    }
    let part = PARTS.iter().position(|(_, _, names)| names.contains(&name));
    let part = part.ok_or_else(|| Exception::throw_message(ctx, "the prelude has no such part"))?;
    load(ctx, host, part)?.get(name)
}

/// The two doors for web handlers: makes a Request, opens a Response.
pub fn web_doors<'js>(ctx: &Ctx<'js>, host: &Host) -> Result<(Function<'js>, Function<'js>)> {
    let web = load(ctx, host, 0)?;
    Ok((web.get("$makeRequest")?, web.get("$openResponse")?))
}

/// What the parts of the prelude call in the host.
fn natives<'js>(ctx: &Ctx<'js>, host: &Host, part: usize) -> Result<Object<'js>> {
    let natives = Object::new(ctx.clone())?;
    if PARTS[part].0 == "console" {
        let invocation = host.invocation.clone();
        let log = move |level: String, text: Coerced<rquickjs::String<'js>>| -> Result<()> {
            console::line(invocation.as_deref(), &level, &lossy(&text.0));
            Ok(())
        };
        natives.set("log", Function::new(ctx.clone(), log)?)?;
        return Ok(natives);
    }
    natives.set("utf8Encode", Function::new(ctx.clone(), encode)?)?;
    natives.set("utf8Decode", Function::new(ctx.clone(), decode)?)?;
    natives.set("randomBytes", Function::new(ctx.clone(), random)?)?;
    natives.set("urlParse", Function::new(ctx.clone(), url_parse)?)?;
    natives.set("urlSet", Function::new(ctx.clone(), url_set)?)?;
    Ok(natives)
}

/// A string as text; lone surrogates become U+FFFD.
pub fn lossy(text: &rquickjs::String<'_>) -> String {
    text.to_string().unwrap_or_else(|_| {
        let well_formed: Option<String> = text
            .as_value()
            .as_object()
            .and_then(|object| object.get::<_, Function<'_>>("toWellFormed").ok())
            .and_then(|function| {
                function
                    .call((rquickjs::function::This(text.clone()),))
                    .ok()
            });
        well_formed.unwrap_or_default()
    })
}

/// The bytes of a typed array; none if it is detached.
pub fn copy(bytes: &TypedArray<'_, u8>) -> Vec<u8> {
    // SAFETY: nothing runs in the engine before the bytes are copied.
    #[expect(unsafe_code, reason = "the engine owns the bytes")]
    let slice = unsafe { bytes.as_bytes() };
    slice.map(<[u8]>::to_vec).unwrap_or_default()
}

fn encode<'js>(ctx: Ctx<'js>, text: rquickjs::String<'js>) -> Result<TypedArray<'js, u8>> {
    TypedArray::new(ctx, lossy(&text).into_bytes())
}

fn decode<'js>(
    ctx: Ctx<'js>,
    bytes: TypedArray<'js, u8>,
    is_fatal: bool,
    keep_mark: bool,
) -> Result<String> {
    let all = copy(&bytes);
    let bytes = if keep_mark {
        &all[..]
    } else {
        all.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&all)
    };
    if is_fatal {
        return std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|_| Exception::throw_type(&ctx, "The encoded data was not valid UTF-8"));
    }
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

fn random<'js>(ctx: Ctx<'js>, count: usize) -> Result<TypedArray<'js, u8>> {
    let mut bytes = vec![0; count.min(1 << 16)];
    rand::RngCore::fill_bytes(&mut rand::rng(), &mut bytes);
    TypedArray::new(ctx, bytes)
}

/// The parts of a URL, in the order that prelude/url.js reads.
fn parts_of<'js>(ctx: &Ctx<'js>, url: &Url) -> Result<Value<'js>> {
    use url::quirks;
    let parts = [
        quirks::href(url),
        quirks::protocol(url),
        quirks::username(url),
        quirks::password(url),
        quirks::host(url),
        quirks::hostname(url),
        quirks::port(url),
        quirks::pathname(url),
        quirks::search(url),
        quirks::hash(url),
    ];
    let array = Array::new(ctx.clone())?;
    for (at, part) in parts.iter().enumerate() {
        array.set(at, *part)?;
    }
    array.set(parts.len(), quirks::origin(url))?;
    array.into_js(ctx)
}

fn url_parse<'js>(ctx: Ctx<'js>, text: String, base: Opt<Option<String>>) -> Result<Value<'js>> {
    let base = match base.0.flatten().map(|base| Url::parse(&base)) {
        Some(Err(_)) => return Ok(Value::new_null(ctx)),
        Some(Ok(base)) => Some(base),
        None => None,
    };
    match Url::options().base_url(base.as_ref()).parse(&text) {
        Ok(url) => parts_of(&ctx, &url),
        Err(_) => Ok(Value::new_null(ctx)),
    }
}

fn url_set<'js>(
    ctx: Ctx<'js>,
    href: String,
    property: String,
    value: String,
) -> Result<Value<'js>> {
    use url::quirks;
    let Ok(mut url) = Url::parse(&href) else {
        return Ok(Value::new_null(ctx));
    };
    let done = match property.as_str() {
        "href" => quirks::set_href(&mut url, &value).is_ok(),
        "protocol" => quirks::set_protocol(&mut url, &value).is_ok(),
        "username" => quirks::set_username(&mut url, &value).is_ok(),
        "password" => quirks::set_password(&mut url, &value).is_ok(),
        "host" => quirks::set_host(&mut url, &value).is_ok(),
        "hostname" => quirks::set_hostname(&mut url, &value).is_ok(),
        "port" => quirks::set_port(&mut url, &value).is_ok(),
        "pathname" => {
            quirks::set_pathname(&mut url, &value);
            true
        }
        "search" => {
            quirks::set_search(&mut url, &value);
            true
        }
        "hash" => {
            quirks::set_hash(&mut url, &value);
            true
        }
        _ => false,
    };
    if done {
        parts_of(&ctx, &url)
    } else {
        Ok(Value::new_null(ctx))
    }
}
