// Headers of a Node worker, and Node's own classes beside which ours stand: those are whole, slow, and loaded when they are needed.

"use strict";

const { validateHeaderName, validateHeaderValue } = require("node:http");
const { inspect } = require("node:util");

/** Node's own classes: how to get each, and each once it was needed. Loading them takes 25 ms. */
const origins = {};
const own = {};
for (const name of ["Request", "Response", "Headers"]) {
  origins[name] = Object.getOwnPropertyDescriptor(globalThis, name);
}

/** Node's own class of this name. Its getter writes the class over ours, so ours is put back. */
function owned(name) {
  if (!own[name]) {
    const shown = Object.getOwnPropertyDescriptor(globalThis, name);
    const { get, value } = origins[name];
    own[name] = get ? get.call(globalThis) : value;
    Object.defineProperty(globalThis, name, shown);
  }
  return own[name];
}

/** `instanceof` for one of ours: Node's own are one too, while subclasses answer for themselves. */
function isOneOf(asked, ours, name, value) {
  if (Function.prototype[Symbol.hasInstance].call(asked, value)) return true;
  // What `fetch` brought is there before anybody asked for its class.
  return asked === ours && value?.[Symbol.toStringTag] === name && value instanceof owned(name);
}

class Headers {
  /** Values by lower-case name; those of `set-cookie` as a list, for they never join. */
  #values = new Map();

  constructor(init) {
    if (init === undefined || init === null) return;
    if (typeof init !== "object") throw new TypeError("Headers are made of an object, of pairs, or of Headers");
    if (typeof init[Symbol.iterator] !== "function") {
      for (const name of Object.keys(init)) this.append(name, init[name]);
      return;
    }
    for (const pair of init) {
      const [name, value, ...more] = pair;
      if (value === undefined || more.length > 0) throw new TypeError("each header is a pair of name and value");
      this.append(name, value);
    }
  }

  static [Symbol.hasInstance](value) {
    return isOneOf(this, Headers, "Headers", value);
  }

  /** What node:http received; it has joined and checked it. */
  static received(values) {
    const headers = new Headers();
    for (const name in values) headers.#values.set(name, values[name]);
    return headers;
  }

  append(name, value) {
    const [key, text] = checked(name, value);
    const before = this.#values.get(key);
    if (key === "set-cookie") this.#values.set(key, [...(before ?? []), text]);
    else this.#values.set(key, before === undefined ? text : `${before}, ${text}`);
  }

  set(name, value) {
    const [key, text] = checked(name, value);
    this.#values.set(key, key === "set-cookie" ? [text] : text);
  }

  get(name) {
    const value = this.#values.get(keyOf(name));
    if (value === undefined) return null;
    return typeof value === "string" ? value : value.join(", ");
  }

  has(name) {
    return this.#values.has(keyOf(name));
  }

  delete(name) {
    this.#values.delete(keyOf(name));
  }

  getSetCookie() {
    return [...(this.#values.get("set-cookie") ?? [])];
  }

  forEach(visit, self) {
    for (const [name, value] of this) visit.call(self, value, name, this);
  }

  *entries() {
    for (const name of [...this.#values.keys()].sort()) {
      const value = this.#values.get(name);
      if (typeof value === "string") yield [name, value];
      else for (const one of value) yield [name, one];
    }
  }

  *keys() {
    for (const [name] of this) yield name;
  }

  *values() {
    for (const [, value] of this) yield value;
  }

  [Symbol.iterator]() {
    return this.entries();
  }

  get [Symbol.toStringTag]() {
    return "Headers";
  }

  [inspect.custom](depth, options) {
    return `Headers ${inspect(Object.fromEntries(this), options)}`;
  }
}

function keyOf(name) {
  const text = String(name);
  validateHeaderName(text);
  return text.toLowerCase();
}

function checked(name, value) {
  const key = keyOf(name);
  const text = String(value).replace(/^[\t\n\r ]+|[\t\n\r ]+$/g, "");
  validateHeaderValue(key, text);
  return [key, text];
}

module.exports = { Headers, isOneOf, owned };
