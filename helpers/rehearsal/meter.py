"""Measure an application's own writes and reads: gaps, a time line in steps of 10 ms, errors by text."""

from __future__ import annotations

import heapq
import re
import threading
import time
from collections import Counter, deque
from typing import Any

STEP_MS = 10
AROUND_MS = 5_000
KEPT_MS = 4 * AROUND_MS
GAP_FLOOR_MS = 5.0
RECENT_GAPS = 2_000
LONGEST_GAPS = 20
KEPT_CHANGES = 20
ERROR_TEXTS = 30

_CLOCK_MS = (time.time() - time.monotonic()) * 1000


def now_ms() -> float:
    """Return the time in Unix milliseconds, from a clock that is never set back."""
    return _CLOCK_MS + time.monotonic() * 1000


class Meter:
    """What one application measured of itself. Times are Unix milliseconds, gaps milliseconds.

    `every_ms` is the time from write to write that the application keeps when nothing hinders it. The shards
    of a cluster are measured each for itself: a gap is the time from one write of a shard to its next.
    """

    def __init__(self, every_ms: float) -> None:
        self._lock = threading.Lock()
        self._every_ms = every_ms
        # When each shard acknowledged its last write, 0 before the first of any.
        self._last_writes = {"": 0.0}
        self._shards: tuple[str, ...] = ("",)
        self._last_read = 0.0
        self._longest_read_gap = 0.0
        self._steps: dict[int, int] = {}
        # Where the time line is kept: around the last change of endpoint, else around the longest gap.
        self._kept: dict[int, int] = {}
        self._kept_around = 0.0
        self._recent_gaps: deque[tuple[float, float]] = deque(maxlen=RECENT_GAPS)
        # Length and start, the shortest of them first: a heap.
        self._longest_gaps: list[tuple[float, float]] = []
        self._longest = (0.0, 0.0)
        self._endpoints: deque[dict[str, Any]] = deque(maxlen=KEPT_CHANGES)
        self._errors: Counter[str] = Counter()
        self._ended = False
        self._reads = {"reads": 0, "stale_reads": 0, "cache_hits": 0, "cache_misses": 0}

    def end(self) -> None:
        """Say that no write will come any more: from now on that is no gap."""
        self._ended = True

    def wrote(self, count: int, endpoint: str, shard: str = "", shards: tuple[str, ...] = ("",)) -> None:
        """Record that writes were acknowledged now, by this endpoint and the one of its shards that has this name."""
        now = now_ms()
        with self._lock:
            if shards != self._shards:
                # A shard not known before has gone unwritten for as long as any.
                oldest = min(self._last_writes.values())
                self._last_writes = {name: self._last_writes.get(name, oldest) for name in shards}
                self._shards = shards
            if self._last_writes[shard]:
                self._note_gap(self._last_writes[shard], now - self._last_writes[shard])
            else:
                self._last_writes = dict.fromkeys(shards, now)
            self._last_writes[shard] = now
            step = int(now) // STEP_MS * STEP_MS
            self._steps[step] = self._steps.get(step, 0) + count
            if len(self._steps) > KEPT_MS // STEP_MS:
                self._drop_old(now)
            change = self._endpoints[-1]
            if not change["first_acknowledged_write"] and change["endpoint"] == endpoint:
                change["first_acknowledged_write"] = round(now)

    def read(self, *, stale: bool, hit: bool) -> None:
        """Record an answered read: whether it was older than what had been acknowledged, and whether the cache had the rows."""
        now = now_ms()
        with self._lock:
            if self._last_read:
                self._longest_read_gap = max(self._longest_read_gap, now - self._last_read)
            self._last_read = now
            self._reads["reads"] += 1
            self._reads["stale_reads"] += stale
            self._reads["cache_hits" if hit else "cache_misses"] += 1

    def moved(self, endpoint: str) -> None:
        """Record that the application uses this endpoint from now on."""
        now = now_ms()
        change = {"endpoint": endpoint, "since": round(now), "first_acknowledged_write": None}
        with self._lock:
            near = [gap for gap in self._recent_gaps if sum(gap) >= now - AROUND_MS]
            started, size = max(near, key=lambda gap: gap[1], default=(now, self._every_ms * len(self._shards)))
            if self._endpoints:
                change |= {"write_gap_ms": round(size, 1), "gap_started": round(started, 1)}
                self._keep_around(now)
            self._endpoints.append(change)

    def failed(self, error: Exception) -> None:
        """Count an error under its text, without the addresses and numbers in it."""
        text = re.sub(r"[0-9]+", "N", str(error))[:200]
        with self._lock:
            known = text in self._errors or len(self._errors) < ERROR_TEXTS
            self._errors[text if known else "other errors"] += 1

    def stalled_ms(self) -> float:
        """Return how long ago the last write was acknowledged, of the shard that waits longest; 0 before the first."""
        with self._lock:
            oldest = min(self._last_writes.values())
        return now_ms() - oldest if oldest else 0.0

    def summary(self) -> dict[str, Any]:
        """Return everything measured, as the report has it (see `helpers.rehearsal.application`)."""
        now = now_ms()
        with self._lock:
            oldest = min(self._last_writes.values())
            if oldest and not self._ended:
                # A gap that is still open counts with what it has.
                self._note_longest(oldest, now - oldest)
            changed = len(self._endpoints) > 1
            last = self._endpoints[-1] if changed else {}
            return {
                "longest_write_gap_ms": round(self._longest[1], 1),
                "write_gap_ms": last.get("write_gap_ms", round(self._longest[1], 1)),
                "gap_started": last.get("gap_started", round(self._longest[0], 1)),
                "gaps": [[round(at, 1), round(size, 1)] for size, at in sorted(self._longest_gaps, reverse=True)],
                "longest_read_gap_ms": round(self._longest_read_gap, 1),
                **self._reads,
                "errors": dict(self._errors),
                "endpoints": [dict(one) for one in self._endpoints],
                "timeline": self._timeline(),
            }

    def _note_gap(self, started: float, size: float) -> None:
        self._note_longest(started, size)
        if size >= GAP_FLOOR_MS * len(self._shards):
            self._recent_gaps.append((started, size))
            heapq.heappush(self._longest_gaps, (size, started))
            if len(self._longest_gaps) > LONGEST_GAPS:
                heapq.heappop(self._longest_gaps)

    def _note_longest(self, started: float, size: float) -> None:
        if size > self._longest[1]:
            # A longer time line is wanted only for a new gap, and only while no change has one.
            if started != self._longest[0] and len(self._endpoints) < 2:
                self._keep_around(started)
            self._longest = (started, size)
        last = self._endpoints[-1] if self._endpoints else {}
        if started <= last.get("since", 0) + AROUND_MS and size > last.get("write_gap_ms", size):
            last |= {"write_gap_ms": round(size, 1), "gap_started": round(started, 1)}

    def _keep_around(self, moment: float) -> None:
        self._kept_around = moment
        self._kept = self._slice(moment)

    def _timeline(self) -> list[list[int]]:
        if self._kept_around:
            self._kept |= self._slice(self._kept_around)
            return _filled(self._kept, self._kept_around)
        return []

    def _slice(self, moment: float) -> dict[int, int]:
        return {step: n for step, n in self._steps.items() if abs(step - moment) <= AROUND_MS}

    def _drop_old(self, now: float) -> None:
        if self._kept_around:
            self._kept |= self._slice(self._kept_around)
        self._steps = {step: n for step, n in self._steps.items() if step > now - KEPT_MS / 2}


def _filled(steps: dict[int, int], around: float) -> list[list[int]]:
    """Return every step from the first to the last, those without a write with 0."""
    if not steps:
        return []
    until = min(int(now_ms()), int(around) + AROUND_MS) // STEP_MS * STEP_MS
    return [[step, steps.get(step, 0)] for step in range(min(steps), max(until, max(steps)) + 1, STEP_MS)]
