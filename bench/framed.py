"""The row of the framed socket: INVOKE by one connection with sixteen requests in flight, beside sixteen connections of
the gateway, each with one."""

import json
import socket
import struct
import time

from load import wrk
from rows import at_least, rounds

IN_FLIGHT = 16
INVOKE = 1
HEAD = struct.Struct("<IQBI")


def invoke(path, name, in_flight, seconds):
    """Invocations answered per second on one connection that always has so many in flight."""
    payload = json.dumps({"function_id": name, "method": "GET", "path": "/"}).encode()
    head = lambda number: HEAD.pack(HEAD.size - 4 + len(payload), number, INVOKE, len(payload))
    requests = [head(number) + payload for number in range(in_flight)]
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.settimeout(30)
        connection.sendall(b"".join(requests))
        begun = time.perf_counter()
        end, answered, seen = begun + seconds, 0, b""
        while time.perf_counter() < end:
            seen += connection.recv(1 << 18)
            at, again = 0, []
            while len(seen) - at >= HEAD.size:
                rest, number, status, _ = HEAD.unpack_from(seen, at)
                if len(seen) - at < 4 + rest:
                    break
                if status != 0 or not seen.startswith(b'{"success":true', at + HEAD.size):
                    raise SystemExit(f"bench/run: an invocation failed: {seen[at:at + 400]!r}")
                again.append(requests[number])
                at += 4 + rest
            seen = seen[at:]
            answered += len(again)
            connection.sendall(b"".join(again))
        return answered / (time.perf_counter() - begun)


def frames(bench):
    gateway, path = bench.bungee.function("hello"), bench.bungee.data / "bungee.sock"
    peer = f"the gateway, {IN_FLIGHT} connections"
    targets = {"bungee": lambda seconds: invoke(path, "hello", IN_FLIGHT, seconds)}
    targets[peer] = lambda seconds: wrk(gateway.url(), IN_FLIGHT, seconds)["rate"]
    for target in targets.values():
        target(1)
    results = rounds(targets, lambda target: target(bench.seconds), bench.turns)
    yield at_least(f"INVOKE in frames, {IN_FLIGHT} in flight on one connection", results, peer, 0.8)


ALL = {"frames": frames}
TOOLS = {"frames": ["wrk", "bun"]}
