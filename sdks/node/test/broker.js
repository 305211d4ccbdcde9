// A channel as strict as the real one and as small as can be: what it does not expect fails the test that runs it.

"use strict";

const http = require("node:http");
const { WebSocketServer } = require("ws");
const { KIND, control, decode, encode, isOfAttempt, parseObject } = require("../src/frame");

const LEASE = 1500;

class Broker {
  constructor(options = {}) {
    Object.assign(this, { options, ports: new Map(), claims: [], next: 1, faults: [], frames: [], server: http.createServer() });
    const sockets = new WebSocketServer({ noServer: true, handleProtocols: (offered) => (offered.has("bungee.live.1") ? "bungee.live.1" : false) });
    this.server.on("upgrade", (request, socket, head) => {
      const { token, isDeaf } = this.options;
      if (isDeaf) return void socket.destroy();
      if (request.url !== "/v1/live") return void socket.end("HTTP/1.1 404 Not Found\r\n\r\n");
      if (token && request.headers.authorization !== `Bearer ${token}`) {
        const body = JSON.stringify({ error: { type: "Unauthorized", message: "the token is not this server's", hint: "make one" } });
        return void socket.end(`HTTP/1.1 401 Unauthorized\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
      }
      sockets.handleUpgrade(request, socket, head, (socket) => this.connected(socket));
    });
  }

  async start(port = 0) {
    await new Promise((resolve) => this.server.listen(port, "127.0.0.1", () => resolve()));
    this.port = this.server.address().port;
    this.url = `ws://127.0.0.1:${this.port}`;
    return this;
  }

  connected(socket) {
    let port = null;
    socket.on("message", (data, isBinary) => {
      try {
        if (!isBinary) throw new Error("text");
        const { head, body } = decode(data);
        if (!port) port = this.hello(socket, head, body);
        else this.take(port, head, body);
      } catch (error) {
        this.faults.push(error);
        socket.terminate();
      }
    });
    socket.on("error", () => {});
    socket.on("close", () => port && port.socket === socket && !port.isFrozen && this.end(port, "the connection closed"));
  }

  hello(socket, head, body) {
    if (head.kind !== KIND.Hello) throw new Error("the first frame is no Hello");
    const said = parseObject(body);
    if (said.role !== "host" && said.role !== "session") throw new Error("no role");
    let port = [...this.ports.values()].find((port) => port.key === said.resume);
    const resumed = port !== undefined;
    if (resumed) {
      const old = port.socket;
      Object.assign(port, { socket, isFrozen: false });
      old.terminate();
    } else {
      const peer = this.next++;
      port = { peer, key: `key-${peer}`, session: `ses_${peer}`, socket, said, serves: [], isFrozen: false };
      this.ports.set(peer, port);
    }
    this.alive(port);
    this.tell(port, KIND.Welcome, {
      session: port.session, peer: port.peer, key: port.key, resumed, claims: this.claims.filter((claim) => claim.peer === port.peer).map(({ claim }) => claim), lease_ms: this.options.lease ?? LEASE, heartbeat_ms: this.options.heartbeat ?? 100,
      offer_ms: this.options.offerMs ?? 500, server: "test", project: "default", capabilities: ["deflate"], is_wide: false,
    });
    return port;
  }

  alive(port) {
    clearTimeout(port.lease);
    port.lease = setTimeout(() => this.end(port, "silent"), this.options.lease ?? LEASE);
  }

  end(port, why) {
    clearTimeout(port.lease);
    if (!this.ports.delete(port.peer)) return;
    const held = this.claims.filter((claim) => claim.peer === port.peer);
    this.claims = this.claims.filter((claim) => claim.peer !== port.peer);
    for (const other of this.ports.values()) this.tell(other, KIND.Gone, { peer: port.peer, why });
    for (const claim of held) this.present(claim.function);
  }

  tell(port, kind, payload) {
    if (!port.isFrozen) port.socket.send(control(kind, payload));
  }

  take(port, head, body) {
    if (port.isFrozen) return;
    this.alive(port);
    if (isOfAttempt(head.kind)) return this.relay(port, head, body);
    const said = parseObject(body);
    if (head.kind === KIND.Heartbeat) this.tell(port, KIND.Alive, { n: said.n });
    else if (head.kind === KIND.Serve && port.said.role === "host") this.serve(port, said);
    else if (head.kind === KIND.Claim && port.said.role === "session") this.claim(port, said);
    else if (head.kind === KIND.Release) this.release(port, said);
    else if (head.kind === KIND.Goodbye) this.end(port, said.why);
    else throw new Error(`kind ${head.kind} from a ${port.said.role}`);
  }

  relay(port, head, body) {
    const to = this.ports.get(head.peer);
    this.frames.push({ from: port.said.role, kind: head.kind, flags: head.flags, index: head.index, body });
    if (this.options.onFrame?.(head, body, port) === false) return;
    if (!to) return this.tell(port, KIND.Gone, { peer: head.peer, why: "not there" });
    if (to.said.role === port.said.role) throw new Error("two of one role talk");
    if (!to.isFrozen) to.socket.send(encode({ ...head, peer: port.peer }, body));
  }

  serve(port, { functions }) {
    port.serves = functions;
    for (const name of functions) if (this.claims.some((claim) => claim.function === name)) this.present(name, port);
  }

  claim(port, said) {
    const holder = this.claims.find((claim) => claim.function === said.function && claim.rule === said.rule && claim.mode === "take" && said.mode === "take");
    if (holder && !said.take_over) {
      return this.tell(port, KIND.Refused, { ref: said.ref, type: "ClaimHeld", message: "it is held", holder: { developer: holder.developer, since_ms: 0, rule: holder.rule, claim: holder.claim } });
    }
    if (holder) {
      this.claims = this.claims.filter((claim) => claim !== holder);
      this.tell(this.ports.get(holder.peer), KIND.Taken, { claim: holder.claim, by: port.said.developer, why: "taken over" });
    }
    const { rule, mode, concurrency, hold_deadline, function: name } = said;
    const { developer, seal, capabilities } = port.said;
    const claim = { claim: this.next++, peer: port.peer, session: port.session, function: name, developer, rule, mode, concurrency, hold_deadline, seal, capabilities };
    this.claims.push(claim);
    this.tell(port, KIND.Claimed, { ref: said.ref, claim: claim.claim, deployed: [...this.ports.values()].some((other) => other.serves.includes(name)) });
    this.present(name);
  }

  release(port, { claim }) {
    const freed = this.claims.filter((held) => held.peer === port.peer && (claim === undefined || held.claim === claim));
    this.claims = this.claims.filter((held) => !freed.includes(held));
    for (const { function: name } of freed) this.present(name);
  }

  present(name, only) {
    const claims = this.claims.filter((claim) => claim.function === name).map(({ function: _, ...claim }) => claim);
    claims.sort((one, other) => Number(one.rule === "all") - Number(other.rule === "all"));
    for (const port of this.ports.values()) {
      if (port.serves.includes(name) && (!only || only === port)) this.tell(port, KIND.Presence, { function: name, claims });
    }
  }

  /** The connection of one role dies, and the channel does not see it. */
  drop(role) {
    const port = this.portOf(role);
    port.isFrozen = true;
    port.socket.terminate();
  }

  /** The channel sees the connection of one role close. */
  cut(role) {
    this.portOf(role).socket.terminate();
  }

  portOf(role) {
    return [...this.ports.values()].find((port) => port.said.role === role);
  }

  count(kind) {
    return this.frames.filter((frame) => frame.kind === kind).length;
  }

  async stop() {
    for (const port of this.ports.values()) {
      clearTimeout(port.lease);
      port.socket.terminate();
    }
    this.ports.clear();
    this.server.closeAllConnections?.();
    await new Promise((resolve) => this.server.close(resolve));
    if (this.faults.length > 0) throw this.faults[0];
  }
}

module.exports = { Broker };
