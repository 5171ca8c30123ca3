"""Read an RDB file key by key as it streams by: name, type, elements, size and time to live, and never a value.

Formats 6 to 11 of Redis and 80 of Valkey, which are what ElastiCache exports. Values are passed over by their lengths,
so a file of any size takes little memory and no secret is looked at. Sources: rdb.h and rdb.c of Valkey 9.1 and Redis 7.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from helpers.aws.errors import RunbookError

CHUNK = 1 << 20
OLDEST, NEWEST, VALKEY = 6, 11, 80
END, DATABASE, EXPIRES_S, EXPIRES_MS, SIZES, FACT, FREQUENCY, IDLE = 0xFF, 0xFE, 0xFD, 0xFC, 0xFB, 0xFA, 0xF9, 0xF8
MODULE_FACT, FUNCTION, SLOT = 0xF7, 0xF5, 0xF4
LZF = 3
PACKED, STREAM_ID = 2, 16
UNKNOWN_COUNT = 0xFFFF  # in the head of a packed list: too many to be counted there

# How many bytes of memory things take on a 64-bit server; the tests hold them against MEMORY USAGE.
OBJECT, TABLE, LIST_NODE, STREAM_NODE = 16, 64, 48, 96
EMBEDDED = 44  # a string no longer than this lies in the same piece of memory as its object


class Layout(NamedTuple):
    """Bytes beside the strings themselves: of a key, and of an entry of a hash, a set and a sorted set.

    `open` is what the piece at a stream's end, still being filled, has been given.
    """

    key: int
    hash: int
    set: int
    zset: int
    open: int = 4096


CLASSIC, COMPACT = Layout(24, 40, 40, 96), Layout(8, 13, 22, 66)
OLD = CLASSIC._replace(open=0)
COMPACT_SINCE = (8, 1)  # Valkey's new table of keys; https://valkey.io/blog/new-hash-table/
OPEN_SINCE = (6, 2)  # a stream's last piece is given its whole room at once; https://github.com/redis/redis/pull/6281


class Entry(NamedTuple):
    """A key: its database, name, type, elements (bytes of a string), bytes in the file, estimated bytes in memory, and end.

    `memory` is what MEMORY USAGE would say, to about a fifth. `expires_ms` is a Unix time, None where the key has no end.
    """

    database: int
    key: bytes
    kind: str
    elements: int
    size: int
    memory: int
    expires_ms: int | None


@dataclass
class Facts:
    """What a file says of itself, known once its entries have been read: its magic (REDIS or VALKEY), version, and notes."""

    magic: str = ""
    version: int = 0
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def saved_s(self) -> int:
        """When it was saved, Unix time; 0 where it does not say."""
        return int(self.notes.get("ctime", 0))

    @property
    def server(self) -> str:
        """The engine that wrote it: `redis 6.2.14`, `valkey 8.1.8`."""
        for engine in ("valkey", "redis"):
            if f"{engine}-ver" in self.notes:
                return f"{engine} {self.notes[f'{engine}-ver']}"
        return "an unknown engine"

    @property
    def layout(self) -> Layout:
        """How that engine keeps things in memory."""
        found = re.match(r"(\w+) (\d+)\.(\d+)", self.server)
        if not found:
            return CLASSIC
        version = int(found[2]), int(found[3])
        return COMPACT if found[1] == "valkey" and version >= COMPACT_SINCE else CLASSIC if version >= OPEN_SINCE else OLD


def read_entries(file: BinaryIO, facts: Facts, name: str = "the file") -> Iterator[Entry]:
    """Every key of an RDB file, in the file's order; `facts` is filled on the way.

    `file` needs no more than `read`, so the body of an S3 object will do. Raises `RunbookError` for what is no RDB
    file, for one that ends early, and for a format or type that is not known.
    """
    data = _Data(file.read, name)
    magic = re.fullmatch(rb"(REDIS|VALKEY)(\d{3,4})", data.take(9))
    if not magic:
        raise RunbookError(f"{name} is no RDB file.", "Name a file that ElastiCache exported, as backup-0001.rdb.")
    facts.magic, facts.version = magic[1].decode(), int(magic[2])
    if not (OLDEST <= facts.version <= NEWEST or (facts.magic, facts.version) == ("VALKEY", VALKEY)):
        raise RunbookError(f"{name} has the RDB format {magic[0].decode()}, which is not known here.", f"Formats {OLDEST} to {NEWEST} and VALKEY{VALKEY:03} are.")
    database, expires, began = 0, None, data.place
    while (code := data.byte()) != END:
        if code in VALUES:
            key = data.text()
            kind, elements, memory = VALUES[code](data)
            yield Entry(database, key, kind, elements, data.place - began, memory + data.layout.key + _string(len(key)), expires)
            expires, began = None, data.place
        elif code == EXPIRES_MS:
            expires = int.from_bytes(data.take(8), "little")
        elif code == EXPIRES_S:
            expires = int.from_bytes(data.take(4), "little") * 1000
        elif code == IDLE:
            data.length()
        elif code == FREQUENCY:
            data.byte()
        else:
            database = _between(data, code, facts, database)
            began = data.place
    if facts.version >= 5:
        data.take(8)  # the checksum


def _between(data: _Data, code: int, facts: Facts, database: int) -> int:
    """Read what stands between keys; returns the database from here on."""
    if code == DATABASE:
        return data.length()
    if code == FACT:
        name = data.text().decode(errors="replace")
        facts.notes[name] = data.text().decode(errors="replace")
        data.layout = facts.layout
    elif code in (SIZES, SLOT):
        for _ in range(2 if code == SIZES else 3):
            data.length()
    elif code == FUNCTION:
        data.skip_text()
    elif code == MODULE_FACT:
        data.length()
        _module_parts(data)
    else:
        what = "a value" if code < 0xF0 else "a part"
        remedy = "Was it written while slots moved, or by an engine that ElastiCache does not have? Export it again from ElastiCache."
        raise RunbookError(f"{data.name} has {what} of type {code} at byte {data.place - 1:,}, which is not known here.", remedy)
    return database


class _Data:
    """Bytes read once from front to back, a buffer at a time."""

    def __init__(self, read: Callable[[int], bytes], name: str) -> None:
        self._read, self.name = read, name
        self._buffer, self._at, self._before = b"", 0, 0
        self.layout = CLASSIC

    @property
    def place(self) -> int:
        """How many bytes have been used."""
        return self._before + self._at

    def _fill(self, needed: int) -> None:
        """Have `needed` bytes in the buffer from the place on."""
        parts = [self._buffer[self._at :]]
        have = len(parts[0])
        self._before += self._at
        while have < needed:
            part = self._read(max(CHUNK, needed - have))
            if not part:
                raise RunbookError(f"{self.name} ends early, after {self._before + have:,} bytes.", "Copy it again, or export the backup again.")
            parts.append(part)
            have += len(part)
        self._buffer, self._at = b"".join(parts), 0

    def byte(self) -> int:
        """The next byte."""
        if self._at >= len(self._buffer):
            self._fill(1)
        self._at += 1
        return self._buffer[self._at - 1]

    def take(self, count: int) -> bytes:
        """The next bytes."""
        if self._at + count > len(self._buffer):
            self._fill(count)
        self._at += count
        return self._buffer[self._at - count : self._at]

    def skip(self, count: int) -> None:
        """Pass over bytes, without holding more than a buffer of them."""
        while self._at + count > len(self._buffer):
            count -= len(self._buffer) - self._at
            self._at = len(self._buffer)
            self._fill(1)
        self._at += count

    def _length(self) -> tuple[int, bool]:
        """A length, or the number of a special encoding and True."""
        first = self.byte()
        kind = first >> 6
        if kind == 0:
            return first, False
        if kind == 1:
            return (first & 0x3F) << 8 | self.byte(), False
        if kind == 3:
            return first & 0x3F, True
        return int.from_bytes(self.take(8 if first == 0x81 else 4), "big"), False

    def length(self) -> int:
        """A length that is one."""
        return self._length()[0]

    def text(self) -> bytes:
        """A string: plain, a number, or compressed."""
        size, special = self._length()
        if not special:
            return self.take(size)
        if size == LZF:
            packed, whole = self.length(), self.length()
            return _unpacked(self.take(packed), whole)
        return b"%d" % int.from_bytes(self.take(1 << size), "little", signed=True)

    def skip_text(self) -> int:
        """Pass over a string; returns its length when it is not compressed."""
        return self.skip_value()[0]

    def skip_value(self) -> tuple[int, bool]:
        """Pass over a string; returns its length when it is not compressed, and whether it is a number, which lies in its object."""
        size, special = self._length()
        if special and size != LZF:
            return len(b"%d" % int.from_bytes(self.take(1 << size), "little", signed=True)), True
        if special:
            packed, size = self.length(), self.length()
            self.skip(packed)
        else:
            self.skip(size)
        return size, False

    def head(self, count: int) -> tuple[bytes, int]:
        """The first bytes of a string and its whole length; the rest is passed over."""
        size, special = self._length()
        if not special:
            first = self.take(min(count, size))
            self.skip(size - len(first))
            return first, size
        packed, size = self.length(), self.length()
        first = self.take(min(packed, 4 * count))
        self.skip(packed - len(first))
        return _unpacked(first, min(count, size)), size


def _unpacked(data: bytes, wanted: int) -> bytes:
    """The first `wanted` bytes of what LZF has compressed.

    Source: https://github.com/ning/compress/wiki/LZFFormat; a control byte below 32 is so many bytes less one as they
    are, else it begins a repetition: three bits of length, and thirteen of how far back.
    """
    out, at = bytearray(), 0
    while len(out) < wanted:
        control = data[at]
        at += 1
        if control < 32:
            out += data[at : at + control + 1]
            at += control + 1
            continue
        count = control >> 5
        if count == 7:
            count += data[at]
            at += 1
        start = len(out) - ((control & 0x1F) << 8) - data[at] - 1
        at += 1
        for place in range(start, start + count + 2):
            out.append(out[place])
    return bytes(out[:wanted])


def _piece(size: int) -> int:
    """What a piece of memory of `size` bytes takes: the next size that jemalloc has."""
    if size <= 8:
        return 8
    if size <= 128:
        return (size + 15) // 16 * 16
    step = 1 << max((size - 1).bit_length() - 3, 4)
    return (size + step - 1) // step * step


def _string(size: int) -> int:
    """A string of its own: its head, its bytes, and the zero that ends it."""
    return _piece(size + (2 if size < 32 else 4 if size < 256 else 6))


Value = tuple[str, int, int]  # type, elements, memory


def _text_value(data: _Data) -> Value:
    size, number = data.skip_value()
    return "string", size, OBJECT if number else _piece(OBJECT + size + 4) if size <= EMBEDDED else OBJECT + _string(size)


def _packed(kind: str, head: int, width: int, places: int = 1) -> Callable[[_Data], Value]:
    """A collection in one piece: its count stands `head` bytes into it, in `width` bytes."""

    def read(data: _Data) -> Value:
        first, size = data.head(head + width)
        count = int.from_bytes(first[head : head + width], "little")
        # too many for the head of it: of an entry of two or three bytes at least
        return kind, (size // 3 if width == 2 and count == UNKNOWN_COUNT else count) // places, OBJECT + _piece(size)

    return read


def _zipmap(data: _Data) -> Value:
    first, size = data.head(1)
    return "hash", first[0], OBJECT + _piece(size)


def _nodes(with_container: bool) -> Callable[[_Data], Value]:
    """A list: a chain of packed pieces."""

    def read(data: _Data) -> Value:
        elements, memory = 0, OBJECT + 48
        for _ in range(data.length()):
            plain = with_container and data.length() != PACKED
            first, size = data.head(10)
            at = 4 if with_container else 8
            elements += 1 if plain else int.from_bytes(first[at : at + 2], "little")
            memory += LIST_NODE + _piece(size)
        return "list", elements, memory

    return read


def _old_list(data: _Data) -> Value:
    count = data.length()
    return "list", count, OBJECT + 48 + sum(data.skip_text() + 11 for _ in range(count))


def _table(kind: str, strings: int, after: int = 0) -> Callable[[_Data], Value]:
    """A table of so many `strings` an entry, with `after` bytes behind each."""

    def read(data: _Data) -> Value:
        count = data.length()
        memory = OBJECT + TABLE + count * getattr(data.layout, kind)
        for _ in range(count):
            for _ in range(strings):
                memory += _string(data.skip_text())
            if after:
                data.skip(after)
        return kind, count, memory

    return read


def _scored(data: _Data) -> Value:
    """A sorted set whose scores are text: a byte of length, or 253 to 255 for what is no number."""
    count = data.length()
    memory = OBJECT + TABLE + count * data.layout.zset
    for _ in range(count):
        memory += _string(data.skip_text())
        size = data.byte()
        data.skip(size if size < 253 else 0)
    return "zset", count, memory


def _stream(version: int) -> Callable[[_Data], Value]:
    """A stream: packed pieces by id, then counts and ids, then groups with what is pending, by consumer."""

    def read(data: _Data) -> Value:
        memory, last = OBJECT + 64, 0
        for _ in range(data.length()):
            data.skip_text()  # its id
            last = _piece(data.skip_text())
            memory += STREAM_NODE + last
        memory += max(data.layout.open - last, 0)
        elements = data.length()
        for _ in range(2 + (5 if version > 1 else 0)):
            data.length()
        for _ in range(data.length()):
            memory += _group(data, version)
        return "stream", elements, memory

    return read


def _group(data: _Data, version: int) -> int:
    memory = 100 + data.skip_text()
    for _ in range(2 + (1 if version > 1 else 0)):
        data.length()
    for _ in range(data.length()):
        data.skip(STREAM_ID + 8)
        data.length()
        memory += 80
    for _ in range(data.length()):
        memory += 100 + data.skip_text()
        data.skip(8 if version < 3 else 16)
        data.skip(data.length() * STREAM_ID)
    return memory


def _module(data: _Data) -> Value:
    data.length()
    size = _module_parts(data)
    return "module", 1, OBJECT + size


def _module_parts(data: _Data) -> int:
    """Pass over a module's parts, each with its type before it: end, numbers, floats, strings; returns their bytes."""
    began = data.place
    while part := data.length():
        if part in (1, 2):
            data.length()
        elif part in (3, 4):
            data.skip(4 if part == 3 else 8)
        elif part == 5:
            data.skip_text()
        else:
            raise RunbookError(f"{data.name} has a module's value with a part of type {part} at byte {data.place:,}.", "Export it again from ElastiCache.")
    return data.place - began


# How a value of each type is read; rdb.h has the numbers
VALUES: dict[int, Callable[[_Data], Value]] = {
    0: _text_value,
    1: _old_list,
    2: _table("set", 1),
    3: _scored,
    4: _table("hash", 2),
    5: _table("zset", 1, 8),
    7: _module,
    9: _zipmap,
    10: _packed("list", 8, 2),
    11: _packed("set", 4, 4),
    12: _packed("zset", 8, 2, 2),
    13: _packed("hash", 8, 2, 2),
    14: _nodes(with_container=False),
    15: _stream(1),
    16: _packed("hash", 4, 2, 2),
    17: _packed("zset", 4, 2, 2),
    18: _nodes(with_container=True),
    19: _stream(2),
    20: _packed("set", 4, 2),
    21: _stream(3),
    22: _table("hash", 2, 8),  # Valkey 9: fields that end
}
