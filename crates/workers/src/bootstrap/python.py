"""The bootstrap of a Python worker: a client of the Lambda Runtime API that calls event handlers.

Web handlers are in python_web.py, beside it. Where `awslambdaric` is installed it is that which calls event handlers.
What handlers print and log goes to descriptor 3, each line with its invocation; docs/protocol.md describes it.
"""

import asyncio
import ast
import contextvars
import importlib
import importlib.util
import io
import json
import logging
import os
import socket
import sys
import threading
import time
import traceback
import types

CONTROL = 3
#: Longest piece of a line that the server takes at once, and of a message that it keeps.
LINE_MAX = 60 << 10

BOOT = json.loads(os.environ.pop("BUNGEE_BOOT"))
ADDRESS = os.environ["AWS_LAMBDA_RUNTIME_API"]
BASE = "/2018-06-01/runtime/"

#: The id of the invocation that this code runs for.
current = contextvars.ContextVar("bungee_invocation", default=None)
_telling = threading.Lock()


def tell(line):
    """Writes one control line, all of it, before going on: the process may die next."""
    data = (json.dumps(line) + "\n").encode()
    with _telling:
        while data:
            data = data[os.write(CONTROL, data) :]


def log(level, text):
    line = {"t": "log", "level": level, "text": text}
    if (invocation := current.get()) is not None:
        line["id"] = invocation
    tell(line)


class Lines(io.TextIOBase):
    """A standard stream whose lines are log lines of the invocation that writes them."""

    encoding = "utf-8"

    def __init__(self, level, raw):
        self.level, self.buffer = level, raw.buffer
        self.begun = {}

    def write(self, text):
        key = current.get() or threading.get_ident()
        *lines, rest = (self.begun.pop(key, "") + str(text)).split("\n")
        for line in lines:
            log(self.level, line)
        if len(rest) > LINE_MAX:
            log(self.level, rest)
        elif rest:
            self.begun[key] = rest
        return len(text)

    def finish(self):
        """What this invocation wrote without a line end is a line too."""
        if rest := self.begun.pop(current.get() or threading.get_ident(), ""):
            log(self.level, rest)

    def fileno(self):
        return self.buffer.fileno()

    def writable(self):
        return True


class LogRecords(logging.Handler):
    """What `logging` is given, at its level."""

    def emit(self, record):
        number = record.levelno
        names = ((logging.ERROR, "error"), (logging.WARNING, "warn"), (logging.INFO, "info"))
        level = next((name for least, name in names if number >= least), "debug")
        try:
            log(level, self.format(record))
        except Exception:
            self.handleError(record)


def take_over_output():
    os.set_inheritable(CONTROL, False)
    sys.stdout, sys.stderr = Lines("info", sys.stdout), Lines("warn", sys.stderr)
    logging.getLogger().addHandler(LogRecords())


class Connection:
    """One connection to the Runtime API, kept open between calls."""

    def __init__(self):
        host, port = ADDRESS.split(":")
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.read = self.socket.makefile("rb")

    def call(self, method, path, body=b"", headers=""):
        """Status, headers by their names in lower case, and what is left to read of the body."""
        head = f"{method} {BASE}{path} HTTP/1.1\r\nHost: {ADDRESS}\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
        self.socket.sendall(head.encode("latin-1") + body)
        return self.answer()

    def answer(self):
        status = self.read.readline()
        if not status:
            raise ConnectionError("the server closed the connection")
        headers = {}
        while (line := self.read.readline().strip()) != b"":
            name, _, value = line.partition(b":")
            headers[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
        return int(status.split()[1]), headers, self.pieces(headers)

    def pieces(self, headers):
        """The body as it comes."""
        if "content-length" in headers:
            left = int(headers["content-length"])
            while left:
                piece = self.read.read1(min(left, 1 << 16))
                if not piece:
                    raise ConnectionError("the body ended early")
                left -= len(piece)
                yield piece
            return
        while size := int(self.read.readline() or b"x", 16):
            yield self.read.read(size)
            self.read.readline()
        self.read.readline()


def post(connection, path, body, headers=""):
    status, _, pieces = connection.call("POST", path, body, headers)
    text = b"".join(pieces)
    if status != 202:
        log("error", f"the server refused {path}: {text.decode(errors='replace').strip()}")


def cut(text):
    return text if len(text) <= LINE_MAX else text[:LINE_MAX] + "…"


def describe(error, skip=0):
    """An error as the Runtime API has it; `skip` frames at its top are ours."""
    frames = traceback.extract_tb(error.__traceback__)[skip:]
    frames = [frame for frame in frames if not frame.filename.startswith("<frozen importlib")]
    kind = type(error)
    return {
        "errorMessage": cut(str(error)),
        "errorType": kind.__name__,
        "stackTrace": traceback.format_list(frames[-64:]),
    }


def fail_init(report):
    """The function cannot start: says why, and ends."""
    body = json.dumps(report).encode()
    kind = report["errorType"]
    kind = f"Lambda-Runtime-Function-Error-Type: {kind}\r\n" if kind.startswith("Runtime.") else ""
    post(Connection(), "init/error", body, kind)
    leave(1)


def leave(code):
    sys.stdout.finish()
    sys.stderr.finish()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def module_and_name():
    """The module to import and the name of the handler in it, which may be `None`: whatever fits."""
    handler = BOOT.get("handler")
    folder = os.getcwd()
    module = os.path.relpath(BOOT["entry"], folder).removesuffix(".py").replace(os.sep, ".")
    if handler and "." in handler:
        module, handler = handler.rsplit(".", 1)
        module = module.replace("/", ".")
    return module, handler


def functions_of(module):
    """The functions that a module defines at its top, by reading it; `True` for those that are `async`."""
    try:
        found = importlib.util.find_spec(module)
        with open(found.origin, "rb") as source:
            body = ast.parse(source.read()).body
    except Exception:
        # Whoever imports it says what is wrong with it.
        return {}
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {one.name: isinstance(one, ast.AsyncFunctionDef) for one in body if isinstance(one, kinds)}


def load(module, names):
    """The handler: the first of these names that the module has. Reports what is wrong, and ends."""
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        report = describe(error, skip=1)
        said = f"Unable to import module '{module}': {error}"
        fail_init(report | {"errorType": "Runtime.ImportModuleError", "errorMessage": said})
    except SyntaxError as error:
        said = f"Syntax error in module '{module}': {error.msg} ({os.path.basename(error.filename or module)}, line {error.lineno})"
        fail_init({"errorType": "Runtime.UserCodeSyntaxError", "errorMessage": said, "stackTrace": []})
    except SystemExit as error:
        leave(error.code)
    except BaseException as error:
        fail_init(describe(error, skip=1))
    for name in names:
        if callable(handler := getattr(found, name, None)):
            return handler
    has = ", ".join(name for name in vars(found) if not name.startswith("_")) or "nothing"
    if hasattr(found, names[0]):
        kind = type(getattr(found, names[0])).__name__
        said = f"Handler '{names[0]}' of module '{module}' is no function, but of type {kind}"
        fail_init({"errorType": "Runtime.HandlerNotFound", "errorMessage": said, "stackTrace": []})
    said = f"Handler '{names[0]}' missing on module '{module}', which has: {cut(has)}"
    fail_init({"errorType": "Runtime.HandlerNotFound", "errorMessage": said, "stackTrace": []})


class Context:
    """The context of Lambda's Python, and our own names beside it."""

    def __init__(self, headers):
        env = os.environ
        self._deadline = int(headers["lambda-runtime-deadline-ms"])
        self.aws_request_id = self.invocation_id = self.invocationId = headers["lambda-runtime-aws-request-id"]
        self.function_name = self.functionName = BOOT["function"]
        self.function_version = env["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = env["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = env["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = env["AWS_LAMBDA_LOG_STREAM_NAME"]
        self.invoked_function_arn = headers.get("lambda-runtime-invoked-function-arn")
        self.tenant_id = headers.get("lambda-runtime-aws-tenant-id")
        self.project_id = self.projectId = BOOT["project"]
        self.timestamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        client = json.loads(headers.get("lambda-runtime-client-context") or "null")
        self.client_context = client and types.SimpleNamespace(
            custom=client.get("custom"),
            env=client.get("env"),
            client=types.SimpleNamespace(**client.get("client", {})),
        )
        self.identity = types.SimpleNamespace(cognito_identity_id=None, cognito_identity_pool_id=None)

    def get_remaining_time_in_millis(self):
        return max(0, self._deadline - int(time.time() * 1000))


def answer_of(result):
    """The result as the body of an answer."""
    if isinstance(result, (bytes, bytearray)):
        return bytes(result), "application/octet-stream"
    return json.dumps(result, allow_nan=False).encode(), "application/json"


def run_one(handler, event, headers, loop):
    """Calls the handler: the path, body and content type of what to post."""
    path = f"invocation/{headers['lambda-runtime-aws-request-id']}/"
    try:
        result = handler(json.loads(event), Context(headers))
        if asyncio.iscoroutine(result):
            result = loop().run_until_complete(result)
    except SystemExit as error:
        leave(error.code)
    except BaseException as error:
        report = describe(error, skip=1)
        return path + "error", json.dumps(report).encode(), "application/json"
    try:
        return path + "response", *answer_of(result)
    except (TypeError, ValueError) as error:
        said = f"Unable to marshal response: {error}"
        report = {"errorType": "Runtime.MarshalError", "errorMessage": said, "stackTrace": []}
        return path + "error", json.dumps(report).encode(), "application/json"


def serve_events(handler):
    """One invocation after the other, for as long as there are any."""
    connection = Connection()
    loops = []

    def loop():
        if not loops:
            loops.append(asyncio.new_event_loop())
            asyncio.set_event_loop(loops[0])
        return loops[0]

    while True:
        _, headers, pieces = connection.call("GET", "invocation/next")
        event = b"".join(pieces)
        current.set(headers["lambda-runtime-aws-request-id"])
        if trace := headers.get("lambda-runtime-trace-id"):
            os.environ["_X_AMZN_TRACE_ID"] = trace
        path, body, kind = run_one(handler, event, headers, loop)
        sys.stdout.finish()
        sys.stderr.finish()
        post(connection, path, body, f"Content-Type: {kind}\r\n")
        current.set(None)


def in_threads(work, count):
    """Runs the work as often at once; one of them in this thread, where signals arrive."""
    for _ in range(count - 1):
        threading.Thread(target=guarded, args=(work,), daemon=True).start()
    guarded(work)


def guarded(work):
    try:
        work()
    except (ConnectionError, OSError) as error:
        # The server is gone, or this worker is about to be.
        log("error", f"the Runtime API is gone: {error}")
        leave(1)


def hand_over(module, name):
    """To `awslambdaric`, which is what runs here on AWS."""
    import runpy

    sys.argv = ["awslambdaric", f"{module}.{name}"]
    runpy.run_module("awslambdaric", run_name="__main__", alter_sys=True)


def main():
    ours = sys.path[0]
    sys.path[0] = os.getcwd()
    os.environ["AWS_EXECUTION_ENV"] = "AWS_Lambda_python{}.{}".format(*sys.version_info)
    module, name = module_and_name()
    if BOOT["kind"] == "web":
        take_over_output()
        handler = load(module, [name] if name else ["app", "application", "handler"])
        spec = importlib.util.spec_from_file_location("bungee_web", os.path.join(ours, "python_web.py"))
        web = importlib.util.module_from_spec(spec)
        sys.modules["bungee_web"] = web
        spec.loader.exec_module(web)
        web.serve(handler, sys.modules[__name__])
        return
    functions = functions_of(module)
    names = [name] if name else ["handler", "lambda_handler"]
    found = next((one for one in names if one in functions), names[0])
    if not functions.get(found) and importlib.util.find_spec("awslambdaric"):
        hand_over(module, found)
        return
    take_over_output()
    handler = load(module, names)
    in_threads(lambda: serve_events(handler), BOOT["concurrency"])


if __name__ == "__main__":
    main()
