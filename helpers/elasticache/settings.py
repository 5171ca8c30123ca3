"""The settings of a replication group, old and new side by side, and the ways to upgrade with what each costs."""

from __future__ import annotations

import pandas as pd

from helpers.elasticache.groups import Group
from helpers.elasticache.parameter_groups import ALL_KEY_EVENTS, CLUSTER, NOTIFY
from helpers.elasticache.preflight import Survey
from helpers.elasticache.results import Costs
from helpers.elasticache.upgrade import Upgrade


SAME, CHANGES, LOOK = "same", "changes", "look"


def settings(upgrade: Upgrade, found: Survey) -> pd.DataFrame:
    """Each setting of the design notes: now, after the upgrade, a verdict (same, changes, look: worth a thought), and why."""
    old, rows = found.old, []

    def row(name: str, now: object, after: object, look: str = "", why: str = "") -> None:
        verdict = LOOK if look else SAME if now == after else CHANGES
        rows.append((name, _shown(now), _shown(after), verdict, look or why))

    row("replication group", old.cluster or old.id, upgrade.new_group if upgrade.moves else old.id, why="a new group beside the old one" if upgrade.moves else "the same group")
    row("cluster engine", f"{old.engine}, {old.mode}", f"{upgrade.engine}, {old.mode}")
    row("engine version", old.engine_version, upgrade.version, why="pinned: minor versions do not move by themselves")
    row("minor versions move by themselves", old.auto_minor_upgrade, old.auto_minor_upgrade and not upgrade.moves, why="" if not old.auto_minor_upgrade else "turned off: a version moves when you move it")
    row("parameter group", old.parameter_group, _new_parameter_group(upgrade, found), why=_changed(upgrade, found))
    row("node type", old.node_type, upgrade.node_type or old.node_type, why="the data fits, see Preflight")
    slots = ", ".join(f"{shard.id}: {shard.slots}" for shard in old.shards if shard.slots)
    row("shards", len(old.shards), len(old.shards), why=slots if old.cluster_mode else "several shards need cluster mode enabled")
    row("replicas a shard", old.replicas, old.replicas, "" if old.replicas else "set 1: one primary and one replica in two zones")
    row("Multi-AZ", old.multi_az, old.multi_az, "" if old.multi_az == "enabled" else "enable it: primary and replica in different zones")
    row("automatic failover", old.automatic_failover, old.automatic_failover, "" if old.automatic_failover == "enabled" else "enable it: a replica takes a failed primary's place")
    row("port", str(old.port), str(old.port))
    row("subnet group", old.subnet_group, old.subnet_group)
    security_groups = ", ".join(old.security_groups) or "none"
    row("security groups", security_groups, security_groups)
    row("encryption in transit", old.in_transit_encryption, old.in_transit_encryption, "" if old.in_transit_encryption else "sessions travel as plain text")
    row("encryption at rest", old.at_rest_encryption, old.at_rest_encryption)
    row("AUTH", _auth(old), _auth(old), "" if old.auth else "whoever reaches the port may read every session")
    row("data tiering", old.data_tiering, old.data_tiering)
    row("import", "", f"from the backup of step 1, {len(old.shards)} file{'s' if len(old.shards) > 1 else ''}" if upgrade.moves else "none")
    row("backup retention (days)", old.snapshot_retention, old.snapshot_retention, "not worth keeping on for a cache" if old.snapshot_retention else "")
    row("backup window", old.snapshot_window, old.snapshot_window)
    row("maintenance window", old.maintenance_window, old.maintenance_window)
    row("tags", len(found.tags), len(found.tags), why=", ".join(found.tags))
    return pd.DataFrame(rows, columns=["setting", "now", "after", "verdict", "why"])


def _new_parameter_group(upgrade: Upgrade, found: Survey) -> str:
    if upgrade.keeps_writes or set(found.new_parameters) - {CLUSTER}:
        return upgrade.named(upgrade.family)
    return f"default.{upgrade.family}{'.cluster.on' if found.old.cluster_mode else ''}"


def _auth(group: Group) -> str:
    return "AUTH token" if group.auth_token else f"user groups {', '.join(group.user_groups)}" if group.user_groups else "none"


def ways(upgrade: Upgrade, found: Survey, costs: Costs) -> pd.DataFrame:
    """The ways to upgrade this group: write gap, acknowledged writes lost, way back, extra cost, and which is recommended.

    Gaps and losses are those measured with 10 ms probes on real engines; see the README's design notes.
    """
    gap = "0.1 to 0.2 s (rolling over the replica)" if found.old.replicas else "3 to 7 s (no replica)"
    second = f"a second group for the time of the move{costs.second_group}"
    rows = [
        ("blue_green", "under 0.3 s", "none: changes are captured and replayed", "until the old group is deleted", second),
        ("in_place", f"{gap}; AWS says a few seconds", "none", "none: AWS offers no downgrade", "none"),
        ("classic", "under 0.2 s", "every write made after the backup", "until the old group is deleted", second),
    ]
    chosen = [("→ " if name == upgrade.strategy else "") + name + (" (recommended)" if name == "blue_green" else "") for name, *_ in rows]
    return pd.DataFrame([(name, *rest[1:]) for name, rest in zip(chosen, rows, strict=True)], columns=["strategy", "write gap", "acknowledged writes lost", "way back", "extra cost"])


def _changed(upgrade: Upgrade, found: Survey) -> str:
    values = {**found.new_parameters, **({NOTIFY: f"{ALL_KEY_EVENTS} during the move"} if upgrade.keeps_writes else {})}
    return ", ".join(f"{name} = {value}" for name, value in values.items()) or "no changes from the defaults"


def _shown(value: object) -> str:
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
