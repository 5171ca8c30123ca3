"""What the service knows about a replication group, and how it shows it.

Encryption at rest is a property that is kept and shown as AWS shows it, so that a runbook can check
and repeat it. Nothing on this machine is encrypted by it: the files of the local cloud are as
private as their owner's directory.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from helpers.rehearsal.elasticache.catalogue import tiered
from helpers.rehearsal.elasticache.endpoints import Front, Serving
from helpers.rehearsal.elasticache.events import CLUSTER, GROUP
from helpers.rehearsal.elasticache.logins import Authentication
from helpers.rehearsal.elasticache.nodes import NODE_GROUP_ID, NODE_ID, Node, Settings
from helpers.rehearsal.elasticache.shards import Shard
from helpers.rehearsal.servers import HOST

# What a request may set and a description repeats, with the service's defaults.
DEFAULTS: dict[str, Any] = {
    "SnapshotRetentionLimit": 0,
    "SnapshotWindow": "18:00-19:00",
    "PreferredMaintenanceWindow": "sun:20:00-sun:21:00",
    "AutoMinorVersionUpgrade": True,
    "CacheSubnetGroupName": "default",
    "SecurityGroupIds": [],
    "AutomaticFailoverEnabled": False,
    "MultiAZEnabled": False,
    "NotificationTopicArn": None,
}


@dataclass(frozen=True)
class Change:
    """A change to the nodes of a group: what is None stays as it is."""

    settings: Settings | None = None
    parameter_group: str | None = None


@dataclass
class Group:
    """One replication group: what was asked for, what runs, and what happens to it now."""

    id: str
    description: str
    settings: Settings
    parameter_group: str
    options: dict[str, Any]
    zones: list[str]
    primary_port: int
    reader_port: int
    primary_host: str = HOST
    reader_host: str = HOST
    serving: Serving = Serving()
    # By cluster id, where the nodes have endpoints of their own that outlast a server.
    fronts: dict[str, Front] = field(default_factory=dict)
    authentication: Authentication = field(default_factory=Authentication)
    # A cache cluster outside any replication group: one node, no endpoints but the node's own.
    alone: bool = False
    at_rest: bool = False
    status: str = "creating"
    member_status: str = "creating"
    nodes: list[Node] = field(default_factory=list)
    planned: list[str] = field(default_factory=list)
    pending: Change = field(default_factory=Change)
    parameter_status: str = "in-sync"
    # The ids of the members that a snapshot is being taken of.
    snapshotting: frozenset[str] = frozenset()
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    # With cluster mode enabled: its shards, and `primary_port` is the configuration endpoint.
    shards: tuple[Shard, ...] = ()
    # One piece of work at a time: a parameter change waits until an upgrade is over.
    work: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def kind(self) -> str:
        """Return what this is in words."""
        return "cache cluster" if self.alone else "replication group"

    @property
    def title(self) -> str:
        """Return what the group is called in sentences."""
        return f"{self.kind} {self.id}"

    @property
    def source_type(self) -> str:
        """Return what events call it."""
        return CLUSTER if self.alone else GROUP

    @property
    def member_ids(self) -> list[str]:
        """Return the ids of the member clusters, running or still planned."""
        return [node.cluster_id for node in self.nodes] or self.planned

    @property
    def primary(self) -> Node:
        """Return the node that takes writes."""
        return next(node for node in self.nodes if node.is_primary)

    @property
    def replicas(self) -> list[Node]:
        """Return the nodes that follow the primary."""
        return [node for node in self.nodes if not node.is_primary]

    @property
    def cluster_mode(self) -> bool:
        """Return whether the group has cluster mode enabled."""
        return bool(self.shards)

    @property
    def mode(self) -> str:
        """Return the cluster mode, as descriptions show it."""
        return _enabled(self.cluster_mode)

    @property
    def failed(self) -> list[Node]:
        """Return the nodes whose servers have ended by themselves."""
        return [node for node in self.nodes if not node.server.alive]

    @property
    def savers(self) -> list[Node]:
        """Return the nodes that save in a snapshot: of each node group a replica, where it has one.

        A replica saves, so that the primary does not slow down.
        """
        choices = [[*self.replicas_of(one), self.primary_of(one)] for one in self.node_groups]
        return [next((node for node in choice if node.server.alive), choice[-1]) for choice in choices]

    @property
    def node_groups(self) -> list[str]:
        """Return the ids of the node groups."""
        return [shard.id for shard in self.shards] or [NODE_GROUP_ID]

    def nodes_of(self, node_group: str) -> list[Node]:
        """Return the nodes of one node group."""
        return [node for node in self.nodes if node.shard == node_group]

    def primary_of(self, node_group: str) -> Node:
        """Return the node of a node group that takes its writes."""
        return next(node for node in self.nodes_of(node_group) if node.is_primary)

    def replicas_of(self, node_group: str) -> list[Node]:
        """Return the nodes of a node group that follow its primary."""
        return [node for node in self.nodes_of(node_group) if not node.is_primary]

    def node(self, cluster_id: str) -> Node:
        """Return a member by its cluster id."""
        return next(node for node in self.nodes if node.cluster_id == cluster_id)

    def endpoint_of(self, node: Node) -> dict[str, Any]:
        """Return the address of a node itself, as clients know it."""
        front = self.fronts.get(node.cluster_id)
        return {"Address": front.host, "Port": front.port} if front else node.endpoint

    def describe(self, arn: str) -> dict[str, Any]:
        """Return the group as DescribeReplicationGroups shows it."""
        return {
            "ReplicationGroupId": self.id,
            "Description": self.description,
            "GlobalReplicationGroupInfo": {},
            "Status": self.status,
            "PendingModifiedValues": self.authentication.pending,
            "MemberClusters": self.member_ids,
            "NodeGroups": self._node_groups() if self.nodes else [],
            "ConfigurationEndpoint": self._configuration_endpoint(),
            "SnapshottingClusterId": min(self.snapshotting, default=None),
            "AutomaticFailover": _enabled(self.options["AutomaticFailoverEnabled"]),
            "MultiAZ": _enabled(self.options["MultiAZEnabled"]),
            "SnapshotRetentionLimit": self.options["SnapshotRetentionLimit"],
            "SnapshotWindow": self.options["SnapshotWindow"],
            "ClusterEnabled": self.cluster_mode,
            "ClusterMode": self.mode,
            "CacheNodeType": self.settings.node_type,
            **self.authentication.describe_token(),
            **self._transit(),
            "AtRestEncryptionEnabled": self.at_rest,
            "StorageEncryptionType": "sse-elasticache" if self.at_rest else "none",
            "ARN": arn,
            "UserGroupIds": list(self.authentication.user_groups),
            "ReplicationGroupCreateTime": self.created_at,
            "DataTiering": _enabled(tiered(self.settings.node_type)),
            "AutoMinorVersionUpgrade": self.options["AutoMinorVersionUpgrade"],
            "NetworkType": "ipv4",
            "IpDiscovery": "ipv4",
            "Engine": self.settings.engine.name,
            "LogDeliveryConfigurations": [],
        }

    def describe_clusters(self, arn_of: Any, *, with_nodes: bool) -> list[dict[str, Any]]:
        """Return the members as DescribeCacheClusters shows them; `arn_of` gives a cluster's ARN."""
        if not self.nodes:
            return [self._cluster(name, arn_of(name), None, with_nodes) for name in self.planned]
        return [self._cluster(n.cluster_id, arn_of(n.cluster_id), n, with_nodes) for n in self.nodes]

    def _configuration_endpoint(self) -> dict[str, Any] | None:
        if not self.cluster_mode or not self.nodes:
            return None
        return {"Address": self.primary_host, "Port": self.primary_port}

    def _node_groups(self) -> list[dict[str, Any]]:
        return [self._shard(shard) for shard in self.shards] or [self._node_group()]

    def _shard(self, shard: Shard) -> dict[str, Any]:
        """Return a node group of a group with cluster mode enabled: AWS tells neither roles nor endpoints."""
        return {
            "NodeGroupId": shard.id,
            "Status": self.status,
            "Slots": shard.slots,
            "NodeGroupMembers": [
                {
                    "CacheClusterId": node.cluster_id,
                    "CacheNodeId": NODE_ID,
                    "PreferredAvailabilityZone": node.zone,
                }
                for node in self.nodes_of(shard.id)
            ],
        }

    def _node_group(self) -> dict[str, Any]:
        return {
            "NodeGroupId": NODE_GROUP_ID,
            "Status": self.status,
            "PrimaryEndpoint": {"Address": self.primary_host, "Port": self.primary_port},
            "ReaderEndpoint": {"Address": self.reader_host, "Port": self.reader_port},
            "NodeGroupMembers": [
                {
                    "CacheClusterId": node.cluster_id,
                    "CacheNodeId": NODE_ID,
                    "ReadEndpoint": self.endpoint_of(node),
                    "PreferredAvailabilityZone": node.zone,
                    "CurrentRole": "primary" if node.is_primary else "replica",
                }
                for node in self.nodes
            ],
        }

    def _cluster(self, name: str, arn: str, node: Node | None, with_nodes: bool) -> dict[str, Any]:
        settings = node.settings if node else self.settings
        shown = {
            "CacheClusterId": name,
            "ReplicationGroupId": None if self.alone else self.id,
            "CacheClusterStatus": "snapshotting" if name in self.snapshotting else self.member_status,
            "CacheNodeType": settings.node_type,
            "Engine": settings.engine.name,
            "EngineVersion": settings.engine.version,
            "NumCacheNodes": 1,
            "PreferredAvailabilityZone": node.zone if node else None,
            "CacheClusterCreateTime": node.created_at if node else None,
            "PreferredMaintenanceWindow": self.options["PreferredMaintenanceWindow"],
            "PendingModifiedValues": self._pending(settings),
            "NotificationConfiguration": self._notification(),
            "CacheSecurityGroups": [],
            "CacheParameterGroup": {
                "CacheParameterGroupName": self.parameter_group,
                "ParameterApplyStatus": self.parameter_status,
                "CacheNodeIdsToReboot": [NODE_ID] if self.parameter_status == "pending-reboot" else [],
            },
            "CacheSubnetGroupName": self.options["CacheSubnetGroupName"],
            "AutoMinorVersionUpgrade": self.options["AutoMinorVersionUpgrade"],
            "SecurityGroups": [
                {"SecurityGroupId": group, "Status": "active"} for group in self.options["SecurityGroupIds"]
            ],
            "SnapshotRetentionLimit": self.options["SnapshotRetentionLimit"],
            "SnapshotWindow": self.options["SnapshotWindow"],
            **self.authentication.describe_token(),
            **self._transit(),
            "AtRestEncryptionEnabled": self.at_rest,
            "ARN": arn,
            "ReplicationGroupLogDeliveryEnabled": False,
            "LogDeliveryConfigurations": [],
            "NetworkType": "ipv4",
            "IpDiscovery": "ipv4",
        }
        if with_nodes and node is not None:
            shown["CacheNodes"] = [self._cache_node(node)]
        return shown

    def _cache_node(self, node: Node) -> dict[str, Any]:
        return {
            "CacheNodeId": NODE_ID,
            "CacheNodeStatus": self.member_status,
            "CacheNodeCreateTime": node.created_at,
            "Endpoint": self.endpoint_of(node),
            "ParameterGroupStatus": self.parameter_status,
            "CustomerAvailabilityZone": node.zone,
        }

    def _pending(self, current: Settings) -> dict[str, Any]:
        wanted = self.pending.settings
        if wanted is None:
            return {}
        return {
            "EngineVersion": None if wanted.engine == current.engine else wanted.engine.version,
            "CacheNodeType": None if wanted.node_type == current.node_type else wanted.node_type,
        }

    def _transit(self) -> dict[str, Any]:
        return {
            "TransitEncryptionEnabled": self.serving.tls,
            "TransitEncryptionMode": "required" if self.serving.tls else None,
        }

    def _notification(self) -> dict[str, Any] | None:
        topic = self.options["NotificationTopicArn"]
        return {"TopicArn": topic, "TopicStatus": "active"} if topic else None


def _enabled(on: bool) -> str:
    return "enabled" if on else "disabled"
