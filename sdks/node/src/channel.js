// One end's connection to a channel: introduces itself, keeps its lease, comes back when the connection breaks.
// What is said on it is the business of host.js and session.js.

"use strict";

const { EventEmitter } = require("node:events");
const { WebSocket } = require("ws");
const { KIND, BadFrame, HEADER, PAYLOAD_MAX, control, decode, isOfAttempt, parseObject } = require("./frame");
const { moment, since } = require("./clock");

const PROTOCOL = "bungee.live.1";
/** Milliseconds until an attempt to connect is given up. */
const HANDSHAKE = 5000;
/** Milliseconds between attempts to connect: the first, and the longest. They double, and vary by half. */
const RETRY_FIRST = 100;
const RETRY_LAST = 3000;
/** Milliseconds until a channel that refused us is asked again; only hosts ask again. */
const RETRY_REFUSED = 60_000;
/** Heartbeats without an answer after which the connection is taken for broken. */
const MISSED = 3;
/** The lease ends earlier here than at the channel, by this part of it. */
const EARLIER = 0.02;

/** @typedef {{type: string, message: string, hint?: string}} Refusal */

/**
 * Emits `welcome` (welcome, isResumed), `alive` (n) when a heartbeat was answered, `control` (kind, payload), `frame` (head, body), `down` (why) when the connection breaks,
 * `lapsed` (why) when nothing that was begun may go on, and `refused` ({type, message, hint}) when the channel will not have us.
 */
class Channel extends EventEmitter {
  /** @param {{url: string, token?: string | null, hello: object, staysWhenRefused: boolean}} options */
  constructor({ url, token, hello, staysWhenRefused }) {
    super();
    this.url = url;
    this.token = token;
    this.hello = hello;
    this.staysWhenRefused = staysWhenRefused;
    this.welcome = null;
    /** @type {WebSocket | null} */
    this.socket = null;
    /** @type {import("node:net").Socket | null} */
    this.transport = null;
    this.isRefed = true;
    this.isClosed = false;
    this.key = null;
    this.wait = RETRY_FIRST;
    this.timers = { retry: null, beat: null, look: null };
    this.beats = new Map();
    this.beat = 0;
    this.lease = moment();
    this.leaseMs = 5000;
    this.refusal = null;
    this.helloAt = moment();
  }

  get isUp() {
    return this.welcome !== null;
  }

  connect() {
    clearTimeout(this.timers.retry);
    if (this.isClosed) return;
    const headers = this.token ? { authorization: `Bearer ${this.token}` } : {};
    const options = { headers, handshakeTimeout: HANDSHAKE, maxPayload: HEADER + PAYLOAD_MAX, perMessageDeflate: false, followRedirects: false };
    const socket = new WebSocket(this.url, PROTOCOL, options);
    this.socket = socket;
    this.refusal = null;
    const mine = (handle) => (...values) => void (this.socket === socket && handle(...values));
    let why = "the connection closed";
    socket.on("upgrade", mine((response) => {
      this.transport = response.socket;
      this.applyRef();
    }));
    socket.on("open", mine(() => this.introduce()));
    socket.on("message", mine((data, isBinary) => this.take(data, isBinary)));
    socket.on("unexpected-response", mine((_, response) => {
      this.readRefusal(response, mine((refusal) => {
        this.refuse(refusal);
        this.broke(refusal.message);
        socket.terminate();
      }));
    }));
    socket.on("error", mine((error) => (why = error.message || error.code || why)));
    socket.on("close", mine(() => this.broke(why)));
    // A socket that was replaced may still fail; nobody cares.
    socket.on("error", () => {});
  }

  introduce() {
    this.helloAt = moment();
    const resume = this.key === null ? {} : { resume: this.key };
    this.socket.send(control(KIND.Hello, { ...this.hello, ...resume }));
  }

  /** @param {Buffer} data */
  take(data, isBinary) {
    if (this.checkLease()) return;
    try {
      if (!isBinary) throw new BadFrame("a message of text");
      const { head, body } = decode(data);
      if (isOfAttempt(head.kind)) return void this.emit("frame", head, body);
      this.control(head.kind, parseObject(body));
    } catch (error) {
      if (!(error instanceof BadFrame)) throw error;
      this.cut(`the channel sent what is no frame: ${error.message}`);
    }
  }

  control(kind, payload) {
    if (kind === KIND.Welcome) return this.begin(payload);
    if (kind === KIND.Fatal) return this.refuse({ type: String(payload.type), message: String(payload.message), hint: payload.hint });
    if (kind !== KIND.Alive) return void this.emit("control", kind, payload);
    const sent = this.beats.get(payload.n);
    if (sent) this.lease = sent;
    this.watchLease();
    for (const n of this.beats.keys()) if (n <= payload.n) this.beats.delete(n);
    this.emit("alive", payload.n);
  }

  begin(welcome) {
    const isResumed = welcome.resumed === true;
    if (this.key !== null && !isResumed) this.emit("lapsed", "the channel had given it up");
    this.key = String(welcome.key);
    this.welcome = welcome;
    this.lease = this.helloAt;
    this.leaseMs = (welcome.lease_ms ?? 5000) * (1 - EARLIER);
    this.wait = RETRY_FIRST;
    this.beats.clear();
    this.timers.beat = setInterval(() => this.pulse(), welcome.heartbeat_ms ?? 1000);
    this.watchLease();
    this.emit("welcome", welcome, isResumed);
  }

  /** A connection on which nothing is answered is no connection: a new one may still resume what this one held. */
  pulse() {
    if (this.beats.size >= MISSED) this.cut("the channel does not answer");
    else this.heartbeat();
  }

  /** @returns {number} the number that its answer will say */
  heartbeat() {
    this.beats.set(++this.beat, moment());
    this.sendControl(KIND.Heartbeat, { n: this.beat });
    return this.beat;
  }

  watchLease() {
    clearTimeout(this.timers.look);
    const look = () => this.checkLease() || this.watchLease();
    this.timers.look = setTimeout(look, Math.max(1, this.leaseMs - since(this.lease)));
    this.applyRef();
  }

  /** Whether the lease ran out: nothing that was begun under it may go on. The channel's own clock runs out later. */
  checkLease() {
    if (this.key === null || since(this.lease) < this.leaseMs) return false;
    this.key = null;
    clearTimeout(this.timers.look);
    this.emit("lapsed", "the channel was not heard for too long");
    if (this.isUp) this.cut("the lease ran out");
    return true;
  }

  /** Ends a connection that cannot be trusted any more; a new one follows. */
  cut(why) {
    const socket = this.socket;
    this.broke(why);
    socket.terminate();
  }

  broke(why) {
    /** @type {WebSocket | null} */
    this.socket = null;
    /** @type {import("node:net").Socket | null} */
    this.transport = null;
    this.welcome = null;
    clearInterval(this.timers.beat);
    const refusal = this.refusal;
    this.emit("down", refusal?.message ?? why);
    if (this.isClosed || (refusal && !this.staysWhenRefused)) return;
    const wait = refusal ? RETRY_REFUSED : this.wait * (0.75 + Math.random() / 2);
    this.wait = Math.min(this.wait * 2, RETRY_LAST);
    this.timers.retry = setTimeout(() => this.connect(), wait);
    this.applyRef();
  }

  /** A word of refusal, out of the answer to the handshake. */
  readRefusal(response, done) {
    const chunks = [];
    response.on("data", (chunk) => chunks.length < 16 && chunks.push(chunk));
    response.on("error", () => {});
    response.on("close", () => {
      let said;
      try {
        said = JSON.parse(Buffer.concat(chunks).toString()).error;
      } catch {
        said = undefined;
      }
      const message = said?.message ?? `the server answered ${response.statusCode} to ${this.url}`;
      done({ type: said?.type ?? `Status${response.statusCode}`, message, hint: said?.hint, status: response.statusCode });
    });
  }

  refuse(refusal) {
    // A server that starts or drains answers 5xx: no refusal, only too early.
    if (refusal.status >= 500) return;
    this.refusal = refusal;
    this.emit("refused", refusal);
  }

  /** What is sent while there is no connection is lost; what matters is sent again. @param {Buffer} frame */
  send(frame) {
    if (this.isUp && this.socket.readyState === WebSocket.OPEN) this.socket.send(frame);
  }

  sendControl(kind, payload) {
    this.send(control(kind, payload));
  }

  /** Whether the connection keeps the process alive. */
  ref(isRefed) {
    this.isRefed = isRefed;
    this.applyRef();
  }

  applyRef() {
    const verb = this.isRefed ? "ref" : "unref";
    for (const held of [this.transport, ...Object.values(this.timers)]) held?.[verb]?.();
  }

  /** Says goodbye, and ends. @returns {Promise<void>} */
  close(why) {
    if (this.isClosed) return Promise.resolve();
    this.isClosed = true;
    this.sendControl(KIND.Goodbye, { why });
    for (const timer of Object.values(this.timers)) clearTimeout(timer);
    const socket = this.socket;
    if (!socket) return Promise.resolve();
    return new Promise((resolve) => {
      socket.once("close", () => resolve());
      socket.close(1000);
      setTimeout(() => socket.terminate(), 500).unref();
    });
  }
}

module.exports = { Channel };
