"""Give servers that come and go one stable address each: a TCP relay in a process of its own.

The relay stands where DNS stands on AWS. It is a process apart so that its latency does not
depend on what else the cloud computes; it ends when its standard input closes, as it does
when the cloud process is gone. A listener that is given a certificate speaks TLS with its
clients and plain TCP with the server, which is how encryption in transit comes to servers
that have none.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any

HOST = "127.0.0.1"
BUFFER_BYTES = 1 << 20
CONNECT_TIMEOUT_S = 2.0
REPLY_TIMEOUT_S = 10.0
HANDSHAKE_TIMEOUT_S = 10.0
ACCEPT_PAUSE_S = 0.1
# Source: RFC 8446, section 5.1 (ContentType): what a client says first.
TLS_HANDSHAKE = b"\x16"
# A client that does not answer the end of its TLS session is left after so long.
SHUTDOWN_TIMEOUT_S = 1.0


class RelayFailed(RuntimeError):
    """The relay process is gone or refused a command."""


class Relay:
    """A running relay process: listening ports, each pointing at one or more server ports.

    A listener is known by its host and port: those on other addresses of the loopback may share a port.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "helpers.rehearsal.relay"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).resolve().parents[2],
            start_new_session=True,
            text=True,
        )

    @property
    def pid(self) -> int:
        """Return the process id of the relay."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Return whether the relay still runs."""
        return self._process.poll() is None

    def listen(
        self,
        targets: list[int] | None = None,
        *,
        tls: tuple[Path, Path] | None = None,
        host: str = HOST,
        port: int = 0,
        replicas: tuple[str, str] | None = None,
    ) -> int:
        """Return a listening port, whose connections go to `targets` in turn; without one they are closed.

        `tls` are the files of a certificate and its key: then the listener speaks TLS, and TLS only.
        `replicas`, a user and a password, lets in without TLS whoever logs in as a replica does with them:
        the nodes of a cluster find each other by the addresses that its clients know. `port` 0 takes a
        free one. Raises RelayFailed where host and port cannot be had.
        """
        certificate = [str(file) for file in tls] if tls else None
        command = {"do": "listen", "targets": targets or [], "tls": certificate, "host": host, "port": port}
        return int(self._ask({**command, "replicas": replicas})["port"])

    def point(self, port: int, targets: list[int], *, host: str = HOST) -> int:
        """Send new connections of a listener to `targets`; close those it has, and return their number."""
        return int(self._ask({"do": "point", "host": host, "port": port, "targets": targets})["closed"])

    def close(self, port: int, *, host: str = HOST) -> None:
        """Stop listening and close the connections of a listener."""
        self._ask({"do": "close", "host": host, "port": port})

    def stop(self) -> None:
        """End the relay process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(REPLY_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        with self._lock:
            try:
                stdin.write(json.dumps(command) + "\n")
                stdin.flush()
                line = stdout.readline()
            except (OSError, ValueError) as error:
                raise RelayFailed(f"The relay process is gone: {error}.") from error
        if not line:
            raise RelayFailed("The relay process ended.")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise RelayFailed(reply["error"])
        return reply


class _Side(asyncio.Protocol):
    """One side of a relayed connection; what it receives goes out on the other."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Side | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=BUFFER_BYTES)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        # A TLS session that is being closed still hands out what came before its end.
        if self.transport is None or self.transport.is_closing():
            return
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    # A slow reader on one side stops the reading on the other, so that memory stays bounded.
    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class _ClientSide(_Side):
    """The side an application connected to: it opens the other one, to the server."""

    def __init__(self, listener: _Listener) -> None:
        super().__init__()
        self._listener = listener
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        self._listener.clients.add(self)
        self._task = asyncio.get_running_loop().create_task(self._connect(self._listener.next_target()))

    def data_received(self, data: bytes) -> None:
        # Before Python 3.11.4 a transport paused as it is made reads on all the same.
        if self.other is None:
            self._early.append(data)
        else:
            super().data_received(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._listener.clients.discard(self)
        super().connection_lost(error)

    async def _connect(self, target: int | None) -> None:
        assert self.transport is not None
        server = _Side()
        server.other = self
        try:
            if target is None:
                raise ConnectionRefusedError
            opening = asyncio.get_running_loop().create_connection(lambda: server, HOST, target)
            await asyncio.wait_for(opening, CONNECT_TIMEOUT_S)
        except (TimeoutError, OSError):
            self.transport.close()
            return
        if self.transport.is_closing():
            assert server.transport is not None
            server.transport.close()
            return
        self.other = server
        for data in self._early:
            super().data_received(data)
        self._early.clear()
        self.transport.resume_reading()


class _ReplicaSide(_ClientSide):
    """The side a replica connected to without TLS: until it has logged in, nothing else goes through."""

    def __init__(self, listener: _Listener, login: list[str]) -> None:
        super().__init__(listener)
        self._expected = _command("PING") + _command("AUTH", *login)
        self._seen = b""

    def data_received(self, data: bytes) -> None:
        if len(self._seen) < len(self._expected):
            self._seen += data
            length = min(len(self._seen), len(self._expected))
            if self._seen[:length] != self._expected[:length]:
                assert self.transport is not None
                self.transport.close()
                return
        super().data_received(data)


def _command(*words: str) -> bytes:
    """Return a command as the servers write it."""
    return f"*{len(words)}\r\n".encode() + b"".join(f"${len(w)}\r\n{w}\r\n".encode() for w in words)


class _Listener:
    """One stable port and where it leads now."""

    def __init__(self, targets: list[int]) -> None:
        self.clients: set[_ClientSide] = set()
        self.point(targets)

    async def open(self, host: str, port: int, tls: list[str] | None, replicas: list[str] | None) -> int:
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {} if tls is None else {
            "ssl": _context(*tls),
            "ssl_handshake_timeout": HANDSHAKE_TIMEOUT_S,
            "ssl_shutdown_timeout": SHUTDOWN_TIMEOUT_S,
        }
        if replicas is not None:
            return self._open_for_both(host, port, options, replicas)
        self._server: asyncio.Server | _Accepting = await loop.create_server(lambda: _ClientSide(self), host, port, backlog=1024, **options)
        return int(self._server.sockets[0].getsockname()[1])

    def _open_for_both(self, host: str, port: int, options: dict[str, Any], login: list[str]) -> int:
        """Listen for clients with TLS and replicas without: the first byte of a connection tells which."""

        async def admit(connection: socket.socket) -> None:
            loop = asyncio.get_running_loop()
            try:
                first = await asyncio.wait_for(_first_byte(connection), HANDSHAKE_TIMEOUT_S)
                if first == TLS_HANDSHAKE:
                    await loop.connect_accepted_socket(lambda: _ClientSide(self), connection, **options)
                else:
                    await loop.connect_accepted_socket(lambda: _ReplicaSide(self, login), connection)
            except (TimeoutError, OSError):
                connection.close()

        self._server = _Accepting(host, port, admit)
        return self._server.port

    def next_target(self) -> int | None:
        return next(self._turns, None)

    def point(self, targets: list[int]) -> int:
        self._turns = itertools.cycle(targets)
        clients = list(self.clients)
        for client in clients:
            if client.transport is not None:
                client.transport.close()
            # The end of a TLS session takes the client's answer: its server is not kept until then.
            if client.other is not None and client.other.transport is not None:
                client.other.transport.close()
        return len(clients)

    def close(self) -> None:
        self._server.close()
        self.point([])


class _Accepting:
    """A listening socket whose connections are handed on as they are."""

    def __init__(self, host: str, port: int, admit: Callable[[socket.socket], Awaitable[None]]) -> None:
        self._socket = socket.create_server((host, port), backlog=1024)
        self._socket.setblocking(False)
        self.port = int(self._socket.getsockname()[1])
        self._admit = admit
        self._admitting: set[asyncio.Task[None]] = set()
        self._task = asyncio.get_running_loop().create_task(self._accept())

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._socket)
            except OSError:
                # Too many open files, or a client that is gone already: others are still waited for.
                await asyncio.sleep(ACCEPT_PAUSE_S)
                continue
            task = loop.create_task(self._admit(connection))  # type: ignore[arg-type]
            self._admitting.add(task)
            task.add_done_callback(self._admitting.discard)

    def close(self) -> None:
        """Stop listening."""
        self._task.cancel()
        self._socket.close()


async def _first_byte(connection: socket.socket) -> bytes:
    """Return the first byte that comes, and leave it there."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(connection, lambda: ready.done() or ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(connection)
    return connection.recv(1, socket.MSG_PEEK)


@functools.cache
def _context(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


_Listeners = dict[tuple[str, int], _Listener]


async def _obey(listeners: _Listeners, command: dict[str, Any]) -> dict[str, Any]:
    match command["do"]:
        case "listen":
            listener = _Listener(command["targets"])
            port = await listener.open(command["host"], command["port"], command["tls"], command["replicas"])
            listeners[command["host"], port] = listener
            return {"port": port}
        case "point":
            return {"closed": listeners[command["host"], command["port"]].point(command["targets"])}
        case "close":
            listeners.pop((command["host"], command["port"])).close()
            return {}
        case other:
            return {"error": f"The relay knows no command {other!r}."}


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    listeners: _Listeners = {}
    while line := await reader.readline():
        try:
            reply = await _obey(listeners, json.loads(line))
        except (KeyError, OSError) as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_serve())
