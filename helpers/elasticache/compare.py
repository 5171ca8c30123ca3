"""Compare two Redis or Valkey servers key by key: every type, every database, every TTL.

Most keys are compared by a digest that a script computes inside each server, about 200 keys a call,
so that values do not cross the network. A key in a batch whose digests differ, a big key and a
stream are read and compared here. What differs is looked at twice, a moment apart, so that a key
that expired or changed between the two reads is not taken for a loss.
"""

from __future__ import annotations

import fnmatch
import html
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import redis
from tqdm.auto import tqdm

from helpers.elasticache.values import LOOK, READ, WHOLE_BYTES, Seen, look_packed, same, same_in_chunks, seen
from helpers.elasticache.wire import Pair, batches, by_database, databases, milliseconds, scan

Key = tuple[int, bytes]

KINDS = ("missing", "extra", "changed", "ttl")
READ_BATCH = 200
EXISTS_BATCH = 500
# How long after the first look a differing key is looked at again.
SECOND_LOOK_S = 0.25
# Calls of the digest script that wait at each server: one to work on, one to go on with.
IN_FLIGHT = 2
SCRIPT_ITEMS = 2000
SCRIPT_BYTES = 512 * 1024
SHOWN = 20

# One digest for a batch of keys, their TTLs, and the places of the keys that are left to be read.
#
# - Sets and hashes come in any order: sorted, except small hashes, which keep theirs through RDB,
#   DUMP and RESTORE (an unsorted hash in another order costs a second, typed look, no more).
# - A score is text: Redis 6.2 writes 0.10000000000000001 where Valkey writes 0.1, hence tonumber.
# - cmsgpack writes lengths, so that ("ab", "c") and ("a", "bc") differ.
# - The work of one call is bounded by bytes and items; the first reply says how many keys it did.
_DIGEST = """
local call, pack, number, find, sort = redis.call, cmsgpack.pack, tonumber, string.find, table.sort
local whole, most_items, most_bytes = number(ARGV[1]), number(ARGV[2]), number(ARGV[3])
local values, ttls, left, items, bytes, done = {}, {}, {}, 0, 0, 0
for i, key in ipairs(KEYS) do
  local kind, value = call('TYPE', key)['ok'], false
  ttls[i] = call('PTTL', key)
  if kind == 'string' then
    value = call('GETRANGE', key, 0, whole)
    bytes = bytes + #value
    if #value > whole then
      value = false
      left[#left + 1] = i
    elseif string.sub(value, 1, 4) == 'HYLL' then
      value = string.sub(value, 1, 8) .. string.sub(value, 17)
    end
  elseif kind ~= 'none' then
    local size = call('MEMORY', 'USAGE', key) or 0
    if size > whole or not (kind == 'hash' or kind == 'list' or kind == 'set' or kind == 'zset') then
      left[#left + 1] = i
    else
      bytes = bytes + size
      if kind == 'hash' then
        value = call('HGETALL', key)
        if #value > 128 then
          local fields = {}
          for j = 1, #value, 2 do fields[(j + 1) / 2] = #value[j] .. ':' .. value[j] .. value[j + 1] end
          sort(fields)
          value = fields
        end
      elseif kind == 'list' then
        value = call('LRANGE', key, 0, -1)
      elseif kind == 'set' then
        value = call('SMEMBERS', key)
        sort(value)
      else
        value = call('ZRANGE', key, 0, -1, 'WITHSCORES')
        for j = 2, #value, 2 do
          local score = value[j]
          if #score > 15 or find(score, '[.en]') then value[j] = number(score) end
        end
      end
      items = items + #value
    end
  end
  values[2 * i - 1], values[2 * i] = kind, value
  done = i
  if items >= most_items or bytes >= most_bytes then break end
end
return {redis.sha1hex(pack(values)), done, ttls, left, call('TIME')}
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
    batch: int = 100,
    ignore: Collection[str | bytes] = (),
    progress: bool = True,
) -> Comparison:
    """Return how the keys of `target` differ from those of `source`, in all databases.

    An expiry is compared as a point in time on each server's clock, to `ttl_tolerance_ms`. `batch`
    is the number of keys of one script call, which blocks each server about 10 microseconds a key.
    `ignore` are glob patterns of keys to leave out, as KEYS takes them. Uses EVAL, which waits while
    CLIENT PAUSE WRITE is on: `compare_keys` does not. Where scripts are refused, values are read.

    Reading a key counts as its use on engines before Valkey 7.2, on which LRU eviction decides.
    """
    began = time.perf_counter()
    counts = databases(source)
    numbers = sorted(counts.keys() | databases(target).keys())
    wanted = _wanted(ignore)
    found, suspects = _Findings(), set()
    with tqdm(total=sum(counts.values()), unit="key", desc="compare", disable=not progress) as bar:
        for number in numbers:
            with ThreadPoolExecutor(max_workers=2) as pool:
                extras = pool.submit(_extras, source, target, number, wanted)
                digests = pool.submit(_suspects, source, target, number, batch, ttl_tolerance_ms, wanted, bar)
                compared, doubtful = digests.result()
                found.compared += compared
                suspects |= {(number, key) for key in (*doubtful, *extras.result())}
    looked = _look_twice(source, target, suspects, ttl_tolerance_ms, were_there=True)
    looked.compared = found.compared + sum(kind == "extra" for kind in looked.kinds.values())
    return looked.comparison(time.perf_counter() - began, numbers)


def compare_keys(
    source: redis.Redis,
    target: redis.Redis,
    keys: Iterable[Key],
    *,
    ttl_tolerance_ms: int = 2000,
    batch: int = READ_BATCH,
    progress: bool = False,
) -> Comparison:
    """Return how `keys`, pairs of database and name, differ between `target` and `source`.

    Reads values with plain commands alone, so it works while the source is under CLIENT PAUSE
    WRITE. A key that neither server has is equal.
    """
    began = time.perf_counter()
    wanted = set(keys)
    found = _look_twice(source, target, wanted, ttl_tolerance_ms, batch, progress, were_there=False)
    found.compared = len(wanted)
    return found.comparison(time.perf_counter() - began, {database for database, _ in wanted})


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


def _suspects(
    source: redis.Redis,
    target: redis.Redis,
    number: int,
    batch: int,
    tolerance_ms: int,
    wanted: Callable[[list[bytes]], list[bytes]],
    bar: tqdm[Any],
) -> tuple[int, set[bytes]]:
    """Return how many keys of a database of the source there are, and those that may differ."""
    compared, suspects = 0, set()
    with Pair(source, target) as scanning, Pair(source, target) as pair:
        scanning.source.select(number)
        pair.select(number)
        for keys, doubtful in _digested(pair, _pieces(scanning, wanted, batch), tolerance_ms):
            compared += keys
            suspects.update(doubtful)
            bar.update(keys)
    return compared, suspects


def _pieces(
    scanning: Pair, wanted: Callable[[list[bytes]], list[bytes]], batch: int
) -> Iterator[Sequence[bytes]]:
    for keys in scan(scanning.source):
        yield from batches(wanted(keys), batch)


def _digested(
    pair: Pair, pieces: Iterator[Sequence[bytes]], tolerance_ms: int
) -> Iterator[tuple[int, Sequence[bytes]]]:
    """Yield, for each piece, how many of its keys were done and which of them may differ.

    A call that stopped early leaves keys, which are asked for again.
    """
    waiting: list[Sequence[bytes]] = []
    again: list[Sequence[bytes]] = []
    while True:
        while len(waiting) < IN_FLIGHT and (keys := again.pop() if again else next(pieces, None)):
            command = [("EVAL", _DIGEST, len(keys), *keys, WHOLE_BYTES, SCRIPT_ITEMS, SCRIPT_BYTES)]
            pair.source.send(command)
            pair.target.send(command)
            waiting.append(keys)
        if not waiting:
            return
        keys = waiting.pop(0)
        done, doubtful = _doubtful(keys, *pair.source.receive(1), *pair.target.receive(1), tolerance_ms)
        if done < len(keys):
            again.append(keys[done:])
        yield done, doubtful


def _doubtful(
    keys: Sequence[bytes], one: Any, other: Any, tolerance_ms: int
) -> tuple[int, Sequence[bytes]]:
    """Return how many keys two replies of the script cover, and the keys that may differ."""
    refused = isinstance(one, Exception) or isinstance(other, Exception)
    if refused or one[:2] != other[:2] or one[3] != other[3]:
        return len(keys), keys
    _, done, ttls, left, clock = one
    ahead = milliseconds(clock) - milliseconds(other[4])
    places = {place - 1 for place in left}
    for place, (mine, yours) in enumerate(zip(ttls, other[2], strict=True)):
        if mine != yours and (mine < 0 or yours < 0 or abs(mine - yours + ahead) > tolerance_ms):
            places.add(place)
        elif mine == yours == -2:
            # Gone from both since the scan saw it: the second look counts it as expired.
            places.add(place)
    return done, [keys[place] for place in places]


def _extras(
    source: redis.Redis, target: redis.Redis, number: int, wanted: Callable[[list[bytes]], list[bytes]]
) -> list[bytes]:
    """Return the keys of a database of the target that the source has not."""
    found: list[bytes] = []
    with Pair(source, target) as pair:
        pair.select(number)
        for scanned in scan(pair.target):
            for keys in batches(wanted(scanned), EXISTS_BATCH):
                # EXISTS counts a key as often as it is named, as SCAN may name it twice.
                if pair.source.call("EXISTS", *keys) != len(keys):
                    there = pair.source.ask([("EXISTS", key) for key in keys])
                    found += [key for key, exists in zip(keys, there, strict=True) if not exists]
    return found


def _look_twice(
    source: redis.Redis,
    target: redis.Redis,
    keys: Collection[Key],
    tolerance_ms: int,
    batch: int = READ_BATCH,
    progress: bool = False,
    *,
    were_there: bool,
) -> _Findings:
    """Return what differs among `keys` at a first look and, a moment later, still does.

    `were_there` says that a server had each key before, so that one that neither has now expired.
    """
    if not keys:
        return _Findings()
    with Pair(source, target) as pair:
        first = _look(pair, keys, tolerance_ms, batch, progress)
        first.expired += first.absent if were_there else 0
        if not first.kinds:
            return first
        time.sleep(SECOND_LOOK_S)
        second = _look(pair, list(first.kinds), tolerance_ms, batch, progress)
    second.expired += first.expired + second.absent
    return second


def _look(pair: Pair, keys: Collection[Key], tolerance_ms: int, batch: int, progress: bool) -> _Findings:
    """Return what differs among `keys` now, by reading their values."""
    found = _Findings()
    with tqdm(total=len(keys), unit="key", desc="read", disable=not progress) as bar:
        for number, names in by_database(keys).items():
            pair.select(number)
            for piece in batches(names, batch):
                _look_at(pair, number, piece, tolerance_ms, found)
                bar.update(len(piece))
    return found


def _look_at(pair: Pair, number: int, keys: Sequence[bytes], tolerance_ms: int, found: _Findings) -> None:
    """Compare some keys of one database, and note what differs."""
    ours, theirs = pair.ask_packed(look_packed(keys), 1 + len(LOOK) * len(keys))
    small, large = [], []
    for key, one, other in zip(keys, seen(ours), seen(theirs), strict=True):
        if one.kind is None or other.kind is None:
            _note_absent(number, key, one, other, tolerance_ms, found)
        elif one.kind != other.kind:
            found.kinds[number, key] = "changed"
        else:
            whole = one.kind in READ and not one.big and not other.big
            (small if whole else large).append((key, one.kind))
            if _expiries_differ(one, other, tolerance_ms):
                found.kinds[number, key] = "ttl"
    for key in _unequal(pair, small, large):
        found.kinds[number, key] = "changed"


def _note_absent(
    number: int, key: bytes, one: Seen, other: Seen, tolerance_ms: int, found: _Findings
) -> None:
    """Note a key that at least one server has not; it may be about to expire on the other."""
    present = one if one.kind else other
    if present.kind is None:
        found.absent += 1
    elif present.left_ms is not None and present.left_ms <= tolerance_ms:
        found.expired += 1
    else:
        found.kinds[number, key] = "missing" if one.kind else "extra"


def _expiries_differ(one: Seen, other: Seen, tolerance_ms: int) -> bool:
    if one.expires_ms is None or other.expires_ms is None:
        return one.expires_ms != other.expires_ms
    return abs(one.expires_ms - other.expires_ms) > tolerance_ms


def _unequal(
    pair: Pair, small: Sequence[tuple[bytes, bytes]], large: Sequence[tuple[bytes, bytes]]
) -> list[bytes]:
    """Return the keys, given with the type that they have on both servers, whose values differ."""
    ours, theirs = pair.ask([READ[kind](key) for key, kind in small])
    unequal = [
        key for (key, kind), one, other in zip(small, ours, theirs, strict=True) if not same(kind, one, other)
    ]
    return unequal + [key for key, kind in large if not same_in_chunks(pair, kind, key)]
