// Frames: what crosses a channel. 44 bytes of head, then the payload; numbers are big-endian.
// The twin of crates/live/src/frame.rs; docs/live-protocol.md describes both, spec/live/frames.json tests both.

"use strict";

const zlib = require("node:zlib");

/** The version of the protocol, the first byte of every frame. */
const VERSION = 1;
/** Length of a head in bytes. */
const HEADER = 44;
/** Largest payload of one frame, sealed and all. */
const PAYLOAD_MAX = 256 * 1024;
/** The index of a frame that is neither acknowledged nor sent again. */
const UNNUMBERED = 0xffffffff;

const KIND = Object.freeze({
  Hello: 1, Welcome: 2, Claim: 3, Claimed: 4, Refused: 5, Release: 6, Heartbeat: 7, Alive: 8, Taken: 9,
  Presence: 10, Goodbye: 11, Serve: 12, Gone: 13, Fatal: 14,
  Offer: 32, Accept: 33, Decline: 34, Go: 35, Body: 36, Answer: 37, Fault: 38, Withdrawn: 39, Cancel: 40,
  Log: 41, Ack: 42, Unknown: 43,
});
const FLAG = Object.freeze({ SEALED: 1, DEFLATED: 2, LAST: 4 });

/** @type {Set<number>} */
const KNOWN = new Set(Object.values(KIND));
const NO_ID = Buffer.alloc(16);
const NOTHING = Buffer.alloc(0);

/**
 * @typedef {object} Head
 * @property {number} kind
 * @property {number} flags
 * @property {Buffer} id sixteen bytes; zeros where a frame is the channel's
 * @property {number} attempt
 * @property {number} index
 * @property {number} count
 * @property {number} ack
 * @property {number} window
 * @property {number} peer
 */

/** Bytes that are no frame. */
class BadFrame extends Error {
  constructor(message) {
    super(message);
    this.name = "BadFrame";
  }
}

/** @param {Head} head @param {Buffer} [body] */
function encode(head, body = NOTHING) {
  const out = Buffer.allocUnsafe(HEADER + body.length);
  out[0] = VERSION;
  out[1] = head.kind;
  out[2] = head.flags;
  out[3] = 0;
  out.writeUInt16BE(head.attempt, 4);
  out.writeUInt16BE(head.window, 6);
  out.writeUInt32BE(head.index, 8);
  out.writeUInt32BE(head.count, 12);
  out.writeUInt32BE(head.ack, 16);
  out.writeUInt32BE(head.peer, 20);
  head.id.copy(out, 24);
  out.writeUInt32BE(checksum(body), 40);
  body.copy(out, HEADER);
  return out;
}

/** The payload shares the memory of what came. @param {Buffer} bytes @returns {{head: Head, body: Buffer}} */
function decode(bytes) {
  if (bytes.length < HEADER) throw new BadFrame(`a frame of ${bytes.length} bytes is shorter than its head of ${HEADER}`);
  if (bytes[0] !== VERSION) throw new BadFrame(`a frame of version ${bytes[0]}; this end speaks version ${VERSION}`);
  const size = bytes.length - HEADER;
  if (size > PAYLOAD_MAX) throw new BadFrame(`a payload of ${size} bytes is larger than the limit of ${PAYLOAD_MAX}`);
  if (!KNOWN.has(bytes[1])) throw new BadFrame(`no frame is of the kind ${bytes[1]}`);
  if (bytes[2] > 7 || bytes[3] !== 0) throw new BadFrame("a frame whose head makes no sense: bits that mean nothing are set");
  const head = {
    kind: bytes[1],
    flags: bytes[2],
    attempt: bytes.readUInt16BE(4),
    window: bytes.readUInt16BE(6),
    index: bytes.readUInt32BE(8),
    count: bytes.readUInt32BE(12),
    ack: bytes.readUInt32BE(16),
    peer: bytes.readUInt32BE(20),
    id: bytes.subarray(24, 40),
  };
  const body = bytes.subarray(HEADER);
  if (checksum(body) !== bytes.readUInt32BE(40)) {
    throw new BadFrame("a payload that does not match its checksum: it was cut off or changed on its way");
  }
  if (head.count === 0) throw new BadFrame("a frame whose head makes no sense: a message of no frames");
  const isOfChannel = head.attempt === 0 && head.id.equals(NO_ID);
  if (isOfAttempt(head.kind) === isOfChannel) {
    throw new BadFrame("a frame whose head makes no sense: an invocation is named where none belongs, or none where one does");
  }
  return { head, body };
}

/** CRC-32, as Ethernet and zlib have it; Node has it built in since 20.15. @type {(bytes: Buffer) => number} */
const checksum = /** @type {any} */ (zlib).crc32 ?? slowChecksum;

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

/** @param {Buffer} bytes */
function slowChecksum(bytes) {
  let sum = 0xffffffff;
  for (let at = 0; at < bytes.length; at++) sum = (sum >>> 8) ^ TABLE[(sum ^ bytes[at]) & 0xff];
  return (sum ^ 0xffffffff) >>> 0;
}

/** Whether a frame belongs to one attempt, and not to the channel. @param {number} kind */
function isOfAttempt(kind) {
  return kind >= 32;
}

/** One of the channel's, whose payload is JSON. @param {number} kind @param {object} value */
function control(kind, value) {
  const head = { kind, flags: 0, id: NO_ID, attempt: 0, index: UNNUMBERED, count: 1, ack: 0, window: 0, peer: 0 };
  return encode(head, Buffer.from(JSON.stringify(value)));
}

/** What sealing protects besides the payload: all but what changes when a frame is sent again or passed on. @param {Head} head */
function sealedPart(head) {
  const out = Buffer.alloc(32);
  out[0] = VERSION;
  out[1] = head.kind;
  out[2] = head.flags;
  out.writeUInt16BE(head.attempt, 4);
  out.writeUInt32BE(head.index, 8);
  out.writeUInt32BE(head.count, 12);
  head.id.copy(out, 16);
  return out;
}

/** A JSON object out of a payload. @param {Buffer} body @returns {any} */
function parseObject(body) {
  let value;
  try {
    value = JSON.parse(body.toString("utf8"));
  } catch {
    throw new BadFrame("a payload that should be JSON is none");
  }
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw new BadFrame("a payload that should be a JSON object is none");
  return value;
}

module.exports = { VERSION, HEADER, PAYLOAD_MAX, UNNUMBERED, KIND, FLAG, BadFrame, encode, decode, isOfAttempt, control, sealedPart, parseObject, slowChecksum };
