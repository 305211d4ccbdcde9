// One attempt's frames, both directions: numbered, cut, acknowledged, sent again, put back together.
// Knows no connection and no clock: who owns it hands both in.

"use strict";

const zlib = require("node:zlib");
const { FLAG, KIND, UNNUMBERED, BadFrame, encode } = require("./frame");

/** Payload of one frame; sealing adds 28 bytes. */
const CHUNK = 128 * 1024;
/** Frames that may be on their way without having been acknowledged, and that may wait out of order. */
const WINDOW = 8;
/** Frames after which an acknowledgement goes out at once. */
const ACK_SOON = 4;
/** The count of an acknowledgement that asks for one, and for all that has not been acknowledged. */
const ASKS = 2;
/** Largest message, before and after compression. */
const MESSAGE_MAX = 8 * 1024 * 1024;
/** A body is cut into messages of this size, so that none has to be held whole. */
const PIECE = 1024 * 1024;
/** What is smaller is not worth compressing. */
const WORTH_DEFLATING = 1024;
/** Milliseconds until an unacknowledged frame goes out again; doubles. */
const RESEND_FIRST = 500;
const RESEND_LAST = 4000;

/**
 * @typedef {object} Message
 * @property {number} kind
 * @property {number} flags
 * @property {Buffer} payload
 * @property {number} frames how many frames it took; given back with `consumed`
 */

class Flow {
  /**
   * @param {object} options
   * @param {Buffer} options.id
   * @param {number} options.attempt
   * @param {number} options.peer
   * @param {(frame: Buffer) => void} options.emit
   * @param {import("./seal").Sealer | null} [options.sealer]
   * @param {boolean} [options.deflate]
   * @param {() => number} options.now milliseconds of any clock that only goes forward
   */
  constructor({ id, attempt, peer, emit, sealer = null, deflate = false, now }) {
    this.id = Buffer.from(id);
    this.attempt = attempt;
    this.peer = peer;
    this.emit = emit;
    this.sealer = sealer;
    this.deflate = deflate;
    this.now = now;
    /** Frames not yet acknowledged, oldest first: `base` is the first one's index, `sent` the first that never went out. */
    this.out = [];
    this.base = 0;
    this.sent = 0;
    this.limit = WINDOW;
    this.waiting = [];
    this.expected = 0;
    this.held = new Map();
    this.partial = null;
    this.unconsumed = 0;
    this.owesAck = false;
    this.saidAck = 0;
    this.wait = RESEND_FIRST;
    this.quietSince = now();
    this.heardAt = now();
  }

  /** Queues one message, and sends what may go. @param {number} kind @param {object | Buffer} payload */
  send(kind, payload, flags = 0) {
    let bytes = Buffer.isBuffer(payload) ? payload : Buffer.from(JSON.stringify(payload));
    if (bytes.length > MESSAGE_MAX) throw new RangeError(`a message of ${bytes.length} bytes is larger than the limit of ${MESSAGE_MAX}`);
    if (this.deflate && bytes.length >= WORTH_DEFLATING) {
      const small = zlib.deflateRawSync(bytes, { level: 1 });
      if (small.length < bytes.length) [bytes, flags] = [small, flags | FLAG.DEFLATED];
    }
    if (this.sealer) flags |= FLAG.SEALED;
    const count = Math.max(1, Math.ceil(bytes.length / CHUNK));
    for (let place = 0; place < count; place++) {
      const index = this.base + this.out.length;
      const head = { kind, flags, id: this.id, attempt: this.attempt, index, count: count - place, ack: 0, window: 0, peer: this.peer };
      const chunk = bytes.subarray(place * CHUNK, (place + 1) * CHUNK);
      this.out.push({ head, body: this.sealer ? this.sealer.seal(head, chunk) : chunk });
    }
    this.pump();
  }

  /** A body of any size, as messages; waits while too much of it is on its way. @param {Buffer} bytes */
  async sendBody(bytes, isLast) {
    let at = 0;
    do {
      await this.room();
      const piece = bytes.subarray(at, at + PIECE);
      at += piece.length;
      this.send(KIND.Body, piece, isLast && at >= bytes.length ? FLAG.LAST : 0);
    } while (at < bytes.length);
  }

  /** Unnumbered, best effort. @param {number} kind @param {object | Buffer} payload */
  sendOnce(kind, payload, count = 1) {
    let body = Buffer.isBuffer(payload) ? payload : Buffer.from(JSON.stringify(payload));
    const head = { kind, flags: 0, id: this.id, attempt: this.attempt, index: UNNUMBERED, count, ack: 0, window: 0, peer: this.peer };
    if (this.sealer && kind === KIND.Log) {
      head.flags = FLAG.SEALED;
      body = this.sealer.seal(head, body);
    }
    this.stamp(head);
    this.emit(encode(head, body));
  }

  /** Resolves when a further message would not wait behind too many. */
  room() {
    if (this.out.length < 2 * WINDOW) return Promise.resolve();
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  /** Drops the messages of which nothing has gone out: nobody wants them any more. */
  dropUnsent() {
    const rest = (this.out[this.sent - this.base - 1]?.head.count ?? 1) - 1;
    this.out.length = Math.min(this.out.length, this.sent - this.base + rest);
    this.wake();
  }

  pump() {
    for (let place = this.sent - this.base; place < this.out.length; place++) {
      const frame = this.out[place];
      if (frame.head.index >= this.limit) break;
      this.transmit(frame);
      this.sent = frame.head.index + 1;
    }
  }

  transmit(frame) {
    this.stamp(frame.head);
    this.quietSince = this.now();
    this.emit(encode(frame.head, frame.body));
  }

  stamp(head) {
    head.ack = this.expected;
    head.window = Math.max(0, WINDOW - this.unconsumed);
    this.saidAck = this.expected;
    this.owesAck = false;
  }

  /** What went out and was not acknowledged goes out again, if it is time. Called now and then. */
  resend() {
    if (this.isSettled || this.now() - this.quietSince < this.wait) return;
    this.wait = Math.min(this.wait * 2, RESEND_LAST);
    this.resendAll();
    // Nothing is on its way and nothing may go: word of the room for it was lost, perhaps.
    if (this.sent === this.base) this.ask();
  }

  resendAll() {
    for (let place = 0; place < this.sent - this.base; place++) this.transmit(this.out[place]);
    this.quietSince = this.now();
  }

  /** A connection is new: what either end may have missed goes out again. */
  resume() {
    this.resendAll();
    this.ask();
  }

  ask() {
    this.sendOnce(KIND.Ack, Buffer.alloc(0), ASKS);
  }

  /** An acknowledgement, if nothing else carried it. */
  acknowledge() {
    if (this.owesAck) this.sendOnce(KIND.Ack, Buffer.alloc(0));
  }

  /** Milliseconds for which what went out has not been acknowledged. */
  get silence() {
    return this.sent === this.base ? 0 : this.now() - this.heardAt;
  }

  /** Whether the other end has all that was sent. */
  get isSettled() {
    return this.out.length === 0;
  }

  /**
   * Takes a frame of the other end, and gives the messages that are whole now, in order.
   * @param {import("./frame").Head} head @param {Buffer} body @returns {Message[]}
   * @throws {BadFrame} where the other end breaks the rules, and the attempt cannot go on
   */
  receive(head, body) {
    this.heard(head.ack, head.window);
    if (head.index === UNNUMBERED) {
      if (head.count === ASKS) {
        this.owesAck = true;
        this.acknowledge();
        this.resendAll();
      }
      return [];
    }
    this.owesAck = true;
    const ahead = head.index - this.expected;
    if (ahead < 0 || ahead >= 2 * WINDOW || this.held.has(head.index)) return [];
    const isSealed = (head.flags & FLAG.SEALED) !== 0;
    if (isSealed !== (this.sealer !== null)) return [];
    const opened = this.sealer ? this.sealer.open(head, body) : body;
    if (opened === null) return [];
    this.held.set(head.index, { head, body: opened });
    const messages = [];
    for (let next; (next = this.held.get(this.expected)); ) {
      this.held.delete(this.expected++);
      const message = this.join(next.head, next.body);
      if (message) messages.push(message);
    }
    if (this.expected - this.saidAck >= ACK_SOON) this.acknowledge();
    return messages;
  }

  heard(ack, window) {
    if (ack > this.sent) return;
    if (ack > this.base) {
      this.out.splice(0, ack - this.base);
      this.base = ack;
      this.wait = RESEND_FIRST;
      this.quietSince = this.now();
    }
    this.heardAt = this.now();
    this.limit = Math.max(this.limit, ack + window);
    this.pump();
    this.wake();
  }

  wake() {
    while (this.waiting.length > 0 && this.out.length < 2 * WINDOW) this.waiting.shift()();
  }

  /** The next frame in order, put behind what there is of its message. */
  join(head, body) {
    const begun = this.partial;
    if (begun && (begun.kind !== head.kind || begun.flags !== head.flags || begun.left !== head.count)) {
      throw new BadFrame("frames of one message that do not fit together");
    }
    const partial = begun ?? { kind: head.kind, flags: head.flags, left: head.count, chunks: [], size: 0 };
    partial.chunks.push(body);
    partial.size += body.length;
    partial.left--;
    if (partial.size + partial.left > MESSAGE_MAX) throw new BadFrame(`a message is larger than the limit of ${MESSAGE_MAX} bytes`);
    this.partial = partial.left > 0 ? partial : null;
    if (this.partial) return null;
    const whole = partial.chunks.length === 1 ? partial.chunks[0] : Buffer.concat(partial.chunks);
    // Only bodies wait to be read; all else is used as it comes.
    const frames = head.kind === KIND.Body ? partial.chunks.length : 0;
    this.unconsumed += frames;
    return { kind: head.kind, flags: partial.flags, payload: inflate(partial.flags, whole), frames };
  }

  /** A message's bytes have been used: as many frames more may come. */
  consumed(frames) {
    const wasTight = this.unconsumed > WINDOW / 2;
    this.unconsumed -= frames;
    if (wasTight && this.unconsumed <= WINDOW / 2) this.sendOnce(KIND.Ack, Buffer.alloc(0));
  }
}

function inflate(flags, bytes) {
  if (!(flags & FLAG.DEFLATED)) return bytes;
  try {
    return zlib.inflateRawSync(bytes, { maxOutputLength: MESSAGE_MAX });
  } catch (error) {
    throw new BadFrame(`a compressed message cannot be read: ${error.message}`);
  }
}

module.exports = { Flow, WINDOW, MESSAGE_MAX, CHUNK };
