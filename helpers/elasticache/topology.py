"""The picture of a group: cluster, shards with their slots, nodes with role, zone, endpoint and memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pandas as pd
import redis
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from helpers.elasticache.access import PRIMARY, REPLICA, ROLES, Access
from helpers.elasticache.groups import Group, Member, Shard
from helpers.elasticache.node_types import MAXMEMORY

MIB = 1 << 20
SHARDS_DRAWN = 8  # more would not be read; AWS allows 500
ALL_SLOTS = "0-16383"
WIDTH, HEIGHT, GAP = 3.1, 1.3, 0.35  # of a node's box and between boxes


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
        """The shards; a cluster outside any replication group is one shard."""
        return self.group.shards or (Shard("", "", self.group.members),)

    def role(self, member: Member) -> str:
        """`primary` or `replica`, as the node itself says, else as AWS does; empty where neither tells."""
        return self.facts[member.id].role if member.id in self.facts else member.role

    @property
    def finding(self) -> str:
        """The topology in a sentence: "1 shard: 1 primary and 1 replica in 2 zones"."""
        roles = Counter(self.role(member) or "node" for shard in self.shards for member in shard.members)
        zones = len({member.zone for shard in self.shards for member in shard.members})
        nodes = [_count(roles[role], role) for role in (PRIMARY, REPLICA, "node") if roles[role]]
        return f"{_count(len(self.shards), 'shard')}: {' and '.join(nodes)} in {_count(zones, 'zone')}"

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
    return f"{number} {noun}{'' if number == 1 else 's'}"


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
        return "A new replica replaces it and copies the primary's data. Reads sent to it fail over to the reader endpoint's other nodes; writes go on."
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
    width = len(shards) * (WIDTH + GAP) + GAP
    drawing = Figure(figsize=(max(1.6 + width * 0.95, 6.5), 1.7 + height * 0.9))
    axes = drawing.subplots()
    for zone in zones:
        axes.add_patch(FancyBboxPatch((-1.45, tops[zone] + 0.08), width + 1.5, deep[zone] * (HEIGHT + GAP) + GAP - 0.16, boxstyle="round,pad=0,rounding_size=0.12", facecolor="0.96", edgecolor="0.7", linestyle=(0, (4, 3))))
        axes.text(-1.35, tops[zone] + deep[zone] * (HEIGHT + GAP) / 2 + GAP / 2, zone.replace("-", "-\n", 2) or "no zone", fontsize=8.5, va="center", color="0.25")
    for column, shard in enumerate(shards):
        _draw_shard(axes, topology, shard, GAP + column * (WIDTH + GAP), tops, height)
    more = f"; {len(topology.shards) - len(shards)} more shards are not drawn" if len(shards) < len(topology.shards) else ""
    kind = f"cluster mode {'enabled' if group.cluster_mode else 'disabled'}, {group.engine} {group.engine_version}, {group.node_type}"
    endpoint = f"{'configuration' if group.cluster_mode else 'primary'} endpoint {group.endpoint}, automatic failover {group.automatic_failover}"
    axes.set_title(f"{group.id} has {topology.finding}{more}\n", loc="left", fontsize=11.5, fontweight="bold")
    axes.annotate(f"{kind}\n{endpoint}", (0, 1), (0, 2), xycoords="axes fraction", textcoords="offset points", fontsize=8.5, va="bottom", color="0.25", linespacing=1.3)
    axes.set_xlim(-1.6, width + 0.2)
    axes.set_ylim(height + 0.15, -0.75)
    axes.set_axis_off()
    return drawing


def _draw_shard(axes: object, topology: Topology, shard: Shard, left: float, tops: dict[str, float], height: float) -> None:
    axes.add_patch(FancyBboxPatch((left - 0.16, -0.05), WIDTH + 0.32, height + 0.1, boxstyle="round,pad=0,rounding_size=0.12", fill=False, edgecolor="0.2", linewidth=1.2))
    axes.text(left + WIDTH / 2, -0.32, f"shard {shard.id}, slots {shard.slots or ALL_SLOTS}".replace("shard , ", ""), ha="center", va="center", fontsize=9.5)
    used: Counter[str] = Counter()
    places = {}
    for member in sorted(shard.members, key=lambda one: (topology.role(one) != PRIMARY, one.id)):
        places[member.id] = tops[member.zone] + GAP + used[member.zone] * (HEIGHT + GAP)
        used[member.zone] += 1
        _draw_node(axes, topology, member, left, places[member.id])
    primary = next((one.id for one in shard.members if topology.role(one) == PRIMARY), "")
    for name, top in places.items():
        if primary and name != primary:
            below = top > places[primary]
            start, end = (places[primary] + HEIGHT, top) if below else (places[primary], top + HEIGHT)
            x = left + WIDTH - 0.3
            axes.annotate("", (x, end), (x, start), arrowprops={"arrowstyle": "-|>", "color": "0.1", "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0})


def _draw_node(axes: object, topology: Topology, member: Member, left: float, top: float) -> None:
    role, known = topology.role(member) or "node", topology.facts.get(member.id)
    first = role == PRIMARY
    axes.add_patch(FancyBboxPatch((left, top), WIDTH, HEIGHT, boxstyle="round,pad=0,rounding_size=0.08", facecolor="0.86" if first else "white", edgecolor="0.1", linewidth=2.2 if first else 1.0))
    axes.text(left + 0.12, top + 0.24, role.upper() if first else role, fontsize=8.5, fontweight="bold" if first else "normal", va="center")
    axes.text(left + WIDTH - 0.12, top + 0.24, f"{known.keys:,} keys" if known else "", fontsize=8, va="center", ha="right", color="0.25")
    axes.text(left + 0.12, top + 0.52, member.id, fontsize=9, va="center", clip_on=True)
    address = f"{member.host}:{member.port}"
    axes.text(left + 0.12, top + 0.78, address if len(address) < 38 else f"{address[:22]}…{address[-14:]}", fontsize=7.5, va="center", color="0.25", family="monospace")
    _draw_memory(axes, topology.group, known, left + 0.12, top + 1.0)


def _draw_memory(axes: object, group: Group, known: NodeFacts | None, left: float, top: float) -> None:
    """The memory in use as a bar, where the node told it."""
    if known is None:
        axes.text(left, top + 0.07, "memory not known: no answer", fontsize=7.5, va="center", color="0.25")
        return
    limit = known.maxmemory or MAXMEMORY.get(group.node_type, 0)
    told = f"{known.used_memory / MIB:,.0f} MiB" + (f" of {limit / MIB:,.0f}" if limit else " used")
    if limit:
        axes.add_patch(FancyBboxPatch((left, top), 1.3, 0.13, boxstyle="square,pad=0", fill=False, edgecolor="0.3", linewidth=0.8))
        axes.add_patch(FancyBboxPatch((left, top), 1.3 * min(known.used_memory / limit, 1), 0.13, boxstyle="square,pad=0", facecolor="0.3", edgecolor="0.3", linewidth=0.8))
    axes.text(left + (1.4 if limit else 0), top + 0.07, told, fontsize=7.5, va="center", color="0.25")
