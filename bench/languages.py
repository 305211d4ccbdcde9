"""Rows of what other languages and other people's clients cost: workers behind the Runtime API beside AWS's own emulator,
and boto3 beside the same Python client library without it."""

import os
import shutil
import statistics
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import peers
import processes
from load import wrk
from rows import line, ratios, rounds, down, up

median = statistics.median

# From PyPI, as scripts/test installs them for the tests; the emulator is a file in the wheel of AWS's SAM.
PYTHON = peers.TOOLS / "peers" / "python" / "bin"
EMULATOR = peers.TOOLS / "aws-lambda-rie"
WHEEL = "aws-sam-cli"
INVOCATIONS = "/2015-03-31/functions/{}/invocations"


def emulator():
    """AWS's own Runtime API emulator, fetched once."""
    if not EMULATOR.exists():
        place = processes.folder()
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", place, WHEEL], check=True, stdout=2)
        with zipfile.ZipFile(next(place.glob("*.whl"))) as wheel:
            kind = "arm64" if os.uname().machine == "aarch64" else "x86_64"
            EMULATOR.write_bytes(wheel.read(f"samcli/local/rapid/aws-lambda-rie-{kind}"))
        EMULATOR.chmod(0o755)
    return EMULATOR


def emulated(name, folder, *command):
    """A function in the emulator, with the same runtime client; one invocation at a time."""
    port, inner = processes.free_port(), processes.free_port()
    words = [emulator(), "--log-level", "error", "--runtime-interface-emulator-address", f"127.0.0.1:{port}"]
    words += ["--runtime-api-address", f"127.0.0.1:{inner}", *command]
    process = processes.start(words, cwd=folder)
    path = INVOCATIONS.format("function")
    processes.wait_until("the emulator to listen", lambda: process.poll() is not None or processes.listens(port))
    # It starts the runtime with the first invocation, and does not survive a second one meanwhile.
    status, _ = processes.get_json(port, path, "")
    if status != 200:
        raise SystemExit(f"bench/run: the emulator answered {status}")
    return Target(f"aws-lambda-rie, {name}", port, process, path)


class Target:
    """Where invocations are posted."""

    def __init__(self, name, port, process, path):
        self.name, self.port, self.process, self.path = name, port, process, path

    def url(self):
        return f"http://127.0.0.1:{self.port}{self.path}"


def served(bench):
    """A server that runs the languages; its python3 is the one that has the runtime client."""
    if not PYTHON.exists():
        raise SystemExit("bench/run: Python's peers are missing; scripts/test installs them")
    folder = processes.folder() / "languages"
    shutil.copytree(peers.HERE / "languages", folder)
    path = {"PATH": f"{PYTHON}:{os.environ['PATH']}"}
    server = peers.Bungee(bench.binary, bench.log, needs=path).ready()
    server.deploy(folder)
    return server, folder


def language(bench, name, *command):
    """One language: alone at one client, and eight workers of it under sixteen, beside the emulator."""
    server, folder = served(bench)
    ours = Target("bungee", server.port, server.process, INVOCATIONS.format(name))
    theirs = emulated(name, folder / name, *command)
    targets = {"bungee": ours, "emulator": theirs}
    for target in targets.values():
        wrk(target.url(), 1, 1, body_bytes=2)
    took = rounds(targets, lambda target: wrk(target.url(), 1, bench.seconds, body_bytes=2)["p50_us"], bench.turns)
    ratio = ratios(took["bungee"], took["emulator"])
    yield line(
        f"{name} worker, 1 client, p50", f"{median(took['bungee']) / 1000:.3f} ms", "≤ 1.0 ×", ratio <= 1.0,
        f"aws-lambda-rie {median(took['emulator']) / 1000:.3f} ms", up(ratio), runs=took,
    )
    yield crowded(bench, f"{name}, 8 workers, 16 clients", ours, theirs, alone)
    processes.stop(theirs.process)
    server.stop()


def crowded(bench, measure, ours, theirs, one_client):
    """Sixteen clients for us. The emulator runs one invocation at a time, and fails those that come meanwhile: it gets one."""
    targets = {
        "bungee": lambda seconds: wrk(ours.url(), 16, seconds, body_bytes=2)["rate"],
        "emulator": lambda seconds: one_client(theirs, seconds),
    }
    for rate in targets.values():
        rate(1)
    rates = rounds(targets, lambda rate: rate(bench.seconds), bench.turns)
    ratio = ratios(rates["bungee"], rates["emulator"])
    return line(
        measure, f"{median(rates['bungee']):,.0f}/s", "≥ 4 ×", ratio >= 4,
        f"aws-lambda-rie, one at a time {median(rates['emulator']):,.0f}/s", down(ratio), runs=rates,
    )


def alone(target, seconds):
    return wrk(target.url(), 1, seconds, body_bytes=2)["rate"]


def to_the_end(target, seconds):
    """One client that waits for its last answer: the emulator does not survive one that leaves during an invocation."""
    count, begun = 0, time.perf_counter()
    while time.perf_counter() < begun + seconds:
        status, _ = processes.get_json(target.port, target.path, "")
        assert status == 200, status
        count += 1
    return count / (time.perf_counter() - begun)


def python(bench):
    client = [PYTHON / "python", "-m", "awslambdaric"]
    yield from language(bench, "python", *client, "app.handler")
    server, folder = served(bench)
    ours = Target("bungee", server.port, server.process, INVOCATIONS.format("python-waits"))
    theirs = emulated("python-waits", folder / "python", *client, "app.waits")
    yield crowded(bench, "… with handlers that wait for 10 ms", ours, theirs, to_the_end)
    processes.stop(theirs.process)
    server.stop()


def go(bench):
    subprocess.run(["go", "build", "-C", peers.HERE / "languages" / "go", "-o", "bootstrap", "."], check=True,
                   env={**os.environ, "CGO_ENABLED": "0"})
    yield from language(bench, "go", "./bootstrap")


def boto3(bench):
    """The AWS SDK's whole way, and the same HTTP library straight at the gateway: medians of calls made in turn."""
    server, _ = served(bench)
    command = [PYTHON / "python", peers.HERE / "peers" / "boto.py", str(server.port), str(500 if bench.quick else 3000)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise SystemExit(f"bench/run: the boto3 client failed:\n{done.stderr}")
    took = {name: float(value) for name, value in (words.split() for words in done.stdout.splitlines())}
    more = took["invoke"] - took["signed"]
    yield line(
        "Invoke by boto3, more than /functions/… by its own library", f"{more:+.3f} ms", "≤ +0.2 ms", more <= 0.2,
        f"botocore, signed, parsed {took['signed']:.3f} ms; its bare HTTP {took['bare']:.3f} ms",
        up(took["invoke"] / took["signed"]), runs=took,
    )
    more = took["plain"] - took["bare"]
    yield line(
        "… of that, the server's part: bare HTTP to both paths", f"{more:+.3f} ms", "≤ +0.2 ms", more <= 0.2,
        f"{took['bare']:.3f} ms", up(took["plain"] / took["bare"]),
    )
    server.stop()


ALL = {row.__name__: row for row in (python, go, boto3)}
TOOLS = {"python": ["wrk", "bun"], "go": ["wrk", "bun"], "boto3": ["bun"]}
