"""A connection of the data plane: bodies that come in pieces, answers, and breaking off as a network does."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
import uuid
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from helpers.rehearsal.ecr.refusals import Refused

PIECE = 256 * 1024
IDLE_S = 75.0
# How much of a refused body is read, so that the client comes to read the answer.
DRAINED, DRAIN_S = 64 * 1024 * 1024, 2.0


class ConnectionCut(Exception):
    """The connection broke, or was ordered to break here."""


class Answered(Exception):
    """The request has been answered."""


class Connection(BaseHTTPRequestHandler):
    """A connection whose requests are answered by `route`, which a subclass has."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    rbufsize = 64 * 1024
    disable_nagle_algorithm = True

    def route(self) -> None:
        """Answer a request. Raises `Refused` for what is refused."""
        raise NotImplementedError

    def handle_one_request(self) -> None:
        """Answer a request of any method."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or len(self.raw_requestline) > 65536:
            self.close_connection = True
            return
        if not self.parse_request():
            return
        self._read = False
        try:
            self.route()
        except Refused as refused:
            code, status = refused.of_the_registry
            self.refuse(status, code, refused.message)
        except Answered:
            pass
        except ConnectionCut:
            self._cut()
        except TimeoutError:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Write no log."""

    # Bodies

    def pieces(self) -> Iterator[memoryview]:
        """Yield the body in pieces, each good until the next is asked for. Raises EOFError where it ends early."""
        self._read = True
        if "100-continue" in self.headers.get("Expect", "").lower():
            self.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        buffer = memoryview(bytearray(PIECE))
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            while size := self._size_of_chunk():
                yield from self._exactly(size, buffer)
                self.rfile.readline(8)
            while self.rfile.readline(65536) not in (b"\r\n", b"\n", b""):
                pass
        else:
            yield from self._exactly(int(self.headers.get("Content-Length") or 0), buffer)

    def _size_of_chunk(self) -> int:
        try:
            return int(self.rfile.readline(1024).partition(b";")[0], 16)
        except ValueError as error:
            raise EOFError from error

    def _exactly(self, size: int, buffer: memoryview) -> Iterator[memoryview]:
        while size:
            # A whole piece at a time: what a socket has at once is often far less.
            count = self.rfile.readinto(buffer[: min(size, len(buffer))])  # type: ignore[attr-defined]
            if not count:
                raise EOFError
            size -= count
            yield buffer[:count]

    def body(self, most: int) -> bytes:
        """Return a whole body. Raises `Refused` for one of more than `most` bytes, and `ConnectionCut` where it ends early."""
        content, pieces = bytearray(), self.pieces()
        try:
            for piece in pieces:
                content += piece
                if len(content) > most:
                    self.discard(pieces)
                    raise Refused("InvalidParameterException", f"The request has more than {most} bytes.")
        except (OSError, EOFError) as broken:
            raise ConnectionCut from broken
        return bytes(content)

    # Answers

    def refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        """Send a refusal, with a code of the registry's."""
        content = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        self.answer(status, content, {"Content-Type": "application/json; charset=utf-8", **(headers or {})})

    def answer(self, status: int, content: bytes | None, headers: dict[str, str]) -> None:
        """Send an answer; `content` is None where headers alone are sent now. A body that nobody read is read away."""
        if not self._read:
            self._drain()
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "Docker-Distribution-Api-Version: registry/2.0", f"Date: {self.date_time_string()}"]
        length = {} if "Content-Length" in headers or status == 204 else {"Content-Length": str(len(content or b""))}
        lines += [f"{name}: {value}" for name, value in {**headers, **length, "x-amzn-RequestId": str(uuid.uuid4())}.items()]
        lines += ["Connection: close"] if self.close_connection else []
        body = content if content and self.command != "HEAD" else b""
        self.connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    def _drain(self) -> None:
        waits = "100-continue" in self.headers.get("Expect", "").lower()
        length = int(self.headers.get("Content-Length") or 0)
        if waits or (not length and "Transfer-Encoding" not in self.headers):
            self.close_connection |= waits
            self._read = True
            return
        self.discard(self.pieces())

    def discard(self, pieces: Iterator[memoryview]) -> None:
        """Read on, so that the client comes to read the answer, but not for ever."""
        until, count = time.monotonic() + DRAIN_S, 0
        with contextlib.suppress(OSError, EOFError, ValueError):
            for piece in pieces:
                count += len(piece)
                if count > DRAINED or time.monotonic() > until:
                    self.close_connection = True
                    return

    def handle_expect_100(self) -> bool:
        """Say nothing yet: a body that would be refused need not come."""
        return True

    def _cut(self) -> None:
        """Break the connection as a network does."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
