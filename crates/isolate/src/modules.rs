//! How modules find one another: relative paths inside the bundle, and nothing else.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use rquickjs::{
    Ctx, Error, Exception, Module, Result, WriteOptions,
    loader::{ImportAttributes, Loader, Resolver},
    module::Declared,
};

use crate::image::Image;

/// Resolves `./x.js` against the module that imports it.
pub struct Relative;

impl Resolver for Relative {
    fn resolve<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        base: &str,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<String> {
        if base.is_empty() {
            return Ok(name.into());
        }
        let missing = || Exception::throw_message(ctx, &format!("Module not found: '{name}'"));
        if !name.starts_with("./") && !name.starts_with("../") {
            return Err(missing());
        }
        let mut parts: Vec<&str> = base.split('/').collect();
        parts.pop();
        for part in name.split('/') {
            match part {
                "." | "" => {}
                ".." => drop(parts.pop().ok_or_else(missing)?),
                part => parts.push(part),
            }
        }
        Ok(parts.join("/"))
    }
}

fn missing<'js>(ctx: &Ctx<'js>, name: &str) -> Error {
    Exception::throw_message(ctx, &format!("Module not found: '{name}'"))
}

/// Compiles modules and keeps their bytecode.
#[derive(Clone, Default)]
pub struct Compiling {
    /// Source by name, of those not compiled yet.
    pub sources: Rc<RefCell<BTreeMap<String, String>>>,
    /// What was compiled.
    pub image: Rc<RefCell<Image>>,
}

impl Compiling {
    /// The name of a module that is not compiled yet.
    pub fn next(&self) -> Option<String> {
        self.sources.borrow().keys().next().cloned()
    }

    /// Compiles a module and all that it imports.
    pub fn compile<'js>(&self, ctx: &Ctx<'js>, name: &str) -> Result<Module<'js, Declared>> {
        let source = self.sources.borrow_mut().remove(name);
        let source = source.ok_or_else(|| missing(ctx, name))?;
        let module = Module::declare(ctx.clone(), name, source)?;
        let code = module.write(WriteOptions {
            strip_source: true,
            ..WriteOptions::default()
        })?;
        self.image.borrow_mut().modules.insert(name.into(), code);
        Ok(module)
    }
}

impl Loader for Compiling {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<Module<'js, Declared>> {
        self.compile(ctx, name)
    }
}

/// Declares modules from bytecode, each once.
#[derive(Clone, Default)]
pub struct Declaring(pub Rc<RefCell<Image>>);

impl Declaring {
    /// Makes all modules known, without running them.
    pub fn declare_all(&self, ctx: &Ctx<'_>) -> Result<()> {
        loop {
            let next = self.0.borrow_mut().modules.pop_first();
            match next {
                Some((_, code)) => load_bytecode(ctx, &code)?,
                None => return Ok(()),
            };
        }
    }
}

impl Loader for Declaring {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<Module<'js, Declared>> {
        let code = self.0.borrow_mut().modules.remove(name);
        load_bytecode(ctx, &code.ok_or_else(|| missing(ctx, name))?)
    }
}

/// A module from bytecode of our own.
pub fn load_bytecode<'js>(ctx: &Ctx<'js>, code: &[u8]) -> Result<Module<'js, Declared>> {
    // SAFETY: the bytecode comes from this build's own compiler, in this process or a sibling child; the tag of an
    // image is checked, images lie outside bundles, and no user can send one.
    #[expect(unsafe_code, reason = "the engine cannot check bytecode")]
    unsafe {
        Module::load(ctx.clone(), code)
    }
}
