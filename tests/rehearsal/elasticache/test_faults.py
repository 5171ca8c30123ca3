"""A creation fails when that was ordered, once, with events that say why; what is left can be deleted."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.rehearsal.cloud import CloudFailed


@pytest.fixture(scope="module")
def saved(account: Any) -> Any:
    account.create("source", NumCacheClusters=2)
    account.data("source").set("key", "value")
    account.snapshot("kept", "source")
    return account


def delete(account: Any, name: str) -> None:
    account.elasticache.delete_replication_group(ReplicationGroupId=name)
    account.gone(name)
    assert account.refusal(account.member, f"{name}-001") == "CacheClusterNotFound"


def test_the_next_creation_fails_and_the_one_after_it_does_not(saved: Any) -> None:
    saved.cloud.fail_next("create-failed")
    group = saved.create("unlucky", wait="create-failed", NumCacheClusters=2)
    assert group["NodeGroups"] == [] and group["MemberClusters"] == ["unlucky-001", "unlucky-002"]
    assert saved.member("unlucky-002")["CacheClusterStatus"] == "incompatible-network"
    told = saved.events("unlucky")[0]
    assert told.startswith("Creation failed for replication group unlucky: ") and "ordered for this rehearsal" in told
    assert "free IP addresses" in saved.events("unlucky-001")[0]
    assert saved.cloud.settings()["fail_next"] == []
    delete(saved, "unlucky")
    assert saved.create("unlucky")["Status"] == "available"


def test_the_next_restore_fails_and_creations_without_a_backup_are_spared(saved: Any) -> None:
    saved.cloud.fail_next("restore-failed")
    saved.create("empty")
    assert saved.cloud.settings()["fail_next"] == ["restore-failed"]
    saved.create("unrestored", wait="create-failed", SnapshotName="kept")
    assert saved.member("unrestored-001")["CacheClusterStatus"] == "restore-failed"
    assert saved.events("unrestored")[0].startswith("Restore from the backup failed for replication group unrestored: ")
    delete(saved, "unrestored")
    saved.create("unrestored", SnapshotName="kept")
    assert saved.data("unrestored").get("key") == "value"


def test_a_failed_group_can_only_be_described_and_deleted(saved: Any) -> None:
    saved.cloud.fail_next("create-failed")
    saved.create("stuck", wait="create-failed")
    client = saved.elasticache
    for call, options in (
        (client.modify_replication_group, {"ReplicationGroupId": "stuck", "ApplyImmediately": True}),
        (client.create_snapshot, {"ReplicationGroupId": "stuck", "SnapshotName": "nothing"}),
        (client.increase_replica_count, {"ReplicationGroupId": "stuck", "NewReplicaCount": 1, "ApplyImmediately": True}),
    ):
        assert saved.refusal(call, **options) == "InvalidReplicationGroupState"
    final = {"ReplicationGroupId": "stuck", "FinalSnapshotIdentifier": "last"}
    assert saved.refusal(client.delete_replication_group, **final) == "InvalidParameterCombination"
    delete(saved, "stuck")


def test_an_order_is_taken_back_and_an_unknown_one_is_refused(saved: Any) -> None:
    saved.cloud.fail_next("create-failed", "restore-failed")
    assert saved.cloud.settings()["fail_next"] == ["create-failed", "restore-failed"]
    saved.cloud.fail_next()
    saved.create("spared", SnapshotName="kept")
    with pytest.raises(CloudFailed, match="400|on-fire"):
        saved.cloud.fail_next("on-fire")
