"""What every runbook needs of AWS: session and identity, recorded calls, plans, waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.lazy import importing

if TYPE_CHECKING:
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

# boto3 takes a fifth of a second and 25 MB: who wants an error only, as the command line does, goes without.
__getattr__ = importing(__name__, {
    "UNKNOWN": "planned", "Aws": "session", "Check": "checks", "RunbookError": "errors", "WaitFailed": "waiting", "act": "effects",
    "checks_table": "checks", "connect": "session", "effect": "effects", "explain": "errors", "is_known": "planned", "planning": "effects",
    "wait": "waiting",
})  # fmt: skip
