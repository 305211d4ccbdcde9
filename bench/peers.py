"""What is measured and what it is measured against: our server, laptops on it, nginx, Bun, workerd and Redis, all on loopback."""

import json
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import processes
from processes import answers, start, wait_until

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TOOLS = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "bungee" / "tools"
NPM_PACKAGES = {"bun": "bun@1.4.5", "workerd": "workerd@1.20261117.1"}
DEBIAN_PACKAGES = {
    "nginx": "nginx-light", "wrk": "wrk", "node": "nodejs", "redis-server": "redis-server", "callgrind_control": "valgrind",
}


def install(needed):
    """Brings what is missing by name: from Debian as root, from npm into a folder of our own."""
    missing = [DEBIAN_PACKAGES[tool] for tool in needed if tool in DEBIAN_PACKAGES and not find(tool)]
    if missing:
        line = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
        if os.geteuid() != 0:
            raise SystemExit(f"bench/run: these are missing; as root: {' '.join(line)}")
        subprocess.run(["apt-get", "update", "-q"], check=True, stdout=2)
        subprocess.run(line, check=True, stdout=2, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    missing = [NPM_PACKAGES[tool] for tool in needed if tool in NPM_PACKAGES and not find(tool)]
    if missing:
        TOOLS.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["npm", "install", "--prefix", TOOLS, "--no-audit", "--no-fund", *missing], check=True, stdout=2
        )


def find(tool):
    """The path of a tool: our own copy, the native binary of an npm package, or what is on PATH."""
    natives = {
        "bun": ["bin/bun", "node_modules/@oven/*/bin/bun"],
        "workerd": ["node_modules/@cloudflare/*/bin/workerd"],
    }
    for pattern in natives.get(tool, []):
        for path in sorted(TOOLS.glob(pattern)):
            if subprocess.run([path, "--version"], capture_output=True).returncode == 0:
                return path
    return shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin")


def build():
    """The release binary, built now."""
    subprocess.run(["cargo", "build", "--release", "--locked", "-p", "bungee"], cwd=ROOT, check=True)
    listed = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--no-deps"], cwd=ROOT, check=True, capture_output=True
    )
    return Path(json.loads(listed.stdout)["target_directory"]) / "release" / "bungee"


def build_of(commit):
    """The release binary of an older commit, built once and kept beside the tools."""
    tree, target = TOOLS.parent / f"tree-{commit}", TOOLS.parent / f"target-{commit}"
    binary = target / "release" / "bungee"
    if not binary.exists():
        if not tree.exists():
            subprocess.run(["git", "worktree", "add", "--force", "--detach", tree, commit], cwd=ROOT, check=True, stdout=2)
        command = ["cargo", "build", "--release", "--locked", "-p", "bungee", "--target-dir", target]
        subprocess.run(command, cwd=tree, check=True)
    return binary


def valgrind():
    """One that knows pidfd_open(2), which 3.19 does not: our own copy of Debian's newer one where needed; and what it needs."""
    own = TOOLS / "valgrind"
    binary, needs = find("valgrind"), {}
    version = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, version.strip().partition("-")[2].split(".")[:2])) < (3, 22):
        binary, needs = own / "usr/bin/valgrind", {"VALGRIND_LIB": str(own / "usr/libexec/valgrind")}
    if not Path(binary).exists():
        place = processes.folder()
        (place / "lists" / "partial").mkdir(parents=True)
        key = "/usr/share/keyrings/debian-archive-keyring.gpg"
        known = ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"]
        sites = subprocess.run(known, capture_output=True, text=True, check=True).stdout.split()
        # Where this machine gets Debian from, without the place of its security updates.
        site = next(site for site in sites if not site.endswith("-security"))
        (place / "list").write_text(f"deb [signed-by={key}] {site} trixie main\n")
        options = {
            "Dir::Etc::sourcelist": place / "list", "Dir::Etc::sourceparts": place / "none", "Dir::State::Lists": place / "lists",
            "Dir::Cache": place / "cache", "APT::Sandbox::User": "root",
        }
        apt = ["apt-get", "-q", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
        for words in (["update"], ["download", "valgrind"]):
            subprocess.run([*apt, *words], cwd=place, check=True, stdout=2)
        subprocess.run(["dpkg", "-x", *place.glob("valgrind_*.deb"), own], check=True, stdout=2)
    return binary, needs


class Peer:
    """A server that runs: where it listens, and the process to look at."""

    def __init__(self, name, where, process, path="/"):
        self.name, self.where, self.process, self.path = name, where, process, path
        wait_until(f"{name} to answer", lambda: process.poll() is not None or answers(where, path))
        if process.poll() is not None:
            raise SystemExit(f"bench/run: {name} ended with {process.returncode}")

    def url(self, path=None):
        return f"http://127.0.0.1:{self.where}{path or self.path}"


class Bungee:
    """`bungee serve` on an empty data folder; `under` are the words of a program that runs it, `needs` is for the environment."""

    def __init__(self, binary, log=None, under=(), needs={}):
        self.binary, self.port, self.under, self.needs = binary, processes.free_port(), under, needs
        self.log = open(log or os.devnull, "ab")
        self.renew()
        self.start()

    def renew(self):
        """The next start begins with nothing."""
        self.data = processes.folder()

    def start(self):
        command = [*self.under, self.binary, "serve", "--listen", f"127.0.0.1:{self.port}", "--data-dir", self.data]
        bun = Path(find("bun")).parent
        # The scrubbed environment also keeps a developer's own BUNGEE_… settings out.
        environment = {"PATH": f"{bun}:{os.environ['PATH']}", "HOME": str(self.data), "LANG": "C.UTF-8", **self.needs}
        self.process = start(command, stdout=self.log, stderr=self.log, env=environment)
        return self

    def ready(self):
        return self.up(lambda: answers(self.port, "/health/ready"), "ready")

    def listening(self):
        """Enough where an engine does not start, as under callgrind, or nobody needs one."""
        return self.up(lambda: processes.listens(self.port), "listening")

    def up(self, is_up, what):
        wait_until(f"bungee to be {what}", lambda: self.process.poll() is not None or is_up(), pause=0.0005)
        if self.process.poll() is not None:
            raise SystemExit(f"bench/run: bungee serve ended with {self.process.returncode}")
        return self

    def deploy(self, folder=HERE / "functions"):
        bun = Path(find("bun")).parent
        command = [self.binary, "deploy", folder, "--server", f"http://127.0.0.1:{self.port}"]
        environment = {**os.environ, "PATH": f"{bun}:{os.environ['PATH']}"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise SystemExit(f"bench/run: deploy failed:\n{done.stdout}{done.stderr}")
        return self

    def function(self, name):
        """A function of ours as something to put load on."""
        return Peer("bungee", self.port, self.process, f"/functions/{name}")

    def invoke(self, name, event):
        return processes.get_json(self.port, f"/v1/projects/default/functions/{name}/invoke", event)

    def workers(self, name):
        """How many workers a function has, whatever they do."""
        _, info = processes.get_json(self.port, f"/v1/projects/default/functions/{name}")
        return sum(info["workers"].values())

    def stop(self):
        processes.stop(self.process)


class Laptop:
    """`bungee dev --remote` on a copy of the folder that says `laptop` where it is asked, for what ends in `-live`."""

    FUNCTIONS = [f"{name}-live" for name in ("back", "effect", "hello", "named", "sleep", "tally")]

    def __init__(self, server, source=HERE / "live"):
        folder = processes.folder() / "laptop"
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns(".bungee"))
        where = folder / "src" / "where.ts"
        where.write_text(where.read_text().replace("server", "laptop"))
        bun = Path(find("bun")).parent
        environment = {"PATH": f"{bun}:{os.environ['PATH']}", "HOME": str(folder), "LANG": "C.UTF-8"}
        command = [server.binary, "dev", folder, "--remote", f"http://127.0.0.1:{server.port}"]
        command += ["--only", ",".join(self.FUNCTIONS)]
        self.server = server
        self.process = start(command, stdout=server.log, stderr=server.log, env=environment)
        self.ready()

    def ready(self):
        """Functions are claimed in the order of their names: the last one has been, so all have."""
        wait_until("the laptop to be attached", lambda: self.process.poll() is not None or self.tally()["where"] == "laptop")
        if self.process.poll() is not None:
            raise SystemExit(f"bench/run: bungee dev ended with {self.process.returncode}; --log FILE keeps what it said")
        for name in ("hello-live", "named-live?id=1"):
            assert answers(self.server.port, f"/functions/{name}"), name

    def tally(self):
        """How many calls the function with this name has had, and where it runs."""
        return processes.get_json(self.server.port, "/functions/tally-live")[1]

    def signal(self, number, everything=None):
        """To all that is on it, as when its lid is shut and opened; who that was."""
        everything = everything or processes.family(self.process.pid)
        for pid in everything:
            with suppress(ProcessLookupError):  # spare workers come and go
                os.kill(pid, number)
        return everything

    def stop(self):
        processes.stop(self.process)


def redis():
    """Redis, and a process that answers what is published."""
    port = processes.free_port()
    server = start([find("redis-server"), "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", processes.folder()])
    wait_until("Redis to listen", lambda: processes.listens(port))
    return port, [start([find("bun"), HERE / "peers" / "redis.ts", "answer", port]), server]


def bun_by_hand(handler, unix=False):
    """A handler in `Bun.serve` with nothing around it."""
    where = processes.folder() / "bun.sock" if unix else processes.free_port()
    process = start([find("bun"), HERE / "peers" / "serve.ts", handler, where])
    return Peer("bun", where, process)


def node_by_hand(script):
    """Node with a server of ours, and nothing around it."""
    port = processes.free_port()
    return Peer("node", port, start([find("node"), HERE / "peers" / script, str(port)]))


def workerd():
    port = processes.free_port()
    folder = processes.folder()
    shutil.copy(HERE / "peers" / "worker.js", folder)
    (folder / "config.capnp").write_text(f"""
        using Workerd = import "/workerd/workerd.capnp";
        const config :Workerd.Config = (
          services = [(name = "main", worker = (
            modules = [(name = "worker.js", esModule = embed "worker.js")],
            compatibilityDate = "2026-11-01"))],
          sockets = [(name = "http", address = "127.0.0.1:{port}", http = (), service = "main")]);
    """)
    return Peer("workerd", port, start([find("workerd"), "serve", folder / "config.capnp"]))


def nginx(upstream, logged):
    """nginx in front of a socket, with keep-alive on both sides; `logged` adds a buffered log and a request id."""
    folder, port = processes.folder(), processes.free_port()
    owner = "user root;" if os.geteuid() == 0 else ""
    log = f"access_log {folder}/access.log combined buffer=64k flush=1s;" if logged else "access_log off;"
    request_id = "proxy_set_header X-Request-Id $request_id;" if logged else ""
    places = "".join(f"{kind}_temp_path {folder};" for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
    (folder / "nginx.conf").write_text(f"""
        {owner} daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes auto;
        events {{ worker_connections 4096; }}
        http {{
          {places} {log}
          keepalive_requests 1000000000;
          client_max_body_size 100m;
          upstream handler {{ server unix:{upstream}; keepalive 256; keepalive_requests 1000000000; }}
          server {{
            listen 127.0.0.1:{port};
            location / {{
              proxy_pass http://handler; proxy_http_version 1.1; proxy_set_header Connection "";
              {request_id}
            }}
          }}
        }}
    """)
    name = "nginx with log and id" if logged else "nginx"
    return Peer(name, port, start([find("nginx"), "-e", folder / "error.log", "-c", folder / "nginx.conf"]))
