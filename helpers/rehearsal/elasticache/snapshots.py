"""Keep the snapshots: real RDB files, with what the service remembers about where they came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from helpers.rehearsal.elasticache import catalogue
from helpers.rehearsal.elasticache.api import Fault
from helpers.rehearsal.elasticache.groups import Group
from helpers.rehearsal.elasticache.nodes import NODE_ID, Node

# Source: AWS, "Backup constraints": 20 manual backups per node in 24 hours.
QUOTA = 20
QUOTA_WINDOW = timedelta(hours=24)


@dataclass
class Part:
    """What a snapshot has of one node group: facts about the node that saved it, and the file."""

    node: dict[str, Any]
    file: Path
    size: int = 0


@dataclass
class Snapshot:
    """One snapshot; `origin` repeats the settings of the group that it was taken of."""

    name: str
    origin: dict[str, Any]
    parts: list[Part]
    status: str = "creating"
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def files(self) -> list[Path]:
        """Return the RDB files, one a node group, in the order of the node groups."""
        return [part.file for part in self.parts]

    @property
    def shards(self) -> list[dict[str, Any]]:
        """Return the shards of the group, as NodeGroupConfiguration has them; none without cluster mode."""
        return [part.node["NodeGroupConfiguration"] for part in self.parts if "NodeGroupConfiguration" in part.node]

    def describe(self, arn: str, *, with_shards: bool = False) -> dict[str, Any]:
        """Return the snapshot as DescribeSnapshots shows it."""
        return {
            "SnapshotName": self.name,
            "SnapshotStatus": self.status,
            "SnapshotSource": "manual",
            **self.origin,
            "NodeSnapshots": [self._part(part, with_shards=with_shards) for part in self.parts],
            "ARN": arn,
        }

    def _part(self, part: Part, *, with_shards: bool) -> dict[str, Any]:
        shown = {**part.node, "CacheSize": f"{max(1, round(part.size / 2**20))} MB"}
        if self.status != "creating":
            shown["SnapshotCreateTime"] = self.created_at
        if not with_shards:
            shown.pop("NodeGroupConfiguration", None)
        return shown


class Snapshots:
    """All snapshots of the account, by name, and how many were taken of each node lately."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._snapshots: dict[str, Snapshot] = {}
        self._taken: dict[str, list[datetime]] = {}

    def all(self) -> list[Snapshot]:
        """Return the snapshots, oldest first."""
        return list(self._snapshots.values())

    def get(self, name: str) -> Snapshot:
        """Return a snapshot, or raise the service's error."""
        if name not in self._snapshots:
            raise Fault("SnapshotNotFoundFault", f"The specified snapshot {name} does not exist.")
        return self._snapshots[name]

    def ready(self, name: str) -> Snapshot:
        """Return a snapshot that may be copied, restored and deleted, or raise the service's error."""
        snapshot = self.get(name)
        if snapshot.status != "available":
            raise Fault("InvalidSnapshotStateFault", f"Snapshot {name} is {snapshot.status}, not available.")
        return snapshot

    def check_new(self, name: str) -> str:
        """Return a name that no snapshot has, or raise the service's error."""
        if name in self._snapshots:
            raise Fault("SnapshotAlreadyExistsFault", f"Snapshot with specified name already exists: {name}")
        return name

    def begin(self, name: str, group: Group, nodes: list[Node], *, by_cluster: bool) -> Snapshot:
        """Return a new snapshot of one node a node group, still to be saved; raises the service's error past the quota."""
        self._count([node.cluster_id for node in nodes])
        parts = [Part(_facts(group, node, by_cluster=by_cluster), self._file(name, node.shard)) for node in nodes]
        snapshot = Snapshot(name, _origin(group, nodes[0], by_cluster=by_cluster), parts)
        self._snapshots[name] = snapshot
        return snapshot

    def copy(self, source: Snapshot, name: str) -> Snapshot:
        """Return a new snapshot with the same facts, its files still to be copied."""
        numbered = enumerate(source.parts, 1)
        parts = [Part(dict(part.node), self._file(name, f"{number:04d}"), part.size) for number, part in numbered]
        copied = Snapshot(name, dict(source.origin), parts, "copying")
        self._snapshots[name] = copied
        return copied

    def remove(self, name: str) -> None:
        """Forget a snapshot and its files."""
        snapshot = self._snapshots.pop(name, None)
        for file in snapshot.files if snapshot is not None else []:
            file.unlink(missing_ok=True)

    def _file(self, name: str, node_group: str) -> Path:
        return self._directory / f"{name}-{node_group}.rdb"

    def _count(self, cluster_ids: list[str]) -> None:
        since = datetime.now(UTC) - QUOTA_WINDOW
        recent = {name: [m for m in self._taken.get(name, []) if m > since] for name in cluster_ids}
        for name, moments in recent.items():
            if len(moments) >= QUOTA:
                raise Fault(
                    "SnapshotQuotaExceededFault",
                    f"The maximum number of manual snapshots ({QUOTA}) of {name} in 24 hours is reached.",
                )
        self._taken |= {name: [*moments, datetime.now(UTC)] for name, moments in recent.items()}


def _facts(group: Group, node: Node, *, by_cluster: bool) -> dict[str, Any]:
    """Return what a snapshot remembers of the node that saves it."""
    facts = {"CacheClusterId": node.cluster_id, "CacheNodeId": NODE_ID, "CacheNodeCreateTime": node.created_at}
    if by_cluster:
        return facts
    facts["NodeGroupId"] = node.shard
    for shard in group.shards:
        if shard.id == node.shard:
            replicas = len(group.replicas_of(shard.id))
            facts["NodeGroupConfiguration"] = {**shard.describe(), "ReplicaCount": replicas}
    return facts


def _origin(group: Group, node: Node, *, by_cluster: bool) -> dict[str, Any]:
    source = (
        {"CacheClusterId": node.cluster_id}
        if by_cluster
        else {"ReplicationGroupId": group.id, "ReplicationGroupDescription": group.description}
    )
    return {
        **source,
        "CacheNodeType": group.settings.node_type,
        "Engine": group.settings.engine.name,
        "EngineVersion": group.settings.engine.version,
        "NumCacheNodes": 1,
        "NumNodeGroups": None if by_cluster else len(group.node_groups),
        "PreferredAvailabilityZone": node.zone,
        "CacheClusterCreateTime": node.created_at,
        "PreferredMaintenanceWindow": group.options["PreferredMaintenanceWindow"],
        "TopicArn": group.options["NotificationTopicArn"],
        "Port": group.options.get("Port", 6379),
        "CacheParameterGroupName": group.parameter_group,
        "CacheSubnetGroupName": group.options["CacheSubnetGroupName"],
        "AutoMinorVersionUpgrade": group.options["AutoMinorVersionUpgrade"],
        "SnapshotRetentionLimit": group.options["SnapshotRetentionLimit"],
        "SnapshotWindow": group.options["SnapshotWindow"],
        "AutomaticFailover": "enabled" if group.options["AutomaticFailoverEnabled"] else "disabled",
        "DataTiering": "enabled" if catalogue.tiered(group.settings.node_type) else "disabled",
    }
