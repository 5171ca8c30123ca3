"""Run one Redis or Valkey server process on the loopback, and make sure that it ends with us."""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from helpers.rehearsal.engines import Engine
from helpers.rehearsal.wire import Refused, Wire, WireError

if TYPE_CHECKING:
    import redis

HOST = "127.0.0.1"
READY_TIMEOUT_S = 60.0
COMMAND_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 5.0
START_ATTEMPTS = 3
# The cluster bus listens this much above the port. Source: Redis, cluster specification.
BUS_ABOVE = 10_000
# Ports with a cluster bus: below those that Linux and macOS give to outgoing connections, bus and all.
PORTS_WITH_BUS = range(10_000, 22_000)
# "12345:M 23 Nov 2026 20:24:45.753 # " before each line of a server's log.
LOG_PREFIX = re.compile(r"^\d+:\w \d+ \w+ \d+ [\d:.]+ [#*.-] ")


class ServerFailed(RuntimeError):
    """A server process that did not start or ended by itself; the message ends with its own log line."""


class Server:
    """A real server process, ready for commands when the constructor returns.

    Parameters: `engine` the program; `directory` holds its configuration, log and RDB file and is
    made when absent; `port` 0 picks a free one; `config` are configuration directives (a list
    repeats the directive); `rdb` is loaded at the start; `replica_of` is the server (or host and
    port) to replicate; `renamed` maps commands to the names that they answer to ("" to none);
    `user` and `password` are what `admin()` and `command()` log in with.

    Raises ServerFailed when the process ends before it answers, as with a truncated RDB file.
    """

    def __init__(
        self,
        engine: Engine,
        directory: Path,
        port: int = 0,
        config: Mapping[str, str | list[str]] | None = None,
        rdb: Path | None = None,
        replica_of: Server | tuple[str, int] | None = None,
        *,
        renamed: Mapping[str, str] | None = None,
        user: str | None = None,
        password: str | None = None,
        ready_timeout_s: float = READY_TIMEOUT_S,
    ) -> None:
        self.engine = engine
        self.directory = Path(directory)
        self.renamed = {name.lower(): alias for name, alias in (renamed or {}).items()}
        self.login = (user, password) if user and password else None
        self.directory.mkdir(parents=True, exist_ok=True)
        if rdb is not None and Path(rdb) != self.rdb_path:
            shutil.copyfile(rdb, self.rdb_path)
        self.port, self._process = self._start(port, dict(config or {}), replica_of, ready_timeout_s)
        self.pid = self._process.pid

    @property
    def rdb_path(self) -> Path:
        """Return where the server loads and saves its RDB file."""
        return self.directory / "dump.rdb"

    @property
    def log_path(self) -> Path:
        """Return the server's own log."""
        return self.directory / "server.log"

    @property
    def address(self) -> tuple[str, int]:
        """Return host and port."""
        return HOST, self.port

    @property
    def bus_port(self) -> int:
        """Return the port of the cluster bus, where the configuration enables cluster mode."""
        return self.port + BUS_ABOVE

    @property
    def alive(self) -> bool:
        """Return whether the process still runs."""
        return self._process.poll() is None

    def client(self, **options: Any) -> redis.Redis:
        """Return a new redis-py client, as an application's: no retries unless `options` ask for them."""
        # Imported here: the cloud's process starts servers and needs no redis-py, which takes half a second.
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        return redis.Redis(host=HOST, port=self.port, **{"retry": Retry(NoBackoff(), 0), **options})

    def admin(self, **options: Any) -> redis.Redis:
        """Return a client that logs in as `user`; `command` gives a renamed command by its real name."""
        user, password = self.login or (None, None)
        return self.client(**{"decode_responses": True, "username": user, "password": password, **options})

    def command(self, *words: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Any:
        """Return the reply to one command, sent as `user` and by the name that it answers to.

        Raises `wire.Refused` for an error reply and `wire.WireError` (an OSError) for none.
        """
        name = self.renamed.get(words[0].lower(), words[0])
        with Wire(f"{HOST}:{self.port}", timeout_s=timeout_s) as wire:
            if self.login is not None:
                wire.one("AUTH", *self.login)
            return wire.one(name, *words[1:])

    def log_tail(self, lines: int = 1) -> str:
        """Return the last lines of the server's log."""
        if not self.log_path.exists():
            return "(no log)"
        return "\n".join(self.log_path.read_text(errors="replace").strip().splitlines()[-lines:])

    def last_words(self) -> str:
        """Return what the server said last, in a sentence or two, without times and process ids."""
        lines = [LOG_PREFIX.sub("", line) for line in self.log_tail(2).splitlines()]
        return " ".join(line if line.endswith(".") else f"{line}." for line in lines)

    def stop(self) -> None:
        """End the process: politely, then by force after five seconds. Harmless when it has ended."""
        if self.alive:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        guard.forget(self.pid)
        self._process.wait()

    def kill(self) -> None:
        """End the process at once, as a failing machine does."""
        self._process.kill()
        self.stop()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(
        self, port: int, config: dict[str, Any], replica_of: Server | tuple[str, int] | None, timeout_s: float
    ) -> tuple[int, subprocess.Popen[bytes]]:
        for attempt in range(START_ATTEMPTS):
            chosen = port or (free_port_with_bus() if config.get("cluster-enabled") == "yes" else free_port())
            path = self._write_config(chosen, config, replica_of)
            process = guard.start([str(self.engine.binary), str(path)], self.directory)
            if self._wait_ready(process, chosen, timeout_s):
                return chosen, process
            # Somebody took the free port between our look and the server's bind: take another.
            taken = "Address already in use" in self.log_tail(5)
            if port or not taken or attempt + 1 == START_ATTEMPTS:
                break
        raise ServerFailed(f"{self.engine} did not start: {self.last_words()}")

    def _wait_ready(self, process: subprocess.Popen[bytes], port: int, timeout_s: float) -> bool:
        """Return whether the server answers; False when it ended or ran out of time (then it is killed)."""
        deadline = time.monotonic() + timeout_s
        pause_s = 0.005
        while time.monotonic() < deadline:
            if process.poll() is not None:
                guard.forget(process.pid)
                return False
            if _answers(port, process.pid, self.login):
                return True
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.1)
        process.kill()
        process.wait()
        guard.forget(process.pid)
        return False

    def _write_config(self, port: int, config: dict[str, Any], replica_of: Server | tuple[str, int] | None) -> Path:
        directives: dict[str, Any] = {**self._defaults(port), **config}
        lines = [f"rename-command {name} {alias or chr(34) * 2}" for name, alias in self.renamed.items()]
        for name, value in directives.items():
            lines += [f"{name} {item or chr(34) * 2}" for item in (value if isinstance(value, list) else [value])]
        if replica_of is not None:
            host, primary = replica_of.address if isinstance(replica_of, Server) else replica_of
            lines.append(f"replicaof {host} {primary}")
        return write_private(self.directory / "server.conf", "\n".join(lines) + "\n")

    def _defaults(self, port: int) -> dict[str, str]:
        defaults = {
            "bind": HOST,
            "port": str(port),
            "dir": _quoted(self.directory.resolve()),
            "logfile": "server.log",
            "dbfilename": "dump.rdb",
            "daemonize": "no",
            "save": '""',
            "appendonly": "no",
            # Without a disk the transfer starts at the next tick of a 1 s clock, whatever the delay
            # is set to (5 s from Redis 7.0 on); with one it starts at once.
            "repl-diskless-sync": "no",
            "repl-diskless-sync-delay": "0",
            # Valkey 9 otherwise notices at the same ticks only that its download is complete.
            "repl-diskless-load": "on-empty-db",
        }
        if self.engine.number >= (7, 0):
            # A primary otherwise waits up to 10 s for its replicas before it ends.
            defaults["shutdown-timeout"] = "0"
        return defaults


def free_port() -> int:
    """Return a port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def free_port_with_bus() -> int:
    """Return a port of the loopback that nobody listens on now, nor on that of its cluster bus."""
    for port in random.sample(PORTS_WITH_BUS, 100):
        if is_free(port) and is_free(port + BUS_ABOVE):
            return port
    raise ServerFailed("No free pair of ports was found for a node of a cluster.")


def is_free(port: int) -> bool:
    """Return whether a server could listen on a port of the loopback now."""
    with socket.socket() as probe:
        # As the server binds: connections of before that only wait to be forgotten do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def write_private(path: Path, text: str) -> Path:
    """Write a file that only its owner can read, whole or not at all; return its path."""
    partial = path.with_name(path.name + ".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    os.replace(partial, path)
    return path


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _answers(port: int, pid: int, login: tuple[str, str] | None) -> bool:
    """Return whether this very server has finished loading and takes commands on the port."""
    try:
        with Wire(f"{HOST}:{port}", timeout_s=1) as wire:
            if login is not None and isinstance(wire.ask(("AUTH", *login))[0], Refused):
                return False
            pong, info = wire.ask(("PING",), ("INFO", "server"))
    except WireError:
        return False
    if isinstance(pong, Refused):
        # A server that asks for a login is ready too; one that is loading says so.
        return str(pong).startswith(("NOAUTH", "NOPERM"))
    # Somebody else's server may have the port, while ours is about to fail on it.
    return isinstance(info, Refused) or b"process_id:%d\r" % pid in info


# Reads "+pid" and "-pid" lines; when the pipe closes, because we ended however that came about,
# it kills what is left. Works the same on Linux and macOS, and outlives Ctrl-C and hang-ups.
_GUARD_SCRIPT = """
trap '' INT TERM HUP
pids=" "
while read -r sign pid; do
  case "$sign" in
    +) pids="$pids$pid ";;
    -) pids=$(echo "$pids" | sed "s/ $pid / /");;
  esac
done
for pid in $pids; do kill -9 "$pid" 2>/dev/null; done
"""


class _Guard:
    """One helper shell a Python process, which kills its servers when that process is gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0
        self._shell: subprocess.Popen[bytes] | None = None

    def start(self, command: list[str], directory: Path) -> subprocess.Popen[bytes]:
        """Start a process that ends with us."""
        with self._lock:
            self._ensure_shell()
            process = subprocess.Popen(
                command,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # Ctrl-C in a terminal reaches the foreground group: the servers are not in it.
                start_new_session=True,
            )
            self._tell("+", process.pid)
        return process

    def forget(self, pid: int) -> None:
        """Say that a process has ended, so that a later one with its number is left alone."""
        with self._lock:
            if self._owner == os.getpid():
                self._tell("-", pid)

    def _ensure_shell(self) -> None:
        if self._owner == os.getpid() and self._shell is not None and self._shell.poll() is None:
            return
        self._owner = os.getpid()
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD_SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _tell(self, sign: str, pid: int) -> None:
        if self._shell is None or self._shell.stdin is None:
            return
        try:
            self._shell.stdin.write(f"{sign} {pid}\n".encode())
            self._shell.stdin.flush()
        except OSError:  # The shell was killed by somebody: the servers are then ours alone to stop.
            pass


guard = _Guard()
