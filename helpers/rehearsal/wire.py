"""Talk to a Redis or Valkey server over one socket: pipelined, without retries, and able to walk away.

redis-py reconnects and repeats on its own and cannot leave a command that a paused server holds
back. A probe that counts what was acknowledged needs the opposite: each command is sent once, and
its outcome is a reply or an error.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any

import hiredis

TIMEOUT_S = 2.0
# How often a waiting caller looks whether it still wants the answer.
LOOK_S = 0.005
RECEIVE_BYTES = 1 << 16
BULK_BYTES = 1 << 18

Command = tuple[Any, ...]


class WireError(OSError):
    """A connection that failed, timed out or was given up: what was in flight may or may not be stored."""


class Refused(RuntimeError):
    """An error reply of the server, in its own words: READONLY, LOADING, NOREPLICAS, OOM ..."""


class LoginRefused(Refused):
    """The server did not take the login: its password may have been rotated."""


class Wire:
    """One connection to "host:port", made when constructed. Raises `WireError` where it cannot be made.

    `tls` encrypts it, with the host name checked against the certificate where the context says so;
    `login` is what AUTH is given, a password or user and password, and a server that refuses it raises
    `LoginRefused`; `name` is the client's name on the server. `abandon` is asked every 5 ms while a
    reply is waited for; True ends the wait with a `WireError`.
    """

    # One server is one shard, without a name: see `helpers.rehearsal.cluster_wire`.
    shards: tuple[str, ...] = ("",)

    def __init__(
        self,
        endpoint: str,
        *,
        timeout_s: float = TIMEOUT_S,
        abandon: Callable[[], bool] = lambda: False,
        tls: ssl.SSLContext | None = None,
        login: tuple[str, ...] = (),
        name: str = "",
    ) -> None:
        self.endpoint = endpoint
        self._timeout_s = timeout_s
        self._abandon = abandon
        self._reader = hiredis.Reader()
        host, _, port = endpoint.rpartition(":")
        try:
            self._socket = socket.create_connection((host, int(port)), timeout_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                self._socket = _encrypted(self._socket, tls, host)
        except (OSError, ValueError) as error:
            raise WireError(f"cannot connect: {_words(error)}") from error
        self._introduce(login, name)

    def shard_of(self, key: str | bytes) -> str:
        """Return the name of the shard that a key belongs to: of the one there is."""
        return self.shards[0]

    def ask(self, *commands: Command) -> list[Any]:
        """Send commands in one packet and return their replies; an error reply is a `Refused` in its place.

        Raises `WireError` when not all replies came within the timeout.
        """
        try:
            self._socket.sendall(b"".join(map(hiredis.pack_command, commands)))
            return [_reply(self._receive()) for _ in commands]
        except (OSError, hiredis.ProtocolError) as error:
            self.close()
            raise error if isinstance(error, WireError) else WireError(_words(error)) from error

    def one(self, *command: Any) -> Any:
        """Send one command and return its reply. Raises `Refused` for an error reply, `WireError` for none."""
        return _raised(self.ask(command)[0])

    def transaction(self, *commands: Command) -> list[Any]:
        """Send commands as one MULTI ... EXEC and return their replies. Raises like `one`, for the first error."""
        return executed(self.ask(("MULTI",), *commands, ("EXEC",)))

    def each(self, *command: Any) -> list[Any]:
        """Send one command to every shard, here the one server, and return the replies. Raises like `one`."""
        return [self.one(*command)]

    def bulk(self, commands: Iterable[Command]) -> int:
        """Send any number of commands, a quarter MiB at a time, and return how many. Raises like `one`."""
        count = waiting = 0
        for payload, sent in _batches(commands):
            self._socket.sendall(payload)
            # The server works on this batch while the replies to the one before are read.
            self._drain(waiting)
            count, waiting = count + sent, sent
        self._drain(waiting)
        return count

    def _drain(self, replies: int) -> None:
        for _ in range(replies):
            _raised(_reply(self._receive()))

    def close(self) -> None:
        """Close the connection. Harmless when it is closed."""
        self._socket.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _introduce(self, login: tuple[str, ...], name: str) -> None:
        commands: list[Command] = [("AUTH", *login)] if login else []
        commands += [("CLIENT", "SETNAME", name)] if name else []
        if commands and isinstance(refused := self.ask(*commands)[0], Refused) and login:
            self.close()
            raise LoginRefused(str(refused))

    def _receive(self) -> Any:
        deadline = time.monotonic() + self._timeout_s
        while (reply := self._reader.gets()) is False:
            self._wait(deadline)
            data = self._received()
            if data is None:
                continue
            if not data:
                raise WireError("connection closed by the server")
            self._reader.feed(data)
        return reply

    def _received(self) -> bytes | None:
        """Return the bytes that have come; None where they hold nothing for us, such as a session ticket of TLS."""
        if not isinstance(self._socket, ssl.SSLSocket):
            return self._socket.recv(RECEIVE_BYTES)
        # Without a timeout of its own: the wait for the rest of a record must look at `abandon` too.
        self._socket.settimeout(0)
        try:
            return self._socket.recv(RECEIVE_BYTES)
        except ssl.SSLWantReadError:
            return None
        finally:
            self._socket.settimeout(self._timeout_s)

    def _wait(self, deadline: float) -> None:
        while not _readable(self._socket, LOOK_S):
            if self._abandon():
                raise WireError("given up: the endpoint changed")
            if time.monotonic() > deadline:
                raise WireError(f"no reply within {self._timeout_s:g} s")


def executed(replies: list[Any]) -> list[Any]:
    """Return what EXEC replied, of the replies to MULTI, the commands and EXEC. Raises `Refused` for the first error."""
    # A command refused while it is queued says why; EXEC then only says that it discarded them all.
    for reply in replies[:-1]:
        _raised(reply)
    return [_raised(_reply(reply)) for reply in _raised(replies[-1])]


def _batches(commands: Iterable[Command]) -> Iterator[tuple[bytes, int]]:
    parts: list[bytes] = []
    size = 0
    for command in commands:
        packed = hiredis.pack_command(command)
        parts.append(packed)
        size += len(packed)
        if size >= BULK_BYTES:
            yield b"".join(parts), len(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts), len(parts)


def _encrypted(plain: socket.socket, tls: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    try:
        return tls.wrap_socket(plain, server_hostname=host)
    except (OSError, ValueError):
        plain.close()
        raise


def _readable(connection: socket.socket, timeout_s: float) -> bool:
    if isinstance(connection, ssl.SSLSocket) and connection.pending():
        return True
    # poll, not select: file descriptors above 1,023 are fine. macOS has it too.
    watch = select.poll()
    watch.register(connection, select.POLLIN)
    return bool(watch.poll(timeout_s * 1000))


def _reply(reply: Any) -> Any:
    return Refused(str(reply)) if isinstance(reply, hiredis.ReplyError) else reply


def _raised(reply: Any) -> Any:
    if isinstance(reply, Refused):
        raise reply
    return reply


def _words(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).lower()
