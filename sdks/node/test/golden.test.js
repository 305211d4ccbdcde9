// The samples that every end of the protocol is tested against.

"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const test = require("node:test");
const frame = require("../src/frame");
const { idOf, textOf } = require("../src/event");
const { Sealer, keyId } = require("../src/seal");

const SPEC = path.join(__dirname, "../../../spec/live");

const golden = JSON.parse(fs.readFileSync(path.join(SPEC, "frames.json"), "utf8"));

test("every kind is known by its number", () => {
  assert.equal(golden.version, frame.VERSION);
  const kinds = Object.fromEntries(golden.frames.map(({ kind, number }) => [kind, number]));
  assert.deepEqual(kinds, { ...frame.KIND });
});

for (const sample of golden.frames) {
  test(`golden frame: ${sample.name}`, () => {
    const bytes = Buffer.from(sample.frame, "hex");
    const { head, body } = frame.decode(bytes);
    const { kind, id, ...numbers } = head;
    const { number, flags, attempt, index, count, ack, window, peer } = sample;
    assert.deepEqual({ kind, ...numbers }, { kind: number, flags, attempt, index, count, ack, window, peer });
    assert.equal(textOf(id), sample.invocation);
    if (sample.payload.json) assert.deepEqual(frame.parseObject(body), sample.payload.json);
    else assert.equal(body.toString("hex"), sample.payload.hex);
    assert.equal(frame.encode(head, body).toString("hex"), sample.frame);
    assert.equal(frame.slowChecksum(body), bytes.readUInt32BE(40));
    assert.equal(frame.sealedPart(head).toString("hex"), sample.sealed_part);
    if (!frame.isOfAttempt(kind)) assert.equal(frame.control(kind, frame.parseObject(body)).toString("hex"), sample.frame);
  });
}

const sealing = path.join(SPEC, "sealing.json");

test("what was sealed elsewhere opens here, and the other way round", { skip: !fs.existsSync(sealing) && "no samples" }, () => {
  for (const sample of JSON.parse(fs.readFileSync(sealing, "utf8"))) {
    const { session, attempt, kind, flags, index, count, direction } = sample;
    const bytes = (name) => Buffer.from(sample[name], "hex");
    const id = idOf(sample.invocation);
    const key = bytes("seal_key");
    assert.equal(keyId(key), sample.seal_key_name);
    const [from, to] = direction === "h2s" ? ["host", "session"] : ["session", "host"];
    const head = { kind, flags, id, attempt, index, count, ack: 7, window: 8, peer: 9 };
    assert.equal(frame.sealedPart(head).toString("hex"), sample.associated_data);
    const of = { key, session, id, attempt };
    assert.equal(new Sealer(of, from).seal(head, bytes("payload"), bytes("nonce")).toString("hex"), sample.sealed);
    const receiver = new Sealer(of, to);
    assert.equal(receiver.open(head, bytes("sealed")).toString("hex"), sample.payload);
    const changed = { session: "ses_other", attempt: attempt + 1 };
    for (const [name, value] of Object.entries(changed)) assert.equal(new Sealer({ ...of, [name]: value }, to).open(head, bytes("sealed")), null, name);
    for (const name of ["kind", "index", "count"]) assert.equal(receiver.open({ ...head, [name]: (head[name] ^ 1) >>> 0 }, bytes("sealed")), null, name);
    assert.equal(new Sealer(of, from).open(head, bytes("sealed")), null, "sent back");
  }
});

test("bytes that are no frame are told apart", () => {
  const good = frame.control(frame.KIND.Heartbeat, {});
  const broken = (at, byte) => {
    const bytes = Buffer.from(good);
    bytes[at] = byte;
    return () => frame.decode(bytes);
  };
  assert.throws(() => frame.decode(good.subarray(0, 43)), /43 bytes/);
  assert.throws(broken(0, 2), /version 2/);
  assert.throws(broken(1, 99), /kind 99/);
  assert.throws(broken(2, 8), /bits/);
  assert.throws(broken(3, 1), /bits/);
  assert.throws(broken(15, 0), /no frames/);
  assert.throws(broken(39, 1), /invocation/);
  assert.throws(broken(good.length - 1, 0), /checksum/);
  assert.throws(() => frame.decode(Buffer.concat([good, Buffer.alloc(frame.PAYLOAD_MAX)])), /limit of 262144/);
});
