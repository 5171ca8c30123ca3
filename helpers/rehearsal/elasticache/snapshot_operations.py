"""The operations on snapshots: take, copy, export to S3, show, delete."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from helpers.rehearsal.elasticache import tiering
from helpers.rehearsal.elasticache.answers import not_offered, page
from helpers.rehearsal.elasticache.api import Fault
from helpers.rehearsal.elasticache.events import CLUSTER, GROUP
from helpers.rehearsal.elasticache.groups import Group
from helpers.rehearsal.elasticache.nodes import Node
from helpers.rehearsal.elasticache.parameter_groups import check_name
from helpers.rehearsal.elasticache.snapshots import Part, Snapshot

if TYPE_CHECKING:
    from helpers.rehearsal.elasticache.service import Service

LONGEST_NAME = 255


def create_snapshot(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Take a snapshot of a group, or of one of its members."""
    if "KmsKeyId" in parameters:
        raise not_offered("KmsKeyId")
    with service.lock:
        group, nodes, by_cluster = _source(service, parameters)
        name = service.snapshots.check_new(check_name(parameters["SnapshotName"], "SnapshotName", LONGEST_NAME))
        if group.status != "available":
            raise Fault(
                "InvalidCacheClusterStateFault" if group.alone else "InvalidReplicationGroupStateFault",
                f"{group.title.capitalize()} is {group.status}: a snapshot needs it to be available.",
            )
        snapshot = service.snapshots.begin(name, group, nodes, by_cluster=by_cluster)
        group.status, group.snapshotting = "snapshotting", frozenset(node.cluster_id for node in nodes)
        shown = _describe(service, snapshot)

    def work() -> None:
        with group.work:
            take(service, group, snapshot)
        with service.lock:
            group.status, group.snapshotting = "available", frozenset()

    service.in_background(work)
    return {"Snapshot": shown}


def describe_snapshots(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Show the snapshots that match."""
    with service.lock:
        if name := parameters.get("SnapshotName"):
            found = [service.snapshots.get(name.lower())]
        else:
            found = service.snapshots.all()
        with_shards = parameters.get("ShowNodeGroupConfig", False)
        shown = [_describe(service, snapshot, with_shards=with_shards) for snapshot in found]
    for member in ("ReplicationGroupId", "CacheClusterId"):
        if wanted := parameters.get(member):
            shown = [snapshot for snapshot in shown if snapshot.get(member) == wanted.lower()]
    # All snapshots of the local cloud are manual ones: it has no nightly backups.
    source = parameters.get("SnapshotSource", "user")
    if source not in ("user", "system"):
        raise Fault("InvalidParameterValueException", f"SnapshotSource must be system or user, not {source}.")
    return page("Snapshots", shown if source == "user" else [], parameters)


def copy_snapshot(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Copy a snapshot, or export it to an S3 bucket as RDB files."""
    if "KmsKeyId" in parameters:
        raise not_offered("KmsKeyId")
    bucket = parameters.get("TargetBucket")
    target = check_name(parameters["TargetSnapshotName"], "TargetSnapshotName", LONGEST_NAME)
    with service.lock:
        source = service.snapshots.ready(parameters["SourceSnapshotName"].lower())
        service.snapshots.check_new(target)
    if bucket:
        tiering.check_export(source)
        for key in _keys(source, target):
            service.storage.check_export(bucket, key)
        return {"Snapshot": _export(service, source, target, bucket)}
    with service.lock:
        copied = service.snapshots.copy(source, target)
        shown = _describe(service, copied)

    def work() -> None:
        for before, after in zip(source.files, copied.files, strict=True):
            shutil.copyfile(before, after)
        with service.lock:
            copied.status = "available"

    service.in_background(work)
    return {"Snapshot": shown}


def delete_snapshot(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Delete a snapshot."""
    with service.lock:
        snapshot = service.snapshots.ready(parameters["SnapshotName"].lower())
        snapshot.status = "deleting"
        shown = _describe(service, snapshot)
        service.snapshots.remove(snapshot.name)
        service.tags.pop(service.arn("snapshot", snapshot.name), None)
    return {"Snapshot": shown}


def take(service: Service, group: Group, snapshot: Snapshot) -> bool:
    """Save a snapshot's nodes into its files, all at once.

    Returns False, with an event and no snapshot, where that fails.
    """
    about = f"snapshot with ID '{snapshot.name}' of {group.kind} with ID '{group.id}'"
    try:
        with ThreadPoolExecutor(len(snapshot.parts)) as pool:
            sizes = pool.map(lambda part: _save(service, group, part), snapshot.parts)
            for part, size in zip(snapshot.parts, sizes, strict=True):
                part.size = size
    except Exception as error:  # noqa: BLE001  whatever went wrong is told by an event
        with service.lock:
            service.snapshots.remove(snapshot.name)
        service.events.add(group.source_type, group.id, f"Snapshot failed for {about}: {error}")
        return False
    with service.lock:
        snapshot.status = "available"
    service.events.add(group.source_type, group.id, f"Snapshot succeeded for {about}")
    return True


def _save(service: Service, group: Group, part: Part) -> int:
    return service.work.save(group, group.node(part.node["CacheClusterId"]), part.file)


def _source(service: Service, parameters: dict[str, Any]) -> tuple[Group, list[Node], bool]:
    """Return what to snapshot: group, one node a node group, and whether the request named the node itself."""
    group_id, cluster_id = parameters.get("ReplicationGroupId"), parameters.get("CacheClusterId")
    if (group_id is None) == (cluster_id is None):
        raise Fault("InvalidParameterCombinationException", "Give either ReplicationGroupId or CacheClusterId.")
    if cluster_id is not None:
        group = service.group_of_cluster(cluster_id)
        if not group.nodes:
            raise Fault("InvalidCacheClusterStateFault", f"Cache cluster {group.id} is {group.status}.")
        if group.cluster_mode:
            raise Fault(
                "InvalidParameterCombinationException",
                f"{cluster_id} is in {group.id}, which has cluster mode enabled: back up the replication group.",
            )
        return group, [group.node(cluster_id.lower())], True
    group = service.group(parameters["ReplicationGroupId"])
    if not group.nodes:
        raise Fault("InvalidReplicationGroupStateFault", f"Replication group {group.id} is {group.status}.")
    return group, group.savers, False


def _keys(source: Snapshot, target: str) -> list[str]:
    """Return the names of the exported files, one a shard. Source: AWS, "Exporting a backup"."""
    return [f"{target}-{number:04d}.rdb" for number in range(1, len(source.parts) + 1)]


def _describe(service: Service, snapshot: Snapshot, *, with_shards: bool = False) -> dict[str, Any]:
    return snapshot.describe(service.arn("snapshot", snapshot.name), with_shards=with_shards)


def _export(service: Service, source: Snapshot, target: str, bucket: str) -> dict[str, Any]:
    """Write the files to S3; the source is "exporting" meanwhile, as AWS shows it."""
    with service.lock:
        source.status = "exporting"
        shown = _describe(service, source) | {"SnapshotName": target, "SnapshotStatus": "creating"}
        shown["ARN"] = service.arn("snapshot", target)

    def work() -> None:
        keys = _keys(source, target)
        about = f"snapshot with ID '{source.name}' to {', '.join(f's3://{bucket}/{key}' for key in keys)}"
        origin = source.origin.get("ReplicationGroupId") or source.origin["CacheClusterId"]
        try:
            for file, key in zip(source.files, keys, strict=True):
                service.storage.upload(file, bucket, key)
            message = f"Export succeeded for {about}"
        except Exception as error:  # noqa: BLE001  whatever went wrong is told by an event
            message = f"Export failed for {about}: {error}"
        service.events.add(GROUP if "ReplicationGroupId" in source.origin else CLUSTER, origin, message)
        with service.lock:
            source.status = "available"

    service.in_background(work)
    return shown


OPERATIONS = {
    "CreateSnapshot": create_snapshot,
    "DescribeSnapshots": describe_snapshots,
    "CopySnapshot": copy_snapshot,
    "DeleteSnapshot": delete_snapshot,
}
