// Every attempt that one end has a part in, and what it remembers of those that are over.

"use strict";

const { performance } = require("node:perf_hooks");
const { KIND, UNNUMBERED, BadFrame, encode, parseObject } = require("./frame");
const { Flow } = require("./flow");

/** How long acknowledgements wait for something that carries them, in milliseconds. */
const ACK_DELAY = 10;
/** How often is looked for what has to be sent again, in milliseconds. */
const SWEEP = 250;
/** Attempts that are over and still known, so that a late frame is not taken for a new one. */
const REMEMBERED = 4096;
/** How long the end of an attempt may wait for its acknowledgement, in milliseconds. */
const LINGER = 30_000;

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
    const entry = { flow, part: makePart(flow), isFinished: false };
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

  settle({ flow, isFinished }) {
    if (isFinished && (flow.isSettled || flow.silence > LINGER)) this.forget(flow);
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
    if (head.index === UNNUMBERED) return;
    const ack = this.over.get(keyOf(head));
    if (ack !== undefined) return this.reply(head, KIND.Ack, ack);
    if (head.kind === KIND.Offer && head.index === 0 && this.onOffer) return this.onOffer(head, body);
    this.reply(head, KIND.Unknown, 0);
  }

  reply(head, kind, ack) {
    this.send(encode({ ...head, kind, flags: 0, index: UNNUMBERED, count: 1, ack, window: 0 }));
  }

  acknowledge() {
    this.ackTimer = null;
    for (const { flow } of this.open.values()) flow.acknowledge();
  }

  sweep() {
    for (const entry of this.open.values()) {
      entry.flow.resend();
      this.settle(entry);
    }
  }

  /** The connection is new. */
  resume() {
    for (const { flow } of this.open.values()) flow.resendAll();
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
  const opened = flow.sealer ? flow.sealer.openLoose(head, body) : body;
  if (opened === null || !part.log) return;
  try {
    part.log(parseObject(opened).lines);
  } catch (error) {
    if (!(error instanceof BadFrame)) throw error;
  }
}

module.exports = { Attempts };
