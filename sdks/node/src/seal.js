// BUNGEE_KEY, and what is sealed with it: only the two ends of an attempt can read its payloads.

"use strict";

const crypto = require("node:crypto");
const { FLAG, sealedPart } = require("./frame");

const CIPHER = "chacha20-poly1305";
const TAG = 16;
const NONCE = 12;

/**
 * `bk1.<token>.<seal key>.<expiry>.<extras>`, of which extras are others' business. Only the token is ever sent.
 * @param {string} text @returns {{token: string, seal: Buffer, expiry: number}}
 */
function parseKey(text) {
  const parts = text.trim().split(".");
  if (parts[0] !== "bk1") throw new Error("BUNGEE_KEY is no key: it begins with bk1. ; `bungee token create --role bridge` prints one");
  if (parts.length !== 5) throw new Error(`BUNGEE_KEY has ${parts.length} parts, and a key has 5; copy the whole key`);
  if (!/^[\w-]+$/.test(parts[1])) throw new Error("the second part of BUNGEE_KEY, its token, is none; copy the whole key");
  const seal = Buffer.from(parts[2], "base64url");
  if (seal.length !== 32) throw new Error(`the third part of BUNGEE_KEY holds ${seal.length} bytes, and a seal key has 32; copy the whole key`);
  const expiry = Number(parts[3]);
  if (!Number.isSafeInteger(expiry) || expiry < 0) throw new Error("the fourth part of BUNGEE_KEY, its expiry, is no number of seconds; copy the whole key");
  return { token: parts[1], seal, expiry };
}

/** How ends with the same key know each other: eight hexadecimal digits. @param {Buffer} key */
function keyId(key) {
  return crypto.createHash("sha256").update(key).digest("hex").slice(0, 8);
}

/** The key of one direction of one attempt. */
function derive({ key, session, id, attempt }, direction) {
  const number = Buffer.alloc(2);
  number.writeUInt16BE(attempt);
  const info = Buffer.concat([Buffer.from(`bungee live 1 ${direction}`), id, number]);
  return Buffer.from(crypto.hkdfSync("sha256", key, Buffer.from(session), info, 32));
}

/** Seals what one end sends in one attempt, and opens what it gets: nonce, ciphertext, tag. */
class Sealer {
  /** @param {{key: Buffer, session: string, id: Buffer, attempt: number}} of @param {"host" | "session"} end */
  constructor(of, end) {
    const [out, into] = end === "host" ? ["h2s", "s2h"] : ["s2h", "h2s"];
    this.outKey = derive(of, out);
    this.inKey = derive(of, into);
    /** Frames that did not open. */
    this.dropped = 0;
  }

  /** @param {import("./frame").Head} head @param {Buffer} body */
  seal(head, body, nonce = crypto.randomBytes(NONCE)) {
    const cipher = crypto.createCipheriv(CIPHER, this.outKey, nonce, { authTagLength: TAG });
    cipher.setAAD(sealedPart(head), { plaintextLength: body.length });
    return Buffer.concat([nonce, cipher.update(body), cipher.final(), cipher.getAuthTag()]);
  }

  /** @param {import("./frame").Head} head @param {Buffer} body @returns {Buffer | null} null: another key sealed it, or it was changed on its way */
  open(head, body) {
    const opened = head.flags & FLAG.SEALED && body.length >= NONCE + TAG ? this.decrypt(head, body) : null;
    if (opened === null) this.dropped++;
    return opened;
  }

  decrypt(head, body) {
    const [nonce, text, tag] = [body.subarray(0, NONCE), body.subarray(NONCE, -TAG), body.subarray(-TAG)];
    const decipher = crypto.createDecipheriv(CIPHER, this.inKey, nonce, { authTagLength: TAG });
    decipher.setAAD(sealedPart(head), { plaintextLength: text.length });
    decipher.setAuthTag(tag);
    try {
      return Buffer.concat([decipher.update(text), decipher.final()]);
    } catch {
      return null;
    }
  }
}

module.exports = { Sealer, parseKey, keyId };
