"""Everything that would make the upgrade fail, found before anything is changed."""

from __future__ import annotations

import fnmatch
import json
import re
from dataclasses import dataclass

import pandas as pd
import redis

from helpers.aws import Aws, Check, RunbookError, planning
from helpers.aws.errors import is_not_found
from helpers.elasticache import clients, node_types
from helpers.elasticache.access import unreachable
from helpers.elasticache.adapters import is_at, read_setting, setting_checks
from helpers.elasticache.connections import connected_clients, on_all
from helpers.elasticache.groups import Group, describe_alone, describe_group, group_exists
from helpers.elasticache.parameter_groups import CLUSTER, NOTIFY, Carried, carried, changed_parameters, defaults_of, fence_parameter, parameters_of
from helpers.elasticache.snapshots import manual_snapshots_today, read_backup
from helpers.elasticache.upgrade import RDB_VERSIONS, Upgrade, is_downgrade, minor

SNAPSHOT_QUOTA = 20  # manual backups a node in 24 h; https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/backups.html
EXPORT_PRINCIPAL = "{region}.elasticache-snapshot.amazonaws.com"
EXPORT_CANONICAL_ID = "540804c33a284a299d2547575ce1010f2312ef3da9b3a053c8bc45bf233e4353"
EXPORT_ACTIONS = ("s3:PutObject", "s3:GetObject", "s3:ListBucket", "s3:GetBucketAcl", "s3:ListMultipartUploadParts", "s3:ListBucketMultipartUploads")
OBJECT_ACTIONS = {"s3:PutObject", "s3:GetObject", "s3:ListMultipartUploadParts"}


@dataclass(frozen=True)
class Survey:
    """What was found before the first change.

    The old group; its parameters that differ from the defaults, and what they are in the new family; how change
    notifications were set; the parameter by which it can refuse writes; how writes can be frozen; the endpoint that the
    application's setting holds; the data's bytes and keys; the group's tags; the checks.
    """

    old: Group
    changed_parameters: dict[str, str]
    new_parameters: dict[str, str]
    notifications: str
    fence: str
    freeze: str
    endpoint: str
    used_bytes: int
    keys: int
    tags: dict[str, str]
    checks: tuple[Check, ...]

    def table(self) -> pd.DataFrame:
        """The old group as a table."""
        return self.old.table()


def survey(aws: Aws, upgrade: Upgrade) -> Survey:
    """Look at everything the upgrade needs. Raises `RunbookError` where the group does not exist."""
    old = _old(aws, upgrade)
    parameters = parameters_of(aws, old.parameter_group)
    mode = {CLUSTER: "yes"} if old.cluster_mode else {}
    changed = {name: value for name, value in changed_parameters(aws, old.parameter_group).items() if name != CLUSTER}
    new = carried(changed, defaults_of(aws, upgrade.family)) if changed else Carried({}, {}, ())
    data = _look_inside(aws, upgrade, old)
    fence = fence_parameter(parameters)
    checks = [
        _state(old), _other_run(upgrade, old), _alone(aws, upgrade, old), _scope(upgrade, old), _version(aws, upgrade, old), _names(aws, upgrade), _notifications(upgrade, old, parameters), _fence(upgrade, fence),
        _parameters(upgrade, changed, new), _quota(aws, upgrade, old), _node_type(aws, upgrade, old), _memory(aws, upgrade, old, data), *_bucket(aws, upgrade, old), *_setting(aws, upgrade, old), *data.checks,
    ]  # fmt: skip
    notifications = parameters.get(NOTIFY, {}).get("ParameterValue", "")
    found = tuple(check for check in checks if check)
    return Survey(old, {**changed, **mode}, {**new.values, **mode}, notifications, fence, data.freeze, _endpoint(aws, upgrade, old), data.used_bytes, data.keys, _tags(aws, old), found)


def _old(aws: Aws, upgrade: Upgrade) -> Group:
    """The replication group, or the cache cluster of that name, which is to be wrapped in one first."""
    if not group_exists(aws, upgrade.group):
        alone = describe_alone(aws, upgrade.group, upgrade.named("group"))
        if alone is not None:
            return alone
    return describe_group(aws, upgrade.group)


def _endpoint(aws: Aws, upgrade: Upgrade, old: Group) -> str:
    """The old group's endpoint as the application's setting names it: a group's own, or its only node's."""
    if not upgrade.moves:
        return old.endpoint
    setting = read_setting(aws, upgrade.parameter)
    return next((one for one in old.endpoints if is_at(setting, one)), old.endpoint)


def _tags(aws: Aws, old: Group) -> dict[str, str]:
    """The group's tags, which the new one gets. Source: https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/Tagging-Resources.html"""
    return {one["Key"]: one.get("Value", "") for one in aws.client("elasticache").list_tags_for_resource(ResourceName=old.arn)["TagList"]}


@dataclass(frozen=True)
class _Inside:
    freeze: str
    used_bytes: int
    keys: int
    checks: tuple[Check, ...]


def _look_inside(aws: Aws, upgrade: Upgrade, old: Group) -> _Inside:
    """Connect to the primary of every shard: reachable, who is connected, how much they hold, can CLIENT PAUSE be used."""
    default = "client_pause" if upgrade.freeze == "auto" else upgrade.freeze
    try:
        facts = on_all(aws, upgrade, old, clients.server_facts, "preflight")
        connected = connected_clients(aws, upgrade, old)
        allowed = all(on_all(aws, upgrade, old, clients.pause_allowed, "preflight"))
        if upgrade.keeps_writes:
            on_all(aws, upgrade, old, clients.try_subscribing, "preflight")
    except Exception as error:
        return _Inside(default, 0, 0, (_unreachable(old, error),))
    who = ", ".join(sorted({row.address + (f" ({row.client})" if row.client else "") for row in connected.rename(columns={"name": "client"}).itertuples()})[:5])
    keys, used, largest = sum(one.keys for one in facts), sum(one.used_memory for one in facts), max(one.used_memory for one in facts)
    how = ", ".join([*(["TLS"] if old.in_transit_encryption else []), *(["logged in"] if old.auth else [])])
    shards = f" in {len(facts)} shards" if old.cluster_mode else ""
    checks = (
        Check("Redis can be reached from here", "pass", f"{old.endpoint}{f' ({how})' if how else ''}: {keys:,} keys, {used / 2**20:,.0f} MiB{shards}"),
        Check("who is connected", "pass", f"{len(connected)} clients: {who}" if len(connected) else "nobody"),
        _freeze(upgrade, allowed),
    )
    way = "read_only_flag" if upgrade.freeze == "read_only_flag" or not allowed else "client_pause"
    return _Inside(way, largest, keys, tuple(check for check in checks if check))


def _unreachable(old: Group, error: Exception) -> Check:
    """Why no connection came about: the login, the certificate, or the way, which in a plan need not be there."""
    told = unreachable(old, error)
    way = isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError) and not isinstance(error, redis.AuthenticationError)
    return Check("Redis can be reached from here", "warn" if planning() and way else "fail", told.what, told.remedy)


def _freeze(upgrade: Upgrade, allowed: bool) -> Check | None:
    name = "writes can be frozen for the switch"
    if not upgrade.keeps_writes:
        return None
    if upgrade.freeze == "client_pause" and not allowed:
        return Check(name, "fail", "CLIENT PAUSE is refused by this group", "Set freeze=read_only_flag and name read_only_parameter.")
    if allowed and upgrade.freeze != "read_only_flag":
        return Check(name, "pass", f"CLIENT PAUSE WRITE is allowed; bounded to {upgrade.freeze_limit_ms} ms by the server itself")
    if upgrade.read_only_parameter:
        return Check(name, "pass", f"by the application's own flag, {upgrade.read_only_parameter}")
    return Check(name, "fail", "CLIENT PAUSE is refused and no read_only_parameter is named", "Name the SSM parameter that makes the application stop writing.")


def _state(old: Group) -> Check:
    name = "the group is available, nothing pending"
    if old.status != "available":
        return Check(name, "fail", f"{old.cluster or old.id} is {old.status}", "Wait until it is available.")
    if old.pending:
        return Check(name, "fail", f"pending: {', '.join(old.pending)}", "Apply the pending changes first: a pending scale-up blocks the upgrade.")
    return Check(name, "pass", f"{old.cluster or old.id} is available, {old.mode}, {len(old.members)} nodes")


def _other_run(upgrade: Upgrade, old: Group) -> Check | None:
    """Another run's temporary parameter group would be taken for the group's own."""
    if old.parameter_group == upgrade.named("watch") or not re.search(r"-watch-[0-9a-f]{4}$", old.parameter_group):
        return None
    return Check("no other run moves the group", "fail", f"{old.id} uses {old.parameter_group}, the temporary parameter group of another run", "Finish that run, or roll it back.")


def _alone(aws: Aws, upgrade: Upgrade, old: Group) -> Check | None:
    if not old.cluster:
        return None
    name = "the cache cluster can be put into a replication group"
    if group_exists(aws, old.id):
        return Check(name, "fail", f"{old.id} exists already", "Start a new run.")
    return Check(name, "pass", f"{old.cluster} becomes the primary of the new group {old.id} first, and keeps its data and its endpoint")


def _scope(upgrade: Upgrade, old: Group) -> Check:
    """Sources: backups-exporting.html and data-tiering.html of the ElastiCache user guide."""
    name = "the runbook knows this kind of group"
    if upgrade.moves and old.data_tiering == "enabled":
        return Check(name, "fail", f"{old.id} uses data tiering, whose backups cannot be exported to S3", "Use strategy=in_place.")
    if old.cluster_mode and any(not shard.slots for shard in old.shards):
        return Check(name, "fail", f"the slots of {old.id}'s shards are not known: it is being resharded", "Wait until that is over.")
    kinds = [old.mode, f"in-transit encryption {'on' if old.in_transit_encryption else 'off'}", "AUTH token" if old.auth_token else f"user groups {', '.join(old.user_groups)}" if old.user_groups else "no AUTH"]
    return Check(name, "pass", ", ".join(kinds))


def _parameters(upgrade: Upgrade, changed: dict[str, str], new: Carried) -> Check:
    name = "the changed parameters have a place in the new family"
    if new.left:
        told = "; ".join(f"{one} = {changed[one]}: {why}" for one, why in new.left.items())
        return Check(name, "warn", f"{upgrade.family} takes {len(new.values)} of {len(changed)}. {told}", "Go on if the group can do without them.")
    static = f"; {', '.join(new.static)} are static: in effect because the nodes start with them" if new.static else ""
    return Check(name, "pass", (f"{', '.join(f'{one} = {value}' for one, value in new.values.items())} for {upgrade.family}" if changed else "none is changed from the defaults") + static)


def _version(aws: Aws, upgrade: Upgrade, old: Group) -> Check:
    name, wanted = "the new version is offered, and newer", f"{upgrade.engine} {upgrade.version}"
    offered = aws.client("elasticache").describe_cache_engine_versions(Engine=upgrade.engine)["CacheEngineVersions"]
    versions = sorted({minor(one["EngineVersion"]) for one in offered})
    if is_downgrade(old.engine, old.engine_version, upgrade.engine, upgrade.version):
        return Check(name, "fail", f"{wanted} is a downgrade from {old.engine} {old.engine_version}: backups load forward only", "Name a newer version.")
    if minor(upgrade.version) not in versions:
        return Check(name, "fail", f"{wanted} is not offered in {aws.region}", f"Offered: {', '.join(versions)}.")
    if (old.engine, minor(old.engine_version)) == (upgrade.engine, minor(upgrade.version)):
        return Check(name, "warn", f"the group already runs {old.engine} {old.engine_version}", "Go on only to rebuild it.")
    rdb = " to ".join(str(RDB_VERSIONS.get(one, "?")) for one in ((old.engine, minor(old.engine_version)), (upgrade.engine, minor(upgrade.version))))
    return Check(name, "pass", f"{old.engine} {old.engine_version} to {wanted}, RDB version {rdb}")


def _names(aws: Aws, upgrade: Upgrade) -> Check | None:
    if not upgrade.moves:
        return None
    name = "the new group's name is free"
    if group_exists(aws, upgrade.new_group):
        return Check(name, "fail", f"{upgrade.new_group} exists already", "Choose another new_replication_group, or delete that group.")
    return Check(name, "pass", upgrade.new_group)


def _notifications(upgrade: Upgrade, old: Group, parameters: dict[str, dict]) -> Check | None:
    name = "changes can be captured"
    if not upgrade.keeps_writes:
        return None
    if not parameters.get(NOTIFY, {}).get("IsModifiable", True):
        return Check(name, "fail", f"{NOTIFY} cannot be changed", "Use strategy=in_place.")
    if old.parameter_group.startswith("default."):
        return Check(name, "pass", f"{old.parameter_group} cannot hold {NOTIFY}: the run moves the group to its own parameter group first")
    return Check(name, "pass", f"the run gives the group a copy of {old.parameter_group} with {NOTIFY} on")


def _fence(upgrade: Upgrade, fence: str) -> Check | None:
    name = "the old group can be made to refuse writes"
    if not upgrade.keeps_writes:
        return None
    if fence:
        return Check(name, "pass", f"by {fence}, a dynamic parameter")
    return Check(name, "warn", "no parameter offers it", "Late writers are disconnected and their writes carried over, but they are not refused.")


def _quota(aws: Aws, upgrade: Upgrade, old: Group) -> Check:
    name, needed = "snapshots left today", 2 if upgrade.moves else 1
    taken = manual_snapshots_today(aws, old)
    if taken + needed > SNAPSHOT_QUOTA:
        return Check(name, "fail", f"{taken} of {SNAPSHOT_QUOTA} manual snapshots were taken in 24 h, {needed} more are needed", "Wait until the oldest is a day old.")
    return Check(name, "pass", f"{taken} of {SNAPSHOT_QUOTA} taken in 24 h, {needed} needed")


def _node_type(aws: Aws, upgrade: Upgrade, old: Group) -> Check:
    name, wanted = "the node type is offered", upgrade.node_type or old.node_type
    if wanted == old.node_type:
        return Check(name, "pass", f"{wanted}, as the old group's")
    about = {"CacheClusterId": old.cluster} if old.cluster else {"ReplicationGroupId": old.id}
    allowed = aws.client("elasticache").list_allowed_node_type_modifications(**about)
    types = {*allowed.get("ScaleUpModifications", []), *allowed.get("ScaleDownModifications", [])}
    if wanted not in types:
        return Check(name, "fail", f"{wanted} is not offered for {old.id}", f"Offered: {', '.join(sorted(types)[:8]) or 'no other type'}.")
    return Check(name, "pass", wanted)


def _memory(aws: Aws, upgrade: Upgrade, old: Group, data: _Inside) -> Check | None:
    name, wanted = "the data fits the new nodes", upgrade.node_type or old.node_type
    needed, what = data.used_bytes, "the largest shard's data" if old.cluster_mode else "the old group's data"
    if upgrade.backup:
        needed, what = max(needed, _backup_size(aws, upgrade)), "the larger of a shard's data and the backup file"
    room = node_types.usable_memory(wanted)
    if room is None:
        return Check(name, "warn", f"the memory of {wanted} is not known here", "Compare it with the data yourself.")
    if needed > room:
        return Check(name, "fail", f"{what} is {needed / 2**20:,.0f} MiB, {wanted} has {room / 2**20:,.0f} MiB after the reserve: it would end as restore-failed", "Choose a larger node type.")
    return Check(name, "pass", f"{needed / 2**20:,.0f} MiB into {room / 2**20:,.0f} MiB of {wanted}") if needed else None


def split_s3(uri: str) -> tuple[str, str]:
    """`s3://bucket/key` -> (bucket, key). Raises `RunbookError` for anything else."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket or not key:
        raise RunbookError(f"{uri!r} is no S3 address.", "Write s3://bucket/key.")
    return bucket, key


def _backup_size(aws: Aws, upgrade: Upgrade) -> int:
    bucket, key = split_s3(upgrade.backup)
    try:
        return int(aws.client("s3").head_object(Bucket=bucket, Key=key)["ContentLength"])
    except Exception as error:
        if is_not_found(error):
            return 0
        raise


def _bucket(aws: Aws, upgrade: Upgrade, old: Group) -> list[Check]:
    if not upgrade.moves:
        return []
    if upgrade.backup:
        return [_backup(aws, upgrade, old), _caller_lists_buckets(aws)]
    return [_bucket_place(aws, upgrade), _caller_lists_buckets(aws), _grant(aws, upgrade)]


def _backup(aws: Aws, upgrade: Upgrade, old: Group) -> Check:
    name = "the backup file can be imported"
    try:
        files = read_backup(aws, *split_s3(upgrade.backup), len(old.shards)).files
    except RunbookError as error:
        return Check(name, "fail", error.what, error.remedy)
    if any("," in one.key for one in files):
        return Check(name, "fail", f"the key {files[0].key!r} has a comma", "Copy the file to a key without one.")
    version, size = max(one.rdb_version for one in files), sum(one.bytes for one in files)
    if version > RDB_VERSIONS.get((upgrade.engine, minor(upgrade.version)), version):
        return Check(name, "fail", f"it has RDB version {version}, {upgrade.engine} {upgrade.version} reads up to {RDB_VERSIONS[upgrade.engine, minor(upgrade.version)]}", "Choose a newer engine version.")
    return Check(name, "pass", f"{upgrade.backup}: {len(files)} files, {size:,} bytes, RDB version {version}" if len(files) > 1 else f"{upgrade.backup}: {size:,} bytes, RDB version {version}")


def _bucket_place(aws: Aws, upgrade: Upgrade) -> Check:
    name = "the bucket is in the same region"
    try:
        region = aws.client("s3").get_bucket_location(Bucket=upgrade.bucket).get("LocationConstraint") or "us-east-1"
    except Exception as error:
        if is_not_found(error):
            return Check(name, "fail", f"there is no bucket {upgrade.bucket}", "Create it, or name another.")
        return Check(name, "fail", f"{upgrade.bucket}: {error}", "Allow s3:GetBucketLocation to the caller.")
    region = {"EU": "eu-west-1"}.get(region, region)
    if region != aws.region:
        return Check(name, "fail", f"{upgrade.bucket} is in {region}, the group in {aws.region}", "Name a bucket in the group's region.")
    return Check(name, "pass", f"{upgrade.bucket} in {region}")


def _caller_lists_buckets(aws: Aws) -> Check:
    name = "the caller may list all buckets"
    try:
        aws.client("s3").list_buckets()
    except Exception:
        return Check(name, "fail", "s3:ListAllMyBuckets on * is refused: the export would end as “unable to validate the authenticated user has access”", "Add s3:ListAllMyBuckets on * to the caller's policy.")
    return Check(name, "pass", "s3:ListAllMyBuckets")


def _grant(aws: Aws, upgrade: Upgrade) -> Check:
    """Source: https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/backups-exporting.html"""
    name, principal = "ElastiCache may write to the bucket", EXPORT_PRINCIPAL.format(region=aws.region)
    missing = _missing_actions(_policy(aws, upgrade.bucket), principal, upgrade.bucket)
    if not missing:
        return Check(name, "pass", f"by the bucket policy, for {principal}")
    if _granted_by_acl(aws, upgrade.bucket):
        return Check(name, "pass", "by the ACL (AWS recommends a bucket policy today)")
    return Check(name, "fail", f"{upgrade.bucket} does not allow {', '.join(missing)} to {principal}", f"Add a bucket policy for the service principal {principal}.")


def _policy(aws: Aws, bucket: str) -> list[dict]:
    try:
        policy = json.loads(aws.client("s3").get_bucket_policy(Bucket=bucket)["Policy"])
    except Exception as error:
        if is_not_found(error):
            return []
        raise
    statements = policy.get("Statement", [])
    return statements if isinstance(statements, list) else [statements]


def _missing_actions(statements: list[dict], principal: str, bucket: str) -> list[str]:
    """The export's actions that no statement allows on what they are about, or that one denies."""
    mine = [one for one in statements if _is_for(one.get("Principal", {}), principal)]

    def says(effect: str, action: str) -> bool:
        about = f"arn:aws:s3:::{bucket}" + ("/file" if action in OBJECT_ACTIONS else "")
        return any(one.get("Effect") == effect and _matches(one.get("Action", []), action.lower()) and _matches(one.get("Resource", []), about) for one in mine)

    return [action for action in EXPORT_ACTIONS if not says("Allow", action) or says("Deny", action)]


def _is_for(who: str | dict, principal: str) -> bool:
    return who == "*" or (isinstance(who, dict) and bool({principal, "*"} & {one for names in who.values() for one in _listed(names)}))


def _matches(patterns: str | list[str], value: str) -> bool:
    """True where one of IAM's patterns (`*` and `?`) covers the value; actions are compared in lower case."""
    return any(fnmatch.fnmatchcase(value, pattern if pattern.startswith("arn:") else pattern.lower()) for pattern in _listed(patterns))


def _listed(value: str | list[str]) -> list[str]:
    return value if isinstance(value, list) else [value]


def _granted_by_acl(aws: Aws, bucket: str) -> bool:
    try:
        grants = aws.client("s3").get_bucket_acl(Bucket=bucket)["Grants"]
    except Exception:
        return False
    mine = {one["Permission"] for one in grants if one.get("Grantee", {}).get("ID") == EXPORT_CANONICAL_ID}
    return "FULL_CONTROL" in mine or {"READ", "WRITE", "READ_ACP"} <= mine


def _setting(aws: Aws, upgrade: Upgrade, old: Group) -> list[Check]:
    """The application's setting holds the old group's endpoint, and can be changed."""
    return setting_checks(aws, upgrade.parameter, old.endpoints, tls=old.in_transit_encryption, planned=planning()) if upgrade.moves else []


__all__ = ["Survey", "split_s3", "survey"]
