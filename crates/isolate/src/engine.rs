//! The three things a child can do: compile a bundle, load an image, carry out an invocation.

use std::{cell::RefCell, rc::Rc, time::Duration};

use model::HandlerFault;
use rquickjs::{Ctx, Module, Object, Result};
use serde::Deserialize;

use crate::{
    clock::now_ms,
    context::{Compiler, Deadline, Room, settle},
    fault::fault,
    globals::{self, Host},
    handler::{self, Boot, Call, Doors},
    heap::Heap,
    image::Image,
    modules::{Compiling, Declaring},
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
    memory_mb: u64,
    loaded: Option<Loaded>,
}

/// A version, ready to be invoked.
struct Loaded {
    boot: Boot,
    doors: Doors,
    room: Room,
    host: Rc<Host>,
    deadline: Deadline,
    /// Whether an invocation has run since the heap was put back.
    is_used: bool,
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
    pub fn new(memory_mb: u64) -> Engine {
        Engine {
            memory_mb,
            loaded: None,
        }
    }

    fn room(
        &self,
        deadline: &Deadline,
        compiler: Compiler,
        loader: impl rquickjs::loader::Loader + 'static,
    ) -> std::result::Result<Room, HandlerFault> {
        let memory = usize::try_from(self.memory_mb << 20).unwrap_or(usize::MAX);
        Heap::new(memory)
            .and_then(|heap| Room::new(heap, deadline.clone(), compiler, loader).ok())
            .ok_or_else(|| fault("OutOfMemory", "out of memory"))
    }

    /// Compiles the modules, then runs their top level once as an invocation would, and finds the handler: the image.
    pub fn compile(&self, body: &[u8]) -> std::result::Result<Vec<u8>, HandlerFault> {
        let compile: Compile =
            serde_json::from_slice(body).map_err(|error| fault("Error", error.to_string()))?;
        let Compile {
            entry,
            handler,
            modules,
        } = compile;
        let deadline = Deadline::after(COMPILE_TIME);
        let image = self.compile_modules(&entry, modules, &deadline)?;
        let bytes = image.to_bytes();
        let modules = Declaring(Rc::new(RefCell::new(image)));
        let room = self.room(&deadline, Compiler::Absent, modules.clone())?;
        room.run(|ctx, deadline| {
            let doors = globals::install(ctx, &mut modules.0.borrow_mut(), &Rc::default())?;
            modules.declare_all(ctx)?;
            handler::no_context(ctx, &doors)?;
            let module = import(ctx, deadline, &entry)?;
            handler::find(ctx, &module, handler.as_deref()).map(drop)
        })?;
        Ok(bytes)
    }

    fn compile_modules(
        &self,
        entry: &str,
        modules: Vec<Source>,
        deadline: &Deadline,
    ) -> std::result::Result<Image, HandlerFault> {
        let compiling = Compiling::default();
        let sources = modules
            .into_iter()
            .map(|module| (module.name, module.source));
        compiling.sources.replace(sources.collect());
        let loader = compiling.clone();
        let room = self.room(deadline, Compiler::Present, loader)?;
        room.run(|ctx, _| {
            globals::compile(ctx, &mut compiling.image.borrow_mut())?;
            compiling.compile(ctx, entry)?;
            // What is imported only while it runs.
            while let Some(name) = compiling.next() {
                compiling.compile(ctx, &name)?;
            }
            Ok(())
        })?;
        Ok(compiling.image.take())
    }

    /// Keeps an image for the invocations that follow.
    pub fn load(&mut self, boot: &str, image: &[u8]) -> std::result::Result<(), HandlerFault> {
        let boot: Boot =
            serde_json::from_str(boot).map_err(|error| fault("Error", error.to_string()))?;
        let image = Image::from_bytes(image).ok_or_else(|| {
            fault(
                "ImageMismatch",
                "the compiled image was made by another build of the server",
            )
        })?;
        let host = Rc::<Host>::default();
        let deadline = Deadline::after(COMPILE_TIME);
        let modules = Declaring(Rc::new(RefCell::new(image)));
        let room = self.room(&deadline, Compiler::Absent, modules.clone())?;
        let memory_mb = self.memory_mb;
        let doors = room.run(|ctx, _| {
            let doors = globals::install(ctx, &mut modules.0.borrow_mut(), &host)?;
            modules.declare_all(ctx)?;
            Doors::open(ctx, &boot, memory_mb, &doors)
        })?;
        // No byte of a user's has run yet: this is the fresh context that each invocation finds.
        room.heap().keep();
        self.loaded = Some(Loaded {
            boot,
            doors,
            room,
            host,
            deadline,
            is_used: false,
        });
        Ok(())
    }

    /// Carries out one invocation in a fresh context.
    pub fn invoke(&mut self, request: &Request) -> std::result::Result<Answer, HandlerFault> {
        self.refresh();
        let Some(loaded) = &mut self.loaded else {
            return Err(fault("Error", "this child has loaded nothing"));
        };
        too_large("the request body", request.body.len())?;
        let now = now_ms();
        let ends_at = request
            .header("x-bungee-deadline")
            .and_then(|at| at.parse().ok())
            .unwrap_or(now + DEFAULT_TIME);
        let left = Duration::from_millis(u64::try_from(ends_at - now).unwrap_or(0));
        loaded.is_used = true;
        loaded.deadline.set(left);
        loaded.host.ends_at.set(ends_at);
        let id = request.header("x-invocation-id").unwrap_or_default();
        id.clone_into(&mut loaded.host.id.borrow_mut());
        let Loaded { boot, doors, .. } = &*loaded;
        let call = Call { doors, request, id };
        let answer = loaded.room.run(|ctx, deadline| {
            // Before any of the user's code, which could make it into something else.
            let context = call.context(ctx)?;
            handler::show_context(ctx, &context)?;
            let module = import(ctx, deadline, &boot.entry)?;
            let handler = handler::find(ctx, &module, boot.handler.as_deref())?;
            match boot.kind {
                model::Kind::Web => call.web(ctx, deadline, context, handler),
                model::Kind::Event => call.event(ctx, deadline, context, handler),
            }
        })?;
        too_large("the answer", answer.body.len())?;
        Ok(answer)
    }

    /// Forgets the last invocation. Called after its answer has left, so that nobody waits for it.
    pub fn refresh(&mut self) {
        let Some(loaded) = self.loaded.as_mut().filter(|loaded| loaded.is_used) else {
            return;
        };
        loaded.is_used = false;
        // SAFETY: the engine runs inside `invoke` only; the values that are held, the doors, were made before `keep`.
        #[expect(unsafe_code, reason = "the one place that knows what is held")]
        unsafe {
            loaded.room.heap().restore();
        }
    }

    /// Bytes that are copied for each invocation.
    pub fn kept(&self) -> usize {
        self.loaded
            .as_ref()
            .map_or(0, |loaded| loaded.room.heap().kept())
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

/// Imports the entry and waits until it is evaluated.
fn import<'js>(ctx: &Ctx<'js>, deadline: &Deadline, entry: &str) -> Result<Object<'js>> {
    let promise = Module::import(ctx, entry)?;
    settle(ctx, deadline, promise.into_value())
}
