"""Speak to a Redis or Valkey server in raw pipelines: the fast path under compare, copy and capture.

redis-py spends 10 to 20 microseconds of Python on a command. Reading or copying a million keys
needs one or two, so the helpers of this folder open their own connections from a client's settings
(address, user, TLS), pack commands with hiredis and read many replies at a time.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, TypeVar

import hiredis
import redis

from helpers.elasticache.tls import TlsConnection

CONNECT_TIMEOUT_S = 10.0
REPLY_TIMEOUT_S = 60.0
RECEIVE_BYTES = 1 << 20
# So many batches are on their way while another is dealt with.
AHEAD = 2
# Names of the runbook's connections begin with this.
OURS = "runbook"
SCAN_COUNT = 1000

Command = tuple[Any, ...]
Item = TypeVar("Item")
Reply = TypeVar("Reply")
# The place of the key in a command for `shape`.
KEY = object()
pack = hiredis.pack_command
TIME = pack(("TIME",))
# What the reply reader says when a reply has not arrived in full. Not False, which equals the reply 0.
NOTHING_YET = object()

# What a connection needs to reach the same server as the client: the rest (retries, decoding,
# timeouts, notifications of maintenance) is the client's own affair.
_ADDRESS = {"host", "port", "path", "username", "password", "credential_provider", "socket_keepalive"}


class Wire:
    """One connection that sends many commands at once and returns the replies as bytes.

    It goes where `client` goes, to `database`, and has a name that begins with "runbook", so that
    `connected_clients` knows it as ours. An error reply is a `redis.ResponseError` in the list
    of replies; only `call` raises it. Raises redis.ConnectionError when the connection is lost and
    redis.TimeoutError when the server is silent for `timeout_s` seconds.
    """

    def __init__(self, client: redis.Redis, database: int = 0, *, timeout_s: float = REPLY_TIMEOUT_S) -> None:
        self.database = database
        self._connection = _connection(client, database, timeout_s)
        self._connection.connect()
        self.socket = self._connection._sock
        self._reader = _reader()
        self._buffer = bytearray(RECEIVE_BYTES)
        # What the server is asked to say between two marked batches of replies, and what has arrived of those.
        self._mark = secrets.token_hex(16).encode()
        self._marked = bytearray()
        # Keeps our reading from refreshing every key's idle time, on which eviction decides.
        # Valkey 7.2 and later know it; elsewhere the refusal is harmless.
        _, about = self.ask([("CLIENT", "NO-TOUCH", "ON"), ("INFO", "cluster")])
        # A node of a cluster refuses commands on several keys, as their slots differ.
        self.cluster = isinstance(about, bytes) and b"cluster_enabled:1" in about

    def send(self, commands: Iterable[Command]) -> None:
        """Send `commands` without waiting for their replies."""
        self.send_packed(b"".join([pack(command) for command in commands]))

    def send_packed(self, data: bytes) -> None:
        """Send commands that are packed already (the same bytes may go to two servers)."""
        try:
            self.socket.sendall(data)
        except TimeoutError as error:
            raise redis.TimeoutError("The server did not take our commands in time.") from error
        except OSError as error:
            raise redis.ConnectionError(f"The connection was lost while sending: {error}") from error

    def receive(self, count: int) -> list[Any]:
        """Return the next `count` replies."""
        replies: list[Any] = []
        arrived = iter(self._reader.gets, NOTHING_YET)
        while True:
            replies.extend(itertools.islice(arrived, count - len(replies)))
            if len(replies) == count:
                return replies
            self._fill()
            arrived = iter(self._reader.gets, NOTHING_YET)

    def send_marked(self, *parts: bytes) -> None:
        """Send parts of packed commands, the replies to each of which `receive_marked` returns.

        A wire so used has no other use.
        """
        mark = pack(("PING", self._mark))
        self.send_packed(b"".join([piece for part in parts for piece in (part, mark)]))

    def receive_marked(self) -> bytes:
        """Return the replies to the next part that `send_marked` sent, in the bytes in which they came."""
        mark, searched = bulk(self._mark), 0
        while (end := self._marked.find(mark, searched)) < 0:
            searched = max(0, len(self._marked) - len(mark))
            size = self._read()
            with memoryview(self._buffer) as read:
                self._marked += read[:size]
        with memoryview(self._marked) as arrived:
            replies = bytes(arrived[:end])
        del self._marked[: end + len(mark)]
        return replies

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Return the replies to `commands`, sent as one pipeline."""
        self.send(commands)
        return self.receive(len(commands))

    def call(self, *command: Any) -> Any:
        """Return the reply to one command. Raises redis.ResponseError when it is an error."""
        (reply,) = self.ask([command])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def select(self, database: int) -> None:
        """Go to another database of the server. Raises redis.ResponseError when it has none such."""
        if database != self.database:
            self.call("SELECT", database)
            self.database = database

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(Exception):
            self._connection.disconnect()

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fill(self) -> None:
        """Hand what the socket has to the reply reader."""
        size = self._read()
        self._reader.feed(self._buffer, 0, size)

    def _read(self) -> int:
        """Read what the socket has into the buffer and return how many bytes that is."""
        try:
            size = self.socket.recv_into(self._buffer)
        except TimeoutError as error:
            raise redis.TimeoutError("The server did not reply in time.") from error
        except OSError as error:
            raise redis.ConnectionError(f"The connection was lost: {error}") from error
        if not size:
            raise redis.ConnectionError("The server closed the connection.")
        return size


class Pair:
    """A wire to each of two servers, asked at the same time so that both work in parallel."""

    def __init__(self, source: redis.Redis, target: redis.Redis) -> None:
        self.source = Wire(source)
        try:
            self.target = Wire(target)
        except BaseException:
            self.source.close()
            raise

    def select(self, database: int) -> None:
        """Go to another database on both servers."""
        self.source.select(database)
        self.target.select(database)

    def ask(self, commands: Sequence[Command]) -> tuple[list[Any], list[Any]]:
        """Return both servers' replies to `commands`."""
        self.send_packed(b"".join([pack(command) for command in commands]))
        return self.receive(len(commands))

    def send_marked(self, *parts: bytes) -> None:
        """Send both servers parts of packed commands, the replies to each of which `receive_marked` returns."""
        self.source.send_marked(*parts)
        self.target.send_marked(*parts)

    def receive_marked(self) -> tuple[bytes, bytes]:
        """Return what both servers replied to the next part, in the bytes in which it came."""
        return self.source.receive_marked(), self.target.receive_marked()

    def send_packed(self, data: bytes) -> None:
        """Send both servers commands that are packed already."""
        self.source.send_packed(data)
        self.target.send_packed(data)

    def receive(self, count: int) -> tuple[list[Any], list[Any]]:
        """Return the next `count` replies of both servers."""
        return self.source.receive(count), self.target.receive(count)

    def __enter__(self) -> Pair:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.source.close()
        self.target.close()


def in_flight(items: Iterable[Item], send: Callable[[Item], None], receive: Callable[[Item], Reply]) -> Iterator[Reply]:
    """Yield `receive(item)` for each item, always having sent the next ones (`AHEAD`) before waiting for this one."""
    waiting: deque[Item] = deque()
    for item in items:
        send(item)
        waiting.append(item)
        if len(waiting) > AHEAD:
            yield receive(waiting.popleft())
    while waiting:
        yield receive(waiting.popleft())


def bulk(part: bytes) -> bytes:
    """Return a part of a command as it is sent."""
    return b"$%d\r\n%b\r\n" % (len(part), part)


def bulks(parts: Iterable[bytes]) -> list[bytes]:
    """Return the `bulk` of each part."""
    return [b"$%d\r\n%b\r\n" % (len(part), part) for part in parts]


def shape(command: Command) -> bytes:
    """Return a command packed but for the key, for which it has %b to be filled with its `bulk`."""
    return b"*%d\r\n" % len(command) + b"".join([b"%b" if part is KEY else bulk(part.encode()) for part in command])


def shaped(bulks: Sequence[bytes], command: Command) -> bytes:
    """Return `command` packed for each key of which `bulks` has the `bulk`, which takes the place of KEY in it.

    Many times as fast as packing each command by itself, for the commands that are sent by the million.
    """
    before, after = shape(command).split(b"%b")
    return before + (after + before).join(bulks) + after if bulks else b""


def shaped_once(bulks: Sequence[bytes], name: str) -> bytes:
    """Return one command on all keys of which `bulks` has the `bulk`."""
    return b"*%d\r\n" % (1 + len(bulks)) + bulk(name.encode()) + b"".join(bulks)


def together(calls: Sequence[Callable[[], Reply]], stop: Callable[[], None] = lambda: None) -> list[Reply]:
    """Return what `calls` return, each called in a thread of its own, as for the shards of a group.

    Raises the error of the first that fails, after the others have ended, who are told by `stop`.
    """
    if len(calls) < 2:
        return [call() for call in calls]
    with ThreadPoolExecutor(len(calls)) as pool:
        running = [pool.submit(call) for call in calls]
        try:
            ended, _ = wait(running, return_when=FIRST_EXCEPTION)
        finally:
            stop()
    for error in filter(None, (each.exception() for each in ended)):
        raise error
    return [each.result() for each in running]


def parsed(data: bytes, count: int) -> list[Any]:
    """Return the `count` replies that `data` holds. An error reply is a `redis.ResponseError` in the list."""
    reader = _reader()
    reader.feed(data)
    return list(itertools.islice(iter(reader.gets, NOTHING_YET), count))


def _reader() -> hiredis.Reader:
    return hiredis.Reader(
        protocolError=redis.InvalidResponse, replyError=redis.ResponseError, notEnoughData=NOTHING_YET
    )


def scan(wire: Wire, *, kind: str | None = None, count: int = SCAN_COUNT) -> Iterator[list[bytes]]:
    """Yield lists of all keys of the wire's database, of type `kind` alone when given.

    As SCAN promises: a key that stays is seen at least once, now and then twice. The next SCAN is on
    its way while the caller works on this one, so the wire must have no other use meanwhile.
    """
    return (keys for _, keys in scan_from(wire, b"0", count, kind=kind) if keys)


def scan_from(
    wire: Wire, cursor: bytes, count: int, *, kind: str | None = None
) -> Iterator[tuple[bytes, list[bytes]]]:
    """Yield the cursor to go on with and the keys, some or none, of each SCAN from `cursor` on; the last cursor is 0.

    A cursor is valid on the same process
    of the server alone, but there on every connection.
    """
    rest: Command = ("COUNT", count, *(("TYPE", kind) if kind else ()))
    wire.send([("SCAN", cursor, *rest)])
    while True:
        (reply,) = checked(wire.receive(1))
        cursor, keys = reply
        if cursor != b"0":
            wire.send([("SCAN", cursor, *rest)])
        yield cursor, keys
        if cursor == b"0":
            return


def checked(replies: list[Any]) -> list[Any]:
    """Return the replies. Raises redis.ResponseError when one is an error."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def databases(client: redis.Redis) -> dict[int, int]:
    """Return the number of keys of each database that has any (INFO keyspace), by its number."""
    found = client.info("keyspace")
    return {int(name[2:]): int(facts["keys"]) for name, facts in found.items() if name.startswith("db")}


def by_database(keys: Iterable[tuple[int, bytes]]) -> dict[int, list[bytes]]:
    """Return the keys of each database, in the order given."""
    grouped: dict[int, list[bytes]] = {}
    for database, key in keys:
        grouped.setdefault(database, []).append(key)
    return grouped


def batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Yield `items` in pieces of `size`, the last one shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def milliseconds(time_reply: Sequence[bytes]) -> int:
    """Return a TIME reply as milliseconds since 1970."""
    return int(time_reply[0]) * 1000 + int(time_reply[1]) // 1000


def _connection(client: redis.Redis, database: int, timeout_s: float) -> redis.Connection:
    """Return a new, unconnected connection to the server of `client`."""
    settings = client.connection_pool.connection_kwargs
    kept = {name: value for name, value in settings.items() if name in _ADDRESS or name.startswith("ssl")}
    name = str(settings.get("client_name") or "")
    return _connection_class(client)(
        **kept,
        db=database,
        client_name=name if name.startswith(OURS) else OURS,
        protocol=2,
        decode_responses=False,
        socket_timeout=timeout_s,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
    )


def _connection_class(client: redis.Redis) -> type:
    """Return redis-py's plain, TLS or Unix socket connection, whichever `client` uses a kind of."""
    kind = client.connection_pool.connection_class
    known = (TlsConnection, redis.SSLConnection, redis.UnixDomainSocketConnection)
    return next((each for each in known if issubclass(kind, each)), redis.Connection)
