"""ElastiCache for Redis OSS and Valkey: facts, backups, comparison, catch-up, the switch, and the upgrade made of them."""

from helpers.elasticache import planned as _planned  # noqa: F401 - registers what planned writes bring about
from helpers.elasticache.application import application_report
from helpers.elasticache.compare import Comparison, compare, compare_keys
from helpers.elasticache.cutover import switch
from helpers.elasticache.failover import check_failover, fail_over
from helpers.elasticache.groups import Group, describe_group, events_table
from helpers.elasticache.live import Changes
from helpers.elasticache.preflight import Survey, survey
from helpers.elasticache.results import costs, measured, side_by_side
from helpers.elasticache.retire import delete_old
from helpers.elasticache.settings import settings, ways
from helpers.elasticache.snapshots import Backup
from helpers.elasticache.stages import back_up, catch_up, import_backup, turn_on_notifications, upgrade_engine, verify, wrap
from helpers.elasticache.upgrade import Upgrade, from_parameters

__all__ = [
    "Backup",
    "Changes",
    "Comparison",
    "Group",
    "Survey",
    "Upgrade",
    "application_report",
    "back_up",
    "catch_up",
    "check_failover",
    "compare",
    "compare_keys",
    "costs",
    "delete_old",
    "describe_group",
    "events_table",
    "fail_over",
    "from_parameters",
    "import_backup",
    "measured",
    "settings",
    "side_by_side",
    "survey",
    "switch",
    "turn_on_notifications",
    "upgrade_engine",
    "verify",
    "ways",
    "wrap",
]
