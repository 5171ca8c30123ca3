"""What planned ElastiCache writes bring about, beyond what their own answers tell."""

from __future__ import annotations

from typing import Any

from helpers.aws.planned import CHANGE, CREATE, DELETE, UNKNOWN, PlannedWorld, rule

SERVICE = "elasticache"
MOST_SHARDS = 90  # https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/quota-limits.html (500 on request)
ENDPOINT = {"Address": UNKNOWN, "Port": UNKNOWN}


@rule(SERVICE, "CreateReplicationGroup")
def _create_group(world: PlannedWorld, asked: dict[str, Any]) -> None:
    """A group comes with member clusters named after it, at the version that was asked for; or around a cluster that is there."""
    group, sharded = asked["ReplicationGroupId"], asked.get("NodeGroupConfiguration")
    shards = [_shard(group, one, sharded=True) for one in sharded] if sharded else [_shard(group, asked, sharded=False)]
    if "PrimaryClusterId" in asked:
        shards[0]["NodeGroupMembers"] = [_role(asked["PrimaryClusterId"], "primary")]
    members = [one["CacheClusterId"] for shard in shards for one in shard["NodeGroupMembers"]]
    fields = {"Description": asked.get("ReplicationGroupDescription", ""), "Status": "available", "MemberClusters": members, "NodeGroups": shards, "PendingModifiedValues": {}, "ClusterEnabled": bool(sharded),
              "AutomaticFailover": "enabled" if asked.get("AutomaticFailoverEnabled") else "disabled", "MultiAZ": "enabled" if asked.get("MultiAZEnabled") else "disabled",
              "AuthTokenEnabled": "AuthToken" in asked, **({"ConfigurationEndpoint": ENDPOINT} if sharded else {})}  # fmt: skip
    world.put(SERVICE, "ReplicationGroup", {"ReplicationGroupId": group}, CHANGE, fields)
    if "PrimaryClusterId" in asked:
        world.put(SERVICE, "CacheCluster", {"CacheClusterId": asked["PrimaryClusterId"]}, CHANGE, {"ReplicationGroupId": group})
        return
    for one in members:
        cluster = {
            "CacheClusterId": one, "ReplicationGroupId": group, "CacheClusterStatus": "available", "Engine": asked.get("Engine", "redis"), "EngineVersion": asked.get("EngineVersion", UNKNOWN),
            "CacheNodeType": asked.get("CacheNodeType", UNKNOWN), "PendingModifiedValues": {}, "CacheNodes": [{"Endpoint": ENDPOINT}],
            "CacheParameterGroup": {"CacheParameterGroupName": asked.get("CacheParameterGroupName", UNKNOWN), "ParameterApplyStatus": "in-sync"},
        }  # fmt: skip
        world.put(SERVICE, "CacheCluster", {"CacheClusterId": one}, CREATE, cluster)


def _shard(group: str, asked: dict[str, Any], *, sharded: bool) -> dict[str, Any]:
    """A planned node group: with its slots and `<group>-0001-001` as members, or with endpoints and `<group>-001`."""
    number = asked.get("NodeGroupId", "0001")
    stem, count = (f"{group}-{number}", int(asked.get("ReplicaCount", 0)) + 1) if sharded else (group, int(asked.get("NumCacheClusters", 1)))
    roles = [_role(f"{stem}-{place:03}", "" if sharded else "primary" if place == 1 else "replica") for place in range(1, count + 1)]
    where = {"Slots": asked.get("Slots", UNKNOWN)} if sharded else {"PrimaryEndpoint": ENDPOINT, "ReaderEndpoint": ENDPOINT}
    return {"NodeGroupId": number, "Status": "available", **where, "NodeGroupMembers": roles}


def _role(cluster: str, role: str) -> dict[str, Any]:
    known = {"CurrentRole": role, "ReadEndpoint": ENDPOINT} if role else {}
    return {"CacheClusterId": cluster, "PreferredAvailabilityZone": UNKNOWN, **known}


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
    """A copy to a bucket is files there, `<name>-0001.rdb` and so on for as many shards as a group can have, and no snapshot."""
    if asked.get("TargetBucket"):
        for shard in range(1, MOST_SHARDS + 1):
            identity = {"Bucket": asked["TargetBucket"], "Key": f"{asked['TargetSnapshotName']}-{shard:04}.rdb"}
            world.put("s3", "Object", identity, CREATE, {**identity, "ContentLength": UNKNOWN, "ETag": UNKNOWN})


@rule(SERVICE, "DeleteReplicationGroup")
def _delete_group(world: PlannedWorld, asked: dict[str, Any]) -> None:
    for one in member_names(world, asked["ReplicationGroupId"]):
        world.put(SERVICE, "CacheCluster", {"CacheClusterId": one}, DELETE, {})
