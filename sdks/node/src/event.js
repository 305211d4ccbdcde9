// Event handlers: `handler(event, context)`, and how an event crosses the channel: as `POST /` with the event as JSON.

"use strict";

const crypto = require("node:crypto");

/** Largest event, and largest result, in bytes. */
const EVENT_MAX = 8 * 1024 * 1024;

/** Calls `handler(event, context)`, or with Node's callback when the handler takes one. */
function callEvent(handler, event, context) {
  if (handler.length < 3) return handler(event, context);
  return new Promise((resolve, reject) => {
    const returned = handler(event, context, (error, result) => (error ? reject(error) : resolve(result)));
    if (typeof returned?.then === "function") returned.then(resolve, reject);
  });
}

/** What rules may look at in an event that came over HTTP (API Gateway, function URL, load balancer); of others nothing. */
function lookAt(event) {
  const path = event?.rawPath ?? (event?.httpMethod ? event.path : undefined);
  if (typeof path !== "string") return { trigger: "lambda-api" };
  const headers = new Map(Object.entries(event.headers ?? {}).map(([name, value]) => [name.toLowerCase(), String(value)]));
  const authorizer = event.requestContext?.authorizer;
  const user = authorizer?.jwt?.claims?.sub ?? authorizer?.claims?.sub;
  const method = event.requestContext?.http?.method ?? event.httpMethod;
  return { trigger: "http", path, method, header: (name) => headers.get(name), user: typeof user === "string" ? user : undefined };
}

/** The parts of a context that can cross. */
const CROSSING = ["functionName", "functionVersion", "invokedFunctionArn", "memoryLimitInMB", "awsRequestId", "logGroupName", "logStreamName", "identity", "clientContext"];

/** Headers of the request that carries an event. @returns {[string, string][]} */
function headersOf(id, event, context, trigger) {
  const header = lookAt(event).header;
  const parent = header?.("traceparent") ?? `00-${crypto.randomBytes(16).toString("hex")}-${crypto.randomBytes(8).toString("hex")}-01`;
  const crossing = Object.fromEntries(CROSSING.filter((name) => context?.[name] !== undefined).map((name) => [name, context[name]]));
  return [
    ["host", "localhost"],
    ["content-type", "application/json"],
    ["x-invocation-id", textOf(id)],
    ["traceparent", parent],
    ...(trigger === "http" ? [] : [/** @type {[string, string]} */ (["x-bungee-trigger", trigger])]),
    ["x-bungee-context", ascii(JSON.stringify(crossing))],
  ];
}

/** A header holds no more than ASCII; JSON can say the rest. */
function ascii(json) {
  return json.replace(/[\u007f-\uffff]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** The context of a handler that runs here for a host elsewhere. @param {import("./session").Work} work */
function contextOf({ head, offer, remaining, signal }) {
  const headers = new Map(head.headers);
  const [project, name] = offer.function.split("/");
  const id = headers.get("x-invocation-id");
  return {
    functionName: name,
    functionVersion: offer.version ?? "$LATEST",
    awsRequestId: id,
    callbackWaitsForEmptyEventLoop: false,
    ...parseOr(headers.get("x-bungee-context"), {}),
    getRemainingTimeInMillis: remaining,
    projectId: project,
    invocationId: id,
    timestamp: new Date().toISOString(),
    trigger: headers.get("x-bungee-trigger") ?? offer.trigger ?? "http",
    signal,
  };
}

function parseOr(text, otherwise) {
  try {
    return JSON.parse(text);
  } catch {
    return otherwise;
  }
}

/** Runs an event handler for a host. @param {Function} handler @returns {(work: import("./session").Work) => Promise<void>} */
function runEvent(handler) {
  return async (work) => {
    const event = JSON.parse((await work.body.whole(EVENT_MAX)).toString("utf8"));
    const result = await callEvent(handler, event, contextOf(work));
    const body = Buffer.from(JSON.stringify(result) ?? "null");
    if (body.length > EVENT_MAX) throw Object.assign(new Error(`the result of ${body.length} bytes is larger than the limit of ${EVENT_MAX}`), { name: "PayloadTooLarge" });
    work.answer(200, [["content-type", "application/json"]]);
    await work.write(body, true);
  };
}

/** Sixteen bytes out of a UUID; null if it is none. */
function idOf(text) {
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(String(text)) && !/^[0-]+$/.test(text) ? Buffer.from(text.replaceAll("-", ""), "hex") : null;
}

function textOf(id) {
  return id.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

module.exports = { callEvent, runEvent, lookAt, headersOf, idOf, textOf, EVENT_MAX };
