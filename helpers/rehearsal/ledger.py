"""Account for every write that a server acknowledged: which of them are missing from what it holds.

One writer sends every write of a key, each with the key's next sequence number, and the server
answers with the number that the key held just before. So what a key holds says up to which write
the server remembers, and everything acknowledged after that write is lost. A write without an
answer is unknown: it may have been stored or not, and neither is a loss.

A loss is settled when the next write of the key finds it, since that write hides it from every
later look; until then an audit that reads the key counts it. Nothing is counted twice.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

EXAMPLES = 20


@dataclass(frozen=True, slots=True)
class Write:
    """A write that is being sent: its key, sequence number, and the last deletion sent before it."""

    key: str
    sequence: int
    deleted_at: int


@dataclass(frozen=True, slots=True)
class Look:
    """What was acknowledged of a key at one moment: taken before the key is read from the server."""

    key: str
    upto: int
    # Of a counter: how many losses had been settled. Ranges of numbers need none.
    settled: int = 0


@dataclass(slots=True)
class _Key:
    sent: int
    acknowledged: int
    deleted_at: int
    present: bool = False
    # Ranges, first and last included, that are no acknowledged writes, or are known to be lost.
    # As many as there were outages: neighbours are merged.
    uncounted: list[tuple[int, int]] = field(default_factory=list)

    def count(self, after: int, upto: int) -> int:
        """Return how many acknowledged writes have a number above `after`, up to `upto`."""
        if upto <= after:
            return 0
        excluded = sum(max(0, min(last, upto) - max(first, after + 1) + 1) for first, last in self.uncounted)
        return upto - after - excluded

    def exclude(self, first: int, last: int) -> None:
        """Count these numbers no more."""
        merged: list[tuple[int, int]] = []
        for low, high in sorted([*self.uncounted, (first, last)]):
            if merged and low <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
            else:
                merged.append((low, high))
        self.uncounted = merged


@dataclass(slots=True)
class _Counter:
    value: int
    counted: int = 0
    settled: int = 0


class Ledger:
    """The acknowledged writes of one application. Safe to use from several threads.

    `start` is a number above every sequence number that the server may hold from earlier
    applications, such as the time in milliseconds. A missing key that begins with `sessions`
    is a user who is logged out.
    """

    def __init__(self, start: int, sessions: str = "session:") -> None:
        self.start = start
        self._sessions = sessions
        self._lock = threading.Lock()
        self._keys: dict[str, _Key] = {}
        self._counters: dict[str, _Counter] = {}
        self._acknowledged = self._unacknowledged = self._lost = self._missing = 0
        # What the last audit found lost of each key, and whether that is a user logged out.
        self._pending: dict[str, tuple[int, bool]] = {}
        self._settlements: dict[str, int] = {}
        self._examples: dict[str, dict[str, Any]] = {}

    def begin(self, key: str, *, delete: bool = False) -> Write:
        """Give the next write of a key its sequence number, before it is sent."""
        with self._lock:
            state = self._keys.setdefault(key, _Key(self.start, self.start, self.start))
            state.sent += 1
            write = Write(key, state.sent, state.deleted_at)
            if delete:
                state.deleted_at = state.sent
            return write

    def acknowledge(self, write: Write, before: int | None) -> int:
        """Record an answer, with the number that the key held before (None: it was missing).

        Returns the number of acknowledged writes that this showed to be lost.
        """
        with self._lock:
            state = self._keys[write.key]
            position = write.deleted_at if before is None else max(before, self.start)
            lost = state.count(position, state.acknowledged)
            if lost:
                self._settle(write.key, lost, before is None and state.present and self._is_session(write.key))
                self._example(write.key, state.acknowledged, before, lost)
                state.exclude(position + 1, state.acknowledged)
            self._pending.pop(write.key, None)
            state.acknowledged = write.sequence
            state.present = state.deleted_at != write.sequence
            self._acknowledged += 1
            return lost

    def fail(self, write: Write) -> None:
        """Record that no answer came: whether the write was stored is unknown."""
        with self._lock:
            self._keys[write.key].exclude(write.sequence, write.sequence)
            self._unacknowledged += 1

    def counted(self, key: str, value: int) -> int:
        """Record the answer of an INCR. Returns the number of earlier ones that it showed to be lost.

        Increments without an answer may hide as many lost ones: an increment carries no number.
        """
        with self._lock:
            state = self._counters.setdefault(key, _Counter(value - 1))
            lost = min(max(0, state.value - (value - 1)), state.counted)
            if lost:
                self._settle(key, lost, missing=False)
                self._example(key, state.value, value - 1, lost)
                state.settled += 1
            self._pending.pop(key, None)
            state.value = value
            state.counted += 1 - lost
            self._acknowledged += 1
            return lost

    def unanswered(self) -> None:
        """Record a write that carries no number, such as INCR or XACK, and had no answer."""
        with self._lock:
            self._unacknowledged += 1

    def acknowledge_more(self, count: int) -> None:
        """Record answered writes that carry no number; who sends them finds their losses: `settle`, `judge_count`."""
        with self._lock:
            self._acknowledged += count

    def settle(self, key: str, lost: int) -> None:
        """Record that so many acknowledged writes without number are lost for good."""
        with self._lock:
            self._settle(key, lost, missing=False)
            self._pending.pop(key, None)
            self._settlements[key] = self._settlements.get(key, 0) + 1

    def settled(self, key: str) -> int:
        """Return how often losses of a key were settled, for `judge_count`."""
        with self._lock:
            return self._settlements.get(key, 0)

    def judge_count(self, key: str, lost: int, settled: int) -> None:
        """Record how many writes without number an audit found lost, unless they were settled since it looked."""
        with self._lock:
            self._pending.pop(key, None)
            if lost and self._settlements.get(key, 0) == settled:
                self._pending[key] = (lost, False)
                self._example(key, 0, None, lost)

    def look(self, keys: Sequence[str]) -> list[Look]:
        """Return what is acknowledged now of these keys, to be judged by what is read afterwards."""
        with self._lock:
            return [self._look(key) for key in keys]

    def lost(self, look: Look, stored: int | None) -> int:
        """Return how many of the writes acknowledged at the look are missing, without recording it."""
        with self._lock:
            return self._lost_of(look, stored)

    def judge(self, look: Look, stored: int | None) -> int:
        """Record what an audit read of a key after the look. Returns the number of writes that are missing."""
        with self._lock:
            lost = self._lost_of(look, stored)
            if not lost:
                self._pending.pop(look.key, None)
                return 0
            self._pending[look.key] = (lost, stored is None and self._is_session(look.key))
            self._example(look.key, look.upto, stored, lost)
            return lost

    def judge_list(self, look: Look, stored: Sequence[int], whole: bool) -> int:
        """Record what an audit read of a list that holds one element a write, oldest first.

        `whole` says that nothing has been trimmed from its front. Returns the missing writes: those after
        the last element, like `judge`, and holes in the middle, which are settled at once.
        """
        ours = [number for number in stored if number > self.start]
        with self._lock:
            state = self._keys.get(look.key)
            if state is not None and ours:
                low = self.start if whole else ours[0]
                last = min(ours[-1], look.upto)
                found = sum(state.count(number - 1, number) for number in set(ours) if low < number <= last)
                holes = state.count(low, last) - found
                if holes > 0:
                    self._settle(look.key, holes, missing=False)
                    self._example(look.key, look.upto, last, holes)
                    for number in set(range(low + 1, last)).difference(ours):
                        state.exclude(number, number)
        return self.judge(look, stored[-1] if stored else None)

    def forget(self, key: str) -> None:
        """Drop a key that is audited no longer; what is lost of it stays counted."""
        with self._lock:
            lost, missing = self._pending.pop(key, (0, False))
            if lost:
                self._settle(key, lost, missing)
            self._keys.pop(key, None)

    def summary(self) -> dict[str, Any]:
        """Return the totals: acknowledged, lost and unknown writes, users logged out, up to 20 examples."""
        with self._lock:
            pending = self._pending.values()
            return {
                "acknowledged_writes": self._acknowledged,
                "acknowledged_writes_lost": self._lost + sum(lost for lost, _ in pending),
                "unacknowledged_writes": self._unacknowledged,
                "sessions_missing": self._missing + sum(missing for _, missing in pending),
                "lost_keys": list(self._examples.values()),
            }

    def _look(self, key: str) -> Look:
        counter = self._counters.get(key)
        if counter is not None:
            return Look(key, counter.value, counter.settled)
        state = self._keys.get(key)
        return Look(key, state.acknowledged if state else self.start)

    def _lost_of(self, look: Look, stored: int | None) -> int:
        counter = self._counters.get(look.key)
        if counter is not None:
            # A settlement since the look has counted this already.
            behind = look.upto - (stored or 0) if counter.settled == look.settled else 0
            return min(max(0, behind), counter.counted)
        state = self._keys.get(look.key)
        if state is None:
            return 0
        # A key is rightly missing from its last deletion on, even one that is still under way.
        position = state.deleted_at if stored is None else max(stored, self.start)
        return state.count(position, look.upto)

    def _is_session(self, key: str) -> bool:
        return key.startswith(self._sessions)

    def _settle(self, key: str, lost: int, missing: bool) -> None:
        self._lost += lost
        self._missing += missing

    def _example(self, key: str, acknowledged: int, found: int | None, lost: int) -> None:
        if key in self._examples or len(self._examples) < EXAMPLES:
            self._examples[key] = {"key": key, "acknowledged": acknowledged, "found": found, "lost": lost}
