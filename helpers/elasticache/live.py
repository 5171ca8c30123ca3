"""The changes of a group while it is moved: captured from before the backup on, or found again by comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
from redis.exceptions import RedisError

from helpers.aws import RunbookError, act, planning
from helpers.elasticache import changes as key_changes
from helpers.elasticache import clients, copying
from helpers.elasticache.groups import Group

OURS = "runbook"


def open_redis(group: Group, purpose: str, **options: Any) -> Any:
    """A connection to a group's primary endpoint, named so that it is known as ours."""
    return clients.connect(group.host, group.port, name=f"{OURS}-{purpose}", **options)


def open_primary_node(group: Group, purpose: str) -> Any:
    """A connection for much reading: to the primary's own node, one hop less; to the primary endpoint where roles have changed."""
    node = next((member for member in group.members if member.role == "primary"), None)
    if node is not None:
        direct = clients.connect(node.host, node.port, name=f"{OURS}-{purpose}")
        try:
            if direct.info("replication")["role"] == "master":
                return direct
        except RedisError:
            pass  # the node was replaced: the primary endpoint leads to the one that took its place
        direct.close()
    return open_redis(group, purpose)


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

    def __init__(self, group: Group) -> None:
        self.group = group
        self.complete = False  # true where everything since the backup was captured
        self.streams: dict[tuple[int, bytes], bytes] = {}  # a digest of each stream as it was carried last
        self._capture: key_changes.Capture | None = None

    @property
    def running(self) -> bool:
        """True while changes are captured."""
        return self._capture is not None

    @property
    def capture(self) -> key_changes.Capture:
        """The capture, sound so far. Raises `CaptureLost` (a `RunbookError`) where it missed something."""
        if self._capture is None:
            raise RunbookError("No capture is running.", "Resume the run.")
        self._capture.check()
        return self._capture

    def begin(self) -> None:
        """Capture from now on; nothing happens in a plan, or where it runs already."""
        if planning() or self.running:
            return
        capture = key_changes.Capture(open_redis(self.group, "capture"))
        capture.start()
        self._capture = capture

    def end(self) -> None:
        """Stop capturing."""
        if self._capture is not None:
            self._capture.stop()
            self._capture = None

    def carry_to(self, target: Group) -> Moved:
        """Bring `target` up to date with the group: replay what was captured, after a full comparison where that has gaps."""
        return act("redis", "RESTORE", target.id, lambda: self.replay(target), source=self.group.id) or Moved("", (), 0, 0.0, "known after apply")

    def replay(self, target: Group) -> Moved:
        """`carry_to` as part of something that is recorded already."""
        self.begin()
        with open_redis(self.group, "copy") as source, open_redis(target, "copy") as sink:
            rounds: list[tuple[int, int, float]] = []
            how = "captured" if self.complete else "compared"
            if not self.complete:
                copied = copying.resync(source, sink, ttl_tolerance_ms=50)
                rounds.append((0, copied.keys, copied.seconds))
                self.complete = True
            caught = copying.catch_up(self.capture, source, sink)
            if not caught.reached:
                raise RunbookError(f"The application changes keys of {self.group.id} faster than they can be copied: {caught.pending:,} are left.", "Resume at a quieter time.")
            rounds += [(number, one.keys, one.seconds) for number, one in enumerate(caught.rounds, 1)]
            self.streams = copying.copy_streams(source, sink, self.capture.streams)
        return Moved(how, tuple(rounds), sum(keys for _, keys, _ in rounds), sum(seconds for _, _, seconds in rounds))
