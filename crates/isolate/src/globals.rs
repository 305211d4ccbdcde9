//! The globals of a context: the prelude, and what it calls in the host.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use rquickjs::{
    Array, Coerced, Ctx, Exception, Function, IntoJs, Module, Object, Result, TypedArray, Value,
    WriteOptions, function::Opt, object::Property,
};
use url::Url;

use crate::{clock::now_ms, console, image::Image, modules::load_bytecode};

/// Parts of the prelude by their names in an image, which no relative import can lead to, and the globals that each
/// brings; those that start with `$` are for the host and other parts.
const PARTS: [(&str, &str, &[&str]); 7] = [
    (
        "/prelude/inspect.js",
        include_str!("prelude/inspect.js"),
        &["$format"],
    ),
    (
        "/prelude/web.js",
        include_str!("prelude/web.js"),
        &[
            "Headers",
            "Request",
            "Response",
            "$makeRequest",
            "$openResponse",
        ],
    ),
    (
        "/prelude/url.js",
        include_str!("prelude/url.js"),
        &["URL", "URLSearchParams"],
    ),
    (
        "/prelude/encoding.js",
        include_str!("prelude/encoding.js"),
        &["TextEncoder", "TextDecoder", "atob", "btoa", "crypto"],
    ),
    (
        "/prelude/clone.js",
        include_str!("prelude/clone.js"),
        &["structuredClone"],
    ),
    (
        "/prelude/console.js",
        include_str!("prelude/console.js"),
        &["console"],
    ),
    (
        "/prelude/call.js",
        include_str!("prelude/call.js"),
        &["$makeContext", "$fillContext"],
    ),
];

/// Differs when the prelude does (FNV-1a), so that no image outlives the host that its prelude was written for.
pub const FINGERPRINT: u64 = fingerprint();

const fn fingerprint() -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut part = 0;
    while part < PARTS.len() {
        let source = PARTS[part].1.as_bytes();
        let mut at = 0;
        while at < source.len() {
            hash = (hash ^ source[at] as u64).wrapping_mul(0x0100_0000_01b3);
            at += 1;
        }
        part += 1;
    }
    hash
}

/// Compiles the prelude into an image, in a context that may.
pub fn compile(ctx: &Ctx<'_>, image: &mut Image) -> Result<()> {
    for (name, source, _) in PARTS {
        let code = Module::declare(ctx.clone(), name, source)?.write(WriteOptions {
            strip_source: true,
            strip_debug: true,
            ..WriteOptions::default()
        })?;
        image.modules.insert(name.into(), code);
    }
    Ok(())
}

/// What the globals ask the host about the invocation that runs.
#[derive(Default)]
pub struct Host {
    /// Whose log lines these are; empty for none.
    pub id: RefCell<String>,
    /// When it must have ended, in Unix milliseconds.
    pub ends_at: Cell<i64>,
}

/// Gives the context its globals; what the parts made for the host comes back, by name.
///
/// Takes the parts of the prelude out of the image.
pub fn install<'js>(ctx: &Ctx<'js>, image: &mut Image, host: &Rc<Host>) -> Result<Object<'js>> {
    let globals = ctx.globals();
    let doors = Object::new(ctx.clone())?;
    let natives = natives(ctx, host)?;
    for (part, _, names) in PARTS {
        let code = image
            .modules
            .remove(part)
            .ok_or_else(|| Exception::throw_message(ctx, "the image has no prelude"))?;
        let (module, _) = load_bytecode(ctx, &code)?.eval()?;
        let install: Function<'js> = module.get("install")?;
        let brought: Object<'js> = install.call((natives.clone(), doors.clone()))?;
        for name in names {
            let value: Value<'js> = brought.get(*name)?;
            if name.starts_with('$') {
                doors.set(*name, value)?;
            } else {
                globals.prop(*name, Property::from(value).writable().configurable())?;
            }
        }
    }
    Ok(doors)
}

/// What the parts of the prelude call in the host.
fn natives<'js>(ctx: &Ctx<'js>, host: &Rc<Host>) -> Result<Object<'js>> {
    let natives = Object::new(ctx.clone())?;
    let teller = host.clone();
    let log = move |method: String, text: Coerced<rquickjs::String<'js>>| {
        let id = teller.id.borrow();
        let id = Some(id.as_str()).filter(|id| !id.is_empty());
        console::line(id, &method, &lossy(&text.0));
    };
    let timed = host.clone();
    let remaining = move || (timed.ends_at.get() - now_ms()).max(0) as f64;
    natives.set("log", Function::new(ctx.clone(), log)?)?;
    natives.set("remaining", Function::new(ctx.clone(), remaining)?)?;
    let chance = || rand::random::<f64>();
    let chance = Function::new(ctx.clone(), chance)?.with_name("random")?;
    natives.set("random", chance)?;
    natives.set("utf8Encode", Function::new(ctx.clone(), encode)?)?;
    natives.set("utf8Decode", Function::new(ctx.clone(), decode)?)?;
    natives.set("randomBytes", Function::new(ctx.clone(), random)?)?;
    natives.set("urlParse", Function::new(ctx.clone(), url_parse)?)?;
    natives.set("urlSet", Function::new(ctx.clone(), url_set)?)?;
    Ok(natives)
}

/// A string as text; lone surrogates become U+FFFD.
pub fn lossy(text: &rquickjs::String<'_>) -> String {
    if let Ok(text) = text.to_string() {
        return text;
    }
    let Ok(encoded) = text.clone().to_cstring() else {
        return String::new();
    };
    // SAFETY: the engine gives the address and the length of what it encoded, alive as long as `encoded`.
    #[expect(unsafe_code, reason = "the bytes are no UTF-8 yet, so they are no str")]
    let mut bytes =
        unsafe { std::slice::from_raw_parts(encoded.as_ptr().cast::<u8>(), encoded.len()) }
            .to_vec();
    // The engine writes a lone surrogate as three bytes, of which ED A0 or above is the beginning; U+FFFD has three too.
    for at in 0..bytes.len().saturating_sub(2) {
        if bytes[at] == 0xed && bytes[at + 1] >= 0xa0 {
            bytes[at..at + 3].copy_from_slice("\u{fffd}".as_bytes());
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The bytes of a typed array; none if it is detached.
pub fn copy(bytes: &TypedArray<'_, u8>) -> Vec<u8> {
    // SAFETY: nothing runs in the engine before the bytes are copied.
    #[expect(unsafe_code, reason = "the engine owns the bytes")]
    let slice = unsafe { bytes.as_bytes() };
    slice.map(<[u8]>::to_vec).unwrap_or_default()
}

fn encode<'js>(ctx: Ctx<'js>, text: rquickjs::String<'js>) -> Result<TypedArray<'js, u8>> {
    TypedArray::new_copy(ctx, lossy(&text))
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
    TypedArray::new_copy(ctx, bytes)
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
