"""What a report must know of a group besides its metrics: node type, reserve, eviction policy, nodes, and where it may go."""

from __future__ import annotations

from dataclasses import dataclass

from helpers.aws import Aws
from helpers.elasticache.capacity.metrics import Node
from helpers.elasticache.groups import Group, describe_group
from helpers.elasticache.node_types import NodeType, node_type, reserved_percent
from helpers.elasticache.parameter_groups import parameters_of

RESERVED, RESERVED_BYTES, POLICY = "reserved-memory-percent", "reserved-memory", "maxmemory-policy"
DEFAULT_POLICY = "volatile-lru"  # https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/ParameterGroups.Engine.html


@dataclass(frozen=True)
class Cluster:
    """A replication group as its capacity depends on it.

    `reserved` is the share of a node's memory that data may not use; `allowed` the node types that it can be changed to,
    None where that is not known.
    """

    name: str
    engine: str
    engine_version: str
    type: NodeType
    nodes: tuple[Node, ...]
    reserved: float = 0.25
    policy: str = DEFAULT_POLICY
    cluster_mode: bool = False
    allowed: frozenset[str] | None = None

    @property
    def shards(self) -> int:
        """How many shards it has."""
        return len({one.shard for one in self.nodes})

    @property
    def usable(self) -> float:
        """Bytes that data may take on a node: its memory less the reserve, which is what the engine calls maxmemory."""
        return self.type.maxmemory * (1 - self.reserved)

    @property
    def has_replicas(self) -> bool:
        """True where a shard has more than one node; AWS tells no roles with cluster mode enabled."""
        return len(self.nodes) > self.shards

    def reserve_on(self, other: NodeType) -> float:
        """The reserve that a node of another type should have: what the group has, and no less than AWS advises for that size."""
        return max(self.reserved, reserved_percent(other.name) / 100)

    def __str__(self) -> str:
        shards = "1 shard" if self.shards == 1 else f"{self.shards} shards"
        return f"{self.name}: {self.engine} {self.engine_version}, {shards}, {len(self.nodes)} nodes {self.type.name} ({self.type.vcpus} vCPUs), {self.reserved:.0%} of the memory reserved"


def describe_cluster(aws: Aws, name: str) -> Cluster:
    """The cluster of a replication group. Raises `RunbookError` where there is none, or its node type is not in the table."""
    group = describe_group(aws, name)
    found = {one: about.get("ParameterValue", "") for one, about in parameters_of(aws, group.parameter_group).items()}
    kind = node_type(group.node_type)
    allowed = aws.client("elasticache").list_allowed_node_type_modifications(ReplicationGroupId=name)
    types = {kind.name, *allowed.get("ScaleUpModifications", []), *allowed.get("ScaleDownModifications", [])}
    policy = found.get(POLICY) or DEFAULT_POLICY
    return Cluster(group.id, group.engine, group.engine_version, kind, _nodes(group), _reserved(found, kind), policy, group.cluster_mode, frozenset(types))


def _nodes(group: Group) -> tuple[Node, ...]:
    return tuple(Node(member.id, shard.id, member.role) for shard in group.shards for member in shard.members)


def _reserved(parameters: dict[str, str], kind: NodeType) -> float:
    """Source: https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/redis-memory-management.html"""
    if parameters.get(RESERVED, "").isdigit():
        return int(parameters[RESERVED]) / 100
    if parameters.get(RESERVED_BYTES, "").isdigit():  # of groups made before March 2017
        return int(parameters[RESERVED_BYTES]) / kind.maxmemory
    return 0.25
