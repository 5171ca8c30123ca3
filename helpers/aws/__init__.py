"""What every runbook needs of AWS: session and identity, recorded calls, plans, waiting."""

from helpers.aws.checks import Check, checks_table
from helpers.aws.effects import act, effect, planning
from helpers.aws.errors import RunbookError, explain
from helpers.aws.planned import UNKNOWN, is_known
from helpers.aws.session import Aws, connect
from helpers.aws.waiting import WaitFailed, wait

__all__ = [
    "UNKNOWN",
    "Aws",
    "Check",
    "RunbookError",
    "WaitFailed",
    "act",
    "checks_table",
    "connect",
    "effect",
    "explain",
    "is_known",
    "planning",
    "wait",
]
