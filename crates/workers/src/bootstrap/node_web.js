// Request and Response of a Node worker, over node:http.
// Node's own are whole and slow: to make them for each request costs more than all the rest of it. These hold what was
// received or given, and ask for Node's own only where that is the answer: forms, and `fetch` of a received request.

"use strict";

const { Readable } = require("node:stream");
const { inspect } = require("node:util");

const { Message, split, take } = require("./node_body.cjs");
const { Headers, isOneOf, owned } = require("./node_headers.cjs");

/** Node's own request in the place of a received one; it takes the body along. */
let wholeOf;

function hasBody({ method, headers }) {
  if (method === "GET" || method === "HEAD") return false;
  return headers["transfer-encoding"] !== undefined || headers["content-length"] > 0;
}

/** A request as node:http received it. Made for each, so it holds two references and makes the rest when it is asked. */
class Received extends Message {
  #incoming;
  #outgoing;
  #headers;
  #signal;

  constructor(incoming, outgoing) {
    super(hasBody(incoming) ? incoming : null);
    this.#incoming = incoming;
    this.#outgoing = outgoing;
  }

  get method() {
    return this.#incoming.method;
  }

  get url() {
    return `http://${this.#incoming.headers.host ?? "localhost"}${this.#incoming.url}`;
  }

  get headers() {
    return (this.#headers ??= Headers.received(this.#incoming.headers));
  }

  /** Aborts when the caller leaves before the answer is whole. */
  get signal() {
    if (!this.#signal) {
      const abort = new AbortController();
      const outgoing = this.#outgoing;
      const left = () => {
        if (!outgoing.writableFinished) abort.abort(new DOMException("the caller left", "AbortError"));
      };
      if (outgoing.closed || outgoing.destroyed) left();
      else outgoing.once("close", left);
      this.#signal = abort.signal;
    }
    return this.#signal;
  }

  clone() {
    return this.#whole(split(this));
  }

  #whole(body) {
    const { method, headers, signal } = this;
    const source = body instanceof Readable ? Readable.toWeb(body) : body;
    return new (owned("Request"))(this.url, { method, headers, signal, body: source, duplex: "half" });
  }

  static {
    wholeOf = (request) => request.#whole(request.body === null ? null : take(request));
  }

  get [Symbol.toStringTag]() {
    return "Request";
  }

  [inspect.custom](depth, options) {
    const { method, url, headers } = this;
    return `Request ${inspect({ method, url, headers }, options)}`;
  }
}
for (const [name, value] of Object.entries({
  cache: "default",
  credentials: "same-origin",
  destination: "",
  duplex: "half",
  integrity: "",
  keepalive: false,
  mode: "cors",
  redirect: "follow",
  referrer: "about:client",
  referrerPolicy: "",
})) {
  Object.defineProperty(Received.prototype, name, { get: () => value, configurable: true, enumerable: true });
}

/** Statuses whose responses have no body (fetch, "null body status"). */
const BODILESS = new Set([204, 205, 304]);

/** Headers that speak of one connection only. */
const CONNECTION = new Set(["connection", "keep-alive", "transfer-encoding", "upgrade"]);

/** The headers of a response of ours: names and values in turn, as node:http takes them. */
let headOf;

class Response extends Message {
  #status = 200;
  #statusText = "";
  /** Headers as they were given, until somebody asks for them. */
  #given;
  #headers;
  #type = "default";
  /** The content type that the body brings. */
  #bodyType;

  constructor(body, init) {
    let bodyType = null;
    let source = body ?? null;
    if (typeof source === "string") {
      bodyType = "text/plain;charset=UTF-8";
    } else if (source !== null && !(source instanceof Uint8Array || source instanceof ReadableStream)) {
      [source, bodyType] = extracted(source);
    }
    super(source);
    this.#bodyType = bodyType;
    if (init === undefined || init === null) return;
    if (init.status !== undefined) {
      const status = Math.trunc(Number(init.status));
      if (!(status >= 200 && status <= 599)) throw new RangeError(`a response's status lies between 200 and 599; this is ${init.status}`);
      if (source !== null && BODILESS.has(status)) throw new TypeError(`a response of status ${status} has no body`);
      this.#status = status;
    }
    if (init.statusText !== undefined) this.#statusText = String(init.statusText);
    if (init.headers) this.#given = init.headers;
  }

  static [Symbol.hasInstance](value) {
    return isOneOf(this, Response, "Response", value);
  }

  static json(value, init) {
    const text = JSON.stringify(value);
    if (text === undefined) throw new TypeError("this value is no JSON");
    const response = new Response(text, init);
    response.#bodyType = "application/json";
    return response;
  }

  static redirect(url, status = 302) {
    if (![301, 302, 303, 307, 308].includes(status)) throw new RangeError(`${status} is no status of a redirect`);
    return new Response(null, { status, headers: { location: new URL(url).href } });
  }

  static error() {
    const response = new Response(null);
    response.#status = 0;
    response.#type = "error";
    return response;
  }

  get status() {
    return this.#status;
  }

  get statusText() {
    return this.#statusText;
  }

  get ok() {
    return this.#status >= 200 && this.#status <= 299;
  }

  get headers() {
    if (!this.#headers) {
      this.#headers = new Headers(this.#given);
      if (this.#bodyType && !this.#headers.has("content-type")) this.#headers.set("content-type", this.#bodyType);
    }
    return this.#headers;
  }

  get type() {
    return this.#type;
  }

  get url() {
    return "";
  }

  get redirected() {
    return false;
  }

  clone() {
    const { status, statusText, headers } = this;
    return new Response(split(this), { status, statusText, headers });
  }

  static {
    headOf = (response) => {
      const given = response.#headers ?? response.#given;
      const head = [];
      let hasType = false;
      const add = (name, value) => {
        const key = name.toLowerCase();
        if (CONNECTION.has(key)) return;
        hasType ||= key === "content-type";
        head.push(name, String(value));
      };
      if (given !== undefined) {
        const isPlain = Object.getPrototypeOf(given) === Object.prototype && !given[Symbol.iterator];
        if (isPlain) for (const name of Object.keys(given)) add(name, given[name]);
        else for (const [name, value] of response.headers) add(name, value);
      }
      if (!hasType && response.#bodyType) head.push("content-type", response.#bodyType);
      return head;
    };
  }

  get [Symbol.toStringTag]() {
    return "Response";
  }

  [inspect.custom](depth, options) {
    const { status, headers } = this;
    return `Response ${inspect({ status, headers }, options)}`;
  }
}

/** The source of a body that is neither text nor bytes nor a stream, and the content type that it brings. */
function extracted(body) {
  if (body instanceof ArrayBuffer) return [new Uint8Array(body), null];
  if (ArrayBuffer.isView(body)) return [new Uint8Array(body.buffer, body.byteOffset, body.byteLength), null];
  if (body instanceof URLSearchParams) return [String(body), "application/x-www-form-urlencoded;charset=UTF-8"];
  if (body instanceof Blob) return [body, body.type || null];
  if (body instanceof FormData) {
    const whole = new (owned("Response"))(body);
    return [whole.body, whole.headers.get("content-type")];
  }
  if (body instanceof Readable) return [body, null];
  if (typeof body[Symbol.asyncIterator] === "function") return [Readable.from(body, { objectMode: false }), null];
  return [String(body), "text/plain;charset=UTF-8"];
}

/** A `Request` to be made by user code is Node's own; one that was received is one too. */
let made;
function requestClass() {
  if (made) return made;
  const Whole = owned("Request");
  const Request = class extends Whole {
    constructor(input, init) {
      super(input instanceof Received ? wholeOf(input) : input, init);
    }

    static [Symbol.hasInstance](value) {
      return isOneOf(this, Request, "Request", value) || (this === Request && value instanceof Received);
    }
  };
  Object.defineProperty(Request, "name", { value: "Request" });
  return (made = Request);
}

/** Puts these classes in the place of Node's. */
function install() {
  const shown = (name, value) =>
    Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
  shown("Response", Response);
  shown("Headers", Headers);
  Object.defineProperty(globalThis, "Request", {
    get: requestClass,
    set: (value) => shown("Request", value),
    configurable: true,
    enumerable: false,
  });
  const fetch = globalThis.fetch;
  shown("fetch", (input, init) => fetch(input instanceof Received ? wholeOf(input) : input, init));
}

/** Status, headers and body of any response, Node's own included. */
function partsOf(response) {
  if (Object.getPrototypeOf(response) === Response.prototype) {
    return [response.status, response.statusText, headOf(response), take(response)];
  }
  const isDecoded = response.url !== "" && response.headers.has("content-encoding");
  const head = [];
  for (const [name, value] of response.headers) {
    // What `fetch` brought is unpacked already.
    const isWrong = isDecoded && (name === "content-encoding" || name === "content-length");
    if (!isWrong && !CONNECTION.has(name)) head.push(name, value);
  }
  if (response.bodyUsed || response.body?.locked) throw new TypeError("the body was read already");
  return [response.status, response.statusText, head, response.body];
}

/** Writes a response. What fails before the head is thrown; what fails later breaks the connection off, and is told. */
function send(outgoing, response, tell) {
  const [status, statusText, head, body] = partsOf(response);
  if (status === 0) throw new TypeError("the handler returned Response.error(), which cannot be sent");
  outgoing.sendDate = false;
  const isWhole = body === null || typeof body === "string" || body instanceof Uint8Array;
  const isHead = outgoing.req.method === "HEAD";
  if (isWhole) {
    const length = body === null ? 0 : typeof body === "string" ? Buffer.byteLength(body) : body.byteLength;
    setLength(head, length, isHead || BODILESS.has(status));
  }
  if (statusText) outgoing.writeHead(status, statusText, head);
  else outgoing.writeHead(status, head);
  if (isWhole) return void outgoing.end(body ?? undefined);
  const stream = body instanceof Blob ? body.stream() : body instanceof Readable ? Readable.toWeb(body) : body;
  if (isHead || BODILESS.has(status)) {
    stream.cancel().catch(() => {});
    return void outgoing.end();
  }
  pump(outgoing, stream.getReader()).catch(tell);
}

/** The length of a whole body; where no body goes out, one that was given stays. */
function setLength(head, length, isBodiless) {
  for (let at = 0; at < head.length; at += 2) {
    if (head[at].toLowerCase() !== "content-length") continue;
    if (!isBodiless) head[at + 1] = String(length);
    return;
  }
  if (!isBodiless || length > 0) head.push("content-length", String(length));
}

/** Moves a stream to the caller as fast as it takes it. */
async function pump(outgoing, reader) {
  let wake = () => {};
  const left = () => {
    reader.cancel(new DOMException("the caller left", "AbortError")).catch(() => {});
    wake();
  };
  outgoing.once("close", left);
  outgoing.on("drain", () => wake());
  outgoing.flushHeaders();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done || outgoing.destroyed) break;
      if (!outgoing.write(value) && !outgoing.destroyed) await new Promise((resolve) => (wake = resolve));
    }
    outgoing.off("close", left);
    outgoing.end();
  } catch (thrown) {
    outgoing.off("close", left);
    outgoing.destroy();
    throw thrown;
  }
}

module.exports = { Received, install, isResponse: (value) => value instanceof Response, send };
