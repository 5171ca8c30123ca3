"""The changes of a group while it is moved: captured shard by shard from before the backup on, or found again by comparison."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import pandas as pd
import redis

from helpers.aws import Aws, RunbookError, act, planning
from helpers.elasticache import changes as key_changes
from helpers.elasticache import copying
from helpers.elasticache.connections import Key, in_parallel, open_pairs, open_shard
from helpers.elasticache.groups import Group
from helpers.elasticache.upgrade import Upgrade


@dataclass(frozen=True)
class Moved:
    """Keys carried to another group: how (`captured` or `compared`), rounds of (round, keys, seconds), totals."""

    how: str
    rounds: tuple[tuple[int, int, float], ...]
    keys: int
    seconds: float
    note: str = ""

    def table(self) -> pd.DataFrame:
        """The rounds: keys copied and seconds each."""
        if self.note:
            return pd.DataFrame({"catch up": [self.note]})
        rows = [(number, keys, round(seconds, 3)) for number, keys, seconds in self.rounds]
        return pd.DataFrame(rows, columns=["round", "keys copied", "seconds"])


class Changes:
    """The changed keys of `group`, from `begin` on. A capture lives in this process only: after a crash it begins anew."""

    def __init__(self, aws: Aws, upgrade: Upgrade, group: Group) -> None:
        self.aws, self.upgrade, self.group = aws, upgrade, group
        self.complete = False  # true where everything since the backup was captured
        self.streams: list[dict[Key, bytes]] = [{} for _ in group.shards]  # a digest of each stream as it was carried last
        self._captures: list[key_changes.Capture] = []
        self._opened = contextlib.ExitStack()

    @property
    def running(self) -> bool:
        """True while changes are captured."""
        return bool(self._captures)

    @property
    def captures(self) -> list[key_changes.Capture]:
        """The capture of every shard, sound so far. Raises `CaptureLost` (a `RunbookError`) where one missed something."""
        if not self._captures:
            raise RunbookError("No capture is running.", "Resume the run.")
        for capture in self._captures:
            capture.check()
        return self._captures

    @property
    def pending(self) -> int:
        """How many changed keys wait to be carried."""
        return sum(capture.pending for capture in self.captures)

    def begin(self) -> None:
        """Capture from now on; nothing happens in a plan, or where it runs already."""
        if planning() or self.running:
            return
        sources = [self._opened.enter_context(open_shard(self.aws, self.upgrade, self.group, shard, "capture")) for shard in self.group.shards]
        self._captures = [key_changes.Capture(source) for source in sources]
        in_parallel(lambda capture: capture.start(), self._captures)

    def end(self) -> None:
        """Stop capturing."""
        for capture in self._captures:
            capture.stop()
        self._captures = []
        self._opened.close()

    def touched(self) -> set[Key]:
        """The keys changed up to now that are not carried yet, and all streams."""
        for capture in self.captures:
            capture.barrier()
        return {key for capture in self.captures for key in capture.peek() | capture.streams}

    def carry_to(self, target: Group) -> Moved:
        """Bring `target` up to date with the group: replay what was captured, after a full comparison where that has gaps."""
        return act("redis", "RESTORE", target.id, lambda: self.replay(target), source=self.group.id) or Moved("", (), 0, 0.0, "known after apply")

    def replay(self, target: Group) -> Moved:
        """`carry_to` as part of something that is recorded already: all shards at once."""
        self.begin()
        how = "captured" if self.complete else "compared"
        with open_pairs(self.aws, self.upgrade, self.group, target, "copy") as pairs:
            carried = in_parallel(self._replay_shard, range(len(pairs)), pairs)
        self.complete = True
        rounds: dict[int, tuple[int, float]] = {}
        for number, keys, seconds in (one for shard in carried for one in shard):
            so_far = rounds.get(number, (0, 0.0))
            rounds[number] = (so_far[0] + keys, max(so_far[1], seconds))
        listed = tuple((number, keys, seconds) for number, (keys, seconds) in sorted(rounds.items()))
        return Moved(how, listed, sum(keys for _, keys, _ in listed), sum(seconds for _, _, seconds in listed))

    def _replay_shard(self, number: int, pair: tuple[redis.Redis, redis.Redis]) -> list[tuple[int, int, float]]:
        """Carry one shard's changes; returns its rounds."""
        (source, sink), capture, rounds = pair, self.captures[number], []
        if not self.complete:
            copied = copying.resync(source, sink, ttl_tolerance_ms=50)
            rounds.append((0, copied.keys, copied.seconds))
        caught = copying.catch_up(capture, source, sink)
        if not caught.reached:
            raise RunbookError(f"The application changes keys of {self.group.id} faster than they can be copied: {caught.pending:,} are left.", "Resume at a quieter time.")
        self.streams[number] = copying.copy_streams(source, sink, capture.streams)
        return rounds + [(place, one.keys, one.seconds) for place, one in enumerate(caught.rounds, 1)]
