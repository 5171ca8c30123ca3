"""The settings of a replication group, old and new side by side, and the ways to upgrade with what each costs."""

from __future__ import annotations

import pandas as pd

from helpers.elasticache.parameter_groups import ALL_KEY_EVENTS, NOTIFY
from helpers.elasticache.preflight import Survey
from helpers.elasticache.upgrade import Upgrade


def settings(upgrade: Upgrade, found: Survey) -> pd.DataFrame:
    """Each setting of the design notes: now, after the upgrade, and a word on it."""
    old = found.old
    parameters = upgrade.named(upgrade.family) if found.changed_parameters or upgrade.keeps_writes else f"default.{upgrade.family}"
    rows = [
        ("replication group", old.id, upgrade.new_group if upgrade.moves else old.id, "a new group beside the old one" if upgrade.moves else "the same group"),
        ("cluster engine", f"{old.engine}, cluster mode {'on' if old.cluster_mode else 'off'}", f"{upgrade.engine}, cluster mode off", "several shards need cluster mode on"),
        ("engine version", old.engine_version, upgrade.version, "pinned: minor versions do not move by themselves"),
        ("parameter group", old.parameter_group, parameters, _changed(upgrade, found)),
        ("node type", old.node_type, upgrade.node_type or old.node_type, "the data fits, see Preflight"),
        ("replicas", len(old.members) - 1, len(old.members) - 1, "" if len(old.members) > 1 else "set 1: one primary and one replica in two zones"),
        ("Multi-AZ", old.multi_az, old.multi_az, "" if old.multi_az == "enabled" else "enable it: primary and replica in different zones"),
        ("automatic failover", old.automatic_failover, old.automatic_failover, "" if old.automatic_failover == "enabled" else "enable it: a replica takes a failed primary's place"),
        ("subnet group", old.subnet_group, old.subnet_group, ""),
        ("security groups", ", ".join(old.security_groups), ", ".join(old.security_groups), ""),
        ("encryption at rest", old.at_rest_encryption, old.at_rest_encryption, ""),
        ("import", "", "from the backup of step 1" if upgrade.moves else "none", ""),
        ("backup retention (days)", old.snapshot_retention, old.snapshot_retention, "not worth keeping on for a cache" if old.snapshot_retention else ""),
        ("maintenance window", old.maintenance_window, old.maintenance_window, ""),
    ]
    shown = [(name, _shown(before), _shown(after), word) for name, before, after, word in rows]
    return pd.DataFrame(shown, columns=["setting", "now", "after", "note"])


def ways(upgrade: Upgrade, found: Survey) -> pd.DataFrame:
    """The ways to upgrade this group: write gap, acknowledged writes lost, way back, and which is recommended.

    Gaps and losses are those measured with 10 ms probes on real engines; see the README's design notes.
    """
    replicas = len(found.old.members) - 1
    gap = "0.1 to 0.2 s (rolling over the replica)" if replicas else "3 to 7 s (no replica)"
    rows = [
        ("blue_green", "under 0.3 s", "none: changes are captured and replayed", "until the old group is deleted", "a second group for the time of the move"),
        ("in_place", f"{gap}; AWS says a few seconds", "none", "none: AWS offers no downgrade", "none"),
        ("classic", "under 0.2 s", "every write made after the backup", "until the old group is deleted", "a second group for the time of the move"),
    ]
    chosen = [("→ " if name == upgrade.strategy else "") + name + (" (recommended)" if name == "blue_green" else "") for name, *_ in rows]
    return pd.DataFrame([(name, *rest[1:]) for name, rest in zip(chosen, rows, strict=True)], columns=["strategy", "write gap", "acknowledged writes lost", "way back", "extra cost"])




def _changed(upgrade: Upgrade, found: Survey) -> str:
    values = {**found.changed_parameters, **({NOTIFY: f"{ALL_KEY_EVENTS} during the move"} if upgrade.keeps_writes else {})}
    return ", ".join(f"{name} = {value}" for name, value in values.items()) or "no changes from the defaults"


def _shown(value: object) -> str:
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
