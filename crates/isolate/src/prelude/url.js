// URL and URLSearchParams of an isolate.
// It is not a parser: the host parses and changes URLs; here are the objects around its answers, and the form encoding.

let native;

/** Reach into private fields from the other class; set by static blocks. */
let linkedParams;
let refillParams;
let searchChanged;

const INSPECT = Symbol.for("nodejs.util.inspect.custom");

class URL {
  /** The host's answer: href, protocol, username, password, host, hostname, port, pathname, search, hash, origin. */
  #parts;
  #params = null;

  static {
    searchChanged = (url, search) => {
      url.#parts = native.urlSet(url.#parts[0], "search", search) ?? url.#parts;
    };
  }

  constructor(url, base) {
    const parts = parse(url, base);
    if (parts === null) {
      const error = new TypeError("Invalid URL");
      error.code = "ERR_INVALID_URL";
      error.input = `${url}`;
      throw error;
    }
    this.#parts = parts;
  }

  static canParse(url, base) {
    return parse(url, base) !== null;
  }

  static parse(url, base) {
    const parts = parse(url, base);
    return parts === null ? null : new URL(parts[0]);
  }

  get href() {
    return this.#parts[0];
  }
  set href(value) {
    const parts = parse(value, undefined);
    if (parts === null) throw new TypeError("Invalid URL");
    this.#parts = parts;
    if (this.#params) refillParams(this.#params, parts[8]);
  }

  get protocol() {
    return this.#parts[1];
  }
  set protocol(value) {
    this.#set("protocol", value);
  }

  get username() {
    return this.#parts[2];
  }
  set username(value) {
    this.#set("username", value);
  }

  get password() {
    return this.#parts[3];
  }
  set password(value) {
    this.#set("password", value);
  }

  get host() {
    return this.#parts[4];
  }
  set host(value) {
    this.#set("host", value);
  }

  get hostname() {
    return this.#parts[5];
  }
  set hostname(value) {
    this.#set("hostname", value);
  }

  get port() {
    return this.#parts[6];
  }
  set port(value) {
    this.#set("port", value);
  }

  get pathname() {
    return this.#parts[7];
  }
  set pathname(value) {
    this.#set("pathname", value);
  }

  get search() {
    return this.#parts[8];
  }
  set search(value) {
    this.#set("search", value);
    if (this.#params) refillParams(this.#params, this.#parts[8]);
  }

  get hash() {
    return this.#parts[9];
  }
  set hash(value) {
    this.#set("hash", value);
  }

  get origin() {
    return this.#parts[10];
  }

  get searchParams() {
    return (this.#params ??= linkedParams(this, this.#parts[8]));
  }

  toString() {
    return this.#parts[0];
  }

  toJSON() {
    return this.#parts[0];
  }

  get [Symbol.toStringTag]() {
    return "URL";
  }

  [INSPECT](depth, options, inspect) {
    const { href, origin, protocol, username, password, host, hostname, port, pathname, search, searchParams, hash } = this;
    const shown = { href, origin, protocol, username, password, host, hostname, port, pathname, search, searchParams, hash };
    return `URL ${inspect(shown)}`;
  }

  /** A value that the property does not take changes nothing, as in browsers. */
  #set(property, value) {
    this.#parts = native.urlSet(this.#parts[0], property, `${value}`.toWellFormed()) ?? this.#parts;
  }
}

function parse(url, base) {
  return native.urlParse(`${url}`.toWellFormed(), base === undefined ? undefined : `${base}`.toWellFormed());
}

class URLSearchParams {
  /** Pairs of a name and a value, in order. */
  #list = [];
  /** The URL whose query this is, if any. */
  #url = null;

  static {
    linkedParams = (url, search) => {
      const params = new URLSearchParams(search);
      params.#url = url;
      return params;
    };
    refillParams = (params, search) => {
      params.#list = decodeForm(search);
    };
  }

  constructor(init) {
    if (init === undefined) return;
    if (init !== null && (typeof init === "object" || typeof init === "function")) {
      this.#list = #list in init ? init.#list.map((pair) => [pair[0], pair[1]]) : pairsOf(init);
    } else {
      this.#list = decodeForm(`${init}`.toWellFormed());
    }
  }

  get size() {
    return this.#list.length;
  }

  append(name, value) {
    this.#list.push([scalar(name), scalar(value)]);
    this.#changed();
  }

  delete(name, value) {
    const matches = matcher(name, value);
    this.#list = this.#list.filter((pair) => !matches(pair));
    this.#changed();
  }

  get(name) {
    const found = this.#list.find(matcher(name));
    return found ? found[1] : null;
  }

  getAll(name) {
    return this.#list.filter(matcher(name)).map((pair) => pair[1]);
  }

  has(name, value) {
    return this.#list.some(matcher(name, value));
  }

  set(name, value) {
    const pair = [scalar(name), scalar(value)];
    const matches = matcher(name);
    const first = this.#list.findIndex(matches);
    if (first < 0) {
      this.#list.push(pair);
    } else {
      this.#list = this.#list.filter((other, index) => index <= first || !matches(other));
      this.#list[first] = pair;
    }
    this.#changed();
  }

  sort() {
    this.#list.sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0));
    this.#changed();
  }

  forEach(callback, self) {
    if (typeof callback !== "function") throw new TypeError("URLSearchParams.forEach takes a function");
    for (const [name, value] of this) callback.call(self, value, name, this);
  }

  // The list is read anew at each step: what is deleted during a walk must not be shown by it.
  *entries() {
    for (let index = 0; index < this.#list.length; index++) {
      const pair = this.#list[index];
      yield [pair[0], pair[1]];
    }
  }

  *keys() {
    for (let index = 0; index < this.#list.length; index++) yield this.#list[index][0];
  }

  *values() {
    for (let index = 0; index < this.#list.length; index++) yield this.#list[index][1];
  }

  [Symbol.iterator]() {
    return this.entries();
  }

  toString() {
    return this.#list.map((pair) => `${encodePart(pair[0])}=${encodePart(pair[1])}`).join("&");
  }

  get [Symbol.toStringTag]() {
    return "URLSearchParams";
  }

  [INSPECT](depth, options, inspect) {
    const shown = this.#list.map((pair) => `${inspect(pair[0])} => ${inspect(pair[1])}`);
    return shown.length === 0 ? "URLSearchParams {}" : `URLSearchParams { ${shown.join(", ")} }`;
  }

  #changed() {
    if (this.#url) searchChanged(this.#url, this.toString());
  }
}

/** Strings go to the host, which knows no lone surrogates. */
function scalar(value) {
  return `${value}`.toWellFormed();
}

function matcher(name, value) {
  const key = scalar(name);
  if (value === undefined) return (pair) => pair[0] === key;
  const wanted = scalar(value);
  return (pair) => pair[0] === key && pair[1] === wanted;
}

function pairsOf(init) {
  if (init[Symbol.iterator] == null) return Object.keys(init).map((name) => [scalar(name), scalar(init[name])]);
  const pairs = [];
  for (const item of init) {
    const pair = typeof item === "object" && item !== null ? [...item] : [];
    if (pair.length !== 2) throw new TypeError("Each item of URLSearchParams is a pair of a name and a value");
    pairs.push([scalar(pair[0]), scalar(pair[1])]);
  }
  return pairs;
}

function decodeForm(text) {
  const pairs = [];
  for (const piece of (text[0] === "?" ? text.slice(1) : text).split("&")) {
    if (piece === "") continue;
    const at = piece.indexOf("=");
    if (at < 0) pairs.push([decodePart(piece), ""]);
    else pairs.push([decodePart(piece.slice(0, at)), decodePart(piece.slice(at + 1))]);
  }
  return pairs;
}

function decodePart(part) {
  const text = part.replaceAll("+", " ");
  if (!text.includes("%")) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return decodeBroken(text);
  }
}

/** The slow way, for a percent sign that begins no escape and for escapes that are no UTF-8: both are allowed in a form. */
function decodeBroken(text) {
  const from = native.utf8Encode(text);
  const to = new Uint8Array(from.length);
  let length = 0;
  for (let index = 0; index < from.length; index++) {
    const pair = from[index] === 0x25 ? String.fromCharCode(from[index + 1], from[index + 2]) : "";
    if (/^[0-9A-Fa-f]{2}$/.test(pair)) {
      to[length++] = parseInt(pair, 16);
      index += 2;
    } else {
      to[length++] = from[index];
    }
  }
  return native.utf8Decode(to.subarray(0, length), false, true);
}

const LEFT_BY_URI = { "%20": "+", "!": "%21", "'": "%27", "(": "%28", ")": "%29", "~": "%7E" };

function encodePart(part) {
  return encodeURIComponent(part).replace(/%20|[!'()~]/g, (found) => LEFT_BY_URI[found]);
}

export function install(natives) {
  native = natives;
  return { URL, URLSearchParams };
}
