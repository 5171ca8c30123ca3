"""Backups: snapshots of a group, their export to S3 as RDB files, and what an RDB file says of itself."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd

from helpers.aws import UNKNOWN, Aws, RunbookError, wait
from helpers.aws.errors import is_not_found
from helpers.elasticache.groups import AN_HOUR, Group

RDB_END = 0xFF  # the opcode before the 8 bytes of checksum at the end of an RDB file


@dataclass(frozen=True)
class BackupFile:
    """An RDB file in S3: where, its size in bytes, ETag, RDB version."""

    bucket: str
    key: str
    bytes: int | str
    etag: str
    rdb_version: int | str

    @property
    def arn(self) -> str:
        """The S3 object's ARN, as SnapshotArns wants it."""
        return f"arn:aws:s3:::{self.bucket}/{self.key}"


@dataclass(frozen=True)
class Backup:
    """A group's backup in S3: the snapshot it is of, and one file a shard."""

    snapshot: str
    files: tuple[BackupFile, ...]
    note: str = ""

    def table(self) -> pd.DataFrame:
        """The exported files: snapshot, file, size, checksum, RDB version."""
        if self.note:
            return pd.DataFrame({"backup": [self.note]})
        rows = [(self.snapshot, f"s3://{one.bucket}/{one.key}", one.bytes, one.etag, one.rdb_version) for one in self.files]
        return pd.DataFrame(rows, columns=["snapshot", "file", "bytes", "ETag", "RDB version"])


def ensure_snapshot(aws: Aws, group: str, name: str) -> None:
    """Take a manual snapshot of a group unless it is there, and wait until it is available."""
    if snapshot_state(aws, name) == "absent":
        aws.client("elasticache").create_snapshot(SnapshotName=name, ReplicationGroupId=group)
    wait(f"snapshot {name}", lambda: snapshot_state(aws, name), fail=("failed", "absent"), timeout=AN_HOUR)


def snapshot_state(aws: Aws, name: str) -> str:
    """The status of a snapshot, or `absent`. (There is no botocore waiter for snapshots.)"""
    try:
        found = aws.client("elasticache").describe_snapshots(SnapshotName=name)["Snapshots"]
    except Exception as error:
        if is_not_found(error):
            return "absent"
        raise
    return found[0]["SnapshotStatus"] if found else "absent"


def export_snapshot(aws: Aws, name: str, bucket: str, shards: int = 1) -> Backup:
    """Copy a snapshot to S3 as `<name>-s3-0001.rdb`, `-0002` ..., one file a shard, unless they are there; returns the checked files.

    Source: https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/backups-exporting.html
    """
    keys = export_keys(name, shards)
    if not _all_exist(aws, bucket, keys):
        aws.client("elasticache").copy_snapshot(SourceSnapshotName=name, TargetSnapshotName=f"{name}-s3", TargetBucket=bucket)
        wait(f"export to s3://{bucket}/{keys[0]}", lambda: snapshot_state(aws, name) if _all_exist(aws, bucket, keys) else "exporting", timeout=AN_HOUR)
    return Backup(name, tuple(read_file(aws, bucket, key) for key in keys))


def export_keys(name: str, shards: int) -> list[str]:
    """The keys of the files that the export of snapshot `name` makes."""
    return [f"{name}-s3-{number:04}.rdb" for number in range(1, shards + 1)]


def read_backup(aws: Aws, bucket: str, key: str, shards: int = 1) -> Backup:
    """A backup made earlier: the file, or with several shards the files `...-0001.rdb`, `...-0002.rdb` beside it."""
    keys = [key]
    if shards > 1:
        stem = re.sub(r"-\d{4}\.rdb$", "", key)
        keys = [f"{stem}-{number:04}.rdb" for number in range(1, shards + 1)]
    return Backup("", tuple(read_file(aws, bucket, one) for one in keys))


def read_file(aws: Aws, bucket: str, key: str) -> BackupFile:
    """The facts of an RDB file in S3, read from its head and tail. Raises `RunbookError` for one that is cut off."""
    s3 = aws.client("s3")
    try:
        head = s3.head_object(Bucket=bucket, Key=key)
    except Exception as error:
        if is_not_found(error):
            raise RunbookError(f"There is no file s3://{bucket}/{key}.", "Check the bucket and the key of the backup.") from error
        raise
    size = head["ContentLength"]
    if size == UNKNOWN:
        return BackupFile(bucket, key, UNKNOWN, UNKNOWN, UNKNOWN)
    version = _rdb_version(aws, bucket, key, size)
    return BackupFile(bucket, key, size, head["ETag"].strip('"'), version)


def _rdb_version(aws: Aws, bucket: str, key: str, size: int) -> int:
    s3 = aws.client("s3")
    first = s3.get_object(Bucket=bucket, Key=key, Range="bytes=0-8")["Body"].read() if size > 18 else b""
    magic = re.fullmatch(rb"(REDIS|VALKEY)(\d{3,4})", first)
    if not magic:
        raise RunbookError(f"s3://{bucket}/{key} is no RDB file ({size} bytes).", "Export the snapshot again, or name another backup.")
    last = s3.get_object(Bucket=bucket, Key=key, Range=f"bytes={size - 9}-{size - 1}")["Body"].read()
    if last[0] != RDB_END:
        raise RunbookError(f"The RDB file s3://{bucket}/{key} is truncated: it ends without its end mark.", "Export the snapshot again, or name another backup.")
    return int(magic[2])


def _all_exist(aws: Aws, bucket: str, keys: list[str]) -> bool:
    return all(_object_exists(aws, bucket, key) for key in keys)


def _object_exists(aws: Aws, bucket: str, key: str) -> bool:
    try:
        aws.client("s3").head_object(Bucket=bucket, Key=key)
    except Exception as error:
        if is_not_found(error):
            return False
        raise
    return True


def delete_snapshot(aws: Aws, name: str) -> None:
    """Delete a snapshot if it is there."""
    if snapshot_state(aws, name) != "absent":
        aws.client("elasticache").delete_snapshot(SnapshotName=name)


def delete_export(aws: Aws, bucket: str, keys: list[str]) -> None:
    """Delete exported files that are there."""
    for key in keys:
        if _object_exists(aws, bucket, key):
            aws.client("s3").delete_object(Bucket=bucket, Key=key)


def manual_snapshots_today(aws: Aws, group: Group) -> int:
    """How many manual snapshots of the group's busiest node were taken in the last 24 h (the limit is 20)."""
    now = pd.Timestamp.now(tz="UTC")
    pages = aws.client("elasticache").get_paginator("describe_snapshots")
    about = {"CacheClusterId": group.cluster} if group.cluster else {"ReplicationGroupId": group.id}
    found = [one for page in pages.paginate(**about, SnapshotSource="user") for one in page["Snapshots"]]
    nodes = [(node.get("CacheClusterId", ""), node.get("SnapshotCreateTime")) for one in found for node in one.get("NodeSnapshots", [])]
    recent = [node for node, created in nodes if created is not None and now - pd.Timestamp(created) < pd.Timedelta(hours=24)]
    return max((recent.count(node) for node in set(recent)), default=0)
