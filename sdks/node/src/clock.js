// Time that has passed, time asleep included, whatever happens to the clock on the wall.

"use strict";

const os = require("node:os");
const { performance } = require("node:perf_hooks");

/** A moment, for `since`. */
function moment() {
  return { running: performance.now(), up: os.uptime() * 1000 };
}

/** Milliseconds since a moment. The system's uptime counts sleep and no change of the wall clock; the other one is finer. */
function since(past) {
  const now = moment();
  return Math.max(now.running - past.running, now.up - past.up);
}

module.exports = { moment, since };
