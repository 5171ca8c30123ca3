"""Replication groups run on real servers: created, described, restricted, scaled, deleted."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


@pytest.fixture(scope="module")
def sessions(account: Any) -> Any:
    account.create(
        "sessions",
        NumCacheClusters=2,
        AutomaticFailoverEnabled=True,
        MultiAZEnabled=True,
        SecurityGroupIds=["sg-0123456789abcdef0"],
        Tags=[{"Key": "team", "Value": "web"}],
    )
    return account


def test_creation_is_asynchronous_and_ends_in_available(account: Any) -> None:
    answer = account.elasticache.create_replication_group(
        ReplicationGroupId="Async", ReplicationGroupDescription="a test", CacheNodeType="cache.t3.micro"
    )["ReplicationGroup"]
    assert (answer["ReplicationGroupId"], answer["Status"]) == ("async", "creating")
    assert answer["MemberClusters"] == ["async-001"]
    account.elasticache.get_waiter("replication_group_available").wait(
        ReplicationGroupId="async", WaiterConfig={"Delay": 1, "MaxAttempts": 20}
    )
    assert account.data("async").ping()


def test_a_group_is_described_with_roles_and_endpoints(sessions: Any) -> None:
    group = sessions.group("sessions")
    members = group["NodeGroups"][0]["NodeGroupMembers"]
    assert [(m["CacheClusterId"], m["CurrentRole"], m["PreferredAvailabilityZone"]) for m in members] == [
        ("sessions-001", "primary", "ap-northeast-1a"),
        ("sessions-002", "replica", "ap-northeast-1c"),
    ]
    assert (group["AutomaticFailover"], group["MultiAZ"], group["ClusterEnabled"]) == ("enabled", "enabled", False)
    assert group["ARN"] == "arn:aws:elasticache:ap-northeast-1:123456789012:replicationgroup:sessions"
    assert sessions.elasticache.list_tags_for_resource(ResourceName=group["ARN"])["TagList"] == [
        {"Key": "team", "Value": "web"}
    ]


def test_a_member_is_described_with_its_engine_and_parameter_group(sessions: Any) -> None:
    member = sessions.member("sessions-002")
    assert (member["Engine"], member["CacheNodeType"]) == ("redis", "cache.r6g.large")
    assert member["EngineVersion"].startswith("6.2.")
    assert member["CacheParameterGroup"]["CacheParameterGroupName"] == "default.redis6.x"
    assert member["CacheParameterGroup"]["ParameterApplyStatus"] == "in-sync"
    assert member["SecurityGroups"] == [{"SecurityGroupId": "sg-0123456789abcdef0", "Status": "active"}]
    assert "CacheNodes" not in sessions.elasticache.describe_cache_clusters()["CacheClusters"][0]


def test_replication_is_real(sessions: Any, until: Any) -> None:
    sessions.data("sessions").set("key", "value")
    until(lambda: sessions.data("sessions", "ReaderEndpoint").get("key") == "value")
    with pytest.raises(redis.ReadOnlyError):
        sessions.data("sessions", "ReaderEndpoint").set("key", "other")
    assert sessions.node("sessions-002").info("replication")["role"] == "slave"


def test_a_node_has_the_memory_of_its_type_less_the_reserved_quarter(sessions: Any) -> None:
    assert sessions.data("sessions").info("memory")["maxmemory"] == 14037181030 * 3 // 4


@pytest.mark.parametrize(
    "command",
    [
        "BGREWRITEAOF", "BGSAVE", "CONFIG GET maxmemory", "DEBUG SLEEP 0", "MIGRATE h 1 k 0 1", "REPLICAOF NO ONE",
        "SLAVEOF NO ONE", "SAVE", "SHUTDOWN", "SYNC", "PSYNC ? -1", "ACL SETUSER default off", "FAILOVER",
    ],
)  # fmt: skip
def test_commands_that_elasticache_keeps_to_itself_are_refused(sessions: Any, command: str) -> None:
    with pytest.raises(redis.RedisError, match="(?i)unknown command|no permissions"):
        sessions.data("sessions").execute_command(*command.split())


@pytest.mark.parametrize(
    "command",
    ["INFO", "CLIENT LIST", "CLIENT PAUSE 1 WRITE", "CLIENT UNPAUSE", "SCAN 0", "DUMP nothing", "PUBSUB CHANNELS",
     "EVAL return(1) 0", "ACL WHOAMI", "CLIENT KILL ID 999999"],
)  # fmt: skip
def test_commands_that_elasticache_allows_work(sessions: Any, command: str) -> None:
    sessions.data("sessions").execute_command(*command.split())


def test_client_pause_can_be_refused_while_the_other_client_commands_work(sessions: Any) -> None:
    data = sessions.data("sessions")
    sessions.cloud.settings(refuse_client_pause=True)
    try:
        with pytest.raises(redis.exceptions.NoPermissionError):
            data.execute_command("CLIENT", "PAUSE", "1", "WRITE")
        assert data.client_list() and data.client_kill_filter(_id="999999") == 0
    finally:
        sessions.cloud.settings(refuse_client_pause=False)
    assert data.execute_command("CLIENT", "PAUSE", "1", "WRITE")


def test_replicas_are_added_and_taken_away(sessions: Any, until: Any) -> None:
    sessions.create("scaled")
    sessions.data("scaled").set("key", "value")
    sessions.elasticache.increase_replica_count(ReplicationGroupId="scaled", NewReplicaCount=2, ApplyImmediately=True)
    assert sessions.group("scaled")["Status"] == "modifying"
    assert sessions.reaches("scaled", "available")["MemberClusters"] == ["scaled-001", "scaled-002", "scaled-003"]
    assert sessions.node("scaled-003").get("key") == "value"
    sessions.elasticache.decrease_replica_count(
        ReplicationGroupId="scaled", ReplicasToRemove=["scaled-002"], ApplyImmediately=True
    )
    assert sessions.reaches("scaled", "available")["MemberClusters"] == ["scaled-001", "scaled-003"]
    until(lambda: sessions.data("scaled").info("replication")["connected_slaves"] == 1)


def test_a_deleted_group_is_deleting_and_then_gone_with_its_servers(account: Any) -> None:
    port = account.create("short")["NodeGroups"][0]["NodeGroupMembers"][0]["ReadEndpoint"]["Port"]
    answer = account.elasticache.delete_replication_group(ReplicationGroupId="short")["ReplicationGroup"]
    assert answer["Status"] == "deleting"
    account.gone("short")
    with pytest.raises(redis.ConnectionError):
        redis.Redis(port=port, retry=Retry(NoBackoff(), 0)).ping()
    assert account.events("short")[0] == "Replication group short deleted"


def test_node_types_to_scale_to_are_listed(sessions: Any) -> None:
    allowed = sessions.elasticache.list_allowed_node_type_modifications(ReplicationGroupId="sessions")
    assert "cache.r6g.xlarge" in allowed["ScaleUpModifications"]
    assert "cache.t3.micro" in allowed["ScaleDownModifications"]


CREATE: dict[str, tuple[dict[str, Any], str, str]] = {
    "an id that begins with a digit": ({"ReplicationGroupId": "1abc"}, "InvalidParameterValue", "identifier"),
    "an id with two hyphens": ({"ReplicationGroupId": "a--b"}, "InvalidParameterValue", "consecutive"),
    "an id that ends with a hyphen": ({"ReplicationGroupId": "abc-"}, "InvalidParameterValue", "hyphen"),
    "an id of 41 characters": ({"ReplicationGroupId": "a" * 41}, "InvalidParameterValue", "40 characters"),
    "an id that exists": ({"ReplicationGroupId": "sessions"}, "ReplicationGroupAlreadyExists", "already exists"),
    "a node type that does not exist": ({"CacheNodeType": "cache.z9.huge"}, "InvalidParameterValue", "Node Type"),
    "an engine that does not exist": ({"Engine": "keydb"}, "InvalidParameterValue", "engine"),
    "a version that does not exist": ({"EngineVersion": "6.3"}, "InvalidParameterCombination", "Cannot find version"),
    "a parameter group that does not exist": (
        {"CacheParameterGroupName": "mine"}, "CacheParameterGroupNotFound", "not found"),
    "a parameter group of another family": (
        {"CacheParameterGroupName": "default.valkey8"}, "InvalidParameterCombination", "Expected a parameter group"),
    "failover without a replica": (
        {"AutomaticFailoverEnabled": True}, "InvalidParameterCombination", "at least one replica"),
    "two zones for one node": (
        {"PreferredCacheClusterAZs": ["ap-northeast-1a", "ap-northeast-1c"]}, "InvalidParameterCombination", "zones"),
    "a zone of another region": ({"PreferredCacheClusterAZs": ["us-east-1a"]}, "InvalidParameterValue", "us-east-1a"),
    "seven nodes": ({"NumCacheClusters": 7}, "InvalidParameterValue", "1 to 6"),
    "cluster mode without failover": ({"NumNodeGroups": 2}, "InvalidParameterCombination", "automatic failover"),
    "a cluster mode parameter group without failover": (
        {"CacheParameterGroupName": "default.redis6.x.cluster.on"}, "InvalidParameterCombination", "failover"),
    "a key of one's own": ({"AtRestEncryptionEnabled": True, "KmsKeyId": "k"}, "InvalidParameterCombination", "not offered"),
}  # fmt: skip


@pytest.mark.parametrize("what", CREATE)
def test_creation_is_refused_with(sessions: Any, what: str) -> None:
    options, code, words = CREATE[what]
    request = {"ReplicationGroupId": "refused", "ReplicationGroupDescription": "x", "Engine": "redis",
               "EngineVersion": "6.2", "CacheNodeType": "cache.r6g.large"} | options  # fmt: skip
    assert sessions.refusal(sessions.elasticache.create_replication_group, **request) == code
    assert words in sessions.last_message
    assert sessions.refusal(sessions.group, "refused") == "ReplicationGroupNotFoundFault"


def test_what_comes_later_is_refused_and_not_pretended(sessions: Any) -> None:
    client = sessions.elasticache
    for call, options in (
        (client.create_serverless_cache, {"ServerlessCacheName": "s", "Engine": "redis"}),
        (client.create_global_replication_group,
         {"GlobalReplicationGroupIdSuffix": "g", "PrimaryReplicationGroupId": "sessions"}),
    ):  # fmt: skip
        assert sessions.refusal(call, **options) == "InvalidParameterCombination"
        assert "not offered by the local cloud yet" in sessions.last_message


def test_groups_and_clusters_that_do_not_exist_are_refused(account: Any) -> None:
    client = account.elasticache
    missing = {"ReplicationGroupId": "nothing"}
    assert account.refusal(client.describe_replication_groups, **missing) == "ReplicationGroupNotFoundFault"
    assert account.refusal(client.modify_replication_group, **missing) == "ReplicationGroupNotFoundFault"
    assert account.refusal(client.delete_replication_group, **missing) == "ReplicationGroupNotFoundFault"
    assert account.refusal(client.describe_cache_clusters, CacheClusterId="nothing") == "CacheClusterNotFound"


def test_long_lists_come_in_pages(account: Any) -> None:
    account.create("paged", NumCacheClusters=2)
    parameters = {"CacheParameterGroupName": "default.redis6.x", "MaxRecords": 20}
    first = account.elasticache.describe_cache_parameters(**parameters)
    assert len(first["Parameters"]) == 20
    pages = account.elasticache.get_paginator("describe_cache_parameters").paginate(**parameters)
    names = [p["ParameterName"] for page in pages for p in page["Parameters"]]
    assert len(names) == len(set(names)) > 40
    refused = account.refusal(account.elasticache.describe_replication_groups, MaxRecords=101)
    assert refused == "InvalidParameterValue"
