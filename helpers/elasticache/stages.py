"""The stages of an upgrade before the switch, each an effect that finds what it made before and can be undone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from helpers.aws import Aws, RunbookError, act, effect, planning
from helpers.elasticache.adapters import is_at, read_setting
from helpers.elasticache.compare import Comparison, compare_keys, compare_shards
from helpers.elasticache.connections import auth_token, by_shard, in_parallel, open_pairs
from helpers.elasticache.groups import Group, delete_group, describe_group, events, group_exists, group_state, wait_available
from helpers.elasticache.live import Changes, Moved
from helpers.elasticache.parameter_groups import ALL_KEY_EVENTS, CLUSTER, NOTIFY, delete_parameter_group, ensure_parameter_group
from helpers.elasticache.preflight import Survey, split_s3
from helpers.elasticache.snapshots import Backup, delete_export, delete_snapshot, ensure_snapshot, export_keys, export_snapshot, read_backup, snapshot_state
from helpers.elasticache.upgrade import Upgrade, minor, parameter_family

SETTLE_ROUNDS = 10


@dataclass(frozen=True)
class ParameterMove:
    """The parameter group a group was moved to, from which one, and the values it got."""

    before: str
    now: str
    values: dict[str, str]
    note: str = ""

    def table(self) -> pd.DataFrame:
        """Parameter group before and now, and what the new one sets."""
        if self.note:
            return pd.DataFrame({"change notifications": [self.note]})
        values = ", ".join(f"{name} = {value}" for name, value in self.values.items())
        return pd.DataFrame([(self.before, self.now, values)], columns=["parameter group before", "now", "sets"])


@dataclass(frozen=True)
class Upgraded:
    """A group before and after the change of engine version, with the service's events."""

    group: Group
    before: str
    after: str
    events: tuple[str, ...]

    def table(self) -> pd.DataFrame:
        """Version before and after, then the events."""
        told = [("" if number else "events", one) for number, one in enumerate(self.events)]
        rows = [("version before", self.before), ("version after", self.after), *told]
        return pd.DataFrame(rows, columns=["", self.group.id])


@dataclass(frozen=True)
class Verified:
    """Old and new compared key by key: keys compared, keys different by kind, keys that the application changed meanwhile."""

    keys_compared: int
    keys_different: int
    kinds: dict[str, int]
    seconds: float
    changed_meanwhile: int = 0
    examples: tuple[str, ...] = ()
    note: str = ""

    def table(self) -> pd.DataFrame:
        """The comparison: keys compared, different, by kind, examples."""
        if self.note:
            return pd.DataFrame({"comparison": [self.note]})
        rows = [("keys compared", f"{self.keys_compared:,}"), ("keys different", f"{self.keys_different:,}"), ("changed by the application meanwhile, compared again", f"{self.changed_meanwhile:,}"), ("seconds", f"{self.seconds:.1f}")]
        rows += [(f"of them {kind}", f"{count:,}") for kind, count in self.kinds.items()] + [("for example", one) for one in self.examples]
        return pd.DataFrame(rows, columns=["old against new", "value"])


def undo_wrap(aws: Aws, upgrade: Upgrade, found: Survey) -> None:
    """Delete the group around a cache cluster that stood alone; the cluster stays, with its data and its endpoint."""
    if found.old.cluster and group_exists(aws, found.old.id):
        delete_group(aws, found.old.id, retain_primary=True)


@effect(undo=undo_wrap)
def wrap(aws: Aws, upgrade: Upgrade, found: Survey) -> Group:
    """The old group; a cache cluster outside any group becomes the primary of a new one first, and keeps its data and its endpoint.

    Source: https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/Replication.CreatingReplGroup.ExistingCluster.html
    """
    if not found.old.cluster:
        return found.old
    if group_state(aws, found.old.id) == "absent":
        why = f"{found.old.cluster}, which stood outside any replication group"
        aws.client("elasticache").create_replication_group(ReplicationGroupId=found.old.id, ReplicationGroupDescription=why, PrimaryClusterId=found.old.cluster)
    return wait_available(aws, found.old.id)


def undo_notifications(aws: Aws, upgrade: Upgrade, found: Survey) -> None:
    """Give the old group its own parameter group back and delete the run's."""
    name, old = upgrade.named("watch"), found.old
    if group_exists(aws, old.id) and describe_group(aws, old.id).parameter_group == name:
        aws.client("elasticache").modify_replication_group(ReplicationGroupId=old.id, CacheParameterGroupName=old.parameter_group, ApplyImmediately=True)
        wait_available(aws, old.id)
    delete_parameter_group(aws, name)


@effect(undo=undo_notifications)
def turn_on_notifications(aws: Aws, upgrade: Upgrade, found: Survey) -> ParameterMove:
    """Move the old group to a custom parameter group that publishes every key change.

    `notify-keyspace-events` is a dynamic parameter, but a `default.` parameter group cannot hold it.
    Source: https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/ParameterGroups.Engine.html
    """
    old = found.old
    if not upgrade.keeps_writes:
        return ParameterMove(old.parameter_group, old.parameter_group, {}, f"not turned on: strategy {upgrade.strategy} captures no changes")
    name, values = upgrade.named("watch"), {**found.changed_parameters, NOTIFY: ALL_KEY_EVENTS}
    family = parameter_family(old.engine, old.engine_version)
    ensure_parameter_group(aws, name, family, values, f"{upgrade.group} while it is moved: key changes are published")
    if describe_group(aws, old.id).parameter_group != name:
        aws.client("elasticache").modify_replication_group(ReplicationGroupId=old.id, CacheParameterGroupName=name, ApplyImmediately=True)
    wait_available(aws, old.id)
    return ParameterMove(old.parameter_group, name, values)


def undo_back_up(aws: Aws, upgrade: Upgrade, found: Survey) -> None:
    """Delete the run's snapshot and its export."""
    name = upgrade.named("backup")
    delete_snapshot(aws, name)
    if upgrade.moves and not upgrade.backup:
        delete_export(aws, upgrade.bucket, export_keys(name, len(found.old.shards)))


@effect(undo=undo_back_up)
def back_up(aws: Aws, upgrade: Upgrade, found: Survey, changes: Changes) -> Backup:
    """Begin to capture changes, take a snapshot, and export it to S3, one file a shard."""
    name, shards = upgrade.named("backup"), len(found.old.shards)
    if upgrade.keeps_writes and not upgrade.backup and snapshot_state(aws, name) == "absent":
        changes.begin()
        changes.complete = True
    if upgrade.backup:
        return read_backup(aws, *split_s3(upgrade.backup), shards)
    ensure_snapshot(aws, found.old.id, name)
    if not upgrade.moves:
        return Backup(name, (), f"snapshot {name} is the way back; an upgrade in place needs no export")
    return export_snapshot(aws, name, upgrade.bucket, shards)


def undo_import(aws: Aws, upgrade: Upgrade) -> None:
    """Delete the new group and its parameter group, unless the application uses it."""
    if upgrade.moves:
        _refuse_in_use(aws, upgrade)
        delete_group(aws, upgrade.new_group)
        delete_parameter_group(aws, upgrade.named(upgrade.family))


def _refuse_in_use(aws: Aws, upgrade: Upgrade) -> None:
    if not group_exists(aws, upgrade.new_group):
        return
    if not planning() and is_at(read_setting(aws, upgrade.parameter), describe_group(aws, upgrade.new_group).endpoint):
        raise RunbookError(f"{upgrade.parameter} points to {upgrade.new_group}: it is not deleted.", "Point the application at the old group first.")


@effect(undo=undo_import)
def import_backup(aws: Aws, upgrade: Upgrade, found: Survey, backup: Backup) -> Group:
    """Create the new group from the exported files, with the old group's version, shards and settings.

    Source: https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/backups-seeding-redis.html
    """
    if not upgrade.moves:
        return found.old
    if group_state(aws, upgrade.new_group) in ("create-failed", "restore-failed"):  # left by an attempt that this one repeats
        delete_group(aws, upgrade.new_group)
    if group_state(aws, upgrade.new_group) == "absent":
        aws.client("elasticache").create_replication_group(**_settings_of_new(aws, upgrade, found), SnapshotArns=[one.arn for one in backup.files])
    return wait_available(aws, upgrade.new_group)


def _settings_of_new(aws: Aws, upgrade: Upgrade, found: Survey) -> dict[str, Any]:
    old = found.old
    settings = {
        "ReplicationGroupId": upgrade.new_group,
        "ReplicationGroupDescription": old.description or upgrade.group,
        "Engine": old.engine,
        "EngineVersion": minor(old.engine_version),
        "CacheNodeType": upgrade.node_type or old.node_type,
        **_nodes_of_new(old),
        "AutomaticFailoverEnabled": old.automatic_failover in ("enabled", "enabling"),
        "MultiAZEnabled": old.multi_az == "enabled",
        "CacheParameterGroupName": upgrade.named("watch") if upgrade.keeps_writes else old.parameter_group,
        "AutoMinorVersionUpgrade": False,
        "AtRestEncryptionEnabled": old.at_rest_encryption,
        **({"TransitEncryptionEnabled": True} if old.in_transit_encryption else {}),
        **({"AuthToken": auth_token(aws, upgrade)} if old.auth_token else {}),
        "UserGroupIds": list(old.user_groups),
        "Port": int(old.port),
        "SnapshotRetentionLimit": old.snapshot_retention,
        "SnapshotWindow": old.snapshot_window,
        "PreferredMaintenanceWindow": old.maintenance_window,
        "CacheSubnetGroupName": old.subnet_group,
        "SecurityGroupIds": list(old.security_groups),
        "NotificationTopicArn": old.topic,
        "Tags": [{"Key": key, "Value": value} for key, value in found.tags.items()],
    }
    return {name: value for name, value in settings.items() if value not in ("", [], None)}


def _nodes_of_new(old: Group) -> dict[str, Any]:
    """How many nodes, or with cluster mode enabled which shards with which slots, as the old group has them."""
    if not old.cluster_mode:
        return {"NumCacheClusters": len(old.members)}
    return {"NodeGroupConfiguration": [{"NodeGroupId": shard.id, "Slots": shard.slots, "ReplicaCount": len(shard.members) - 1} for shard in old.shards]}


def undo_upgrade(upgrade: Upgrade) -> None:
    """Nothing to undo for a new group, which is deleted; in place there is no way back but the snapshot."""
    if not upgrade.moves:
        raise RunbookError(
            f"{upgrade.group} was upgraded in place, and AWS offers no downgrade.",
            f"Create a group from snapshot {upgrade.named('backup')}: it lacks the writes made since.",
        )


@effect(undo=undo_upgrade)
def upgrade_engine(aws: Aws, upgrade: Upgrade, found: Survey, group: Group) -> Upgraded:
    """Change the group's engine and version, with a parameter group of the new family, and wait until it runs.

    Source: https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/VersionManagement.HowTo.html
    """
    before = describe_group(aws, group.id)
    if before.status == "modifying" and not planning():  # asked for by a process that was killed, or something else
        before = wait_available(aws, group.id)
    version = {} if (before.engine, minor(before.engine_version)) == (upgrade.engine, minor(upgrade.version)) else {"Engine": upgrade.engine, "EngineVersion": upgrade.version}
    # where only the version stays, the parameter group still must change: the old group will be fenced by its own
    if before.status != "modifying" and (version or before.parameter_group == upgrade.named("watch")):
        parameters = _ensure_new_parameters(aws, upgrade, found)
        aws.client("elasticache").modify_replication_group(ReplicationGroupId=group.id, **version, CacheParameterGroupName=parameters, ApplyImmediately=True)
    after = wait_available(aws, group.id)
    if (after.engine, minor(after.engine_version)) != (upgrade.engine, minor(upgrade.version)) and not planning():
        raise RunbookError(f"{group.id} runs {after.engine} {after.engine_version}, not {upgrade.engine} {upgrade.version}.", "Look at its events, then resume the run.")
    told = () if planning() else tuple(events(aws, group.id)[-6:])
    return Upgraded(after, f"{found.old.engine} {found.old.engine_version}", f"{after.engine} {after.engine_version}", told)


def _ensure_new_parameters(aws: Aws, upgrade: Upgrade, found: Survey) -> str:
    """The name of the new family's parameter group: the default one, or an own one with the old one's changes."""
    values = {**found.new_parameters, **({NOTIFY: ALL_KEY_EVENTS} if upgrade.keeps_writes else {})}
    if not set(values) - {CLUSTER}:
        return f"default.{upgrade.family}{'.cluster.on' if found.old.cluster_mode else ''}"
    name = upgrade.named(upgrade.family)
    ensure_parameter_group(aws, name, upgrade.family, values, f"{upgrade.group} on {upgrade.engine} {upgrade.version}")
    return name


@effect()
def catch_up(aws: Aws, upgrade: Upgrade, old: Group, new: Group, changes: Changes) -> Moved:
    """Replay on the new group what changed on the old one since the backup, until the lag is small."""
    if not upgrade.keeps_writes:
        why = "the group kept its data" if not upgrade.moves else "not done: the classic procedure leaves out every write made after the backup"
        return Moved("", (), 0, 0.0, why)
    return changes.carry_to(new)


@effect()
def verify(aws: Aws, upgrade: Upgrade, old: Group, new: Group, changes: Changes) -> Verified:
    """Compare old and new key by key while the application goes on; what it changes meanwhile is compared again.

    Raises `RunbookError` for a difference that stays, unless the strategy is classic, which only reports it.
    """
    if not upgrade.moves:
        return Verified(0, 0, {}, 0.0, note="not needed: the group kept its data")
    if not upgrade.keeps_writes:
        return Verified(0, 0, {}, 0.0, note="known after apply") if planning() else _compare_only(aws, upgrade, old, new)
    known = act("redis", "RESTORE", new.id, lambda: _compare_and_settle(aws, upgrade, old, new, changes), source=old.id)
    return known or Verified(0, 0, {}, 0.0, note="known after apply")


def _compare_only(aws: Aws, upgrade: Upgrade, old: Group, new: Group) -> Verified:
    with open_pairs(aws, upgrade, old, new, "verify", direct=True) as pairs:
        return verified(compare_shards(pairs))


def _compare_and_settle(aws: Aws, upgrade: Upgrade, old: Group, new: Group, changes: Changes) -> Verified:
    """Compare all, then the suspects again after carrying them over, until none is left that the application has not just touched."""
    with open_pairs(aws, upgrade, old, new, "verify", direct=True) as pairs:
        found = compare_shards(pairs)
        suspects = found.keys()
        for _ in range(SETTLE_ROUNDS):
            if not suspects:
                break
            changes.replay(new)
            rest = in_parallel(lambda pair, keys: compare_keys(*pair, keys).keys(), pairs, by_shard(old, suspects))
            suspects = set().union(*rest) - changes.touched()
    result = verified(found, different=len(suspects), meanwhile=found.keys_different)
    if suspects:
        raise RunbookError(f"{len(suspects)} keys of {old.id} and {new.id} differ and stay different, for example {sorted(suspects)[:3]}.", "The old group is untouched: look at these keys, roll back, and run again.")
    return result


def verified(comparison: Comparison, different: int | None = None, meanwhile: int = 0) -> Verified:
    """A comparison as evidence that can be journaled."""
    left = comparison.differences if different is None or different else comparison.differences.iloc[:0]
    count = len(left) if different is None else different
    examples = tuple(f"{row.kind}: {row.key} (database {row.database})" for row in left.head(3).itertuples())
    return Verified(comparison.keys_compared, count, {kind: int(number) for kind, number in left["kind"].value_counts().items()}, comparison.seconds, meanwhile, examples)
