"""The engine of the runbooks: modes, steps, checks, gates, journal, resume, rollback, display."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.lazy import importing

if TYPE_CHECKING:
    from helpers.runbook.engine import GateNotPassed, Run, start
    from helpers.runbook.undo import preview, rollback

__all__ = ["GateNotPassed", "Run", "preview", "rollback", "start"]

# The engine comes with pandas and boto3: the command line, which reads parameters and starts kernels, goes without.
__getattr__ = importing(__name__, {"GateNotPassed": "engine", "Run": "engine", "preview": "undo", "rollback": "undo", "start": "engine"})
