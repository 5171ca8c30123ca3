"""Compare two Redis or Valkey servers key by key: every type, every database, every TTL.

A script in each server digests the values of a batch of keys into one digest, so that equal values are
neither sent nor parsed; a batch whose digests differ is digested key by key. The time that the servers
take decides how many keys go into a batch. Where scripts are refused, values are read in pipelines of
short commands, the largest in chunks. What differs is read in that way again, a moment later, so that
a key that expired or changed between two reads is not taken for a loss.
"""

from __future__ import annotations

import fnmatch
import functools
import html
import math
import re
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

import pandas as pd
import redis
from tqdm.auto import tqdm

from helpers.elasticache.digests import differing, digest_command
from helpers.elasticache.pace import Pace
from helpers.elasticache.values import (
    LOOK,
    READ,
    WHOLE_BYTES,
    Seen,
    facts,
    look_packed,
    same,
    same_in_chunks,
    seen,
)
from helpers.elasticache.wire import (
    Command,
    Pair,
    Wire,
    batches,
    by_database,
    checked,
    databases,
    in_flight,
    milliseconds,
    pack_each,
    scan_from,
)

Key = tuple[int, bytes]

KINDS = ("missing", "extra", "changed", "ttl")
# A call keeps a server from others for about so long at most.
LATENCY_MS = 3.0
# SCAN names keys for so many calls at a time: naming a key is that much less work than digesting it.
SCAN_CALLS = 4
# A differing key is looked at so many times in all, with such a pause between.
LOOKS = 3
LOOK_AGAIN_S = 0.2
LOOK_BATCH = 200
CHECKPOINT_S = 1.0
# Where so many of the batches differ, every key is digested by itself at once.
OFTEN = 0.3
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
    batch: int = 512,
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

    `latency_ms` is how long a call may take, the network's share apart; the number of keys of a call,
    `batch` at most, follows from it. Calls get smaller, and then rarer, while others keep a server busy.

    `checkpoint` is called about once a second with where the comparison is and what it found: plain
    data that JSON can hold. With it as `resume`, and otherwise the same arguments, a comparison goes
    on there, or from the start where a server's process is another one.

    Uses EVAL, which waits while CLIENT PAUSE WRITE is on: `compare_keys` does not. Where scripts are
    refused, values are read. Reading a key counts as its use on engines before Valkey 7.2, on which
    LRU eviction decides.
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
    batch: int = 512,
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

    Reads values with plain commands alone, so it works while the source is under CLIENT PAUSE
    WRITE. A key that neither server has is equal.
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


@dataclass
class Piece:
    """Some keys of one database. `cursor` is where SCAN goes on after them, None where more of its reply follow."""

    keys: Sequence[bytes]
    cursor: bytes | None = None
    sent: float = 0.0
    each: bool = False


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
        if len(self.work) == 1:
            self.work[0].run()
            return
        with ThreadPoolExecutor(max(1, len(self.work)), thread_name_prefix="compare") as pool:
            running = [pool.submit(each.run) for each in self.work]
            try:
                wait(running, return_when=FIRST_EXCEPTION)
            finally:
                self._stopping = True
        for error in filter(None, (each.exception() for each in running)):
            if not isinstance(error, _Stopped):
                raise error


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
        wanted: Callable[[list[bytes]], list[bytes]],
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
        began = saved = time.perf_counter()
        before = self._seconds
        with ExitStack() as opened:
            scanning, asking, again = (opened.enter_context(Pair(self.source, self.target)) for _ in range(3))
            pace = Pace(self.latency_ms, self.batch, again.round_trip())
            scripts = not any(isinstance(reply, Exception) for (reply,) in asking.ask_packed(digest_command([], each=False)))
            reading = opened.enter_context(_Look(self.source, self.target, self.tolerance_ms, None if scripts else pace))
            look = _Digested(asking, again, reading, self.tolerance_ms, pace) if scripts else reading
            for number, turn, cursor in self._places():
                for pair in (scanning, asking, again):
                    pair.select(number)
                if turn == 0:
                    pieces = _pieces(scanning.source, self.wanted, pace, cursor, SCAN_CALLS)
                    looked = look.at(number, pieces, self.found)
                else:
                    pieces = _pieces(scanning.target, self.wanted, pace, cursor, 1)
                    looked = _extras(asking.source, again.source, number, pieces, self.found, pace)
                for piece in looked:
                    if turn == 0:
                        self.found.compared += len(piece.keys)
                        self.shared.advance(len(piece.keys))
                    else:
                        self.shared.advance(0)
                    self._seconds = before + time.perf_counter() - began
                    if piece.cursor is not None:
                        self._place = _following(number, turn, piece.cursor)
                        if time.perf_counter() - saved > CHECKPOINT_S:
                            self.saved, saved = self._state(), time.perf_counter()
                            self.shared.save()
                    pace.wait()
        compared = self.found.compared
        self.found = _look_again(self.source, self.target, self.found, self.tolerance_ms, were_there=True)
        self.found.compared = compared + sum(kind == "extra" for kind in self.found.kinds.values())
        self._seconds = before + time.perf_counter() - began

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
    scanning: Wire, wanted: Callable[[list[bytes]], list[bytes]], pace: Pace, cursor: bytes, calls: int
) -> Iterator[Piece]:
    """Yield all keys of the wire's database from `cursor` on, `calls` pieces from each reply of SCAN."""
    for following, named in scan_from(scanning, cursor, lambda: SCAN_CALLS * pace.size):
        keys = wanted(named)
        size = max(1, math.ceil(len(keys) / calls))
        pieces = [Piece(piece) for piece in batches(keys, size)] or [Piece(keys)]
        pieces[-1].cursor = following
        yield from pieces


class _Digested:
    """A look at keys on both servers by digests of their values. What differs is looked at once more at the end."""

    def __init__(self, asking: Pair, again: Pair, look: _Look, tolerance_ms: int, pace: Pace) -> None:
        self.asking, self.again, self.look = asking, again, look
        self.tolerance_ms, self.pace = tolerance_ms, pace
        self._unequal = 0.0

    def at(self, number: int, pieces: Iterable[Piece], found: _Findings) -> Iterator[Piece]:
        """Note in `found` which keys of `pieces`, of one database, differ; yield each piece then."""
        return in_flight(pieces, self._ask, lambda piece: self._note(number, piece, found))

    def _ask(self, piece: Piece) -> None:
        piece.sent, piece.each = self.pace.waited, self._unequal > OFTEN
        self.asking.send_packed(digest_command(piece.keys, each=piece.each))

    def _note(self, number: int, piece: Piece, found: _Findings) -> Piece:
        (ours,), (theirs,) = self.pace.answer(piece.sent, lambda: self.asking.receive(1))
        keys, each, unequal = piece.keys, piece.each, False
        while True:
            if isinstance(ours, Exception) or isinstance(theirs, Exception):
                self._read(number, keys, found)
                break
            result = differing(ours, theirs, self.tolerance_ms, each=each)
            if result.places is None:
                each = unequal = True
            else:
                unequal |= bool(result.places)
                found.kinds.update({(number, keys[place]): "changed" for place in result.places})
                found.absent += result.absent
                self._read(number, [keys[place] for place in result.left], found)
                keys = keys[result.taken :]
                if not keys:
                    break
            (ours,), (theirs,) = self.again.ask_packed(digest_command(keys, each=each))
        self._unequal += 0.1 * (unequal - self._unequal)
        return piece

    def _read(self, number: int, keys: Sequence[bytes], found: _Findings) -> None:
        """Compare keys by reading them: of other types or too large to be digested."""
        if keys:
            for _ in self.look.at(number, [Piece(keys)], found):
                pass


def _extras(
    asking: Wire, again: Wire, number: int, pieces: Iterable[Piece], found: _Findings, pace: Pace
) -> Iterator[Piece]:
    """Note in `found` the keys of `pieces` that the asked server has not; yield each piece then."""

    def ask(piece: Piece) -> None:
        piece.sent = pace.waited
        asking.send(_exists(asking, piece.keys))

    def note(piece: Piece) -> Piece:
        counts = checked(pace.answer(piece.sent, lambda: asking.receive(len(_exists(asking, piece.keys)))))
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
    """A look at keys on both servers that reads their values: types, sizes and expiries first.

    The two kinds of pipelines have connections of their own, so that the servers have the next work
    before we have dealt with the replies to the last.
    """

    def __init__(self, source: redis.Redis, target: redis.Redis, tolerance_ms: int, pace: Pace | None = None) -> None:
        self.tolerance_ms, self.pace = tolerance_ms, pace
        with ExitStack() as opened:
            self.facts, self.values, self.chunks = (opened.enter_context(Pair(source, target)) for _ in range(3))
            self._opened = opened.pop_all()

    def __enter__(self) -> _Look:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def at(self, number: int, pieces: Iterable[Piece], found: _Findings) -> Iterator[Piece]:
        """Note in `found` which keys of `pieces`, of one database, differ; yield each piece then."""
        for pair in (self.facts, self.values, self.chunks):
            pair.select(number)
        looked = in_flight(pieces, self._ask_facts, lambda piece: self._sort(number, piece, found))
        return in_flight(looked, self._ask_values, lambda sorted_: self._compare(number, sorted_, found))

    def _ask_facts(self, piece: Piece) -> None:
        if self.pace is not None:
            piece.sent = self.pace.waited
        self.facts.send_packed(look_packed(piece.keys))

    def _sort(self, number: int, piece: Piece, found: _Findings) -> _Sorted:
        """Note absent keys, other types and expiries; return what is left to be compared by value."""
        keys = piece.keys
        receive = functools.partial(self.facts.receive, 1 + len(LOOK) * len(keys))
        ours, theirs = map(facts, self.pace.answer(piece.sent, receive) if self.pace is not None else receive())
        here, there = milliseconds(ours[0]), milliseconds(theirs[0])
        ahead, tolerance = here - there, self.tolerance_ms
        left_over = _Sorted(piece)
        columns = (each[start::3] for start in (1, 2, 3) for each in (ours, theirs))
        for key, kind, its_kind, left, its_left, size, its_size in zip(keys, *columns, strict=True):
            if kind != its_kind or kind == b"none" or left == -2 or its_left == -2:
                one, other = seen(here, kind, left, size), seen(there, its_kind, its_left, its_size)
                _note_absent_or_other(number, key, one, other, tolerance, found)
                continue
            # Without a TTL the reply is -1.
            if left != its_left if left < 0 or its_left < 0 else abs(left - its_left + ahead) > tolerance:
                found.kinds[number, key] = "ttl"
            if kind not in READ or max(size, its_size) > WHOLE_BYTES:
                left_over.large.append((kind, key))
            else:
                left_over.small.setdefault(kind, []).append(key)
        return left_over

    def _ask_values(self, piece: _Sorted) -> None:
        self.values.send_packed(b"".join([pack_each(keys, READ[kind]) for kind, keys in piece.small.items()]))

    def _compare(self, number: int, piece: _Sorted, found: _Findings) -> Piece:
        """Note the keys whose values differ."""
        unequal: list[bytes] = []
        for kind, keys in piece.small.items():
            ours, theirs = self.values.receive(len(keys))
            if ours != theirs:
                replies = zip(keys, ours, theirs, strict=True)
                unequal += [key for key, one, other in replies if not same(kind, one, other)]
        unequal += [key for kind, key in piece.large if not same_in_chunks(self.chunks, kind, key)]
        found.kinds.update({(number, key): "changed" for key in unequal})
        return piece.piece


@dataclass
class _Sorted:
    """A piece, its keys by how their values are to be compared: `small` ones are read, `large` ones in chunks."""

    piece: Piece
    small: dict[bytes, list[bytes]] = field(default_factory=dict)
    large: list[tuple[bytes, bytes]] = field(default_factory=list)


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
