// BUNGEE_KEY, and what is sealed with it: only the two ends of an attempt can read its payloads.

"use strict";

const crypto = require("node:crypto");
const { sealedPart } = require("./frame");

const CIPHER = "chacha20-poly1305";
const TAG = 16;
const NONCE = 12;

/**
 * `bk1.<token>.<seal key>.<expiry>.<extras>`. Only the token is ever sent.
 * @param {string} text @returns {{token: string, seal: Buffer, expiry: number}}
 */
function parseKey(text) {
  const parts = text.split(".");
  if (parts.length < 4 || parts[0] !== "bk1") throw new Error("BUNGEE_KEY is no key: it looks like bk1.TOKEN.KEY.EXPIRY; `bungee token create --role bridge` prints one");
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
function derive({ key, session, id, attempt, host }, direction, end) {
  const number = Buffer.alloc(2);
  number.writeUInt16BE(attempt);
  const info = Buffer.concat([Buffer.from(`bungee live 1 ${direction}`), id, number, Buffer.from(host + end)]);
  return Buffer.from(crypto.hkdfSync("sha256", key, Buffer.from(session), info, 32));
}

function nonceOf(index) {
  const nonce = Buffer.alloc(NONCE);
  nonce.writeUInt32BE(index, 8);
  return nonce;
}

function encrypt(key, nonce, head, body) {
  const cipher = crypto.createCipheriv(CIPHER, key, nonce, { authTagLength: TAG });
  cipher.setAAD(sealedPart(head), { plaintextLength: body.length });
  return Buffer.concat([cipher.update(body), cipher.final(), cipher.getAuthTag()]);
}

/** @returns {Buffer | null} null: not sealed by the other end, or changed on its way */
function decrypt(key, nonce, head, body) {
  if (body.length < TAG) return null;
  const text = body.subarray(0, body.length - TAG);
  const decipher = crypto.createDecipheriv(CIPHER, key, nonce, { authTagLength: TAG });
  decipher.setAAD(sealedPart(head), { plaintextLength: text.length });
  decipher.setAuthTag(body.subarray(body.length - TAG));
  try {
    return Buffer.concat([decipher.update(text), decipher.final()]);
  } catch {
    return null;
  }
}

/** Seals what one end sends in one attempt, and opens what it gets. */
class Sealer {
  /** @param {{key: Buffer, session: string, id: Buffer, attempt: number, host: string}} of @param {"host" | "session"} end */
  constructor(of, end) {
    const [out, into] = end === "host" ? ["h2s", "s2h"] : ["s2h", "h2s"];
    this.of = { ...of, id: Buffer.from(of.id) };
    this.directions = { out, into };
    this.outKey = derive(of, out, "");
    this.inKey = derive(of, into, "");
    /** Frames that did not open. */
    this.dropped = 0;
  }

  seal(head, body) {
    return encrypt(this.outKey, nonceOf(head.index), head, body);
  }

  open(head, body) {
    const opened = decrypt(this.inKey, nonceOf(head.index), head, body);
    if (opened === null) this.dropped++;
    return opened;
  }

  /** An unnumbered frame: its nonce is random and stands before it. */
  sealLoose(head, body) {
    const nonce = crypto.randomBytes(NONCE);
    return Buffer.concat([nonce, encrypt(derive(this.of, this.directions.out, " log"), nonce, head, body)]);
  }

  openLoose(head, body) {
    const opened = body.length < NONCE ? null : decrypt(derive(this.of, this.directions.into, " log"), body.subarray(0, NONCE), head, body.subarray(NONCE));
    if (opened === null) this.dropped++;
    return opened;
  }
}

module.exports = { Sealer, parseKey, keyId };
