"""Run a fleet: a canary, then waves, so many at once, until too many have failed; every step of it journaled."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Protocol

from helpers.aws.errors import RunbookError
from helpers.fleet import throttling
from helpers.fleet.limits import Limits
from helpers.fleet.record import GOOD, INTERRUPTED, Record
from helpers.fleet.targets import Target
from helpers.runbook.interrupts import handled_by
from helpers.runbook.store import FAILED

LOOK_S = 0.2  # how often the view is drawn and a signal is seen


@dataclass(frozen=True)
class Ended:
    """How one run ended."""

    status: str
    exit_code: int
    error: str = ""

    @classmethod
    def before(cls, error: Exception) -> Ended:
        """How a run ended that an error kept from beginning."""
        return cls("failed", FAILED, str(error) if isinstance(error, RunbookError) else f"{type(error).__name__}: {error}")


class View(Protocol):
    """What shows a fleet while it runs."""

    def update(self, fleet: Fleet) -> None: ...

    def ended(self, fleet: Fleet, target: Target, ended: Ended, duration_s: float) -> None: ...

    def said(self, sentence: str) -> None: ...


class Fleet:
    """A fleet as it runs. `launch(target, run_id)` runs one and returns how it ended; `interrupt(hard)` reaches those that run.

    `where` has the worker of a cluster that each target is on, by the target's number.
    """

    def __init__(
        self, record: Record, mode: str, limits: Limits, launch: Callable[[Target, str], Ended], view: View, *, interrupt: Callable[[bool], None] = lambda hard: None, fresh: bool = False, where: Mapping[int, str] | None = None
    ) -> None:
        self.where: Mapping[int, str] = {} if where is None else where
        self.record, self.mode, self.limits = record, mode, limits
        self.counts: Counter[str] = Counter()
        self.running: dict[Target, float] = {}
        self.waiting: list[tuple[float, Target]] = []
        self.total, self.part, self.stopped = 0, "", ""
        self._launch, self._view, self._interrupt, self._fresh = launch, view, interrupt, fresh
        self._tries: Counter[int] = Counter()
        self._pressed = self._signals = 0

    @property
    def failed(self) -> int:
        """How many have ended otherwise than they should."""
        return sum(count for status, count in self.counts.items() if status not in GOOD)

    def run(self, targets: Sequence[Target]) -> None:
        """Run the targets. What was stopped, and why, is in `stopped`; how each ended, in the record."""
        self.total = len(targets)
        with ThreadPoolExecutor(self.limits.at_once(self.total), "fleet") as pool, handled_by(self._count_signal):
            for name, part in self.limits.split(targets):
                self.part = name
                self.record.journal.write("part", name=name, numbers=[one.number for one in part])
                self._run_part(pool, list(part))
                if name == "canary" and self.failed and not self.stopped:
                    self._stop("the canary failed")
                if self.stopped:
                    break
        self._view.update(self)

    def _run_part(self, pool: ThreadPoolExecutor, queue: list[Target]) -> None:
        """Run a part to its end, or until the fleet is stopped; runs that have begun are always waited for."""
        futures: dict[Future, tuple[Target, str]] = {}
        at_once = self.limits.at_once(self.total)
        while futures or not self.stopped and (queue or self.waiting):
            self._notice_signals()
            self.waiting, due = [one for one in self.waiting if one[0] > time.time()], [target for at, target in self.waiting if at <= time.time()]
            queue[:0] = due
            while queue and len(futures) < at_once and not self.stopped:
                target = queue.pop(0)
                run_id = self.record.begin(target, self.mode, self._fresh)
                self.running[target] = time.time()
                futures[pool.submit(self._one, target, run_id)] = target, run_id
            self._view.update(self)
            if not futures:
                time.sleep(LOOK_S)
            for future in wait(futures, LOOK_S, FIRST_COMPLETED).done:
                self._ended(*futures.pop(future), future.result())
        self.waiting.clear()

    def _one(self, target: Target, run_id: str) -> Ended:
        """In a thread: one run; whatever goes wrong before it begins is how it ended."""
        try:
            return self._launch(target, run_id)
        except Exception as error:
            return Ended.before(error)

    def _ended(self, target: Target, run_id: str, ended: Ended) -> None:
        duration_s = time.time() - self.running.pop(target)
        if self._signals and ended.status not in GOOD:
            ended = Ended(INTERRUPTED, ended.exit_code, ended.error)
        self.record.end(target, self.mode, run_id, ended.status, ended.exit_code, ended.error, duration_s)
        self._tries[target.number] += 1
        if not self.stopped and throttling.throttled(ended.error) and self._tries[target.number] < throttling.TRIES:
            pause = throttling.pause_s(self._tries[target.number])
            self.record.journal.write("throttled", number=target.number, run_id=run_id, pause_s=round(pause, 1))
            self._view.said(f"{target.label}: AWS asked to slow down; again in {pause:.0f} s")
            self.waiting.append((time.time() + pause, target))
            return
        self.counts[ended.status] += 1
        self._view.ended(self, target, ended, duration_s)
        allowed = self.limits.errors_of(self.total)
        if self.failed > allowed and not self.stopped and sum(self.counts.values()) < self.total:
            self._stop(f"{self.failed} failed, and {allowed} may")

    def _stop(self, why: str) -> None:
        self.stopped = why
        self.record.journal.write("stopped", why=why)
        self._view.said(f"Stopped: {why}. Nothing more is begun.")

    # -- Ctrl-C ----------------------------------------------------------------------------------------

    def _count_signal(self, number: int, frame: Any) -> None:
        self._pressed += 1  # the loop acts on it

    def _notice_signals(self) -> None:
        """The first one begins nothing more and interrupts what runs, so that a step can undo a freeze; the second ends it."""
        while self._signals < min(2, self._pressed):
            self._signals += 1
            if self._signals == 1 and not self.stopped:
                self._stop("interrupted; once more ends the runs at once")
            self._interrupt(self._signals > 1)
