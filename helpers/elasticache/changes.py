"""Collect the keys that change on a Redis or Valkey server, from its keyspace notifications, without missing one.

Notifications are fire and forget: whoever is not connected misses them for ever. So a capture proves
at its start that they arrive, can wait until all of them have arrived, and says when it may have
missed some. Source: https://valkey.io/topics/notifications/ ; ElastiCache has the setting as the
parameter notify-keyspace-events, which is dynamic:
https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/ParameterGroups.Engine.html
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

import hiredis
import redis

from helpers.aws.errors import RunbookError
from helpers.elasticache.wire import NOTHING_YET, OURS, Wire, batches, by_database, databases, scan

Key = tuple[int, bytes]

PATTERN = "__keyevent@*__:*"
PROBE = f"{OURS}:probe:"
HEARTBEAT_S = 1.0
# The server is taken for lost when it answers no PING for so long.
SILENCE_S = 30.0
PROBE_SECONDS = 60
# Events after which a key may be a stream, besides those of streams (x...).
MAY_BE_STREAM = {b"rename_to", b"copy_to", b"move_to", b"restore"}
# Reads, which publish events only when a server is set to: no change.
NO_CHANGE = {b"keymiss"}
# Commands that change all keys of a database and publish nothing.
SILENT = ("flushall", "flushdb", "swapdb")
TYPE_BATCH = 500
# A shard is found by trying names: a group has at most 500 shards.
# https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/WhatIs.Components.html
SLOT_ATTEMPTS = 10_000

REMEDY_OFF = (
    'Set notify-keyspace-events to "AE" in a custom parameter group of the replication group (a dynamic'
    " parameter: no reboot; a default.* parameter group cannot hold it), then start again."
)
REMEDY_LOST = "Start a new capture, then resync (a full comparison), then catch up again."

# One probe of each class of events: the letter of notify-keyspace-events, its name, a command, the event.
PROBES = (
    ("$", "strings", ("SET", "1"), b"set"),
    ("l", "lists", ("RPUSH", "1"), b"rpush"),
    ("s", "sets", ("SADD", "1"), b"sadd"),
    ("h", "hashes", ("HSET", "1", "1"), b"hset"),
    ("z", "sorted sets", ("ZADD", "1", "1"), b"zadd"),
    ("t", "streams", ("XADD", "1-1", "1", "1"), b"xadd"),
    ("g", "generic commands", ("EXPIRE", str(PROBE_SECONDS)), b"expire"),
    # Not PEXPIRE: on a busy machine that millisecond is over before the command is, which deletes the key.
    ("x", "expired keys", ("SET", "1", "PX", "1"), b"expired"),
)


class CaptureError(RunbookError):
    """Changes cannot be captured here: no notifications arrive, or not of every kind."""


class CaptureLost(RunbookError):
    """A change may have been missed since the capture began; only a full comparison finds it."""


class Capture:
    """The keys that change on `source` from `start()` on, as pairs of database and name.

    Its own connection and thread read the notifications: several 100,000 a second. What it holds is
    one copy of each changed key's name. `streams` are the keys that may be streams, which change
    without a notification when consumers read and acknowledge.
    """

    def __init__(self, source: redis.Redis) -> None:
        self._source = source
        self._wire: Wire | None = None
        self._thread: threading.Thread | None = None
        self._state = threading.Lock()
        self._using = threading.Lock()  # who sends, and of TLS who receives: one thread at a time
        self._stopping = threading.Event()
        self._dirty: dict[int, set[bytes]] = {}
        self._channels: dict[bytes, tuple[Any, Any, Any]] = {}
        self._streams: set[Key] = set()
        self._maybe_streams: dict[int, set[bytes]] = {}
        self._lost: str | None = None
        self._watched: dict[bytes, set[bytes]] = {}
        self._answered: dict[bytes, threading.Event] = {}
        self._tokens = itertools.count(1)
        self._pings: deque[tuple[bytes, float]] = deque()
        self._round_trip = 0.0
        self._heard = self._began = time.monotonic()
        self._samples: deque[tuple[float, int]] = deque(maxlen=6)
        self._facts: dict[str, Any] = {}
        self.events = 0

    def start(self, timeout: float = 10.0) -> Capture:
        """Begin to collect; return when notifications of every kind are known to arrive.

        Writes a few keys named runbook:probe:... that delete themselves. Raises CaptureError, with
        what to change, when notifications are off, incomplete or not to be had from this server.
        """
        if self._wire is not None:
            raise CaptureError("This capture was started before.", "Make a new Capture for each start.")
        self._facts = self._server()
        if self._facts["role"] != "master":
            raise CaptureError(
                "The server is a replica, which expires no keys and can be promoted at any time.",
                "Capture from the primary endpoint.",
            )
        self._subscribe()
        try:
            self.verify(timeout)
            self._find_streams()
        except BaseException:
            self.stop()
            raise
        return self

    def verify(self, timeout: float = 10.0) -> None:
        """Prove again that notifications of every kind arrive, as after a change of parameters.

        Writes probe keys: not while writes are paused. Raises CaptureError or CaptureLost.
        """
        token = self._probe_prefix()
        waiting = {token + letter.encode(): event for letter, _, _, event in PROBES}
        with self._state:
            self._watched = {key: set() for key in waiting}
            self._channels.clear()
        try:
            self._write_probes(token)
            missing = self._missing(waiting, token, time.monotonic() + timeout)
        finally:
            self._remove_probes(timeout)
        if missing:
            raise self._incomplete(missing)

    @property
    def pending(self) -> int:
        """Return how many changed keys are waiting to be taken."""
        with self._state:
            return sum(map(len, self._dirty.values()))

    def take(self) -> set[Key]:
        """Return the changed keys and begin a new set. Raises CaptureLost."""
        self._raise_if_lost()
        with self._state:
            dirty, self._dirty = self._dirty, {}
            self._channels.clear()
        return {(database, key) for database, keys in dirty.items() for key in keys if not _probe(key)}

    def peek(self) -> set[Key]:
        """Return the changed keys and leave them. Raises CaptureLost."""
        self._raise_if_lost()
        with self._state:
            return {(number, key) for number, keys in self._dirty.items() for key in keys if not _probe(key)}

    def put_back(self, keys: Iterable[Key]) -> None:
        """Hold keys as changed again, as after a copy of them that failed."""
        with self._state:
            for number, names in by_database(keys).items():
                self._dirty.setdefault(number, set()).update(names)

    @property
    def streams(self) -> set[Key]:
        """Return all keys that may be streams. The last copy must include them.

        XACK, XREADGROUP, XCLAIM and XAUTOCLAIM change a stream's groups without a notification.
        """
        with self._state:
            maybe = {(number, key) for number, keys in self._maybe_streams.items() for key in keys}
            return self._streams | {each for each in maybe if not _probe(each[1])}

    def settle_streams(self) -> None:
        """Ask the server which of the keys that may be streams are, so that `streams` stays small."""
        with self._state:
            maybe, self._maybe_streams = self._maybe_streams, {}
            self._channels.clear()
        found: set[Key] = set()
        try:
            with Wire(self._source) as wire:
                for number, keys in maybe.items():
                    wire.select(number)
                    found |= {(number, key) for key in _streams_among(wire, list(keys)) if not _probe(key)}
        except BaseException:
            with self._state:
                for number, keys in maybe.items():
                    self._maybe_streams.setdefault(number, set()).update(keys)
            raise
        with self._state:
            self._streams |= found

    def barrier(self, timeout: float = 10.0) -> None:
        """Return when everything that the server executed before now has been received.

        A PING on the subscribed connection is answered after all notifications before it. It is no
        write, so it passes while writes are paused. Raises CaptureLost, also after `timeout` seconds.
        """
        answered = threading.Event()
        token = f"barrier-{next(self._tokens)}".encode()
        self._answered[token] = answered
        try:
            self._raise_if_lost()
            self._ping(token)
            if not answered.wait(timeout):
                self._raise_if_lost()
                raise CaptureLost(
                    f"The server did not answer the capture within {timeout:g} s.", "Try again, or: " + REMEDY_LOST
                )
        finally:
            self._answered.pop(token, None)
        self._raise_if_lost()

    def check(self) -> None:
        """Raise CaptureLost when a change may have been missed since the start.

        That is when the connection died (as a slow reader's does, by the output buffer limit), the
        server was restarted or failed over, or FLUSHALL, FLUSHDB or SWAPDB was executed, which
        publish no key.
        """
        self._raise_if_lost()
        now = self._server()
        if now["run_id"] != self._facts["run_id"]:
            self._lose("the server was restarted or another node took its place")
        elif now["role"] != self._facts["role"] or now["history"] != self._facts["history"]:
            self._lose("a failover changed the role of the server")
        else:
            for command in SILENT:
                if now[command] != self._facts[command]:
                    self._lose(f"{command.upper()} was executed (or the server's statistics were reset)")
        self._raise_if_lost()

    @property
    def lag(self) -> float:
        """Return by how many seconds the capture is behind the server, as its last PING tells."""
        pings = list(self._pings)
        return max(self._round_trip, time.monotonic() - pings[0][1] if pings else 0.0)

    @property
    def age(self) -> float:
        """Return the seconds since the server was last heard."""
        return time.monotonic() - self._heard

    @property
    def events_per_second(self) -> float:
        """Return the notifications a second of the last few seconds."""
        samples = list(self._samples) or [(self._began, 0)]
        seconds = time.monotonic() - samples[0][0]
        return (self.events - samples[0][1]) / seconds if seconds > 0 else 0.0

    def health(self) -> dict[str, Any]:
        """Return alive, events, events_per_second, pending, streams, lag_seconds, age_seconds."""
        return {
            "alive": self._lost is None and self._thread is not None and self._thread.is_alive(),
            "events": self.events,
            "events_per_second": self.events_per_second,
            "pending": self.pending,
            "streams": len(self.streams),
            "lag_seconds": self.lag,
            "age_seconds": self.age,
        }

    def stop(self) -> None:
        """End the capture and its connection. Harmless when it has ended."""
        self._stopping.set()
        if self._wire is None:
            return
        with contextlib.suppress(OSError):
            # Wakes the thread, which waits for the server.
            self._wire.socket.shutdown(socket.SHUT_RDWR)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)
        self._wire.close()

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- the server's own facts ------------------------------------------------------------------

    def _server(self) -> dict[str, Any]:
        """Return what must stay the same: run id, role, replication history, counts of silent commands."""
        server, replication = self._source.info("server"), self._source.info("replication")
        commands = self._source.info("commandstats")
        calls = {name: commands.get(f"cmdstat_{name}", {}).get("calls", 0) for name in SILENT}
        history = replication.get("master_replid")
        return {"run_id": server["run_id"], "role": replication["role"], "history": history, **calls}

    def _find_streams(self) -> None:
        """Note the streams that there are; those that come later are seen as events."""
        with Wire(self._source) as wire:
            for number in databases(self._source):
                wire.select(number)
                found = {(number, key) for keys in scan(wire, kind="stream") for key in keys}
                with self._state:
                    self._streams |= {each for each in found if not _probe(each[1])}

    # -- probes ----------------------------------------------------------------------------------

    def _probe_prefix(self) -> bytes:
        """Return what the names of the probe keys begin with: all in one slot of a cluster, one that the server has."""
        for _ in range(SLOT_ATTEMPTS):
            prefix = f"{PROBE}{{{secrets.token_hex(6)}}}:"
            try:
                self._source.exists(prefix)
            except redis.exceptions.MovedError:
                continue
            except redis.ResponseError as error:
                raise _unwritable(error) from error
            return prefix.encode()
        raise CaptureError("The server is a node of a cluster that has no slots.", "Capture from the primary of a shard.")

    def _write_probes(self, token: bytes) -> None:
        """Write the probe keys at once, each with an expiry of its own."""
        pipe = self._source.pipeline(transaction=True)
        for letter, _, (name, *rest), _ in PROBES:
            key = token + letter.encode()
            if letter == "g":
                pipe.execute_command("SET", key, "1")
            pipe.execute_command(name, key, *rest)
            if letter != "x":
                pipe.execute_command("EXPIRE", key, PROBE_SECONDS)
        try:
            pipe.execute()
        except redis.RedisError as error:
            raise _unwritable(error) from error

    def _remove_probes(self, timeout: float) -> None:
        """Delete the probe keys, from the server and from what changed."""
        with self._state:
            probes, self._watched = self._watched, {}
            self._channels.clear()
        with contextlib.suppress(redis.RedisError, CaptureLost):
            self._source.unlink(*probes)
            self.barrier(timeout)
        with self._state:
            for keys in (*self._dirty.values(), *self._maybe_streams.values()):
                keys.difference_update(probes)

    def _missing(self, waiting: dict[bytes, bytes], token: bytes, deadline: float) -> list[str]:
        """Wait until each probe's event has arrived; return the names of those that did not."""
        expiring = token + b"x"
        while True:
            self._raise_if_lost()
            with self._state:
                late = {key for key, event in waiting.items() if event not in self._watched[key]}
            if not late:
                return []
            if late != {expiring}:
                # All but the expiry have been executed: after a barrier they have come, or never will.
                self.barrier(max(0.1, deadline - time.monotonic()))
                with self._state:
                    late = {key for key, event in waiting.items() if event not in self._watched[key]}
            if late - {expiring} or (late and time.monotonic() > deadline):
                return [f"{letter} ({name})" for letter, name, _, _ in PROBES if token + letter.encode() in late]
            # Reading an expired key makes the server notice, which else takes up to 0.1 s and more.
            self._source.exists(expiring)
            time.sleep(0.005)

    def _incomplete(self, missing: list[str]) -> CaptureError:
        if len(missing) == len(PROBES):
            return CaptureError("The server publishes no keyspace notifications.", REMEDY_OFF)
        return CaptureError(f"The server publishes no notifications of {', '.join(missing)}.", REMEDY_OFF)

    # -- the reading thread ----------------------------------------------------------------------

    def _subscribe(self) -> None:
        """Subscribe and begin to read, on a connection that is for nothing else."""
        self._wire = Wire(self._source, timeout_s=HEARTBEAT_S)
        try:
            self._wire.call("PSUBSCRIBE", PATTERN)
        except redis.RedisError as error:
            self._wire.close()
            raise CaptureError(
                f"The server refused the subscription to keyspace notifications: {error}.",
                "Allow the user PSUBSCRIBE and all channels (&*).",
            ) from error
        self._heard = self._began = time.monotonic()
        self._samples.append((self._began, 0))
        self._thread = threading.Thread(target=self._read, name="capture", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        """Read notifications until stopped or lost."""
        assert self._wire is not None
        connection, reader, buffer = self._wire.socket, hiredis.Reader(notEnoughData=NOTHING_YET), bytearray(1 << 20)
        pinged = time.monotonic()
        try:
            while not self._stopping.is_set():
                size = self._receive(connection, buffer)
                if size == 0:
                    raise ConnectionError("the server closed it")
                if size > 0:
                    reader.feed(buffer, 0, size)
                    self._take_in(reader)
                    self._heard = time.monotonic()
                pinged = self._beat(pinged)
        except Exception as error:
            if not self._stopping.is_set():
                self._lose(f"the connection of the capture was lost ({error})")

    def _receive(self, connection: socket.socket, buffer: bytearray) -> int:
        """Receive what there is, 0 at the end of the connection; -1 where nothing came for a heartbeat.

        OpenSSL's connections are not for two threads at once, and others send pings: so of TLS the wait is outside.
        """
        if not isinstance(connection, ssl.SSLSocket):
            try:
                return connection.recv_into(buffer)
            except TimeoutError:
                return -1
        with self._using:
            waiting = connection.pending()
        if not waiting:
            readable = select.poll()
            readable.register(connection, select.POLLIN)
            readable.poll(HEARTBEAT_S * 1000)
        with self._using:
            connection.settimeout(0)
            try:
                return connection.recv_into(buffer)
            except ssl.SSLWantReadError:
                return -1
            finally:
                connection.settimeout(HEARTBEAT_S)

    def _beat(self, pinged: float) -> float:
        """Ping the server once a second and note how things stand; return the time of the last ping."""
        now = time.monotonic()
        if now - pinged < HEARTBEAT_S:
            return pinged
        if now - self._heard > SILENCE_S:
            raise ConnectionError(f"the server was silent for {SILENCE_S:g} s")
        self._samples.append((now, self.events))
        token = f"beat-{next(self._tokens)}".encode()
        self._pings.append((token, now))
        self._ping(token)
        return now

    def _take_in(self, reader: hiredis.Reader) -> None:
        """Note the key of each notification that has arrived."""
        channels, events = self._channels, 0
        with self._state:
            for message in iter(reader.gets, NOTHING_YET):
                if len(message) == 4:
                    add, add_stream, watch = channels.get(message[2]) or self._channel(message[2])
                    key = message[3]
                    events += 1
                    if add is not None:
                        add(key)
                    if add_stream is not None:
                        add_stream(key)
                    if watch is not None:
                        watch(key)
                elif message[0] == b"pong":
                    self._answer(message[1])
            self.events += events

    def _channel(self, channel: bytes) -> tuple[Any, Any, Any]:
        """Return what to do with the keys of a channel, __keyevent@<database>__:<event>."""
        place, _, event = channel.partition(b"__:")
        number = int(place.removeprefix(b"__keyevent@"))
        streams = event.startswith(b"x") or event in MAY_BE_STREAM
        actions = (
            None if event in NO_CHANGE else self._dirty.setdefault(number, set()).add,
            self._maybe_streams.setdefault(number, set()).add if streams else None,
            (lambda key: key in self._watched and self._watched[key].add(event)) if self._watched else None,
        )
        self._channels[channel] = actions
        return actions

    def _answer(self, token: bytes) -> None:
        """Take the answer to a ping: a barrier's, or the measure of how far we are behind."""
        if token in self._answered:
            self._answered[token].set()
        elif self._pings and self._pings[0][0] == token:
            self._round_trip = time.monotonic() - self._pings.popleft()[1]

    def _ping(self, token: bytes) -> None:
        if self._wire is None:
            raise CaptureLost("The capture was not started.", "Call start() first.")
        try:
            with self._using:
                self._wire.send([("PING", token)])
        except redis.RedisError as error:
            self._lose(f"the connection of the capture was lost ({error})")
            self._raise_if_lost()

    def _lose(self, reason: str) -> None:
        if self._lost is None:
            self._lost = reason
        for answered in list(self._answered.values()):
            answered.set()

    def _raise_if_lost(self) -> None:
        if self._lost is not None:
            raise CaptureLost(f"Changes may have been missed: {self._lost}.", REMEDY_LOST)
        if self._stopping.is_set():
            raise CaptureLost("The capture was stopped.", REMEDY_LOST)


def _unwritable(error: redis.RedisError) -> CaptureError:
    return CaptureError(
        f"A probe key could not be written to the server: {error}.",
        f"Let the user write keys named {PROBE}* and capture from the primary endpoint.",
    )


def _probe(key: bytes) -> bool:
    return key.startswith(PROBE.encode())


def _streams_among(wire: Wire, keys: list[bytes]) -> list[bytes]:
    """Return which of `keys` are streams."""
    found: list[bytes] = []
    for piece in batches(keys, TYPE_BATCH):
        kinds = wire.ask([("TYPE", key) for key in piece])
        found += [key for key, kind in zip(piece, kinds, strict=True) if kind == b"stream"]
    return found
