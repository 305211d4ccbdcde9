// @bun
// The line above tells Bun that this is plain JavaScript: without it each start would transpile it and write a cache.
// The bootstrap of a Bun worker: loads the function, serves it on a Unix socket, and says what it logs on descriptor 3.
// The wire is described in docs/protocol.md. What runs for each request is kept as small as it can be.

const CONTROL = 3;
const control = Bun.file(CONTROL);
const write = Bun.write;
/** As they were before user code could replace them. */
const { parse, stringify } = JSON;
/** What the server says of the worker and its function; a spare worker is told the second part later. */
const boot = parse(process.env.BUNGEE_BOOT);
delete process.env.BUNGEE_BOOT;

/** Holds the Request of the running invocation; its id is read only when something is logged. */
let current;
function prepareContext() {
  current ??= new (import.meta.require("node:async_hooks").AsyncLocalStorage)();
}

/** Handlers that run right now, those whose caller has left included. */
let running = 0;

/** What `Bun.write` certainly writes before it returns; beyond 256 KiB it hands over to another thread. */
const WRITTEN_AT_ONCE = 32768;

/** Writes one control line, all of it, before going on: the process may die next. */
function tell(line) {
  const text = stringify(line) + "\n";
  if (text.length <= WRITTEN_AT_ONCE) {
    write(control, text);
    return;
  }
  // Loading `node:fs` takes a third as long as starting Bun, so only long lines pay for it.
  const { writeSync } = import.meta.require("node:fs");
  let bytes = Buffer.from(text);
  while (bytes.length > 0) {
    bytes = bytes.subarray(writeSync(CONTROL, bytes));
  }
}

/** A stack without the frames of this file: they say nothing about the function. */
function stackOf(thrown) {
  const lines = String(thrown.stack ?? "").split("\n");
  return lines.filter((line) => !/[/\\]run[/\\](bun\.js|awslambda\.cjs):\d/.test(line)).join("\n");
}

/** What is kept of a message or a stack: the server reads 1 MiB of a fault at most. */
const cut = (text) => (text.length > 65536 ? `${text.slice(0, 65536)}…` : text);

/** Any thrown value in the shape of a fault. */
function describe(thrown) {
  if (thrown instanceof Error || (thrown && typeof thrown === "object" && typeof thrown.stack === "string")) {
    const errorType = String(thrown.name || thrown.constructor?.name || "Error");
    return { errorType, message: cut(String(thrown.message ?? "")), stack: cut(stackOf(thrown)) };
  }
  return { errorType: "Error", message: cut(typeof thrown === "string" ? thrown : inspect(thrown)) };
}

let util;
function inspect(...values) {
  util ??= import.meta.require("node:util");
  return util.format(...values);
}

function log(level, text, info) {
  const request = current?.getStore();
  tell(request ? { t: "log", id: request.headers.get("x-invocation-id"), level, text, info } : { t: "log", level, text, info });
}

for (const [method, level] of [
  ["log", "info"],
  ["info", "info"],
  ["warn", "warn"],
  ["error", "error"],
  ["debug", "debug"],
]) {
  // Lines of `log` are of the same level, and need no word of their own.
  const info = method === "info" || undefined;
  console[method] = (...values) => log(level, inspect(...values), info);
}
console.trace = (...values) => log("trace", inspect(...values) + "\n" + new Error().stack.split("\n").slice(2).join("\n"));

/** Says what a standard stream is given as log lines. */
function redirected(stream, level) {
  stream.write = (chunk, encoding, callback) => {
    const text = typeof chunk === "string" ? chunk : Buffer.from(chunk).toString();
    log(level, text.endsWith("\n") ? text.slice(0, -1) : text);
    const done = typeof encoding === "function" ? encoding : callback;
    if (done) queueMicrotask(done);
    return true;
  };
  return stream;
}

// Bun's standard streams take as long to make as half of a cold start, so they are made when somebody touches them.
// Who imports `node:process` first gets them as they are: their bytes arrive as raw output.
const host = process;
const levels = { stdout: "info", stderr: "warn" };
const streams = {};
// Bun hooks signals and uncaught errors to the object itself, so what concerns listeners is called on it.
const emitter = new Set(["on", "once", "off", "emit", "addListener", "prependListener", "removeListener", "removeAllListeners"]);
globalThis.process = new Proxy(host, {
  get: (target, key) => {
    if (key in levels) return (streams[key] ??= redirected(target[key], levels[key]));
    return emitter.has(key) ? target[key].bind(target) : target[key];
  },
  set: (target, key, value) => {
    target[key] = value;
    return true;
  },
});
/** An error that nobody caught ends the worker, as it would end any process; the server learns which one it was. */
function fatal(thrown) {
  tell({ t: "fatal", error: describe(thrown) });
  process.exit(1);
}
process.on("uncaughtException", fatal);
process.on("unhandledRejection", fatal);

function fault(thrown) {
  return new Response(stringify(describe(thrown)), { status: 500, headers: { "x-bungee-fault": boot.nonce } });
}

/** What the module does with its WebSockets: `websocket` beside the `fetch` of its default object. */
let events;

/** The handler of the module: the export that was asked for, else the default export, else `handler`. */
function findHandler(module) {
  const inner = module.default;
  let found = boot.handler
    ? (module[boot.handler] ?? inner?.[boot.handler])
    : (module.default ?? module.handler);
  if (found && typeof found === "object") {
    events = found.websocket;
    found = typeof found.fetch === "function" ? found.fetch.bind(found) : (found.handler ?? found.default);
  }
  if (typeof found === "function") return found;
  const names = Object.keys(module).join(", ") || "nothing";
  const wanted = boot.handler ? `no function \`${boot.handler}\`` : "no handler";
  throw Object.assign(new Error(`the module exports ${wanted}; it exports: ${names}`), { name: "HandlerNotFound", stack: "" });
}

/** Requests that became WebSockets: their handler answers nothing more. */
const upgraded = new WeakSet();

/** The second argument of a web handler: what of Bun's own server has a meaning behind ours. */
let server;
const serverBehind = (bun) => ({
  upgrade(request, options) {
    if (!events) throw new TypeError("nothing to upgrade to: the default export has `fetch`, and no `websocket` beside it");
    const invocation = { headers: new Headers({ "x-invocation-id": request.headers.get("x-invocation-id") }) };
    const isUpgraded = bun.upgrade(request, { headers: options?.headers, data: { own: options?.data, invocation } });
    if (isUpgraded) upgraded.add(request);
    return isUpgraded;
  },
  publish: (...values) => bun.publish(...values),
  subscriberCount: (topic) => bun.subscriberCount(topic),
  requestIP: () => null,
  timeout() {},
});

/** The events of WebSockets, each within the invocation that its socket came from; one that throws ends its socket. */
function socketEvents() {
  const invocations = new WeakMap();
  const calling = (name) => (ws, ...values) => {
    const failed = (thrown) => {
      current.run(invocations.get(ws), () => console.error(thrown));
      ws.close(1011, "the handler failed");
    };
    try {
      const returned = current.run(invocations.get(ws), () => events[name](ws, ...values));
      if (typeof returned?.then === "function") returned.then(undefined, failed);
    } catch (thrown) {
      failed(thrown);
    }
  };
  const wrapped = { message() {}, ...events };
  for (const name of ["open", "message", "close", "drain", "ping", "pong"]) {
    if (events[name]) wrapped[name] = calling(name);
  }
  const { open, close } = wrapped;
  wrapped.open = (ws) => {
    running++;
    invocations.set(ws, ws.data.invocation);
    ws.data = ws.data.own;
    open?.(ws);
  };
  wrapped.close = (ws, ...values) => {
    running--;
    close?.(ws, ...values);
  };
  return wrapped;
}

function notAResponse(value, request) {
  if (value === undefined && upgraded.has(request)) return undefined;
  const what = value === null ? "null" : typeof value === "object" ? `an object of ${value.constructor?.name ?? "no class"}` : typeof value;
  return fault(Object.assign(new TypeError(`the handler returned ${what}, not a Response`), { stack: "" }));
}

async function settle(promise, request) {
  try {
    const response = await promise;
    return response instanceof Response ? response : notAResponse(response, request);
  } catch (thrown) {
    return fault(thrown);
  } finally {
    running--;
  }
}

function serveWeb(handler) {
  return (request) => {
    if (boot.has_params) {
      const params = request.headers.get("x-bungee-params");
      if (params) request.params = parse(params);
    }
    running++;
    let response;
    try {
      response = current.run(request, handler, request, server);
    } catch (thrown) {
      running--;
      return fault(thrown);
    }
    if (response instanceof Response) {
      running--;
      return response;
    }
    if (typeof response?.then === "function") return settle(response, request);
    running--;
    return notAResponse(response, request);
  };
}

/** The Lambda context of JavaScript, and our own names beside it. */
function contextOf(headers) {
  const deadline = Number(headers.get("x-bungee-deadline"));
  const id = headers.get("x-invocation-id");
  const client = headers.get("x-bungee-client-context");
  return {
    functionName: boot.function,
    functionVersion: boot.version,
    memoryLimitInMB: String(boot.memory_mb),
    awsRequestId: id,
    logGroupName: `/aws/lambda/${boot.function}`,
    logStreamName: boot.log_stream,
    invokedFunctionArn: headers.get("x-bungee-arn") ?? `arn:aws:lambda:us-east-1:000000000000:function:${boot.function}`,
    ...(client && { clientContext: parse(client) }),
    callbackWaitsForEmptyEventLoop: true,
    getRemainingTimeInMillis: () => Math.max(0, deadline - Date.now()),
    projectId: boot.project,
    invocationId: id,
    timestamp: new Date().toISOString(),
    trigger: headers.get("x-bungee-trigger") ?? "http",
  };
}

/**
 * Whether a handler that takes no callback answers by its context, as the oldest ones for Lambda do: it returns nothing then,
 * and its text calls `succeed`, `fail` or `done` on its last parameter.
 */
function answersByContext(handler) {
  const text = Function.prototype.toString.call(handler);
  const context = handler.length === 2 && /([\w$]+)\s*\)\s*(?:=>|\{)/.exec(text)?.[1];
  return Boolean(context) && new RegExp(`(?<![\\w$.])${context.replaceAll("$", "\\$")}\\s*\\.\\s*(?:succeed|fail|done)\\b`).test(text);
}

/** Calls a handler as Lambda does: it returns what it answers, or says it to its callback or its context, whichever comes first. */
function callEvent(handler, isLater, event, context) {
  return new Promise((resolve, reject) => {
    const failed = (error) => reject(error ?? Object.assign(new Error("the handler called `context.fail` without an error"), { stack: "" }));
    const done = (error, result) => (error ? reject(error) : resolve(result));
    Object.assign(context, { succeed: resolve, fail: failed, done });
    const returned = handler.length < 3 ? handler(event, context) : handler(event, context, done);
    if (typeof returned?.then === "function") returned.then(resolve, reject);
    else if (handler.length < 3 && !(isLater && returned === undefined)) resolve(returned);
  });
}

/** Lambda's streaming is loaded when somebody touches it. */
const streaming = () => import.meta.require("./awslambda.cjs");
Object.defineProperty(globalThis, "awslambda", { get: () => streaming().awslambda, configurable: true, enumerable: true });
const STREAMING = Symbol.for("aws.lambda.runtime.handler.streaming");

/** A sink for what a streaming handler writes, which answers with a Response as soon as there is a head. */
function sinkFor(answer) {
  let controller;
  let taken = () => {};
  let left = () => {};
  let isOver = false;
  return {
    head(kind, status, pairs) {
      const body = new ReadableStream({
        start: (given) => void (controller = given),
        pull: () => taken(),
        cancel: () => void (isOver || left()),
      });
      answer(new Response(body, { status, headers: [["x-bungee-answer", kind], ...pairs] }));
    },
    write(bytes, done) {
      // A copy: the handler may write to the same memory again.
      controller.enqueue(new Uint8Array(bytes));
      if (controller.desiredSize > 0) return void done();
      taken = () => {
        taken = () => {};
        done();
      };
    },
    end() {
      isOver = true;
      controller.close();
    },
    fail(thrown) {
      isOver = true;
      controller.error(thrown);
    },
    isOpen: () => controller !== undefined,
    onLeave: (told) => (left = told),
  };
}

function serveStreaming(handler) {
  return (request) =>
    new Promise((answer) => {
      running++;
      const sink = sinkFor(answer);
      const context = contextOf(request.headers);
      const call = async () => streaming().call(handler, await request.json(), context, sink);
      current
        .run(request, call)
        .catch((thrown) => {
          if (!sink.isOpen()) return answer(fault(thrown));
          // The server hears of it before the connection breaks.
          tell({ t: "broken", id: request.headers.get("x-invocation-id"), error: describe(thrown) });
          sink.fail(thrown);
        })
        .finally(() => running--);
    });
}

function serveEvent(handler) {
  if (handler[STREAMING]) return serveStreaming(handler);
  const isLater = answersByContext(handler);
  return async (request) => {
    running++;
    try {
      const event = await request.json();
      const result = await current.run(request, callEvent, handler, isLater, event, contextOf(request.headers));
      return new Response(stringify(result) ?? "null", { headers: { "content-type": "application/json" } });
    } catch (thrown) {
      return fault(thrown);
    } finally {
      running--;
    }
  };
}

/** What Lambda's own runtime says of itself, and what is asked for with each event. */
function seemLambda() {
  process.env.AWS_EXECUTION_ENV = `AWS_Lambda_nodejs${parseInt(process.versions.node, 10)}.x`;
  boot.log_stream = process.env.AWS_LAMBDA_LOG_STREAM_NAME;
}

/** Loads the function, serves it, and says so. */
async function begin() {
  if (boot.concurrency > 1) {
    // Raw output cannot be told apart when several invocations write at once.
    process.stdout;
    process.stderr;
  }
  if (boot.kind === "event") seemLambda();
  let serve;
  try {
    const handler = findHandler(await import(boot.entry));
    serve = boot.kind === "web" ? serveWeb(handler) : serveEvent(handler);
  } catch (thrown) {
    const first = thrown?.errors?.[0] ?? thrown;
    tell({ t: "init-error", error: describe(first) });
    process.exit(1);
  }
  const bun = Bun.serve({
    unix: boot.socket,
    // The server enforces its own limits on time and size, and says so; Bun must not cut in before it.
    idleTimeout: 0,
    maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    development: false,
    routes: { [`/${boot.nonce}/ping`]: () => new Response(String(running)) },
    fetch: serve,
    error: fault,
    ...(events && { websocket: socketEvents() }),
  });
  server = serverBehind(bun);
  tell({ t: "ready" });
  // Loaded while the server connects: it takes as long as a sixth of starting Bun.
  prepareContext();
}

/** Makes a spare worker what a fresh one would be: its folder, and an environment that what it starts inherits. */
function becomeFunction({ cwd, env, ...load }) {
  Object.assign(boot, load);
  Object.assign(process.env, env);
  process.chdir(cwd);
  // Bun gives these the environment that it was started with, unless it is told otherwise.
  const withEnv = (spawn) => (first, second) =>
    Array.isArray(first) ? spawn(first, { env: process.env, ...second }) : spawn({ env: process.env, ...first });
  Bun.spawn = withEnv(Bun.spawn);
  Bun.spawnSync = withEnv(Bun.spawnSync);
  globalThis.Worker = class Worker extends globalThis.Worker {
    constructor(url, options) {
      super(url, { env: process.env, ...options });
    }
  };
}

// The lifeline: a spare worker is told on it what to load, as one line; its end means that the server is gone.
const lifeline = Bun.stdin.stream().getReader();
async function assigned() {
  const decoder = new TextDecoder();
  let text = "";
  while (!text.endsWith("\n")) {
    const { value, done } = await lifeline.read();
    if (done) process.exit(0);
    text += decoder.decode(value, { stream: true });
  }
  return parse(text);
}

/** Loads and serves something once, so that the first time is over when it counts: a fifth of what the first call waits for. */
async function warmUp() {
  prepareContext();
  await import("./blank.js");
  Bun.serve({ unix: boot.socket + ".warm", fetch: () => new Response(), error: fault }).stop(true);
}

if (boot.entry === undefined) {
  await warmUp();
  becomeFunction(await assigned());
}
await begin();
const leave = () => process.exit(0);
lifeline.read().then(leave, leave);
