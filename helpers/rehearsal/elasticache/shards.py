"""Plan the shards of a group with cluster mode enabled: their slots, members and zones.

Source: AWS, CreateReplicationGroup and NodeGroupConfiguration.
"""

from __future__ import annotations

import binascii
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from helpers.rehearsal.elasticache.answers import not_offered
from helpers.rehearsal.elasticache.api import Fault

SLOTS = 16384
MOST_REPLICAS = 5
# What one machine is asked to run; AWS has 500 nodes a cluster.
MOST_NODES = 36

InvalidValue = "InvalidParameterValueException"
InvalidCombination = "InvalidParameterCombinationException"


@dataclass(frozen=True)
class Shard:
    """One node group as it was asked for: its id ("0001"), slots ("0-5461") and zones, the primary's first."""

    id: str
    slots: str
    zones: tuple[str, ...]

    def member_ids(self, group_id: str) -> list[str]:
        """Return the ids of the member clusters: "<group>-0001-001" and so on."""
        return [member_id(group_id, self.id, number) for number in range(1, len(self.zones) + 1)]

    def describe(self) -> dict[str, Any]:
        """Return the shard as a snapshot remembers it."""
        return {
            "NodeGroupId": self.id,
            "Slots": self.slots,
            "ReplicaCount": len(self.zones) - 1,
            "PrimaryAvailabilityZone": self.zones[0],
            "ReplicaAvailabilityZones": list(self.zones[1:]),
        }


def member_id(group_id: str, shard_id: str, number: int) -> str:
    """Return the id of a member cluster."""
    return f"{group_id}-{shard_id}-{number:03d}"


def shard_of(cluster_id: str) -> str:
    """Return the node group id in the id of a member cluster."""
    return cluster_id.split("-")[-2]


def slot_of(key: bytes) -> int:
    """Return the slot of a key, from 0 to 16,383: of the part within the first braces, where there is one."""
    start = key.find(b"{")
    end = key.find(b"}", start + 1) if start >= 0 else -1
    hashed = key[start + 1 : end] if end > start + 1 else key
    return binascii.crc_hqx(hashed, 0) % SLOTS


def slots_in(text: str) -> set[int]:
    """Return the slots of "0-100,205,300-400"; raises ValueError for what is not that."""
    slots: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        found = range(int(first), int(last or first) + 1)
        if not found or not 0 <= found[0] <= found[-1] < SLOTS:
            raise ValueError(part)
        slots.update(found)
    return slots


def slots_as_text(slots: Iterable[int]) -> str:
    """Return slots as AWS writes them: "0-100,205,300-400"."""
    runs: list[list[int]] = []
    for slot in sorted(slots):
        if runs and slot == runs[-1][1] + 1:
            runs[-1][1] = slot
        else:
            runs.append([slot, slot])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def even(count: int) -> list[str]:
    """Return the slots of `count` shards, spread evenly: "0-5461", "5462-10922", "10923-16383"."""
    size, more = divmod(SLOTS, count)
    ends = list(itertools.accumulate(size + (number < more) for number in range(count)))
    return [f"{start}-{end - 1}" for start, end in zip([0, *ends], ends, strict=False)]


def is_asked_for(parameters: dict[str, Any], *, by_parameter_group: bool | None, by_snapshot: bool) -> bool:
    """Return whether a new group has cluster mode enabled; raises what contradicts itself.

    `by_parameter_group` is what the named parameter group says (None: none was named);
    `by_snapshot` whether the backup to restore is one of a group with cluster mode enabled.
    """
    mode = parameters.get("ClusterMode")
    configured = parameters.get("NodeGroupConfiguration") or []
    if mode == "compatible":
        raise not_offered("ClusterMode compatible (a group between both modes)")
    if mode not in (None, "enabled", "disabled"):
        raise Fault(InvalidValue, f"ClusterMode must be enabled, disabled or compatible, not {mode}.")
    several = parameters.get("NumNodeGroups", 1) > 1 or len(configured) > 1 or any("Slots" in one for one in configured)
    wanted = mode == "enabled" or several or bool(by_parameter_group) or (by_snapshot and mode is None)
    if wanted and mode == "disabled":
        raise Fault(InvalidCombination, "ClusterMode is disabled, but shards or a cluster mode parameter group are given.")
    if wanted and by_parameter_group is False:
        if by_snapshot:
            raise _not_into_disabled()
        raise Fault(InvalidCombination, "Cluster mode needs a parameter group with cluster-enabled set to yes.")
    if by_snapshot and not wanted:
        raise _not_into_disabled()
    return wanted


def _not_into_disabled() -> Fault:
    return Fault(
        InvalidCombination,
        "A backup of a group with cluster mode enabled cannot be restored to one with cluster mode disabled.",
    )


def plan(parameters: dict[str, Any], region: str, remembered: Sequence[dict[str, Any]] = ()) -> tuple[Shard, ...]:
    """Return the shards that a request asks for; `remembered` are those of the backup to restore.

    Raises the service's error for shards that do not cover every slot once, or too many nodes.
    """
    configured = parameters.get("NodeGroupConfiguration") or []
    count = parameters.get("NumNodeGroups") or len(configured) or len(remembered) or 1
    if configured and len(configured) != count:
        raise Fault(InvalidCombination, f"NodeGroupConfiguration has {len(configured)} shards for {count} NumNodeGroups.")
    if not configured:
        kept = ("NodeGroupId", "Slots") if "ReplicasPerNodeGroup" in parameters else ("NodeGroupId", "Slots", "ReplicaCount")
        same = [{name: one[name] for name in kept} for one in remembered]
        configured = same if len(same) == count else [{}] * count
    if "NumCacheClusters" in parameters and (count > 1 or "ReplicasPerNodeGroup" in parameters):
        raise Fault(InvalidCombination, "Cluster mode counts replicas by ReplicasPerNodeGroup, not by NumCacheClusters.")
    shards = tuple(
        _shard(one, number, slots, parameters, region)
        for number, (one, slots) in enumerate(zip(configured, _slots(configured), strict=True), 1)
    )
    if len({shard.id for shard in shards}) != count:
        raise Fault(InvalidValue, "Each NodeGroupId can be given once only.")
    nodes = sum(len(shard.zones) for shard in shards)
    if nodes > MOST_NODES:
        raise Fault(InvalidCombination, f"The local cloud runs at most {MOST_NODES} nodes a cluster, not {nodes}.")
    return shards


def _slots(configured: list[dict[str, Any]]) -> list[str]:
    given = [one["Slots"] for one in configured if one.get("Slots")]
    if not given:
        return even(len(configured))
    if len(given) != len(configured):
        raise Fault(InvalidCombination, "Give the slots of every shard, or of none.")
    try:
        sets = [slots_in(text) for text in given]
    except ValueError as error:
        raise Fault(InvalidValue, f"{str(error)!r} is not a range of slots between 0 and {SLOTS - 1}.") from error
    if sum(map(len, sets)) != SLOTS or len(set.union(*sets)) != SLOTS:
        raise Fault(InvalidCombination, f"The slots of all shards must cover 0-{SLOTS - 1} without a gap or an overlap.")
    return [slots_as_text(slots) for slots in sets]


def _shard(one: dict[str, Any], number: int, slots: str, parameters: dict[str, Any], region: str) -> Shard:
    for name in ("PrimaryOutpostArn", "ReplicaOutpostArns"):
        if name in one:
            raise not_offered(name)
    shard_id = one.get("NodeGroupId", f"{number:04d}")
    if not re.fullmatch(r"\d{1,4}", shard_id):
        raise Fault(InvalidValue, f"NodeGroupId must have 1 to 4 digits, not {shard_id!r}.")
    default = parameters.get("ReplicasPerNodeGroup", parameters.get("NumCacheClusters", 1) - 1)
    replicas = one.get("ReplicaCount", default)
    if not 0 <= replicas <= MOST_REPLICAS:
        raise Fault(InvalidValue, f"A shard has 0 to {MOST_REPLICAS} replicas, not {replicas}.")
    return Shard(shard_id.zfill(4), slots, tuple(_zones(one, number, replicas, region)))


def _zones(one: dict[str, Any], number: int, replicas: int, region: str) -> list[str]:
    named = one.get("ReplicaAvailabilityZones") or []
    if named and len(named) != replicas:
        raise Fault(InvalidCombination, f"ReplicaAvailabilityZones names {len(named)} zones for {replicas} replicas.")
    # Primaries of different shards begin in different zones, as AWS spreads them.
    turn = _turn(region, number)
    zones = [one.get("PrimaryAvailabilityZone") or next(turn), *(named or itertools.islice(turn, replicas))]
    if foreign := [zone for zone in zones if not zone.startswith(region)]:
        raise Fault(InvalidValue, f"Availability zone {foreign[0]} is not in {region}.")
    return zones


def _turn(region: str, number: int) -> Iterator[str]:
    return itertools.islice(itertools.cycle(f"{region}{letter}" for letter in "acd"), number - 1, None)


def zones_after(region: str, count: int, taken: Sequence[str]) -> list[str]:
    """Return zones for `count` more replicas of a shard whose nodes are in the taken ones."""
    return list(itertools.islice(_turn(region, len(taken) + 1), count))
