"""A run's folder: where it is, and files in it that are written whole or not at all, readable by their owner only."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import time
from pathlib import Path
from typing import Any

DONE, FAILED, CHANGES, NOT_APPROVED, PART_FAILED, IN_DOUBT = 0, 1, 2, 3, 4, 5  # exit codes
EXIT_CODES = {"done": DONE, "rolled back": DONE, "failed": FAILED, "planned": CHANGES, "not approved": NOT_APPROVED, "in doubt": IN_DOUBT, "running": IN_DOUBT}


def runs_directory() -> Path:
    """The folder of all runs: RUNBOOK_RUNS, else `runs` in the project."""
    configured = os.environ.get("RUNBOOK_RUNS")
    return Path(configured) if configured else Path(__file__).resolve().parents[2] / "runs"


def new_run_id() -> str:
    """A run id that sorts by time: 20261123-194100-3fa9."""
    return time.strftime("%Y%m%d-%H%M%S") + "-" + secrets.token_hex(2)


def write_private(path: Path, text: str) -> None:
    """Write `text` to `path` atomically with mode 0600."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes 0600
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_json(path: Path, value: Any) -> None:
    """`write_private` of `value` as indented JSON."""
    write_private(path, json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n")


def read_json(path: Path) -> Any:
    """The JSON in `path`, or None where there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def newest_results(runbook: str, mode: str, parameter: str) -> list[dict[str, Any]]:
    """The newest finished run of `runbook` in a mode for each value of one parameter."""
    found = [read_json(path) for path in runs_directory().glob("*/result.json")]
    done = [one for one in found if (one.get("runbook"), one.get("mode"), one.get("status")) == (runbook, mode, "done")]
    return list({one["parameters"].get(parameter): one for one in sorted(done, key=lambda one: one["ended"])}.values())
