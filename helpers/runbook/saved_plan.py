"""A saved plan: read it, and see before an apply whether it is still what would be done."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helpers.aws.errors import RunbookError
from helpers.aws.planned import UNKNOWN
from helpers.runbook import store

REMEDY = "Make a new plan, have it approved, and apply that one."


class PlanDiffers(RunbookError):
    """What would be done is not what the approved plan has."""


def identity(write: Mapping[str, Any]) -> tuple[str, str, str]:
    """What a write is told by: service, operation, resource name."""
    return write["service"], write["operation"], write["resource"]


def same(planned: Mapping[str, Any], sent: Mapping[str, Any]) -> bool:
    """True where `sent` is the planned write with every parameter that the plan knew."""
    return identity(planned) == identity(sent) and _agrees(planned["parameters"], sent["parameters"])


def refuse_if_stale(runbook: Path, values: Mapping[str, Any], directory: Path, **options: Any) -> None:
    """Plan again, beside the run, and raise `PlanDiffers` where that is not the saved plan, or the rest of it.

    Nothing is written to the account or to the run's folder. `options` are those of `execute`.
    """
    from helpers.runbook.execute import execute

    saved = store.read_json(Path(values["plan_file"]))["writes"]
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / directory.name
        trial.mkdir()
        for name in ("run.json", "journal.jsonl"):
            if (directory / name).exists():
                shutil.copy(directory / name, trial / name)
        outcome = execute(runbook, {**values, "mode": "plan", "plan_file": ""}, run_directory=trial, quiet=True, **options)
    if outcome.status != "planned":
        raise RunbookError(f"The plan could not be checked before the apply: {outcome.error}")
    now = outcome.result["plan"]
    rest = saved[len(saved) - len(now) :] if (directory / "journal.jsonl").exists() else saved
    for number, (was, would) in enumerate(zip(rest, now, strict=False), 1):
        if not same(was, would):
            raise PlanDiffers(f"Write {number} would be {' '.join(identity(would))}, the plan has {' '.join(identity(was))}{_changed(was, would)}. Nothing was sent.", REMEDY)
    if len(rest) != len(now):
        raise PlanDiffers(f"There would be {len(now)} writes, the plan has {len(rest)}. Nothing was sent.", REMEDY)


def _changed(was: Mapping[str, Any], would: Mapping[str, Any]) -> str:
    if identity(was) != identity(would):
        return ""
    names = [name for name in {**was["parameters"], **would["parameters"]} if not _agrees(was["parameters"].get(name), would["parameters"].get(name))]
    return f" with another {', '.join(names)}"


def _agrees(planned: Any, sent: Any) -> bool:
    """True where every value that the plan knew is what is sent."""
    if isinstance(planned, str) and UNKNOWN in planned:
        return True
    if isinstance(planned, dict) and isinstance(sent, dict):
        return planned.keys() == sent.keys() and all(_agrees(value, sent[name]) for name, value in planned.items())
    if isinstance(planned, list) and isinstance(sent, list):
        return len(planned) == len(sent) and all(map(_agrees, planned, sent))
    return planned == sent
