"""The failover check: a primary is made to fail on purpose, and a probe without retries measures how long nobody could write."""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
import time
from collections import Counter
from dataclasses import dataclass

import pandas as pd
import redis
from matplotlib.figure import Figure

from helpers.aws import Aws, RunbookError, effect, planning, wait
from helpers.elasticache.access import Access, open_group
from helpers.elasticache.connections import OURS, key_of_shard
from helpers.elasticache.gap import AROUND, BIN, draw_gap
from helpers.elasticache.groups import AN_HOUR, FAILED_STATES, Group, Member, describe_group, events, group_state
from helpers.elasticache.upgrade import Upgrade

PROBE_EVERY = 0.01  # seconds
PROBE_TIMEOUT = 1.0  # seconds


@dataclass(frozen=True)
class FailoverChecked:
    """A failover on purpose: shard, node that was primary, node that took over, milliseconds without a write, probes, roles, events.

    `timeline` is (milliseconds, probe writes acknowledged in the 10 ms from it), around the gap, which begins at 0.
    """

    shard: str
    before: str
    after: str
    gap_ms: float
    writes: int
    lost: int
    nodes: tuple[tuple[str, str, str, str], ...]
    events: tuple[str, ...]
    timeline: tuple[tuple[float, int], ...] = ()
    note: str = ""

    def table(self) -> pd.DataFrame:
        """The gap, then every node before and after, then the service's events."""
        if self.note:
            return pd.DataFrame({"failover check": [self.note]})
        rows = [
            ("shard", self.shard), ("primary before", self.before), ("primary after", self.after), ("nobody could write for (ms)", f"{self.gap_ms:.0f}"),
            ("probe writes acknowledged", f"{self.writes:,}"), ("of them lost by the failover (replication is asynchronous)", f"{self.lost:,}"),
        ]  # fmt: skip
        rows += [(f"node {name}", f"{was}, then {now}{f' ({what})' if what else ''}") for name, was, now, what in self.nodes]
        return pd.DataFrame(rows + [("event", one) for one in self.events], columns=["failover check", "value"])


    def figure(self) -> Figure | None:
        """Probe writes per 10 ms around the failover; None where none was made."""
        if not self.timeline:
            return None
        return draw_gap(self.timeline, 0, self.gap_ms, title=f"{self.before} failed: nobody could write to its shard for {self.gap_ms:.0f} ms", since="the probe's last write to the failing primary")


@effect()
def check_failover(aws: Aws, upgrade: Upgrade, group: Group) -> FailoverChecked:
    """`fail_over` of a new group, before anybody uses it, where the upgrade asks for it."""
    if not upgrade.moves:
        return FailoverChecked("", "", "", 0.0, 0, 0, (), (), note="not done: the application uses this group")
    return fail_over(aws, group, upgrade.auth_secret, when=upgrade.test_failover)


def fail_over(aws: Aws, group: Group, auth_secret: str = "", *, when: bool = True) -> FailoverChecked:
    """Make the primary of the group's first shard fail (TestFailover) while a probe writes, and wait until the group is whole again.

    A replica takes the primary's place; the failed node is replaced and comes back as a replica. A failed replica is replaced
    likewise, and only its readers notice. AWS allows 15 shards in 24 h. Raises `RunbookError` where no other node took over.
    Source: https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/AutoFailover.html#auto-failover-test
    """
    why = _impossible(group) if when else "not asked for (test_failover)"
    if why:
        return FailoverChecked("", "", "", 0.0, 0, 0, (), (), note=why)
    shard = group.shards[0]
    if planning():
        aws.client("elasticache").test_failover(ReplicationGroupId=group.id, NodeGroupId=shard.id)
        return FailoverChecked(shard.id, "", "", 0.0, 0, 0, (), (), note="known after apply")
    way = open_group(aws, group, auth_secret)
    before, told = _primary(way), len(events(aws, group.id))
    with Probe(way) as probe:
        probe.begin()
        aws.client("elasticache").test_failover(ReplicationGroupId=group.id, NodeGroupId=shard.id)
        wait(f"failover of {group.id}", lambda: _state(aws, group, auth_secret, before), until=("over",), fail=FAILED_STATES, timeout=AN_HOUR, events=lambda: events(aws, group.id))
        probe.end()
    after = describe_group(aws, group.id)
    now = open_group(aws, after, auth_secret)
    primary = _primary(now)
    return FailoverChecked(shard.id, before, primary, probe.gap_ms, probe.writes, probe.lost(now), _nodes(group, after, before, primary), tuple(events(aws, group.id)[told:]), probe.timeline())


def _state(aws: Aws, group: Group, auth_secret: str, before: str) -> str:
    """`over` where another node is the primary and the group is whole again."""
    state = group_state(aws, group.id)
    if state != "available":
        return state
    now = describe_group(aws, group.id)
    if len(now.members) < len(group.members):
        return "replacing the failed node"
    try:
        return "under way" if _primary(open_group(aws, now, auth_secret)) == before else "over"
    except RunbookError:
        return "under way"


def _impossible(group: Group) -> str:
    if group.replicas and group.automatic_failover == "enabled":
        return ""
    return "not possible: the group has no replica with automatic failover, so a failed primary is replaced by an empty node"


def _primary(way: Access) -> str:
    """The id of the node that is the first shard's primary."""
    shard = way.group.shards[0]
    with way.primary(shard, f"{OURS}-failover") as node:
        address = node.connection_pool.connection_kwargs
        return next(one.id for one in shard.members if (one.host, int(one.port)) == (address["host"], address["port"]))


def _nodes(before: Group, after: Group, was: str, now: str) -> tuple[tuple[str, str, str, str], ...]:
    """Each node of the shard: id, role before, role after, what happened to it."""
    then = {one.id: one for one in before.shards[0].members}
    return tuple((one.id, _role(one, was), _role(one, now), "replaced" if one.id == was else "promoted" if one.id == now else "") for one in after.shards[0].members if one.id in then)


def _role(member: Member, primary: str) -> str:
    return "primary" if member.id == primary else "replica"


class Probe:
    """Writes a number every 10 ms to the group's first shard, each once, for as long as the `with` block lasts."""

    def __init__(self, way: Access) -> None:
        self.way, self.shard = way, way.group.shards[0]
        self.key = key_of_shard(self.shard, f"{OURS}:failover")
        self._acknowledged: list[tuple[int, float]] = []  # number, and when in seconds of time.monotonic()
        self._begun = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def writes(self) -> int:
        """Writes acknowledged."""
        return len(self._acknowledged)

    @property
    def gap_ms(self) -> float:
        """The longest time from one acknowledged write to the next, since `begin`."""
        return self._longest()[0] * 1000

    def begin(self) -> None:
        """Wait until half a second of writes is answered, so that a gap has a beginning."""
        self._await_writes(50)
        self._begun = time.monotonic()

    def end(self) -> None:
        """Wait until writes are answered again for as long."""
        self._await_writes(self.writes + 50)

    def _await_writes(self, count: int) -> None:
        wait("the probe's writes", lambda: "answered" if self.writes >= count else "not answered", until=("answered",), timeout=120)

    def timeline(self) -> tuple[tuple[float, int], ...]:
        """Acknowledged writes in bins of 10 ms, in milliseconds from the beginning of the longest gap."""
        gap, ended = self._longest()
        bins = Counter(math.floor((at - ended + gap) * 1000 / BIN) * BIN for _, at in self._acknowledged)
        return tuple((float(at), writes) for at, writes in sorted(bins.items()) if -AROUND <= at <= gap * 1000 + AROUND)

    def _longest(self) -> tuple[float, float]:
        """The longest gap in seconds, and when it ended."""
        times = [at for _, at in self._acknowledged]
        return max(((later - earlier, later) for earlier, later in itertools.pairwise(times) if later > self._begun), default=(0.0, 0.0))

    def lost(self, way: Access) -> int:
        """Acknowledged writes that the new primary does not have; removes the probe's key."""
        with way.shard(self.shard, f"{OURS}-failover") as node:
            kept = {int(number) for number in node.smembers(self.key)}
            node.delete(self.key)
        return len({number for number, _ in self._acknowledged} - kept)

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        node: redis.Redis | None = None
        number = 0
        while not self._stop.wait(PROBE_EVERY):
            try:
                node = node or self._open()
                number += 1
                node.sadd(self.key, number)
                self._acknowledged.append((number, time.monotonic()))
            except (redis.RedisError, RunbookError, OSError):
                with contextlib.suppress(Exception):
                    node and node.close()
                node = None

    def _open(self) -> redis.Redis:
        node = self.way.shard(self.shard, f"{OURS}-probe")
        node.connection_pool.connection_kwargs["socket_timeout"] = PROBE_TIMEOUT
        return node
