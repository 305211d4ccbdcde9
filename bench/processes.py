"""Starts, watches and stops the processes of a benchmark; knows nothing of what they do.

Whatever ends the run, every process that it started ends too.
"""

import atexit
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_running = []
_folders = []


def start(command, **options):
    """Starts a process in a group of its own, quiet unless told otherwise."""
    options.setdefault("stdin", subprocess.DEVNULL)
    options.setdefault("stdout", subprocess.DEVNULL)
    options.setdefault("stderr", subprocess.DEVNULL)
    process = subprocess.Popen([str(word) for word in command], start_new_session=True, **options)
    _running.append(process)
    return process


def stop(process, patience=10):
    """Asks, waits, then kills; the group goes with it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    if process in _running:
        _running.remove(process)


def stop_all():
    for process in list(_running):
        stop(process, patience=3)
    for folder in _folders:
        shutil.rmtree(folder, ignore_errors=True)


def end_with_everything():
    """Stops everything at the end, however it comes."""
    atexit.register(stop_all)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: exit(1))


def folder():
    """A folder that is gone at the end; short, because socket paths have to be."""
    path = Path(tempfile.mkdtemp(prefix="bungee-bench-"))
    _folders.append(path)
    return path


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def connect(where, timeout=10):
    """A connection to a port of this machine, or to a socket file."""
    if isinstance(where, int):
        connection = socket.create_connection(("127.0.0.1", where), timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout)
    connection.connect(str(where))
    return connection


def ask(connection, path, body=None, headers=()):
    """One request on an open connection: status, headers and body. Enough of HTTP for our own servers."""
    verb = "GET" if body is None else "POST"
    lines = [f"{verb} {path} HTTP/1.1", "Host: 127.0.0.1", *headers]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    connection.sendall("\r\n".join(lines + ["", ""]).encode() + (body or b""))
    return read_answer(connection)


def read_answer(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    if headers.get("transfer-encoding") == "chunked":
        while not body.endswith(b"0\r\n\r\n"):
            body += _more(connection)
        body = _without_chunks(body)
    else:
        while len(body) < int(headers.get("content-length", 0)):
            body += _more(connection)
    return int(first.split()[1]), headers, body


def _more(connection):
    data = connection.recv(65536)
    if not data:
        raise ConnectionError("closed before the answer was complete")
    return data


def _without_chunks(body):
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        whole, body = whole + body[:length], body[length + 2 :]
        if length == 0:
            break
    return whole


def get_json(where, path, body=None):
    with connect(where) as connection:
        payload = None if body is None else json.dumps(body).encode()
        status, _, answer = ask(connection, path, payload)
    return status, json.loads(answer or b"null")


def wait_until(what, condition, patience=20, pause=0.01):
    """Polls until `condition` gives something; names what did not come about."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(pause)
    raise TimeoutError(f"waited {patience} s for {what}")


def listens(where):
    """Whether anybody takes connections there."""
    try:
        connect(where).close()
        return True
    except OSError:
        return False


def answers(where, path="/"):
    """Whether a GET gets a 200."""
    try:
        with connect(where, timeout=5) as connection:
            return ask(connection, path)[0] == 200
    except (OSError, ConnectionError):
        return False


def family(pid):
    """A process and its descendants."""
    children = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def cpu_seconds(pid):
    """User and system time that a process, all its threads included, has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def memory_mb(pid):
    """Resident and proportional memory of one process, in MiB."""
    sizes = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, size = line.partition(":")
        sizes[name] = int(size.split()[0]) / 1024
    return sizes["Rss"], sizes["Pss"]
