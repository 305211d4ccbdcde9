// Whether a rule means an invocation. The channel has sorted the rules: the first that matches counts.

"use strict";

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
    case "percent": return hash(subject.id) % 10000 < Number(value) * 100;
    case "user": return subject.user !== undefined && subject.user === value;
    case "header": return matchesHeader(value, subject);
    case "path": return subject.path !== undefined && matchesPath(value, subject.path);
    default: return false;
  }
}

function matchesHeader(rule, { header }) {
  if (!header) return false;
  const equals = rule.indexOf("=");
  const found = header((equals < 0 ? rule : rule.slice(0, equals)).trim().toLowerCase());
  if (found === null || found === undefined) return false;
  return equals < 0 || found === rule.slice(equals + 1);
}

/** `/v2/*` means all below `/v2/`; without a star it is the whole path. */
function matchesPath(pattern, path) {
  return pattern.endsWith("*") ? path.startsWith(pattern.slice(0, -1)) : path === pattern;
}

/** FNV-1a: the same invocation falls on the same side again. */
function hash(bytes) {
  let value = 0x811c9dc5;
  for (const byte of bytes) value = Math.imul(value ^ byte, 0x01000193) >>> 0;
  return value;
}

module.exports = { matches };
