// The deployed end: knows who claims what, offers invocations, and gets the answers.
// Nothing in here ever fails an invocation before it was given away; until then the wrapped handler runs.

"use strict";

const crypto = require("node:crypto");
const { performance } = require("node:perf_hooks");
const { Attempts } = require("./attempts");
const { Channel } = require("./channel");
const { KIND, FLAG, UNNUMBERED, encode, parseObject } = require("./frame");
const { Pipe } = require("./pipe");
const { Sealer, keyId } = require("./seal");
const { matches } = require("./rules");
const { LiveSessionLost, errorOf } = require("./fault");

/** Invocations whose attempts are counted. */
const COUNTED = 4096;
/** After a wait in vain, how long nobody waits for the channel again, in milliseconds. */
const NO_WAIT = 30_000;

class Host {
  /** @param {import("./settings").Settings} settings @param {(line: string) => void} say */
  constructor(settings, say) {
    this.settings = settings;
    this.say = say;
    this.wasDown = false;
    this.functions = new Set();
    this.presence = new Map();
    this.tries = new Map();
    this.ordinals = new Map();
    /** Sessions that were told that they have another key. */
    this.strangers = new Set();
    this.inFlight = 0;
    this.knows = [];
    /** Whether the channel has told all claims of what is served here; `asked` is the heartbeat behind the question. */
    this.isInformed = false;
    this.asked = 0;
    this.noWaitUntil = 0;
    const hello = { role: "host", name: settings.name, program: settings.program, capabilities: ["deflate"] };
    if (settings.seal) hello.seal = keyId(settings.seal);
    this.channel = new Channel({ url: settings.url, token: settings.token, hello, staysWhenRefused: true });
    this.attempts = new Attempts((frame) => this.channel.send(frame));
    this.listen();
    this.channel.ref(false);
    this.channel.connect();
  }

  listen() {
    const { channel, attempts } = this;
    channel.on("welcome", () => {
      this.announce();
      attempts.resume();
    });
    channel.on("control", (kind, payload) => this.control(kind, payload));
    channel.on("frame", (head, body) => attempts.take(head, body));
    channel.on("alive", (n) => this.informed(n));
    channel.on("down", () => this.uninformed());
    channel.on("lapsed", (why) => attempts.loseAll(null, why));
    channel.on("down", (why) => {
      if (!this.wasDown && channel.refusal === null) this.say(`the channel cannot be reached (${why}); deployed code runs, and it is tried again`);
      this.wasDown = true;
    });
    channel.on("welcome", () => (this.wasDown = false));
    channel.on("refused", ({ type, message, hint }) => this.say(`${type}: ${message}${hint ? ` (${hint})` : ""}; deployed code runs`));
  }

  /** Offers this function's invocations from now on. @param {string} name */
  serve(name) {
    this.functions.add(name);
    if (this.channel.isUp) this.announce();
  }

  announce() {
    this.uninformed();
    this.channel.sendControl(KIND.Serve, { functions: [...this.functions] });
    // What is not told before this is answered has no claims.
    this.asked = this.channel.heartbeat();
  }

  uninformed() {
    this.presence.clear();
    this.strangers.clear();
    this.isInformed = false;
  }

  informed(n) {
    if (n < this.asked) return;
    this.isInformed = true;
    for (const know of this.knows.splice(0)) know();
  }

  control(kind, payload) {
    if (kind === KIND.Presence && Array.isArray(payload.claims)) {
      this.presence.set(payload.function, payload.claims);
    } else if (kind === KIND.Gone) {
      this.attempts.loseAll(payload.peer, String(payload.why ?? "its connection closed"));
      this.ordinals.delete(payload.peer);
      this.strangers.delete(payload.peer);
    }
  }

  /** Whether somebody claims the function. All that an invocation costs while nobody does. @param {string} name */
  isWanted(name) {
    if (this.settings.wait > 0) return true;
    const claims = this.presence.get(name);
    return claims !== undefined && claims.length > 0;
  }

  /** Where the process is frozen between invocations, what it knew may be old: a moment to hear anew, once in a while. */
  async refresh() {
    if (this.settings.wait === 0) return;
    this.channel.checkLease();
    if (this.isInformed || performance.now() < this.noWaitUntil || this.channel.refusal) return;
    if (!this.channel.socket) this.channel.connect();
    this.hold();
    const until = performance.now() + this.settings.wait;
    while (!this.isInformed && performance.now() < until) await this.news(until - performance.now());
    if (!this.isInformed) this.noWaitUntil = performance.now() + NO_WAIT;
    this.release();
  }

  news(milliseconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.knows.push(() => (clearTimeout(timer), resolve(undefined)));
    });
  }

  /** Whose an invocation is, and who looks on. @param {string} name @param {import("./rules").Subject} subject */
  pick(name, subject) {
    const meant = (this.presence.get(name) ?? []).filter((claim) => this.canTalkTo(claim) && matches(String(claim.rule), subject));
    return { owner: meant.find((claim) => claim.mode !== "observe") ?? null, observers: meant.filter((claim) => claim.mode === "observe") };
  }

  canTalkTo(claim) {
    const mine = this.settings.seal ? keyId(this.settings.seal) : undefined;
    if ((claim.seal ?? undefined) === mine) return true;
    const key = mine ? `has not the key ${mine} of this host` : "has a key, and this host none";
    this.sayOnce(`the session of ${claim.developer ?? "somebody"} ${key}; deployed code runs`);
    this.keepFrom(claim.peer, `it ${key}`, mine ?? "");
    return false;
  }

  /** The developer is to know as well why nothing comes; each is told once. @param {number} peer @param {string} why @param {string} seal */
  keepFrom(peer, why, seal) {
    if (this.strangers.has(peer)) return;
    this.strangers.add(peer);
    const head = { kind: KIND.Withdrawn, flags: 0, id: newId(), attempt: 1, index: UNNUMBERED, count: 1, ack: 0, window: 0, peer };
    this.channel.send(encode(head, Buffer.from(JSON.stringify({ why, seal }))));
  }

  sayOnce(line) {
    if (this.said === line) return;
    this.said = line;
    this.say(line);
  }

  /**
   * Offers an invocation to one session. Null: it did not take it in time, and the deployed code runs.
   * @param {any} claim @param {{id: Buffer, function: string, deadline: number} & Record<string, any>} work
   */
  async offer(claim, { id, deadline, ...about }) {
    const peer = claim.peer;
    const of = { id, attempt: this.nextTry(id), peer };
    const sealer = this.settings.seal ? new Sealer({ key: this.settings.seal, session: String(claim.session), ...of }, "host") : null;
    const deflate = !this.settings.isLoopback && (claim.capabilities ?? []).includes("deflate");
    const given = new Given(this, claim, deadline);
    given.flow = this.attempts.begin({ ...of, sealer, deflate }, () => given);
    this.hold();
    const ordinal = (this.ordinals.get(peer) ?? 0) + 1;
    this.ordinals.set(peer, ordinal);
    const hold = claim.hold_deadline === true;
    const wait = setTimeout(() => given.withdraw("no answer in time"), this.channel.welcome?.offer_ms ?? 500);
    given.flow.send(KIND.Offer, { ...about, claim: claim.claim, rule: claim.rule, deadline_ms: given.remaining(), hold, ordinal, capabilities: ["deflate"] });
    const isAccepted = await given.accepted;
    clearTimeout(wait);
    return isAccepted ? given : null;
  }

  /** The number of this try of an invocation; platforms that retry give the same id again. */
  nextTry(id) {
    const key = id.toString("hex");
    const number = (this.tries.get(key) ?? 0) + 1;
    this.tries.delete(key);
    this.tries.set(key, number & 0xffff || 1);
    if (this.tries.size > COUNTED) this.tries.delete(this.tries.keys().next().value);
    return this.tries.get(key);
  }

  /** While something is under way the connection keeps the process alive. */
  hold() {
    if (this.inFlight++ === 0) this.channel.ref(true);
  }

  release() {
    if (--this.inFlight === 0) this.channel.ref(false);
  }

  async close() {
    this.attempts.loseAll(null, "the host closed its channel");
    this.attempts.close();
    this.presence.clear();
    await this.channel.close("the host closes");
  }
}

/** An invocation that was offered: offered, then running, then over. */
class Given {
  constructor(host, claim, deadline) {
    this.host = host;
    this.claim = claim;
    this.state = "offered";
    this.deadlineAt = performance.now() + deadline;
    /** @type {any} */
    this.flow = null;
    /** @type {Promise<boolean>} */
    this.accepted = new Promise((resolve) => (this.accept = resolve));
    /** @type {Promise<{status: number, headers: [string, string][]}>} */
    this.answered = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    this.answered.catch(() => {});
    this.body = new Pipe((frames) => this.flow.consumed(frames));
  }

  remaining() {
    return Math.max(0, Math.round(this.deadlineAt - performance.now()));
  }

  message({ kind, flags, payload, frames }) {
    if (this.state === "offered") return this.reply(kind);
    if (kind === KIND.Answer) {
      this.resolve(parseObject(payload));
    } else if (kind === KIND.Body) {
      this.body.push(payload, frames);
      if (flags & FLAG.LAST) this.end(null);
    } else if (kind === KIND.Fault) {
      this.end(errorOf(parseObject(payload)));
    }
  }

  reply(kind) {
    if (kind === KIND.Accept) {
      this.state = "running";
      this.accept(true);
    } else if (kind === KIND.Decline) {
      this.giveUp();
    }
  }

  /** Nobody accepted: it was never given away. */
  giveUp() {
    this.state = "over";
    this.host.attempts.finish(this.flow);
    this.host.release();
    this.accept(false);
  }

  withdraw(why) {
    if (this.state !== "offered") return;
    this.host.attempts.dismiss(this.flow, KIND.Withdrawn, why);
    this.giveUp();
  }

  /** Before it was accepted that costs nothing; after it the invocation failed. */
  lost(why) {
    if (this.state === "offered") return this.giveUp();
    const who = this.claim.developer ?? "a developer";
    this.end(new LiveSessionLost(`the session of ${who} was lost while it ran this invocation (${why}); it was not run again`));
  }

  /** The commit point: from here on it runs there, or fails. */
  go(head, hold) {
    if (!hold) {
      this.timer = setTimeout(() => this.expire(), this.remaining());
    }
    if (this.state === "running") this.flow.send(KIND.Go, { ...head, deadline_ms: this.remaining(), hold });
  }

  expire() {
    const error = Object.assign(new Error("the session did not answer before the deadline"), { name: "FunctionTimeout" });
    this.cancel("the deadline passed", error);
  }

  /** The caller has left, or waits no longer. */
  cancel(why, error = Object.assign(new Error(why), { name: "Cancelled" })) {
    if (this.state !== "running") return;
    this.host.attempts.dismiss(this.flow, KIND.Cancel, why);
    this.end(error);
  }

  end(error) {
    if (this.state === "over") return;
    this.state = "over";
    clearTimeout(this.timer);
    if (error) {
      this.reject(error);
      this.body.fail(error);
    } else {
      this.reject(new LiveSessionLost("the session ended its answer before it began"));
      this.body.end();
    }
    this.flow.dropUnsent();
    this.host.attempts.finish(this.flow);
    this.host.release();
  }

  /** Lines that the handler wrote on the laptop. */
  log(lines) {
    if (Array.isArray(lines)) for (const { text } of lines.slice(0, 1000)) this.host.say(`[${this.claim.developer ?? "laptop"}] ${String(text)}`);
  }
}

/** A new id for work: a UUIDv7, as sixteen bytes. */
function newId() {
  const id = crypto.randomBytes(16);
  id.writeUIntBE(Date.now(), 0, 6);
  id[6] = (id[6] & 0x0f) | 0x70;
  id[8] = (id[8] & 0x3f) | 0x80;
  return id;
}

module.exports = { Host, newId };
