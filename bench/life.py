"""Rows about the life of workers: cold starts of a large bundle, what a warm one weighs, a save, deaths under load."""

import os
import random
import shutil
import signal
import subprocess
import threading
import time

import peers
import processes
from processes import ask, connect, memory_mb, wait_until
from rows import line, median, rounds, up


def large(bench):
    """A cold start of a function with packages, beside `bun` by hand on the same bundle, unminified."""
    bungee, bun = bench.bungee, str(peers.find("bun"))
    folder = processes.folder() / "large"
    shutil.copytree(peers.HERE / "large", folder, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent"], cwd=folder, check=True, stdout=2)
    bundle = folder / "by-hand.js"
    subprocess.run([bun, "build", "src/large.ts", "--target=bun", f"--outfile={bundle}"], cwd=folder, check=True, stdout=2)
    size = bundle.stat().st_size / 1e6
    script, path = folder / "serve.js", processes.folder() / "bun.sock"
    script.write_text('import fetch from "./by-hand.js";\nBun.serve({ unix: process.argv[2], fetch });\n')
    null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    bungee.deploy(folder)

    def by_hand():
        path.unlink(missing_ok=True)
        begun = time.perf_counter()
        pid = os.posix_spawn(bun, [bun, str(script), str(path)], os.environ, file_actions=null)
        try:
            wait_until("bun", lambda: processes.answers(path), pause=0.0002)
            return (time.perf_counter() - begun) * 1000
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def ours():
        wait_until("the worker to be gone", lambda: bungee.workers("large") == 0)
        time.sleep(0.5)  # a spare has had the time to boot, and is idle
        begun = time.perf_counter()
        with connect(bungee.port) as connection:
            status = ask(connection, "/functions/large")[0]
        took = (time.perf_counter() - begun) * 1000
        assert status == 200, status
        return took

    by_hand(), ours()
    results = rounds({"bungee": ours, "bun by hand": by_hand}, lambda measure: measure(), bench.few)
    value, peer = median(results["bungee"]), median(results["bun by hand"])
    yield line(
        f"cold start, {size:.2f} MB bundle, median of {bench.few}", f"{value:.1f} ms", "≤ 0.75 ×", value / peer <= 0.75,
        f"bun by hand {peer:.1f} ms", up(value / peer), runs=results,
    )


def warm(bench):
    """What warm workers weigh that nobody asks: many functions, each with one."""
    count = 40 if bench.quick else 200
    folder = processes.folder() / "warm"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "hello.ts").write_text('export default () => new Response("hello\\n");\n')
    table = '[functions.warm{}]\nentry = "src/hello.ts"\nkind = "web"\nruntime = "bun"\nworkers = {{ min = 1, max = 1 }}\n'
    (folder / "bungee.toml").write_text("\n".join(table.format(n) for n in range(count)))
    running = peers.Bungee(bench.binary, bench.log)
    try:
        running.ready().deploy(folder)
        for n in range(count):
            with connect(running.port) as connection:
                assert ask(connection, f"/functions/warm{n}")[0] == 200
        time.sleep(5)
        everything = processes.family(running.process.pid)
        sizes = [memory_mb(pid)[1] for pid in everything]
        workers = sorted(
            memory_mb(pid)[1] for pid in everything if "/bundles/" in os.readlink(f"/proc/{pid}/cwd")
        )
    finally:
        running.stop()
    assert len(workers) == count, len(workers)
    yield line(
        f"idle warm Bun worker, {count} of them", f"PSS {median(workers):.2f} MB (most {workers[-1]:.2f})", "≤ 4 MB",
        median(workers) <= 4, runs=workers,
    )
    yield line(
        f"{count} warm functions, all processes", f"PSS {sum(sizes):.0f} MB", "200 in < 1 GB", sum(sizes) < 1000 * count / 200,
    )


def save(bench):
    """From a saved file until a request is answered by the new code."""
    folder, port = processes.folder() / "save", processes.free_port()
    for runtime in ("isolate", "bun"):
        (folder / "src").mkdir(parents=True, exist_ok=True)
        source = folder / "src" / f"{runtime}.ts"
        source.write_text('export default () => new Response("0");\n')
    (folder / "bungee.toml").write_text(
        "\n".join(
            f'[functions.{runtime}]\nentry = "src/{runtime}.ts"\nkind = "web"\nruntime = "{runtime}"\n'
            for runtime in ("isolate", "bun")
        )
    )
    bun = os.path.dirname(peers.find("bun"))
    environment = {**os.environ, "PATH": f"{bun}:{os.environ['PATH']}"}
    running = processes.start([bench.binary, "dev", folder, "--listen", f"127.0.0.1:{port}"], env=environment)
    try:
        for runtime in ("isolate", "bun"):
            wait_until("dev to serve", lambda: processes.answers(port, f"/functions/{runtime}"))
            took = []
            for number in range(1, bench.few + 3):
                time.sleep(0.7)
                begun = time.perf_counter()
                (folder / "src" / f"{runtime}.ts").write_text(f'export default () => new Response("{number}");\n')
                with connect(port) as connection:
                    while ask(connection, f"/functions/{runtime}")[2] != str(number).encode():
                        time.sleep(0.001)
                took.append((time.perf_counter() - begun) * 1000)
            value = median(took)
            yield line(f"save to the new code's answer, {runtime}", f"{value:.1f} ms", "≤ 100 ms", value <= 100, runs=took)
    finally:
        processes.stop(running)


def deaths(bench):
    """Invocations while a random worker is killed every 100 ms: what fails, how, and whether a place is lost."""
    bungee, total, clients = bench.bungee, 5_000 if bench.quick else 50_000, 16
    results, gate, ended = [], threading.Lock(), threading.Event()
    left = [total]

    def client():
        connection = connect(bungee.port, timeout=30)
        while True:
            with gate:
                if left[0] == 0:
                    return
                left[0] -= 1
            try:
                status, _, body = ask(connection, "/functions/busy")
            except ConnectionError as error:
                status, body = 0, str(error).encode()
                connection = connect(bungee.port, timeout=30)
            if status != 200:
                results.append((status, body))

    def reaper():
        while not ended.wait(0.1):
            workers = [
                pid for pid in processes.family(bungee.process.pid)[1:]
                if os.path.basename(os.path.dirname(readlink(pid))) == "busy"
            ]
            if workers:
                try:
                    os.kill(random.choice(workers), signal.SIGKILL)
                    killed.append(1)
                except ProcessLookupError:
                    pass

    killed = []
    threads = [threading.Thread(target=client) for _ in range(clients)]
    killer = threading.Thread(target=reaper)
    for thread in [*threads, killer]:
        thread.start()
    for thread in threads:
        thread.join()
    ended.set()
    killer.join()
    crashed = sum(status == 502 and b"WorkerCrashed" in body for status, body in results)
    others = [one for one in results if not (one[0] == 502 and b"WorkerCrashed" in one[1])]
    # Ten places: ten handlers that hold theirs at once show that none was lost.
    counts = wait_until("all places to be there", lambda: places(bungee) == 10 and places(bungee))
    yield line(
        f"{total:,} invocations, a worker killed every 100 ms ({len(killed)})",
        f"{crashed} WorkerCrashed, {len(others)} other failures, {counts} of 10 places left",
        "WorkerCrashed only, ≤ 1 each; no place lost", not others and crashed <= len(killed) and counts == 10,
        others=[(status, body.decode(errors="replace")[:300]) for status, body in others[:20]],
    )


def readlink(pid):
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


def places(bungee):
    return bungee.workers("busy")


ALL = {row.__name__: row for row in (large, warm, save, deaths)}
TOOLS = {name: ["bun"] for name in ALL}
