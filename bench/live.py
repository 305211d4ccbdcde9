"""Rows about live development: what a laptop on a deployed function costs, carries, loses, and never does twice.

Server and laptop are both on this machine, so what is added is work and not distance.
"""

import json
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager

import counted
import load
import peers
import processes
from load import wrk
from processes import ask, connect, memory_mb, wait_until
from rows import line, median, rounds, up

# The last commit without live development, what nobody attached is compared with.
BEFORE = "a3bfb95"

INVOKE = "/v1/projects/default/functions/{}/invoke"


@contextmanager
def attached(bench):
    """A server with the live functions, and a laptop that has claimed its part of them."""
    server = peers.Bungee(bench.binary, bench.log).ready().deploy(peers.HERE / "live")
    laptop = peers.Laptop(server)
    try:
        yield server, laptop
    finally:
        laptop.stop()
        server.stop()


def differences(ours, theirs):
    """What each round says: neighbours in time saw the same machine."""
    return [mine - their for mine, their in zip(ours, theirs)]


def added(bench):
    """One client asks a deployed function and its twin on the laptop; beside them a bare round trip through Redis."""
    with attached(bench) as (server, _):
        port, redis = peers.redis()
        bun = peers.find("bun")

        def through_redis(seconds):
            command = [bun, peers.HERE / "peers" / "redis.ts", "ask", str(port), str(seconds)]
            return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)

        targets = {
            "deployed": lambda seconds: wrk(server.function("hello").url(), 1, seconds),
            "laptop": lambda seconds: wrk(server.function("hello-live").url(), 1, seconds),
            "Redis": through_redis,
        }
        for target in targets.values():
            target(1)
        results = rounds(targets, lambda target: target(bench.seconds), bench.turns)
        for process in redis:
            processes.stop(process)
    for share, goal in (("p50", 0.3), ("p99", 1.0)):
        deployed, laptop, through = ([run[f"{share}_us"] / 1000 for run in results[name]] for name in targets)
        more = median(differences(laptop, deployed))
        both = f"{median(deployed):.3f} → {median(laptop):.3f}"
        yield line(
            f"added by a laptop, 1 client, {share}", f"{more:+.3f} ms ({both})", f"≤ {goal} ms", more <= goal,
            f"Redis PUBLISH + BRPOP {median(through):.3f} ms", up(more / median(through)), runs=results,
        )


# Functions whose share depends on when requests come: how many records are written at once, how often a thread sleeps and wakes.
TIMELY = re.compile(
    r"sqlite|sqlx|\bwal|[Vv]dbe|[Bb]tree|[Bb]alance|[Pp]cache|[Pp]ager|Page|Cursor|unixRead|unixWrite|flume"
    r"|store::|[Jj]ournal|records"
    r"|malloc|free|realloc|calloc|memset|memcmp|core::hash|foldhash|check_memory|read_to_end"
    r"|mutex|futex|pthread|[Pp]ark|steal|defrag|__rust_begin_short|Timespec|tokio::(?:run)?time::"
)


def nobody(bench):
    """Instructions of the server process for a request to a deployed function, while nobody is attached, now and before.

    Writing records and waking move the sum by a third, so they are not counted; what one build makes a function of its own and the
    other does not is counted in both.
    """
    count, turns = 400, 5 if bench.quick else 10
    before = bench.before or peers.build_of(BEFORE)
    servers = {"now": Counted(bench.binary, bench.log), "before": Counted(before, bench.log)}
    try:
        idle = {name: sum(server.during(lambda: time.sleep(5)).values()) / 5 for name, server in servers.items()}
        results = rounds(servers, lambda server: server.during(lambda: server.ask(count)), turns)
    finally:
        for server in servers.values():
            server.bungee.stop()
    functions = [name for name in set().union(*results["now"], *results["before"]) if not TIMELY.search(name)]
    each = {name: [sum(run[function] for function in functions) / count for run in runs] for name, runs in results.items()}
    now, then = (median(sums) for sums in each.values())
    moved = {
        function: [round(median(run[function] for run in runs) / count) for runs in results.values()] for function in functions
    }
    yield line(
        "nobody attached, instructions on the way of a request", f"{now:,.0f} ({now - then:+,.0f})", "≤ +600 (0.2 µs)",
        now - then <= 600, f"before live {then:,.0f}", up(now / then), runs=each,
        moved=sorted(moved.items(), key=lambda pair: -abs(pair[1][0] - pair[1][1]))[:40],
        sums={name: [sum(run.values()) / count for run in runs] for name, runs in results.items()},
    )
    yield line(
        "… per second, without requests", f"{idle['now']:,.0f} ({idle['now'] - idle['before']:+,.0f})", "—", None,
        f"before live {idle['before']:,.0f}", runs=idle,
    )


class Counted:
    """A server of one thread whose instructions callgrind counts; its workers run as they are."""

    def __init__(self, binary, log):
        self.place = processes.folder()
        valgrind, needs = peers.valgrind()
        needs["TOKIO_WORKER_THREADS"] = "1"  # two would look for each other's work, as luck has it
        words = [sys.executable, peers.HERE / "counted.py", valgrind, self.place / "out"]
        self.bungee = peers.Bungee(binary, log, under=words, needs=needs).listening().deploy(peers.HERE / "live")
        self.ask(300)

    def ask(self, count):
        with connect(self.bungee.port, timeout=60) as connection:
            for _ in range(count):
                assert ask(connection, "/functions/hello")[0] == 200

    def control(self, word):
        command = ["callgrind_control", word, str(self.bungee.process.pid)]
        subprocess.run(command, check=True, capture_output=True, timeout=120)

    def during(self, what):
        """Instructions while something happens, by function."""
        self.control("--zero")
        what()
        self.control("--dump")
        newest = max(self.place.glob("out.*"), key=lambda path: int(path.suffix[1:]))
        found = counted.by_function(newest.read_text())
        newest.unlink()
        return found


def carried(bench):
    """A hundred at once through one laptop, each request with a number that its answer has to carry."""
    count, clients = 5_000 if bench.quick else 50_000, 100
    bun = peers.find("bun")
    with attached(bench) as (server, laptop):
        url = server.function("tally-live").url()
        load.numbered(bun, url, clients, 2 * clients, 0)
        before, report = laptop.tally(), load.numbered(bun, url, clients, count, 1_000_000)
        after = laptop.tally()
    calls, names = after["calls"] - before["calls"], after["names"] - before["names"]
    lost, doubled = count - names, calls - names
    is_whole = lost == doubled == report["wrong"] == 0 and after["where"] == "laptop"
    yield line(
        "100 in flight through one laptop", f"{report['rate']:,.0f}/s", "≥ 5 000/s", report["rate"] >= 5000, report=report,
    )
    yield line(
        f"… {count:,} requests with a number each", f"{lost} lost, {doubled} doubled, {report['wrong']} wrong answers",
        "none", is_whole, report=report, before=before, after=after,
    )


def large(bench):
    """An event of 6 MiB that a handler gives back."""
    size = 6 << 20
    with attached(bench) as (server, _):
        targets = {name: f"http://127.0.0.1:{server.port}{INVOKE.format(name)}" for name in ("back", "back-live")}
        for url in targets.values():
            wrk(url, 1, 1, body_bytes=size)
        results = rounds(targets, lambda url: wrk(url, 1, bench.seconds, body_bytes=size), bench.turns)
    deployed, laptop = ([run["p50_us"] / 1000 for run in runs] for runs in results.values())
    more = median(differences(laptop, deployed))
    yield line(
        "6 MiB event and 6 MiB result, added, p50", f"{more:+.1f} ms ({median(deployed):.1f} → {median(laptop):.1f})",
        "≤ 30 ms", more <= 30, runs=results,
    )


# How long a session may be silent, and how late that may be seen.
LEASE, TICK = 5, 0.05


def lost(bench):
    """Ten invocations run on a laptop that is killed, or that freezes; how long its callers wait to hear of it."""
    for what, number, most, goal in (
        ("killed", signal.SIGKILL, 1, "≤ 1 s, each"),
        ("frozen", signal.SIGSTOP, LEASE + TICK, "≤ the lease of 5 s, + 50 ms, each"),
    ):
        took, said = [], Counter()
        for _ in range(2 if bench.quick else 4):
            with attached(bench) as (server, laptop):
                slowest, types = lose(server, laptop, number)
                laptop.signal(signal.SIGCONT)
                took.append(slowest)
                said.update(types)
        yield line(
            f"laptop {what}: its 10 calls fail", f"{median(took):.3f} s (worst {max(took):.3f})", goal,
            max(took) <= most and set(said) == {"LiveSessionLost"}, "SST 16 s, LLD 5 s (not measured here)", runs=took, said=said,
        )


def lose(server, laptop, number):
    """Seconds from the signal to the last answer, and what the answers were."""
    begun = processes.folder() / "begun"
    begun.touch()
    ended, types = [], []

    def call():
        with connect(server.port, timeout=40) as connection:
            status, _, body = ask(connection, f"/functions/sleep-live?file={begun}")
        ended.append(time.perf_counter())
        types.append(json.loads(body)["error"]["type"] if status >= 400 else str(status))

    callers = [threading.Thread(target=call) for _ in range(10)]
    for caller in callers:
        caller.start()
    wait_until("ten to run", lambda: len(begun.read_text().splitlines()) == 10)
    at = time.perf_counter()
    if number == signal.SIGKILL:
        laptop.process.kill()
    else:
        laptop.signal(number)
    for caller in callers:
        caller.join(40)
    return max(ended) - at, Counter(types)


# How long an offer stands.
BUDGET = 0.5
# Requests that begin within this while the laptop is stopped; it goes on when the budget of half of them is over.
SPREAD = 0.04
AT_ONCE = 10


def race(bench):
    """A laptop is stopped, and continues when the budget of its offers ends: each invocation runs once, here or there."""
    cycles = 5 if bench.quick else 100
    file = processes.folder() / "effects"
    file.touch()
    answers = {}
    with attached(bench) as (server, laptop):
        for cycle in range(cycles):
            stopped = laptop.signal(signal.SIGSTOP)
            first = time.perf_counter()
            callers = []
            for number in range(cycle * AT_ONCE, (cycle + 1) * AT_ONCE):
                moment = first + random.uniform(0, SPREAD)
                callers.append(threading.Thread(target=effect, args=(server, file, number, moment, answers)))
                callers[-1].start()
            until(first + BUDGET + random.uniform(0, SPREAD))
            laptop.signal(signal.SIGCONT, stopped)
            for caller in callers:
                caller.join(40)
        time.sleep(1)  # whoever would run one for the second time has had the time
    left = [text.split() for text in file.read_text().splitlines()]
    times, where = Counter(int(number) for number, _ in left), {int(number): place for number, place in left}
    total = cycles * AT_ONCE
    once = sum(times[number] == 1 for number in range(total))
    told = sum(answers[number] == (200, where.get(number)) for number in range(total))
    places = Counter(where.values())
    yield line(
        f"accept races the {BUDGET * 1000:.0f} ms budget, {total:,} times",
        f"{once:,} ran once: {places['laptop']} there, {places['server']} deployed", "side effects exactly once",
        once == told == total and len(left) == total,
        answers=Counter(map(str, answers.values())), often=[number for number in times if times[number] > 1][:20],
        never=[number for number in range(total) if number not in times][:20],
    )


def until(moment):
    time.sleep(max(0, moment - time.perf_counter()))


def effect(server, file, number, moment, answers):
    """One invocation that leaves a line, begun at a moment."""
    answers[number] = (0, "no answer")
    with connect(server.port, timeout=40) as connection:
        until(moment)
        status, _, body = ask(connection, f"/functions/effect-live?file={file}&id={number}")
    answers[number] = (status, body.decode(errors="replace")[:200])


def million(bench):
    """What both sides weigh while a great many invocations pass through one session."""
    count, bun = 50_000 if bench.quick else 1_000_000, peers.find("bun")
    weights, wrong, first, rates = {"server": [], "laptop": []}, 0, 0, []
    with attached(bench) as (server, laptop):
        url, sides = server.function("named-live").url(), {"server": server, "laptop": laptop}
        for share in (0.1, 0.5, 1):
            report = load.numbered(bun, url, 32, int(count * share) - first, first)
            wrong, first = wrong + report["wrong"], int(count * share)
            rates.append(report["rate"])
            for name, side in sides.items():
                weights[name].append(memory_mb(side.process.pid)[0])
    for name, sizes in weights.items():
        grown = sizes[-1] / sizes[0]
        yield line(
            f"{count:,} through one session, the {name}", " → ".join(f"{size:.1f}" for size in sizes) + " MB at 10, 50, 100 %",
            "flat: ≤ 1.1 ×, all answered", grown <= 1.1 and wrong == 0, ratio=up(grown), runs=sizes, wrong=wrong, rates=rates,
        )


# Ranges of latencies: from 32 µs on, each √2 times as wide; the last one has no end.
BUCKETS, NARROWEST = 20, 32


def histogram(bench):
    """The latencies of a deployed function and of its twin on a laptop, idle and busy."""
    columns = {}
    with attached(bench) as (server, _):
        targets = {"deployed": server.function("hello").url(), "laptop": server.function("hello-live").url()}
        for url in targets.values():
            wrk(url, 32, 1)
        for state, clients in (("idle", 1), ("busy", 32)):
            results = rounds(targets, lambda url: wrk(url, clients, min(3, bench.seconds), buckets=BUCKETS), min(3, bench.turns))
            for name, runs in results.items():
                columns[f"{state}, {name}"] = {
                    "buckets": [sum(counts) for counts in zip(*(run["buckets"] for run in runs))],
                    "p50": median(run["p50_us"] for run in runs) / 1000, "p99": median(run["p99_us"] for run in runs) / 1000,
                    "rate": median(run["rate"] for run in runs),
                }
    for state, clients in (("idle", "1 client"), ("busy", "32 clients")):
        deployed, laptop = (
            f"p50 {column['p50']:.3f} ms, p99 {column['p99']:.3f} ms, {column['rate']:,.0f}/s"
            for column in (columns[f"{state}, deployed"], columns[f"{state}, laptop"])
        )
        drawing = {"picture": picture(columns)} if state == "busy" else {}
        yield line(f"latencies with a laptop, {clients}", laptop, "published", None, f"deployed {deployed}", runs=columns, **drawing)


def picture(columns):
    """Bars side by side, one row for each range of latencies that occurred; each column's bars add up to all of its requests."""
    wide = 24
    seen = [index for index in range(BUCKETS) if any(column["buckets"][index] for column in columns.values())]
    # A bar is as long as the longest of all columns allows, and what there was at all is a dot at least.
    tallest = max(max(column["buckets"]) / sum(column["buckets"]) for column in columns.values())
    out = ["from ms  " + "".join(f"{name:<{wide}}" for name in columns).rstrip()]
    for index in range(seen[0], seen[-1] + 1):
        text = f"{NARROWEST * 2 ** (index / 2) / 1000:7.3f}  "
        for column in columns.values():
            share = column["buckets"][index] / sum(column["buckets"])
            bar = "█" * round(share / tallest * (wide - 8)) or ("·" if share else "")
            shown = f"{bar} {share:.1%}" if share >= 0.0005 else bar
            text += f"{shown:<{wide}}"
        out.append(text.rstrip())
    for name in ("p50", "p99"):
        out.append((f"{name:>7}  " + "".join(f"{column[name]:<{wide}.3f}" for column in columns.values())).rstrip())
    return "\n".join(out)


ALL = {
    f"live-{name}": row
    for name, row in {
        "added": added, "nobody": nobody, "load": carried, "large": large, "lost": lost, "race": race, "million": million,
        "histogram": histogram,
    }.items()
}
TOOLS = {name: ["bun"] for name in ALL}
TOOLS["live-added"] += ["wrk", "redis-server"]
TOOLS["live-nobody"] += ["callgrind_control"]
for name in ("live-large", "live-histogram"):
    TOOLS[name] += ["wrk"]
