// Errors as they cross the channel, and as they come out at the other end.

"use strict";

const { inspect } = require("node:util");

/** What is kept of a message or a stack. */
const TEXT_MAX = 64 * 1024;

const cut = (text) => (text.length > TEXT_MAX ? `${text.slice(0, TEXT_MAX)}…` : text);

/** A developer vanished after his laptop was told to run: the invocation failed, and runs nowhere else. */
class LiveSessionLost extends Error {
  constructor(message) {
    super(message);
    this.name = "LiveSessionLost";
  }
}

/** Any thrown value as the payload of a Fault. */
function faultOf(thrown) {
  const isError = thrown instanceof Error || (thrown && typeof thrown === "object" && typeof thrown.stack === "string");
  const fault = isError
    ? { errorType: String(thrown.name || thrown.constructor?.name || "Error"), message: cut(String(thrown.message ?? "")), stack: cut(String(thrown.stack ?? "")) }
    : { errorType: "Error", message: cut(typeof thrown === "string" ? thrown : inspect(thrown)) };
  return { type: "HandlerError", message: `${fault.errorType}: ${fault.message}`, fault };
}

/** The error that a Fault tells of: the handler's own, with its name and stack, else the failure's. */
function errorOf(failure) {
  const fault = failure?.fault;
  if (!fault) return Object.assign(new Error(String(failure?.message ?? "the session failed")), { name: String(failure?.type ?? "Internal"), hint: failure?.hint });
  const error = new Error(String(fault.message));
  // Not enumerable, as those of an error are.
  const own = (name, value) => Object.defineProperty(error, name, { value, writable: true, configurable: true });
  own("name", String(fault.errorType));
  if (fault.stack) own("stack", String(fault.stack));
  return error;
}

module.exports = { LiveSessionLost, faultOf, errorOf };
