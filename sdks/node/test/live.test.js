// Hosts and sessions through a channel: what crosses, what falls back, what fails, and that nothing runs twice.

"use strict";

const assert = require("node:assert/strict");
const crypto = require("node:crypto");
const test = require("node:test");
const { KIND, FLAG } = require("../src/frame");
const { createLive } = require("../src/index.js");
const { inWorld, until } = require("./world");

const NAME = "shop/hello";
const deployed = async () => "deployed";

test("nobody attached: the deployed code runs, and nothing crosses", inWorld({}, async (world) => {
  const handler = world.host()(NAME, deployed);
  await until("the host is there", () => world.broker.portOf("host")?.serves.includes(NAME));
  assert.equal(await handler({}, {}), "deployed");
  assert.equal(world.broker.frames.length, 0);
}));

test("no channel: the deployed code runs at once, and the program may end", async () => {
  const said = [];
  const live = createLive({ env: { BUNGEE_CHANNEL: "ws://127.0.0.1:9", BUNGEE_ROLE: "host" }, say: (line) => said.push(line) });
  const handler = live(NAME, deployed);
  const before = performance.now();
  assert.equal(await handler({}, {}), "deployed");
  assert.ok(performance.now() - before < 100);
  await live.close();
});

test("without BUNGEE_CHANNEL the handler is itself", async () => {
  const live = createLive({ env: { BUNGEE_ROLE: "session" } });
  const handler = live("hello", (event, context, callback) => callback(null, event.n + 1));
  assert.equal(await handler({ n: 1 }, {}), 2);
});

test("attached: event, context and result cross, and the deployed code does not run", inWorld({}, async (world) => {
  const handler = world.host()(NAME, deployed);
  world.laptop()(NAME, async (event, context) => ({
    event, id: context.awsRequestId, arn: context.invokedFunctionArn, left: context.getRemainingTimeInMillis(), name: context.functionName, trigger: context.trigger,
  }));
  await world.attached(NAME);
  const awsRequestId = crypto.randomUUID();
  const context = { awsRequestId, functionName: "orders-prod", invokedFunctionArn: "arn:é", getRemainingTimeInMillis: () => 20_000 };
  const result = await handler({ text: "žluťoučký", list: [1, null] }, context);
  assert.deepEqual(result.event, { text: "žluťoučký", list: [1, null] });
  assert.deepEqual([result.id, result.arn, result.name, result.trigger], [awsRequestId, "arn:é", "orders-prod", "lambda-api"]);
  assert.ok(result.left > 15_000 && result.left <= 20_000, String(result.left));
  await world.heard("shop/hello: its invocations run here");
}));

test("an error crosses with its type, message and stack", inWorld({}, async (world) => {
  const handler = world.host()(NAME, deployed);
  world.laptop()(NAME, async function onTheLaptop() {
    throw new TypeError("no such order");
  });
  await world.attached(NAME);
  const error = await handler({}, {}).then(assert.fail, (error) => error);
  assert.ok(error instanceof Error);
  assert.deepEqual([error.name, error.message], ["TypeError", "no such order"]);
  assert.match(error.stack, /onTheLaptop/);
}));

test("what the handler writes arrives at the host, and is not another invocation's", inWorld({}, async (world) => {
  const handler = world.host()(NAME, deployed);
  world.laptop()(NAME, async (n) => {
    await new Promise((resolve) => setTimeout(resolve, 5));
    console.log("order %d", n, "x".repeat(10_000));
  });
  await world.attached(NAME);
  await Promise.all([handler(1, {}), handler(2, {})]);
  for (const n of [1, 2]) await world.heard(`] order ${n} xxx`);
  const lines = world.broker.frames.filter(({ kind }) => kind === KIND.Log).map(({ body }) => JSON.parse(body).lines);
  assert.deepEqual(lines.map((each) => each.length), [1, 1]);
  assert.ok(lines.every(([line]) => line.level === "info" && line.ago_ms < 5000 && line.text.length < 9000));
}));

test("6 MiB in and 6 MiB out", inWorld({}, async (world) => {
  const handler = world.host()(NAME, deployed);
  world.laptop()(NAME, async (event) => event.text + "!");
  await world.attached(NAME);
  const text = crypto.randomBytes(3 << 20).toString("hex");
  const result = await handler({ text }, {});
  assert.ok(result === text + "!");
}));

test("a result that JSON does not know is null, as at home", inWorld({}, async (world) => {
  const handler = world.host()(NAME, deployed);
  world.laptop()(NAME, async () => undefined);
  await world.attached(NAME);
  assert.equal(await handler({}, {}), null);
}));

test("the deadline cancels what runs on the laptop", inWorld({}, async (world) => {
  const handler = world.host()(NAME, deployed, { timeout: 200 });
  let aborted;
  world.laptop()(NAME, (_, context) => new Promise((_, reject) => {
    context.signal.addEventListener("abort", () => reject((aborted = context.signal.reason)));
  }));
  await world.attached(NAME);
  await assert.rejects(handler({}, {}), { name: "FunctionTimeout" });
  await until("it was aborted", () => aborted);
}));

test("a session lost while it runs: LiveSessionLost, and the deployed code does not run", inWorld({}, async (world) => {
  let ran = 0;
  const handler = world.host()(NAME, async () => void ran++);
  let started = false;
  world.laptop()(NAME, () => new Promise(() => (started = true)));
  await world.attached(NAME);
  const running = handler({}, {});
  await until("it runs", () => started);
  const cut = Date.now();
  world.broker.cut("session");
  await assert.rejects(running, { name: "LiveSessionLost", message: /was lost while it ran/ });
  assert.ok(Date.now() - cut < 1000);
  assert.equal(ran, 0);
}));

test("a late accept is withdrawn, and nothing runs on the laptop", inWorld({ offerMs: 100 }, async (world) => {
  const { broker } = world;
  const late = [];
  let ran = 0;
  const handler = world.host()(NAME, deployed);
  world.laptop()(NAME, async () => {
    ran++;
  });
  await world.attached(NAME);
  // The accept takes longer than the host waits.
  broker.options.onFrame = (head, body, port) => {
    if (head.kind !== KIND.Accept || late.length > 0) return true;
    late.push(setTimeout(() => broker.relay(port, head, body), 250));
    return false;
  };
  assert.equal(await handler({}, {}), "deployed");
  await until("the accept has arrived late", () => broker.count(KIND.Accept) >= 2);
  await until("it was withdrawn", () => broker.count(KIND.Withdrawn) >= 1);
  assert.equal(broker.count(KIND.Go), 0);
  assert.equal(ran, 0);
  assert.equal(await handler({}, {}), null, "the next one runs on the laptop again");
  assert.equal(ran, 1);
}));

test("a session that declines leaves it to the deployed code at once", inWorld({}, async (world) => {
  const handler = world.host()(NAME, deployed);
  let finish;
  world.laptop()(NAME, () => new Promise((resolve) => (finish = resolve)), { concurrency: 1 });
  await world.attached(NAME);
  const first = handler({}, {});
  await until("it runs", () => finish);
  const before = performance.now();
  assert.equal(await handler({}, {}), "deployed");
  assert.ok(performance.now() - before < 400);
  finish("laptop");
  assert.equal(await first, "laptop");
}));

test("two hosts share one laptop", inWorld({}, async (world) => {
  const handlers = [world.host()(NAME, deployed), world.host()(NAME, deployed)];
  await until("both are there", () => world.broker.ports.size === 2);
  world.laptop()(NAME, async (event) => event * 2);
  await world.attached(NAME);
  const results = await Promise.all(Array.from({ length: 100 }, (_, n) => handlers[n % 2](n, {})));
  assert.deepEqual(results, Array.from({ length: 100 }, (_, n) => n * 2));
}));

test("the same id given again by the platform is another attempt", inWorld({}, async (world) => {
  const handler = world.host()(NAME, deployed);
  let ran = 0;
  world.laptop()(NAME, async () => ++ran);
  await world.attached(NAME);
  const awsRequestId = crypto.randomUUID();
  assert.equal(await handler({}, { awsRequestId }), 1);
  assert.equal(await handler({}, { awsRequestId }), 2);
}));

for (const role of ["session", "host"]) {
  test(`the ${role}'s connection drops and comes back: the same run goes on, and none runs twice`, inWorld({}, async (world) => {
    const handler = world.host()(NAME, deployed);
    let ran = 0;
    let finish;
    world.laptop()(NAME, (event) => {
      ran++;
      return new Promise((resolve) => (finish = () => resolve(event.length)));
    });
    await world.attached(NAME);
    const text = "x".repeat(2 << 20);
    const running = handler(text, {});
    await until("it runs", () => finish);
    world.broker.drop(role);
    await until("it is back", () => !world.broker.portOf(role).isFrozen);
    finish();
    assert.equal(await running, text.length);
    assert.equal(ran, 1);
  }));
}

test("a connection that only looks alive is replaced in time, and the same run goes on", inWorld({}, async (world) => {
  const handler = world.host()(NAME, deployed);
  let ran = 0;
  let finish;
  world.laptop()(NAME, () => new Promise((resolve) => {
    ran++;
    finish = () => resolve("laptop");
  }));
  await world.attached(NAME);
  const running = handler({}, {});
  await until("it runs", () => finish);
  world.broker.portOf("session").isFrozen = true;
  await until("it is back", () => !world.broker.portOf("session").isFrozen);
  finish();
  assert.equal(await running, "laptop");
  assert.equal(ran, 1);
}));

test("an answer that was lost with the connection is sent again", inWorld({}, async (world) => {
  const { broker } = world;
  const handler = world.host()(NAME, deployed);
  let ran = 0;
  world.laptop()(NAME, async () => ++ran);
  await world.attached(NAME);
  let lost = 0;
  broker.options.onFrame = (head) => !(head.kind === KIND.Answer && lost++ === 0);
  assert.equal(await handler({}, {}), 1);
  assert.ok(lost >= 2);
  assert.equal(ran, 1);
}));

// A lease that a busy machine keeps: what is lost here are frames, not ends.
test("frames that are lost, doubled and turned round still make one run each", inWorld({ lease: 60_000, heartbeat: 20_000 }, async (world) => {
  const { broker } = world;
  const handler = world.host()(NAME, deployed);
  const runs = new Map();
  world.laptop()(NAME, async ({ n, text }) => {
    runs.set(n, (runs.get(n) ?? 0) + 1);
    return { n, size: text.length };
  });
  await world.attached(NAME);
  let seed = 7;
  const chance = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
  broker.options.onFrame = (head, body, port) => {
    if (head.kind === KIND.Offer || head.kind === KIND.Accept || head.again) return true;
    const dice = chance();
    const again = { ...head, id: Buffer.from(head.id), again: true };
    const copy = Buffer.from(body);
    if (dice < 0.1) return false;
    if (dice < 0.3) setTimeout(() => broker.ports.has(port.peer) && broker.relay(port, again, copy), chance() * 30);
    return dice >= 0.2;
  };
  const text = "y".repeat(300_000);
  const all = await Promise.all(Array.from({ length: 30 }, (_, n) => handler({ n, text }, {})));
  broker.options.onFrame = undefined;
  for (const [n, result] of all.entries()) {
    if (result === "deployed") assert.equal(runs.get(n), undefined);
    else assert.deepEqual([result, runs.get(n)], [{ n, size: text.length }, 1]);
  }
  assert.ok(runs.size > 0);
}));

test("rules choose: the most specific one, else the deployed code", inWorld({}, async (world) => {
  const handler = world.host()(NAME, deployed);
  world.laptop()(NAME, async () => "ann", { when: "header:x-dev=ann" });
  world.laptop()(NAME, async () => "path", { when: "path:/v2/*" });
  world.laptop()(NAME, async () => "nobody", { when: "header:x-dev=eve" });
  await world.attached(NAME, 3);
  const ask = (rawPath, headers) => handler({ version: "2.0", rawPath, headers, requestContext: { http: { method: "GET" } } }, {});
  assert.equal(await ask("/", { "X-Dev": "ann" }), "ann");
  assert.equal(await ask("/v2/orders", {}), "path");
  assert.equal(await ask("/v1/orders", { "x-dev": "bob" }), "deployed");
  assert.equal(await handler({ Records: [] }, {}), "deployed", "no HTTP");
}));

test("a claim that is held is refused by name; taking over tells the loser", inWorld({}, async (world) => {
  const handler = world.host()(NAME, deployed);
  world.laptop()(NAME, async () => "first");
  await world.attached(NAME);
  world.laptop()(NAME, async () => "second");
  await world.heard("shop/hello was refused: it is held (held by");
  world.laptop()(NAME, async () => "third", { takeOver: true });
  await world.heard("taken over by");
  assert.equal(await handler({}, {}), "third");
}));

test("one that observes gets a copy, and the deployed answer counts", inWorld({}, async (world) => {
  const handler = world.host()(NAME, deployed);
  const seen = [];
  world.laptop()(NAME, async (event) => void seen.push(event), { observe: true });
  await world.attached(NAME);
  assert.equal(await handler({ n: 1 }, {}), "deployed");
  await until("the copy came", () => seen.length === 1);
  assert.deepEqual(seen, [{ n: 1 }]);
}));

test("web: a request and a response cross as streams", inWorld({}, async (world) => {
  const handler = world.host().web(NAME, async () => new Response("deployed"));
  world.laptop().web(NAME, async (request) => {
    const text = await request.text();
    const headers = new Headers({ "x-method": request.method, "x-path": new URL(request.url).pathname, "x-name": request.headers.get("x-name") });
    headers.append("set-cookie", "a=1");
    headers.append("set-cookie", "b=2");
    const parts = ["first ", "second ", String(text.length)];
    const body = new ReadableStream({ pull: (c) => (parts.length > 0 ? c.enqueue(new TextEncoder().encode(parts.shift())) : c.close()) });
    return new Response(body, { status: 201, headers });
  });
  await world.attached(NAME);
  const request = () => new Request("http://shop.example/v2/orders?full=1", { method: "POST", headers: { "x-name": "Jé" }, body: "z".repeat(5 << 20) });
  const response = await handler(request());
  assert.equal(response.status, 201);
  assert.deepEqual([...response.headers].filter(([name]) => name !== "date").sort(), [
    ["set-cookie", "a=1"], ["set-cookie", "b=2"], ["x-method", "POST"], ["x-name", "Jé"], ["x-path", "/v2/orders"],
  ]);
  assert.equal(await response.text(), `first second ${5 << 20}`);
}));

test("web: a caller that leaves cancels, and a stream waits for a slow reader", inWorld({}, async (world) => {
  const handler = world.host().web(NAME, async () => new Response("deployed"));
  let made = 0;
  let isCancelled = false;
  world.laptop().web(NAME, async (request) => {
    request.signal.addEventListener("abort", () => (isCancelled = true));
    const body = new ReadableStream({ pull: (c) => void (made++, c.enqueue(new Uint8Array(64 * 1024))) });
    return new Response(body);
  });
  await world.attached(NAME);
  const response = await handler(new Request("http://shop.example/"));
  const reader = response.body.getReader();
  await reader.read();
  let last = -1;
  await until("the stream stands still", async () => {
    const still = last === made;
    last = made;
    await new Promise((resolve) => setTimeout(resolve, 50));
    return still;
  });
  assert.ok(made < 200, `${made} pieces of 64 KiB without a reader`);
  await reader.cancel();
  await until("it was cancelled", () => isCancelled);
}));

test("a web request is declined by a local event handler, and runs deployed", inWorld({}, async (world) => {
  const handler = world.host().web(NAME, async () => new Response("deployed"));
  world.laptop()(NAME, async () => "event");
  await world.attached(NAME);
  assert.equal(await (await handler(new Request("http://shop.example/"))).text(), "deployed");
}));

test("with a key everything is sealed, and another key is left alone", inWorld({}, async (world) => {
  const key = () => `bk1.token.${crypto.randomBytes(32).toString("base64url")}.0.`;
  const [mine, other] = [key(), key()];
  const handler = world.host({ BUNGEE_KEY: mine })(NAME, deployed);
  const stranger = world.laptop({ BUNGEE_KEY: other });
  stranger(NAME, async () => "stranger");
  await world.attached(NAME);
  assert.equal(await handler({ word: "secret" }, {}), "deployed");
  await world.heard("has not the key");
  await world.heard("a host here seals with the key");
  await stranger.close();
  world.laptop({ BUNGEE_KEY: mine })(NAME, async (event) => `${event.word}!`);
  await world.attached(NAME);
  assert.equal(await handler({ word: "secret" }, {}), "secret!");
  const numbered = world.broker.frames.filter(({ index }) => index !== 0xffffffff);
  assert.ok(numbered.length >= 6);
  for (const { flags, body } of numbered) {
    assert.ok(flags & FLAG.SEALED);
    assert.ok(!body.includes("secret") && !body.includes("claim"));
  }
}));

test("sealed frames that were changed on the way do nothing", inWorld({}, async (world) => {
  const { broker } = world;
  const key = `bk1.token.${crypto.randomBytes(32).toString("base64url")}.0.`;
  const handler = world.host({ BUNGEE_KEY: key })(NAME, deployed);
  let ran = 0;
  world.laptop({ BUNGEE_KEY: key })(NAME, async () => ++ran);
  await world.attached(NAME);
  let changed = 0;
  broker.options.onFrame = (head, body) => {
    if (head.kind === KIND.Go && changed++ === 0) body[body.length - 1] ^= 1;
    return true;
  };
  assert.equal(await handler({}, {}), 1);
  assert.ok(changed >= 2, "the true frame came again");
}));

test("a token that is wrong: words for the developer, and the deployed code goes on", inWorld({ token: "right" }, async (world) => {
  const handler = world.host({ BUNGEE_TOKEN: "wrong" })(NAME, deployed);
  world.laptop({ BUNGEE_TOKEN: "wrong" })(NAME, async () => "laptop");
  await world.heard("session: Unauthorized: the token is not this server's (make one)");
  await world.heard("host: Unauthorized");
  assert.equal(await handler({}, {}), "deployed");
}));

test("closing gives the claim back, after what runs", inWorld({}, async (world) => {
  const handler = world.host()(NAME, deployed);
  const laptop = world.laptop();
  let finish;
  laptop(NAME, () => new Promise((resolve) => (finish = () => resolve("laptop"))));
  await world.attached(NAME);
  const running = handler({}, {});
  await until("it runs", () => finish);
  const closed = laptop.close();
  await until("the claim is free", () => world.broker.claims.length === 0);
  await until("the host knows", async () => (await handler({}, {})) === "deployed");
  finish();
  assert.equal(await running, "laptop");
  await closed;
}));

test("a frozen session ends by its own clock, before the channel gives it up", inWorld({}, async (world) => {
  const handler = world.host()(NAME, deployed);
  let aborted;
  world.laptop()(NAME, (_, context) => new Promise(() => context.signal.addEventListener("abort", () => (aborted = Date.now()))));
  await world.attached(NAME);
  const running = handler({}, {}).then(assert.fail, (error) => [error, Date.now()]);
  await until("it runs", () => world.broker.count(KIND.Go) === 1);
  // It hears nothing any more, and nobody hears it: only the leases end it.
  world.broker.options.isDeaf = true;
  world.broker.portOf("session").isFrozen = true;
  const [error, lost] = await running;
  assert.equal(error.name, "LiveSessionLost");
  await until("the handler was aborted", () => aborted);
  assert.ok(aborted <= lost + 20, `aborted ${aborted - lost} ms after the host gave it up`);
}));

test("in Lambda an invocation waits a moment to hear who is attached", inWorld({}, async (world) => {
  const { broker } = world;
  const laptop = world.laptop();
  laptop(NAME, async () => "laptop");
  await until("claimed", () => broker.claims.length === 1);
  const handler = world.host({ AWS_LAMBDA_RUNTIME_API: "127.0.0.1:9001" })(NAME, deployed);
  assert.equal(await handler({}, {}), "laptop", "the very first invocation");
}));
