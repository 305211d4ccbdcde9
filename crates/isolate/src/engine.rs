//! The three things a child can do: compile a bundle, load an image, carry out an invocation.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use model::HandlerFault;
use rquickjs::{Ctx, Module, Object, Result};
use serde::Deserialize;

use crate::{
    clock::now_ms,
    context::{Compiler, Deadline, Fresh, settle},
    fault::fault,
    globals::{self, Host, Prelude},
    handler::{self, Boot, Call},
    image::Image,
    modules::{Compiled, Compiling},
    wire::{Answer, Request},
};

/// Longest that a bundle's top level may run when it is compiled. The server's own limit `init` is not shorter.
const COMPILE_TIME: Duration = Duration::from_secs(10);

/// Largest event, result, and body of a web request or response.
const BODY_MAX: usize = 6 << 20;

/// Time for an invocation that names no deadline; the server always does.
const DEFAULT_TIME: i64 = 30_000;

/// A child: blank, or with what it loaded.
pub struct Engine {
    prelude: Rc<Prelude>,
    memory_mb: u64,
    loaded: Option<(Boot, Rc<Image>)>,
}

/// What *compile* asks for.
#[derive(Deserialize)]
struct Compile {
    entry: String,
    handler: Option<String>,
    modules: Vec<Source>,
}

#[derive(Deserialize)]
struct Source {
    name: String,
    source: String,
}

impl Engine {
    /// A blank child whose invocations may use `memory_mb` mebibytes.
    pub fn new(memory_mb: u64) -> std::result::Result<Engine, HandlerFault> {
        let fresh = fresh(
            usize::MAX,
            Deadline::after(COMPILE_TIME),
            Compiler::Present,
            Compiled(Rc::default()),
        )?;
        let prelude = fresh.run(|ctx, _| Prelude::compile(ctx))?;
        Ok(Engine {
            prelude: Rc::new(prelude),
            memory_mb,
            loaded: None,
        })
    }

    fn memory(&self) -> usize {
        usize::try_from(self.memory_mb << 20).unwrap_or(usize::MAX)
    }

    /// Compiles the modules, runs their top level once, and finds the handler: the image.
    pub fn compile(&self, body: &[u8]) -> std::result::Result<Vec<u8>, HandlerFault> {
        let compile: Compile =
            serde_json::from_slice(body).map_err(|error| fault("Error", error.to_string()))?;
        let image = Rc::new(RefCell::new(Image::default()));
        let sources: BTreeMap<String, String> = compile
            .modules
            .into_iter()
            .map(|module| (module.name, module.source))
            .collect();
        let loader = Compiling {
            sources,
            image: image.clone(),
        };
        let fresh = fresh(
            self.memory(),
            Deadline::after(COMPILE_TIME),
            Compiler::Present,
            loader,
        )?;
        let host = Host {
            prelude: self.prelude.clone(),
            invocation: None,
        };
        fresh.run(|ctx, deadline| {
            globals::install(ctx, &host)?;
            let module = import(ctx, deadline, &compile.entry)?;
            handler::find(ctx, &module, compile.handler.as_deref()).map(drop)
        })?;
        drop(fresh);
        let bytes = image.borrow().to_bytes();
        Ok(bytes)
    }

    /// Keeps an image for the invocations that follow.
    pub fn load(&mut self, boot: &str, image: &[u8]) -> std::result::Result<(), HandlerFault> {
        let boot = serde_json::from_str(boot).map_err(|error| fault("Error", error.to_string()))?;
        let image = Image::from_bytes(image).ok_or_else(|| {
            fault(
                "ImageMismatch",
                "the compiled image was made by another build of the server",
            )
        })?;
        self.loaded = Some((boot, Rc::new(image)));
        Ok(())
    }

    /// Carries out one invocation in a fresh context.
    pub fn invoke(&self, request: &Request) -> std::result::Result<Answer, HandlerFault> {
        let Some((boot, image)) = &self.loaded else {
            return Err(fault("Error", "this child has loaded nothing"));
        };
        too_large("the request body", request.body.len())?;
        let now = now_ms();
        let ends_at = request
            .header("x-bungee-deadline")
            .and_then(|at| at.parse().ok())
            .unwrap_or(now + DEFAULT_TIME);
        let left = Duration::from_millis(u64::try_from(ends_at - now).unwrap_or(0));
        let id: Rc<str> = request.header("x-invocation-id").unwrap_or_default().into();
        let host = Host {
            prelude: self.prelude.clone(),
            invocation: Some(id.clone()),
        };
        let fresh = fresh(
            self.memory(),
            Deadline::after(left),
            Compiler::Absent,
            Compiled(image.clone()),
        )?;
        let call = Call {
            boot,
            memory_mb: self.memory_mb,
            request,
            id,
            ends_at,
        };
        let answer = fresh.run(|ctx, deadline| {
            globals::install(ctx, &host)?;
            let module = import(ctx, deadline, &boot.entry)?;
            let handler = handler::find(ctx, &module, boot.handler.as_deref())?;
            match boot.kind {
                model::Kind::Web => call.web(ctx, deadline, &host, handler),
                model::Kind::Event => call.event(ctx, deadline, handler),
            }
        })?;
        too_large("the answer", answer.body.len())?;
        Ok(answer)
    }
}

fn too_large(what: &str, size: usize) -> std::result::Result<(), HandlerFault> {
    if size <= BODY_MAX {
        return Ok(());
    }
    Err(fault(
        "PayloadTooLarge",
        format!("{what} has {size} bytes, the limit of the isolate runtime is {BODY_MAX} (6MB)"),
    ))
}

fn fresh(
    memory: usize,
    deadline: Deadline,
    compiler: Compiler,
    loader: impl rquickjs::loader::Loader + 'static,
) -> std::result::Result<Fresh, HandlerFault> {
    Fresh::new(memory, deadline, compiler, loader)
        .map_err(|error| fault("OutOfMemory", error.to_string()))
}

/// Imports the entry and waits until it is evaluated.
fn import<'js>(ctx: &Ctx<'js>, deadline: &Deadline, entry: &str) -> Result<Object<'js>> {
    let promise = Module::import(ctx, entry)?;
    settle(ctx, deadline, promise.into_value())
}
