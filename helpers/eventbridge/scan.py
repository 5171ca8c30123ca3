"""Run event patterns over millions of events: how many match, which ones, and which field rejects the others."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import sys
import warnings
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from helpers.eventbridge import reader, sources
from helpers.eventbridge.patterns import Pattern, parse
from helpers.eventbridge.projection import COMBINATION, Projection, Tally

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # without ipywidgets the bar is text, which is what a report can keep
    from tqdm.auto import tqdm

BAD_LINES_SHOWN = 20
BEGUN = 16  # parts
# Bytes read by this process, with those about to be, for which machine code is worth its half second, or the eight seconds
# that it takes to compile: less is read sooner without.
WORTH_LOADING, WORTH_COMPILING = 128 * 1024 * 1024, 512 * 1024 * 1024
WORTH_PROCESSES = 64 * 1024 * 1024  # bytes; less is done before other processes have begun


@dataclass(frozen=True)
class ScanResult:
    """What a scan found. `events` were read, `bad` lines were none (counted apart); `matched[i]` events match `patterns[i]`.

    `outcomes` counts events by the places of all patterns that match them (`()`: none). `exact` lines were left to the
    exact matcher, since their decoded fields did not settle them for certain.
    """

    patterns: tuple[Pattern, ...]
    events: int
    bad: int
    exact: int
    matched: tuple[int, ...]
    outcomes: Mapping[tuple[int, ...], int]
    rejected: Mapping[tuple[int, str], int] = field(repr=False)
    kept: Mapping[tuple[int, ...], Sequence[bytes]] = field(repr=False)
    shown_bad: Sequence[tuple[str, str]] = field(repr=False)

    def table(self) -> pd.DataFrame:
        """The patterns with the events that match each, and their share."""
        rows = [(pattern.text, count, count / self.events if self.events else 0.0) for pattern, count in zip(self.patterns, self.matched, strict=True)]
        return pd.DataFrame(rows, columns=["pattern", "matched", "share"])

    def funnel(self, pattern: int = 0) -> pd.DataFrame:
        """Field by field, in the pattern's order: the tests, the events that came so far, and how many the field rejected.

        With `$or`, an event is rejected by the field that ends its last alternative.
        """
        alternatives = self.patterns[pattern].alternatives
        tests = {path: dict.fromkeys(test.source for one in alternatives for test in one.get(path, ())) for one in alternatives for path in one}
        rows, left = [], self.events
        for path in [*tests, *([COMBINATION] if self.rejected.get((pattern, COMBINATION)) else [])]:
            rejected = self.rejected.get((pattern, path), 0)
            rows.append((path, ", ".join(tests.get(path, ())), left, rejected, left - rejected))
            left -= rejected
        return pd.DataFrame(rows, columns=["field", "tests", "events", "rejected", "left"])

    def matching(self, pattern: int = 0, *, alone: bool = False) -> list[dict[str, Any]]:
        """The matching events that were kept, as dictionaries (`scan(..., keep=...)` says how many are); `alone`: those that
        no other pattern matches."""
        return [json.loads(line) for outcome, lines in self.kept.items() if (outcome == (pattern,) if alone else pattern in outcome) for line in lines]

    def bad_lines(self) -> pd.DataFrame:
        """The first bad lines, cut to 200 bytes, and what is wrong with each."""
        return pd.DataFrame(self.shown_bad, columns=["line", "error"])

    @property
    def finding(self) -> str:
        """The result in a sentence."""
        matched = f"{self.matched[0]:,}" if len(self.matched) == 1 else " and ".join(f"{one:,}" for one in self.matched) if len(self.matched) == 2 else f"{self.events - self.outcomes.get((), 0):,}"
        return f"{matched} of {self.events:,} events match" + (f"; {self.bad:,} lines are no events" if self.bad else "")


def scan(patterns: Any, source: Any, *, keep: int = 0, s3: Any = None, cores: int | None = None, compiled: bool | None = None, progress: bool = True) -> ScanResult:
    """Run one pattern (JSON text or object) or a list of them over JSON lines. Every answer is that of `matches`.

    Parameters
    ----------
    patterns : a pattern, or a list of patterns.
    source : a path, a glob, `s3://bucket/key` or `s3://bucket/prefix/`, a list of those, or an iterable of lines (str or bytes).
        `.gz` is unpacked. Lines may also be those of a CloudWatch Logs export or of Firehose (events one behind the other),
        the two ways by which what an archive replays comes into S3. Empty lines are passed over.
    keep : how many matching events to keep for each set of patterns that match together.
    s3 : a boto3 S3 client, for `s3://`.
    cores : processes to use; None for all. Small sources are read by this one.
    compiled : read events in machine code, for which numba is needed (the extra `fast`): two to three times as
        fast, but it is compiled in some eight seconds the first time and loaded in half a second later. None: once this process
        has read so much that it is worth that.
    progress : draw a bar, in bytes.

    Raises `InvalidPattern`, and `RunbookError` where the source is not there. Bad lines are counted, not fatal.

    Example
    -------
    >>> scan({"source": ["aws.ec2"]}, ['{"source": "aws.ec2"}', '{"source": "aws.s3"}'], progress=False).matched
    (1,)
    """
    parsed = tuple(_parsed(one) for one in _listed(patterns))
    parts, size = sources.parts(source, s3)
    cores = cores or os.cpu_count() or 1
    compiled = (_is_worth_loading(size) if compiled is None else compiled) and reader.load()
    begun = list(itertools.islice(parts, BEGUN))  # a source of unknown size is small where it ends soon
    parts = itertools.chain(begun, parts)
    total = Tally()
    with tqdm(total=size or None, unit="B", unit_scale=True, desc="scan", leave=False, file=sys.stdout, disable=not progress) as bar:
        small = cores == 1 or (size < WORTH_PROCESSES if size else len(begun) < BEGUN)
        for tally, length in _here(parsed, keep, compiled, parts) if small else _everywhere(parsed, keep, compiled, parts, cores):
            total.add(tally, keep, BAD_LINES_SHOWN)
            bar.update(length)
            _note_read(length)
    matched: Counter[int] = Counter()
    for outcome, count in total.outcomes.items():
        matched.update(dict.fromkeys(outcome, count))
    return ScanResult(
        patterns=parsed,
        events=sum(total.outcomes.values()),
        bad=total.bad,
        exact=total.exact,
        matched=tuple(matched[number] for number in range(len(parsed))),
        outcomes=dict(total.outcomes),
        rejected=dict(total.rejected),
        kept=total.kept,
        shown_bad=total.bad_lines,
    )


_read = 0  # bytes, by all scans of this process


def _note_read(length: int) -> None:
    global _read
    _read += length


def _is_worth_loading(size: int) -> bool:
    return reader.is_loaded() or _read + size >= (WORTH_LOADING if reader.is_kept() else WORTH_COMPILING)


def _listed(patterns: Any) -> Iterable[Any]:
    return [patterns] if isinstance(patterns, str | bytes | Mapping | Pattern) else patterns


def _parsed(pattern: Any) -> Pattern:
    return parse(pattern.text if isinstance(pattern, Pattern) else pattern)


def _here(patterns: Sequence[Pattern], keep: int, compiled: bool, parts: Iterable[sources.Part]) -> Iterator[tuple[Tally, int]]:
    """What was counted, and the bytes of each part, worked on in this process."""
    projection = Projection(patterns, keep, BAD_LINES_SHOWN, compiled=compiled)
    for part in parts:
        yield Tally(), _count(projection, part)
    yield projection.take(), 0


def _count(projection: Projection, part: sources.Part) -> int:
    """Count a part's events; returns its size in bytes."""
    for block in sources.blocks(part):
        projection.scan(block)
    return part.end - part.start if isinstance(part, sources.Range) else len(part)


def _everywhere(patterns: Sequence[Pattern], keep: int, compiled: bool, parts: Iterable[sources.Part], cores: int) -> Iterator[tuple[Tally, int]]:
    """`_here` over several processes, the tallies in the order of the parts; few parts wait at a time, so memory stays flat."""
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(cores, context, _begin, (patterns, keep, compiled)) as pool:
        waiting: deque[Future[tuple[Tally, int]]] = deque()
        for part in parts:
            waiting.append(pool.submit(_count_there, part))
            if len(waiting) > 2 * cores:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


_there: Projection | None = None  # a process's own


def _begin(patterns: Sequence[Pattern], keep: int, compiled: bool) -> None:
    global _there
    _there = Projection(patterns, keep, BAD_LINES_SHOWN, compiled=compiled and reader.load())


def _count_there(part: sources.Part) -> tuple[Tally, int]:
    length = _count(_there, part)
    return _there.take(), length
