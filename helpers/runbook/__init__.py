"""The engine of the runbooks: modes, steps, checks, gates, journal, resume, rollback, display."""

from helpers.runbook.engine import GateNotPassed, Run, start
from helpers.runbook.rollback import preview, rollback

__all__ = ["GateNotPassed", "Run", "preview", "rollback", "start"]
