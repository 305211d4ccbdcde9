//! From nothing to a worker that is ready: the process, its first word, and for an isolate compile and load.

use std::{
    fs,
    io::{self, Read},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use http::{Request, Response, header::HOST};
use model::{ByteSize, ErrorType, Failure, HandlerFault, Runtime};
use serde::Serialize;

use crate::{
    blank,
    body::Body,
    exchange::Conn,
    house::House,
    inspect::{Debuggers, is_debuggable, with_inspector},
    opt,
    pool::Shared,
    process::{self, Door, FirstWord, Plan, Role, Started},
    runtime::{self, Load},
    spare, trace,
    version::Version,
    worker::{Cause, Worker, ended_how, heap_full, silent},
};

/// Memory of a child that compiles.
const COMPILE_MEMORY: ByteSize = ByteSize::mebibytes(256);

/// Starts a worker for a pool, to take place `index` of its table.
pub async fn start(shared: &Arc<Shared>, index: u32) -> Result<Arc<Worker>, Failure> {
    let (house, version) = (&shared.house, &shared.version);
    let worker = match version.settings.runtime {
        Runtime::Isolate => start_isolate(house, version).await?,
        Runtime::Bun | Runtime::Node => start_process(house, version).await?,
        Runtime::Python | Runtime::Provided => start_client(house, version).await?,
    };
    worker.index.set(index).ok();
    Ok(worker)
}

async fn start_process(house: &Arc<House>, version: &Arc<Version>) -> Result<Arc<Worker>, Failure> {
    let entry = version.dir.join(&version.entry).display().to_string();
    let role = Role::of(version);
    if let Some(debuggers) = &house.options.debuggers
        && is_debuggable(role.runtime)
    {
        return start_inspected(house, version, &entry, debuggers).await;
    }
    let command = || runtime::command(&house.options, version);
    let spare = match version.opt {
        None => spare::take(house, version, &command()?, Load::of(version, &entry), role),
        // A spare has been started already, and sees the `/opt` of everybody.
        Some(_) => None,
    };
    house.spare_starts.count(spare.is_some());
    let Started { worker, first_word } = match spare {
        Some(started) => started,
        None => {
            let plan = Plan {
                command: command()?,
                role,
                load: Some(Load::of(version, &entry)),
                door: Door::Listens,
            };
            let started = process::start(house, plan).await;
            started.map_err(|error| not_started(version, &error))?
        }
    };
    worker.version.set(version.clone()).ok();
    let ready = wait_ready(house, &worker, first_word).await;
    if version.opt.is_none() {
        spare::refill(house, &command()?, role);
    }
    ready.map_err(|failure| remapped(failure, version))?;
    Ok(worker)
}

/// Starts a worker that calls the Runtime API; it is ready when it asks for its first invocation.
async fn start_client(house: &Arc<House>, version: &Arc<Version>) -> Result<Arc<Worker>, Failure> {
    let entry = version.program().display().to_string();
    if version.settings.runtime == Runtime::Provided && !is_program(&version.program_here()) {
        return Err(no_program(&version.entry));
    }
    let plan = Plan {
        command: runtime::command(&house.options, version)?,
        role: Role::of(version),
        load: Some(Load::of(version, &entry)),
        door: Door::Calls,
    };
    let started = process::start(house, plan).await;
    let Started { worker, first_word } = started.map_err(|error| not_started(version, &error))?;
    worker.version.set(version.clone()).ok();
    let ready = wait_ready(house, &worker, first_word).await;
    ready.map_err(|failure| remapped(failure, version))?;
    Ok(worker)
}

/// Whether the system would start this file by itself; a shell would try any text.
fn is_program(file: &Path) -> bool {
    let (Some(found), Some(ours)) = (beginning(file), beginning(Path::new("/proc/self/exe")))
    else {
        // What cannot be read fails when it is started, and says why.
        return true;
    };
    // An ELF file names its machine in the bytes 18 and 19 (elf(5)).
    found.starts_with(b"#!") || (found.starts_with(b"\x7fELF") && found[18..] == ours[18..])
}

fn beginning(file: &Path) -> Option<[u8; 20]> {
    let mut bytes = [0; 20];
    let mut file = fs::File::open(file).ok()?;
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read(&mut bytes[filled..]).ok()? {
            0 => break,
            count => filled += count,
        }
    }
    Some(bytes)
}

fn no_program(entry: &str) -> Failure {
    let message = format!(
        "`{entry}` is no program for this machine ({}): neither an executable of it, nor a script that begins with `#!`",
        std::env::consts::ARCH
    );
    Failure::new(ErrorType::InitError, message)
        .hint("build it for this architecture, then deploy it again")
}

/// A process that the system does not start: its layers cannot be shown, or the user's own program is none.
fn not_started(version: &Version, error: &io::Error) -> Failure {
    if version.opt.is_some()
        && let Some(failure) = opt::refused(error)
    {
        return failure;
    }
    let entry = &version.entry;
    let (message, hint) = match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        _ if version.settings.runtime != Runtime::Provided => return cannot_start(error),
        Some(rustix::io::Errno::ACCESS) => (
            format!("`{entry}` is not executable"),
            format!("run `chmod +x {entry}`, then deploy it again"),
        ),
        Some(rustix::io::Errno::NOENT) => (
            format!("`{entry}` cannot be started: it, or the interpreter that it names, is not there"),
            "look at the first line of a script; link a program statically, or against what is installed here".to_owned(),
        ),
        Some(rustix::io::Errno::NOEXEC) => (
            format!("`{entry}` cannot be started: exec format error"),
            "it begins like a program of this machine, and may have been cut short: build it and deploy it again".to_owned(),
        ),
        _ => return cannot_start(error),
    };
    Failure::new(ErrorType::InitError, message).hint(hint)
}

/// Starts a worker that debuggers can attach to.
async fn start_inspected(
    house: &Arc<House>,
    version: &Arc<Version>,
    entry: &str,
    debuggers: &Debuggers,
) -> Result<Arc<Worker>, Failure> {
    let plain = runtime::command(&house.options, version)?;
    let (command, inspector) = with_inspector(house, version.settings.runtime, &plain);
    let plan = Plan {
        command,
        role: Role::of(version),
        load: Some(Load::of(version, entry)),
        door: Door::Listens,
    };
    let started = process::start(house, plan).await;
    let Started { worker, first_word } = started.map_err(|error| cannot_start(&error))?;
    worker.version.set(version.clone()).ok();
    if let Some(inspector) = inspector {
        worker.inspector.set(inspector).ok();
    }
    debuggers.follow(&version.function, &worker);
    wait_ready(house, &worker, first_word)
        .await
        .map_err(|failure| remapped(failure, version))?;
    debuggers.is_ready(&version.function, &worker);
    Ok(worker)
}

/// Boots spare workers for a version that is about to be served.
pub fn prepare_spares(house: &Arc<House>, version: &Version) {
    let is_inspected = house.options.debuggers.is_some();
    let has_spares = matches!(version.settings.runtime, Runtime::Bun | Runtime::Node);
    if !has_spares || is_inspected || version.opt.is_some() {
        return;
    }
    if let Ok(command) = runtime::command(&house.options, version) {
        spare::refill(house, &command, Role::of(version));
    }
}

async fn start_isolate(house: &Arc<House>, version: &Arc<Version>) -> Result<Arc<Worker>, Failure> {
    let image = match fs::read(&version.image) {
        Ok(image) => image,
        Err(_) => compile(house, version).await?,
    };
    match load(house, version, image.clone()).await {
        // The image of another build of the server: compile again, once.
        Err(failure)
            if failure
                .fault
                .as_ref()
                .is_some_and(|fault| fault.error_type == "ImageMismatch") =>
        {
            load(house, version, compile(house, version).await?).await
        }
        // No word from the child: it was dead before it was asked, and nobody had noticed yet.
        Err(failure) if failure.error_type == ErrorType::InitError && failure.fault.is_none() => {
            load(house, version, image).await
        }
        loaded => loaded,
    }
}

async fn load(
    house: &Arc<House>,
    version: &Arc<Version>,
    image: Vec<u8>,
) -> Result<Arc<Worker>, Failure> {
    let worker = blank::take(house, version.settings.memory).await?;
    let boot = Load {
        env: Some(&version.settings.env),
        ..Load::of(version, &version.entry)
    };
    let boot =
        serde_json::to_string(&boot).map_err(|error| internal("describe a version", &error))?;
    worker.version.set(version.clone()).ok();
    let request =
        Request::put(format!("/{}/load", worker.nonce)).header("x-bungee-boot", header_text(&boot));
    let loaded = ask_isolate(house, &worker, request, image.into()).await;
    if let Err(failure) = loaded {
        worker.kill(Cause::Init);
        return Err(remapped(failure, version));
    }
    Ok(worker)
}

/// JSON that fits into a header: everything beyond ASCII as escapes.
fn header_text(json: &str) -> String {
    let escape = |c: char| -> String {
        if c.is_ascii() && !c.is_ascii_control() {
            return c.into();
        }
        c.encode_utf16(&mut [0; 2])
            .iter()
            .map(|unit| format!("\\u{unit:04x}"))
            .collect()
    };
    json.chars().map(escape).collect()
}

/// Compiles an isolate's modules and keeps the image; see [`crate::Workers::prepare`].
pub async fn prepare(house: &Arc<House>, version: &Version) -> Result<(), Failure> {
    match version.settings.runtime {
        Runtime::Isolate => compile(house, version).await.map(drop),
        Runtime::Bun | Runtime::Node | Runtime::Python | Runtime::Provided => {
            runtime::command(&house.options, version).map(drop)
        }
    }
}

/// What an isolate child is asked to compile.
#[derive(Serialize)]
struct Compile<'a> {
    entry: &'a str,
    kind: model::Kind,
    handler: Option<&'a str>,
    env: &'a std::collections::BTreeMap<String, String>,
    modules: Vec<Module>,
}

/// One module of a bundle.
#[derive(Serialize)]
struct Module {
    name: String,
    source: String,
}

async fn compile(house: &Arc<House>, version: &Version) -> Result<Vec<u8>, Failure> {
    let mut modules = Vec::new();
    collect_modules(&version.dir, "", &mut modules)
        .map_err(|error| internal("read the bundle", &error))?;
    let compile = Compile {
        entry: &version.entry,
        kind: version.kind,
        handler: version.settings.handler.as_deref(),
        env: &version.settings.env,
        modules,
    };
    let body =
        serde_json::to_vec(&compile).map_err(|error| internal("describe the bundle", &error))?;
    // User code runs once here, at its top level, so the child is used for nothing else.
    let worker = blank::take(house, COMPILE_MEMORY).await?;
    let request = Request::put(format!("/{}/compile", worker.nonce));
    let compiled = ask_isolate(house, &worker, request, body.into()).await;
    worker.kill(Cause::Init);
    let image = compiled.map_err(|failure| remapped(failure, version))?;
    if let Err(error) = keep_image(&version.image, &image) {
        tracing::warn!(function = %version.function, %error, "cannot keep the compiled image; it will be compiled again");
    }
    Ok(image.into())
}

/// The `.js` modules below `dir`, named by their path inside the bundle.
fn collect_modules(dir: &Path, prefix: &str, modules: &mut Vec<Module>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            collect_modules(&entry.path(), &format!("{name}/"), modules)?;
        } else if name.ends_with(".js") {
            modules.push(Module {
                source: fs::read_to_string(entry.path())?,
                name,
            });
        }
    }
    Ok(())
}

/// Written beside, then renamed: nobody reads half an image.
fn keep_image(path: &Path, image: &[u8]) -> io::Result<()> {
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    fs::write(&beside, image)?;
    fs::rename(beside, path)
}

/// One request of our own to an isolate child, within the limit `init`.
async fn ask_isolate(
    house: &House,
    worker: &Arc<Worker>,
    request: http::request::Builder,
    body: Body,
) -> Result<Bytes, Failure> {
    let request = request
        .header(HOST, "worker")
        .body(body)
        .map_err(|error| internal("ask an isolate", &error))?;
    let mut conn = match worker.slots[0].conn.lock() {
        Ok(mut place) => place.take(),
        Err(_) => None,
    };
    let limit = house.options.limits.init;
    let asked = tokio::time::timeout(limit.duration(), ask(conn.as_mut(), request)).await;
    let Ok(asked) = asked else {
        return Err(silent(limit));
    };
    let Some(answer) = asked else {
        return Err(died_at_init(worker).await);
    };
    let is_fault = answer.headers().contains_key("x-bungee-fault");
    if let Ok(mut place) = worker.slots[0].conn.lock() {
        *place = conn;
    }
    if is_fault {
        let fault: HandlerFault = serde_json::from_slice(answer.body())
            .map_err(|error| internal("read a fault", &error))?;
        return Err(init_error(fault));
    }
    Ok(answer.into_body())
}

async fn ask(conn: Option<&mut Box<Conn>>, request: Request<Body>) -> Option<Response<Bytes>> {
    conn?.ask(request).await.ok()
}

/// Whether the isolate engine answers: a module of ours is compiled in a child.
pub async fn probe(house: &Arc<House>) -> Result<(), Failure> {
    let worker = blank::take(house, COMPILE_MEMORY).await?;
    let source = "export default () => new Response()".to_owned();
    let compile = Compile {
        entry: "probe.js",
        kind: model::Kind::Web,
        handler: None,
        env: &std::collections::BTreeMap::new(),
        modules: vec![Module {
            name: "probe.js".into(),
            source,
        }],
    };
    let body =
        serde_json::to_vec(&compile).map_err(|error| internal("describe the probe", &error))?;
    let request = Request::put(format!("/{}/compile", worker.nonce));
    let answered = ask_isolate(house, &worker, request, body.into()).await;
    worker.kill(Cause::Idle);
    answered.map(drop)
}

/// Waits for the first word of a worker, within the limit `init`; one that is not ready is killed.
pub async fn wait_ready(
    house: &House,
    worker: &Arc<Worker>,
    mut first_word: FirstWord,
) -> Result<(), Failure> {
    let limit = house.options.limits.init;
    let mut waited = tokio::time::timeout(limit.duration(), &mut first_word).await;
    while waited.is_err() && worker.is_debugged() {
        waited = tokio::time::timeout(limit.duration(), &mut first_word).await;
    }
    match waited {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(fault))) => {
            worker.kill(Cause::Init);
            Err(init_error(fault))
        }
        Ok(Err(_)) => Err(died_at_init(worker).await),
        Err(_) => {
            worker.kill(Cause::Silent(limit));
            Err(match &worker.api {
                Some(_) => never_asked(limit),
                None => silent(limit),
            })
        }
    }
}

/// A module that failed to load: the first line of the cause.
fn init_error(fault: HandlerFault) -> Failure {
    let first = fault.message.lines().next().unwrap_or_default();
    let message = if first.starts_with("Module not found") {
        first.into()
    } else {
        format!("{}: {first}", fault.error_type)
    };
    Failure::new(ErrorType::InitError, message).fault(fault)
}

/// The stack of a failure pointed at the sources, and its first place named in the message.
fn remapped(mut failure: Failure, version: &Version) -> Failure {
    let Some(fault) = failure.fault.take() else {
        return failure;
    };
    let fault = trace::remap(*fault, &version.dir);
    if failure.error_type == ErrorType::InitError
        && let Some(place) = fault.stack.as_deref().and_then(trace::first_place)
        && !failure.message.contains(&place)
    {
        failure.message = format!("{} ({place})", failure.message);
    }
    failure.fault(fault)
}

/// A process that ended before its first word.
async fn died_at_init(worker: &Arc<Worker>) -> Failure {
    let gone = tokio::time::timeout(
        std::time::Duration::from_millis(500),
        worker.gone.cancelled(),
    )
    .await;
    if gone.is_err() {
        worker.kill(Cause::Init);
        worker.gone.cancelled().await;
    }
    if let Some(Cause::OutOfMemory(used)) = worker.cause.get() {
        let used = used.0.div_ceil(1 << 20);
        return Failure::new(
            ErrorType::OutOfMemory,
            format!(
                "the worker was killed while its module loaded: it used {used}MB of memory, the limit is {}",
                worker.memory
            ),
        );
    }
    if let Some(Cause::HeapFull(heap)) = worker.cause.get() {
        return heap_full(*heap, worker.memory);
    }
    if let Some(fault) = worker.fatal.get() {
        return init_error(fault.clone());
    }
    let how = worker
        .exit
        .get()
        .map_or("ended".into(), |exit| ended_how(*exit));
    if worker.api.is_some() {
        return ended_early(worker, &how);
    }
    Failure::new(
        ErrorType::InitError,
        format!("the worker {how} while its module loaded"),
    )
}

/// A process that runs, and does not ask the Runtime API for anything.
fn never_asked(limit: model::TimeSpan) -> Failure {
    let message =
        format!("the worker did not ask for its first invocation within {limit}, the limit `init`");
    Failure::new(ErrorType::InitError, message)
        .hint("a runtime client asks at http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/next")
}

/// A process that ended before it asked the Runtime API for anything.
fn ended_early(worker: &Worker, how: &str) -> Failure {
    let said = worker.last_words.lock();
    let said = said.map_or_else(|_| String::new(), |said| said.clone());
    let said = match said.as_str() {
        "" => String::new(),
        said => format!(": {said}"),
    };
    let message = format!("the worker {how} before it asked for its first invocation{said}");
    Failure::new(ErrorType::InitError, message)
        .hint("its other lines are in `bungee logs`; a program of your own asks for invocations at http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/next")
}

/// A process that could not be started at all.
pub fn cannot_start(error: &io::Error) -> Failure {
    internal("start a worker", error)
}

fn internal(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(ErrorType::Internal, format!("cannot {what}: {error}"))
}
