// Web handlers: `(Request) => Response`, and how both cross the channel.

"use strict";

const { textOf } = require("./event");

/** Statuses whose answer has no body. */
const EMPTY = new Set([101, 204, 205, 304]);
/** Headers that belong to one connection. */
const HOP = new Set(["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te", "trailer"]);

/** @param {Headers} headers @returns {[string, string][]} */
function pairs(headers) {
  const cookies = headers.getSetCookie?.() ?? [];
  const others = [...headers].filter(([name]) => !HOP.has(name) && name !== "content-length" && !(name === "set-cookie" && cookies.length > 0));
  return [...others, ...cookies.map((cookie) => /** @type {[string, string]} */ (["set-cookie", cookie]))];
}

/** Headers of a request on its way to a session. @param {Request} request @param {Buffer} id @returns {[string, string][]} */
function headersOf(request, id) {
  const host = request.headers.has("host") ? [] : [/** @type {[string, string]} */ (["host", new URL(request.url).host])];
  const own = pairs(request.headers).filter(([name]) => name !== "x-invocation-id");
  return [...host, ...own, ["x-invocation-id", textOf(id)]];
}

/** The pieces of a body, whoever made it. @param {ReadableStream | null} body */
async function* piecesOf(body) {
  if (!body) return;
  const reader = body.getReader();
  try {
    for (let piece; !(piece = await reader.read()).done; ) yield Buffer.from(piece.value);
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** @param {{status: number, headers: [string, string][]}} head @param {import("./pipe").Pipe} body @param {() => void} cancelled */
function responseOf({ status, headers }, body, cancelled) {
  const isEmpty = EMPTY.has(status);
  const known = new Headers();
  for (const [name, value] of headers) if (!HOP.has(name.toLowerCase())) known.append(name, value);
  return new Response(isEmpty ? null : body.stream(cancelled), { status, headers: known });
}

/** The request that a host gave us. @param {import("./session").Work} work */
function requestOf({ head, body, signal }) {
  const headers = new Headers();
  for (const [name, value] of head.headers) if (!HOP.has(name.toLowerCase())) headers.append(name, value);
  const hasBody = head.body && head.method !== "GET" && head.method !== "HEAD";
  const url = new URL(head.uri, `http://${headers.get("host") ?? "localhost"}`);
  const init = { method: head.method, headers, signal, ...(hasBody ? { body: body.stream(), duplex: "half" } : {}) };
  return new Request(url, /** @type {any} */ (init));
}

/** Runs a web handler for a host. @param {Function} handler @returns {(work: import("./session").Work) => Promise<void>} */
function runWeb(handler) {
  return async (work) => {
    // A request that nobody holds any more would not hear its signal.
    work.request = requestOf(work);
    const response = await handler(work.request);
    if (!(response instanceof Response)) throw new TypeError(`the handler returned ${response === null ? "null" : typeof response}, not a Response`);
    work.answer(response.status, pairs(response.headers));
    for await (const piece of piecesOf(response.body)) await work.write(piece, false);
    await work.write(Buffer.alloc(0), true);
  };
}

module.exports = { runWeb, headersOf, piecesOf, responseOf };
