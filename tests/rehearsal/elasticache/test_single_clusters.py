"""A cache cluster outside any replication group: one node, its own endpoint, and the way into a group."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from helpers.rehearsal import engines
from helpers.rehearsal.wire import Wire, WireError

OLD, NEW = engines.pair()


def create(account: Any, name: str, *, wait: str = "available", **options: Any) -> dict[str, Any]:
    request = {"Engine": "redis", "EngineVersion": "6.2", "CacheNodeType": "cache.r6g.large", "NumCacheNodes": 1}
    account.elasticache.create_cache_cluster(CacheClusterId=name, **{**request, **options})
    return reaches(account, name, wait)


def reaches(account: Any, name: str, status: str) -> dict[str, Any]:
    account.until(lambda: account.member(name)["CacheClusterStatus"] == status)
    return account.member(name)


def gone(account: Any, name: str) -> None:
    account.until(lambda: account.refusal(account.member, name) == "CacheClusterNotFound")


@pytest.fixture(scope="module")
def lone(account: Any, until: Any) -> Any:
    account.until = until
    create(account, "lone", Tags=[{"Key": "team", "Value": "web"}])
    account.node("lone").set("key", "value")
    return account


def test_a_lone_cluster_is_described_outside_every_group(lone: Any) -> None:
    find = lone.elasticache.describe_cache_clusters
    lone.create("grouped")
    alone = find(ShowCacheClustersNotInReplicationGroups=True)["CacheClusters"]
    assert [cluster["CacheClusterId"] for cluster in alone] == ["lone"]
    assert {cluster["CacheClusterId"] for cluster in find()["CacheClusters"]} >= {"lone", "grouped-001"}
    shown = lone.member("lone")
    assert "ReplicationGroupId" not in shown and shown["NumCacheNodes"] == 1
    assert (shown["TransitEncryptionEnabled"], shown["AuthTokenEnabled"]) == (False, False)
    assert lone.refusal(lone.group, "lone") == "ReplicationGroupNotFoundFault"
    assert lone.elasticache.list_tags_for_resource(ResourceName=shown["ARN"])["TagList"] == [
        {"Key": "team", "Value": "web"}
    ]
    assert lone.events("lone") == ["Cache cluster created", "Added cache node 0001 in availability zone ap-northeast-1a"]
    assert lone.cloud.status()["clusters"]["lone"]["status"] == "available"


def test_a_lone_cluster_is_restricted_as_any_node(lone: Any) -> None:
    with pytest.raises(redis.RedisError, match="unknown command"):
        lone.node("lone").config_get("maxmemory")
    assert lone.node("lone").info("memory")["maxmemory"] == 14037181030 * 3 // 4


def test_its_parameter_group_is_changed_and_then_in_use(lone: Any) -> None:
    client = lone.elasticache
    client.create_cache_parameter_group(
        CacheParameterGroupName="noted", CacheParameterGroupFamily=OLD.family, Description="x"
    )
    client.modify_cache_cluster(CacheClusterId="lone", CacheParameterGroupName="noted", ApplyImmediately=True)
    assert reaches(lone, "lone", "available")["CacheParameterGroup"]["CacheParameterGroupName"] == "noted"
    client.modify_cache_parameter_group(
        CacheParameterGroupName="noted",
        ParameterNameValues=[{"ParameterName": "notify-keyspace-events", "ParameterValue": "KEA"}],
    )
    messages = lone.node("lone").pubsub()
    messages.psubscribe("__key*__:*")
    messages.get_message(timeout=5)

    def noticed() -> Any:
        lone.node("lone").set("noticed", 1)
        return messages.get_message(timeout=0.1)

    lone.until(noticed)
    used = lone.refusal(client.delete_cache_parameter_group, CacheParameterGroupName="noted")
    assert used == "InvalidCacheParameterGroupState"


def test_its_node_type_is_changed_and_its_data_and_endpoint_stay(lone: Any) -> None:
    before = lone.member("lone")["CacheNodes"][0]["Endpoint"]
    lone.elasticache.modify_cache_cluster(
        CacheClusterId="lone", CacheNodeType="cache.r6g.xlarge", ApplyImmediately=True
    )
    after = reaches(lone, "lone", "available")
    assert (after["CacheNodeType"], after["CacheNodes"][0]["Endpoint"]) == ("cache.r6g.xlarge", before)
    assert lone.node("lone").get("key") == "value"


def test_its_snapshot_is_exported_and_seeds_groups_and_clusters(lone: Any, until: Any) -> None:
    lone.elasticache.create_snapshot(SnapshotName="of-lone", CacheClusterId="lone")
    taken = lone.snapshot_available("of-lone")
    assert taken["CacheClusterId"] == "lone" and "ReplicationGroupId" not in taken
    assert "Snapshot succeeded for snapshot with ID 'of-lone' of cache cluster with ID 'lone'" in lone.events("lone")
    reaches(lone, "lone", "available")
    bucket = lone.bucket()
    lone.elasticache.copy_snapshot(SourceSnapshotName="of-lone", TargetSnapshotName="out", TargetBucket=bucket)
    until(lambda: lone.exists(bucket, "out-0001.rdb"))
    lone.create("seeded", SnapshotArns=[f"arn:aws:s3:::{bucket}/out-0001.rdb"])
    assert lone.data("seeded").get("key") == "value"
    lone.snapshot_available("of-lone")
    create(lone, "again", SnapshotName="of-lone")
    assert lone.node("again").get("key") == "value"
    assert "Restore succeeded for cache cluster again" in lone.events("again")


def test_a_group_is_deleted_around_its_primary_which_keeps_data_endpoint_and_connections(lone: Any, until: Any) -> None:
    before = create(lone, "kept")["CacheNodes"][0]["Endpoint"]
    lone.elasticache.create_replication_group(ReplicationGroupId="around", ReplicationGroupDescription="x", PrimaryClusterId="kept")
    lone.reaches("around", "available")
    lone.elasticache.increase_replica_count(ReplicationGroupId="around", NewReplicaCount=1, ApplyImmediately=True)
    lone.reaches("around", "available")
    with Wire(f"{before['Address']}:{before['Port']}") as connected:
        connected.one("SET", "key", "value")
        lone.elasticache.delete_replication_group(ReplicationGroupId="around", RetainPrimaryCluster=True)
        until(lambda: "ReplicationGroupId" not in lone.member("kept"))
        assert connected.one("GET", "key") == b"value"
    found = lone.elasticache.describe_cache_clusters(ShowCacheClustersNotInReplicationGroups=True)["CacheClusters"]
    assert [one["CacheClusterStatus"] for one in found if one["CacheClusterId"] == "kept"] == ["available"]
    assert lone.refusal(lone.elasticache.describe_replication_groups, ReplicationGroupId="around") == "ReplicationGroupNotFoundFault"
    lone.elasticache.delete_cache_cluster(CacheClusterId="kept")


def test_a_cluster_becomes_the_primary_of_a_group_and_keeps_data_endpoint_and_connections(lone: Any, until: Any) -> None:
    before = create(lone, "single")["CacheNodes"][0]["Endpoint"]
    with Wire(f"{before['Address']}:{before['Port']}") as connected:
        connected.one("SET", "key", "value")
        lone.elasticache.create_replication_group(
            ReplicationGroupId="wrapped", ReplicationGroupDescription="x", PrimaryClusterId="single"
        )
        group = lone.reaches("wrapped", "available")
        assert connected.one("GET", "key") == b"value"
        assert lone.data("wrapped").get("key") == lone.data("wrapped", "ReaderEndpoint").get("key") == "value"
        member = lone.member("single")
        assert (member["ReplicationGroupId"], member["CacheNodes"][0]["Endpoint"]) == ("wrapped", before)
        assert group["MemberClusters"] == ["single"]
        lone.elasticache.increase_replica_count(
            ReplicationGroupId="wrapped", NewReplicaCount=1, ApplyImmediately=True
        )
        lone.reaches("wrapped", "available")
        until(lambda: lone.data("wrapped", "ReaderEndpoint").get("key") == "value")
        assert lone.data("wrapped", "ReaderEndpoint").info("replication")["role"] == "slave"
        assert connected.one("GET", "key") == b"value"
        lone.modify("wrapped", Engine=NEW.name, EngineVersion=NEW.minor)
        with pytest.raises(WireError):
            connected.one("GET", "key")
    assert lone.node("single").get("key") == "value"  # the endpoint of the node outlasts its server
    lone.elasticache.delete_replication_group(ReplicationGroupId="wrapped")
    lone.gone("wrapped")
    assert lone.refusal(lone.member, "single") == "CacheClusterNotFound"


def test_a_lone_cluster_is_deleted_after_a_final_snapshot(lone: Any) -> None:
    create(lone, "leaving")
    lone.node("leaving").set("key", "value")
    answer = lone.elasticache.delete_cache_cluster(CacheClusterId="leaving", FinalSnapshotIdentifier="farewell")
    assert answer["CacheCluster"]["CacheClusterStatus"] == "deleting"
    gone(lone, "leaving")
    create(lone, "returned", SnapshotName="farewell")
    assert lone.node("returned").get("key") == "value"


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "Valkey": ({"Engine": "valkey"}, "InvalidParameterValue", "doesn't support Valkey"),
    "Memcached": ({"Engine": "memcached"}, "InvalidParameterCombination", "not offered"),
    "two nodes": ({"NumCacheNodes": 2}, "InvalidParameterValue", "must be 1"),
    "encryption": ({"TransitEncryptionEnabled": True}, "InvalidParameterCombination", "needs a replication group"),
    "AUTH": ({"AuthToken": "a" * 16}, "InvalidParameterCombination", "needs a replication group"),
    "a group to join": ({"ReplicationGroupId": "grouped"}, "InvalidParameterCombination", "not offered"),
    "an id that exists": ({"CacheClusterId": "lone"}, "CacheClusterAlreadyExists", "already exists"),
    "the id of a member": ({"CacheClusterId": "grouped-001"}, "CacheClusterAlreadyExists", "already exists"),
    "an id of 51 characters": ({"CacheClusterId": "a" * 51}, "InvalidParameterValue", "50 characters"),
    "a cluster mode parameter group": (
        {"CacheParameterGroupName": "default.redis6.x.cluster.on"}, "InvalidParameterCombination", ""),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_creation_is_refused_with(lone: Any, what: str) -> None:
    options, code, words = REFUSED[what]
    request = {"CacheClusterId": "refused", "Engine": "redis", "EngineVersion": "6.2", **options}
    assert lone.refusal(lone.elasticache.create_cache_cluster, **request) == code
    assert words in lone.last_message


def test_what_a_lone_cluster_cannot_do_is_refused(lone: Any) -> None:
    client = lone.elasticache
    around = {"ReplicationGroupId": "around", "ReplicationGroupDescription": "x"}
    for call, options, code in (
        (client.modify_cache_cluster, {"CacheClusterId": "lone", "Engine": "valkey"}, "InvalidParameterCombination"),
        (client.modify_cache_cluster, {"CacheClusterId": "grouped-001"}, "InvalidParameterCombination"),
        (client.delete_cache_cluster, {"CacheClusterId": "grouped-001"}, "InvalidParameterCombination"),
        (client.delete_cache_cluster, {"CacheClusterId": "nothing"}, "CacheClusterNotFound"),
        (client.create_replication_group, {**around, "PrimaryClusterId": "nothing"}, "CacheClusterNotFound"),
        (client.create_replication_group, {**around, "PrimaryClusterId": "grouped-001"}, "InvalidCacheClusterState"),
        (client.create_replication_group, {**around, "PrimaryClusterId": "lone", "NumCacheClusters": 2},
         "InvalidParameterCombination"),
        (client.create_replication_group, {**around, "PrimaryClusterId": "lone", "AutomaticFailoverEnabled": True},
         "InvalidParameterCombination"),
    ):  # fmt: skip
        assert lone.refusal(call, **options) == code
    assert lone.member("lone")["CacheClusterStatus"] == "available"
