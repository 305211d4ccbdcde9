// The little language of the tests: a channel, deployed programs and laptops, each with its own `live`.

"use strict";

const { createLive } = require("../src/index.js");
const { Broker } = require("./broker");

/** Waits for a state; fails with what it waited for. */
async function until(what, look, limit = 8000) {
  const end = Date.now() + limit;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > end) throw new Error(`waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

class World {
  constructor(broker) {
    Object.assign(this, { broker, lives: [], said: [] });
  }

  /** A deployed program. */
  host(env = {}) {
    return this.live("host", env);
  }

  /** A developer's. */
  laptop(env = {}) {
    return this.live("session", env);
  }

  live(role, env) {
    const live = createLive({ env: { BUNGEE_CHANNEL: this.broker.url, BUNGEE_ROLE: role, ...env }, say: (line) => this.said.push(`${role}: ${line}`) });
    this.lives.push(live);
    return live;
  }

  /** Until every host knows that so many sessions claim the function. */
  async attached(name, count = 1) {
    const { broker } = this;
    const knows = () => [...broker.ports.values()].some((port) => port.serves.includes(name));
    await until(`${count} claim ${name}`, () => knows() && broker.claims.filter((claim) => claim.function === name).length === count);
    // What the channel has told its hosts has to arrive.
    await new Promise((resolve) => setTimeout(resolve, 30));
  }

  heard(text) {
    return until(text, () => this.said.some((line) => line.includes(text))).catch((error) => {
      throw new Error(`${error.message}; said: ${this.said.join(" | ")}`);
    });
  }
}

/** Runs a test in a world of its own, and takes it down. */
function inWorld(options, story) {
  return async (t) => {
    const world = new World(await new Broker(options).start());
    try {
      await story(world, t);
    } finally {
      await Promise.all(world.lives.map((live) => live.close()));
      await world.broker.stop();
      process.exitCode = undefined;
    }
  };
}

module.exports = { inWorld, until, World };
