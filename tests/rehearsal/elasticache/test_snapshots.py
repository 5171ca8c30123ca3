"""Snapshots are real RDB files: saved, exported to S3 with permission only, and loaded by a new group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.rehearsal import engines
from helpers.rehearsal.elasticache.storage import CANONICAL_ID
from helpers.rehearsal.servers import Server

KEYS = 2000


@pytest.fixture(scope="module")
def sessions(account: Any) -> Any:
    account.create("sessions", NumCacheClusters=2)
    data = account.data("sessions")
    pipeline = data.pipeline(transaction=False)
    for number in range(KEYS):
        pipeline.set(f"session:{number}", f"user {number}", ex=3600)
    pipeline.hset("profile", mapping={"name": "alice"})
    pipeline.zadd("scores", {"bob": 0.1})
    pipeline.execute()
    account.snapshot("nightly", "sessions")
    account.bucket()
    return account


def export(account: Any, until: Any, name: str, bucket: str = "sessions-backup") -> str:
    account.elasticache.copy_snapshot(SourceSnapshotName="nightly", TargetSnapshotName=name, TargetBucket=bucket)
    until(lambda: account.exists(bucket, f"{name}-0001.rdb"))
    account.snapshot_available("nightly")
    return f"arn:aws:s3:::{bucket}/{name}-0001.rdb"


def test_a_snapshot_remembers_where_it_came_from(sessions: Any) -> None:
    found = sessions.elasticache.describe_snapshots(SnapshotName="nightly")["Snapshots"][0]
    assert (found["ReplicationGroupId"], found["SnapshotSource"]) == ("sessions", "manual")
    assert found["EngineVersion"].startswith("6.2.")
    assert found["CacheParameterGroupName"] == "default.redis6.x"
    node = found["NodeSnapshots"][0]
    assert (node["CacheClusterId"], node["CacheSize"]) == ("sessions-002", "1 MB")


def test_snapshots_are_found_by_group_and_source(sessions: Any) -> None:
    find = sessions.elasticache.describe_snapshots
    assert [s["SnapshotName"] for s in find(ReplicationGroupId="sessions", SnapshotSource="user")["Snapshots"]]
    assert find(ReplicationGroupId="other")["Snapshots"] == []
    assert find(SnapshotSource="system")["Snapshots"] == []


def test_the_data_moves_through_s3_into_a_new_group(sessions: Any, until: Any) -> None:
    arn = export(sessions, until, "moved")
    sessions.create("imported", NumCacheClusters=2, SnapshotArns=[arn])
    data = sessions.data("imported")
    assert data.dbsize() == KEYS + 2
    assert data.get("session:7") == "user 7" and 0 < data.ttl("session:7") <= 3600
    assert data.hgetall("profile") == {"name": "alice"} and data.zscore("scores", "bob") == 0.1
    assert data.info("memory")["maxmemory"] == 14037181030 * 3 // 4
    until(lambda: sessions.data("imported", "ReaderEndpoint").dbsize() == KEYS + 2)
    assert "Restore succeeded for replication group imported" in sessions.events("imported")


def test_a_newer_engine_imports_an_older_snapshot_by_name(sessions: Any) -> None:
    new = engines.pair()[1]
    sessions.create("renewed", SnapshotName="nightly", Engine=new.name, EngineVersion=new.minor)
    assert sessions.data("renewed").dbsize() == KEYS + 2


def test_a_snapshot_has_every_write_acknowledged_before_it(sessions: Any) -> None:
    data = sessions.data("sessions")
    data.set("just", "written")
    sessions.snapshot("fresh", "sessions")
    sessions.create("fresh-copy", SnapshotName="fresh")
    assert sessions.data("fresh-copy").get("just") == "written"


def test_a_snapshot_is_copied_and_deleted(sessions: Any) -> None:
    client = sessions.elasticache
    client.copy_snapshot(SourceSnapshotName="nightly", TargetSnapshotName="copied")
    sessions.snapshot_available("copied")
    assert client.delete_snapshot(SnapshotName="copied")["Snapshot"]["SnapshotStatus"] == "deleting"
    assert sessions.refusal(client.describe_snapshots, SnapshotName="copied") == "SnapshotNotFoundFault"
    assert sessions.refusal(client.delete_snapshot, SnapshotName="copied") == "SnapshotNotFoundFault"


def test_a_final_snapshot_is_taken_before_the_group_is_deleted(sessions: Any) -> None:
    sessions.create("leaving")
    sessions.data("leaving").set("key", "value")
    sessions.elasticache.delete_replication_group(ReplicationGroupId="leaving", FinalSnapshotIdentifier="farewell")
    sessions.gone("leaving")
    assert sessions.snapshot_available("farewell")["ReplicationGroupId"] == "leaving"
    sessions.create("returned", SnapshotName="farewell")
    assert sessions.data("returned").get("key") == "value"


def test_a_name_that_exists_is_refused(sessions: Any) -> None:
    client = sessions.elasticache
    again = {"ReplicationGroupId": "sessions", "SnapshotName": "nightly"}
    assert sessions.refusal(client.create_snapshot, **again) == "SnapshotAlreadyExistsFault"
    copy = {"SourceSnapshotName": "nightly", "TargetSnapshotName": "nightly"}
    assert sessions.refusal(client.copy_snapshot, **copy) == "SnapshotAlreadyExistsFault"
    final = {"ReplicationGroupId": "sessions", "FinalSnapshotIdentifier": "nightly"}
    assert sessions.refusal(client.delete_replication_group, **final) == "SnapshotAlreadyExistsFault"
    assert sessions.group("sessions")["Status"] == "available"


def test_the_quota_of_manual_snapshots_is_enforced(account: Any) -> None:
    account.create("eager")
    for number in range(20):
        account.snapshot(f"eager-{number}", "eager")
        account.reaches("eager", "available")
    over = {"ReplicationGroupId": "eager", "SnapshotName": "eager-21"}
    assert account.refusal(account.elasticache.create_snapshot, **over) == "SnapshotQuotaExceededFault"


def refused_export(account: Any, name: str, bucket: str) -> str:
    code = account.refusal(
        account.elasticache.copy_snapshot,
        SourceSnapshotName="nightly", TargetSnapshotName=name, TargetBucket=bucket,
    )  # fmt: skip
    assert code == "InvalidParameterValue"
    return str(account.last_message)


def test_an_export_is_refused_without_a_bucket_in_the_region_or_the_grant(sessions: Any, until: Any) -> None:
    assert refused_export(sessions, "a", "no-such-bucket") == "The S3 bucket no-such-bucket does not exist."
    sessions.bucket("elsewhere", granted=False, region="us-west-2")
    assert refused_export(sessions, "a", "elsewhere") == "The S3 bucket elsewhere is outside of the region."
    sessions.bucket("bare", granted=False)
    assert "has not been granted READ permissions" in refused_export(sessions, "a", "bare")
    sessions.grant("bare", ["s3:GetObject", "s3:ListBucket", "s3:GetBucketAcl"])
    assert "has not been granted WRITE permissions" in refused_export(sessions, "a", "bare")
    sessions.grant("bare", ["s3:GetObject", "s3:ListBucket", "s3:Put*", "s3:ListM*", "s3:ListBucketM*"])
    assert "has not been granted READ_ACP permissions" in refused_export(sessions, "a", "bare")
    sessions.grant("bare", ["s3:*"])
    export(sessions, until, "a", "bare")
    assert "already contains an object with key a-0001.rdb" in refused_export(sessions, "a", "bare")


def test_an_acl_for_the_canonical_id_grants_as_much_as_a_policy(sessions: Any, until: Any) -> None:
    sessions.s3.create_bucket(
        Bucket="by-acl",
        CreateBucketConfiguration={"LocationConstraint": sessions.cloud.region},
        ObjectOwnership="ObjectWriter",
    )
    assert "READ" in refused_export(sessions, "acl", "by-acl")
    grantee = f"id={CANONICAL_ID}"
    sessions.s3.put_bucket_acl(Bucket="by-acl", GrantRead=grantee, GrantWrite=grantee, GrantReadACP=grantee)
    arn = export(sessions, until, "acl", "by-acl")
    seed = {"ReplicationGroupId": "by-acl", "ReplicationGroupDescription": "x", "SnapshotArns": [arn]}
    assert sessions.refusal(sessions.elasticache.create_replication_group, **seed) == "InvalidParameterValue"
    assert "No permission to access S3 object" in sessions.last_message
    sessions.s3.put_object_acl(Bucket="by-acl", Key="acl-0001.rdb", GrantRead=grantee)
    sessions.create("by-acl", SnapshotArns=[arn])


def test_a_seed_that_cannot_be_read_is_refused_before_anything_is_created(sessions: Any) -> None:
    def refused(**seed: Any) -> str:
        request = {"ReplicationGroupId": "seeded", "ReplicationGroupDescription": "x", **seed}
        code = sessions.refusal(sessions.elasticache.create_replication_group, **request)
        assert sessions.refusal(sessions.group, "seeded") == "ReplicationGroupNotFoundFault"
        return code

    assert refused(SnapshotArns=["arn:aws:s3:::sessions-backup/missing.rdb"]) == "InvalidParameterValue"
    assert refused(SnapshotArns=["arn:aws:s3:::nowhere/file.rdb"]) == "InvalidParameterValue"
    assert refused(SnapshotArns=["sessions-backup/file.rdb"]) == "InvalidParameterValue"
    assert refused(SnapshotArns=["arn:aws:s3:::sessions-backup/a,b.rdb"]) == "InvalidParameterValue"
    assert refused(SnapshotName="missing") == "SnapshotNotFoundFault"


def failed(account: Any, name: str, **options: Any) -> str:
    """Return the event that says why a group could not be created."""
    account.create(name, wait="create-failed", **options)
    assert account.member(f"{name}-001")["CacheClusterStatus"] == "restore-failed"
    told = account.events(name)[0]
    account.elasticache.delete_replication_group(ReplicationGroupId=name)
    account.gone(name)
    return str(told)


def put(account: Any, key: str, file: Path | bytes) -> str:
    body = file if isinstance(file, bytes) else file.read_bytes()
    account.s3.put_object(Bucket="sessions-backup", Key=key, Body=body)
    return f"arn:aws:s3:::sessions-backup/{key}"


def test_a_truncated_file_ends_in_a_failed_creation_that_says_why(sessions: Any, until: Any) -> None:
    export(sessions, until, "whole")
    whole = sessions.s3.get_object(Bucket="sessions-backup", Key="whole-0001.rdb")["Body"].read()
    told = failed(sessions, "cut", SnapshotArns=[put(sessions, "cut.rdb", whole[: len(whole) // 2])])
    assert "Restore from the backup failed" in told and "EOF" in told


def test_a_file_of_a_newer_engine_is_refused_by_the_older_one(sessions: Any, tmp_path: Path) -> None:
    old, new = engines.pair()
    with Server(new, tmp_path) as server:
        server.client().set("key", "value")
        server.client().save()
    arn = put(sessions, "newer.rdb", server.rdb_path)
    told = failed(sessions, "older", Engine=old.name, EngineVersion=old.minor, SnapshotArns=[arn])
    assert "Can't handle RDB format version" in told


def test_data_larger_than_the_node_ends_in_a_failed_creation(sessions: Any, tmp_path: Path) -> None:
    with Server(engines.available()[0], tmp_path) as server:
        # Zeros: many MiB in memory, little in the file.
        server.client().setrange("large", 16 * 2**20 - 1, b"\0")
        server.client().save()
    arn = put(sessions, "large.rdb", server.rdb_path)
    sessions.elasticache.create_cache_parameter_group(
        CacheParameterGroupName="tight", CacheParameterGroupFamily=engines.available()[0].family, Description="x"
    )
    sessions.elasticache.modify_cache_parameter_group(
        CacheParameterGroupName="tight",
        ParameterNameValues=[{"ParameterName": "reserved-memory-percent", "ParameterValue": "98"}],
    )
    told = failed(
        sessions, "small", CacheNodeType="cache.t3.micro", CacheParameterGroupName="tight", SnapshotArns=[arn]
    )
    assert "a cache.t3.micro gives 10737418 bytes to data" in told
