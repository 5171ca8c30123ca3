"""Copy keys from one Redis or Valkey server to another: what changed since a snapshot, or what differs.

A key travels as DUMP -> RESTORE REPLACE with its expiry as a point in time. When the target is older
than the source (a way back: Valkey 8.1 to Redis 6.2), it refuses the payload, and the key is read and
written by type instead. The source only sees reads, so all of it works under CLIENT PAUSE WRITE.

DUMP and RESTORE of one huge key (a set of millions) block each server for as long as it takes;
nothing here avoids that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import redis

from helpers.elasticache.compare import Comparison, compare, text
from helpers.elasticache.values import (
    CHUNK_ITEMS,
    READ,
    Group,
    Stream,
    changed_meanwhile,
    look_commands,
    read_stream,
    read_whole,
    seen,
)
from helpers.elasticache.wire import Command, Pair, batches, by_database, milliseconds

if TYPE_CHECKING:
    from helpers.elasticache.changes import Capture

Key = tuple[int, bytes]

# A TIME between every so many PTTLs keeps an expiry exact to the millisecond or two.
CLOCK_EVERY = 64
OLD_PAYLOAD = ("DUMP payload version or checksum are wrong", "Bad data format")
READ_ATTEMPTS = 3


class CopyError(RuntimeError):
    """A key that could not be copied; the message says which, why and what to do."""


@dataclass(frozen=True)
class Copied:
    """What a copy did: keys given, written to the target and deleted from it, payload bytes, seconds.

    `typed` counts the keys written by type because the target is older than the source.
    """

    keys: int
    written: int
    deleted: int
    bytes: int
    seconds: float
    typed: int = 0

    @property
    def keys_per_second(self) -> float:
        """Return the speed of the copy."""
        return self.keys / self.seconds if self.seconds else 0.0

    def table(self) -> pd.DataFrame:
        """Return the copy as a table of one row."""
        return pd.DataFrame([vars(self)])


@dataclass(frozen=True)
class CaughtUp:
    """Rounds of copying what changed: `rounds` has round, keys, written, deleted, seconds, pending.

    `pending` is the number of changed keys left, `reached` whether that is few enough, `seconds`
    the time it all took, `lag_seconds` how far the capture was behind the server at the end.
    """

    rounds: pd.DataFrame
    pending: int
    reached: bool
    seconds: float
    lag_seconds: float

    @property
    def keys(self) -> int:
        """Return how many keys were copied, those of several rounds counted again."""
        return int(self.rounds["keys"].sum())

    def table(self) -> pd.DataFrame:
        """Return one row a round."""
        return self.rounds


@dataclass(frozen=True)
class Resynced:
    """A comparison, and the copy of the keys that it found to differ."""

    comparison: Comparison
    copied: Copied

    def table(self) -> pd.DataFrame:
        """Return the copy as a table of one row."""
        return self.copied.table()


def copy_keys(
    source: redis.Redis, target: redis.Redis, keys: Iterable[Key], *, batch: int = 500
) -> Copied:
    """Make `keys`, pairs of database and name, the same on `target` as they are on `source`.

    A key that the source has not is deleted from the target. Each key changes at once, none is ever
    half there. Raises CopyError when the target refuses a key, for example for want of memory.
    """
    began = time.perf_counter()
    wanted = set(keys)
    if not wanted:
        return Copied(0, 0, 0, 0, 0.0)
    with Pair(source, target) as pair:
        copier = _Copier(pair)
        for number, names in by_database(wanted).items():
            copier.copy(number, names, batch)
    seconds = time.perf_counter() - began
    return Copied(len(wanted), copier.written, copier.deleted, copier.bytes, seconds, copier.typed)


def catch_up(
    capture: Capture,
    source: redis.Redis,
    target: redis.Redis,
    *,
    until_pending: int = 200,
    rounds: int = 20,
    timeout: float = 600.0,
    on_round: Callable[[dict[str, Any]], None] | None = None,
) -> CaughtUp:
    """Copy the captured changes in rounds until at most `until_pending` changed keys are left.

    Ends as well after `rounds` rounds or `timeout` seconds: then `reached` is False, and the
    application writes faster than the copy. Keys of a round that failed stay captured. Raises
    CaptureLost when a change may have been missed, CopyError when the target refuses a key.
    """
    began = time.perf_counter()
    done: list[dict[str, Any]] = []
    capture.verify()
    while len(done) < rounds and time.perf_counter() - began < timeout:
        copied = _copy_captured(capture, source, target)
        capture.settle_streams()
        capture.check()
        done.append(_round(len(done) + 1, copied, capture.pending))
        if on_round:
            on_round(done[-1])
        if capture.pending <= until_pending:
            break
    columns = ["round", "keys", "written", "deleted", "seconds", "pending"]
    pending = capture.pending
    seconds = time.perf_counter() - began
    frame = pd.DataFrame(done, columns=columns)
    return CaughtUp(frame, pending, pending <= until_pending, seconds, capture.lag)


def copy_rest(
    capture: Capture, source: redis.Redis, target: redis.Redis, *, timeout: float = 10.0
) -> tuple[Copied, set[Key]]:
    """Copy what is left to copy while nobody writes to the source; return it and the keys copied.

    To be called when writes are frozen: waits until the capture has received every change, and takes
    all streams along, because XACK, XREADGROUP and XCLAIM change them without a notification.
    """
    capture.barrier(timeout)
    capture.check()
    keys = capture.take()
    try:
        wanted = keys | capture.streams
        return copy_keys(source, target, wanted), wanted
    except BaseException:
        capture.put_back(keys)
        raise


def resync(
    source: redis.Redis, target: redis.Redis, *, batch: int = 500, **options: Any
) -> Resynced:
    """Compare the servers and copy every key that differs; `options` are those of `compare`.

    This is how a run whose capture died recovers exactly: start a new capture first, so that what
    changes meanwhile is not missed again, then resync, then catch up.
    """
    comparison = compare(source, target, **options)
    return Resynced(comparison, copy_keys(source, target, comparison.differing, batch=batch))


def _copy_captured(capture: Capture, source: redis.Redis, target: redis.Redis) -> Copied:
    keys = capture.take()
    try:
        return copy_keys(source, target, keys)
    except BaseException:
        capture.put_back(keys)
        raise


def _round(number: int, copied: Copied, pending: int) -> dict[str, Any]:
    return {
        "round": number,
        "keys": copied.keys,
        "written": copied.written,
        "deleted": copied.deleted,
        "seconds": round(copied.seconds, 3),
        "pending": pending,
    }


class _Copier:
    """Copies batches over a pair of wires: while the target restores one, the source dumps the next."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.written = self.deleted = self.bytes = self.typed = 0
        self._sent: list[tuple[bytes, bytes | None]] = []
        self._absent = 0

    def copy(self, number: int, keys: Sequence[bytes], batch: int) -> None:
        """Copy keys of one database."""
        self.pair.select(number)
        pieces = list(batches(keys, batch))
        self._dump(pieces[0])
        for place, piece in enumerate(pieces):
            dumped = self._dumped(piece)
            if place + 1 < len(pieces):
                self._dump(pieces[place + 1])
            refused = self._restored()
            self._restore(dumped)
            if refused:
                # The source's next replies are on their way: take them before it reads by type.
                self._by_type(number, refused)
        self._by_type(number, self._restored())

    def _dump(self, keys: Sequence[bytes]) -> None:
        """Ask for the payloads, then for the expiries with the server's clock between them."""
        self.pair.source.send([("DUMP", key) for key in keys])
        for piece in batches(keys, CLOCK_EVERY):
            self.pair.source.send([("TIME",), *(("PTTL", key) for key in piece)])

    def _dumped(self, keys: Sequence[bytes]) -> list[tuple[bytes, bytes | None, int]]:
        """Return key, payload and expiry (ms since 1970, 0 for none); payload None when absent."""
        payloads = _checked(self.pair.source.receive(len(keys)))
        expiries: list[int | None] = []
        for piece in batches(keys, CLOCK_EVERY):
            clock, *left = _checked(self.pair.source.receive(len(piece) + 1))
            now = milliseconds(clock)
            expiries += [None if ms == -2 else 0 if ms < 0 else now + ms for ms in left]
        # A key with a payload and no longer there expired between the two: it is gone.
        return [
            (key, None if expiry is None else payload, expiry or 0)
            for key, payload, expiry in zip(keys, payloads, expiries, strict=True)
        ]

    def _restore(self, dumped: Sequence[tuple[bytes, bytes | None, int]]) -> None:
        """Send the target its commands for a batch."""
        there = [(key, payload, expiry) for key, payload, expiry in dumped if payload is not None]
        absent = [key for key, payload, _ in dumped if payload is None]
        commands: list[Command] = [
            ("RESTORE", key, expiry, payload, "REPLACE", "ABSTTL") for key, payload, expiry in there
        ]
        if absent:
            commands.append(("UNLINK", *absent))
        self.pair.target.send(commands)
        self._sent = [(key, payload) for key, payload, _ in there]
        self._absent = len(absent)

    def _restored(self) -> list[bytes]:
        """Take the target's replies to the last batch; return the keys whose payload it cannot read."""
        refused: list[bytes] = []
        for (key, payload), reply in zip(
            self._sent, self.pair.target.receive(len(self._sent)), strict=True
        ):
            if reply == b"OK":
                self.written += 1
                self.bytes += len(payload or b"")
            elif any(sign in str(reply) for sign in OLD_PAYLOAD):
                refused.append(key)
            else:
                raise _refusal(key, reply)
        if self._absent:
            self.deleted += _checked(self.pair.target.receive(1))[0]
        self._sent, self._absent = [], 0
        return refused

    def _by_type(self, number: int, keys: Sequence[bytes]) -> None:
        raise NotImplementedError


def _checked(replies: list[Any]) -> list[Any]:
    """Return the replies. Raises CopyError when one is an error."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise CopyError(f"The server refused to copy: {reply}.") from reply
    return replies
