"""Web handlers of a Python worker: ASGI and WSGI apps behind the Runtime API.

A request comes as the answer to `next`: a JSON head, eight NUL bytes, then its body as the caller sends it.
The response goes out the same way, as it is made, on a connection of its own; docs/protocol.md describes both.
"""

import asyncio
import base64
import contextlib
import inspect
import io
import json
import signal
import socket
import sys
import urllib.parse

SEPARATOR = b"\0" * 8
NEXT = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: {}\r\n\r\n"
ANSWER = (
    "POST /2018-06-01/runtime/invocation/{}/response HTTP/1.1\r\nHost: {}\r\n"
    "Content-Type: application/vnd.awslambda.http-integration-response\r\n"
    "Lambda-Runtime-Function-Response-Mode: streaming\r\n"
    "Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n"
    "Transfer-Encoding: chunked\r\n\r\n"
)
#: Longest report of what failed midway: it travels behind the body, where 16 KiB fit.
LATE_MAX = 8 << 10

#: The module of the bootstrap that loaded this one.
worker = None


def serve(app, bootstrap):
    global worker
    worker = bootstrap
    call = getattr(app, "__call__", None)
    if inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(call):
        asyncio.run(Asgi(app).serve())
    else:
        worker.in_threads(Wsgi(app).serve, worker.BOOT["concurrency"])


def mounted(path):
    """Where the app is mounted, and the path that it sees below that, both with their escapes."""
    place = f"/functions/{worker.BOOT['function']}"
    if path == place or path.startswith(place + "/"):
        return place, path[len(place) :]
    return "", path


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def last_chunk(error=None):
    """The end of a chunked body; with an error, what failed midway."""
    if error is None:
        return b"0\r\n\r\n"
    report = worker.describe(error, skip=1)
    report["stackTrace"] = report["stackTrace"][-4:]
    body = json.dumps(report).encode()
    if len(body) > LATE_MAX:
        report = {"errorType": report["errorType"], "errorMessage": report["errorMessage"][:1024]}
        body = json.dumps(report).encode()
    return (
        b"0\r\nLambda-Runtime-Function-Error-Type: %s\r\nLambda-Runtime-Function-Error-Body: %s\r\n\r\n"
        % (report["errorType"].encode(), base64.b64encode(body))
    )


def prelude(status, headers):
    """The head of a response. Headers keep their order, and repeat where they do."""
    together = {}
    for name, value in headers:
        together.setdefault(name, []).append(value)
    return json.dumps({"statusCode": status, "headers": together}).encode() + SEPARATOR


class NoAnswer(Exception):
    """The app came to its end without a response."""


class Wsgi:
    """Calls a WSGI app (PEP 3333): one request per thread at a time."""

    def __init__(self, app):
        self.app = app

    def serve(self):
        asking, answering = worker.Connection(), None
        while True:
            asking.socket.sendall(NEXT.format(worker.ADDRESS).encode())
            _, headers, pieces = asking.answer()
            invocation = headers["lambda-runtime-aws-request-id"]
            worker.current.set(invocation)
            body = Input(pieces)
            answering = answering or worker.Connection()
            if not self.respond(invocation, body, answering):
                answering = None
            sys.stdout.finish()
            sys.stderr.finish()
            # What the app did not read is in the way of the next one.
            with contextlib.suppress(ConnectionError):
                while body.read(1 << 16):
                    pass
            if body.is_broken:
                asking = worker.Connection()
            worker.current.set(None)

    def respond(self, invocation, body, connection):
        """Runs the app; false if the connection cannot be used again."""
        answer = WsgiAnswer(invocation, connection)
        result = None
        try:
            environ = environ_of(body.head(), body)
            result = self.app(environ, answer.start)
            for piece in result:
                answer.write(piece)
            answer.finish()
        except SystemExit as error:
            worker.leave(error.code)
        except CallerLeft:
            return False
        except BaseException as error:
            return answer.fail(error)
        finally:
            if hasattr(result, "close"):
                result.close()
        return True


class CallerLeft(BaseException):
    """Nobody reads the response any more."""


class WsgiAnswer:
    """A response on its way out; its head leaves with the first byte of its body."""

    def __init__(self, invocation, connection):
        self.invocation, self.connection = invocation, connection
        self.head, self.has_left = None, False

    def start(self, status, headers, exc_info=None):
        if exc_info and self.has_left:
            raise exc_info[1].with_traceback(exc_info[2])
        self.head = prelude(int(status.split(" ", 1)[0]), headers)
        return self.write

    def send(self, data):
        try:
            self.connection.socket.sendall(data)
        except OSError as error:
            raise CallerLeft from error

    def begin(self, first):
        if self.head is None:
            raise NoAnswer("the app did not call start_response")
        self.has_left = True
        head = ANSWER.format(self.invocation, worker.ADDRESS).encode()
        self.send(head + chunk(self.head + first))

    def write(self, piece):
        if not piece:
            return
        self.send(chunk(piece)) if self.has_left else self.begin(piece)

    def finish(self):
        if not self.has_left:
            self.begin(b"")
        self.close(last_chunk())

    def close(self, end):
        self.send(end)
        try:
            for _ in self.connection.answer()[2]:
                pass
        except (ConnectionError, OSError) as error:
            raise CallerLeft from error

    def fail(self, error):
        try:
            if self.has_left:
                self.close(last_chunk(error))
            else:
                body = json.dumps(worker.describe(error, skip=1)).encode()
                worker.post(self.connection, f"invocation/{self.invocation}/error", body)
        except (CallerLeft, OSError):
            return False
        return True


class Input(io.RawIOBase):
    """`wsgi.input`: the body of a request as it comes, behind its head."""

    def __init__(self, pieces):
        self.pieces, self.held, self.is_broken = pieces, bytearray(), False

    def head(self):
        while (end := self.held.find(SEPARATOR)) < 0:
            if not self.more():
                raise ConnectionError("the head of the request ended early")
        head = bytes(self.held[:end])
        del self.held[: end + 8]
        return json.loads(head)

    def more(self):
        try:
            piece = next(self.pieces, b"")
        except (OSError, ValueError) as error:
            self.is_broken = True
            raise ConnectionError("the body of the request broke off") from error
        self.held += piece
        return piece != b""

    def read(self, size=-1):
        while (size is None or size < 0 or len(self.held) < size) and self.more():
            pass
        size = len(self.held) if size is None or size < 0 else size
        data = bytes(self.held[:size])
        del self.held[:size]
        return data

    def readline(self, size=-1):
        while b"\n" not in self.held and self.more():
            pass
        end = self.held.find(b"\n") + 1 or len(self.held)
        return self.read(end if size is None or size < 0 else min(end, size))

    def readable(self):
        return True


def environ_of(head, body):
    path, _, query = head["target"].partition("?")
    mount, path = mounted(path)
    headers = {}
    for name, value in head["headers"]:
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    host, _, port = headers.get("host", "localhost").partition(":")
    environ = {
        "REQUEST_METHOD": head["method"],
        "SCRIPT_NAME": mount,
        "PATH_INFO": urllib.parse.unquote(path, "latin-1"),
        "QUERY_STRING": query,
        "CONTENT_TYPE": headers.pop("content-type", ""),
        "CONTENT_LENGTH": headers.pop("content-length", ""),
        "SERVER_NAME": host,
        "SERVER_PORT": port or "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": headers.get("x-forwarded-proto", "http"),
        "wsgi.input": body,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": worker.BOOT["concurrency"] > 1,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "bungee.params": head.get("params", {}),
    }
    for name, value in headers.items():
        environ["HTTP_" + name.upper().replace("-", "_")] = value
    return environ


class Asgi:
    """Calls an ASGI app: as many requests at once as the function may have, in one event loop."""

    def __init__(self, app):
        self.app, self.state = app, {}

    async def serve(self):
        ending = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
        lifespan = Lifespan(self.app, self.state)
        await lifespan.start()
        slots = [asyncio.ensure_future(self.slot()) for _ in range(worker.BOOT["concurrency"])]
        ended = asyncio.ensure_future(ending.wait())
        done, _ = await asyncio.wait([*slots, ended], return_when=asyncio.FIRST_COMPLETED)
        await lifespan.stop()
        for one in done - {ended}:
            if error := one.exception():
                worker.log("error", f"the Runtime API is gone: {error}")
        worker.leave(0 if ending.is_set() else 1)

    async def slot(self):
        wire = await Wire.open()
        while True:
            wire.write(NEXT.format(worker.ADDRESS).encode())
            await wire.read_head()
            await asyncio.create_task(self.request(wire))
            if not await wire.is_read():
                wire.close()
                wire = await Wire.open()

    async def request(self, wire):
        invocation = wire.headers["lambda-runtime-aws-request-id"]
        worker.current.set(invocation)
        answer = AsgiAnswer(invocation, wire)
        try:
            head = json.loads(await wire.read_prelude())
            await self.app(self.scope(head, invocation), answer.receive, answer.send)
            await answer.finish()
        except SystemExit as error:
            worker.leave(error.code)
        except BaseException as error:
            await answer.fail(error)
        finally:
            sys.stdout.finish()
            sys.stderr.finish()
            answer.close()

    def scope(self, head, invocation):
        target, _, query = head["target"].partition("?")
        mount, _ = mounted(target)
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in head["headers"]]
        named = dict(headers)
        host, _, port = named.get(b"host", b"localhost").decode("latin-1").partition(":")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": head["method"],
            "scheme": named.get(b"x-forwarded-proto", b"http").decode("latin-1"),
            "path": urllib.parse.unquote(target),
            "raw_path": target.encode("latin-1"),
            "query_string": query.encode("latin-1"),
            "root_path": mount,
            "headers": headers,
            "client": None,
            "server": (host, int(port) if port.isdigit() else 80),
            "state": dict(self.state),
            "bungee": {"params": head.get("params", {}), "invocation_id": invocation},
        }


class Lifespan:
    """What an app does before its first request and after its last, if it does anything."""

    def __init__(self, app, state):
        self.app, self.state = app, state
        self.told, self.said = asyncio.Queue(), asyncio.Queue()

    async def start(self):
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        self.running = asyncio.ensure_future(self.app(scope, self.told.get, self.said.put))
        said = await self.tell("lifespan.startup")
        if said and said["type"] == "lifespan.startup.failed":
            why = said.get("message") or "the app's lifespan startup failed"
            worker.fail_init({"errorType": "Runtime.StartupFailed", "errorMessage": why, "stackTrace": []})

    async def stop(self):
        if not self.running.done():
            await self.tell("lifespan.shutdown")

    async def tell(self, what):
        await self.told.put({"type": what})
        hears = asyncio.ensure_future(self.said.get())
        # An app that knows no lifespan ends, or fails, at once.
        await asyncio.wait([hears, self.running], return_when=asyncio.FIRST_COMPLETED)
        if hears.done():
            return hears.result()
        hears.cancel()
        self.running.exception()
        return None


class Wire:
    """One connection to the Runtime API in the event loop, and the body that is being read from it."""

    @classmethod
    async def open(cls):
        host, port = worker.ADDRESS.split(":")
        wire = cls()
        wire.reader, wire.writer = await asyncio.open_connection(host, int(port))
        wire.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return wire

    def write(self, data):
        self.writer.write(data)

    def close(self):
        self.writer.close()

    async def read_head(self):
        head = await self.reader.readuntil(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")[:-2]
        pairs = (line.split(":", 1) for line in lines)
        self.status = int(status.split()[1])
        self.headers = {name.lower(): value.strip() for name, value in pairs}
        length = self.headers.get("content-length")
        self.left = int(length) if length else None
        self.is_over, self.held = self.left == 0, b""

    async def read_piece(self):
        """The next bytes of the body; none at its end."""
        if self.held:
            held, self.held = self.held, b""
            return held
        if self.is_over:
            return b""
        if self.left is None:
            size = int(await self.reader.readline(), 16)
            data = (await self.reader.readexactly(size + 2))[:-2]
            self.is_over = size == 0
            return data
        data = await self.reader.read(min(self.left, 1 << 16))
        if not data:
            raise ConnectionError("the body ended early")
        self.left -= len(data)
        self.is_over = self.left == 0
        return data

    async def read_prelude(self):
        seen = b""
        while (end := seen.find(SEPARATOR)) < 0:
            if not (piece := await self.read_piece()):
                raise ConnectionError("the head of the request ended early")
            seen += piece
        self.held = seen[end + 8 :]
        return seen[:end]

    async def is_read(self):
        """Reads what is left of the body; false if it broke off."""
        try:
            while await self.read_piece():
                pass
        except (OSError, EOFError, ValueError):
            return False
        return True


class AsgiAnswer:
    """`receive` and `send` of one request."""

    def __init__(self, invocation, wire):
        self.invocation, self.asked = invocation, wire
        self.wire = self.watch = self.head = None
        self.is_read = self.is_over = False
        self.gone = asyncio.Event()

    async def receive(self):
        if self.is_read:
            await self.gone.wait()
            return {"type": "http.disconnect"}
        try:
            body = await self.asked.read_piece()
        except (OSError, EOFError, ValueError):
            self.is_read = True
            self.gone.set()
            return {"type": "http.disconnect"}
        self.is_read = self.asked.is_over and not self.asked.held
        return {"type": "http.request", "body": body, "more_body": not self.is_read}

    async def send(self, message):
        if self.gone.is_set():
            return
        if message["type"] == "http.response.start":
            headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message.get("headers", [])]
            self.head = prelude(message["status"], headers)
        elif message["type"] == "http.response.body" and not self.is_over:
            self.is_over = not message.get("more_body", False)
            await self.write(bytes(message.get("body", b"")), last_chunk() if self.is_over else b"")

    async def write(self, body, end):
        data = chunk(body) if body else b""
        if self.wire is None:
            if self.head is None:
                raise NoAnswer("the app sent a body before `http.response.start`")
            self.wire = await Wire.open()
            self.watch = asyncio.ensure_future(self.watching())
            data = ANSWER.format(self.invocation, worker.ADDRESS).encode() + chunk(self.head + body)
        self.wire.write(data + end)
        try:
            await self.wire.writer.drain()
        except OSError:
            self.gone.set()

    async def watching(self):
        """The server answers at the end; before that, the end of the connection says that the caller left."""
        try:
            await self.wire.read_head()
            await self.wire.is_read()
        except (OSError, EOFError):
            pass
        self.gone.set()

    async def finish(self):
        if self.wire is None and self.head is None:
            raise NoAnswer("the app sent no response")
        if not self.is_over:
            self.is_over = True
            await self.write(b"", last_chunk())
        await self.watch

    async def fail(self, error):
        if self.gone.is_set() or self.is_over:
            worker.log("error", f"the app failed after its response: {error!r}")
        elif self.wire is not None:
            await self.write(b"", last_chunk(error))
            await self.watch
        else:
            body = json.dumps(worker.describe(error, skip=1)).encode()
            path = f"invocation/{self.invocation}/error"
            worker.post(worker.Connection(), path, body)

    def close(self):
        self.gone.set()
        if self.wire is not None:
            self.watch.cancel()
            self.wire.close()
