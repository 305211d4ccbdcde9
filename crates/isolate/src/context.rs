//! An engine with one context and its limits, and the loop that runs its jobs until a promise settles.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use model::HandlerFault;
use rquickjs::{
    Context, Ctx, Error, FromJs, Promise, Result, Runtime, Value,
    context::intrinsic::{
        DOMException, Date, Eval, Json, MapSet, Promise as Promises, Proxy, RegExp, RegExpCompiler,
        TypedArrays, WeakRef,
    },
    loader::Loader,
};

use crate::{fault, heap::Heap, modules::Relative};

/// Stack of the engine; a recursion that goes deeper throws a `RangeError`.
const STACK: usize = 512 << 10;

/// Bytes after which garbage in cycles is first looked for. Most invocations end, and are forgotten whole, before.
const GARBAGE: usize = 8 << 20;

/// What describing an error may take beyond the limits that the error may have come from.
const LAST_WORDS: Duration = Duration::from_millis(20);
const LAST_BYTES: usize = 4 << 20;

/// Stops whatever runs once its time is up.
#[derive(Clone)]
pub struct Deadline {
    at: Rc<Cell<Instant>>,
    has_fired: Rc<Cell<bool>>,
}

impl Deadline {
    /// A deadline this far from now.
    pub fn after(left: Duration) -> Deadline {
        let deadline = Deadline {
            at: Rc::new(Cell::new(Instant::now())),
            has_fired: Rc::default(),
        };
        deadline.set(left);
        deadline
    }

    /// Begins anew.
    pub fn set(&self, left: Duration) {
        self.at.set(Instant::now() + left);
        self.has_fired.set(false);
    }

    fn check(&self) -> bool {
        if Instant::now() >= self.at.get() {
            self.has_fired.set(true);
        }
        self.has_fired.get()
    }
}

/// An engine with one context.
pub struct Room {
    context: Context,
    heap: Heap,
    deadline: Deadline,
}

/// Whether code may be compiled from text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Compiler {
    /// Only where a bundle is compiled, and nothing of it runs.
    Present,
    /// So that neither `eval` nor `Function` works.
    Absent,
}

impl Room {
    /// An engine in `heap`, limited to that and to `deadline`, its modules loaded by `loader`.
    pub fn new(
        heap: Heap,
        deadline: Deadline,
        compiler: Compiler,
        loader: impl Loader + 'static,
    ) -> Result<Room> {
        let runtime = Runtime::new_with_alloc(heap.clone())?;
        runtime.set_max_stack_size(STACK);
        runtime.set_gc_threshold(GARBAGE);
        runtime.set_loader(Relative, loader);
        let watch = deadline.clone();
        runtime.set_interrupt_handler(Some(Box::new(move || watch.check())));
        type Language = (
            Date,
            RegExpCompiler,
            RegExp,
            Json,
            Proxy,
            MapSet,
            TypedArrays,
            Promises,
            WeakRef,
            DOMException,
        );
        let context = match compiler {
            Compiler::Absent => Context::custom::<Language>(&runtime)?,
            Compiler::Present => Context::custom::<(Eval, Language)>(&runtime)?,
        };
        Ok(Room {
            context,
            heap,
            deadline,
        })
    }

    /// Runs `work` in the context; what it throws becomes a fault.
    pub fn run<R>(
        &self,
        work: impl for<'js> FnOnce(&Ctx<'js>, &Deadline) -> Result<R>,
    ) -> std::result::Result<R, HandlerFault> {
        let done = self.context.with(|ctx| work(&ctx, &self.deadline));
        done.map_err(|error| self.explain(error))
    }

    /// The heap that the engine lives in.
    pub fn heap(&self) -> &Heap {
        &self.heap
    }

    fn explain(&self, error: Error) -> HandlerFault {
        if self.deadline.has_fired.get() {
            return fault::fault("FunctionTimeout", "interrupted at the deadline");
        }
        match error {
            Error::Exception => {
                // Describing an error takes memory and time, which its cause may have used up.
                self.heap.allow(LAST_BYTES);
                self.deadline.set(LAST_WORDS);
                self.context.with(|ctx| {
                    let thrown = ctx.catch();
                    // All that the engine throws when there is no memory for an error.
                    if thrown.is_null() && self.heap.has_refused() {
                        return fault::fault("OutOfMemory", "out of memory");
                    }
                    fault::describe(&ctx, thrown)
                })
            }
            Error::Allocation => fault::fault("OutOfMemory", "out of memory"),
            other => fault::fault("Error", other.to_string()),
        }
    }
}

/// What the value, if it is a promise, settles to. All jobs run first, as they would before a host gets its turn:
/// what a handler left running may still have something to say.
pub fn settle<'js, T: FromJs<'js>>(
    ctx: &Ctx<'js>,
    deadline: &Deadline,
    value: Value<'js>,
) -> Result<T> {
    let promise = if let Some(promise) = value.clone().into_promise() {
        Some(promise)
    } else if is_thenable(&value)? {
        let (promise, resolve, _) = Promise::new(ctx)?;
        resolve.call::<_, ()>((value.clone(),))?;
        Some(promise)
    } else {
        None
    };
    while ctx.execute_pending_job() {
        // A job that was interrupted says so to nobody.
        if deadline.check() {
            return Err(Error::Exception);
        }
    }
    let Some(promise) = promise else {
        return T::from_js(ctx, value);
    };
    promise.result::<T>().unwrap_or_else(|| {
        Err(rquickjs::Exception::throw_message(
            ctx,
            "the handler's promise never settles: nothing is left that could settle it, for this runtime has neither timers nor network",
        ))
    })
}

/// An object with a `then` is awaited as `await` would.
fn is_thenable(value: &Value<'_>) -> Result<bool> {
    match value.as_object() {
        Some(object) => Ok(object.get::<_, Value<'_>>("then")?.is_function()),
        None => Ok(false),
    }
}
