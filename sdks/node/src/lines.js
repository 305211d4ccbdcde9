// What a handler writes to the console while it runs for a host: stays in the terminal, and goes to the host too.

"use strict";

const { AsyncLocalStorage } = require("node:async_hooks");
const { performance } = require("node:perf_hooks");
const { format } = require("node:util");

/** Lines wait so long for others, in milliseconds. */
const WAIT = 25;
/** Longest line, and most of what waits, in characters: a packet of lines has to fit one frame. */
const LINE_MAX = 8 * 1024;
const WAITING_MAX = 24 * 1024;

const LEVELS = { log: "info", info: "info", warn: "warn", error: "error", debug: "debug", trace: "trace" };
/** @type {AsyncLocalStorage<Lines>} */
const current = new AsyncLocalStorage();
let isListening = false;

/** From now on every console knows whose lines it writes. */
function listen() {
  if (isListening) return;
  isListening = true;
  for (const [method, level] of Object.entries(LEVELS)) {
    const write = console[method];
    console[method] = (...values) => {
      write.apply(console, values);
      current.getStore()?.add(level, format(...values));
    };
  }
}

/** The lines of one invocation, sent in packets; they may be lost, and say nothing about its outcome. */
class Lines {
  /** @param {(lines: {ago_ms: number, level: string, text: string}[]) => void} send */
  constructor(send) {
    this.send = send;
    this.waiting = [];
    this.size = 0;
    this.timer = null;
  }

  /** Runs something whose lines these are. @template T @param {() => T} work @returns {T} */
  of(work) {
    return current.run(this, work);
  }

  add(level, text) {
    const line = text.length > LINE_MAX ? `${text.slice(0, LINE_MAX)}…` : text;
    if (this.size + line.length > WAITING_MAX) this.flush();
    this.waiting.push({ at: performance.now(), level, text: line });
    this.size += line.length + 64;
    this.timer ??= setTimeout(() => this.flush(), WAIT);
  }

  flush() {
    clearTimeout(this.timer);
    this.timer = null;
    if (this.waiting.length === 0) return;
    const lines = this.waiting.map(({ at, level, text }) => ({ ago_ms: Math.round(performance.now() - at), level, text }));
    [this.waiting, this.size] = [[], 0];
    this.send(lines);
  }
}

module.exports = { Lines, listen };
