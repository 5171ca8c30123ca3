"""Everything that would make the upgrade fail, found before anything is changed."""

from __future__ import annotations

import fnmatch
import json
from dataclasses import dataclass

import pandas as pd

from helpers.aws import Aws, Check, RunbookError, planning
from helpers.aws.errors import is_not_found
from helpers.elasticache import clients, node_types
from helpers.elasticache.adapters import setting_checks
from helpers.elasticache.groups import Group, describe_group, group_exists
from helpers.elasticache.parameter_groups import NOTIFY, changed_parameters, fence_parameter, parameters_of
from helpers.elasticache.snapshots import manual_snapshots_today, read_backup
from helpers.elasticache.upgrade import RDB_VERSIONS, Upgrade, is_downgrade, minor

SNAPSHOT_QUOTA = 20  # manual backups a node in 24 h; https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/backups.html
EXPORT_PRINCIPAL = "{region}.elasticache-snapshot.amazonaws.com"
EXPORT_CANONICAL_ID = "540804c33a284a299d2547575ce1010f2312ef3da9b3a053c8bc45bf233e4353"
EXPORT_ACTIONS = ("s3:PutObject", "s3:GetObject", "s3:ListBucket", "s3:GetBucketAcl", "s3:ListMultipartUploadParts", "s3:ListBucketMultipartUploads")
OBJECT_ACTIONS = {"s3:PutObject", "s3:GetObject", "s3:ListMultipartUploadParts"}


@dataclass(frozen=True)
class Survey:
    """What was found before the first change: the old group, its own parameters, how writes can be frozen, the checks."""

    old: Group
    changed_parameters: dict[str, str]
    notifications: str
    fence: str
    freeze: str
    used_bytes: int
    keys: int
    checks: tuple[Check, ...]

    def table(self) -> pd.DataFrame:
        """The old group as a table."""
        return self.old.table()


def survey(aws: Aws, upgrade: Upgrade) -> Survey:
    """Look at everything the upgrade needs. Raises `RunbookError` where the group does not exist."""
    old = describe_group(aws, upgrade.group)
    parameters = parameters_of(aws, old.parameter_group)
    changed = changed_parameters(aws, old.parameter_group)
    data = _look_inside(upgrade, old)
    fence = fence_parameter(parameters)
    checks = [
        _state(old), _scope(old), _version(aws, upgrade, old), _names(aws, upgrade), _notifications(upgrade, old, parameters), _fence(upgrade, fence),
        _quota(aws, upgrade, old), _node_type(aws, upgrade, old), _memory(aws, upgrade, old, data), *_bucket(aws, upgrade), *_setting(aws, upgrade, old), *data.checks,
    ]  # fmt: skip
    return Survey(old, changed, parameters.get(NOTIFY, {}).get("ParameterValue", ""), fence, data.freeze, data.used_bytes, data.keys, tuple(check for check in checks if check))


@dataclass(frozen=True)
class _Inside:
    freeze: str
    used_bytes: int
    keys: int
    checks: tuple[Check, ...]


def _look_inside(upgrade: Upgrade, old: Group) -> _Inside:
    """Connect to the old primary: reachable, who is connected, how much it holds, can CLIENT PAUSE be used."""
    default = "client_pause" if upgrade.freeze == "auto" else upgrade.freeze
    if old.in_transit_encryption or old.auth:
        return _Inside(default, 0, 0, ())
    try:
        with clients.connect(old.host, old.port, name="runbook-preflight") as redis:
            facts, connected, allowed = clients.server_facts(redis), clients.connected_clients(redis), clients.pause_allowed(redis)
    except Exception as error:
        found = f"{old.endpoint} does not answer: {error}"
        remedy = "Run the runbook from inside the VPC, and allow this host in the group's security group."
        return _Inside(default, 0, 0, (Check("Redis can be reached from here", "warn" if planning() else "fail", found, remedy),))
    who = ", ".join(sorted({f"{row.address}" + (f" ({row.name_})" if row.name_ else "") for row in connected.rename(columns={"name": "name_"}).itertuples()})[:5])
    checks = (
        Check("Redis can be reached from here", "pass", f"{old.endpoint}: {facts.keys:,} keys, {facts.used_memory / 2**20:,.0f} MiB"),
        Check("who is connected", "pass", f"{len(connected)} clients: {who}" if len(connected) else "nobody"),
        _freeze(upgrade, allowed),
    )
    way = "read_only_flag" if upgrade.freeze == "read_only_flag" or not allowed else "client_pause"
    return _Inside(way, facts.used_memory, facts.keys, tuple(check for check in checks if check))


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
        return Check(name, "fail", f"{old.id} is {old.status}", "Wait until it is available.")
    if old.pending:
        return Check(name, "fail", f"pending: {', '.join(old.pending)}", "Apply the pending changes first: a pending scale-up blocks the upgrade.")
    return Check(name, "pass", f"{old.id} is available, {len(old.members)} nodes")


def _scope(old: Group) -> Check:
    name = "the runbook knows this kind of group"
    kinds = {"cluster mode": old.cluster_mode, "in-transit encryption": old.in_transit_encryption, "AUTH or user groups": old.auth, "data tiering": old.data_tiering == "enabled"}
    unknown = [kind for kind, has in kinds.items() if has]
    if unknown:
        return Check(name, "fail", f"{old.id} uses {', '.join(unknown)}", "This runbook moves groups without them; use the AWS console for this one.")
    return Check(name, "pass", "cluster mode disabled, no in-transit encryption, no AUTH")


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
    allowed = aws.client("elasticache").list_allowed_node_type_modifications(ReplicationGroupId=old.id)
    types = {*allowed.get("ScaleUpModifications", []), *allowed.get("ScaleDownModifications", [])}
    if wanted not in types:
        return Check(name, "fail", f"{wanted} is not offered for {old.id}", f"Offered: {', '.join(sorted(types)[:8]) or 'no other type'}.")
    return Check(name, "pass", wanted)


def _memory(aws: Aws, upgrade: Upgrade, old: Group, data: _Inside) -> Check | None:
    name, wanted = "the data fits the new nodes", upgrade.node_type or old.node_type
    needed, what = data.used_bytes, "the old group's data"
    if upgrade.backup:
        needed, what = max(needed, _backup_size(aws, upgrade)), "the larger of the data and the backup file"
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


def _bucket(aws: Aws, upgrade: Upgrade) -> list[Check]:
    if not upgrade.moves:
        return []
    if upgrade.backup:
        return [_backup(aws, upgrade), _caller_lists_buckets(aws)]
    return [_bucket_place(aws, upgrade), _caller_lists_buckets(aws), _grant(aws, upgrade)]


def _backup(aws: Aws, upgrade: Upgrade) -> Check:
    name = "the backup file can be imported"
    try:
        file = read_backup(aws, *split_s3(upgrade.backup))
    except RunbookError as error:
        return Check(name, "fail", error.what, error.remedy)
    if "," in file.key:
        return Check(name, "fail", f"the key {file.key!r} has a comma", "Copy the file to a key without one.")
    limit = RDB_VERSIONS.get((upgrade.engine, minor(upgrade.version)), file.rdb_version)
    if file.rdb_version > limit:
        return Check(name, "fail", f"it has RDB version {file.rdb_version}, {upgrade.engine} {upgrade.version} reads up to {limit}", "Choose a newer engine version.")
    return Check(name, "pass", f"{upgrade.backup}: {file.bytes:,} bytes, RDB version {file.rdb_version}")


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
    return setting_checks(aws, upgrade.parameter, (old.endpoint,), tls=old.in_transit_encryption, planned=planning()) if upgrade.moves else []


__all__ = ["Survey", "split_s3", "survey"]
