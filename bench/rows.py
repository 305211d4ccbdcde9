"""The rows of the table: each measures one promise beside its peers, in interleaved rounds, and judges it.

A row is a generator of `line`s. Goals are compared with what was measured, never with what is printed.
"""

import json
import math
import os
import statistics
import time

import load
import peers
import processes
from load import wrk
from processes import ask, connect, cpu_seconds, memory_mb, wait_until

median = statistics.median


def line(measure, ours, goal, met, peer="—", ratio=None, **more):
    """One line of the table; `more` goes into the JSON only."""
    return {"measure": measure, "bungee": ours, "peer": peer, "ratio": ratio, "goal": goal, "met": met, **more}


def rounds(targets, measure, count):
    """Measures every target `count` times, in turn and in an order that rotates; the results by name."""
    names, results = list(targets), {name: [] for name in targets}
    for turn in range(count):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            results[name].append(measure(targets[name]))
    return results


def ratios(ours, theirs):
    """The median of what each round says: neighbours in time saw the same machine."""
    return median(mine / their for mine, their in zip(ours, theirs))


def per_second(rates):
    return f"{median(rates):,.0f}/s"


def down(ratio):
    """Three digits, never rounded toward a goal that is a minimum."""
    return math.floor(ratio * 1000) / 1000


def up(ratio):
    """Three digits, never rounded toward a goal that is a maximum."""
    return math.ceil(ratio * 1000) / 1000


def at_least(measure, results, peer, goal, **more):
    ratio = ratios(results["bungee"], results[peer])
    return line(
        measure, per_second(results["bungee"]), f"≥ {goal} ×", ratio >= goal,
        f"{peer} {per_second(results[peer])}", down(ratio), runs={"bungee": results["bungee"], peer: results[peer]}, **more,
    )


class Bench:
    """What all rows share: one server with every function deployed, and how long to measure."""

    def __init__(self, binary, quick, log, before=None):
        self.binary, self.quick, self.log, self.before = binary, quick, log, before
        self.turns, self.seconds = (2, 2) if quick else (5, 4)
        self.few = 5 if quick else 15
        self._bungee = None

    @property
    def bungee(self):
        """Started when the first row needs it."""
        if self._bungee is None:
            self._bungee = peers.Bungee(self.binary, self.log).ready().deploy()
        return self._bungee

    def rate(self, clients, **options):
        return lambda target: wrk(target.url(), clients, self.seconds, **options)["rate"]


def hello(bench):
    behind = peers.bun_by_hand("hello", unix=True)
    targets = {
        "bungee": bench.bungee.function("hello"),
        "nginx, log + id": peers.nginx(behind.where, logged=True),
        "nginx": peers.nginx(behind.where, logged=False),
        "raw Bun": peers.bun_by_hand("hello"),
    }
    for target in targets.values():
        wrk(target.url(), 16, 1)
    for clients in (16, 64):
        results = rounds(targets, bench.rate(clients), bench.turns)
        for peer, goal in (("nginx, log + id", 1.0), ("nginx", 0.85), ("raw Bun", 0.6)):
            yield at_least(f"hello, Bun worker, {clients} clients", results, peer, goal)
    stop(behind, *list(targets.values())[1:])


def node(bench):
    targets = {
        "bungee": bench.bungee.function("hello-node"),
        "raw node http": peers.node_by_hand("node_raw.js"),
        "eager Request shim": peers.node_by_hand("node_eager.js"),
    }
    for target in targets.values():
        wrk(target.url(), 16, 1)
    results = rounds(targets, bench.rate(16), bench.turns)
    for peer, goal in (("raw node http", 0.6), ("eager Request shim", 2)):
        yield at_least("hello, Node worker, 16 clients", results, peer, goal)
    stop(*list(targets.values())[1:])


def stop(*running):
    for peer in running:
        processes.stop(peer.process)


def cpu(bench):
    """Host CPU per request: of the server process alone, without its workers."""
    behind = peers.bun_by_hand("hello", unix=True)
    bungee, nginx = bench.bungee.function("hello"), peers.nginx(behind.where, logged=True)

    def microseconds(clients):
        def measure(target):
            # nginx works in its children; our workers are somebody else's code.
            own = [target.process.pid] if target is bungee else processes.family(target.process.pid)
            before = sum(map(cpu_seconds, own))
            report = wrk(target.url(), clients, bench.seconds)
            return (sum(map(cpu_seconds, own)) - before) / report["requests"] * 1e6

        return measure

    for clients in (16, 64):
        results = rounds({"bungee": bungee, "nginx": nginx}, microseconds(clients), bench.turns)
        ours, theirs = median(results["bungee"]), median(results["nginx"])
        yield line(
            f"host CPU per request, {clients} clients", f"{ours:.1f} µs", "≤ 12 µs", ours <= 12,
            f"nginx, log + id {theirs:.1f} µs", up(ours / theirs), runs=results,
        )
    stop(behind, nginx)


def echo(bench):
    targets = {"bungee": bench.bungee.function("echo"), "raw Bun": peers.bun_by_hand("echo")}
    pid, resident = bench.bungee.process.pid, []
    for target in targets.values():
        wrk(target.url(), 16, 1, body_bytes=65536)

    def measure(target):
        rate = wrk(target.url(), 16, bench.seconds, body_bytes=65536)["rate"]
        if target is targets["bungee"]:
            resident.append(memory_mb(pid)[0])
        return rate

    yield at_least("64 KiB echo, 16 clients", rounds(targets, measure, bench.turns), "raw Bun", 0.4)
    grown = resident[-1] / resident[0]
    yield line(
        "… memory after the first and the last run", f"{resident[0]:.1f} → {resident[-1]:.1f} MB", "flat: ≤ 1.1 ×",
        grown <= 1.1, ratio=up(grown), runs=resident,
    )
    stop(targets["raw Bun"])


def socket(bench):
    targets = {"bungee": bench.bungee.function("socket"), "raw Bun": peers.bun_by_hand("socket")}
    bun = peers.find("bun")
    results = rounds(targets, lambda target: load.sockets(bun, target.url(), 64, bench.seconds), bench.turns)
    yield at_least("WebSocket echo, 64 connections", results, "raw Bun", 0.5)
    stop(targets["raw Bun"])


def isolate(bench):
    ours, theirs = bench.bungee.function("snippet"), peers.workerd()
    with connect(bench.bungee.port) as connection:
        counted = [ask(connection, "/functions/fresh")[2] for _ in range(5)]
    yield line("isolate, context", "fresh" if set(counted) == {b"1"} else f"counted {counted}", "fresh per call", set(counted) == {b"1"})
    targets = {"bungee": ours, "workerd": theirs}
    for target in targets.values():
        wrk(target.url(), 16, 1)
    single = rounds(targets, lambda target: wrk(target.url(), 1, bench.seconds)["p50_us"] / 1000, bench.turns)
    value, peer = median(single["bungee"]), median(single["workerd"])
    yield line(
        "isolate over HTTP, p50 at 1 client", f"{value:.3f} ms", "≤ 0.4 ms", value <= 0.4,
        f"workerd (one isolate for all) {peer:.3f} ms", up(value / peer), runs=single,
    )
    many = rounds(targets, bench.rate(16), bench.turns)
    rate = median(many["bungee"])
    yield line(
        "isolate over HTTP, 16 clients", per_second(many["bungee"]), "≥ 5 000/s", rate >= 5000,
        f"workerd (one isolate for all) {per_second(many['workerd'])}", down(ratios(many["bungee"], many["workerd"])), runs=many,
    )
    stop(theirs)


# What a client of the Functions Service hands in; `seen` counts the calls that its context remembers.
SOURCE = """let seen = 0
export async function handler(event) {
  console.log('Function invoked')
  seen += 1
  return { seen, items: event.items?.length ?? 0 }
}
"""


def service(bench):
    """The Functions Service profile: source handed in as text, called in a fresh context, its log line in the answer."""
    port = bench.bungee.port
    words = {"function_name": "bench", "file_path": "api/bench.js", "code": SOURCE}
    path = "/api/v1/functions/bench-service/bench"
    with connect(port) as connection:
        ask(connection, "/api/functions/projects/bench-service", json.dumps(words).encode())
        answers = [json.loads(ask(connection, path, b"{}")[2]) for _ in range(5)]
    seen = {answer["result"]["seen"] for answer in answers}
    logs = {tuple(answer["logs"]) for answer in answers}
    yield line(
        "Functions Service, context and logs", f"counted {sorted(seen)}, logs {sorted(logs)}", "fresh per call, one line",
        seen == {1} and logs == {("[LOG] Function invoked",)},
    )
    targets = {"bungee": path, "gateway": "/functions/bench-service/bench"}
    url = lambda path: f"http://127.0.0.1:{port}{path}"
    for target in targets.values():
        wrk(url(target), 16, 1, body_bytes=2)
    single = rounds(targets, lambda target: wrk(url(target), 1, bench.seconds, body_bytes=2)["p50_us"] / 1000, bench.turns)
    value, plain = median(single["bungee"]), median(single["gateway"])
    yield line(
        "Functions Service, p50 at 1 client", f"{value:.3f} ms", "≤ 0.5 ms", value <= 0.5,
        f"the same through the gateway {plain:.3f} ms", up(value / plain), runs=single,
    )
    many = rounds(targets, lambda target: wrk(url(target), 16, bench.seconds, body_bytes=2)["rate"], bench.turns)
    yield line(
        "Functions Service, 16 clients", per_second(many["bungee"]), "published", None,
        f"the same through the gateway {per_second(many['gateway'])}", down(ratios(many["bungee"], many["gateway"])), runs=many,
    )


# As the functions say it in functions/bungee.toml.
DEADLINE_MS = 200
OVERSHOOTS = {
    "overshoot": [
        "loop", "promises", "regex", "indexOf in a loop", "JSON.stringify", "replaceAll", "BigInt square",
        "split, reverse, join", "join and split", "encodeURIComponent",
    ],
    "spin": ["loop"],
}


def overshoot(bench):
    """How long past its deadline a call that never ends is answered, seen by its caller."""
    for function, cases in OVERSHOOTS.items():
        for case in cases:
            past, outcomes, said = [], set(), set()
            for _ in range(max(3, bench.turns)):
                # The last one was killed: have a worker there, so that no start is measured.
                wait_until("a worker", lambda: bench.bungee.invoke(function, {"case": "none"})[1]["outcome"] == "ok")
                begun = time.perf_counter()
                _, answer = bench.bungee.invoke(function, {"case": case})
                past.append((time.perf_counter() - begun) * 1000 - DEADLINE_MS)
                outcomes.add(answer["outcome"])
                said.add(str((answer["error"] or {}).get("message")))
            runtime = "isolate" if function == "overshoot" else "bun"
            yield line(
                f"overshoot, {runtime}, {case}", f"{median(past):+.1f} ms (worst {max(past):+.1f})", "≤ +50 ms, each",
                max(past) <= 50 and min(past) >= -5 and outcomes == {"FunctionTimeout"}, "; ".join(sorted(outcomes)), runs=past, said=sorted(said),
            )


def cold(bench):
    """From nothing to the first answer: our caller's view, and that of one who types `bun hello.js`."""
    bungee, bun, script = bench.bungee, str(peers.find("bun")), str(peers.HERE / "peers" / "hello.js")
    path = processes.folder() / "bun.sock"
    null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]

    def by_hand(_):
        path.unlink(missing_ok=True)
        begun = time.perf_counter()
        pid = os.posix_spawn(bun, [bun, script, str(path)], os.environ, file_actions=null)
        try:
            wait_until("bun", lambda: processes.answers(path), pause=0.0002)
            return (time.perf_counter() - begun) * 1000
        finally:
            os.kill(pid, 9)
            os.waitpid(pid, 0)

    def ours(name):
        wait_until("the worker to be gone", lambda: bungee.workers(name) == 0)
        time.sleep(0.5)  # a spare has had the time to boot, and is idle
        begun = time.perf_counter()
        with connect(bungee.port) as connection:
            status = ask(connection, f"/functions/{name}")[0]
        took = (time.perf_counter() - begun) * 1000
        assert status == 200, status
        return took

    targets = {
        "bun by hand": by_hand,
        "cold": lambda _: ours("cold"),
        "cold, no spare": lambda _: ours("cold-no-spare"),
    }
    for first in targets.values():
        first(None)
    results = rounds(targets, lambda measure: measure(None), bench.few)
    peer = median(results["bun by hand"])
    for title, key, goal in (("spare ready", "cold", 1.3), ("no spare", "cold, no spare", 1.3)):
        value = median(results[key])
        yield line(
            f"cold start, {title}, median of {bench.few}", f"{value:.2f} ms", f"≤ {goal} ×", value / peer <= goal,
            f"bun by hand {peer:.2f} ms", up(value / peer), runs=results,
        )


def overload(bench):
    """Ten workers that hold each call for 5 ms, and a queue of 100: what more and more clients get."""
    bungee, path, pid = bench.bungee, "/functions/busy", bench.bungee.process.pid
    with connect(bungee.port) as connection:
        wait_until("ten workers", lambda: ask(connection, path)[0] == 200 and bungee.workers("busy") == 10)
    best, seconds = 0.0, max(4, bench.seconds)
    for clients in (10, 64, 1000):
        memory_before = memory_mb(pid)[0]
        crowd = load.beside("crowd", bungee.port, path, clients, 2, seconds)
        time.sleep(2)
        prober = load.beside("probe", bungee.port, path, seconds - 1)
        memory = [memory_mb(pid)[0]]
        done, probed = load.finish(crowd), load.finish(prober)
        memory.append(memory_mb(pid)[0])
        rate = done["statuses"].get("200", 0) / done["seconds"]
        best = max(best, rate)
        refused = done["statuses"].get("429", 0) / done["seconds"]
        yield line(
            f"overload, {clients} clients", f"{rate:,.0f}/s served, {refused:,.0f}/s refused",
            "within 20 % of the best", rate >= 0.8 * best, f"best {best:,.0f}/s", down(rate / best),
            statuses=done["statuses"], lost=done["lost"],
        )
        if clients >= 64:
            yield line(
                "… memory, settled and at the end", f"{memory[0]:.1f} → {memory[1]:.1f} MB", "flat: ≤ 1.1 ×",
                memory[1] <= 1.1 * memory[0], f"before them {memory_before:.1f} MB", up(memory[1] / memory[0]),
            )
        if clients == 1000:
            yield refusals(probed)
    yield impatient(bungee, path, best, seconds)


def refusals(probed):
    """What one more client saw while a thousand were there."""
    refused = probed.get("429", {"count": 0, "p50_ms": None, "p99_ms": None})
    if not refused["count"]:
        return line("… refusals, one by one", "none seen", "< 1 ms", False, probed=probed)
    return line(
        f"… {refused['count']} refusals, one by one", f"p50 {refused['p50_ms']:.3f} ms, p99 {refused['p99_ms']:.3f} ms",
        "< 1 ms (p50)", refused["p50_ms"] < 1, probed=probed,
    )


def impatient(bungee, path, best, seconds):
    """A thousand clients that ask again at once: every refusal brings the next request."""
    report = wrk(f"http://127.0.0.1:{bungee.port}{path}", 1000, seconds, statuses=True)
    rate = report["statuses"].get("200", 0) / report["seconds"]
    refused = report["statuses"].get("429", 0) / report["seconds"]
    return line(
        "overload, 1000 clients that never pause", f"{rate:,.0f}/s served, {refused:,.0f}/s refused",
        "within 20 % of the best", rate >= 0.8 * best, f"best {best:,.0f}/s", down(rate / best), report=report,
    )


def sleep(bench):
    path, port = "/functions/sleepers", bench.bungee.port
    for state in ("from nothing", "warm"):
        took, statuses = load.at_once(port, path, 100)
        served = statuses.count(200)
        yield line(
            f"100 sleepers of 1 s at once, {state}", f"{served} done in {max(took):.3f} s", "100 in < 1.3 s",
            served == 100 and max(took) < 1.3, runs=sorted(took),
        )
    took, statuses = load.at_once(port, "/functions/eleven", 11)
    late = sum(seconds > 1.5 for seconds in took)
    yield line(
        "11 sleepers, the defaults", f"{statuses.count(200)} served, {late} of them waited ({max(took):.3f} s)",
        "the 11th waits and is served", statuses.count(200) == 11 and late == 1, runs=sorted(took),
    )


def server(bench):
    """From spawn to ready, on an empty data folder and on a used one, and what it weighs when nobody asks."""
    for state in ("an empty", "a used"):
        took = []
        running = peers.Bungee(bench.binary, bench.log)
        running.ready().stop()
        for _ in range(bench.few):
            if state == "an empty":
                running.renew()
            begun = time.perf_counter()
            running.start().ready()
            took.append((time.perf_counter() - begun) * 1000)
            running.stop()
        value = median(took)
        yield line(f"ready after start, {state} data folder", f"{value:.1f} ms", "≤ 50 ms", value <= 50, runs=took)
    running.start().ready()
    time.sleep(3)
    resident, proportional = memory_mb(running.process.pid)
    children = [memory_mb(pid) for pid in processes.family(running.process.pid)[1:]]
    yield line(
        "idle memory of the server", f"RSS {resident:.1f} MB, PSS {proportional:.1f} MB", "RSS ≤ 30 MB", resident <= 30,
        f"its {len(children)} idle children: PSS {sum(size[1] for size in children):.1f} MB", children=children,
    )
    running.stop()


ALL = {
    row.__name__: row for row in (hello, node, cpu, echo, socket, isolate, service, overshoot, cold, overload, sleep, server)
}
# What each row needs besides our own server.
TOOLS = {
    "hello": ["nginx", "wrk", "bun"], "node": ["wrk", "bun", "node"], "cpu": ["nginx", "wrk", "bun"],
    "echo": ["wrk", "bun"], "socket": ["bun"],
    "isolate": ["wrk", "bun", "workerd"], "service": ["wrk", "bun"], "overshoot": ["bun"], "cold": ["bun"], "overload": ["wrk", "bun"],
    "sleep": ["bun"], "server": ["bun"],
}
