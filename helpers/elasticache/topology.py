"""The picture of a group: cluster, shards with their slots, nodes with role, zone, endpoint and memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import redis
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from helpers.elasticache.access import PRIMARY, REPLICA, ROLES, Access
from helpers.elasticache.groups import Group, Member, Shard
from helpers.elasticache.node_types import MAXMEMORY

MIB = 1 << 20
SHARDS_DRAWN = 8  # more would not be read; AWS allows 500
ALL_SLOTS = "0-16383"
NO_ROLE = "node whose role is not known"
WIDTH, HEIGHT, GAP, LANE = 3.3, 1.3, 0.35, 0.2  # of a node's box, between boxes, and for the arrows
LABEL, HEADING, SCALE = 1.5, 1.3, 1.0  # left of the shards, above them; inches a unit
ADDRESS = 43  # characters that fit into a box


@dataclass(frozen=True)
class NodeFacts:
    """What a node says of itself: role, keys, and bytes used of `maxmemory` (0: no limit of its own)."""

    role: str
    keys: int
    used_memory: int
    maxmemory: int


@dataclass(frozen=True)
class Topology:
    """A group with what its nodes say of themselves, by node id; a node that does not answer has no facts."""

    group: Group
    facts: dict[str, NodeFacts] = field(default_factory=dict)

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The group's shards."""
        return self.group.shards

    def role(self, member: Member) -> str:
        """`primary` or `replica`, as the node itself says, else as AWS does; empty where neither tells."""
        return self.facts[member.id].role if member.id in self.facts else member.role

    @property
    def finding(self) -> str:
        """The topology in a sentence: "1 shard: 1 primary and 1 replica in 2 zones"."""
        roles = Counter(self.role(member) or NO_ROLE for shard in self.shards for member in shard.members)
        zones = len({member.zone for shard in self.shards for member in shard.members})
        *others, last = [_count(roles[role], role) for role in (PRIMARY, REPLICA, NO_ROLE) if roles[role]]
        nodes = f"{', '.join(others)} and {last}" if others else last
        return f"{_count(len(self.shards), 'shard')}: {nodes} in {_count(zones, 'zone')}"

    def table(self) -> pd.DataFrame:
        """A row a node: shard, slots, node, role, zone, endpoint, keys, MiB used."""
        rows = []
        for shard in self.shards:
            for member in sorted(shard.members, key=lambda one: (self.role(one) != PRIMARY, one.id)):
                known = self.facts.get(member.id)
                told = (f"{known.keys:,}", f"{known.used_memory / MIB:,.1f}") if known else ("no answer", "")
                rows.append((shard.id, shard.slots or ALL_SLOTS, member.id, self.role(member), member.zone, f"{member.host}:{member.port}", *told))
        return pd.DataFrame(rows, columns=["shard", "slots", "node", "role", "zone", "endpoint", "keys", "MiB used"])

    def figure(self) -> Figure:
        """`draw` of it."""
        return draw(self.group, self.facts)


def _count(number: int, noun: str) -> str:
    plural = {PRIMARY: "primaries", NO_ROLE: "nodes whose role is not known"}.get(noun, f"{noun}s")
    return f"{number} {noun if number == 1 else plural}"


def describe_topology(access: Access) -> Topology:
    """The group's topology with each node's role, keys and memory, as the nodes tell them (INFO)."""
    found = {member.id: _facts(access, member) for member in access.group.members}
    return Topology(access.group, {name: facts for name, facts in found.items() if facts})


def _facts(access: Access, member: Member) -> NodeFacts | None:
    try:
        with access.node(member) as client:
            role, memory, keys = client.info("replication")["role"], client.info("memory"), client.info("keyspace")
    except redis.RedisError:
        return None
    return NodeFacts(ROLES.get(role, role), sum(one["keys"] for one in keys.values()), memory["used_memory"], memory.get("maxmemory", 0))


def what_if(topology: Topology) -> pd.DataFrame:
    """For each node: what happens when it fails, in this very group.

    Source: https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/AutoFailover.html
    """
    rows = [(member.id, topology.role(member), member.zone, _failed(topology, shard, member)) for shard in topology.shards for member in shard.members]
    return pd.DataFrame(rows, columns=["if this fails", "role", "zone", "then"])


def _failed(topology: Topology, shard: Shard, member: Member) -> str:
    replicas = [one for one in shard.members if one.id != member.id and topology.role(one) == REPLICA]
    if topology.role(member) == REPLICA:
        return "A new replica replaces it and copies the primary's data. Writes go on; reads sent to it fail until clients use another node."
    if not replicas:
        return "There is no replica: a new, empty node replaces it. All its sessions and cached queries are lost."
    named = " or ".join(f"{one.id} ({one.zone})" for one in replicas)
    if topology.group.automatic_failover != "enabled":
        return f"Automatic failover is {topology.group.automatic_failover}: it is replaced by a new node, or somebody promotes {named} by hand."
    where = "the configuration endpoint tells clients the new primary" if topology.group.cluster_mode else "the primary endpoint's name leads to it"
    return f"{named} is promoted, {where}, and a new replica replaces the failed node. Writes not yet replicated are lost."


# -- the figure ----------------------------------------------------------------------------------------


def draw(group: Group, facts: dict[str, NodeFacts] | None = None) -> Figure:
    """The group as a picture: a column a shard, a band a zone, a box a node; primaries are grey with a thick frame."""
    topology = Topology(group, facts or {})
    shards = topology.shards[:SHARDS_DRAWN]
    zones = sorted({member.zone for shard in shards for member in shard.members})
    # several nodes of a shard in one zone stand below each other
    deep = {zone: max(sum(member.zone == zone for member in shard.members) for shard in shards) for zone in zones}
    tops, height = {}, 0.0
    for zone in zones:
        tops[zone] = height
        height += deep[zone] * (HEIGHT + GAP) + GAP
    width = len(shards) * (WIDTH + LANE + GAP) + GAP
    drawing = Figure(figsize=((LABEL + width) * SCALE, (HEADING + height) * SCALE))
    axes = drawing.add_axes((0, 0, 1, 1))
    axes.set_xlim(-LABEL, width + 0.1)
    axes.set_ylim(height + 0.1, -HEADING)
    axes.set_axis_off()
    for zone in zones:
        _box(axes, -LABEL + 0.05, tops[zone] + 0.07, LABEL + width, deep[zone] * (HEIGHT + GAP) + GAP - 0.14, facecolor="0.96", edgecolor="0.65", linestyle=(0, (4, 3)))
        axes.text(-LABEL + 0.2, tops[zone] + (deep[zone] * (HEIGHT + GAP) + GAP) / 2, f"zone\n{zone}" if zone else "zone\nnot known", fontsize=9, va="center", color="0.2", linespacing=1.4)
    for column, shard in enumerate(shards):
        _draw_shard(axes, topology, shard, GAP + column * (WIDTH + LANE + GAP), tops, height)
    _head(axes, topology, len(shards))
    return drawing


def _head(axes: Any, topology: Topology, drawn: int) -> None:
    group, missing = topology.group, len(topology.shards) - drawn
    mode, endpoint = ("enabled", "configuration endpoint") if group.cluster_mode else ("disabled", "primary endpoint")
    lines = (
        f"{group.engine} {group.engine_version}, {group.node_type}, cluster mode {mode}, automatic failover {group.automatic_failover}; arrows: replication",
        f"{endpoint} {group.endpoint}" + (f"; {_count(missing, 'more shard')} not drawn" if missing else ""),
    )
    axes.set_title(f"{group.id}: {topology.finding}", loc="left", fontsize=12, fontweight="bold", pad=4)
    for number, line in enumerate(lines):
        axes.text(-LABEL, -HEADING + 0.15 + 0.29 * number, line, fontsize=9, va="center", color="0.25")


def _box(axes: Any, left: float, top: float, width: float, height: float, **style: Any) -> None:
    axes.add_patch(FancyBboxPatch((left, top), width, height, boxstyle="round,pad=0,rounding_size=0.1", **style))


def _draw_shard(axes: Any, topology: Topology, shard: Shard, left: float, tops: dict[str, float], height: float) -> None:
    _box(axes, left - 0.15, -0.52, WIDTH + 0.5, height + 0.57, fill=False, edgecolor="0.2", linewidth=1.3)
    name = f"shard {shard.id}, " if shard.id else ""
    axes.text(left + WIDTH / 2, -0.27, f"{name}slots {shard.slots or ALL_SLOTS}", ha="center", va="center", fontsize=9.5)
    used: Counter[str] = Counter()
    places = {}
    for member in sorted(shard.members, key=lambda one: (topology.role(one) != PRIMARY, one.id)):
        places[member.id] = tops[member.zone] + GAP + used[member.zone] * (HEIGHT + GAP)
        used[member.zone] += 1
        _draw_node(axes, topology, member, left, places[member.id])
    primary = next((one.id for one in shard.members if topology.role(one) == PRIMARY), "")
    lane, right = left + WIDTH + 0.2, left + WIDTH
    for name, top in places.items():
        if primary and name != primary:
            axes.plot([right, lane, lane], [places[primary] + HEIGHT / 2, places[primary] + HEIGHT / 2, top + HEIGHT / 2], color="0.1", linewidth=1.4)
            axes.annotate("", (right, top + HEIGHT / 2), (lane, top + HEIGHT / 2), arrowprops={"arrowstyle": "-|>", "color": "0.1", "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0})


def _draw_node(axes: Any, topology: Topology, member: Member, left: float, top: float) -> None:
    role, known = topology.role(member) or "node", topology.facts.get(member.id)
    first = role == PRIMARY
    _box(axes, left, top, WIDTH, HEIGHT, facecolor="0.86" if first else "white", edgecolor="0.1", linewidth=2.4 if first else 1.1)
    axes.text(left + 0.14, top + 0.24, role.upper() if first else role, fontsize=9, fontweight="bold" if first else "normal", va="center")
    axes.text(left + WIDTH - 0.14, top + 0.24, f"{known.keys:,} keys" if known else "", fontsize=8.5, va="center", ha="right", color="0.2")
    axes.text(left + 0.14, top + 0.53, member.id, fontsize=9.5, va="center", clip_on=True)
    address = f"{member.host}:{member.port}"
    axes.text(left + 0.14, top + 0.79, address if len(address) <= ADDRESS else f"{address[: ADDRESS - 16]}…{address[-15:]}", fontsize=8, va="center", color="0.2", family="monospace")
    _draw_memory(axes, topology.group, known, left + 0.14, top + 1.0)


def _draw_memory(axes: Any, group: Group, known: NodeFacts | None, left: float, top: float) -> None:
    """The memory in use as a bar, where the node told it."""
    if known is None:
        axes.text(left, top + 0.07, "no answer: memory not known", fontsize=8, va="center", color="0.2")
        return
    limit = known.maxmemory or MAXMEMORY.get(group.node_type, 0)
    told = f"{known.used_memory / MIB:,.0f} MiB" + (f" of {limit / MIB:,.0f}" if limit else " used")
    for width, style in ((1.2, {"fill": False}), (1.2 * min(known.used_memory / limit, 1) if limit else 0, {"facecolor": "0.25"})):
        if limit:
            axes.add_patch(Rectangle((left, top), width, 0.14, edgecolor="0.25", linewidth=0.8, **style))
    axes.text(left + (1.3 if limit else 0), top + 0.07, told, fontsize=8, va="center", color="0.2")
