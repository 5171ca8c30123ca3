"""Compare two Redis or Valkey servers key by key: every type, every database, every TTL.

Both servers are asked at once, in pipelines of short commands that hold up nobody: expiries, types
and sizes first, then the values. Where both answer in the same bytes nothing is parsed; values too
large to be read at once are read in chunks. Keys that the target alone has are found by sums over the names
of both servers, so that names are looked up only where the sums differ. How long the servers keep a small question waiting decides how many keys
they are asked for at a time. What differs is looked at again, a moment later, so that a key that expired or
changed between two reads is not taken for a loss.
"""

from __future__ import annotations

import fnmatch
import html
import itertools
import re
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd
import redis
from tqdm.auto import tqdm

from helpers.elasticache.pace import Pace, Waiting
from helpers.elasticache.values import (
    EXPIRY,
    KIND,
    READ,
    READ_STREAM,
    SIZE,
    WHOLE_BYTES,
    changed_meanwhile,
    same,
    same_in_chunks,
    sizes,
)
from helpers.elasticache.wire import (
    TIME,
    Command,
    Pair,
    Wire,
    batches,
    bulks,
    by_database,
    checked,
    databases,
    in_flight,
    milliseconds,
    parsed,
    scan_from,
    shaped,
    shaped_once,
    together,
)

Key = tuple[int, bytes]
# Picks the keys that matter out of some.
Wanted = Callable[[list[bytes]], list[bytes]]

KINDS = ("missing", "extra", "changed", "ttl")
# Others wait for their answers no longer than about so long because of us.
LATENCY_MS = 5.0
# A differing key is looked at so many times in all, with such a pause between.
LOOKS = 3
LOOK_AGAIN_S = 0.2
LOOK_BATCH = 200
CHECKPOINT_S = 1.0
# Values of about so many bytes are asked for at a time.
ASK_BYTES = 512 * 1024
# Values are asked for in sections, by how sure it is that equal ones come in the same bytes: sets and hashes
# that are not small come in any order, and engines write scores in different ways.
STRING, SMALL_HASH, ORDERED_HASH_BYTES = b"string", b"small hash", 512
SECTION = {STRING: 0, b"list": 0, SMALL_HASH: 1, b"hash": 2, b"set": 2, b"zset": 2, b"stream": 2}
READING = READ | READ_STREAM | {SMALL_HASH: READ[b"hash"]}
# A key that is of no type in SECTION is compared in chunks, as is a large one.
LARGE = b"large"
# SCAN names about so many keys at a time: a third of a millisecond of work.
SCAN_COUNT = 256
# The names of a database's keys are summed up in so many sums.
SUMS = 1 << 16
# All keys are named again instead of this share of them, which takes a round trip a SCAN.
MANY_SCANS = 0.25
# PTTL of a key that is not there, and TYPE.
ABSENT, NO_KIND = -2, b"none"
SHOWN = 20


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
        return _comparison(self.kinds, self.compared, self.expired, seconds, numbers)


def _comparison(
    kinds: Mapping[Key, str], compared: int, expired: int, seconds: float, numbers: Iterable[int]
) -> Comparison:
    keys = tuple(sorted(kinds))
    rows = [(database, text(key), kinds[database, key]) for database, key in keys]
    frame = pd.DataFrame(rows, columns=["database", "key", "kind"])
    return Comparison(frame, keys, compared, expired, seconds, tuple(sorted(numbers)))


def compare(
    source: redis.Redis,
    target: redis.Redis,
    *,
    ttl_tolerance_ms: int = 2000,
    batch: int = SCAN_COUNT,
    ignore: Collection[str | bytes] = (),
    progress: bool = True,
    latency_ms: float = LATENCY_MS,
    checkpoint: Callable[[dict[str, Any]], None] | None = None,
    resume: Mapping[str, Any] | None = None,
) -> Comparison:
    """Return how the keys of `target` differ from those of `source`, in all databases.

    An expiry is compared as a point in time on each server's clock, to `ttl_tolerance_ms`. `ignore`
    are glob patterns of keys to leave out, as KEYS takes them. The servers may be nodes of clusters
    that hold the same slots.

    `latency_ms` is how long others may wait for a server because of us, the network's share apart: its answers to
    TIME tell, a hundred times a second. When it takes longer, whoever it is that keeps the server
    busy, we ask for fewer keys at a time (`batch` at most), and then more rarely.

    `checkpoint` is called about once a second with where the comparison is and what it found: plain
    data that JSON can hold. With it as `resume`, and otherwise the same arguments, a comparison goes
    on there, or from the start where a server's process is another one.

    Only reads, with plain commands, so it works while CLIENT PAUSE WRITE is on. Reading a key counts as
    its use on engines before Valkey 7.2, on which LRU eviction decides.
    """
    return compare_shards(
        [(source, target)],
        ttl_tolerance_ms=ttl_tolerance_ms,
        batch=batch,
        ignore=ignore,
        progress=progress,
        latency_ms=latency_ms,
        checkpoint=checkpoint and (lambda states: checkpoint(states[0])),
        resume=resume and [resume],
    )


def compare_shards(
    pairs: Sequence[tuple[redis.Redis, redis.Redis]],
    *,
    ttl_tolerance_ms: int = 2000,
    batch: int = SCAN_COUNT,
    ignore: Collection[str | bytes] = (),
    progress: bool = True,
    latency_ms: float = LATENCY_MS,
    checkpoint: Callable[[list[dict[str, Any]]], None] | None = None,
    resume: Sequence[Mapping[str, Any]] | None = None,
) -> Comparison:
    """Return how the targets of `pairs` (source, target) differ from their sources, all compared at the same time.

    As `compare`, with a list of the states of all pairs for `checkpoint` and `resume`.
    """
    shared = _Shared(progress, checkpoint)
    with shared.bar:
        shared.work = [
            _Comparing(source, target, ttl_tolerance_ms, batch, _wanted(ignore), latency_ms, shared)
            for source, target in pairs
        ]
        for each, state in zip(shared.work, resume or [{}] * len(pairs), strict=True):
            each.prepare(state)
        shared.run()
    return combined([each.result() for each in shared.work])


def combined(comparisons: Sequence[Comparison]) -> Comparison:
    """Return the comparisons of several shards, made at the same time, as one."""
    kinds = {key: kind for each in comparisons for key, kind in zip(each.differing, each.differences["kind"], strict=True)}
    return _comparison(
        kinds,
        sum(each.keys_compared for each in comparisons),
        sum(each.expired for each in comparisons),
        max((each.seconds for each in comparisons), default=0.0),
        {number for each in comparisons for number in each.databases},
    )


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

    Only reads, as `compare`. A key that neither server has is equal.
    """
    began = time.perf_counter()
    wanted, first = by_database(set(keys)), _Findings()
    total = sum(map(len, wanted.values()))
    with _bar(progress, total) as bar, _Look(source, target, ttl_tolerance_ms) as look:
        for number, names in wanted.items():
            for piece in look.at(number, map(Piece, batches(names, batch)), first):
                first.compared += len(piece.keys)
                bar.update(len(piece.keys))
    compared = first.compared
    found = _look_again(source, target, first, ttl_tolerance_ms, were_there=False)
    found.compared = compared
    return found.comparison(time.perf_counter() - began, wanted)


def text(key: bytes) -> str:
    """Return a key as text, with the bytes that are not UTF-8 escaped: b"caf\\xe9" as caf\\\\xe9."""
    return key.decode("utf-8", "backslashreplace")


def _wanted(ignore: Collection[str | bytes]) -> Wanted:
    """Return a function that drops the ignored keys of a list."""
    if not ignore:
        return lambda keys: keys
    patterns = [each.decode("latin-1") if isinstance(each, bytes) else _latin(each) for each in ignore]
    ignored = re.compile("|".join(map(fnmatch.translate, patterns))).match
    return lambda keys: [key for key in keys if not ignored(key.decode("latin-1"))]


def _latin(pattern: str) -> str:
    """Return text as one character a byte, so that patterns match the bytes of keys."""
    return pattern.encode().decode("latin-1")


@dataclass
class Piece:
    """Some keys of one database. `cursor` is where SCAN goes on after them, None where more of its reply follow."""

    keys: Sequence[bytes]
    cursor: bytes | None = None
    bulks: list[bytes] = field(default_factory=list)


class _Names:
    """The names of the keys of a database on both servers, as the differences of sums of their 64-bit hashes.

    A sum is equal where both have the same names, and hardly elsewhere: one name too much changes it always,
    several at once leave it alone once in 2**64. Which sums a SCAN of the target counted in is kept, two bytes a key,
    so that only those are made again of which it matters.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._differences = np.zeros(SUMS, np.uint64)
        self._scans: list[tuple[bytes, bytes, np.ndarray[Any, Any]]] = []

    def of_source(self, keys: list[bytes]) -> list[bytes]:
        """Note keys of the source; return those that are wanted."""
        kept = self._wanted(keys)
        hashes = _hashes(kept)
        np.add.at(self._differences, hashes % SUMS, hashes)
        return kept

    def of_target(self, following: bytes, keys: list[bytes]) -> None:
        """Note keys of the target: those of the SCAN after the last, which goes on with `following`."""
        hashes = _hashes(self._wanted(keys))
        sums = hashes % SUMS
        np.subtract.at(self._differences, sums, hashes)
        self._scans.append((self._scans[-1][1] if self._scans else b"0", following, sums.astype(np.uint16)))

    def apart(self) -> Wanted | None:
        """Return what picks the wanted keys that one of the servers alone may have; None when there are none."""
        differs = self._differences != 0
        if not differs.any():
            return None
        return lambda keys: list(itertools.compress(kept := self._wanted(keys), differs[_hashes(kept) % SUMS].tolist()))

    def scans_apart(self) -> list[tuple[bytes, bytes]] | None:
        """Return where the SCANs began and went on that named such keys of the target; None when they are many."""
        differs = self._differences != 0
        found = [(cursor, following) for cursor, following, sums in self._scans if differs[sums].any()]
        return found if len(found) <= MANY_SCANS * len(self._scans) else None


def _hashes(keys: Sequence[bytes]) -> np.ndarray[Any, Any]:
    # The hash of nothing is 0, which would be no difference in a sum.
    return np.fromiter(map(hash, keys), np.int64, len(keys)).view(np.uint64) + np.uint64(1)


class _Stopped(Exception):
    """The comparison of another pair has failed."""


class _Shared:
    """What the comparisons of several pairs have in common: bar, checkpoint, and that one of them failed."""

    def __init__(self, progress: bool, checkpoint: Callable[[list[dict[str, Any]]], None] | None) -> None:
        self.bar = _bar(progress, 0)
        self.checkpoint = checkpoint
        self.work: list[_Comparing] = []
        self._lock = threading.Lock()
        self._stopping = False

    def expect(self, keys: int, done: int) -> None:
        """Note how many keys a comparison has before it, `done` of which it has behind it."""
        self.bar.total += keys
        self.bar.update(done)

    def advance(self, keys: int) -> None:
        """Note that keys were compared. Raises `_Stopped`."""
        with self._lock:
            self.bar.update(keys)
        if self._stopping:
            raise _Stopped

    def save(self) -> None:
        """Give the caller the state of all comparisons."""
        if self.checkpoint is not None:
            with self._lock:
                self.checkpoint([each.saved for each in self.work])

    def run(self) -> None:
        """Run all comparisons at the same time. Raises the error of the first that fails; the others stop."""
        together([each.run for each in self.work], self._stop)

    def _stop(self) -> None:
        self._stopping = True


class _Comparing:
    """The comparison of one pair of servers: where it is and what it has found.

    Of each database it first names the keys of the source and compares them, then those of the target,
    to find what the source has not.
    """

    def __init__(
        self,
        source: redis.Redis,
        target: redis.Redis,
        tolerance_ms: int,
        batch: int,
        wanted: Wanted,
        latency_ms: float,
        shared: _Shared,
    ) -> None:
        self.source, self.target, self.tolerance_ms = source, target, tolerance_ms
        self.batch, self.wanted, self.latency_ms, self.shared = batch, wanted, latency_ms, shared
        self.found = _Findings()
        self.numbers: list[int] = []
        self.saved: dict[str, Any] = {}
        # Database, 0 for the keys of the source or 1 for those of the target, SCAN's cursor.
        self._place: tuple[int, int, bytes] = (0, 0, b"0")
        self._seconds = 0.0
        self._processes: list[str] = []

    def prepare(self, state: Mapping[str, Any]) -> None:
        """Look at the servers and go to where an earlier comparison was, if any."""
        self._processes = [str(client.info("server")["run_id"]) for client in (self.source, self.target)]
        counts = databases(self.source)
        self.numbers = sorted(counts.keys() | databases(self.target).keys())
        if state.get("processes") == self._processes:
            database, turn, cursor = state["place"]
            self._place = (database, turn, cursor.encode())
            self._seconds = state["seconds"]
            kinds = {(number, key.encode("latin-1")): kind for number, key, kind in state["found"]}
            self.found = _Findings(kinds, state["expired"], state["absent"], state["compared"])
        self.saved = self._state()
        self.shared.expect(sum(counts.values()), self.found.compared)

    def run(self) -> None:
        """Compare all that is left to compare."""
        began = time.perf_counter() - self._seconds
        saved = time.perf_counter()
        # Of all keys that the source has named in this database, when it was this comparison that asked for all.
        names: _Names | None = None
        with ExitStack() as opened:
            naming, waiting = (opened.enter_context(Pair(self.source, self.target)) for _ in range(2))
            asking = opened.enter_context(Wire(self.source))
            look = opened.enter_context(_Look(self.source, self.target, self.tolerance_ms))
            pace = Pace([Waiting(waiting.source), Waiting(waiting.target)], self.latency_ms, self.batch)
            for number, turn, cursor in self._places():
                naming.select(number)
                if turn == 0:
                    names = _Names(self.wanted) if cursor == b"0" else None
                    pieces = _pieces(naming.source, names.of_source if names else self.wanted, cursor, pace)
                    done = look.at(number, _noting(pieces, names, naming.target), self.found)
                else:
                    asking.select(number)
                    pieces = _suspects(naming.target, names, pace) if names else _pieces(naming.target, self.wanted, cursor, pace)
                    done = _extras(asking, naming.source, number, pieces, self.found)
                    names = None
                for piece in done:
                    if turn == 0:
                        self.found.compared += len(piece.keys)
                    self.shared.advance(len(piece.keys) if turn == 0 else 0)
                    now = time.perf_counter()
                    if piece.cursor is not None:
                        self._place, self._seconds = _following(number, turn, piece.cursor), now - began
                        if now - saved > CHECKPOINT_S:
                            self.saved, saved = self._state(), now
                            self.shared.save()
                    pace.wait()
        compared = self.found.compared
        self.found = _look_again(self.source, self.target, self.found, self.tolerance_ms, were_there=True)
        self.found.compared = compared + sum(kind == "extra" for kind in self.found.kinds.values())
        self._seconds = time.perf_counter() - began

    def result(self) -> Comparison:
        """Return what was found."""
        return self.found.comparison(self._seconds, self.numbers)

    def _places(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield where to begin with the keys of each database and server that are still to be compared."""
        database, turn, cursor = self._place
        for number in self.numbers:
            for each in (0, 1):
                if (number, each) >= (database, turn):
                    yield number, each, cursor if (number, each) == (database, turn) else b"0"

    def _state(self) -> dict[str, Any]:
        database, turn, cursor = self._place
        return {
            "processes": self._processes,
            "place": [database, turn, cursor.decode()],
            "compared": self.found.compared,
            "expired": self.found.expired,
            "absent": self.found.absent,
            "seconds": self._seconds,
            "found": [[number, key.decode("latin-1"), kind] for (number, key), kind in self.found.kinds.items()],
        }


def _following(number: int, turn: int, cursor: bytes) -> tuple[int, int, bytes]:
    """Return the place after a reply of SCAN, which ends with the cursor 0."""
    return (number, turn, cursor) if cursor != b"0" else (number + turn, 1 - turn, cursor)


def _bar(progress: bool, total: int) -> tqdm[Any]:
    return tqdm(total=total, unit="key", desc="compare", leave=False, file=sys.stdout, disable=not progress)


def _pieces(
    naming: Wire, wanted: Wanted, cursor: bytes, pace: Pace
) -> Iterator[Piece]:
    """Yield all keys of the wire's database from `cursor` on, as many at a time as `pace` says."""
    for following, named in scan_from(naming, cursor, SCAN_COUNT):
        keys = wanted(named)
        # SCAN names a few keys more than it is asked for: they make no piece of their own.
        count = max(1, round(len(keys) / pace.size))
        pieces = [Piece(each) for each in batches(keys, -(-len(keys) // count))] if keys else [Piece(keys)]
        pieces[-1].cursor = following
        yield from pieces


def _noting(pieces: Iterable[Piece], names: _Names | None, target: Wire) -> Iterator[Piece]:
    """Yield `pieces`, noting as many names of the target in `names`, if any, on the way."""
    if names is None:
        yield from pieces
        return
    noted = (names.of_target(*reply) for reply in scan_from(target, b"0", SCAN_COUNT))
    for piece in pieces:
        yield piece
        next(noted, None)
    for _ in noted:
        pass


def _suspects(naming: Wire, names: _Names, pace: Pace) -> Iterator[Piece]:
    """Yield the keys of the target that the source may not have."""
    if apart := names.apart():
        scans = names.scans_apart()
        for cursor, following in scans or ():
            ((reached, keys),) = checked(naming.ask([("SCAN", cursor, "COUNT", SCAN_COUNT)]))
            if reached != following:
                # The table has another size by now, and this was not all.
                scans = None
                break
            yield Piece(apart(keys))
        if scans is None:
            yield from _pieces(naming, apart, b"0", pace)
            return
    yield Piece([], b"0")


def _extras(
    asking: Wire, again: Wire, number: int, pieces: Iterable[Piece], found: _Findings
) -> Iterator[Piece]:
    """Note in `found` the keys of `pieces` that the asked server has not; yield each piece then."""

    def ask(piece: Piece) -> None:
        asking.send(_exists(asking, piece.keys))

    def note(piece: Piece) -> Piece:
        counts = checked(asking.receive(len(_exists(asking, piece.keys))))
        # EXISTS counts a key as often as it is named, as SCAN may name it twice.
        if sum(counts) != len(piece.keys):
            there = checked(again.ask([("EXISTS", key) for key in piece.keys]))
            absent = [key for key, count in zip(piece.keys, there, strict=True) if not count]
            found.kinds.update({(number, key): "extra" for key in absent})
        return piece

    return in_flight(pieces, ask, note)


def _exists(wire: Wire, keys: Sequence[bytes]) -> list[Command]:
    """Return the commands that count which of `keys` exist: in a cluster one for each, as their slots differ."""
    if wire.cluster:
        return [("EXISTS", key) for key in keys]
    return [("EXISTS", *keys)] if keys else []


def _look_again(
    source: redis.Redis, target: redis.Redis, found: _Findings, tolerance_ms: int, *, were_there: bool
) -> _Findings:
    """Return what differs in `found` and, looked at again by reading values, still does.

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
        with _Look(source, target, tolerance_ms) as look:
            for number, names in by_database(found.kinds).items():
                for _ in look.at(number, map(Piece, batches(names, LOOK_BATCH)), again):
                    pass
        again.expired += again.absent
        found = again
    return found


class _Look:
    """A look at keys on both servers: types and sizes first, on the target alone, then values and expiries.

    The source, which has users, is asked for no more than it must be. The two kinds of pipelines have
    connections of their own, so that the servers have the next work before we have dealt with the replies to the last.
    """

    def __init__(self, source: redis.Redis, target: redis.Redis, tolerance_ms: int) -> None:
        self.tolerance_ms = tolerance_ms
        with ExitStack() as opened:
            self.facts = opened.enter_context(Wire(target))
            self.values, self.chunks = (opened.enter_context(Pair(source, target)) for _ in range(2))
            self._opened = opened.pop_all()
        # Keys of one command must share a slot in a cluster.
        self._all_strings_at_once = not (self.values.source.cluster or self.values.target.cluster)

    def __enter__(self) -> _Look:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def at(self, number: int, pieces: Iterable[Piece], found: _Findings) -> Iterator[Piece]:
        """Note in `found` which keys of `pieces`, of one database, differ; yield each piece then."""
        for one in (self.facts, self.values, self.chunks):
            one.select(number)
        sorted_ = in_flight(pieces, self._ask_facts, self._sort)
        parts = (part for some in sorted_ for part in some)
        done = in_flight(parts, self._ask_values, lambda part: self._compare(number, part, found))
        return (piece for piece in done if piece is not None)

    def _ask_facts(self, piece: Piece) -> None:
        piece.bulks = bulks(piece.keys)
        self.facts.send_packed(shaped(piece.bulks, KIND) + shaped(piece.bulks, SIZE))

    def _sort(self, piece: Piece) -> list[_Part]:
        """Return the keys of a piece in parts of at most `ASK_BYTES`, roughly."""
        count = len(piece.keys)
        kinds = checked(self.facts.receive(count))
        return _parts(piece, kinds, sizes(self.facts.receive(count)))

    def _ask_values(self, part: _Part) -> None:
        names = part.piece.bulks
        reads = [
            b"".join([self._read(way, [names[place] for place in places]) for way, places in section.items()])
            for section in part.sections.values()
        ]
        self.values.send_marked(*reads, TIME + shaped(names[part.start : part.end], EXPIRY))

    def _read(self, way: bytes, names: list[bytes]) -> bytes:
        """Return the commands that read values."""
        return shaped_once(names, "MGET") if way == STRING and self._all_strings_at_once else shaped(names, READING[way])

    def _compare(self, number: int, part: _Part, found: _Findings) -> Piece | None:
        """Note the keys that differ by value or expiry; return the piece when this was its last part."""
        keys = part.piece.keys
        unequal: set[int] = set()
        for section in part.sections.values():
            ours, theirs = self.values.receive_marked()
            # An error says nothing of the value, though it be the same one, nor does the nil that MGET has for other types.
            if ours != theirs or ours.startswith(b"-") or b"\r\n-" in ours or STRING in section and b"$-1" in ours:
                unequal.update(self._differing(section, ours, theirs))
        apart = self._compare_expiries(number, part, found)
        for place in part.large:
            if place not in apart and not same_in_chunks(self.chunks, part.kinds[place], keys[place]):
                unequal.add(place)
        found.kinds.update({(number, keys[place]): "changed" for place in unequal - apart})
        return part.piece if part.last else None

    def _differing(self, section: dict[bytes, list[int]], ours: bytes, theirs: bytes) -> Iterator[int]:
        """Yield the places of a section whose values differ. Raises redis.ResponseError when a server refused to tell."""
        ways = [(way, place) for way, places in section.items() for place in places]
        for (way, place), mine, its in zip(ways, self._values(section, ours), self._values(section, theirs), strict=True):
            if mine is None or mine != its and not same(b"hash" if way == SMALL_HASH else way, mine, its):
                yield place

    def _values(self, section: dict[bytes, list[int]], data: bytes) -> list[Any]:
        """Return the values of a section: strings, which come first, may be one reply."""
        strings = len(section.get(STRING, ())) if self._all_strings_at_once else 0
        replies = parsed(data, sum(map(len, section.values())) - max(0, strings - 1))
        if strings:
            replies[:1] = checked(replies[:1])[0]
        return _readable(replies)

    def _compare_expiries(self, number: int, part: _Part, found: _Findings) -> set[int]:
        """Note the keys of a part that are absent or whose expiries differ; return the places of those absent."""
        keys = part.piece.keys
        ours, theirs = map(_expiries, self.values.receive_marked())
        behind_ms = ours[0] - theirs[0]
        left, its_left = ours[1:], theirs[1:]
        its_left[part.absent] = ABSENT
        # Without a TTL the reply is -1, of an absent key -2.
        with_ttl = (left >= 0) & (its_left >= 0)
        moved = np.where(with_ttl, np.abs(left - its_left + behind_ms) > self.tolerance_ms, left != its_left)
        if not moved.any() and ABSENT not in left:
            return set()
        apart = (left == ABSENT) | (its_left == ABSENT)
        places = np.arange(part.start, part.end)
        for place, mine, its in zip(places[apart].tolist(), left[apart].tolist(), its_left[apart].tolist(), strict=True):
            _note_absent(number, keys[place], mine, its, self.tolerance_ms, found)
        found.kinds.update({(number, keys[place]): "ttl" for place in places[moved & ~apart].tolist()})
        return set(places[apart].tolist())


def _readable(replies: list[Any]) -> list[Any]:
    """Return the replies. Raises redis.ResponseError for one that says more than that a key has become another type."""
    for reply in replies:
        if isinstance(reply, redis.ResponseError) and not changed_meanwhile(reply):
            raise reply
    return replies


def _expiries(data: bytes) -> np.ndarray[Any, Any]:
    """Return the replies to TIME, as ms since 1970, and to EXPIRY. Raises redis.ResponseError when one is refused."""
    if data.startswith(b"-") or b"\r\n-" in data:
        checked(parsed(data, data.count(b"\r\n")))
    clock, _, left = data.partition(b"\r\n:")
    # Twenty times as many whole numbers a second as from a reply reader that makes objects of them.
    return np.fromstring(b"%d %b" % (milliseconds(parsed(clock + b"\r\n", 1)[0]), left.replace(b"\r\n:", b" ")), np.int64, sep=" ")


@dataclass
class _Part:
    """Some keys of a piece, those from `start` to `end`, by their places in it: those to be read, by `SECTION` and way
    of reading, and those too large for it. `absent` are those that the target has not, from `start` on.
    """

    piece: Piece
    kinds: list[bytes]
    start: int
    end: int
    sections: dict[int, dict[bytes, list[int]]] = field(default_factory=dict)
    large: list[int] = field(default_factory=list)
    absent: list[int] = field(default_factory=list)
    last: bool = False


def _parts(piece: Piece, kinds: list[bytes], its_sizes: list[int]) -> list[_Part]:
    """Return the keys of a piece in parts of at most `ASK_BYTES`, roughly."""
    ways, starts = kinds, [0, len(kinds)]
    if b"hash" in kinds:
        ways = [SMALL_HASH if kind == b"hash" and size <= ORDERED_HASH_BYTES else kind for kind, size in zip(kinds, its_sizes, strict=True)]
    if sum(its_sizes) > ASK_BYTES or max(its_sizes, default=0) > WHOLE_BYTES:
        ways = [LARGE if size > WHOLE_BYTES and way != NO_KIND else way for way, size in zip(ways, its_sizes, strict=True)]
        reached = np.cumsum([0 if size > WHOLE_BYTES else size for size in its_sizes]) // ASK_BYTES
        starts[1:1] = (np.flatnonzero(np.diff(reached)) + 1).tolist()
    parts = []
    for start, end in itertools.pairwise(starts):
        part = _Part(piece, kinds, start, end)
        for way in sorted(set(ways[start:end]), key=STRING.__ne__):
            places = [place for place in range(start, end) if ways[place] == way]
            if way in SECTION:
                part.sections.setdefault(SECTION[way], {})[way] = places
            elif way == NO_KIND:
                part.absent = [place - start for place in places]
            else:
                part.large += places
        parts.append(part)
    parts[-1].last = True
    return parts


def _note_absent(number: int, key: bytes, left: float, its_left: float, tolerance_ms: int, found: _Findings) -> None:
    """Note a key that a server has not, if only because it expires, by how long (ms) each lets it live on."""
    present = max(left, its_left)
    if present == ABSENT:
        found.absent += 1
    elif 0 <= present <= tolerance_ms:
        found.expired += 1
    else:
        found.kinds[number, key] = "missing" if its_left == ABSENT else "extra"
