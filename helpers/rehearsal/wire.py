"""Talk to a Redis or Valkey server over one socket: pipelined, without retries, and able to walk away.

redis-py reconnects and repeats on its own and cannot leave a command that a paused server holds
back. A probe that counts what was acknowledged needs the opposite: each command is sent once, and
its outcome is a reply or an error.
"""

from __future__ import annotations

import select
import socket
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


class Wire:
    """One connection to "host:port", made when constructed. Raises `WireError` where it cannot be made.

    `abandon` is asked every 5 ms while a reply is waited for; True ends the wait with a `WireError`.
    """

    def __init__(
        self, endpoint: str, *, timeout_s: float = TIMEOUT_S, abandon: Callable[[], bool] = lambda: False
    ) -> None:
        self.endpoint = endpoint
        self._timeout_s = timeout_s
        self._abandon = abandon
        self._reader = hiredis.Reader()
        host, _, port = endpoint.rpartition(":")
        try:
            self._socket = socket.create_connection((host, int(port)), timeout_s)
        except (OSError, ValueError) as error:
            raise WireError(f"cannot connect: {_words(error)}") from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

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
        replies = self.ask(("MULTI",), *commands, ("EXEC",))
        # A command refused while it is queued says why; EXEC then only says that it discarded them all.
        for reply in replies[:-1]:
            _raised(reply)
        return [_raised(_reply(reply)) for reply in _raised(replies[-1])]

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

    def _receive(self) -> Any:
        deadline = time.monotonic() + self._timeout_s
        while (reply := self._reader.gets()) is False:
            self._wait(deadline)
            data = self._socket.recv(RECEIVE_BYTES)
            if not data:
                raise WireError("connection closed by the server")
            self._reader.feed(data)
        return reply

    def _wait(self, deadline: float) -> None:
        while not _readable(self._socket, LOOK_S):
            if self._abandon():
                raise WireError("given up: the endpoint changed")
            if time.monotonic() > deadline:
                raise WireError(f"no reply within {self._timeout_s:g} s")


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


def _readable(connection: socket.socket, timeout_s: float) -> bool:
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
