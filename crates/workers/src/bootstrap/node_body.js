// Bodies of a Node worker: what requests and responses share. A body stays what it was given as until somebody asks for more.

"use strict";

const { Readable, isDisturbed } = require("node:stream");

const { owned } = require("./node_headers.cjs");

/** All bytes of a readable of Node's. */
function collected(readable) {
  return new Promise((resolve, reject) => {
    const chunks = [];
    readable.on("data", (chunk) => chunks.push(chunk));
    readable.on("end", () => resolve(chunks.length === 1 ? chunks[0] : Buffer.concat(chunks)));
    readable.on("error", reject);
    readable.on("close", () => reject(new DOMException("the caller left before the body was whole", "AbortError")));
  });
}

/** All bytes of a web stream. */
async function drained(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(typeof chunk === "string" ? Buffer.from(chunk) : chunk);
  return Buffer.concat(chunks);
}

/** A web stream that gives these bytes. */
function streamOf(bytes) {
  return new ReadableStream({
    type: "bytes",
    start(controller) {
      // A copy: who reads the stream may take the memory along.
      if (bytes.length > 0) controller.enqueue(new Uint8Array(bytes));
      controller.close();
    },
  });
}

/** Gives the body of a message away, as what it is made of. */
let take;
/** The body of a message for a copy; both may be read. */
let split;

/** What requests and responses share: a body that is read once. */
class Message {
  /** `null`, a string, a Uint8Array, a Blob, a readable of Node's or a web stream. */
  #source;
  /** What `body` showed; from then on it is the source. */
  #stream = null;
  #isUsed = false;

  constructor(source) {
    this.#source = source;
  }

  get body() {
    const source = this.#source;
    if (source === null) return null;
    if (this.#stream) return this.#stream;
    if (source instanceof ReadableStream) this.#stream = source;
    else if (source instanceof Readable) this.#stream = Readable.toWeb(source);
    else if (source instanceof Blob) this.#stream = source.stream();
    else this.#stream = streamOf(typeof source === "string" ? Buffer.from(source) : source);
    if (this.#isUsed) this.#stream.cancel().catch(() => {});
    return this.#stream;
  }

  get bodyUsed() {
    return this.#isUsed || (this.#stream !== null && isDisturbed(this.#stream));
  }

  static {
    take = (message) => {
      const stream = message.#stream ?? (message.#source instanceof ReadableStream ? message.#source : null);
      if (message.#isUsed || (stream && (stream.locked || isDisturbed(stream)))) {
        throw new TypeError("the body was read already");
      }
      message.#isUsed = message.#source !== null;
      return stream ?? message.#source;
    };
    split = (message) => {
      const source = message.#stream ?? message.#source;
      if (message.bodyUsed || source?.locked) throw new TypeError("the body was read already");
      if (!(source instanceof ReadableStream || source instanceof Readable)) return source;
      const [mine, other] = message.body.tee();
      message.#source = message.#stream = mine;
      return other;
    };
  }

  async bytes() {
    const source = take(this);
    if (source === null) return new Uint8Array(0);
    if (typeof source === "string") return Buffer.from(source);
    if (source instanceof Uint8Array) return source;
    if (source instanceof Readable) return collected(source);
    if (source instanceof Blob) return new Uint8Array(await source.arrayBuffer());
    return drained(source);
  }

  async text() {
    const bytes = await this.bytes();
    // As a decoder would: a byte order mark is no text.
    const start = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 3 : 0;
    return Buffer.from(bytes.buffer, bytes.byteOffset + start, bytes.byteLength - start).toString();
  }

  async json() {
    return JSON.parse(await this.text());
  }

  async arrayBuffer() {
    const bytes = await this.bytes();
    const { buffer, byteOffset, byteLength } = bytes;
    return byteLength === buffer.byteLength ? buffer : buffer.slice(byteOffset, byteOffset + byteLength);
  }

  async blob() {
    return new Blob([await this.bytes()], { type: this.headers.get("content-type") ?? "" });
  }

  async formData() {
    const type = this.headers.get("content-type") ?? "";
    return new (owned("Response"))(await this.bytes(), { headers: { "content-type": type } }).formData();
  }
}

module.exports = { Message, split, take };
