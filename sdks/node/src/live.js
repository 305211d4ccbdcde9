// The one line around a handler: deployed it offers invocations and else runs the handler; on a laptop it claims them.

"use strict";

const { Host, newId } = require("./host");
const { Session } = require("./session");
const { settingsOf, LONGEST } = require("./settings");
const events = require("./event");
const web = require("./web");

/** Names that no function may have. */
const RESERVED = ["default", "projects", "code", "register", "deploy"];

/**
 * A `live` of its own, with connections of its own.
 * @param {{env?: NodeJS.ProcessEnv, say?: (line: string) => void}} [options]
 */
function createLive({ env = process.env, say = (line) => void process.stderr.write(`bungee: ${line}\n`) } = {}) {
  /** @type {Map<string, Host | Session>} */
  const ends = new Map();

  /** The end that this handler belongs to; handlers of one channel share one connection. */
  function endOf(options) {
    const settings = settingsOf(options, env);
    if (!settings) return null;
    const key = JSON.stringify([settings.role, settings.url, settings.token, settings.seal?.toString("hex"), settings.wait]);
    let end = ends.get(key);
    if (!end) {
      end = settings.role === "host" ? new Host(settings, say) : new Session(settings, say);
      if (end instanceof Session) leaveWith(end);
      ends.set(key, end);
    }
    return { end, settings };
  }

  /** Deployed code must run whatever is wrong with the channel; a developer wants to know. */
  function tryEndOf(options) {
    try {
      return endOf(options);
    } catch (error) {
      if (looksLocal(options, env)) throw error;
      say(`${error.message}; deployed code runs`);
      return null;
    }
  }

  function wrap(name, handler, options, kind) {
    const full = nameOf(name);
    if (typeof handler !== "function") throw new TypeError(`live(${JSON.stringify(name)}, …) takes a function, not ${typeof handler}`);
    const found = tryEndOf(options);
    const { end, settings } = found ?? {};
    if (end instanceof Session) {
      const run = kind === "web" ? web.runWeb(handler) : events.runEvent(handler);
      end.claim(full, settings.claim, { kind, run });
    }
    if (!(end instanceof Host)) return null;
    end.serve(full);
    return { host: end, name: full, handler, options };
  }

  const live = (name, handler, options = {}) => {
    const deployed = wrap(name, handler, options, "event");
    if (!deployed) return async (event, context) => events.callEvent(handler, event, context);
    return async (event, context) =>
      deployed.host.isWanted(deployed.name) ? invokeEvent(deployed, event, context) : events.callEvent(handler, event, context);
  };
  live.web = (name, handler, options = {}) => {
    const deployed = wrap(name, handler, options, "web");
    if (!deployed) return async (request, ...rest) => handler(request, ...rest);
    return async (request, ...rest) =>
      deployed.host.isWanted(deployed.name) ? invokeWeb(deployed, request, rest) : handler(request, ...rest);
  };
  live.close = async () => {
    const all = [...ends.values()];
    ends.clear();
    await Promise.all(all.map((end) => end.close()));
  };
  return live;
}

function looksLocal(options, env) {
  try {
    return (options.role ?? require("./settings").roleOf(env)) === "session";
  } catch {
    return false;
  }
}

/** `shop/hello`, or `hello` of the project `default`. */
function nameOf(name) {
  const parts = String(name).split("/");
  if (parts.length > 2 || parts.some((part) => !/^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$/.test(part))) {
    throw new TypeError(`\`${name}\` is no function: it looks like PROJECT/NAME, or NAME in the project default; names hold letters, digits, _ and -`);
  }
  if (RESERVED.includes(parts[parts.length - 1])) throw new TypeError(`\`${name}\` is no function: ${parts[parts.length - 1]} is a reserved name`);
  return parts.length === 2 ? String(name) : `default/${name}`;
}

/** Ctrl-C and a polite kill give the claims back first; then the program ends as it would have. */
function leaveWith(session) {
  const events = ["SIGINT", "SIGTERM", "SIGHUP", "beforeExit"];
  const leave = async (event) => {
    const isSignal = typeof event === "string";
    await session.close(isSignal ? `the program got ${event}` : undefined);
    if (isSignal && process.listenerCount(event) === 0) process.kill(process.pid, event);
  };
  for (const name of events) process.on(name, leave);
  session.onLeft = () => events.forEach((name) => process.removeListener(name, leave));
}

/** Milliseconds that this invocation may still run. */
function deadlineOf(context, options) {
  const left = typeof context?.getRemainingTimeInMillis === "function" ? context.getRemainingTimeInMillis() : undefined;
  if (!Number.isFinite(left)) return options.timeout ?? LONGEST;
  // The session has to hear of it before the platform stops this process.
  return Math.max(1, Math.min(options.timeout ?? LONGEST, left - Math.min(100, left / 10)));
}

async function invokeEvent({ host, name, handler, options }, event, context) {
  await host.refresh();
  const seen = events.lookAt(event);
  const id = events.idOf(context?.awsRequestId ?? context?.invocationId ?? "") ?? newId();
  const { owner, observers } = host.pick(name, { id, ...seen });
  if (!owner && observers.length === 0) return events.callEvent(handler, event, context);
  const deadline = deadlineOf(context, options);
  const body = bytesOf(event);
  const work = body && {
    id, deadline, function: name, trigger: seen.trigger, kind: "event", method: seen.method, path: seen.path, size: body.length, observe: false,
  };
  const head = { method: "POST", uri: "/", headers: events.headersOf(id, event, context, seen.trigger), body: true };
  const give = async (claim, observe) => {
    const given = work && (await host.offer(claim, { ...work, observe }));
    if (!given) return null;
    given.go(head, claim.hold_deadline === true && !context?.getRemainingTimeInMillis);
    given.flow.sendBody(body, true).catch(() => {});
    return given;
  };
  const given = owner && (await give(owner, false));
  if (given) return resultOf(given);
  try {
    return await events.callEvent(handler, event, context);
  } finally {
    for (const claim of observers) void give(claim, true).then((copy) => copy && resultOf(copy)).catch(() => {});
  }
}

/** An event as JSON; null if it cannot be said in JSON, and so cannot cross. */
function bytesOf(event) {
  try {
    return Buffer.from(JSON.stringify(event) ?? "null");
  } catch {
    return null;
  }
}

async function resultOf(given) {
  const { status } = await given.answered;
  const text = (await given.body.whole(events.EVENT_MAX)).toString("utf8");
  if (status >= 400) throw new Error(`the session answered ${status}: ${text.slice(0, 1000)}`);
  return text === "" ? undefined : JSON.parse(text);
}

async function invokeWeb({ host, name, handler, options }, request, rest) {
  await host.refresh();
  const url = new URL(request.url);
  const id = events.idOf(request.headers.get("x-invocation-id") ?? "") ?? newId();
  const user = options.user?.(request);
  const { owner, observers } = host.pick(name, { id, header: (header) => request.headers.get(header), path: url.pathname, user });
  if (!owner && observers.length === 0) return handler(request, ...rest);
  const size = Number(request.headers.get("content-length")) || undefined;
  const work = { id, deadline: options.timeout ?? LONGEST, function: name, trigger: "http", kind: "web", method: request.method, path: url.pathname, size };
  const give = async (claim, from, observe) => {
    const given = await host.offer(claim, { ...work, observe });
    return given && sendRequest(given, from, id, claim.hold_deadline === true);
  };
  const copies = observers.map(() => request.clone());
  const given = owner && (await give(owner, request, false));
  if (given) {
    for (const copy of copies) copy.body?.cancel().catch(() => {});
    return answerOf(given, request);
  }
  try {
    return await handler(request, ...rest);
  } finally {
    observers.forEach((claim, place) => void give(claim, copies[place], true).then(drain).catch(() => {}));
  }
}

/** Go, and then the body as it comes. @param {any} given @param {Request} request */
function sendRequest(given, request, id, hold) {
  const { pathname, search } = new URL(request.url);
  const body = request.body;
  given.go({ method: request.method, uri: pathname + search, headers: web.headersOf(request, id), body: body !== null }, hold);
  const send = async () => {
    for await (const piece of web.piecesOf(body)) {
      if (given.state !== "running") return;
      await given.flow.sendBody(piece, false);
    }
    if (given.state === "running") await given.flow.sendBody(Buffer.alloc(0), true);
  };
  if (body) send().catch((error) => given.cancel(`the caller broke off: ${error.message}`));
  return given;
}

async function answerOf(given, request) {
  const cancel = () => given.cancel("the caller left");
  request.signal?.addEventListener("abort", cancel, { once: true });
  return web.responseOf(await given.answered, given.body, cancel);
}

/** The answer of one that only looks on. */
async function drain(given) {
  if (!given) return;
  await given.answered;
  while ((await given.body.next()) !== null);
}

module.exports = { createLive };
