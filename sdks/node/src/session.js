// The developer's end: claims functions, runs what it accepted and was told to run, and leaves without a trace.

"use strict";

const { performance } = require("node:perf_hooks");
const { Attempts } = require("./attempts");
const { Channel } = require("./channel");
const { FLAG, KIND, BadFrame, parseObject } = require("./frame");
const { Flow, MESSAGE_MAX } = require("./flow");
const { Lines, listen } = require("./lines");
const { Pipe } = require("./pipe");
const { Sealer, keyId } = require("./seal");
const { faultOf } = require("./fault");

/** Offers of one host that are remembered, so that an old one cannot come back. */
const ORDINALS = 4096;
/** How long work in flight may take when the session ends, in milliseconds. */
const GRACE = 5000;
/** How long an accepted invocation waits for its go, in milliseconds. */
const GO_WAIT = 30_000;
/** What to set where the channel refuses a claim; its own hints speak of flags, which this program does not have. */
const NEXT = {
  ClaimHeld: "BUNGEE_TAKE_OVER=1 takes it over",
  NeedsAll: "BUNGEE_ALL=1 takes all, BUNGEE_WHEN=header:x-dev=NAME some",
};
/** Exit code of a program whose every claim was refused. */
const REFUSED = 6;

/**
 * @typedef {object} Work one invocation that runs here
 * @property {any} head the payload of Go
 * @property {any} offer the payload of Offer
 * @property {Pipe} body
 * @property {AbortSignal} signal
 * @property {() => number} remaining milliseconds until the deadline
 * @property {(status: number, headers: [string, string][]) => void} answer
 * @property {(bytes: Buffer, isLast: boolean) => Promise<void>} write
 * @property {Request} [request] a web handler's
 */

class Session {
  /** @param {import("./settings").Settings} settings @param {(line: string) => void} say */
  constructor(settings, say) {
    this.settings = settings;
    this.say = say;
    /** By their number in `Claim`: what this program claims, and how it runs it. */
    this.wishes = [];
    this.seen = new Map();
    this.running = new Set();
    this.isLeaving = false;
    /** Called when it has left. */
    this.onLeft = () => {};
    const hello = { role: "session", program: settings.program, developer: settings.developer, capabilities: ["deflate"] };
    if (settings.seal) hello.seal = keyId(settings.seal);
    this.channel = new Channel({ url: settings.url, token: settings.token, hello, staysWhenRefused: false });
    this.attempts = new Attempts((frame) => this.channel.send(frame), (head, body) => this.offered(head, body));
    this.listen();
    listen();
    this.channel.connect();
  }

  listen() {
    const { channel, attempts } = this;
    channel.on("welcome", (welcome, isResumed) => this.welcomed(welcome, isResumed));
    channel.on("control", (kind, payload) => this.control(kind, payload));
    channel.on("frame", (head, body) => {
      if (head.kind === KIND.Withdrawn) this.keptAway(body);
      attempts.take(head, body);
    });
    channel.on("down", (why) => this.down(why));
    channel.on("lapsed", (why) => this.abortAll(why));
    channel.on("refused", ({ type, message, hint }) => {
      this.say(`${type}: ${message}${hint ? ` (${hint})` : ""}`);
      process.exitCode ||= REFUSED;
    });
  }

  /** @param {string} name @param {any} claim @param {{kind: "event" | "web", run: (work: Work) => Promise<void>}} local */
  claim(name, claim, local) {
    const wish = { number: this.wishes.length + 1, name, claim, local, held: null, isOver: false };
    this.wishes.push(wish);
    if (this.channel.isUp) this.ask(wish);
  }

  ask({ number, name, claim }) {
    this.channel.sendControl(KIND.Claim, { ref: number, function: name, ...claim });
  }

  welcomed({ claims }, isResumed) {
    if (this.wasDown) this.say(isResumed ? "attached again; what runs here goes on" : "attached again");
    this.wasDown = false;
    if (isResumed) this.resumed(claims);
    else this.forget();
    for (const wish of this.wishes) if (wish.held === null && !wish.isOver) this.ask(wish);
  }

  /** What was held and is not any more was taken meanwhile. */
  resumed(claims) {
    this.attempts.resume();
    if (!Array.isArray(claims)) return;
    for (const { held } of this.wishes) {
      if (held !== null && !claims.includes(held)) this.taken({ claim: held, why: "taken while the channel could not be reached" });
    }
  }

  /** The channel knows nothing of what was before. */
  forget() {
    this.seen.clear();
    for (const wish of this.wishes) wish.held = null;
  }

  down(why) {
    if (!this.wasDown && !this.isLeaving && !this.channel.refusal) this.say(`the channel ${this.settings.url} cannot be reached (${why}); trying again`);
    this.wasDown = true;
  }

  control(kind, payload) {
    const wish = this.wishes[payload.ref - 1];
    if (kind === KIND.Claimed && wish) this.claimed(wish, payload);
    else if (kind === KIND.Refused && wish) this.refusedClaim(wish, payload);
    else if (kind === KIND.Taken) this.taken(payload);
    else if (kind === KIND.Gone) this.gone(payload);
    else if (kind === KIND.Goodbye) this.say(`the channel says goodbye: ${payload.why}`);
  }

  claimed(wish, { claim, deployed }) {
    wish.held = claim;
    // Once: whoever takes it from us keeps it, whatever becomes of the connection.
    wish.claim = { ...wish.claim, take_over: false };
    const rule = wish.claim.rule === "all" ? "" : ` (${wish.claim.rule})`;
    const waits = deployed === false ? "; nobody serves it there yet" : "";
    const what = wish.claim.mode === "observe" ? "copies of its invocations come here" : "its invocations run here";
    this.say(`${wish.name}${rule}: ${what} until this program ends${waits}`);
  }

  refusedClaim(wish, { type, message, hint, holder }) {
    const since = holder?.since_ms === undefined ? "" : `, since ${Math.round(holder.since_ms / 1000)} s`;
    const who = holder ? ` (held by ${holder.developer}${since})` : "";
    const next = NEXT[type] ?? hint;
    this.say(`${wish.name} was refused: ${message}${who}${next ? `; ${next}` : ""}`);
    wish.isOver = true;
    if (this.wishes.every((other) => other.isOver)) {
      process.exitCode ||= REFUSED;
      void this.close("every claim was refused");
    }
  }

  /** @param {{claim: number, by?: string, why?: string}} said */
  taken({ claim, by, why }) {
    const wish = this.wishes.find((wish) => wish.held === claim);
    if (!wish) return;
    this.say(`${wish.name}: ${why ?? "taken over"}${by ? ` by ${by}` : ""}; its invocations do not come here any more`);
    [wish.held, wish.isOver] = [null, true];
    if (this.wishes.every((other) => other.isOver)) void this.close("nothing is claimed any more");
  }

  gone({ peer, why }) {
    this.attempts.loseAll(peer, String(why ?? "its connection closed"));
    this.seen.delete(peer);
  }

  /** A host that has another key says so instead of offering; said on in our own words, for anybody on the channel can say it. */
  keptAway(body) {
    let seal;
    try {
      seal = parseObject(body).seal;
    } catch (error) {
      if (!(error instanceof BadFrame)) throw error;
    }
    if (typeof seal !== "string" || !/^[0-9a-f]{0,16}$/.test(seal)) return;
    const mine = this.settings.seal ? `yours is ${keyId(this.settings.seal)}` : "you have none";
    const line = `a host here seals with ${seal ? `the key ${seal}` : "no key"}, and ${mine}: its invocations run deployed`;
    if (this.said !== line) this.say(line);
    this.said = line;
  }

  /** A first frame of an attempt. What cannot be read is not answered: the host takes the deployed code. */
  offered(head, body) {
    const { seal } = this.settings;
    const of = { id: head.id, attempt: head.attempt, peer: head.peer };
    const session = String(this.channel.welcome?.session);
    const sealer = seal ? new Sealer({ key: seal, session, ...of }, "session") : null;
    if (!seal !== !(head.flags & FLAG.SEALED)) return this.declineUnread(of, seal ? "this session takes only what is sealed with its key" : "this session has no key");
    const taken = new Taken(this);
    taken.flow = this.attempts.begin({ ...of, sealer, deflate: false }, () => taken);
    this.attempts.take(head, body);
  }

  declineUnread(of, why) {
    const flow = new Flow({ ...of, emit: (frame) => this.channel.send(frame), now: () => performance.now() });
    flow.expected = 1;
    flow.send(KIND.Decline, { why });
    if (this.said !== why) this.say(`an invocation was declined: ${why}`);
    this.said = why;
  }

  /** Why an offer is declined; null: it is accepted. */
  objection(offer, peer) {
    const wish = this.wishes.find((wish) => wish.held !== null && wish.held === offer.claim);
    if (!wish) return "not claimed here";
    if (this.isLeaving) return "leaving";
    if (!this.isNew(peer, Number(offer.ordinal))) return "offered before";
    if (wish.local.kind === "event" && offer.kind === "web") return "the local handler takes events, not requests";
    if (wish.local.kind === "event" && offer.size > MESSAGE_MAX) return `larger than ${MESSAGE_MAX} bytes`;
    const { concurrency } = wish.claim;
    const busy = [...this.running].filter((other) => other.wish === wish).length;
    return concurrency !== null && busy >= concurrency ? "busy" : null;
  }

  isNew(peer, ordinal) {
    const window = this.seen.get(peer) ?? { newest: 0, numbers: new Set() };
    this.seen.set(peer, window);
    if (!(ordinal > window.newest - ORDINALS) || window.numbers.has(ordinal)) return false;
    window.numbers.add(ordinal);
    window.newest = Math.max(window.newest, ordinal);
    for (const number of window.numbers) {
      if (window.numbers.size <= ORDINALS) break;
      window.numbers.delete(number);
    }
    return true;
  }

  abortAll(why) {
    if (this.running.size > 0) this.say(`${this.running.size} in flight aborted, and their results discarded: ${why}`);
    this.attempts.loseAll(null, why);
  }

  /** Gives everything back, waits a while for what runs here, says goodbye. */
  async close(why = "the program ended") {
    if (this.isLeaving) return;
    this.isLeaving = true;
    this.channel.sendControl(KIND.Release, {});
    const until = performance.now() + GRACE;
    while (this.attempts.open.size > 0 && performance.now() < until) await new Promise((resolve) => setTimeout(resolve, 20));
    this.attempts.loseAll(null, why);
    this.attempts.close();
    await this.channel.close(why);
    this.onLeft();
  }
}

/** An invocation that was offered here: offered, accepted, running, then over. */
class Taken {
  constructor(session) {
    this.session = session;
    this.state = "offered";
    /** @type {any} */
    this.wish = null;
    /** @type {any} */
    this.offer = null;
    this.abort = new AbortController();
    /** @type {any} */
    this.flow = null;
    this.body = new Pipe((frames) => this.flow.consumed(frames));
    this.lines = new Lines((lines) => this.state === "running" && this.flow.sendOnce(KIND.Log, { lines }));
  }

  message({ kind, flags, payload, frames }) {
    if (this.state === "offered" && kind === KIND.Offer) return this.consider(parseObject(payload));
    if (this.state === "accepted" && kind === KIND.Go) return this.go(parseObject(payload));
    if (kind !== KIND.Body || this.state !== "running") throw new BadFrame("a frame that does not belong here");
    this.body.push(payload, frames);
    if (flags & FLAG.LAST) this.body.end();
  }

  consider(offer) {
    const { session } = this;
    this.flow.deflate = !session.settings.isLoopback && (offer.capabilities ?? []).includes("deflate");
    const objection = session.objection(offer, this.flow.peer);
    if (objection !== null) {
      this.flow.send(KIND.Decline, { why: objection });
      return this.end(objection);
    }
    this.offer = offer;
    this.wish = session.wishes.find((wish) => wish.held === offer.claim);
    this.state = "accepted";
    this.timer = setTimeout(() => this.end("no go came"), GO_WAIT);
    session.running.add(this);
    this.flow.send(KIND.Accept, {});
  }

  go(head) {
    clearTimeout(this.timer);
    this.state = "running";
    this.begun = performance.now();
    this.head = head;
    if (!head.body) this.body.end();
    if (!head.hold) this.timer = setTimeout(() => this.expire(), head.deadline_ms);
    const work = (this.work = {
      head, offer: this.offer, body: this.body, signal: this.abort.signal,
      remaining: () => Math.max(0, Math.round(head.deadline_ms - (performance.now() - this.begun))),
      answer: (status, headers) => this.answer(status, headers),
      write: (bytes, isLast) => this.write(bytes, isLast),
    });
    // Not in the same turn: what the handler does at once must not hold back the acknowledgement.
    setImmediate(() => this.lines.of(() => this.wish.local.run(work)).then(() => this.end(null), (thrown) => this.fail(faultOf(thrown))));
  }

  answer(status, headers) {
    this.lines.flush();
    if (this.state === "running") this.flow.send(KIND.Answer, { status, headers });
  }

  async write(bytes, isLast) {
    // Nobody wants the rest: who makes it has to stop.
    if (this.state !== "running") throw this.abort.signal.reason;
    if (isLast) this.lines.flush();
    await this.flow.sendBody(bytes, isLast);
  }

  expire() {
    this.fail({ type: "FunctionTimeout", message: `${this.wish.name} ran into its deadline of ${this.head.deadline_ms} ms on the laptop` });
  }

  fail(failure) {
    if (this.state !== "running") return;
    this.lines.flush();
    this.flow.dropUnsent();
    this.flow.send(KIND.Fault, failure);
    this.end(failure.message);
  }

  lost(why) {
    this.end(why);
  }

  /** @param {string | null} why it ended before its answer was whole; null: it is whole */
  end(why) {
    if (this.state === "over") return;
    const ran = this.state === "running";
    this.lines.flush();
    this.state = "over";
    clearTimeout(this.timer);
    this.session.running.delete(this);
    if (ran) this.report(why);
    if (why !== null) {
      const reason = Object.assign(new Error(why), { name: "AbortError" });
      this.abort.abort(reason);
      this.body.fail(reason);
      this.flow.dropUnsent();
    }
    this.session.attempts.finish(this.flow);
  }

  report(why) {
    const { method, path, trigger, who } = this.offer;
    const what = method ? `${method} ${path ?? ""}` : trigger;
    const took = (performance.now() - this.begun).toFixed(1);
    this.session.say(`${this.wish.name} ${what}${who ? ` for ${who}` : ""} ${why === null ? "done" : `failed: ${why}`} in ${took} ms`);
  }
}

module.exports = { Session };
