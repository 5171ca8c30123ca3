"""Read whole values of every Redis type with plain read commands, to compare them or to write them elsewhere.

No scripts and no writes: this works on a replica, while CLIENT PAUSE WRITE is on, and for users who
may not run EVAL.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import redis

from helpers.elasticache.wire import KEY, TIME, Command, Pair, Wire, bulks, checked, milliseconds, shaped

# Values that take more memory than this are read in chunks, so that no command blocks the server long.
WHOLE_BYTES = 64 * 1024
CHUNK_BYTES = 256 * 1024
CHUNK_ITEMS = 500
# A HyperLogLog keeps its last estimate in bytes 8 to 15 and forgets it on change: it is not data. Before
# those are its name, its encoding (0 dense, 1 sparse) and three zeros. Source: hyperloglog.c
HYPERLOGLOG = b"HYLL"
DENSE_BYTES = 12_304

# The command that reads a whole value of a type.
READ: dict[bytes, Command] = {
    b"string": ("GET", KEY),
    b"list": ("LRANGE", KEY, "0", "-1"),
    b"hash": ("HGETALL", KEY),
    b"set": ("SMEMBERS", KEY),
    b"zset": ("ZRANGE", KEY, "0", "-1", "WITHSCORES"),
}
# All of a stream with its groups, consumers and pending entries (6.0 on).
READ_STREAM: dict[bytes, Command] = {b"stream": ("XINFO", "STREAM", KEY, "FULL", "COUNT", "0")}
LENGTH = {b"string": "STRLEN", b"list": "LLEN", b"hash": "HLEN", b"set": "SCARD", b"zset": "ZCARD"}


class Seen(NamedTuple):
    """A key as one server has it: its type (None when absent), expiry and size.

    `expires_ms` is the server's own time in ms since 1970, None without a TTL; `left_ms` is the TTL;
    `size` is about the bytes of memory that it takes.
    """

    kind: bytes | None
    expires_ms: int | None = None
    left_ms: int | None = None
    size: int = 0


@dataclass
class Group:
    """A consumer group of a stream: pending entries are (id, consumer, idle ms, times delivered)."""

    last_delivered: bytes
    entries_read: int | None
    consumers: list[bytes] = field(default_factory=list)
    pending: list[tuple[bytes, bytes, int, int]] = field(default_factory=list)

    def facts(self) -> tuple[Any, ...]:
        """Return what must be equal in an equal group: idle times and statistics need not."""
        pending = [(entry, consumer, times) for entry, consumer, _, times in self.pending]
        return self.last_delivered, sorted(self.consumers), pending


@dataclass
class Stream:
    """A stream: its entries as (id, [field, value, ...]), last id, statistics (7.0 on) and groups."""

    last_id: bytes
    entries_added: int | None
    max_deleted: bytes | None
    entries: list[tuple[bytes, list[bytes]]] = field(default_factory=list)
    groups: dict[bytes, Group] = field(default_factory=dict)

    def facts(self) -> tuple[Any, ...]:
        """Return what must be equal in an equal stream."""
        return self.last_id, self.entries, {name: group.facts() for name, group in self.groups.items()}


# What may be asked of a key before its value: its type, its TTL in ms and its size in bytes.
KIND, EXPIRY, SIZE = ("TYPE", KEY), ("PTTL", KEY), ("MEMORY", "USAGE", KEY)


def sizes(replies: list[Any]) -> list[int]:
    """Return the replies to `SIZE`. A size that is refused, or of no key, counts as too big to be read whole."""
    return replies if set(map(type, replies)) <= {int} else [each if type(each) is int else WHOLE_BYTES + 1 for each in replies]


def look(wire: Wire, keys: Sequence[bytes]) -> list[Seen]:
    """Return how the server has each of `keys`. Raises redis.ResponseError when it refuses to tell types or expiries."""
    names, count = bulks(keys), len(keys)
    wire.send_packed(TIME + shaped(names, KIND) + shaped(names, EXPIRY) + shaped(names, SIZE))
    clock, *told = checked(wire.receive(1 + 2 * count))
    now = milliseconds(clock)
    return [seen(now, *each) for each in zip(told[:count], told[count:], sizes(wire.receive(count)), strict=True)]


def seen(now: int, kind: bytes, left: int, size: int) -> Seen:
    """Return a key's facts in words."""
    if kind == b"none" or left == -2:
        return Seen(None)
    return Seen(kind, now + left, left, size) if left >= 0 else Seen(kind, None, None, size)


def plain(kind: bytes, reply: Any) -> Any:
    """Return the reply to a READ or READ_STREAM command in a form that is equal for equal values on any engine.

    Scores become numbers, because Redis 6.2 writes 0.10000000000000001 where Valkey writes 0.1.
    """
    if reply is None or isinstance(reply, Exception):
        return reply
    if kind == b"string" and reply.startswith(HYPERLOGLOG) and _is_hyperloglog(reply):
        return reply[:8] + reply[16:]
    if kind == b"hash":
        return _fields(reply)
    if kind == b"set":
        return frozenset(reply)
    if kind == b"zset":
        return dict(zip(reply[::2], map(float, reply[1::2]), strict=True))
    if kind == b"stream":
        return _whole_stream(reply).facts()
    return reply


def _is_hyperloglog(value: bytes) -> bool:
    dense = value[4:8] == bytes(4) and len(value) == DENSE_BYTES
    return dense or (value[4:8] == b"\x01\0\0\0" and len(value) >= 16)


def same(kind: bytes, one: Any, other: Any) -> bool:
    """Return whether two replies to the READ or READ_STREAM command of a type hold equal values."""
    if isinstance(one, Exception) or isinstance(other, Exception):
        return False
    if kind == b"hash":
        return _fields(one) == _fields(other)
    return one == other or plain(kind, one) == plain(kind, other)


def same_in_chunks(pair: Pair, kind: bytes, key: bytes) -> bool:
    """Return whether both servers hold the same value under `key`, read in chunks."""
    try:
        return _same_in_chunks(pair, kind, key)
    except redis.ResponseError as error:
        if changed_meanwhile(error):
            return False
        raise


def _same_in_chunks(pair: Pair, kind: bytes, key: bytes) -> bool:
    if kind == b"stream":
        return read_stream(pair.source, key).facts() == read_stream(pair.target, key).facts()
    length = LENGTH.get(kind)
    if length is None:
        return _same_payload(pair, key)
    (one,), (other,) = pair.ask([(length, key)])
    if isinstance(one, Exception) or isinstance(other, Exception) or one != other:
        return False
    if kind in (b"hash", b"set"):
        return _same_members(pair, kind, key)
    return all(same(kind, *map(_only, pair.ask([command]))) for command in _windows(kind, key, one))


def _only(replies: list[Any]) -> Any:
    return replies[0]


def _windows(kind: bytes, key: bytes, length: int) -> Iterator[Command]:
    """Yield the commands that read an ordered value piece by piece."""
    name = {b"string": "GETRANGE", b"list": "LRANGE", b"zset": "ZRANGE"}[kind]
    step = CHUNK_BYTES if kind == b"string" else CHUNK_ITEMS
    for start in range(0, length, step):
        yield (name, key, start, start + step - 1, *(("WITHSCORES",) if kind == b"zset" else ()))


def _same_members(pair: Pair, kind: bytes, key: bytes) -> bool:
    """Return whether every member of the source is in the target alike; the lengths are known equal."""
    for chunk in members(pair.source, kind, key):
        if kind == b"set":
            if not all(pair.target.call("SMISMEMBER", key, *chunk)):
                return False
        elif pair.target.call("HMGET", key, *chunk[::2]) != chunk[1::2]:
            return False
    return True


def members(wire: Wire, kind: bytes, key: bytes) -> Iterator[list[bytes]]:
    """Yield the members of a set, or field, value, field, value of a hash, in chunks."""
    cursor: Any = 0
    while cursor != b"0":
        name = "SSCAN" if kind == b"set" else "HSCAN"
        cursor, chunk = wire.call(name, key, cursor, "COUNT", CHUNK_ITEMS)
        if chunk:
            yield chunk


def _same_payload(pair: Pair, key: bytes) -> bool:
    """Return whether the DUMP of a module's type is the same but for version and checksum.

    We cannot read such a type; payloads of two versions may differ in an equal value, which is
    reported as changed rather than passed over.
    """
    (one,), (other,) = pair.ask([("DUMP", key)])
    return isinstance(one, bytes) and isinstance(other, bytes) and one[:-10] == other[:-10]


def read_command(kind: bytes, key: bytes) -> Command:
    """Return the command that reads the whole value of a key."""
    return tuple(key if part is KEY else part for part in READ[kind])


def read_whole(wire: Wire, kind: bytes, key: bytes) -> Any:
    """Return the reply to the READ command of a type, put together from chunks."""
    if kind in (b"hash", b"set"):
        # A scan may return a member twice.
        if kind == b"hash":
            pairs: dict[bytes, bytes] = {}
            for chunk in members(wire, kind, key):
                pairs.update(zip(chunk[::2], chunk[1::2], strict=True))
            return [part for pair in pairs.items() for part in pair]
        return list({member for chunk in members(wire, kind, key) for member in chunk})
    pieces = [wire.call(*command) for command in _windows(kind, key, wire.call(LENGTH[kind], key))]
    return b"".join(pieces) if kind == b"string" else [item for piece in pieces for item in piece]


def changed_meanwhile(error: redis.ResponseError) -> bool:
    """Return whether an error says that a key went or became another type while it was being read."""
    return any(sign in str(error) for sign in ("WRONGTYPE", "NOGROUP", "no such key"))


def read_stream(wire: Wire, key: bytes) -> Stream:
    """Return a stream with its groups and pending entries, up to the last id that it had at the start: it may grow meanwhile.

    Raises redis.ResponseError, of which `changed_meanwhile` is true when the stream has gone.
    """
    about = _fields(wire.call("XINFO", "STREAM", key))
    groups = wire.call("XINFO", "GROUPS", key)
    stream = Stream(
        about[b"last-generated-id"], about.get(b"entries-added"), about.get(b"max-deleted-entry-id")
    )
    stream.entries = _entries(wire, key, stream.last_id)
    for group in map(_fields, groups):
        stream.groups[group[b"name"]] = _group(wire, key, group, stream.last_id)
    return stream


def _fields(reply: list[Any]) -> dict[bytes, Any]:
    each = iter(reply)
    return dict(zip(each, each, strict=True))


def _whole_stream(reply: list[Any]) -> Stream:
    """Return the stream that XINFO STREAM FULL describes, but for how long entries have been pending."""
    about = _fields(reply)
    entries = [(entry, fields) for entry, fields in about[b"entries"]]
    stream = Stream(about[b"last-generated-id"], about.get(b"entries-added"), about.get(b"max-deleted-entry-id"), entries)
    for group in map(_fields, about[b"groups"]):
        pending = [(entry, consumer, 0, times) for entry, consumer, _, times in group[b"pending"]]
        consumers = [_fields(each)[b"name"] for each in group[b"consumers"]]
        stream.groups[group[b"name"]] = Group(group[b"last-delivered-id"], group.get(b"entries-read"), consumers, pending)
    return stream


def _entries(wire: Wire, key: bytes, last: bytes) -> list[tuple[bytes, list[bytes]]]:
    found: list[tuple[bytes, list[bytes]]] = []
    start = b"-"
    while chunk := wire.call("XRANGE", key, start, last, "COUNT", CHUNK_ITEMS):
        found += [(entry, fields) for entry, fields in chunk]
        if len(chunk) < CHUNK_ITEMS:
            break
        start = b"(" + chunk[-1][0]
    return found


def _group(wire: Wire, key: bytes, about: dict[bytes, Any], last: bytes) -> Group:
    name = about[b"name"]
    group = Group(about[b"last-delivered-id"], about.get(b"entries-read"))
    group.consumers = [_fields(each)[b"name"] for each in wire.call("XINFO", "CONSUMERS", key, name)]
    start = b"-"
    while chunk := wire.call("XPENDING", key, name, start, last, CHUNK_ITEMS):
        group.pending += [tuple(entry) for entry in chunk]
        if len(chunk) < CHUNK_ITEMS:
            break
        start = b"(" + chunk[-1][0]
    return group
