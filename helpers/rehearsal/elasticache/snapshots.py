"""Keep the snapshots: real RDB files, with what the service remembers about where they came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from helpers.rehearsal.elasticache import catalogue
from helpers.rehearsal.elasticache.api import Fault
from helpers.rehearsal.elasticache.groups import NODE_GROUP_ID, Group
from helpers.rehearsal.elasticache.nodes import NODE_ID, Node

# Source: AWS, "Backup constraints": 20 manual backups per node in 24 hours.
QUOTA = 20
QUOTA_WINDOW = timedelta(hours=24)


@dataclass
class Snapshot:
    """One snapshot; `origin` repeats the settings of the group that it was taken of."""

    name: str
    origin: dict[str, Any]
    node: dict[str, Any]
    file: Path
    status: str = "creating"
    size: int = 0
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def describe(self, arn: str) -> dict[str, Any]:
        """Return the snapshot as DescribeSnapshots shows it."""
        node = {**self.node, "CacheSize": f"{max(1, round(self.size / 2**20))} MB"}
        if self.status != "creating":
            node["SnapshotCreateTime"] = self.created_at
        return {
            "SnapshotName": self.name,
            "SnapshotStatus": self.status,
            "SnapshotSource": "manual",
            **self.origin,
            "NodeSnapshots": [node],
            "ARN": arn,
        }


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

    def begin(self, name: str, group: Group, node: Node, *, by_cluster: bool) -> Snapshot:
        """Return a new snapshot of a node, still to be saved; raises the service's error past the quota."""
        self._count(node.cluster_id)
        snapshot = Snapshot(
            name,
            _origin(group, node, by_cluster=by_cluster),
            {"CacheClusterId": node.cluster_id, "CacheNodeId": NODE_ID, "CacheNodeCreateTime": node.created_at}
            | ({} if by_cluster else {"NodeGroupId": NODE_GROUP_ID}),
            self._directory / f"{name}.rdb",
        )
        self._snapshots[name] = snapshot
        return snapshot

    def copy(self, source: Snapshot, name: str) -> Snapshot:
        """Return a new snapshot with the same facts, its file still to be copied."""
        copied = Snapshot(name, dict(source.origin), dict(source.node), self._directory / f"{name}.rdb", "copying")
        copied.size = source.size
        self._snapshots[name] = copied
        return copied

    def remove(self, name: str) -> None:
        """Forget a snapshot and its file."""
        snapshot = self._snapshots.pop(name, None)
        if snapshot is not None:
            snapshot.file.unlink(missing_ok=True)

    def _count(self, cluster_id: str) -> None:
        since = datetime.now(UTC) - QUOTA_WINDOW
        recent = [moment for moment in self._taken.get(cluster_id, []) if moment > since]
        if len(recent) >= QUOTA:
            raise Fault(
                "SnapshotQuotaExceededFault",
                f"The maximum number of manual snapshots ({QUOTA}) of {cluster_id} in 24 hours is reached.",
            )
        self._taken[cluster_id] = [*recent, datetime.now(UTC)]


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
        "NumNodeGroups": None if by_cluster else 1,
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
