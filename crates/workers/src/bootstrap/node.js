// The bootstrap of a Node worker: loads the function, serves it on a Unix socket, and says what it logs on descriptor 3.
// The wire is described in docs/protocol.md. What runs for each request is kept as small as it can be.
// CommonJS, because that starts sooner.

"use strict";

const { AsyncLocalStorage } = require("node:async_hooks");
const { writeSync } = require("node:fs");
const http = require("node:http");
const { Socket } = require("node:net");
const { Readable } = require("node:stream");
const { pathToFileURL } = require("node:url");
const { format } = require("node:util");

/** Oldest Node that has all that is used here. */
const OLDEST = 18;

const CONTROL = 3;
/** As they were before user code could replace them. */
const { parse, stringify } = JSON;
/** What the server says of the worker and its function; a spare worker is told the second part later. */
const boot = parse(process.env.BUNGEE_BOOT);
delete process.env.BUNGEE_BOOT;

/** Holds what node:http received of the running invocation; its id is read only when something is logged. */
const current = new AsyncLocalStorage();

/** Handlers that run right now, those whose caller has left included. */
let running = 0;

/** Writes one control line, all of it, before going on: the process may die next. */
function tell(line) {
  let bytes = Buffer.from(stringify(line) + "\n");
  while (bytes.length > 0) {
    bytes = bytes.subarray(writeSync(CONTROL, bytes));
  }
}

/** A stack as paths, without the frames of the bootstrap and of Node: they say nothing about the function. */
function stackOf(thrown) {
  const lines = String(thrown.stack ?? "").split("\n");
  const isForeign = (line) => /[/\\]run[/\\](node(_\w+)?|awslambda)\.cjs:\d/.test(line) || /^\s+at .*\(?node:/.test(line);
  const path = (_, path) => decodeURI(path);
  return lines.filter((line) => !isForeign(line)).map((line) => line.replace(/file:\/\/(\/[^\s:)]*)/g, path)).join("\n");
}

/** What is kept of a message or a stack: the server reads 1 MiB of a fault at most. */
const cut = (text) => (text.length > 65536 ? `${text.slice(0, 65536)}…` : text);

/** Any thrown value in the shape of a fault. */
function describe(thrown) {
  if (thrown instanceof Error || (thrown && typeof thrown === "object" && typeof thrown.stack === "string")) {
    const errorType = String(thrown.name || thrown.constructor?.name || "Error");
    return { errorType, message: cut(String(thrown.message ?? "")), stack: cut(stackOf(thrown)) };
  }
  return { errorType: "Error", message: typeof thrown === "string" ? thrown : format(thrown) };
}

function log(level, text, info) {
  const incoming = current.getStore();
  tell(incoming ? { t: "log", id: incoming.headers["x-invocation-id"], level, text, info } : { t: "log", level, text, info });
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
  console[method] = (...values) => log(level, format(...values), info);
}
console.trace = (...values) => log("trace", format(...values) + "\n" + stackOf(new Error()).split("\n").slice(1).join("\n"));

/** A standard stream whose text becomes log lines. Made when somebody touches it, for that takes a while. */
function redirect(name, level) {
  const make = Object.getOwnPropertyDescriptor(process, name).get;
  let stream;
  const get = () => {
    if (stream) return stream;
    stream = make.call(process);
    stream.write = (chunk, encoding, callback) => {
      const text = typeof chunk === "string" ? chunk : Buffer.from(chunk).toString();
      log(level, text.endsWith("\n") ? text.slice(0, -1) : text);
      const done = typeof encoding === "function" ? encoding : callback;
      if (done) queueMicrotask(done);
      return true;
    };
    return stream;
  };
  Object.defineProperty(process, name, { get, configurable: true, enumerable: true });
}
redirect("stdout", "info");
redirect("stderr", "warn");
// Descriptor 0 is the lifeline, so there is nothing to read for user code.
Object.defineProperty(process, "stdin", { get: () => Readable.from([]), configurable: true, enumerable: true });

/** An error that nobody caught ends the worker, as it would end any process; the server learns which one it was. */
function fatal(thrown) {
  tell({ t: "fatal", error: describe(thrown) });
  process.exit(1);
}
process.on("uncaughtException", fatal);
process.on("unhandledRejection", fatal);

const web = require("./node_web.cjs");
web.install();

function fault(outgoing, thrown) {
  if (outgoing.headersSent) return void outgoing.destroy();
  const body = stringify(describe(thrown));
  outgoing.writeHead(500, ["x-bungee-fault", boot.nonce, "content-length", String(Buffer.byteLength(body))]);
  outgoing.end(body);
}

/** The handler of the module: the export that was asked for, else the default export, else `handler`. */
function findHandler(module) {
  const inner = module.default;
  let found = boot.handler
    ? (module[boot.handler] ?? inner?.[boot.handler])
    : (module.default ?? module.handler);
  if (found && typeof found === "object") {
    found = typeof found.fetch === "function" ? found.fetch.bind(found) : (found.handler ?? found.default);
  }
  if (found && typeof found === "object" && typeof found.fetch === "function") found = found.fetch.bind(found);
  if (typeof found === "function") return found;
  const names = Object.keys(module).filter((name) => name !== "module.exports").join(", ") || "nothing";
  const wanted = boot.handler ? `no function \`${boot.handler}\`` : "no handler";
  throw Object.assign(new Error(`the module exports ${wanted}; it exports: ${names}`), { name: "HandlerNotFound", stack: "" });
}

/** What a stream that broke in the middle says in the log. */
function broken(thrown) {
  log("error", `the response body failed midway: ${describe(thrown).stack || describe(thrown).message}`);
}

/** Sends what a web handler returned. */
function answer(outgoing, value) {
  if (web.isResponse(value)) return web.send(outgoing, value, broken);
  const what = value === null ? "null" : typeof value === "object" ? `an object of ${value.constructor?.name ?? "no class"}` : typeof value;
  fault(outgoing, Object.assign(new TypeError(`the handler returned ${what}, not a Response`), { stack: "" }));
}

async function settle(outgoing, promise) {
  try {
    answer(outgoing, await promise);
  } catch (thrown) {
    fault(outgoing, thrown);
  } finally {
    running--;
  }
}

function serveWeb(handler) {
  return (incoming, outgoing) => {
    const request = new web.Received(incoming, outgoing);
    if (boot.has_params) {
      const params = incoming.headers["x-bungee-params"];
      if (params) request.params = parse(params);
    }
    running++;
    try {
      const response = handler(request);
      if (!web.isResponse(response) && typeof response?.then === "function") return void settle(outgoing, response);
      answer(outgoing, response);
    } catch (thrown) {
      fault(outgoing, thrown);
    }
    running--;
  };
}

/** The Lambda context of JavaScript, and our own names beside it. */
function contextOf(headers) {
  const deadline = Number(headers["x-bungee-deadline"]);
  const id = headers["x-invocation-id"];
  const client = headers["x-bungee-client-context"];
  return {
    functionName: boot.function,
    functionVersion: boot.version,
    memoryLimitInMB: String(boot.memory_mb),
    awsRequestId: id,
    logGroupName: `/aws/lambda/${boot.function}`,
    logStreamName: boot.log_stream,
    invokedFunctionArn: headers["x-bungee-arn"] ?? `arn:aws:lambda:us-east-1:000000000000:function:${boot.function}`,
    ...(client && { clientContext: parse(client) }),
    callbackWaitsForEmptyEventLoop: true,
    getRemainingTimeInMillis: () => Math.max(0, deadline - Date.now()),
    projectId: boot.project,
    invocationId: id,
    timestamp: new Date().toISOString(),
    trigger: headers["x-bungee-trigger"] ?? "http",
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
const streaming = () => require("./awslambda.cjs");
Object.defineProperty(globalThis, "awslambda", { get: () => streaming().awslambda, configurable: true, enumerable: true });
const STREAMING = Symbol.for("aws.lambda.runtime.handler.streaming");

/** Takes what a streaming handler writes. */
function sinkTo(outgoing) {
  return {
    head(kind, status, pairs) {
      outgoing.sendDate = false;
      outgoing.writeHead(status, ["x-bungee-answer", kind, ...pairs.flat()]);
      outgoing.flushHeaders();
    },
    write(bytes, done) {
      if (outgoing.write(bytes)) done();
      else outgoing.once("drain", done);
    },
    end: () => outgoing.end(),
    onLeave: (left) => outgoing.once("close", () => outgoing.writableFinished || left()),
  };
}

/** What failed after the answer had begun: the server hears of it before the connection breaks. */
function breakOff(outgoing, thrown) {
  if (outgoing.headersSent) tell({ t: "broken", id: outgoing.req.headers["x-invocation-id"], error: describe(thrown) });
  fault(outgoing, thrown);
}

function serveStreaming(handler) {
  return async (incoming, outgoing) => {
    running++;
    try {
      const event = await new web.Received(incoming, outgoing).json();
      await streaming().call(handler, event, contextOf(incoming.headers), sinkTo(outgoing));
    } catch (thrown) {
      breakOff(outgoing, thrown);
    } finally {
      running--;
    }
  };
}

function serveEvent(handler) {
  if (handler[STREAMING]) return serveStreaming(handler);
  const isLater = answersByContext(handler);
  return async (incoming, outgoing) => {
    running++;
    try {
      const event = await new web.Received(incoming, outgoing).json();
      const result = await callEvent(handler, isLater, event, contextOf(incoming.headers));
      const body = stringify(result) ?? "null";
      outgoing.writeHead(200, ["content-type", "application/json", "content-length", String(Buffer.byteLength(body))]);
      outgoing.end(body);
    } catch (thrown) {
      fault(outgoing, thrown);
    } finally {
      running--;
    }
  };
}

/** Loads the module; what fails there is the first and last word of this worker. */
async function load() {
  if (parseInt(process.versions.node, 10) < OLDEST) {
    throw Object.assign(new Error(`this is Node ${process.versions.node}, and Bungee needs ${OLDEST} or newer`), { name: "NodeTooOld", stack: "" });
  }
  const handler = findHandler(await import(pathToFileURL(boot.entry)));
  return boot.kind === "web" ? serveWeb(handler) : serveEvent(handler);
}

/** Takes requests, each in the context of its invocation. */
function listen(serve) {
  const ping = `/${boot.nonce}/ping`;
  const server = http.createServer((incoming, outgoing) => {
    if (incoming.url === ping) return void outgoing.end(String(running));
    current.run(incoming, serve, incoming, outgoing);
  });
  // The server enforces its own limits on time and size, and says so; Node must not cut in before it.
  server.requestTimeout = server.headersTimeout = server.keepAliveTimeout = server.timeout = 0;
  server.maxHeadersCount = 0;
  server.listen(boot.socket, () => tell({ t: "ready" }));
}

// Where the inspector listens, if it was asked for; to load its module only to ask would take a while.
if (process.execArgv.some((flag) => flag.startsWith("--inspect="))) {
  tell({ t: "inspector", url: require("node:inspector").url() });
}

/** Makes a spare worker what a fresh one would be: its folder, and its environment, which what it starts inherits. */
function becomeFunction({ cwd, env, ...load }) {
  Object.assign(boot, load);
  Object.assign(process.env, env);
  process.chdir(cwd);
}

// The lifeline: a spare worker is told on it what to load, as one line; its end means that the server is gone.
const lifeline = new Socket({ fd: 0, readable: true, writable: false });
const leave = () => process.exit(0);
lifeline.on("end", leave).on("error", leave);

function assigned() {
  // The first import of an ES module takes longer than later ones.
  import("data:text/javascript,").catch(() => {});
  return new Promise((resolve) => {
    let text = "";
    lifeline.setEncoding("utf8").on("data", (chunk) => {
      text += chunk;
      if (text.endsWith("\n")) resolve(parse(text));
    });
  });
}

/** What Lambda's own runtime says of itself, and what is asked for with each event. */
function seemLambda() {
  process.env.AWS_EXECUTION_ENV = `AWS_Lambda_nodejs${parseInt(process.versions.node, 10)}.x`;
  boot.log_stream = process.env.AWS_LAMBDA_LOG_STREAM_NAME;
}

async function begin() {
  if (boot.entry === undefined) becomeFunction(await assigned());
  else lifeline.resume();
  // What packages look at to leave out what only helps to develop; nothing bundles it in.
  process.env.NODE_ENV ??= "production";
  if (boot.kind === "event") seemLambda();
  listen(await load());
}
begin().catch((thrown) => {
  tell({ t: "init-error", error: describe(thrown) });
  process.exit(1);
});
