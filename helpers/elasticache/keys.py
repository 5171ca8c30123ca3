"""Look at the keys of a group without disturbing it: bounded SCANs, random samples, and estimates with their error.

Everything here reads. Commands go out in short pipelines, so that no other client waits long, and every look has a
bound in keys and in seconds. Names of keys are bytes; `shown` writes one for a reader, with long ids cut, because
whoever knows a session's id is that user.
"""

from __future__ import annotations

import functools
import re
import selectors
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import redis
from matplotlib.figure import Figure

from helpers.elasticache.access import Access
from helpers.elasticache.wire import REPLY_TIMEOUT_S, Wire, batches, databases, pack

BATCH = 100  # keys in a pipeline: a millisecond or two of the server's time
COUNT = 100  # what one SCAN call may look at
Z95 = 1.96
KIB, MIB = 1 << 10, 1 << 20
LEAST = 30  # draws from a small database or shard
DESCRIBED = ["key", "type", "encoding", "elements", "bytes", "ttl_s"]
NUMBERS = {"elements", "bytes", "ttl_s"}
Stratum = tuple[int, int]  # shard (its place), database
COUNTING = {"string": "STRLEN", "list": "LLEN", "set": "SCARD", "zset": "ZCARD", "hash": "HLEN", "stream": "XLEN"}
TTL_EDGES = {"< 1 min": 60, "< 1 h": 3600, "< 12 h": 12 * 3600, "< 1 day": 86_400, "< 2 days": 2 * 86_400, "< 1 week": 7 * 86_400, "≥ 1 week": float("inf")}
ID = re.compile(r"(?=[0-9A-Za-z_-]*(?:[0-9]|[a-z][A-Z]|[A-Z][a-z][A-Z]))[0-9A-Za-z_-]{16,}")  # a long word with a digit or of mixed case is taken for an id
HEAD = re.compile(rb"[^:\s]*[:\s]")
PROBE_S = 0.0002


def shown(key: bytes) -> str:
    """A key's name as text: what is not printable escaped, and of ids no more than the first four characters."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        text = key.decode("latin-1")
        text = "".join(one if one.isascii() and one.isprintable() else f"\\x{ord(one):02x}" for one in text)
    text = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    return ID.sub(lambda found: f"{found[0][:4]}…", text) or '""'


def prefix_of(key: bytes) -> str:
    """The part of a key before its first colon (`session:`), else its first word (`SELECT …`), else `(none)`."""
    head = HEAD.match(key)
    return "(none)" if head is None else _prefix(head[0])


@functools.lru_cache(maxsize=10_000)
def _prefix(head: bytes) -> str:
    return shown(head) if head.endswith(b":") else f"{shown(head[:-1])} …"


# -- listing -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Listing:
    """Keys found by SCAN, as (shard, key); `calls` it took, the longest of them in ms, and whether all was seen."""

    pattern: str
    kind: str
    keys: tuple[tuple[int, bytes], ...]
    total: int
    calls: int
    longest_ms: float
    seconds: float
    complete: bool

    def table(self, rows: int = 12) -> pd.DataFrame:
        """The first keys, ids cut."""
        return pd.DataFrame({"key": [shown(key) for _, key in sorted(self.keys, key=lambda one: one[1])[:rows]]})

    @property
    def finding(self) -> str:
        """How many keys there are, and what it took to know."""
        of = f"keys like {self.pattern}" + (f" of type {self.kind}" if self.kind else "")
        end = "all seen" if self.complete else "stopped at the bound"
        return f"{len(self.keys):,} {of} among {self.total:,}; {end}; {self.calls:,} SCAN calls in {self.seconds:.2f} s, the longest {self.longest_ms:.1f} ms"


def list_keys(access: Access, pattern: str = "*", kind: str = "", *, limit: int = 1000, seconds: float = 5.0, database: int = 0) -> Listing:
    """Up to `limit` keys that match a glob `pattern` (and have type `kind`), looked for no longer than `seconds`.

    Source: https://valkey.io/commands/scan/ (a key that stays is returned at least once).
    """
    found: dict[tuple[int, bytes], None] = {}
    calls, longest, complete, total = 0, 0.0, True, 0
    started = time.perf_counter()
    rest = ("MATCH", pattern, "COUNT", COUNT, *(("TYPE", kind) if kind else ()))
    for shard, client in enumerate(access.primaries):
        with Wire(client, database) as wire:
            total += wire.call("DBSIZE")
            for took, keys in _scan_calls(wire, rest):
                calls, longest = calls + 1, max(longest, took)
                found.update(((shard, key), None) for key in keys)
                if len(found) >= limit or time.perf_counter() - started > seconds:
                    complete = False
                    break
    return Listing(pattern, kind, tuple(found)[:limit], total, calls, longest * 1000, time.perf_counter() - started, complete)


def _scan_calls(wire: Wire, rest: Sequence[Any]) -> Iterator[tuple[float, list[bytes]]]:
    """Each SCAN call's seconds and keys; the call that ends the round is told with all others before it."""
    cursor: Any = 0
    while True:
        began = time.perf_counter()
        cursor, keys = wire.call("SCAN", cursor, *rest)
        yield time.perf_counter() - began, keys
        if cursor == b"0":
            return


def examples(access: Access, each: int = 2, *, seconds: float = 5.0) -> pd.DataFrame:
    """A few keys of every type, as `TYPE` and others tell them: time to live, encoding, elements, bytes.

    A type that is not found in `seconds` is left out.
    """
    end, frames = time.perf_counter() + seconds, []
    for kind in COUNTING:
        found = list_keys(access, kind=kind, limit=each, seconds=end - time.perf_counter())
        for shard, client in enumerate(access.primaries):
            with Wire(client) as wire:
                frames.append(describe_keys(wire, [key for place, key in found.keys if place == shard]))
    frame = _together(frames)
    return pd.DataFrame({"key": frame["key"].map(shown), "type": frame["type"], "encoding": frame["encoding"], "elements": frame["elements"], "bytes": frame["bytes"], "TTL": frame["ttl_s"].map(span)})


def describe_keys(wire: Wire, keys: Sequence[bytes]) -> pd.DataFrame:
    """One row a key: key, type, encoding, elements, bytes (MEMORY USAGE), ttl_s (NaN: none).

    A key that vanished meanwhile (deleted, expired, moved to another shard) is left out. Collections are measured by
    five of their elements, as MEMORY USAGE does by default. Source: https://valkey.io/commands/memory-usage/
    """
    rows = [row for batch in batches(list(keys), BATCH) for row in _describe(wire, batch)]
    return pd.DataFrame(rows, columns=DESCRIBED)


def _describe(wire: Wire, keys: Sequence[bytes]) -> Iterator[tuple[Any, ...]]:
    replies = wire.ask([command for key in keys for command in (("TYPE", key), ("PTTL", key), ("MEMORY", "USAGE", key), ("OBJECT", "ENCODING", key))])
    each = [replies[place : place + 4] for place in range(0, len(replies), 4)]
    here = [(key, *answer) for key, answer in zip(keys, each, strict=True) if _is_there(answer)]
    counts = wire.ask([(COUNTING.get(kind.decode(), "EXISTS"), key) for key, kind, *_ in here])
    for (key, kind, ttl, size, encoding), count in zip(here, counts, strict=True):
        if not isinstance(count, Exception):
            yield key, kind.decode(), encoding.decode(), count, size, ttl / 1000 if ttl >= 0 else float("nan")


def _is_there(answer: Sequence[Any]) -> bool:
    """Whether the key is still there. Raises redis.ResponseError for a refusal that is not about this key."""
    for one in answer:
        if isinstance(one, redis.ResponseError) and not str(one).startswith(("MOVED", "ASK", "no such key")):
            raise one
    kind, ttl, size, encoding = answer
    return isinstance(encoding, bytes) and isinstance(size, int) and kind != b"none" and ttl != -2


# -- the biggest ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Biggest:
    """The biggest keys of those that were looked at, in all databases; `looked_at` of `total`."""

    frame: pd.DataFrame  # as `describe_keys`, with stratum (shard, database)
    looked_at: int
    total: int

    def table(self) -> pd.DataFrame:
        """Key, type, encoding, elements, KiB, TTL and database."""
        columns = {"key": self.frame["key"].map(shown), "type": self.frame["type"], "encoding": self.frame["encoding"], "elements": self.frame["elements"]}
        rest = {"KiB": (self.frame["bytes"] / KIB).round(1), "TTL": self.frame["ttl_s"].map(span), "database": [stratum[1] for stratum in self.frame["stratum"]]}
        return pd.DataFrame(columns | rest)

    @property
    def finding(self) -> str:
        """What the biggest keys are, of how many."""
        if self.frame.empty:
            return "There are no keys"
        share = "all" if self.looked_at >= self.total else f"{self.looked_at:,} of"
        return f"The biggest of {share} {self.total:,} keys is {shown(self.frame['key'].iloc[0])}, {self.frame['bytes'].iloc[0] / KIB:,.0f} KiB"


def biggest_keys(access: Access, top: int = 10, *, limit: int = 50_000, seconds: float = 10.0) -> Biggest:
    """The `top` keys by memory of up to `limit` keys, looked for no longer than `seconds`.

    Every key looked at costs the server a few microseconds, and nobody waits for more than one short pipeline.
    """
    strata, end = _strata(access), time.perf_counter() + seconds
    seen: dict[tuple[Stratum, bytes], int] = {}
    for wire, stratum in _each(access, strata):
        for _, keys in _scan_calls(wire, ("COUNT", COUNT)):
            for batch in batches(keys, BATCH):
                sizes = wire.ask([("MEMORY", "USAGE", key) for key in batch])
                seen.update(((stratum, key), size) for key, size in zip(batch, sizes, strict=True) if isinstance(size, int))
            if len(seen) >= limit or time.perf_counter() > end:
                break
    largest = sorted(seen, key=seen.__getitem__, reverse=True)[:top]
    frames = [_described(wire, stratum, [key for place, key in largest if place == stratum]) for wire, stratum in _each(access, strata)]
    return Biggest(_together(frames).nlargest(top, "bytes"), len(seen), sum(strata.values()))


# -- samples and estimates -----------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """A table, and the figure that shows it."""

    frame: pd.DataFrame
    drawing: Figure | None = None

    def table(self) -> pd.DataFrame:
        """The numbers."""
        return self.frame

    def figure(self) -> Figure | None:
        """The picture, where there is one."""
        return self.drawing


@dataclass(frozen=True)
class Sample:
    """Keys drawn at random, each with its stratum (shard, database), and what is needed to estimate the whole.

    `drawn` counts the draws in each stratum, also those whose key vanished meanwhile; `total` its keys; `counted_bytes`
    is what the servers say that keys, values and their tables take.
    """

    frame: pd.DataFrame
    drawn: dict[Stratum, int]
    total: dict[Stratum, int]
    counted_bytes: int

    @property
    def keys(self) -> int:
        """All keys of the group."""
        return sum(self.total.values())

    @property
    def size(self) -> int:
        """How many keys were drawn."""
        return sum(self.drawn.values())

    def estimate(self, values: pd.Series) -> tuple[float, float]:
        """The sum of `values` (one a sampled key) over all keys, and half of its 95 % confidence interval.

        Stratified sampling with replacement: Cochran, Sampling Techniques, 3rd ed., chapter 5.
        """
        total = variance = 0.0
        for stratum, drawn in self.drawn.items():
            mine = values[self.frame["stratum"] == stratum].to_numpy(dtype=float)
            mean = mine.sum() / drawn
            spread = max((mine**2).sum() - drawn * mean**2, 0.0) / max(drawn - 1, 1)
            total += self.total[stratum] * mean
            variance += self.total[stratum] ** 2 * spread / drawn
        return total, Z95 * variance**0.5

    def by_type(self) -> pd.DataFrame:
        """Types: estimated keys with the error, share, mean bytes, and the encodings that the server chose."""
        rows = []
        for kind, mine in self._groups("type"):
            keys, error = self.estimate((self.frame["type"] == kind).astype(float))
            encodings = mine["encoding"].value_counts(normalize=True)
            told = ", ".join(f"{name} {share:.0%}" for name, share in encodings.items())
            rows.append((kind, round(keys), round(error), f"{keys / self.keys:.1%}", round(mine["bytes"].mean()), told))
        return pd.DataFrame(rows, columns=["type", "keys", "±", "share", "mean bytes", "encodings"])

    def by_prefix(self, biggest: Biggest | None = None, top: int = 10) -> View:
        """Prefixes: estimated keys and memory with their errors, and the share without TTL; the rest as one row.

        The `biggest` keys are counted exactly, because a sample sees few of them.
        """
        exact = biggest.frame if biggest is not None else self.frame.iloc[:0]
        known = set(zip(exact["stratum"], exact["key"], strict=True))
        sampled = self.frame["key"].map(prefix_of)
        alone = np.array([(stratum, key) not in known for stratum, key in zip(self.frame["stratum"], self.frame["key"], strict=True)], dtype=bool)
        rest = self.frame["bytes"].where(alone, 0)
        exactly = exact["bytes"].groupby(exact["key"].map(prefix_of)).sum() if len(exact) else pd.Series(dtype=float)
        memory = {name: self.estimate(rest.where(sampled == name, 0))[0] + exactly.get(name, 0) for name in {*sampled, *exactly.index}}
        leading = sorted(memory, key=memory.__getitem__, reverse=True)
        names = {name: (sampled == name, exactly.get(name, 0)) for name in leading[:top]}
        if leading[top:]:
            names[f"{len(leading) - top} others"] = (sampled.isin(leading[top:]), exactly[exactly.index.isin(leading[top:])].sum())
        rows = [self._prefix_row(name, mine, rest, sure) for name, (mine, sure) in names.items()]
        frame = pd.DataFrame(rows, columns=["prefix", "keys", "± keys", "without TTL", "KiB", "± KiB", "types"])
        whole, error = self.estimate(rest)
        return View(frame, _draw_prefixes(frame, whole + exact["bytes"].sum(), error, self))

    def _prefix_row(self, name: str, mine: pd.Series, rest: pd.Series, sure: float) -> tuple[Any, ...]:
        keys, error = self.estimate(mine.astype(float))
        size, doubt = self.estimate(rest.where(mine, 0))
        members = self.frame[mine]
        lasting = f"{members['ttl_s'].isna().mean():.0%}" if len(members) else ""
        return name, round(keys), round(error), lasting, round((size + sure) / KIB, 1), round(doubt / KIB, 1), ", ".join(sorted(set(members["type"])))

    def by_ttl(self) -> View:
        """How long keys still live: estimated keys by time to live, those without one first."""
        lasting, rows, low = self.frame["ttl_s"].isna(), [], 0.0
        rows.append(("no TTL", *self.estimate(lasting.astype(float))))
        for name, high in TTL_EDGES.items():
            rows.append((name, *self.estimate(self.frame["ttl_s"].between(low, high, inclusive="left").astype(float))))
            low = high
        frame = pd.DataFrame([(name, round(keys), round(error), f"{keys / max(self.keys, 1):.1%}") for name, keys, error in rows], columns=["time to live", "keys", "±", "share"])
        return View(frame, _draw_ttl(frame, self))

    def _groups(self, column: str) -> Iterator[tuple[str, pd.DataFrame]]:
        for name in self.frame[column].value_counts().index:
            yield name, self.frame[self.frame[column] == name]


def sample_keys(access: Access, size: int = 2000, *, seconds: float = 10.0) -> Sample:
    """About `size` keys of all shards and databases, drawn at random (RANDOMKEY) for no longer than `seconds`.

    Each draw is independent, so a key may be drawn twice. Source: https://valkey.io/commands/randomkey/
    """
    strata, end = _strata(access), time.perf_counter() + seconds
    everything = sum(strata.values())
    frames, drawn = [], {}
    for wire, stratum in _each(access, strata):
        wanted, drawn[stratum] = max(round(size * strata[stratum] / everything), min(LEAST, size)), 0
        while drawn[stratum] < wanted and (not drawn[stratum] or time.perf_counter() < end):
            keys = [key for key in wire.ask([("RANDOMKEY",)] * min(BATCH, wanted - drawn[stratum])) if key is not None]
            if not keys:
                break
            drawn[stratum] += len(keys)
            frames.append(_described(wire, stratum, keys))
    return Sample(_together(frames), {one: count for one, count in drawn.items() if count}, strata, sum(map(_counted_bytes, access.primaries)))


def _counted_bytes(client: redis.Redis) -> int:
    """The data and the entries of its tables, as MEMORY STATS has them: `dataset.bytes` leaves out what a key costs in its table.

    Source: https://valkey.io/commands/memory-stats/
    """
    with Wire(client) as wire:
        reply = wire.call("MEMORY", "STATS")
    facts = dict(zip(reply[::2], reply[1::2], strict=True))
    tables = [dict(zip(value[::2], value[1::2], strict=True)) for name, value in facts.items() if re.fullmatch(rb"db\.\d+", name)]
    return facts[b"dataset.bytes"] + sum(one[b"overhead.hashtable.main"] for one in tables)


def _strata(access: Access) -> dict[Stratum, int]:
    """The number of keys of each database of each shard's primary."""
    return {(shard, number): keys for shard, client in enumerate(access.primaries) for number, keys in databases(client).items()}


def _each(access: Access, strata: Iterable[Stratum]) -> Iterator[tuple[Wire, Stratum]]:
    """A wire to each stratum in turn."""
    for shard, database in strata:
        with Wire(access.primaries[shard], database) as wire:
            yield wire, (shard, database)


def _together(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The frames as one, with its columns and their kinds also where there are no keys."""
    empty = pd.DataFrame({name: pd.Series(dtype=float if name in NUMBERS else object) for name in [*DESCRIBED, "stratum"]})
    return pd.concat([one for one in frames if len(one)] or [empty], ignore_index=True)


def _described(wire: Wire, stratum: Stratum, keys: Sequence[bytes]) -> pd.DataFrame:
    frame = describe_keys(wire, keys)
    return frame.assign(stratum=pd.Series([stratum] * len(frame), index=frame.index, dtype=object))


# -- KEYS and SCAN -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Blocking:
    """How long `KEYS *` and a round of SCAN took, and how long another client waited meanwhile (ms since the start)."""

    frame: pd.DataFrame
    waits: np.ndarray = field(repr=False)  # rows of: when, how long, both in ms
    phases: dict[str, tuple[float, float]] = field(default_factory=dict)
    finding: str = ""

    def table(self) -> pd.DataFrame:
        """A row for each way of listing all keys."""
        return self.frame

    def figure(self) -> Figure | None:
        """What the other client waited, moment by moment."""
        return _draw_blocking(self) if len(self.waits) else None


def keys_command(access: Access, up_to: int = 50_000) -> Blocking:
    """Measure `KEYS *` next to a round of SCAN on the first shard, while another client asks PING all the time.

    KEYS looks at every key before any other command is served (https://valkey.io/commands/keys/), so it is run only
    where database 0 has no more than `up_to` keys; else the table says so.
    """
    client = access.primaries[0]
    keys = databases(client).get(0, 0)
    if keys > up_to:
        return Blocking(pd.DataFrame({"measured": [f"no: KEYS * would stop this server for its {keys:,} keys, more than {up_to:,}"]}), np.empty((0, 2)))
    with Wire(client) as wire, _Bystander(client) as other:
        began = time.perf_counter()
        phases = {"SCAN": _timed(other, began, lambda: [took for took, _ in _scan_calls(wire, ("COUNT", COUNT))])}
        time.sleep(0.02)
        phases["KEYS *"] = _timed(other, began, lambda: [_keys_call(wire)])
        time.sleep(0.02)
    rows = [(name, len(calls), keys, round(max(calls) * 1000, 2), round(sum(calls) * 1000, 1), round(waited, 2)) for name, (_, calls, waited) in phases.items()]
    frame = pd.DataFrame(rows, columns=["command", "calls", "keys", "longest call (ms)", "all calls (ms)", "another client's longest wait (ms)"])
    blocked, served = frame["longest call (ms)"].iloc[1], frame["longest call (ms)"].iloc[0]
    finding = f"KEYS * held the server for {blocked:.1f} ms on {keys:,} keys; no SCAN call took more than {served:.1f} ms"
    waits = np.array([(at - began, took) for at, took in other.waits]) * 1000
    return Blocking(frame, waits, {name: span for name, (span, *_) in phases.items()}, finding)


def _keys_call(wire: Wire) -> float:
    """The seconds until the first byte of the reply to `KEYS *`: the server answers when it has seen all keys."""
    began = time.perf_counter()
    wire.send_packed(pack(("KEYS", "*")))
    with selectors.DefaultSelector() as answered:
        answered.register(wire.socket, selectors.EVENT_READ)
        answered.select(REPLY_TIMEOUT_S)
    took = time.perf_counter() - began
    (reply,) = wire.receive(1)
    if isinstance(reply, Exception):
        raise reply
    return took


def _timed(other: _Bystander, began: float, work: Any) -> tuple[tuple[float, float], list[float], float]:
    """When `work` was done (ms since `began`), what it returned, and the bystander's longest wait in ms meanwhile."""
    start = time.perf_counter()
    result = work()
    time.sleep(0.002)  # a PING that waits is answered now
    end = time.perf_counter()
    waits = [took for at, took in list(other.waits) if at + took >= start and at <= end]
    return ((start - began) * 1000, (end - began) * 1000), result, max(waits, default=0.0) * 1000


class _Bystander:
    """Another client of the server, which asks PING all the time and notes how long each answer took (seconds)."""

    def __init__(self, client: redis.Redis) -> None:
        self.waits: list[tuple[float, float]] = []
        self._wire, self._stop = Wire(client), threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def _ask(self) -> None:
        while not self._stop.wait(PROBE_S):
            began = time.perf_counter()
            self._wire.ask([("PING",)])
            self.waits.append((began, time.perf_counter() - began))

    def __enter__(self) -> _Bystander:
        self._thread.start()
        time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._wire.close()


# -- figures -------------------------------------------------------------------------------------------


def _draw_prefixes(frame: pd.DataFrame, whole: float, error: float, sample: Sample) -> Figure:
    drawing = Figure(figsize=(9, 1.3 + 0.32 * max(len(frame), 1)))
    axes = drawing.subplots()
    rows = range(len(frame))
    axes.barh(rows, frame["KiB"], xerr=frame["± KiB"], color="0.78", edgecolor="0.2", height=0.66, error_kw={"ecolor": "0.1", "capsize": 3})
    axes.set_yticks(rows, frame["prefix"], fontsize=9)
    axes.invert_yaxis()
    for row, size, doubt, keys in zip(rows, frame["KiB"], frame["± KiB"], frame["keys"], strict=True):
        axes.annotate(f"{keys:,} keys", (size + doubt, row), (5, 0), textcoords="offset points", va="center", fontsize=8, color="0.3")
    axes.set_xlim(left=0)
    axes.margins(x=0.15)
    axes.set_xlabel("memory (KiB), estimated; the line is the 95 % confidence interval")
    axes.set_ylabel("prefix")
    first = f"“{frame['prefix'].iloc[0]}” holds {frame['KiB'].iloc[0] * KIB / max(whole, 1):.0%} of the memory\n" if len(frame) else ""
    axes.set_title(f"{first}{whole / MIB:.1f} ± {error / MIB:.1f} MiB in all, estimated from {sample.size:,} keys; the servers count {sample.counted_bytes / MIB:.1f} MiB", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return drawing


def _draw_ttl(frame: pd.DataFrame, sample: Sample) -> Figure:
    drawing = Figure(figsize=(9, 3.2))
    axes = drawing.subplots()
    bars = axes.bar(range(len(frame)), frame["keys"], yerr=frame["±"], color="0.78", edgecolor="0.2", error_kw={"ecolor": "0.1", "capsize": 3})
    if len(frame):
        bars[0].set(hatch="///", facecolor="white")
    axes.bar_label(bars, labels=frame["share"], padding=3, fontsize=9)
    axes.set_xticks(range(len(frame)), frame["time to live"], fontsize=9)
    axes.set_xlabel("time to live")
    axes.set_ylabel("keys, estimated")
    axes.margins(y=0.18)
    median = sample.frame["ttl_s"].median()
    others = f"half of the others expire within {span(median)}" if median == median else "none of them expires"
    axes.set_title(f"{frame['share'].iloc[0]} of the keys have no TTL; {others}", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return drawing


def span(seconds: float) -> str:
    """A time to live in the unit that a reader wants; NaN is none."""
    if seconds != seconds:
        return "none"
    units = ((86_400, "days"), (3600, "hours"), (60, "minutes"))
    return next((f"{seconds / size:,.0f} {unit}" for size, unit in units if seconds >= 2 * size), f"{seconds:,.0f} s")


def _draw_blocking(blocking: Blocking) -> Figure:
    drawing = Figure(figsize=(9, 3.2))
    axes = drawing.subplots()
    # each wait as wide as it is high: what stood still, and how long
    axes.bar(blocking.waits[:, 0], blocking.waits[:, 1], width=blocking.waits[:, 1], align="edge", color="0.25", edgecolor="0.25", linewidth=0.5)
    top = blocking.waits[:, 1].max()
    for name, (start, end) in blocking.phases.items():
        axes.axvspan(start, end, facecolor="0.92" if name == "SCAN" else "0.8", edgecolor="none", zorder=0)
        axes.annotate(name, ((start + end) / 2, top), (0, 5), textcoords="offset points", ha="center", fontsize=9)
    axes.set_ylim(0, top * 1.18)
    axes.set_xlabel("milliseconds since the start")
    axes.set_ylabel("another client waits (ms)")
    axes.set_title(blocking.finding, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return drawing
