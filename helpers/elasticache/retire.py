"""The end of an upgrade: the old group is deleted, when it is quiet and a last snapshot of it is available."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from helpers.aws import Aws, RunbookError, effect, planning
from helpers.elasticache.adapters import is_at, read_setting
from helpers.elasticache.connections import check_logins
from helpers.elasticache.cutover import Switched
from helpers.elasticache.groups import Group, delete_group, describe_group, group_state
from helpers.elasticache.parameter_groups import NOTIFY, delete_parameter_group, set_parameters
from helpers.elasticache.preflight import Survey
from helpers.elasticache.quiet import await_quiet
from helpers.elasticache.snapshots import ensure_snapshot
from helpers.elasticache.upgrade import Upgrade



@dataclass(frozen=True)
class Deleted:
    """What was deleted, the snapshot that is left of it, and how long it was quiet before."""

    group: str
    snapshot: str
    quiet_seconds: float
    note: str = ""

    def table(self) -> pd.DataFrame:
        """Deleted group, quiet time, final snapshot."""
        if self.note:
            return pd.DataFrame({"delete": [self.note]})
        rows = [("deleted", self.group), ("quiet before (s)", f"{self.quiet_seconds:.0f}"), ("final snapshot", self.snapshot)]
        return pd.DataFrame(rows, columns=["old group", "value"])


def undo_delete(aws: Aws, upgrade: Upgrade, old: Group) -> None:
    """Nothing, as long as the old group is there; once it is deleted there is no way back."""
    if upgrade.keeps_writes and group_state(aws, old.id) in ("absent", "deleting"):
        raise RunbookError(f"{old.id} is deleted.", f"Create a group from its last snapshot, {upgrade.named('final')}.")


@effect(undo=undo_delete)
def delete_old(aws: Aws, upgrade: Upgrade, found: Survey, old: Group, switched: Switched) -> Deleted:
    """Delete the old group once it is quiet and its final snapshot is available, then what only the move needed.

    Raises `RunbookError` where clients are still connected or writing (they are named), or where the
    application's parameter no longer points to the new group.
    """
    if not upgrade.keeps_writes:
        why = "the group was upgraded in place" if not upgrade.moves else f"{old.id} is kept: it holds the writes that the classic procedure left behind"
        return Deleted("", "", 0.0, why)
    final = upgrade.named("final")
    if switched.comparison.keys_different:
        raise RunbookError(f"{switched.comparison.keys_different} keys differed after the switch: {old.id} is not deleted.", "Look at them in the report, and carry them over or roll back.")
    if group_state(aws, old.id) not in ("absent", "deleting"):
        _still_switched(aws, upgrade, switched)
        if not planning():
            check_logins(aws, upgrade, describe_group(aws, upgrade.new_group))
            await_quiet(aws, upgrade, old, "so it is not deleted")
        ensure_snapshot(aws, old.id, final)
    delete_group(aws, old.id)
    delete_parameter_group(aws, upgrade.named("watch"))
    set_parameters(aws, upgrade.named(upgrade.family), {NOTIFY: found.notifications}, always=True)  # a plan cannot see what is planned for it
    return Deleted(old.id, final, upgrade.quiet_seconds)


def _still_switched(aws: Aws, upgrade: Upgrade, switched: Switched) -> None:
    now = read_setting(aws, upgrade.parameter)
    if not is_at(now, switched.after) and not planning():
        raise RunbookError(f"{upgrade.parameter} holds {now.value!r}, not the new endpoint {switched.after!r}: the old group is not deleted.", "Find out who changed it and why.")
