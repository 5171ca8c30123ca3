"""What planned ElastiCache writes bring about, beyond what their own answers tell."""

from __future__ import annotations

from typing import Any

from helpers.aws.planned import CHANGE, CREATE, DELETE, UNKNOWN, PlannedWorld, rule

SERVICE = "elasticache"


@rule(SERVICE, "CreateReplicationGroup")
def _create_group(world: PlannedWorld, asked: dict[str, Any]) -> None:
    """A group comes with member clusters named after it, at the version that was asked for."""
    group = asked["ReplicationGroupId"]
    members = [f"{group}-{number:03}" for number in range(1, int(asked.get("NumCacheClusters", 1)) + 1)]
    endpoint = {"Address": UNKNOWN, "Port": UNKNOWN}
    roles = [{"CacheClusterId": one, "CurrentRole": "primary" if one == members[0] else "replica", "PreferredAvailabilityZone": UNKNOWN, "ReadEndpoint": endpoint} for one in members]
    node_group = {"NodeGroupId": "0001", "Status": "available", "PrimaryEndpoint": endpoint, "ReaderEndpoint": endpoint, "NodeGroupMembers": roles}
    fields = {"Description": asked.get("ReplicationGroupDescription", ""), "Status": "available", "MemberClusters": members, "NodeGroups": [node_group], "PendingModifiedValues": {},
              "AutomaticFailover": "enabled" if asked.get("AutomaticFailoverEnabled") else "disabled", "MultiAZ": "enabled" if asked.get("MultiAZEnabled") else "disabled"}  # fmt: skip
    world.put(SERVICE, "ReplicationGroup", {"ReplicationGroupId": group}, CHANGE, fields)
    for one in members:
        cluster = {
            "CacheClusterId": one, "ReplicationGroupId": group, "CacheClusterStatus": "available", "Engine": asked.get("Engine", "redis"), "EngineVersion": asked.get("EngineVersion", UNKNOWN),
            "CacheNodeType": asked.get("CacheNodeType", UNKNOWN), "PendingModifiedValues": {}, "CacheNodes": [{"Endpoint": endpoint}],
            "CacheParameterGroup": {"CacheParameterGroupName": asked.get("CacheParameterGroupName", UNKNOWN), "ParameterApplyStatus": "in-sync"},
        }  # fmt: skip
        world.put(SERVICE, "CacheCluster", {"CacheClusterId": one}, CREATE, cluster)


@rule(SERVICE, "ModifyReplicationGroup")
def _modify_group(world: PlannedWorld, asked: dict[str, Any]) -> None:
    """Engine, version, node type and parameter group are facts of the member clusters."""
    group = asked["ReplicationGroupId"]
    changed = {name: asked[name] for name in ("Engine", "EngineVersion", "CacheNodeType") if name in asked}
    if "CacheParameterGroupName" in asked:
        changed["CacheParameterGroup"] = {"CacheParameterGroupName": asked["CacheParameterGroupName"], "ParameterApplyStatus": "in-sync"}
    for one in member_names(world, group):
        world.put(SERVICE, "CacheCluster", {"CacheClusterId": one}, CHANGE, changed)


def member_names(world: PlannedWorld, group: str) -> list[str]:
    """The member clusters of a planned group, or by AWS's naming those that an existing group can have."""
    known = [thing.identity["CacheClusterId"] for thing in world.things if thing.noun == "CacheCluster" and thing.fields.get("ReplicationGroupId") == group]
    return known or [f"{group}-{number:03}" for number in range(1, 7)]


@rule(SERVICE, "CreateSnapshot")
def _create_snapshot(world: PlannedWorld, asked: dict[str, Any]) -> None:
    world.put(SERVICE, "Snapshot", {"SnapshotName": asked["SnapshotName"]}, CHANGE, {"SnapshotStatus": "available"})


@rule(SERVICE, "CopySnapshot")
def _copy_snapshot(world: PlannedWorld, asked: dict[str, Any]) -> None:
    """A copy to a bucket is a file there, `<name>-0001.rdb`, and no snapshot."""
    if asked.get("TargetBucket"):
        identity = {"Bucket": asked["TargetBucket"], "Key": f"{asked['TargetSnapshotName']}-0001.rdb"}
        world.put("s3", "Object", identity, CREATE, {**identity, "ContentLength": UNKNOWN, "ETag": UNKNOWN})


@rule(SERVICE, "DeleteReplicationGroup")
def _delete_group(world: PlannedWorld, asked: dict[str, Any]) -> None:
    for one in member_names(world, asked["ReplicationGroupId"]):
        world.put(SERVICE, "CacheCluster", {"CacheClusterId": one}, DELETE, {})
