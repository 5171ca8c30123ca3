"""Copy keys from one Redis or Valkey server to another: what changed since a snapshot, or what differs.

A key travels as DUMP -> RESTORE REPLACE with its expiry as a point in time. When the target is older
than the source (a way back: Valkey 8.1 to Redis 6.2), it refuses the payload, and the key is read and
written by type instead. The source only sees reads, so all of it works under CLIENT PAUSE WRITE.

DUMP and RESTORE of one huge key (a set of millions) block each server for as long as it takes;
nothing here avoids that.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import pandas as pd
import redis

from helpers.aws.errors import RunbookError
from helpers.elasticache.compare import Comparison, compare, text
from helpers.elasticache.values import (
    CHUNK_ITEMS,
    READ,
    WHOLE_BYTES,
    Group,
    Seen,
    Stream,
    changed_meanwhile,
    look,
    read_command,
    read_stream,
    read_whole,
)
from helpers.elasticache.wire import (
    KEY,
    TIME,
    Command,
    Pair,
    Wire,
    batches,
    bulk,
    bulks,
    by_database,
    milliseconds,
    shape,
    shaped,
)

if TYPE_CHECKING:
    from helpers.elasticache.changes import Capture

Key = tuple[int, bytes]

DUMP_BATCH = 500

# A TIME between every so many PTTLs keeps an expiry exact to the millisecond or two.
CLOCK_EVERY = 64
# RESTORE's two ways to say that it is older than DUMP: no payload, or not this one, can be read.
OLD_TARGET = "DUMP payload version or checksum are wrong"
UNKNOWN_ENCODING = "Bad data format"
# RESTORE of a key: its bulk, expiry (ms since 1970, 0 for none) and payload, the last two with their lengths.
RESTORE = b"*6\r\n$7\r\nRESTORE\r\n%b$%d\r\n%d\r\n$%d\r\n%b\r\n$7\r\nREPLACE\r\n$6\r\nABSTTL\r\n"
UNLINK = shape(("UNLINK", KEY))
READ_ATTEMPTS = 3
TYPED_BATCH = 100


class CopyError(RunbookError):
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
class Round:
    """One round of catching up: keys copied, written and deleted, seconds, keys changed again meanwhile."""

    keys: int
    written: int
    deleted: int
    seconds: float
    pending: int


@dataclass(frozen=True)
class CaughtUp:
    """Rounds of copying what changed.

    `pending` is the number of changed keys left, `reached` whether that is few enough, `seconds`
    the time it all took, `lag_seconds` how far the capture was behind the server at the end.
    """

    rounds: tuple[Round, ...]
    pending: int
    reached: bool
    seconds: float
    lag_seconds: float

    @property
    def keys(self) -> int:
        """Return how many keys were copied, those of several rounds counted again."""
        return sum(each.keys for each in self.rounds)

    def table(self) -> pd.DataFrame:
        """Return one row a round: round, keys, written, deleted, seconds, pending."""
        columns = [each.name for each in fields(Round)]
        table = pd.DataFrame([vars(each) for each in self.rounds], columns=columns)
        table.insert(0, "round", range(1, len(table) + 1))
        return table


@dataclass(frozen=True)
class Resynced:
    """A comparison, and the copy of the keys that it found to differ."""

    comparison: Comparison
    copied: Copied

    @property
    def keys(self) -> int:
        """Return how many keys differed and were copied."""
        return self.copied.keys

    @property
    def seconds(self) -> float:
        """Return the time that comparing and copying took."""
        return self.comparison.seconds + self.copied.seconds

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
    on_round: Callable[[Round], None] | None = None,
) -> CaughtUp:
    """Copy the captured changes in rounds until at most `until_pending` changed keys are left.

    Ends as well after `rounds` rounds or `timeout` seconds: then `reached` is False, and the
    application writes faster than the copy. Keys of a round that failed stay captured. Raises
    CaptureLost when a change may have been missed, CopyError when the target refuses a key.
    """
    began = time.perf_counter()
    done: list[Round] = []
    capture.verify()
    while len(done) < rounds and time.perf_counter() - began < timeout:
        copied = _copy_captured(capture, source, target)
        capture.settle_streams()
        capture.check()
        pending = capture.pending
        done.append(Round(copied.keys, copied.written, copied.deleted, copied.seconds, pending))
        if on_round:
            on_round(done[-1])
        if pending <= until_pending:
            break
    seconds = time.perf_counter() - began
    return CaughtUp(tuple(done), capture.pending, bool(done) and pending <= until_pending, seconds, capture.lag)


def copy_rest(
    capture: Capture,
    source: redis.Redis,
    target: redis.Redis,
    *,
    known: Mapping[Key, bytes] | None = None,
    timeout: float = 10.0,
) -> tuple[Copied, set[Key]]:
    """Copy what is left to copy while nobody writes to the source; return it and the keys copied.

    To be called when writes are frozen: waits until the capture has received every change, and takes
    the streams along, because XACK, XREADGROUP and XCLAIM change them without a notification: all of
    them, or those that are no longer as `known` says (what `copy_streams` returned).
    """
    capture.barrier(timeout)
    capture.check()
    keys = capture.take()
    try:
        streams = capture.streams
        now = stream_digests(source, streams) if known is not None else {}
        wanted = keys | {key for key in streams if known is None or known.get(key) != now[key]}
        return copy_keys(source, target, wanted), wanted
    except BaseException:
        capture.put_back(keys)
        raise


def copy_streams(source: redis.Redis, target: redis.Redis, streams: Iterable[Key]) -> dict[Key, bytes]:
    """Copy streams while they may change, and return a digest of each as it was just before.

    A stream that changes in between has another digest later, so that it is copied again.
    """
    digests = stream_digests(source, streams)
    copy_keys(source, target, digests)
    return digests


def stream_digests(source: redis.Redis, streams: Iterable[Key]) -> dict[Key, bytes]:
    """Return a digest of the DUMP of each stream: on one server it changes when the stream or a group does."""
    digests: dict[Key, bytes] = {}
    with Wire(source) as wire:
        for number, names in by_database(streams).items():
            wire.select(number)
            for piece in batches(names, DUMP_BATCH):
                for name, payload in zip(piece, wire.ask([("DUMP", name) for name in piece]), strict=True):
                    digests[number, name] = hashlib.blake2b(payload if isinstance(payload, bytes) else b"", digest_size=16).digest()
    return digests


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


class _Copier:
    """Copies batches over a pair of wires: while the target restores one, the source dumps the next."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.written = self.deleted = self.bytes = self.typed = 0
        self._older = False
        self._sent: Sequence[tuple[bytes, bytes | None, int]] = []

    def copy(self, number: int, keys: Sequence[bytes], batch: int) -> None:
        """Copy keys of one database."""
        self.pair.select(number)
        refused = list(keys) if self._older else self._by_payload(keys, batch)
        for piece in batches(refused, TYPED_BATCH):
            self._by_type(piece)

    def _by_payload(self, keys: Sequence[bytes], batch: int) -> list[bytes]:
        """Copy keys by DUMP and RESTORE; return those that the target cannot read."""
        pieces = list(batches(keys, batch))
        refused: list[bytes] = []
        self._dump(pieces[0])
        for place, piece in enumerate(pieces):
            dumped = self._dumped(piece)
            following = pieces[place + 1] if place + 1 < len(pieces) else []
            self._dump(following)
            refused += self._restored()
            if self._older:
                self._dumped(following)
                return refused + [key for rest in pieces[place:] for key in rest]
            self._restore(dumped)
        return refused + self._restored()

    def _dump(self, keys: Sequence[bytes]) -> None:
        """Ask for the payloads, then for the expiries with the server's clock between them."""
        names = bulks(keys)
        times = [TIME + shaped(piece, ("PTTL", KEY)) for piece in batches(names, CLOCK_EVERY)]
        self.pair.source.send_packed(shaped(names, ("DUMP", KEY)) + b"".join(times))

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
        self._sent = dumped
        self.pair.target.send_packed(
            b"".join(
                [
                    UNLINK % bulk(key)
                    if payload is None
                    else RESTORE % (bulk(key), len(str(expiry)), expiry, len(payload), payload)
                    for key, payload, expiry in dumped
                ]
            )
        )

    def _restored(self) -> list[bytes]:
        """Take the target's replies to the last batch; return the keys whose payload it cannot read."""
        refused: list[bytes] = []
        for (key, payload, _), reply in zip(self._sent, self.pair.target.receive(len(self._sent)), strict=True):
            if reply == b"OK":
                self.written += 1
                self.bytes += len(payload or b"")
            elif payload is None and not isinstance(reply, Exception):
                self.deleted += reply
            elif OLD_TARGET in str(reply):
                self._older = True
                refused.append(key)
            elif UNKNOWN_ENCODING in str(reply):
                refused.append(key)
            else:
                raise _refusal(key, reply)
        self._sent = []
        return refused

    def _by_type(self, keys: Sequence[bytes]) -> None:
        """Copy keys by reading their values and writing them with commands that any version knows."""
        for _ in range(READ_ATTEMPTS):
            keys = self._written_by_type(keys)
            if not keys:
                return
        raise CopyError(f"Key {text(keys[0])!r} changes its type faster than it can be read.", "Copy it again.")

    def _written_by_type(self, keys: Sequence[bytes]) -> list[bytes]:
        """Write what the source has of `keys`; return those that changed their type while being read."""
        source = self.pair.source
        looked = dict(zip(keys, look(source, keys), strict=True))
        small = [key for key, each in looked.items() if each.kind in READ and each.size <= WHOLE_BYTES]
        values = dict(zip(small, source.ask([read_command(looked[key].kind, key) for key in small]), strict=True))
        again: list[bytes] = []
        jobs: list[tuple[bytes, list[Command]]] = []
        for key, each in looked.items():
            try:
                jobs.append((key, _commands(source, key, each, values.get(key))))
            except redis.ResponseError as error:
                if not changed_meanwhile(error):
                    raise _refusal(key, error) from error
                again.append(key)
        self._run(jobs)
        return again

    def _run(self, jobs: Sequence[tuple[bytes, list[Command]]]) -> None:
        """Send each key's commands to the target and check what it says of them."""
        replies = iter(self.pair.target.ask([command for _, commands in jobs for command in commands]))
        for key, commands in jobs:
            last = [next(replies) for _ in commands][-1]
            if not isinstance(last, list):
                if isinstance(last, Exception):
                    raise _refusal(key, last)
                self.deleted += last
                continue
            for reply in last:
                if isinstance(reply, Exception):
                    raise _refusal(key, reply)
            self.written += 1
            self.typed += 1


def _commands(source: Wire, key: bytes, looked: Seen, value: Any) -> list[Command]:
    """Return the commands that make `key` as the source has it, as one transaction.

    `value` is what a READ command said of a small key; it is None for others, which are read here.
    """
    if isinstance(value, Exception):
        raise value
    if looked.kind is None:
        return [("UNLINK", key)]
    expiry: list[Command] = [("PEXPIREAT", key, looked.expires_ms)] if looked.expires_ms else []
    if looked.kind == b"stream":
        writing = _stream_commands(key, read_stream(source, key), milliseconds(source.call("TIME")))
    elif looked.kind in READ:
        if looked.size > WHOLE_BYTES:
            value = read_whole(source, looked.kind, key)
        if not value and looked.kind != b"string" or value is None:
            return [("UNLINK", key)]
        writing = _value_commands(key, looked.kind, value)
    else:
        kind = looked.kind.decode()
        raise CopyError(f"Key {text(key)!r} is of the module type {kind}, which an older engine cannot be given.")
    return [("MULTI",), ("UNLINK", key), *writing, *expiry, ("EXEC",)]


def _value_commands(key: bytes, kind: bytes, value: Any) -> list[Command]:
    """Return the commands that write what a READ command of a type returned."""
    if kind == b"string":
        return [("SET", key, value)]
    if kind == b"zset":
        # ZADD wants the score first.
        value = [part for place in range(0, len(value), 2) for part in (value[place + 1], value[place])]
    name = {b"list": "RPUSH", b"hash": "HSET", b"set": "SADD", b"zset": "ZADD"}[kind]
    return [(name, key, *chunk) for chunk in batches(value, 2 * CHUNK_ITEMS)]


def _stream_commands(key: bytes, stream: Stream, now_ms: int) -> list[Command]:
    """Return the commands that write a stream: entries with their ids, last id, groups, pending entries.

    A pending entry may be deleted from the stream. Versions from 7.0 on only let an existing entry be
    claimed, so such entries are added for the claim and deleted after it.
    """
    fields = dict(stream.entries)
    deleted = {entry for group in stream.groups.values() for entry, *_ in group.pending} - fields.keys()
    entries = sorted([*fields, *deleted], key=_id)
    # Creating and destroying a group is the one way to make an empty stream.
    commands: list[Command] = [
        ("XGROUP", "CREATE", key, "runbook", "0", "MKSTREAM"),
        ("XGROUP", "DESTROY", key, "runbook"),
        *(("XADD", key, entry, *fields.get(entry, (b"deleted", b""))) for entry in entries),
    ]
    for name, group in stream.groups.items():
        commands += _group_commands(key, name, group, now_ms)
    if deleted:
        commands.append(("XDEL", key, *deleted))
    if stream.last_id != b"0-0":
        commands.append(("XSETID", key, stream.last_id))
    return commands


def _group_commands(key: bytes, name: bytes, group: Group, now_ms: int) -> list[Command]:
    commands: list[Command] = [("XGROUP", "CREATE", key, name, group.last_delivered)]
    commands += [("XGROUP", "CREATECONSUMER", key, name, consumer) for consumer in group.consumers]
    for entry, consumer, idle, times in group.pending:
        delivered = ("TIME", now_ms - idle, "RETRYCOUNT", times)
        commands.append(("XCLAIM", key, name, consumer, 0, entry, *delivered, "FORCE", "JUSTID"))
    return commands


def _id(entry: bytes) -> tuple[int, int]:
    """Return a stream entry's id as numbers, in which order entries are added."""
    milliseconds_part, _, sequence = entry.partition(b"-")
    return int(milliseconds_part), int(sequence)


def _refusal(key: bytes, reply: Any) -> CopyError:
    remedies = {
        "OOM": "Give the target a larger node type, or an eviction policy that fits.",
        "READONLY": "The target is a replica: copy to its primary endpoint.",
        "NOPERM": "Let the user run RESTORE, UNLINK and the write commands on the target.",
    }
    remedy = next((each for sign, each in remedies.items() if sign in str(reply)), "")
    return CopyError(f"The target refused key {text(key)!r}: {reply}.", remedy)


def _checked(replies: list[Any]) -> list[Any]:
    """Return the replies. Raises CopyError when one is an error."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise CopyError(f"The server refused to copy: {reply}.") from reply
    return replies
