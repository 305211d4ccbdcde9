// Headers, Request and Response of an isolate, and the two doors through which the host makes a Request and opens a Response.
// It is not a whole Fetch standard: there is no fetch, no stream, no blob and no form; a body is a string or bytes, all there at once.
// A fresh context runs this file for each invocation, so nothing happens here before someone asks for it.

let native;

/** Reach into private fields from outside the class; each is set by the static block of the class it belongs to. */
let headersOver;
let listOf;
let takeBody;
let copyBody;
let putBody;
let responseOf;

const INSPECT = Symbol.for("nodejs.util.inspect.custom");
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
// Stricter than Fetch: control characters would be refused by the host anyway, later and without a stack.
const UNSAFE_VALUE = /[^\t\x20-\x7e\x80-\xff]/;
const TEXT_TYPE = "text/plain;charset=UTF-8";
const FORM_TYPE = "application/x-www-form-urlencoded;charset=UTF-8";

/** Says that the host makes the Request, of parts that are known to be right. */
const HOST = Symbol("host");

function headerName(name) {
  const text = `${name}`;
  if (!TOKEN.test(text)) throw new TypeError(`Invalid header name: ${JSON.stringify(text)}`);
  return text.toLowerCase();
}

function headerValue(value, name) {
  const text = `${value}`.replace(/^[\t\n\r ]+|[\t\n\r ]+$/g, "");
  if (UNSAFE_VALUE.test(text)) throw new TypeError(`Invalid value of header ${name}`);
  return text;
}

/** Cookies of HTTP/2 come in crumbs, and only a semicolon puts them together again (RFC 9113, 8.2.3). */
function separator(name) {
  return name === "cookie" ? "; " : ", ";
}

class Headers {
  /** Pairs of a lower-case name and a value, in the order they came. */
  #list = [];

  static {
    headersOver = (list) => {
      const headers = new Headers();
      headers.#list = list;
      return headers;
    };
    listOf = (headers) => headers.#list;
  }

  constructor(init) {
    if (init === undefined) return;
    if (init === null || (typeof init !== "object" && typeof init !== "function")) {
      throw new TypeError("Headers takes an object, an iterable of pairs or Headers");
    }
    if (#list in init) {
      for (const [name, value] of init.#list) this.#list.push([name, value]);
    } else if (init[Symbol.iterator] != null) {
      for (const pair of init) {
        const [name, value, ...rest] = pair;
        if (value === undefined || rest.length > 0) throw new TypeError("A header is a pair of a name and a value");
        this.append(name, value);
      }
    } else {
      for (const name of Object.keys(init)) this.append(name, init[name]);
    }
  }

  append(name, value) {
    const key = headerName(name);
    this.#list.push([key, headerValue(value, key)]);
  }

  delete(name) {
    const key = headerName(name);
    this.#list = this.#list.filter((pair) => pair[0] !== key);
  }

  get(name) {
    const key = headerName(name);
    let found = null;
    for (const pair of this.#list) {
      if (pair[0] === key) found = found === null ? pair[1] : found + separator(key) + pair[1];
    }
    return found;
  }

  getSetCookie() {
    return this.#list.filter((pair) => pair[0] === "set-cookie").map((pair) => pair[1]);
  }

  has(name) {
    const key = headerName(name);
    return this.#list.some((pair) => pair[0] === key);
  }

  set(name, value) {
    const key = headerName(name);
    const text = headerValue(value, key);
    const first = this.#list.findIndex((pair) => pair[0] === key);
    if (first < 0) {
      this.#list.push([key, text]);
    } else {
      this.#list = this.#list.filter((pair, index) => index <= first || pair[0] !== key);
      this.#list[first] = [key, text];
    }
  }

  forEach(callback, self) {
    if (typeof callback !== "function") throw new TypeError("Headers.forEach takes a function");
    for (const [name, value] of this.#sorted()) callback.call(self, value, name, this);
  }

  entries() {
    return this.#sorted().values();
  }

  keys() {
    return this.#sorted()
      .map((pair) => pair[0])
      .values();
  }

  values() {
    return this.#sorted()
      .map((pair) => pair[1])
      .values();
  }

  [Symbol.iterator]() {
    return this.entries();
  }

  get [Symbol.toStringTag]() {
    return "Headers";
  }

  [INSPECT](depth, options, inspect) {
    return `Headers ${inspect(Object.fromEntries(this.#sorted()))}`;
  }

  /** What iteration shows: sorted, one pair for each name, except that cookies to set can never share a line. */
  #sorted() {
    const combined = new Map();
    const sorted = [];
    for (const [name, value] of this.#list) {
      const seen = name === "set-cookie" ? undefined : combined.get(name);
      if (seen) {
        seen[1] += separator(name) + value;
      } else {
        const pair = [name, value];
        combined.set(name, pair);
        sorted.push(pair);
      }
    }
    return sorted.sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0));
  }
}

/** A body as a string or as bytes of its own, and the type it announces: `[body, type]`. */
function extract(body) {
  if (body === null || body === undefined) return [null, null];
  if (typeof body === "object") {
    if (ArrayBuffer.isView(body)) {
      return [new Uint8Array(body.buffer, body.byteOffset, body.byteLength).slice(), null];
    }
    if (body instanceof ArrayBuffer) return [new Uint8Array(body.slice(0)), null];
    if (Object.prototype.toString.call(body) === "[object URLSearchParams]") return [`${body}`, FORM_TYPE];
  }
  return [String(body).toWellFormed(), TEXT_TYPE];
}

/** What Request and Response share: a body that can be read once. */
class Body {
  /** A string, bytes that nobody else holds, or null. */
  #body;
  #used = false;

  constructor(body) {
    this.#body = body;
  }

  /** Always null: a body here is never a stream. */
  get body() {
    return null;
  }

  get bodyUsed() {
    return this.#used;
  }

  async text() {
    const body = this.#take();
    if (body === null) return "";
    if (typeof body !== "string") return native.utf8Decode(body, false, false);
    return body.charCodeAt(0) === 0xfeff ? body.slice(1) : body;
  }

  async json() {
    return JSON.parse(await this.text());
  }

  async bytes() {
    return this.#takeBytes();
  }

  async arrayBuffer() {
    const bytes = this.#takeBytes();
    return bytes.byteLength === bytes.buffer.byteLength ? bytes.buffer : bytes.slice().buffer;
  }

  async formData() {
    throw new TypeError("formData() is not supported in an isolate; use text() or bytes()");
  }

  async blob() {
    throw new TypeError("blob() is not supported in an isolate; use arrayBuffer() or bytes()");
  }

  /** Takes the body for good; no body can be taken as often as one likes. */
  #take() {
    if (this.#used) throw new TypeError("Body has already been used");
    this.#used = this.#body !== null;
    const body = this.#body;
    this.#body = null;
    return body;
  }

  #takeBytes() {
    const body = this.#take();
    if (body === null) return new Uint8Array(0);
    return typeof body === "string" ? native.utf8Encode(body) : body;
  }

  #copy() {
    if (this.#used) throw new TypeError("Body has already been used");
    return typeof this.#body === "string" || this.#body === null ? this.#body : this.#body.slice();
  }

  static {
    takeBody = (holder) => holder.#take();
    copyBody = (holder) => holder.#copy();
    putBody = (holder, body) => {
      holder.#body = body;
    };
  }
}

class Request extends Body {
  #method;
  #url;
  /** Names and values in turn until somebody asks for the headers, which many functions never do. */
  #headers;
  #signal;

  constructor(input, init) {
    if (input === HOST) {
      super(init.body);
      this.#method = init.method;
      this.#url = init.url;
      this.#headers = init.headers;
      return;
    }
    if (init === undefined || init === null) init = {};
    const from = typeof input === "object" && input !== null && #url in input ? input : null;
    const url = from ? from.#url : requestUrl(input);
    const method = init.method === undefined ? (from ? from.#method : "GET") : requestMethod(init.method);
    const headers = new Headers(init.headers ?? (from ? from.headers : undefined));
    let [body, type] = extract(init.body);
    // Before the other request loses its body: a refusal must change nothing.
    if (body !== null && (method === "GET" || method === "HEAD")) {
      throw new TypeError(`A request with method ${method} cannot have a body`);
    }
    if (body === null && from) body = takeBody(from);
    if (type !== null && !headers.has("content-type")) headers.append("content-type", type);
    super(body);
    this.#method = method;
    this.#url = url;
    this.#headers = headers;
    this.#signal = init.signal ?? from?.signal;
  }

  get method() {
    return this.#method;
  }

  get url() {
    return this.#url;
  }

  get headers() {
    const headers = this.#headers;
    return Array.isArray(headers) ? (this.#headers = headersOver(pairsOf(headers))) : headers;
  }

  get signal() {
    return this.#signal;
  }

  clone() {
    const body = copyBody(this);
    const headers = listOf(this.headers).flat();
    const copy = new Request(HOST, { method: this.#method, url: this.#url, headers, body });
    copy.#signal = this.#signal;
    if (this.params !== undefined) copy.params = this.params;
    return copy;
  }

  get [Symbol.toStringTag]() {
    return "Request";
  }

  [INSPECT](depth, options, inspect) {
    const { method, url, headers, bodyUsed } = this;
    return `Request ${inspect({ method, url, headers, bodyUsed })}`;
  }
}

function pairsOf(flat) {
  const pairs = [];
  for (let index = 0; index < flat.length; index += 2) pairs.push([flat[index], flat[index + 1]]);
  return pairs;
}

function requestUrl(input) {
  const text = `${input}`.toWellFormed();
  const parts = native.urlParse(text, undefined);
  if (parts === null) throw new TypeError(`Invalid URL: ${text}`);
  if (parts[2] !== "" || parts[3] !== "") throw new TypeError("The URL of a request cannot hold a user or a password");
  return parts[0];
}

function requestMethod(method) {
  const text = `${method}`;
  if (!TOKEN.test(text)) throw new TypeError(`Invalid method: ${JSON.stringify(text)}`);
  if (/^(?:connect|trace|track)$/i.test(text)) throw new TypeError(`Method ${text} is forbidden`);
  return /^(?:delete|get|head|options|post|put)$/i.test(text) ? text.toUpperCase() : text;
}

class Response extends Body {
  #status = 200;
  #statusText = "";
  #type = "default";
  /** Null until somebody asks or the handler gave some: a plain response needs only the type of its body. */
  #headers = null;
  #contentType;

  constructor(body, init) {
    const [content, type] = extract(body);
    super(content);
    this.#contentType = type;
    if (init === undefined || init === null) return;
    if (typeof init !== "object") throw new TypeError("The second argument of Response is an object");
    if (init.status !== undefined) {
      const status = Math.trunc(Number(init.status));
      if (!(status >= 200 && status <= 599)) throw new RangeError(`Status ${String(init.status)} is not between 200 and 599`);
      this.#status = status;
    }
    if (init.statusText !== undefined) {
      this.#statusText = `${init.statusText}`;
      if (UNSAFE_VALUE.test(this.#statusText)) throw new TypeError("Invalid statusText");
    }
    if (init.headers !== undefined) {
      const headers = new Headers(init.headers);
      if (type !== null && !headers.has("content-type")) headers.append("content-type", type);
      this.#headers = headers;
    }
    if (content !== null && (this.#status === 204 || this.#status === 205 || this.#status === 304)) {
      throw new TypeError(`A response with status ${this.#status} cannot have a body`);
    }
  }

  static json(data, init) {
    const text = JSON.stringify(data);
    if (text === undefined) throw new TypeError("Response.json takes a value that JSON can show");
    if (init?.headers !== undefined) {
      const headers = new Headers(init.headers);
      if (!headers.has("content-type")) headers.append("content-type", "application/json");
      return new Response(text, { status: init.status, statusText: init.statusText, headers });
    }
    const response = new Response(text, init);
    response.#contentType = "application/json";
    return response;
  }

  static redirect(url, status = 302) {
    const code = Number(status);
    if (![301, 302, 303, 307, 308].includes(code)) throw new RangeError(`Status ${String(status)} is not a redirect`);
    const text = `${url}`.toWellFormed();
    const parts = native.urlParse(text, undefined);
    const response = new Response(null, { status: code });
    // Nothing here has a base, so a relative location goes to the caller as it is, as Bun does it.
    response.#headers = new Headers([["location", parts === null ? text : parts[0]]]);
    return response;
  }

  static error() {
    const response = new Response(null);
    response.#type = "error";
    response.#status = 0;
    return response;
  }

  get status() {
    return this.#status;
  }

  get ok() {
    return this.#status >= 200 && this.#status <= 299;
  }

  get statusText() {
    return this.#statusText;
  }

  get headers() {
    return (this.#headers ??= headersOver(this.#plainHeaders()));
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
    const copy = new Response(null);
    putBody(copy, copyBody(this));
    copy.#status = this.#status;
    copy.#statusText = this.#statusText;
    copy.#type = this.#type;
    copy.#contentType = this.#contentType;
    copy.#headers = this.#headers && new Headers(this.#headers);
    return copy;
  }

  get [Symbol.toStringTag]() {
    return "Response";
  }

  [INSPECT](depth, options, inspect) {
    const { status, statusText, headers, ok, bodyUsed } = this;
    return `Response ${inspect({ status, statusText, headers, ok, bodyUsed })}`;
  }

  #plainHeaders() {
    return this.#contentType === null ? [] : [["content-type", this.#contentType]];
  }

  static {
    responseOf = (value) => {
      if (typeof value !== "object" || value === null || !(#status in value)) return null;
      if (value.#type === "error") throw new TypeError("Response.error() cannot be returned to a caller");
      const headers = value.#headers === null ? value.#plainHeaders() : listOf(value.#headers);
      return [value.#status, headers, takeBody(value)];
    };
  }
}

export function install(natives) {
  native = natives;
  return {
    Headers,
    Request,
    Response,

    /** A Request of parts that the host already checked; the list of headers and the bytes become its own. */
    $makeRequest(method, url, headers, body, params) {
      const request = new Request(HOST, { method, url, headers, body });
      if (params !== null && params !== undefined) request.params = params;
      return request;
    },

    /** `[status, headers, body]` of a Response, whose body is used from now on; null for anything else. */
    $openResponse(value) {
      return responseOf(value);
    },
  };
}
