"""HTTP to a registry over connections that stay open, one a thread: little code, little memory, and no copy of a layer.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

from __future__ import annotations

import functools
import http.client
import json
import os
import random
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from helpers.aws import RunbookError
from helpers.ecr.login import Login
from helpers.ecr.words import refusal

TIMEOUT_S = 60.0
TRIES, PAUSE_S = 6, 0.2
BUSY = {429, 500, 502, 503, 504}
CUT = (OSError, http.client.HTTPException)

Sender = Callable[[http.client.HTTPConnection], None]


@dataclass(frozen=True)
class Answer:
    """What came back: status, headers (names in lower case) and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def error(self) -> tuple[str, str]:
        """The registry's error code and message, empty where the body names none."""
        try:
            first = json.loads(self.body)["errors"][0]
            return str(first.get("code", "")), str(first.get("message", ""))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return "", self.body[:200].decode(errors="replace").strip()


class Connections:
    """Connections to one server, one a thread, kept open between requests."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._parts = urlsplit(endpoint)
        self._local = threading.local()

    def get(self) -> http.client.HTTPConnection:
        """This thread's connection."""
        if getattr(self._local, "connection", None) is None:
            self._local.connection = self._open()
        return self._local.connection

    def drop(self) -> None:
        """Close this thread's connection; the next request opens another."""
        connection, self._local.connection = getattr(self._local, "connection", None), None
        if connection is not None:
            connection.close()

    @functools.cached_property
    def _context(self) -> ssl.SSLContext:
        """One for all connections: reading the authorities takes 25 ms and 1 MB each time."""
        return ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or None)

    def _open(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme != "https":
            return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        proxy = "" if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get("https", "")
        if not proxy:
            return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=self._context)
        between = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        tunnel = http.client.HTTPSConnection(between.hostname or "", between.port or 3128, timeout=TIMEOUT_S, context=self._context)
        tunnel.set_tunnel(host, port or 443)
        return tunnel

    def exchange(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None, send: Sender | None = None) -> Answer:
        """One request and its answer; `send` writes a body of its own.

        A server that refuses before it has read the whole body is heard. Raises one of `CUT` where the connection breaks.
        """
        connection = self.get()
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            if send is None:
                connection.putheader("Content-Length", str(len(body or b"")))
            connection.endheaders(body)
            early = self._send(connection, send) if send else None
            response = early or connection.getresponse()
            answer = Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        except BaseException:
            self.drop()
            raise
        if early or response.will_close:
            self.drop()
        return answer

    def _send(self, connection: http.client.HTTPConnection, send: Sender) -> http.client.HTTPResponse | None:
        """Send the body; where that breaks, the answer that the server may have given before."""
        try:
            send(connection)
        except OSError:
            try:
                response = connection.getresponse()
            except CUT:
                response = None
            if response is None or response.status < 400:
                raise
            return response
        return None


class Registry:
    """One repository of a registry over HTTP, with the login that each request needs."""

    def __init__(self, login: Login, repository: str) -> None:
        self.login, self.repository = login, repository
        self.path = f"/v2/{repository}"
        self._connections: Connections | None = None
        self._lock = threading.Lock()

    @property
    def connections(self) -> Connections:
        """The connections to where the login says the registry is."""
        with self._lock:
            if self._connections is None:
                self._connections = Connections(self.login.endpoint)
            return self._connections

    def request(self, method: str, path: str, *, headers: Mapping[str, str] = {}, body: bytes | None = None, expect: tuple[int, ...] = (200,)) -> Answer:  # noqa: B006 (read only)
        """A small request, sent again after a broken connection, an expired token, or where the registry asks to slow down.

        Raises `RunbookError` where the answer is none of `expect` in the end.
        """
        pause = PAUSE_S
        for left in reversed(range(TRIES)):
            try:
                answer = self.once(method, path, headers=headers, body=body)
            except CUT as error:
                if not left:
                    raise RunbookError(f"{self.connections.endpoint} cannot be reached: {error or type(error).__name__}.", "Check the network and the region, then resume the run.") from error
            else:
                if answer.status in expect:
                    return answer
                if answer.status not in BUSY or not left:
                    raise self.refused(method, answer)
            time.sleep(pause * random.uniform(0.8, 1.2))
            pause *= 2
        raise AssertionError("unreachable")

    def once(self, method: str, path: str, *, headers: Mapping[str, str] = {}, body: bytes | None = None, send: Sender | None = None) -> Answer:  # noqa: B006 (read only)
        """One request; it is repeated with a new token where the registry says that the token is not good any more.

        Raises one of `CUT` where the connection breaks.
        """
        authorization = self.login.header()
        answer = self.connections.exchange(method, path, {**headers, "Authorization": authorization}, body, send)
        if is_stale(answer) and self.login.renew(authorization):
            answer = self.connections.exchange(method, path, {**headers, "Authorization": self.login.header()}, body, send)
        return answer

    def refused(self, method: str, answer: Answer) -> RunbookError:
        """What an answer that refuses means."""
        code, message = answer.error
        return refusal(code, message, f"{method} to {self.connections.endpoint}/v2/{self.repository}", answer.status, answer.headers.get("x-amzn-requestid", ""))


def is_stale(answer: Answer) -> bool:
    """True where a new token may help: none was accepted, or it has expired."""
    if answer.status == 401:
        return True
    message: Any = answer.error[1].lower()
    return answer.status in (400, 403) and "token" in message and ("expired" in message or "invalid" in message)
