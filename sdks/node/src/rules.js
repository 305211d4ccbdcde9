// Whether a rule means an invocation. The channel has sorted the rules: the first that matches counts.

"use strict";

const crypto = require("node:crypto");

/**
 * @typedef {object} Subject what rules look at
 * @property {Buffer} id
 * @property {((name: string) => string | null | undefined)} [header] absent: no HTTP request
 * @property {string} [path]
 * @property {string} [user]
 */

/** @param {string} rule @param {Subject} subject */
function matches(rule, subject) {
  const colon = rule.indexOf(":");
  const value = rule.slice(colon + 1);
  switch (colon < 0 ? rule : rule.slice(0, colon)) {
    case "all": return true;
    case "percent": return place(subject.id) < Number(value);
    case "user": return subject.user !== undefined && subject.user === value;
    case "header": return matchesHeader(value, subject);
    case "path": return subject.path !== undefined && matchesPath(value, subject.path);
    default: return false;
  }
}

/** @param {string} rule @param {Subject} subject */
function matchesHeader(rule, { header }) {
  if (!header) return false;
  const equals = rule.indexOf("=");
  const found = header((equals < 0 ? rule : rule.slice(0, equals)).trim().toLowerCase());
  if (found === null || found === undefined) return false;
  return equals < 0 || found === rule.slice(equals + 1);
}

/** Parts are text, `:name` for any one part, or a last `*` for all the rest. */
function matchesPath(pattern, path) {
  const parts = path.split("/");
  const wanted = pattern.split("/");
  for (const [at, want] of wanted.entries()) {
    if (parts[at] === undefined) return false;
    if (want === "*") return true;
    if (want.startsWith(":") ? parts[at] === "" : want !== parts[at]) return false;
  }
  return parts.length === wanted.length;
}

/** A number below 100: the same invocation falls on the same side again, whichever host asks. */
function place(id) {
  return Number(crypto.createHash("sha256").update(id).digest().readBigUInt64BE(0) % 100n);
}

module.exports = { matches };
