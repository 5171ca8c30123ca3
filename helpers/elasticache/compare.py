"""Compare two Redis or Valkey servers key by key: every type, every database, every TTL.

Both servers are asked at once, in pipelines of short commands that hold up nobody. Small values are
read and compared here; of larger ones a script in each server computes digests, so that they do not
cross the network; the largest are read in chunks. What differs is looked at again, a moment later,
so that a key that expired or changed between two reads is not taken for a loss.
"""

from __future__ import annotations

import fnmatch
import html
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import redis
from tqdm.auto import tqdm

from helpers.elasticache.values import (
    LOOK,
    READ,
    WHOLE_BYTES,
    Seen,
    facts,
    look_packed,
    pack_read,
    read_replies,
    same,
    same_in_chunks,
    seen,
)
from helpers.elasticache.wire import Pair, Wire, batches, by_database, databases, in_flight, milliseconds, pack, scan

Key = tuple[int, bytes]

KINDS = ("missing", "extra", "changed", "ttl")
EXISTS_BATCH = 500
# A differing key is looked at so many times in all, with such a pause between.
LOOKS = 3
LOOK_AGAIN_S = 0.2
# Values that take less memory than this are read, larger ones are digested where scripts may run.
READ_BYTES = 2048
# A call of the script takes values of about so many bytes together: one to two milliseconds.
SCRIPT_BYTES = 256 * 1024
SHOWN = 20

# The digests of the values of KEYS, all of the type ARGV[1].
#
# - Sets and hashes come in any order: sorted.
# - A score is text: Redis 6.2 writes 0.10000000000000001 where Valkey writes 0.1, hence tonumber.
# - cmsgpack writes lengths, so that ("ab", "c") and ("a", "bc") differ.
_DIGEST = """
local kind, digests = ARGV[1], {}
for i, key in ipairs(KEYS) do
  local value
  if kind == 'string' then
    value = redis.call('GET', key) or ''
    if string.sub(value, 1, 4) == 'HYLL' then
      value = string.sub(value, 1, 8) .. string.sub(value, 17)
    end
  elseif kind == 'list' then
    value = redis.call('LRANGE', key, 0, -1)
  elseif kind == 'set' then
    value = redis.call('SMEMBERS', key)
    table.sort(value)
  elseif kind == 'hash' then
    local fields = redis.call('HGETALL', key)
    value = {}
    for j = 1, #fields, 2 do
      value[(j + 1) / 2] = #fields[j] .. ':' .. fields[j] .. fields[j + 1]
    end
    table.sort(value)
  else
    value = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for j = 2, #value, 2 do value[j] = tonumber(value[j]) end
  end
  digests[i] = redis.sha1hex(cmsgpack.pack(value))
end
return digests
"""


@dataclass(frozen=True, eq=False)
class Comparison:
    """What two servers hold, compared.

    `differences` has one row a differing key: database, key (text; bytes that are not UTF-8 are
    escaped), kind: missing (in the source alone), extra (in the target alone), changed (another
    value or type) or ttl (the same value, another expiry). `expired` counts keys that expired
    during the comparison, which are no differences. `differing` has the same keys as bytes.
    """

    differences: pd.DataFrame
    differing: tuple[Key, ...]
    keys_compared: int
    expired: int
    seconds: float
    databases: tuple[int, ...] = ()

    @property
    def equal(self) -> bool:
        """Return whether no key differs."""
        return not self.differing

    @property
    def keys_different(self) -> int:
        """Return how many keys differ."""
        return len(self.differing)

    @property
    def keys_per_second(self) -> float:
        """Return the speed of the comparison."""
        return self.keys_compared / self.seconds if self.seconds else 0.0

    def keys(self) -> set[Key]:
        """Return the differing keys, as pairs of database and bytes."""
        return set(self.differing)

    def without(self, keys: Collection[Key]) -> Comparison:
        """Return the comparison less the differences of `keys`, as of those that changed meanwhile."""
        left = [place for place, key in enumerate(self.differing) if key not in keys]
        frame = self.differences.iloc[left].reset_index(drop=True)
        return replace(self, differences=frame, differing=tuple(self.differing[place] for place in left))

    def table(self) -> pd.DataFrame:
        """Return the number of differing keys of each kind, one row a database."""
        rows = pd.Index(self.databases, name="database")
        counts = pd.crosstab(self.differences["database"], self.differences["kind"])
        return counts.reindex(index=rows, columns=list(KINDS), fill_value=0).astype(int).reset_index()

    def __repr__(self) -> str:
        shown = f"\n{self.differences.head(SHOWN).to_string(index=False)}" if self.differing else ""
        return f"{self._sentence()}{shown}{self._more()}"

    def _repr_html_(self) -> str:
        shown = self.differences.head(SHOWN).to_html(index=False) if self.differing else ""
        return f"<p><b>{html.escape(self._sentence())}</b></p>{shown}<p>{html.escape(self._more())}</p>"

    def _sentence(self) -> str:
        verdict = "Equal" if self.equal else f"{self.keys_different:,} keys differ"
        expired = f", {self.expired:,} expired meanwhile" if self.expired else ""
        speed = f"{self.seconds:.1f} s ({self.keys_per_second:,.0f} keys/s)"
        return f"{verdict}: {self.keys_compared:,} keys compared in {speed}{expired}."

    def _more(self) -> str:
        more = self.keys_different - SHOWN
        return f"\n... and {more:,} more in `differences`" if more > 0 else ""


@dataclass
class _Findings:
    """What has been found so far: the kind of each difference by key, and how many keys expired or are absent."""

    kinds: dict[Key, str] = field(default_factory=dict)
    expired: int = 0
    absent: int = 0
    compared: int = 0

    def comparison(self, seconds: float, numbers: Iterable[int]) -> Comparison:
        rows = [(database, text(key), kind) for (database, key), kind in sorted(self.kinds.items())]
        frame = pd.DataFrame(rows, columns=["database", "key", "kind"])
        keys = tuple(sorted(self.kinds))
        return Comparison(frame, keys, self.compared, self.expired, seconds, tuple(sorted(numbers)))


def compare(
    source: redis.Redis,
    target: redis.Redis,
    *,
    ttl_tolerance_ms: int = 2000,
    batch: int = 200,
    ignore: Collection[str | bytes] = (),
    progress: bool = True,
) -> Comparison:
    """Return how the keys of `target` differ from those of `source`, in all databases.

    An expiry is compared as a point in time on each server's clock, to `ttl_tolerance_ms`. `batch`
    is the number of keys of one pipeline. `ignore` are glob patterns of keys to leave out, as KEYS
    takes them. Uses EVAL for values above 2 KiB, which waits while CLIENT PAUSE WRITE is on:
    `compare_keys` does not. Where scripts are refused, values are read.

    Reading a key counts as its use on engines before Valkey 7.2, on which LRU eviction decides.
    """
    began = time.perf_counter()
    counts = databases(source)
    numbers = sorted(counts.keys() | databases(target).keys())
    wanted = _wanted(ignore)
    first = _Findings()
    with (
        tqdm(total=sum(counts.values()), unit="key", desc="compare", leave=False, file=sys.stdout, disable=not progress) as bar,
        Pair(source, target) as scanning,
        Pair(source, target) as asking,
        _Look(source, target, ttl_tolerance_ms, scripts=True, bar=bar) as look,
    ):
        for number in numbers:
            scanning.select(number)
            asking.select(number)
            look.at(number, _pieces(scanning.source, wanted, batch), first)
            for key in _extras(scanning.target, asking.source, wanted):
                first.kinds[number, key] = "extra"
    compared = first.compared
    found = _look_again(source, target, first, ttl_tolerance_ms, batch, were_there=True)
    found.compared = compared + sum(kind == "extra" for kind in found.kinds.values())
    return found.comparison(time.perf_counter() - began, numbers)


def compare_keys(
    source: redis.Redis,
    target: redis.Redis,
    keys: Iterable[Key],
    *,
    ttl_tolerance_ms: int = 2000,
    batch: int = 200,
    progress: bool = False,
) -> Comparison:
    """Return how `keys`, pairs of database and name, differ between `target` and `source`.

    Reads values with plain commands alone, so it works while the source is under CLIENT PAUSE
    WRITE. A key that neither server has is equal.
    """
    began = time.perf_counter()
    wanted, first = by_database(set(keys)), _Findings()
    total = sum(map(len, wanted.values()))
    with (
        tqdm(total=total, unit="key", desc="compare", leave=False, file=sys.stdout, disable=not progress) as bar,
        _Look(source, target, ttl_tolerance_ms, scripts=False, bar=bar) as look,
    ):
        for number, names in wanted.items():
            look.at(number, batches(names, batch), first)
    compared = first.compared
    found = _look_again(source, target, first, ttl_tolerance_ms, batch, were_there=False)
    found.compared = compared
    return found.comparison(time.perf_counter() - began, wanted)


def text(key: bytes) -> str:
    """Return a key as text, with the bytes that are not UTF-8 escaped: b"caf\\xe9" as caf\\\\xe9."""
    return key.decode("utf-8", "backslashreplace")


def _wanted(ignore: Collection[str | bytes]) -> Callable[[list[bytes]], list[bytes]]:
    """Return a function that drops the ignored keys of a list."""
    if not ignore:
        return lambda keys: keys
    patterns = [each.decode("latin-1") if isinstance(each, bytes) else _latin(each) for each in ignore]
    ignored = re.compile("|".join(map(fnmatch.translate, patterns))).match
    return lambda keys: [key for key in keys if not ignored(key.decode("latin-1"))]


def _latin(pattern: str) -> str:
    """Return text as one character a byte, so that patterns match the bytes of keys."""
    return pattern.encode().decode("latin-1")


def _pieces(
    scanning: Wire, wanted: Callable[[list[bytes]], list[bytes]], batch: int
) -> Iterator[Sequence[bytes]]:
    """Yield all keys of the wire's database, in pieces."""
    for keys in scan(scanning):
        yield from batches(wanted(keys), batch)


def _extras(scanning: Wire, asking: Wire, wanted: Callable[[list[bytes]], list[bytes]]) -> Iterator[bytes]:
    """Yield the keys of the scanned server that the asked one has not."""

    def ask(keys: Sequence[bytes]) -> None:
        asking.send([("EXISTS", *keys)])

    pieces = _pieces(scanning, wanted, EXISTS_BATCH)
    for keys, (count,) in in_flight(pieces, ask, lambda keys: (keys, asking.receive(1))):
        # EXISTS counts a key as often as it is named, as SCAN may name it twice.
        if count != len(keys):
            yield from keys


def _look_again(
    source: redis.Redis,
    target: redis.Redis,
    found: _Findings,
    tolerance_ms: int,
    batch: int,
    *,
    were_there: bool,
) -> _Findings:
    """Return what differs in `found` and, looked at again by reading values alone, still does.

    `were_there` says that a server had each key before, so that one that neither has now expired. A
    key that expired while it was looked at again is gone when it is looked at once more.
    """
    if were_there:
        found.expired += found.absent
    for _ in range(LOOKS - 1):
        if not found.kinds:
            break
        time.sleep(LOOK_AGAIN_S)
        again = _Findings(expired=found.expired)
        with _Look(source, target, tolerance_ms, scripts=False) as look:
            for number, names in by_database(found.kinds).items():
                look.at(number, batches(names, batch), again)
        again.expired += again.absent
        found = again
    return found


@dataclass
class _Piece:
    """Some keys of one database, sorted by how their values are to be compared.

    `small` are read, `medium` are digested by script in groups, `large` are read in chunks; each by
    type.
    """

    keys: Sequence[bytes]
    small: dict[bytes, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    medium: list[tuple[bytes, list[bytes]]] = field(default_factory=list)
    large: list[tuple[bytes, bytes]] = field(default_factory=list)


class _Look:
    """A look at keys on both servers: types, sizes and expiries first, then the values.

    The two kinds of pipelines have connections of their own, so that the servers have the next work
    before we have dealt with the replies to the last.
    """

    def __init__(
        self,
        source: redis.Redis,
        target: redis.Redis,
        tolerance_ms: int,
        *,
        scripts: bool,
        bar: tqdm[Any] | None = None,
    ) -> None:
        self.tolerance_ms, self.scripts, self.bar = tolerance_ms, scripts, bar
        with ExitStack() as opened:
            self.facts = opened.enter_context(Pair(source, target))
            self.values = opened.enter_context(Pair(source, target))
            self.chunks = opened.enter_context(Pair(source, target))
            self._opened = opened.pop_all()

    def __enter__(self) -> _Look:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def at(self, number: int, pieces: Iterable[Sequence[bytes]], found: _Findings) -> None:
        """Note in `found` which keys of `pieces`, of one database, differ."""
        for pair in (self.facts, self.values, self.chunks):
            pair.select(number)
        looked = in_flight(pieces, self._ask_facts, lambda keys: self._sort(number, keys, found))
        for piece in in_flight(looked, self._ask_values, lambda piece: self._compare(number, piece, found)):
            found.compared += len(piece.keys)
            if self.bar is not None:
                self.bar.update(len(piece.keys))

    def _ask_facts(self, keys: Sequence[bytes]) -> None:
        self.facts.send_packed(look_packed(keys))

    def _sort(self, number: int, keys: Sequence[bytes], found: _Findings) -> _Piece:
        """Note absent keys, other types and expiries; return what is left to be compared by value."""
        ours, theirs = map(facts, self.facts.receive(1 + len(LOOK) * len(keys)))
        here, there = milliseconds(ours[0]), milliseconds(theirs[0])
        ahead, tolerance = here - there, self.tolerance_ms
        piece, medium = _Piece(keys), {}
        columns = (each[start::3] for start in (1, 2, 3) for each in (ours, theirs))
        for key, kind, its_kind, left, its_left, size, its_size in zip(keys, *columns, strict=True):
            if kind != its_kind or kind == b"none" or left == -2 or its_left == -2:
                one, other = seen(here, kind, left, size), seen(there, its_kind, its_left, its_size)
                _note_absent_or_other(number, key, one, other, tolerance, found)
                continue
            # Without a TTL the reply is -1.
            if left != its_left if left < 0 or its_left < 0 else abs(left - its_left + ahead) > tolerance:
                found.kinds[number, key] = "ttl"
            largest = size if size > its_size else its_size
            if kind not in READ or largest > WHOLE_BYTES:
                piece.large.append((kind, key))
            elif largest > READ_BYTES and self.scripts:
                medium.setdefault(kind, []).append((key, largest))
            else:
                piece.small[kind].append(key)
        piece.medium = [(kind, group) for kind, sized in medium.items() for group in _grouped(sized)]
        return piece

    def _ask_values(self, piece: _Piece) -> None:
        packed = [pack_read(kind, keys) for kind, keys in piece.small.items()]
        packed += [pack(("EVAL", _DIGEST, len(keys), *keys, kind)) for kind, keys in piece.medium]
        self.values.send_packed(b"".join(packed))

    def _compare(self, number: int, piece: _Piece, found: _Findings) -> _Piece:
        """Note the keys whose values differ."""
        unequal: list[bytes] = []
        for kind, keys in piece.small.items():
            unequal += _unequal(kind, keys, *self.values.receive(read_replies(kind, keys)))
        for _, keys in piece.medium:
            (ours,), (theirs,) = self.values.receive(1)
            if isinstance(ours, Exception) or isinstance(theirs, Exception):
                # Scripts are refused, or a key changed its type: the next look reads.
                unequal += keys
            else:
                unequal += [key for key, one, other in zip(keys, ours, theirs, strict=True) if one != other]
        unequal += [key for kind, key in piece.large if not same_in_chunks(self.chunks, kind, key)]
        found.kinds.update({(number, key): "changed" for key in unequal})
        return piece


def _grouped(sized: Iterable[tuple[bytes, int]]) -> Iterator[list[bytes]]:
    """Yield groups of keys whose values together are as many bytes as one call of the script may take."""
    group: list[bytes] = []
    taken = 0
    for key, size in sized:
        if group and taken + size > SCRIPT_BYTES:
            yield group
            group, taken = [], 0
        group.append(key)
        taken += size
    yield group


def _unequal(kind: bytes, keys: Sequence[bytes], ours: list[Any], theirs: list[Any]) -> list[bytes]:
    """Return the keys whose values, as replies to the packed reads of one type, differ."""
    if ours == theirs:
        return []
    if kind == b"string":
        (ours,), (theirs,) = ours, theirs
    return [key for key, one, other in zip(keys, ours, theirs, strict=True) if not same(kind, one, other)]


def _note_absent_or_other(
    number: int, key: bytes, one: Seen, other: Seen, tolerance_ms: int, found: _Findings
) -> None:
    """Note a key that has another type on the other server or is not there, if only because it expires."""
    if one.kind and other.kind:
        found.kinds[number, key] = "changed"
        return
    present = one if one.kind else other
    if present.kind is None:
        found.absent += 1
    elif present.left_ms is not None and present.left_ms <= tolerance_ms:
        found.expired += 1
    else:
        found.kinds[number, key] = "missing" if one.kind else "extra"
