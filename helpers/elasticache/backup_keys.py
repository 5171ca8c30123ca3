"""What a backup says of a group's keys, off the live server: prefixes, times to live and the biggest keys, all counted.

Memory is estimated from what the file says of each value (see `helpers.elasticache.rdb`); no value is looked at, and
ids within names are cut when shown.
"""

from __future__ import annotations

import heapq
import re
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO

import pandas as pd

from helpers.aws import Aws, RunbookError
from helpers.elasticache.keys import TTL_EDGES, prefix_of, shown, span
from helpers.elasticache.preflight import split_s3
from helpers.elasticache.rdb import Entry, Facts, read_entries
from helpers.elasticache.snapshots import read_backup

KIB, MIB = 1 << 10, 1 << 20
NO_TTL, ENDED = "no TTL", "ended already"
MOST_PREFIXES = 100_000  # told apart; a key without a common prefix must not fill this machine's memory
REST = "(other prefixes)"
SPANS, EDGES = list(TTL_EDGES), list(TTL_EDGES.values())

Opener = Callable[[], BinaryIO]


@dataclass
class Prefix:
    """The keys of one prefix: how many, estimated bytes in memory, bytes in the file, how many have no TTL, their types."""

    keys: int = 0
    memory: int = 0
    size: int = 0
    lasting: int = 0
    kinds: set[str] = field(default_factory=set)


@dataclass
class BackupKeys:
    """All keys of a backup, summed up: by prefix, by time to live when it was saved, and the biggest by memory."""

    facts: list[Facts] = field(default_factory=list)
    prefixes: dict[str, Prefix] = field(default_factory=dict)
    ttls: Counter[str] = field(default_factory=Counter)
    biggest: list[Entry] = field(default_factory=list)

    @property
    def keys(self) -> int:
        """All keys."""
        return sum(one.keys for one in self.prefixes.values())

    @property
    def memory(self) -> int:
        """Estimated bytes in memory."""
        return sum(one.memory for one in self.prefixes.values())

    @property
    def size(self) -> int:
        """Bytes in the files."""
        return sum(one.size for one in self.prefixes.values())

    @property
    def lasting(self) -> int:
        """Keys without a TTL."""
        return self.ttls[NO_TTL]

    @property
    def saved(self) -> datetime | None:
        """When the first file was saved, UTC; None where it does not say."""
        seconds = [one.saved_s for one in self.facts if one.saved_s]
        return datetime.fromtimestamp(min(seconds), timezone.utc) if seconds else None

    @property
    def finding(self) -> str:
        """The backup in a sentence."""
        if not self.keys:
            return "The backup holds no keys."
        first, most = max(self.prefixes.items(), key=lambda one: one[1].memory)
        when = f", saved {self.saved:%Y-%m-%d %H:%M} UTC by {self.facts[0].server}" if self.saved else ""
        return f"{self.keys:,} keys, about {_bytes(self.memory)} in memory ({_bytes(self.size)} in the backup{when}).\n“{first}” holds {most.memory / self.memory:.0%} of it; {self.lasting / self.keys:.0%} of the keys have no TTL."

    def by_prefix(self, top: int = 10) -> pd.DataFrame:
        """Prefixes by memory: keys, estimated MiB and its share, mean bytes, the share without TTL, types; the rest as one row."""
        ranked = sorted(self.prefixes.items(), key=lambda one: -one[1].memory)
        shown_ones = ranked[:top]
        if ranked[top:]:
            shown_ones.append((f"{len(ranked) - top:,} others", _sum(one for _, one in ranked[top:])))
        rows = [(name, f"{one.keys:,}", f"{one.memory / MIB:,.1f}", f"{one.memory / max(self.memory, 1):.0%}", f"{one.memory / one.keys:,.0f}", f"{one.lasting / one.keys:.0%}", ", ".join(sorted(one.kinds))) for name, one in shown_ones]
        return pd.DataFrame(rows, columns=["prefix", "keys", "MiB", "share", "mean bytes", "without TTL", "types"])

    def by_ttl(self) -> pd.DataFrame:
        """Keys by time to live at the time of the backup, those without one first."""
        names = [NO_TTL, ENDED, *TTL_EDGES]
        rows = [(name, f"{self.ttls[name]:,}", f"{self.ttls[name] / max(self.keys, 1):.1%}") for name in names if name != ENDED or self.ttls[name]]
        return pd.DataFrame(rows, columns=["time to live", "keys", "share"])

    def big_keys(self) -> pd.DataFrame:
        """The biggest keys: type, elements, estimated KiB, share of all memory, TTL when it was saved, database."""
        saved = self.saved.timestamp() if self.saved else 0
        rows = [(shown(one.key), one.kind, f"{one.elements:,}", f"{one.memory / KIB:,.1f}", f"{one.memory / max(self.memory, 1):.1%}", _left(one, saved), one.database) for one in self.biggest]
        return pd.DataFrame(rows, columns=["key", "type", "elements", "KiB", "share", "TTL", "database"])


def read_keys(files: Sequence[tuple[str, Opener]], top: int = 10) -> BackupKeys:
    """The keys of a backup's files (name, and what opens it), one a shard, each read once from front to back."""
    found = BackupKeys()
    for name, opener in files:
        facts = Facts()
        found.facts.append(facts)
        with closing(opener()) as file:
            biggest = _count(read_entries(file, facts, name), facts, found, top)
        found.biggest = heapq.nlargest(top, [*found.biggest, *biggest], key=lambda one: one.memory)
    return found


def _count(entries: Iterator[Entry], facts: Facts, found: BackupKeys, top: int) -> list[Entry]:
    biggest: list[tuple[int, int, Entry]] = []
    for number, one in enumerate(entries):
        name = prefix_of(one.key)
        if name not in found.prefixes and len(found.prefixes) >= MOST_PREFIXES:
            name = REST
        mine = found.prefixes.setdefault(name, Prefix())
        mine.keys += 1
        mine.memory += one.memory
        mine.size += one.size
        mine.lasting += one.expires_ms is None
        mine.kinds.add(one.kind)
        found.ttls[_span_of(one, facts.saved_s)] += 1
        if len(biggest) < top:
            heapq.heappush(biggest, (one.memory, number, one))
        elif one.memory > biggest[0][0]:
            heapq.heapreplace(biggest, (one.memory, number, one))
    return [one for *_, one in biggest]


def _span_of(one: Entry, saved_s: int) -> str:
    if one.expires_ms is None:
        return NO_TTL
    seconds = one.expires_ms / 1000 - saved_s
    return ENDED if seconds < 0 else SPANS[bisect(EDGES, seconds)]


def _left(one: Entry, saved_s: float) -> str:
    return "none" if one.expires_ms is None else span(max(one.expires_ms / 1000 - saved_s, 0))


def _sum(parts: Iterable[Prefix]) -> Prefix:
    whole = Prefix()
    for one in parts:
        whole.keys, whole.memory, whole.size, whole.lasting = whole.keys + one.keys, whole.memory + one.memory, whole.size + one.size, whole.lasting + one.lasting
        whole.kinds |= one.kinds
    return whole


def _bytes(count: float) -> str:
    return f"{count / (MIB * KIB):,.1f} GiB" if count >= MIB * KIB else f"{count / MIB:,.1f} MiB"


def backup_files(where: str, aws: Aws | None, shards: int = 1) -> list[tuple[str, Opener]]:
    """The files of a backup and what opens each: `s3://bucket/key`, or a path; of several shards the first, `...-0001.rdb`.

    Raises `RunbookError` for a file that is not there, is cut off, or is none of these.
    """
    if not where.startswith("s3://"):
        return [(path.name, lambda path=path: path.open("rb")) for path in _paths(where, shards)]
    if aws is None:
        raise RunbookError(f"{where} is in S3, and there is no session to read it with.", "Set sample=False, or name a file on this machine.")
    client = aws.client("s3")
    found = read_backup(aws, *split_s3(where), shards).files
    return [(f"s3://{one.bucket}/{one.key}", lambda one=one: client.get_object(Bucket=one.bucket, Key=one.key)["Body"]) for one in found]


def _paths(where: str, shards: int) -> list[Path]:
    first = Path(where).expanduser()
    stem = re.sub(r"-\d{4}\.rdb$", "", first.name)
    paths = [first] if shards == 1 else [first.with_name(f"{stem}-{number:04}.rdb") for number in range(1, shards + 1)]
    for path in paths:
        if not path.is_file():
            raise RunbookError(f"There is no file {path.name} in {path.parent.name or 'this folder'}.", "Name the backup's file, or s3://bucket/key.")
    return paths
