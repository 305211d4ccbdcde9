// What Lambda's Node has for functions that stream their answers: the global `awslambda`, and the stream that such a
// handler writes to. Loaded by both bootstraps, when a function touches it. Knows no wire: a sink takes what was written.

"use strict";

const { Writable, finished } = require("node:stream");

/** How Lambda marks a handler that streams; wrappers of other packages look for it. */
const STREAMING = Symbol.for("aws.lambda.runtime.handler.streaming");
const HIGH_WATER_MARK = Symbol.for("aws.lambda.runtime.handler.streaming.highWaterMark");

/** The content type of an answer that begins with its own status and headers. */
const WITH_HEAD = "application/vnd.awslambda.http-integration-response";

/** What lies between such a beginning and the body, and how long the beginning may be. */
const END_OF_HEAD = Buffer.alloc(8);
const HEAD_MAX = 16384;

/** Sets the head of a stream. */
let setHead;

/**
 * What a handler writes its answer to. The sink has `head(kind, status, pairs)`, which is called once and first,
 * `write(bytes, done)`, `end()` and `left()`.
 */
class ResponseStream extends Writable {
  #sink;
  #type = "application/octet-stream";
  #head = null;
  #isOpen = false;
  /** What was written while its own head was not whole yet. */
  #beginning = null;

  constructor(sink, highWaterMark) {
    super({ highWaterMark });
    this.#sink = sink;
    // Whoever writes on after the caller left must not end the worker by an error that nobody hears.
    this.on("error", () => {});
  }

  /** The content type, before the first byte. */
  setContentType(type) {
    this.#type = String(type);
  }

  /** Whether anything of the answer is out. */
  get isOpen() {
    return this.#isOpen;
  }

  write(chunk, encoding, callback) {
    const isPlain = typeof chunk === "string" || chunk instanceof Uint8Array;
    return super.write(isPlain ? chunk : JSON.stringify(chunk), encoding, callback);
  }

  _write(chunk, _encoding, done) {
    try {
      const bytes = this.#open(chunk);
      if (bytes === null || bytes.length === 0) done();
      else this.#sink.write(bytes, done);
    } catch (thrown) {
      done(thrown);
    }
  }

  _final(done) {
    try {
      this.#open(null);
      this.#sink.end();
      done();
    } catch (thrown) {
      done(thrown);
    }
  }

  _destroy(error, done) {
    this.#sink.left?.();
    done(error);
  }

  /** Sends the head as soon as it is known; answers with what of `bytes` belongs to the body. */
  #open(bytes) {
    if (this.#isOpen) return bytes;
    if (this.#head === null && this.#type === WITH_HEAD) {
      this.#beginning = Buffer.concat([this.#beginning ?? Buffer.alloc(0), bytes ?? Buffer.alloc(0)]);
      const end = this.#beginning.indexOf(END_OF_HEAD);
      if (end > HEAD_MAX || (end < 0 && this.#beginning.length > HEAD_MAX)) {
        throw new RangeError(`the head of the answer is longer than ${HEAD_MAX} bytes`);
      }
      if (end < 0 && bytes !== null) return null;
      if (end < 0) throw new TypeError(`an answer of type ${WITH_HEAD} begins with JSON and 8 NUL bytes; this one ended before`);
      this.#head = JSON.parse(this.#beginning.subarray(0, end));
      bytes = this.#beginning.subarray(end + END_OF_HEAD.length);
    }
    const [kind, status, pairs] = this.#head === null ? ["stream", 200, [["content-type", this.#type]]] : answerOf(this.#head);
    this.#sink.head(kind, status, pairs);
    this.#isOpen = true;
    return bytes;
  }

  static {
    setHead = (stream, head) => {
      if (stream.#isOpen) throw new TypeError("the answer has begun already: its head comes before the first write");
      stream.#head = head;
    };
  }
}

/** Status and headers of a head as Lambda has it. */
function answerOf(head) {
  const status = head.statusCode ?? 200;
  if (!Number.isInteger(status) || status < 200 || status > 599) {
    throw new RangeError(`\`statusCode\` lies between 200 and 599; this is ${status}`);
  }
  const pairs = [];
  for (const [name, value] of Object.entries(head.headers ?? {})) {
    for (const one of Array.isArray(value) ? value : [value]) pairs.push([name.toLowerCase(), String(one)]);
  }
  for (const cookie of head.cookies ?? []) pairs.push(["set-cookie", String(cookie)]);
  return ["response", status, pairs];
}

/** Calls a handler that streams, and waits until its answer is out. What it throws is thrown. */
async function call(handler, event, context, sink) {
  const stream = new ResponseStream(sink, handler[HIGH_WATER_MARK]);
  sink.onLeave?.(() => stream.destroy(new Error("the caller left before the answer was whole")));
  const written = new Promise((resolve, reject) => {
    finished(stream, { readable: false }, (error) => (error ? reject(error) : resolve()));
  });
  // It is waited for below, unless the handler throws first.
  written.catch(() => {});
  try {
    await handler(event, stream, context);
    await written;
  } catch (thrown) {
    if (!stream.destroyed) stream.destroy();
    throw thrown;
  }
}

const awslambda = {
  /** Marks a handler `(event, responseStream, context)` as one that streams. */
  streamifyResponse(handler, options) {
    handler[STREAMING] = "response";
    if (options?.highWaterMark !== undefined) handler[HIGH_WATER_MARK] = parseInt(options.highWaterMark, 10);
    return handler;
  },
  HttpResponseStream: {
    /** The same stream, with a status and headers: `{ statusCode, headers, cookies }`. */
    from(stream, metadata) {
      if (!(stream instanceof ResponseStream)) throw new TypeError("HttpResponseStream.from takes the stream that the handler was given");
      answerOf(metadata ?? {});
      setHead(stream, metadata ?? {});
      return stream;
    },
  },
};

module.exports = { awslambda, call };
