// Whole programs: which end they are, what keeps them alive, how they leave, and both ways to load the package.

"use strict";

const assert = require("node:assert/strict");
const { spawn } = require("node:child_process");
const crypto = require("node:crypto");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const test = require("node:test");
const { roleOf, settingsOf } = require("../src/settings");
const { inWorld, until } = require("./world");

const NAME = "shop/hello";
const ROOT = path.join(__dirname, "..");

/** Starts a program as `node app.mjs`; what it writes is kept. */
function start(source, env, name = "app.mjs") {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "bungee-node-"));
  fs.mkdirSync(path.join(folder, "node_modules"));
  fs.symlinkSync(ROOT, path.join(folder, "node_modules/bungee"));
  fs.writeFileSync(path.join(folder, name), source);
  const { PATH, HOME } = process.env;
  const child = spawn(process.execPath, [name], { cwd: folder, env: { PATH, HOME, ...env } });
  const program = { child, out: "", err: "", ended: null };
  child.stdout.on("data", (data) => (program.out += data));
  child.stderr.on("data", (data) => (program.err += data));
  program.end = new Promise((resolve) => child.on("close", (code, signal) => {
    fs.rmSync(folder, { recursive: true });
    resolve((program.ended = { code, signal }));
  }));
  return program;
}

const SESSION = `import { live } from "bungee";
export const handler = live("${NAME}", async (event) => "laptop " + event.n);`;

test("a program on a laptop claims, serves, and gives back at Ctrl-C", inWorld({}, async (world, t) => {
  const handler = world.host()(NAME, async () => "deployed");
  const program = start(SESSION, { BUNGEE_CHANNEL: world.broker.url, BUNGEE_ROLE: "session" });
  t.after(() => program.child.kill("SIGKILL"));
  await world.attached(NAME);
  assert.equal(await handler({ n: 7 }, {}), "laptop 7");
  await until("it says so", () => /shop\/hello: its invocations run here/.test(program.err) && /done in/.test(program.err));
  program.child.kill("SIGINT");
  assert.deepEqual(await program.end, { code: null, signal: "SIGINT" });
  await until("the host knows", async () => (await handler({ n: 7 }, {})) === "deployed");
  assert.equal(world.broker.claims.length, 0);
}));

test("a program that is killed frees its claim at once", inWorld({}, async (world, t) => {
  const handler = world.host()(NAME, async () => "deployed");
  const program = start(SESSION, { BUNGEE_CHANNEL: world.broker.url, BUNGEE_ROLE: "session" });
  t.after(() => program.child.kill("SIGKILL"));
  await world.attached(NAME);
  program.child.kill("SIGKILL");
  await until("the host knows", async () => (await handler({ n: 7 }, {})) === "deployed", 1000);
}));

test("a program whose every claim is refused says who holds it, and ends with 6", inWorld({}, async (world, t) => {
  world.laptop()(NAME, async () => "first");
  await until("claimed", () => world.broker.claims.length === 1);
  const program = start(SESSION, { BUNGEE_CHANNEL: world.broker.url, BUNGEE_ROLE: "session" });
  t.after(() => program.child.kill("SIGKILL"));
  assert.deepEqual(await program.end, { code: 6, signal: null });
  assert.match(program.err, /shop\/hello was refused: it is held \(held by .*BUNGEE_TAKE_OVER=1/);
}));

test("a deployed program ends when its own work is done, and waits for what it gave away", inWorld({}, async (world, t) => {
  world.laptop()(NAME, (event) => new Promise((resolve) => setTimeout(resolve, 200, `laptop ${event}`)));
  await until("claimed", () => world.broker.claims.length === 1);
  const source = `const { live } = require("bungee");
    const handler = live("${NAME}", () => "deployed", { wait: 2000 });
    handler("once", {}).then(console.log);`;
  const program = start(source, { BUNGEE_CHANNEL: world.broker.url, BUNGEE_ROLE: "host" }, "app.cjs");
  t.after(() => program.child.kill("SIGKILL"));
  assert.deepEqual(await program.end, { code: 0, signal: null });
  assert.equal(program.out, "laptop once\n");
}));

test("one instance, whichever way it is loaded", async () => {
  const program = start(
    `import { createRequire } from "node:module";
     import { live } from "bungee";
     console.log(createRequire(import.meta.url)("bungee").live === live);`, {});
  assert.deepEqual(await program.end, { code: 0, signal: null });
  assert.equal(program.out, "true\n");
});

test("what looks deployed never claims by itself", () => {
  for (const env of [{ NODE_ENV: "production" }, { AWS_LAMBDA_RUNTIME_API: "127.0.0.1:9001" }, { KUBERNETES_SERVICE_HOST: "10.0.0.1" }, { K_SERVICE: "shop" }]) {
    assert.equal(roleOf({ ...env, VSCODE_INSPECTOR_OPTIONS: "{}" }), "host", JSON.stringify(env));
    assert.equal(roleOf({ ...env, BUNGEE_ROLE: "session" }), "session", "unless it is told to");
  }
  assert.throws(() => roleOf({ BUNGEE_ROLE: "laptop" }), /`laptop`; it is one of: session, host, off/);
});

test("a program without a terminal and without a debugger is deployed", async () => {
  const source = `console.log(require("bungee/package.json").name, require(${JSON.stringify(path.join(ROOT, "src/settings"))}).roleOf(process.env));`;
  const program = start(source, {}, "app.cjs");
  assert.deepEqual(await program.end, { code: 0, signal: null });
  assert.equal(program.out, "bungee host\n");
});

test("settings that cannot be are named", () => {
  const seal = crypto.randomBytes(32).toString("base64url");
  const settings = (env) => settingsOf({}, { BUNGEE_ROLE: "host", ...env });
  const wrong = (env, said) => assert.throws(() => settings(env), said);
  wrong({ BUNGEE_CHANNEL: "nonsense" }, /BUNGEE_CHANNEL is no address/);
  wrong({ BUNGEE_CHANNEL: "redis://127.0.0.1" }, /redis:\/\/, and this wrapper speaks ws/);
  wrong({ BUNGEE_CHANNEL: "ws://ann:secret@127.0.0.1" }, /holds a password/);
  wrong({ BUNGEE_CHANNEL: "ws://10.0.0.7:9001", BUNGEE_TOKEN: "t" }, /nothing protects .* ws:\/\/10.0.0.7:9001/);
  wrong({ BUNGEE_CHANNEL: "wss://x", BUNGEE_KEY: "secret" }, /is no key: it begins with bk1/);
  wrong({ BUNGEE_CHANNEL: "wss://x", BUNGEE_KEY: "bk1.t.AAAA" }, /has 3 parts, and a key has 5/);
  wrong({ BUNGEE_CHANNEL: "wss://x", BUNGEE_KEY: "bk1.t.AAAA.0." }, /holds 3 bytes, and a seal key has 32/);
  wrong({ BUNGEE_CHANNEL: "wss://x", BUNGEE_KEY: `bk1.t.${seal}.soon.` }, /its expiry/);
  wrong({ BUNGEE_CHANNEL: "wss://x", BUNGEE_KEY: `bk1.t.${seal}.1000.` }, /has expired on 1970/);
  const good = settings({ BUNGEE_CHANNEL: "https://functions.example.com", BUNGEE_KEY: `bk1.token.${seal}.0.` });
  assert.deepEqual([good.url, good.token, good.seal.length], ["wss://functions.example.com/v1/live", "token", 32]);
  assert.equal(settings({ BUNGEE_CHANNEL: "ws://127.0.0.1:9001" }).url, "ws://127.0.0.1:9001/v1/live");
  assert.equal(settings({}), null);
});

test("the example: one file, deployed and on a laptop", inWorld({}, async (world, t) => {
  const source = fs.readFileSync(path.join(ROOT, "../../examples/live/app.js"), "utf8");
  const env = { BUNGEE_CHANNEL: world.broker.url };
  const deployed = start(source, { ...env, BUNGEE_ROLE: "host", PORT: "0", PLACE: "container" });
  t.after(() => deployed.child.kill("SIGKILL"));
  await until("it listens", () => /deployed at (\S+)/.test(deployed.out));
  const url = /deployed at (\S+)/.exec(deployed.out)[1];
  const ask = async (headers = {}) => (await fetch(`${url}/?name=Ann`, { headers })).json();
  assert.deepEqual(await ask(), { greeting: "Hello, Ann!", from: "container" });
  const laptop = start(source, { ...env, BUNGEE_ROLE: "session", BUNGEE_WHEN: "header:x-dev=ann" });
  t.after(() => laptop.child.kill("SIGKILL"));
  await world.attached("shop/greet");
  assert.deepEqual(await ask({ "x-dev": "ann" }), { greeting: "Hello, Ann!", from: "this laptop" });
  assert.equal((await ask({ "x-dev": "bob" })).from, "container");
  laptop.child.kill("SIGINT");
  await laptop.end;
  await until("it is given back", async () => (await ask({ "x-dev": "ann" })).from === "container");
}));
