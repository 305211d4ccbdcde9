//! A fresh runtime and context, with limits, and the loop that runs its jobs until a promise settles.

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
    promise::PromiseState,
};

use crate::{fault, modules::Relative};

/// Stack of the engine; a recursion that goes deeper throws a `RangeError`.
const STACK: usize = 512 << 10;

/// Stops whatever runs once its time is up.
#[derive(Clone)]
pub struct Deadline {
    at: Instant,
    has_fired: Rc<Cell<bool>>,
}

impl Deadline {
    /// A deadline this far from now.
    pub fn after(left: Duration) -> Deadline {
        Deadline {
            at: Instant::now() + left,
            has_fired: Rc::default(),
        }
    }

    fn check(&self) -> bool {
        if Instant::now() >= self.at {
            self.has_fired.set(true);
        }
        self.has_fired.get()
    }
}

/// A runtime with one context, used once.
pub struct Fresh {
    runtime: Runtime,
    context: Context,
    deadline: Deadline,
}

/// Whether code may be compiled from text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Compiler {
    /// Only where a bundle is compiled.
    Present,
    /// So that neither `eval` nor `Function` works.
    Absent,
}

impl Fresh {
    /// A runtime limited to `memory` bytes and `deadline`, its modules loaded by `loader`.
    pub fn new(
        memory: usize,
        deadline: Deadline,
        compiler: Compiler,
        loader: impl Loader + 'static,
    ) -> Result<Fresh> {
        let runtime = Runtime::new()?;
        runtime.set_memory_limit(memory);
        runtime.set_max_stack_size(STACK);
        runtime.set_loader(Relative, loader);
        let watch = deadline.clone();
        runtime.set_interrupt_handler(Some(Box::new(move || watch.check())));
        let context = match compiler {
            Compiler::Absent => Context::custom::<(
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
            )>(&runtime)?,
            Compiler::Present => Context::custom::<(
                Date,
                Eval,
                RegExpCompiler,
                RegExp,
                Json,
                Proxy,
                MapSet,
                TypedArrays,
                Promises,
                WeakRef,
                DOMException,
            )>(&runtime)?,
        };
        Ok(Fresh {
            runtime,
            context,
            deadline,
        })
    }

    /// Runs `work` in the context; what it throws becomes a fault.
    pub fn run<R>(
        &self,
        work: impl for<'js> FnOnce(&Ctx<'js>, &Deadline) -> Result<R>,
    ) -> std::result::Result<R, HandlerFault> {
        self.context.with(|ctx| {
            let done = work(&ctx, &self.deadline);
            done.map_err(|error| {
                // Describing an error takes memory and time that its cause may have used up.
                self.runtime.set_memory_limit(usize::MAX);
                self.runtime.set_interrupt_handler(None);
                self.explain(&ctx, error)
            })
        })
    }

    fn explain(&self, ctx: &Ctx<'_>, error: Error) -> HandlerFault {
        if self.deadline.has_fired.get() {
            return fault::fault("FunctionTimeout", "interrupted at the deadline");
        }
        match error {
            Error::Exception => fault::caught(ctx),
            Error::Allocation => fault::fault("OutOfMemory", "out of memory"),
            other => fault::fault("Error", other.to_string()),
        }
    }
}

/// Runs jobs until the value, if it is a promise, has settled.
pub fn settle<'js, T: FromJs<'js>>(
    ctx: &Ctx<'js>,
    deadline: &Deadline,
    value: Value<'js>,
) -> Result<T> {
    let Some(promise) = value.clone().into_promise() else {
        return follow_thenable(ctx, deadline, value);
    };
    run_jobs(ctx, deadline, &promise)?;
    match promise.result::<T>() {
        Some(result) => result,
        None => Err(rquickjs::Exception::throw_message(
            ctx,
            "the handler's promise never settles: nothing is left that could settle it, for this runtime has neither timers nor network",
        )),
    }
}

/// An object with a `then` is awaited as `await` would.
fn follow_thenable<'js, T: FromJs<'js>>(
    ctx: &Ctx<'js>,
    deadline: &Deadline,
    value: Value<'js>,
) -> Result<T> {
    let is_thenable = value.as_object().is_some_and(|object| {
        object
            .get::<_, Value<'js>>("then")
            .is_ok_and(|then| then.is_function())
    });
    if !is_thenable {
        return T::from_js(ctx, value);
    }
    let (promise, resolve, _) = Promise::new(ctx)?;
    resolve.call::<_, ()>((value,))?;
    run_jobs(ctx, deadline, &promise)?;
    promise.finish()
}

fn run_jobs<'js>(ctx: &Ctx<'js>, deadline: &Deadline, promise: &Promise<'js>) -> Result<()> {
    while promise.state() == PromiseState::Pending {
        if deadline.check() {
            return Err(Error::Exception);
        }
        if !ctx.execute_pending_job() {
            return Ok(());
        }
    }
    Ok(())
}
