"""Replication groups: their facts, and making, upgrading and deleting them."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
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
    """A shard (node group): its id, its slots ("0-5461"; empty with cluster mode disabled) and its nodes."""

    id: str
    slots: str
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Group:
    """A replication group as AWS describes it and its member clusters."""

    id: str
    arn: str
    status: str
    description: str
    engine: str
    engine_version: str
    node_type: str
    host: str
    port: int | str
    members: tuple[Member, ...]
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
    auth: bool
    data_tiering: str
    auto_minor_upgrade: bool
    pending: tuple[str, ...]
    shards: tuple[Shard, ...] = ()

    @property
    def endpoint(self) -> str:
        """The primary endpoint, or with cluster mode enabled the configuration endpoint, as host:port."""
        return f"{self.host}:{self.port}" if is_known(self.host) else UNKNOWN

    def table(self) -> pd.DataFrame:
        """The group and its members: id, role, zone, engine, node type, endpoint, status."""
        rows = [(self.id, "replication group", "", f"{self.engine} {self.engine_version}", self.node_type, self.endpoint, self.status)]
        rows += [(m.id, m.role, m.zone, f"{self.engine} {self.engine_version}", self.node_type, f"{m.host}:{m.port}", "") for m in self.members]
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
    clusters = [client.describe_cache_clusters(CacheClusterId=one, ShowCacheNodeInfo=True)["CacheClusters"][0] for one in found.get("MemberClusters", [])]
    return _group(found, clusters)


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


def delete_group(aws: Aws, group: str) -> None:
    """Delete a group if it is there and wait until it is gone."""
    state = group_state(aws, group)
    if state == "absent":
        return
    if state != "deleting":
        wait(group, lambda: group_state(aws, group), until=("available", "create-failed", "restore-failed", "absent"), timeout=AN_HOUR)
        aws.client("elasticache").delete_replication_group(ReplicationGroupId=group)
    wait(f"{group} deleted", lambda: group_state(aws, group), until=("absent",), timeout=AN_HOUR, events=lambda: events(aws, group))


def _clock(date: Any) -> str:
    return date.strftime("%H:%M:%S") if isinstance(date, datetime.datetime) else str(date)


def _group(found: dict[str, Any], clusters: list[dict[str, Any]]) -> Group:
    node_group = (found.get("NodeGroups") or [{}])[0]
    primary = found.get("ConfigurationEndpoint") or node_group.get("PrimaryEndpoint") or {}
    first = clusters[0] if clusters else {}
    parameters = first.get("CacheParameterGroup", {})
    roles = {one["CacheClusterId"]: one for shard in found.get("NodeGroups", []) for one in shard.get("NodeGroupMembers", [])}
    members = {one["CacheClusterId"]: _member(one, roles.get(one["CacheClusterId"], {})) for one in clusters}
    pending = {**found.get("PendingModifiedValues", {}), **first.get("PendingModifiedValues", {})}
    return Group(
        id=found["ReplicationGroupId"],
        arn=found.get("ARN", ""),
        status=found.get("Status", ""),
        description=found.get("Description", ""),
        engine=found.get("Engine") or first.get("Engine", "redis"),
        engine_version=first.get("EngineVersion", UNKNOWN),
        node_type=found.get("CacheNodeType") or first.get("CacheNodeType", ""),
        host=primary.get("Address", UNKNOWN),
        port=primary.get("Port", UNKNOWN),
        members=tuple(members.values()),
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
        auth=bool(found.get("AuthTokenEnabled")) or bool(found.get("UserGroupIds")),
        data_tiering=found.get("DataTiering", "disabled"),
        auto_minor_upgrade=bool(found.get("AutoMinorVersionUpgrade")),
        pending=tuple(sorted(name for name, value in pending.items() if value)),
        shards=tuple(_shard(one, members) for one in found.get("NodeGroups", [])),
    )


def _shard(node_group: dict[str, Any], members: dict[str, Member]) -> Shard:
    names = [one["CacheClusterId"] for one in node_group.get("NodeGroupMembers", [])]
    return Shard(node_group.get("NodeGroupId", ""), node_group.get("Slots", ""), tuple(members[name] for name in names if name in members))


def _member(cluster: dict[str, Any], role: dict[str, Any]) -> Member:
    node = (cluster.get("CacheNodes") or [{}])[0]
    endpoint = node.get("Endpoint") or role.get("ReadEndpoint") or {}
    zone = role.get("PreferredAvailabilityZone") or cluster.get("PreferredAvailabilityZone", "")
    return Member(cluster["CacheClusterId"], role.get("CurrentRole", ""), zone, endpoint.get("Address", UNKNOWN), endpoint.get("Port", UNKNOWN))
