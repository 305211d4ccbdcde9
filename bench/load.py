"""Puts load on a server: wrk where it can, small clients of our own where wrk cannot.

Run as a program it is such a client in a process of its own: `load.py crowd|probe PORT PATH …`, one line of JSON out.
"""

import heapq
import json
import os
import random
import selectors
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from processes import ask, connect, read_answer, start, stop

HERE = Path(__file__).resolve().parent


def wrk(url, clients, seconds, body_bytes=0, statuses=False, threads=1, buckets=0):
    """A closed loop of `clients` connections: rate, latencies, errors; the latencies in so many ranges too."""
    command = ["wrk", f"-t{threads}", f"-c{clients}", f"-d{seconds}s", "--timeout", "10s"]
    command += ["-s", str(HERE / "report.lua"), url, "--", str(body_bytes)]
    environment = dict(os.environ, BENCH_BUCKETS=str(buckets), **({"BENCH_STATUSES": "1"} if statuses else {}))
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, env=environment)
    for line in done.stdout.splitlines():
        if line.startswith("REPORT "):
            report = json.loads(line.removeprefix("REPORT "))
            report["rate"] = report["requests"] / report["seconds"]
            if not statuses and (report["not_2xx"] or report["socket_errors"]):
                raise SystemExit(f"bench/run: {url} failed under load: {line}")
            return report
    raise SystemExit(f"bench/run: wrk said nothing:\n{done.stdout}{done.stderr}")


def sockets(bun, url, clients, seconds):
    """WebSocket messages sent and echoed per second, by `clients` that wait for each."""
    command = [bun, HERE / "sockets.ts", url.replace("http:", "ws:"), str(clients), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30)
    if done.returncode != 0:
        raise SystemExit(f"bench/run: the WebSocket client failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)["rate"]


def numbered(bun, url, clients, count, first=0):
    """`count` requests, each with a number of its own that its answer has to carry, by `clients` that wait for each."""
    command = [bun, HERE / "ids.ts", url, str(clients), str(count), str(first)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 + count / 200)
    if done.returncode != 0:
        raise SystemExit(f"bench/run: the client with numbers failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def beside(kind, port, path, *arguments):
    """One of our own clients, started in a process beside this one; `finish` waits for its report."""
    words = [sys.executable, __file__, kind, port, path, *arguments]
    return start(words, stdout=subprocess.PIPE, text=True)


def finish(client, patience=60):
    out, _ = client.communicate(timeout=patience)
    stop(client)
    if client.returncode != 0:
        raise SystemExit(f"bench/run: a client ended with {client.returncode}")
    return json.loads(out)


def at_once(where, path, count):
    """`count` requests in the same moment: seconds until each was answered, and the statuses."""
    connections = [connect(where, timeout=30) for _ in range(count)]
    gate = threading.Barrier(count + 1)
    took, statuses = [0.0] * count, [0] * count

    def one(index):
        gate.wait()
        begun = time.perf_counter()
        statuses[index] = ask(connections[index], path)[0]
        took[index] = time.perf_counter() - begun

    threads = [threading.Thread(target=one, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    gate.wait()
    for thread in threads:
        thread.join(60)
    for connection in connections:
        connection.close()
    return took, statuses


def percentile(values, share):
    """Nearest rank; `None` of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None


def probe(port, path, seconds):
    """Asks one by one, unhurried; how long refusals and answers took, in milliseconds."""
    took, end = {}, time.monotonic() + seconds
    with connect(port) as connection:
        while time.monotonic() < end:
            begun = time.perf_counter()
            status = ask(connection, path)[0]
            took.setdefault(status, []).append((time.perf_counter() - begun) * 1000)
            time.sleep(0.005)
    return {
        status: {"count": len(values), "p50_ms": statistics.median(values), "p99_ms": percentile(values, 0.99)}
        for status, values in took.items()
    }


class Crowd:
    """Clients that ask again as soon as they are served, and wait as `Retry-After` says when they are refused."""

    def __init__(self, port, path, clients, warm_up, seconds):
        self.request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        self.address, self.clients = ("127.0.0.1", port), clients
        self.begin = time.monotonic() + warm_up
        self.end = self.begin + seconds
        self.selector, self.waiting = selectors.DefaultSelector(), []
        self.counts, self.lost = {}, 0

    def run(self):
        for _ in range(self.clients):
            self.open()
        while (now := time.monotonic()) < self.end:
            for key, _ in self.selector.select(0.01):
                self.read(key.fileobj)
            while self.waiting and self.waiting[0][0] <= now:
                heapq.heappop(self.waiting)[2].send(self.request)
        return {"seconds": self.end - self.begin, "statuses": self.counts, "lost": self.lost}

    def open(self):
        connection = socket.create_connection(self.address, 10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.selector.register(connection, selectors.EVENT_READ)
        connection.send(self.request)

    def read(self, connection):
        """An answer of ours fits one read: it is small, and written at once or nearly so."""
        try:
            status, headers, _ = read_answer(connection)
        except OSError:
            self.lost += 1
            self.selector.unregister(connection)
            connection.close()
            self.open()
            return
        now = time.monotonic()
        if now >= self.begin:
            self.counts[status] = self.counts.get(status, 0) + 1
        if status == 200:
            connection.send(self.request)
        else:
            # Spread out, as a thousand strangers would be.
            pause = float(headers.get("retry-after", 1)) * random.uniform(0.5, 1.5)
            heapq.heappush(self.waiting, (now + pause, connection.fileno(), connection))


if __name__ == "__main__":
    kind, port, path, *numbers = sys.argv[1:]
    if kind == "probe":
        print(json.dumps(probe(int(port), path, float(numbers[0]))))
    else:
        clients, warm_up, seconds = int(numbers[0]), float(numbers[1]), float(numbers[2])
        print(json.dumps(Crowd(int(port), path, clients, warm_up, seconds).run()))
