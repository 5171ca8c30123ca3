"""What surrounds the groups: engine versions, events, subnet groups, tags, service updates."""

from __future__ import annotations

from typing import Any

from helpers.rehearsal import engines


def test_only_installed_engine_versions_are_offered(account: Any) -> None:
    offered = account.elasticache.describe_cache_engine_versions()["CacheEngineVersions"]
    assert {(v["Engine"], v["EngineVersion"]) for v in offered} == {(e.name, e.minor) for e in engines.available()}
    assert all(v["CacheParameterGroupFamily"] for v in offered)
    one = account.elasticache.describe_cache_engine_versions(Engine="valkey", DefaultOnly=True)["CacheEngineVersions"]
    assert len(one) == 1


def test_events_are_found_by_source_and_time(account: Any) -> None:
    account.create("told")
    client = account.elasticache
    told = client.describe_events(SourceIdentifier="told", SourceType="replication-group", Duration=60)["Events"]
    assert [event["Message"] for event in told] == ["Replication group told created"]
    member = client.describe_events(SourceIdentifier="told-001", SourceType="cache-cluster")["Events"]
    assert [event["Message"] for event in member] == [
        "Cache cluster created",
        "Added cache node 0001 in availability zone ap-northeast-1a",
    ]
    assert client.describe_events(EndTime=told[0]["Date"].replace(year=2020))["Events"] == []


def test_tags_are_added_listed_and_removed(account: Any) -> None:
    client = account.elasticache
    arn = account.create("tagged")["ARN"]
    client.add_tags_to_resource(ResourceName=arn, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    assert client.remove_tags_from_resource(ResourceName=arn, TagKeys=["a"])["TagList"] == [
        {"Key": "b", "Value": "2"}
    ]
    assert account.refusal(client.remove_tags_from_resource, ResourceName=arn, TagKeys=["a"]) == "TagNotFound"
    missing = arn.replace("tagged", "missing")
    assert account.refusal(client.list_tags_for_resource, ResourceName=missing) == "ReplicationGroupNotFoundFault"
    assert account.refusal(client.list_tags_for_resource, ResourceName="arn:aws:s3:::x") == "InvalidARN"


def test_subnet_groups_are_made_of_subnets_that_exist(account: Any) -> None:
    client, ec2 = account.elasticache, account.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.1.0.0/24")["Subnet"]["SubnetId"]
    made = client.create_cache_subnet_group(
        CacheSubnetGroupName="Inner", CacheSubnetGroupDescription="x", SubnetIds=[subnet]
    )["CacheSubnetGroup"]
    assert (made["CacheSubnetGroupName"], made["VpcId"]) == ("inner", vpc)
    account.create("inside", CacheSubnetGroupName="inner")
    assert account.member("inside-001")["CacheSubnetGroupName"] == "inner"
    used = {"CacheSubnetGroupName": "inner"}
    assert account.refusal(client.delete_cache_subnet_group, **used) == "CacheSubnetGroupInUse"
    outside = {"ReplicationGroupId": "outside", "ReplicationGroupDescription": "x", "CacheSubnetGroupName": "none"}
    assert account.refusal(client.create_replication_group, **outside) == "CacheSubnetGroupNotFoundFault"
    unknown = {"CacheSubnetGroupName": "bad", "CacheSubnetGroupDescription": "x", "SubnetIds": ["subnet-00000000"]}
    assert account.refusal(client.create_cache_subnet_group, **unknown) == "InvalidSubnet"


def test_there_are_no_service_updates(account: Any) -> None:
    assert account.elasticache.describe_service_updates()["ServiceUpdates"] == []
    assert account.elasticache.describe_update_actions()["UpdateActions"] == []
