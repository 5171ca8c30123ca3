"""The topology is told and drawn as it is, whatever kind of group, and whether or not the nodes answer."""

from __future__ import annotations

import dataclasses

import boto3
import pytest
from botocore.stub import Stubber

from helpers.elasticache import topology
from helpers.elasticache.groups import Group, describe_group
from helpers.elasticache.topology import NodeFacts, Topology
from helpers.rehearsal import engines
from helpers.rehearsal.servers import Server


class OneClient:
    """Stands for `Aws` with one client, whose answers are checked against AWS's own model of the service."""

    region = "ap-northeast-1"

    def __init__(self) -> None:
        self.elasticache = boto3.client("elasticache", region_name=self.region, aws_access_key_id="x", aws_secret_access_key="x")
        self.stub = Stubber(self.elasticache)
        self.stub.activate()

    def client(self, service: str) -> object:
        return self.elasticache


def described(shards: int, replicas: int = 1) -> Group:
    """A group as `describe_group` reads it from what AWS answers with cluster mode enabled: no roles, no read endpoints."""
    aws, each = OneClient(), 16384 // shards
    node_groups = []
    for shard in range(1, shards + 1):
        members = [{"CacheClusterId": f"big-{shard:04d}-{node:03d}", "CacheNodeId": "0001", "PreferredAvailabilityZone": "abc"[(shard + node) % 3]} for node in range(1, replicas + 2)]
        node_groups.append({"NodeGroupId": f"{shard:04d}", "Status": "available", "Slots": f"{(shard - 1) * each}-{shard * each - 1}", "NodeGroupMembers": members})
    names = [member["CacheClusterId"] for one in node_groups for member in one["NodeGroupMembers"]]
    group = {"ReplicationGroupId": "big", "Status": "available", "ClusterEnabled": True, "MemberClusters": names, "NodeGroups": node_groups, "AutomaticFailover": "enabled"}
    group["ConfigurationEndpoint"] = {"Address": "big.abc.clustercfg.apne1.cache.amazonaws.com", "Port": 6379}
    aws.stub.add_response("describe_replication_groups", {"ReplicationGroups": [group]})
    for name in names:
        node = {"CacheNodeId": "0001", "Endpoint": {"Address": f"{name}.abc.apne1.cache.amazonaws.com", "Port": 6379}}
        aws.stub.add_response("describe_cache_clusters", {"CacheClusters": [{"CacheClusterId": name, "Engine": "valkey", "EngineVersion": "8.1.0", "CacheNodes": [node]}]})
    return describe_group(aws, "big")


def told(group: Group) -> Topology:
    """A topology whose first node of each shard says that it is the primary."""
    facts = {member.id: NodeFacts("primary" if member is shard.members[0] else "replica", 7, 1 << 30, 4 << 30) for shard in group.shards for member in shard.members}
    return Topology(group, facts)


def test_a_sharded_group_is_read_with_its_shards_slots_and_configuration_endpoint():
    group = described(3)
    assert group.cluster_mode and group.endpoint == "big.abc.clustercfg.apne1.cache.amazonaws.com:6379"
    assert [(shard.id, shard.slots, len(shard.members)) for shard in group.shards] == [("0001", "0-5460", 2), ("0002", "5461-10921", 2), ("0003", "10922-16382", 2)]
    assert group.shards[1].members[0].host == "big-0002-001.abc.apne1.cache.amazonaws.com"
    assert [member.zone for member in group.shards[0].members] == ["c", "a"]
    assert {member.role for member in group.members} == {""}


def test_the_finding_counts_shards_roles_and_zones():
    assert told(described(2)).finding == "2 shards: 2 primaries and 2 replicas in 3 zones"
    assert told(described(1, replicas=0)).finding == "1 shard: 1 primary in 1 zone"
    assert Topology(described(1)).finding == "1 shard: 2 nodes whose role is not known in 2 zones"


@pytest.mark.parametrize(("shards", "replicas"), [(1, 0), (1, 1), (1, 5), (3, 2), (12, 1)])
def test_every_node_that_is_drawn_is_named_and_the_title_states_the_finding(shards, replicas):
    picture = told(described(shards, replicas))
    drawing = picture.figure()
    axes = drawing.axes[0]
    texts = [one.get_text() for one in axes.texts]
    assert axes.get_title(loc="left") == f"big: {picture.finding}"
    drawn = [member.id for shard in picture.shards[: topology.SHARDS_DRAWN] for member in shard.members]
    assert [text for text in texts if text.startswith("big-") and ":" not in text] == drawn
    assert texts.count("PRIMARY") == min(shards, topology.SHARDS_DRAWN)
    assert any("4 more shards not drawn" in text for text in texts) == (shards == 12)
    low, high = sorted(axes.get_ylim())
    assert all(low <= one.get_position()[1] <= high for one in axes.texts)


def test_the_nodes_themselves_say_role_keys_and_memory_and_one_that_is_gone_says_nothing(tmp_path, access_to):
    engine = engines.pair()[0]
    with Server(engine, tmp_path / "a") as primary, Server(engine, tmp_path / "b", replica_of=primary) as replica:
        with primary.client() as client:
            client.set("k", "x" * 100_000)
            client.wait(1, 5000)
        access = access_to(primary, replica)
        picture = topology.describe_topology(access)
        assert [picture.role(one) for one in access.group.members] == ["primary", "replica"]
        assert [one.keys for one in picture.facts.values()] == [1, 1]
        assert all(one.used_memory > 100_000 for one in picture.facts.values())
        replica.kill()
        table = topology.describe_topology(access).table().set_index("node")
        assert (table.loc["g-001", "keys"], table.loc["g-002", "keys"]) == ("1", "no answer")


def test_what_happens_when_a_node_fails_follows_from_this_very_group():
    def then(group: Group) -> list[str]:
        return list(topology.what_if(told(group))["then"])

    both = then(described(1))
    assert "big-0001-002 (a) is promoted" in both[0] and "configuration endpoint" in both[0]
    assert both[1].startswith("A new replica replaces it")
    assert "are lost" in then(described(1, replicas=0))[0]
    assert then(dataclasses.replace(described(1), automatic_failover="disabled"))[0].startswith("Automatic failover is disabled")
    assert "primary endpoint's name" in then(dataclasses.replace(described(1), cluster_mode=False))[0]


def test_a_cluster_outside_any_replication_group_is_one_shard_with_one_node(access_to, old_server):
    alone = topology.describe_topology(access_to(old_server))
    assert [shard.members for shard in alone.shards] == [alone.group.members]
    assert alone.finding == "1 shard: 1 primary in 1 zone"
    assert alone.figure() is not None
