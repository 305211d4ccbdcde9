// Every attempt that one end has a part in, and what it remembers of those that are over.

"use strict";

const { performance } = require("node:perf_hooks");
const { FLAG, KIND, UNNUMBERED, BadFrame, encode, parseObject } = require("./frame");
const { Flow, WINDOW } = require("./flow");

/** How long acknowledgements wait for something that carries them, in milliseconds. */
const ACK_DELAY = 10;
/** How often is looked for what has to be sent again, in milliseconds. */
const SWEEP = 250;
/** Attempts that are over and still known, so that a late frame is not taken for a new one. */
const REMEMBERED = 4096;
/** How long the end of an attempt may wait for its acknowledgement, in milliseconds. */
const LINGER = 30_000;

/** Milliseconds until a withdrawal is said again; doubles. */
const AGAIN_FIRST = 500;
const AGAIN_LAST = 4000;
/** With these a host says that an attempt is over; unnumbered, for they must arrive where nothing is read any more. */
/** @type {Set<number>} */
const STOPS = new Set([KIND.Withdrawn, KIND.Cancel]);

/**
 * @typedef {object} Part what an end does with the frames of one attempt
 * @property {(message: import("./flow").Message) => void} message
 * @property {(why: string) => void} lost the other end is gone, or forgot it, or breaks the rules
 * @property {(lines: any) => void} [log]
 */

class Attempts {
  /** @param {(frame: Buffer) => void} send @param {(head: import("./frame").Head, body: Buffer) => void} [onOffer] */
  constructor(send, onOffer) {
    this.send = send;
    this.onOffer = onOffer;
    this.open = new Map();
    this.over = new Map();
    this.ackTimer = null;
    this.sweeper = null;
  }

  /** A new attempt. @param {{id: Buffer, attempt: number, peer: number, sealer?: any, deflate?: boolean}} of @param {(flow: Flow) => Part} makePart */
  begin(of, makePart) {
    const flow = new Flow({ ...of, emit: this.send, now: () => performance.now() });
    const entry = { flow, part: makePart(flow), isFinished: false, dismissed: null };
    this.open.set(keyOf(of), entry);
    this.sweeper ??= setInterval(() => this.sweep(), SWEEP).unref();
    return flow;
  }

  /** Its part is played; it stays until the other end has all of it. @param {Flow} flow */
  finish(flow) {
    const entry = this.open.get(keyOf(flow));
    if (!entry || entry.flow !== flow || entry.isFinished) return;
    entry.isFinished = true;
    flow.acknowledge();
    this.settle(entry);
  }

  /** Ends an attempt that the session may still believe in; said until it knows nothing of it. @param {Flow} flow @param {number} kind */
  dismiss(flow, kind, why) {
    const entry = this.open.get(keyOf(flow));
    if (!entry || entry.flow !== flow || entry.isFinished) return;
    entry.isFinished = true;
    entry.dismissed = { kind, why, since: performance.now(), at: 0, wait: AGAIN_FIRST };
    this.dismissAgain(entry);
  }

  dismissAgain({ flow, dismissed }) {
    dismissed.at = performance.now() + dismissed.wait;
    dismissed.wait = Math.min(dismissed.wait * 2, AGAIN_LAST);
    flow.sendOnce(dismissed.kind, { why: dismissed.why });
  }

  /** The host says that it is over. */
  stop(entry, head, body) {
    let why = "it is not wanted any more";
    try {
      if (!(head.flags & FLAG.SEALED)) why = String(parseObject(body).why ?? why);
    } catch (error) {
      if (!(error instanceof BadFrame)) throw error;
    }
    this.lose(entry, why);
    this.reply(head, KIND.Unknown, 0);
  }

  settle({ flow, isFinished, dismissed }) {
    if (isFinished && !dismissed && (flow.isSettled || flow.silence > LINGER)) this.forget(flow);
  }

  forget(flow) {
    const key = keyOf(flow);
    this.open.delete(key);
    this.over.set(key, flow.expected);
    if (this.over.size > REMEMBERED) this.over.delete(this.over.keys().next().value);
    if (this.open.size === 0) this.stopSweeping();
  }

  stopSweeping() {
    clearInterval(this.sweeper);
    this.sweeper = null;
  }

  /** A frame of an attempt came. @param {import("./frame").Head} head @param {Buffer} body */
  take(head, body) {
    const entry = this.open.get(keyOf(head));
    if (!entry) return this.takeStray(head, body);
    if (head.kind === KIND.Unknown) return this.lose(entry, "the other end does not know this invocation any more");
    if (STOPS.has(head.kind)) return this.stop(entry, head, body);
    if (entry.dismissed) return void (head.index !== UNNUMBERED && this.dismissAgain(entry));
    if (head.kind === KIND.Log) return takeLog(entry, head, body);
    try {
      for (const message of entry.flow.receive(head, body)) {
        if (entry.isFinished) entry.flow.consumed(message.frames);
        else entry.part.message(message);
      }
    } catch (error) {
      if (!(error instanceof BadFrame)) throw error;
      this.lose(entry, `the other end broke the protocol: ${error.message}`);
    }
    this.settle(entry);
    this.ackTimer ??= setTimeout(() => this.acknowledge(), ACK_DELAY).unref();
  }

  takeStray(head, body) {
    const isStop = STOPS.has(head.kind);
    if (head.index === UNNUMBERED && !isStop) return;
    if (isStop) return this.reply(head, KIND.Unknown, 0);
    const ack = this.over.get(keyOf(head));
    if (ack !== undefined) return this.reply(head, KIND.Ack, ack);
    if (head.kind === KIND.Offer && head.index === 0 && this.onOffer) return this.onOffer(head, body);
    if (this.onOffer) this.reply(head, KIND.Unknown, 0);
    else this.reply(head, KIND.Withdrawn, 0, { why: "it is over" });
  }

  reply(head, kind, ack, said = {}) {
    const body = kind === KIND.Ack ? undefined : Buffer.from(JSON.stringify(said));
    this.send(encode({ ...head, kind, flags: 0, index: UNNUMBERED, count: 1, ack, window: WINDOW }, body));
  }

  acknowledge() {
    this.ackTimer = null;
    for (const { flow, dismissed } of this.open.values()) if (!dismissed) flow.acknowledge();
  }

  sweep() {
    const now = performance.now();
    for (const entry of this.open.values()) {
      const { dismissed } = entry;
      if (!dismissed) entry.flow.resend();
      else if (now - dismissed.since > LINGER) this.forget(entry.flow);
      else if (dismissed.at <= now) this.dismissAgain(entry);
      this.settle(entry);
    }
  }

  /** The connection is new. */
  resume() {
    for (const entry of this.open.values()) {
      if (entry.dismissed) this.dismissAgain(entry);
      else entry.flow.resume();
    }
  }

  lose(entry, why) {
    this.forget(entry.flow);
    if (!entry.isFinished) entry.part.lost(why);
  }

  /** One other end is gone, or with `null` every one. */
  loseAll(peer, why) {
    for (const entry of [...this.open.values()]) {
      if (peer === null || entry.flow.peer === peer) this.lose(entry, why);
    }
  }

  close() {
    clearTimeout(this.ackTimer);
    this.stopSweeping();
  }
}

function keyOf({ peer, attempt, id }) {
  return `${peer}/${attempt}/${id.toString("hex")}`;
}

function takeLog({ flow, part }, head, body) {
  const opened = flow.sealer ? flow.sealer.open(head, body) : body;
  if (opened === null || !part.log) return;
  try {
    part.log(parseObject(opened).lines);
  } catch (error) {
    if (!(error instanceof BadFrame)) throw error;
  }
}

module.exports = { Attempts };
