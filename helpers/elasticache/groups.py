"""Replication groups: their facts, and making, upgrading and deleting them."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from helpers.aws import UNKNOWN, Aws, RunbookError, is_known, wait
from helpers.aws.errors import is_not_found

FAILED_STATES = ("create-failed", "restore-failed", "deleted", "incompatible-parameters", "incompatible-network")
AN_HOUR = 3600.0  # seconds; public acceptance logs show 10 min for a create and 80 min for a chain of updates


@dataclass(frozen=True)
class Member:
    """A node of a replication group: its cache cluster id, role, zone and endpoint."""

    id: str
    role: str
    zone: str
    host: str
    port: int | str


@dataclass(frozen=True)
class Shard:
    """A node group: its id, its slots (`0-8191`; empty with cluster mode disabled), its nodes."""

    id: str
    slots: str
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Group:
    """A replication group as AWS describes it and its member clusters.

    `host` and `port` are the primary endpoint's, or with cluster mode enabled the configuration endpoint's. `cluster` is the
    cache cluster that is to become the group's only node, where it stands outside any group; empty otherwise.
    """

    id: str
    arn: str
    status: str
    description: str
    engine: str
    engine_version: str
    node_type: str
    host: str
    port: int | str
    shards: tuple[Shard, ...]
    parameter_group: str
    parameter_status: str
    automatic_failover: str
    multi_az: str
    subnet_group: str
    security_groups: tuple[str, ...]
    snapshot_retention: int
    snapshot_window: str
    maintenance_window: str
    cluster_mode: bool
    in_transit_encryption: bool
    at_rest_encryption: bool
    auth_token: bool
    user_groups: tuple[str, ...]
    data_tiering: str
    auto_minor_upgrade: bool
    pending: tuple[str, ...]
    topic: str = ""
    cluster: str = ""

    @property
    def endpoint(self) -> str:
        """The primary or configuration endpoint as host:port."""
        return f"{self.host}:{self.port}" if is_known(self.host) else UNKNOWN

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Every host:port by which an application may write to the group: its endpoint, and the node of a group that has one alone."""
        nodes = [f"{one.host}:{one.port}" for one in self.members if len(self.members) == 1 and is_known(one.host)]
        return tuple(dict.fromkeys([self.endpoint, *nodes]))

    @property
    def members(self) -> tuple[Member, ...]:
        """The nodes of all shards."""
        return tuple(member for shard in self.shards for member in shard.members)

    @property
    def replicas(self) -> int:
        """Replicas a shard."""
        return max((len(shard.members) for shard in self.shards), default=1) - 1

    @property
    def auth(self) -> bool:
        """True where clients must log in."""
        return self.auth_token or bool(self.user_groups)

    @property
    def mode(self) -> str:
        """`cluster mode disabled`, or `cluster mode enabled, 2 shards`."""
        return f"cluster mode enabled, {len(self.shards)} shards" if self.cluster_mode else "cluster mode disabled"

    def table(self) -> pd.DataFrame:
        """The group and its members: id, role, zone, engine, node type, endpoint, status."""
        rows = [(self.id, "replication group", "", f"{self.engine} {self.engine_version}", self.node_type, self.endpoint, self.status)]
        named = {m.id: f"{m.role} {f'shard {shard.id}, slots {shard.slots}' if shard.slots else ''}".strip() for shard in self.shards for m in shard.members}
        rows += [(m.id, named[m.id], m.zone, f"{self.engine} {self.engine_version}", self.node_type, f"{m.host}:{m.port}", "") for m in self.members]
        return pd.DataFrame(rows, columns=["id", "role", "zone", "engine", "node type", "endpoint", "status"])


def describe_group(aws: Aws, group: str) -> Group:
    """The facts of a replication group. Raises `RunbookError` where it does not exist."""
    client = aws.client("elasticache")
    try:
        found = client.describe_replication_groups(ReplicationGroupId=group)["ReplicationGroups"][0]
    except Exception as error:
        if is_not_found(error):
            raise RunbookError(f"There is no replication group {group!r} in {aws.region}.", "Check the name, the region and the account.") from error
        raise
    # a ReplicationGroup has no EngineVersion: its member clusters have it
    return _group(found, [_cluster(aws, one) for one in found.get("MemberClusters", [])])


def describe_alone(aws: Aws, cluster: str, group: str) -> Group | None:
    """A cache cluster outside any replication group as the group `group` that it is to become; None where there is no such cluster.

    Source: https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/Replication.CreatingReplGroup.ExistingCluster.html
    """
    try:
        found = _cluster(aws, cluster)
    except Exception as error:
        if is_not_found(error):
            return None
        raise
    if found.get("ReplicationGroupId"):
        raise RunbookError(f"{cluster} is a node of the replication group {found['ReplicationGroupId']}.", "Name the group.")
    node = (found.get("CacheNodes") or [{}])[0].get("Endpoint", {})
    shown = {**found, "ReplicationGroupId": group, "Status": found.get("CacheClusterStatus", ""), "NodeGroups": [{"NodeGroupId": "0001", "PrimaryEndpoint": node, "NodeGroupMembers": [{"CacheClusterId": cluster, "CurrentRole": "primary"}]}]}
    return replace(_group(shown, [found]), cluster=cluster)


def _cluster(aws: Aws, cluster: str) -> dict[str, Any]:
    return aws.client("elasticache").describe_cache_clusters(CacheClusterId=cluster, ShowCacheNodeInfo=True)["CacheClusters"][0]


def group_exists(aws: Aws, group: str) -> bool:
    """True where a replication group of that name exists, in whatever state."""
    return group_state(aws, group) != "absent"


def group_state(aws: Aws, group: str) -> str:
    """The group's status, or `absent`."""
    try:
        return aws.client("elasticache").describe_replication_groups(ReplicationGroupId=group)["ReplicationGroups"][0]["Status"]
    except Exception as error:
        if is_not_found(error):
            return "absent"
        raise


def wait_available(aws: Aws, group: str) -> Group:
    """Wait until the group and its parameters are in effect; returns its facts. Raises `WaitFailed` with its events."""

    def state() -> str:
        status = group_state(aws, group)
        if status != "available":
            return status
        facts = describe_group(aws, group)
        return "available" if facts.parameter_status in ("in-sync", "pending-reboot", UNKNOWN, "available") and not facts.pending else "applying"

    wait(group, state, fail=FAILED_STATES + ("absent",), timeout=AN_HOUR, events=lambda: events(aws, group))
    return describe_group(aws, group)


def events(aws: Aws, group: str, minutes: int = 60) -> list[str]:
    """What ElastiCache says of the group and its members, oldest first."""
    found = aws.client("elasticache").describe_events(Duration=minutes)["Events"]
    mine = [one for one in found if str(one.get("SourceIdentifier", "")).startswith(group)]
    return [f"{_clock(one.get('Date'))} {one['SourceIdentifier']}: {one['Message']}" for one in sorted(reversed(mine), key=lambda one: str(one.get("Date")))]


def events_table(aws: Aws, group: str) -> pd.DataFrame:
    """`events` as a DataFrame with one column."""
    return pd.DataFrame({"event": events(aws, group)})


def delete_group(aws: Aws, group: str, *, retain_primary: bool = False) -> None:
    """Delete a group if it is there and wait until it is gone; `retain_primary` leaves its primary as a cache cluster outside any group."""
    state = group_state(aws, group)
    if state == "absent":
        return
    if state != "deleting":
        wait(group, lambda: group_state(aws, group), until=("available", "create-failed", "restore-failed", "absent"), timeout=AN_HOUR)
        aws.client("elasticache").delete_replication_group(ReplicationGroupId=group, **({"RetainPrimaryCluster": True} if retain_primary else {}))
    wait(f"{group} deleted", lambda: group_state(aws, group), until=("absent",), timeout=AN_HOUR, events=lambda: events(aws, group))


def _clock(date: Any) -> str:
    return date.strftime("%H:%M:%S") if isinstance(date, datetime.datetime) else str(date)


def _group(found: dict[str, Any], clusters: list[dict[str, Any]]) -> Group:
    node_groups = found.get("NodeGroups") or [{}]
    endpoint = found.get("ConfigurationEndpoint") or node_groups[0].get("PrimaryEndpoint") or {}
    first = clusters[0] if clusters else {}
    parameters = first.get("CacheParameterGroup", {})
    pending = {**found.get("PendingModifiedValues", {}), **first.get("PendingModifiedValues", {})}
    return Group(
        id=found["ReplicationGroupId"],
        arn=found.get("ARN", ""),
        status=found.get("Status", ""),
        description=found.get("Description", ""),
        engine=found.get("Engine") or first.get("Engine", "redis"),
        engine_version=first.get("EngineVersion", UNKNOWN),
        node_type=found.get("CacheNodeType") or first.get("CacheNodeType", ""),
        host=endpoint.get("Address", UNKNOWN),
        port=endpoint.get("Port", UNKNOWN),
        shards=tuple(_shard(one, clusters, len(node_groups)) for one in sorted(node_groups, key=lambda one: _first_slot(one.get("Slots", "")))),
        parameter_group=parameters.get("CacheParameterGroupName", ""),
        parameter_status="in-sync" if all(one.get("CacheParameterGroup", {}).get("ParameterApplyStatus", "in-sync") == "in-sync" for one in clusters) else parameters.get("ParameterApplyStatus", ""),
        automatic_failover=found.get("AutomaticFailover", "disabled"),
        multi_az=found.get("MultiAZ", "disabled"),
        subnet_group=first.get("CacheSubnetGroupName", ""),
        security_groups=tuple(one["SecurityGroupId"] for one in first.get("SecurityGroups", [])),
        snapshot_retention=found.get("SnapshotRetentionLimit", 0) or 0,
        snapshot_window=found.get("SnapshotWindow", ""),
        maintenance_window=first.get("PreferredMaintenanceWindow", ""),
        cluster_mode=bool(found.get("ClusterEnabled")) or len(found.get("NodeGroups", [])) > 1,
        in_transit_encryption=bool(found.get("TransitEncryptionEnabled")),
        at_rest_encryption=bool(found.get("AtRestEncryptionEnabled")),
        auth_token=bool(found.get("AuthTokenEnabled")),
        user_groups=tuple(found.get("UserGroupIds", [])),
        data_tiering=found.get("DataTiering", "disabled"),
        auto_minor_upgrade=bool(found.get("AutoMinorVersionUpgrade")),
        pending=tuple(sorted(name for name, value in pending.items() if value)),
        topic=(first.get("NotificationConfiguration") or {}).get("TopicArn", ""),
    )


def _shard(node_group: dict[str, Any], clusters: list[dict[str, Any]], of: int) -> Shard:
    """A shard with its nodes: those it names, or all where it is the only one."""
    roles = {one["CacheClusterId"]: one for one in node_group.get("NodeGroupMembers", [])}
    mine = [one for one in clusters if one["CacheClusterId"] in roles or of == 1]
    return Shard(node_group.get("NodeGroupId", "0001"), node_group.get("Slots", ""), tuple(_member(one, roles.get(one["CacheClusterId"], {})) for one in mine))


def _first_slot(slots: str) -> int:
    first = slots.split(",")[0].split("-")[0]
    return int(first) if first.isdigit() else 0


def _member(cluster: dict[str, Any], role: dict[str, Any]) -> Member:
    node = (cluster.get("CacheNodes") or [{}])[0]
    endpoint = node.get("Endpoint") or role.get("ReadEndpoint") or {}
    zone = role.get("PreferredAvailabilityZone") or cluster.get("PreferredAvailabilityZone", "")
    return Member(cluster["CacheClusterId"], role.get("CurrentRole", ""), zone, endpoint.get("Address", UNKNOWN), endpoint.get("Port", UNKNOWN))
