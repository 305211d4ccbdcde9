// TextEncoder, TextDecoder, atob, btoa and the random half of crypto of an isolate.
// It is not an encoding library: UTF-8 is the only one, and the host does the work. There is no crypto.subtle.

let native;

const UTF_8 = /^(?:unicode-1-1-utf-8|unicode11utf8|unicode20utf8|utf-?8|x-unicode20utf8)$/i;
const BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/** The most bytes that one call of getRandomValues gives, as the Web Cryptography standard says. */
const RANDOM_BYTES_MAX = 65536;

class TextEncoder {
  get encoding() {
    return "utf-8";
  }

  encode(text = "") {
    return native.utf8Encode(`${text}`.toWellFormed());
  }

  encodeInto(source, destination) {
    if (!(destination instanceof Uint8Array)) throw new TypeError("encodeInto writes to a Uint8Array");
    const text = `${source}`.toWellFormed();
    // No character of a string needs more than one byte for each byte of room, so more than that is never looked at.
    const bytes = native.utf8Encode(text.slice(0, destination.length + 1).toWellFormed());
    if (bytes.length <= destination.length) {
      destination.set(bytes);
      return { read: text.length, written: bytes.length };
    }
    let read = 0;
    let written = 0;
    for (;;) {
      const code = text.codePointAt(read);
      const size = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
      if (written + size > destination.length) break;
      written += size;
      read += code > 0xffff ? 2 : 1;
    }
    destination.set(bytes.subarray(0, written));
    return { read, written };
  }

  get [Symbol.toStringTag]() {
    return "TextEncoder";
  }
}

class TextDecoder {
  #fatal;
  #ignoreBOM;
  /** The beginning of a character whose rest has not come yet; only while streaming. */
  #tail = null;
  /** Whether this stream has begun: only its very first bytes can be a mark of the byte order. */
  #begun = false;

  constructor(label = "utf-8", options = {}) {
    const name = `${label}`.replace(/^[\t\n\f\r ]+|[\t\n\f\r ]+$/g, "");
    if (!UTF_8.test(name)) throw new RangeError(`The encoding ${JSON.stringify(name)} is not supported; only utf-8 is`);
    this.#fatal = Boolean(options?.fatal);
    this.#ignoreBOM = Boolean(options?.ignoreBOM);
  }

  get encoding() {
    return "utf-8";
  }

  get fatal() {
    return this.#fatal;
  }

  get ignoreBOM() {
    return this.#ignoreBOM;
  }

  decode(input, options) {
    let bytes = this.#joined(bytesOf(input));
    const ignoreBOM = this.#ignoreBOM || this.#begun;
    this.#tail = null;
    this.#begun = false;
    if (options?.stream) {
      const whole = bytes.length - incompleteTail(bytes);
      const tail = whole < bytes.length ? bytes.slice(whole) : null;
      bytes = bytes.subarray(0, whole);
      const text = native.utf8Decode(bytes, this.#fatal, ignoreBOM);
      // Only now: a decoder that threw begins anew.
      this.#tail = tail;
      this.#begun = ignoreBOM || whole > 0;
      return text;
    }
    return native.utf8Decode(bytes, this.#fatal, ignoreBOM);
  }

  get [Symbol.toStringTag]() {
    return "TextDecoder";
  }

  #joined(bytes) {
    const tail = this.#tail;
    if (tail === null) return bytes;
    const joined = new Uint8Array(tail.length + bytes.length);
    joined.set(tail);
    joined.set(bytes, tail.length);
    return joined;
  }
}

function bytesOf(input) {
  if (input === undefined) return new Uint8Array(0);
  if (ArrayBuffer.isView(input)) {
    if (input instanceof Uint8Array) return input;
    return new Uint8Array(input.buffer, input.byteOffset, input.byteLength);
  }
  if (input instanceof ArrayBuffer) return new Uint8Array(input);
  throw new TypeError("TextDecoder.decode takes an ArrayBuffer or a view of one");
}

/** How many bytes at the end begin a character without ending it: none to three. */
function incompleteTail(bytes) {
  for (let back = 1; back <= 3 && back <= bytes.length; back++) {
    const byte = bytes[bytes.length - back];
    if ((byte & 0xc0) === 0x80) continue;
    const size = byte >= 0xf0 && byte <= 0xf4 ? 4 : byte >= 0xe0 && byte < 0xf0 ? 3 : byte >= 0xc2 && byte < 0xe0 ? 2 : 1;
    return size > back ? back : 0;
  }
  return 0;
}

function exception(name, message) {
  if (typeof globalThis.DOMException === "function") return new globalThis.DOMException(message, name);
  const error = new Error(message);
  error.name = name;
  return error;
}

function btoa(data) {
  if (arguments.length === 0) throw new TypeError("btoa takes a string");
  const text = `${data}`;
  let encoded = "";
  for (let index = 0; index < text.length; index += 3) {
    const a = text.charCodeAt(index);
    const b = text.charCodeAt(index + 1);
    const c = text.charCodeAt(index + 2);
    // Past the end a code is NaN, which is above nothing and counts as no bits.
    if (a > 255 || b > 255 || c > 255) {
      throw exception("InvalidCharacterError", "The string holds a character above 255");
    }
    const bits = (a << 16) | (b << 8) | c;
    encoded += BASE64[bits >> 18] + BASE64[(bits >> 12) & 63];
    encoded += index + 1 < text.length ? BASE64[(bits >> 6) & 63] : "=";
    encoded += index + 2 < text.length ? BASE64[bits & 63] : "=";
  }
  return encoded;
}

/** The six bits of each base64 character by its code, -1 for all others; made when first needed. */
let sextets = null;

function atob(data) {
  if (arguments.length === 0) throw new TypeError("atob takes a string");
  let text = `${data}`.replace(/[\t\n\f\r ]+/g, "");
  if (text.length % 4 === 0) text = text.replace(/={1,2}$/, "");
  if (text.length % 4 === 1) throw exception("InvalidCharacterError", "The string is not base64");
  if (sextets === null) {
    sextets = new Int8Array(128).fill(-1);
    for (let index = 0; index < 64; index++) sextets[BASE64.charCodeAt(index)] = index;
  }
  let decoded = "";
  let bits = 0;
  let held = 0;
  for (let index = 0; index < text.length; index++) {
    const six = sextets[text.charCodeAt(index)] ?? -1;
    if (six < 0) throw exception("InvalidCharacterError", "The string is not base64");
    bits = ((bits << 6) | six) & 0xffff;
    held += 6;
    if (held >= 8) {
      held -= 8;
      decoded += String.fromCharCode((bits >> held) & 255);
    }
  }
  return decoded;
}

function randomUUID() {
  const bytes = native.randomBytes(16);
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  let uuid = "";
  for (let index = 0; index < 16; index++) {
    if (index === 4 || index === 6 || index === 8 || index === 10) uuid += "-";
    uuid += (bytes[index] + 0x100).toString(16).slice(1);
  }
  return uuid;
}

function getRandomValues(array) {
  const tag = ArrayBuffer.isView(array) ? array[Symbol.toStringTag] : "";
  if (!/^(?:Big)?U?[Ii]nt(?:8|16|32|64)(?:Clamped)?Array$/.test(tag)) {
    throw exception("TypeMismatchError", "getRandomValues takes a typed array of integers");
  }
  if (array.byteLength > RANDOM_BYTES_MAX) {
    throw exception("QuotaExceededError", `getRandomValues gives ${RANDOM_BYTES_MAX} bytes at most`);
  }
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength).set(native.randomBytes(array.byteLength));
  return array;
}

export function install(natives) {
  native = natives;
  const crypto = { randomUUID, getRandomValues };
  Object.defineProperty(crypto, Symbol.toStringTag, { value: "Crypto", configurable: true });
  return { TextEncoder, TextDecoder, atob, btoa, crypto };
}
