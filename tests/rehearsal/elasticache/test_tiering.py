"""Groups with data tiering run, and are refused what AWS refuses them."""

from __future__ import annotations

from typing import Any

import pytest

TIERED = {"CacheNodeType": "cache.r6gd.xlarge", "DataTieringEnabled": True}


@pytest.fixture(scope="module")
def tiered(account: Any) -> Any:
    account.create("tiered", **TIERED)
    account.data("tiered").set("key", "value")
    account.snapshot("cold", "tiered")
    account.reaches("tiered", "available")
    return account


def test_a_group_with_data_tiering_is_described_as_such_and_scales_among_its_own(tiered: Any) -> None:
    assert tiered.group("tiered")["DataTiering"] == "enabled"
    assert tiered.elasticache.describe_snapshots(SnapshotName="cold")["Snapshots"][0]["DataTiering"] == "enabled"
    allowed = tiered.elasticache.list_allowed_node_type_modifications(ReplicationGroupId="tiered")
    assert allowed["ScaleUpModifications"] == ["cache.r6gd.2xlarge", "cache.r6gd.4xlarge"]
    assert allowed["ScaleDownModifications"] == []


def test_its_backup_restores_to_the_same_family(tiered: Any) -> None:
    tiered.create("again", SnapshotName="cold", **{**TIERED, "CacheNodeType": "cache.r6gd.2xlarge"})
    assert tiered.data("again").get("key") == "value"


def test_what_does_not_go_with_data_tiering_is_refused(tiered: Any) -> None:
    client = tiered.elasticache
    request = {"ReplicationGroupId": "refused", "ReplicationGroupDescription": "x"}
    client.create_cache_parameter_group(
        CacheParameterGroupName="random", CacheParameterGroupFamily="redis6.x", Description="x"
    )
    client.modify_cache_parameter_group(
        CacheParameterGroupName="random",
        ParameterNameValues=[{"ParameterName": "maxmemory-policy", "ParameterValue": "allkeys-random"}],
    )
    bucket = tiered.bucket("cold-backup")
    scaled = {"ReplicationGroupId": "tiered", "CacheNodeType": "cache.r6g.xlarge"}
    for call, options, words in (
        (client.create_replication_group, {**request, "CacheNodeType": "cache.r6gd.xlarge"}, "must be true"),
        (client.create_replication_group, {**request, **TIERED, "CacheNodeType": "cache.r6g.xlarge"}, "not supported"),
        (client.create_replication_group, {**request, **TIERED, "CacheParameterGroupName": "random"}, "allkeys-random"),
        (client.create_replication_group, {**request, "CacheNodeType": "cache.r6g.xlarge", "SnapshotName": "cold"},
         "r6gd only"),
        (client.create_cache_cluster, {"CacheClusterId": "one", "Engine": "redis", "CacheNodeType": "cache.r6gd.xlarge"},
         "needs a replication group"),
        (client.copy_snapshot, {"SourceSnapshotName": "cold", "TargetSnapshotName": "out", "TargetBucket": bucket},
         "cannot be exported"),
        (client.modify_replication_group, {**scaled, "ApplyImmediately": True}, "data tiering"),
    ):  # fmt: skip
        assert tiered.refusal(call, **options) == "InvalidParameterCombination"
        assert words in tiered.last_message
