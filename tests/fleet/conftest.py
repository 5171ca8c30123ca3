"""A small runbook for fleets, and a file over some of its things."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

PARAMETERS = """
mode: str = "rehearse"  # mode
name: str = ""  # the thing
size: int = 1  # how large
version: str = ""  # a version
region: str = ""  # where
role_arn: str = ""  # a role
expected_account: str = ""  # an account
approve: str = ""  # gates
plan_file: str = ""  # a plan
run_id: str = ""  # a run
"""
# What the engine would record, and in an apply a line in a ledger: an effect that must not happen twice.
BODY = """
import json, os, pathlib, time
directory = pathlib.Path(os.environ["RUNBOOK_RUNS"]) / run_id
house = directory.parent.parent
writes = [{"service": "efs", "operation": "CreateTags", "resource": name, "parameters": {"Size": size}, "write": True, "sent": mode == "apply", "error_code": "", "at": 1.0, "step": "1"}]
broken = (house / f"broken-{name}").read_text() if (house / f"broken-{name}").exists() else ""
def record(status, code, error=""):
    told = {"runbook": "tiny", "run_id": run_id, "mode": mode, "status": status, "exit_code": code, "error": error, "metrics": {}, "steps": []}
    told.update(plan=writes if mode == "plan" else [], calls=writes if status == "done" else [])
    (directory / "new.json").write_text(json.dumps(told)); os.replace(directory / "new.json", directory / "result.json")
(directory / "run.json").write_text(json.dumps({"runbook": "tiny", "run_id": run_id, "mode": mode, "created": time.time(), "parameters": {"name": name}}))
if broken.startswith("wait"):
    (house / f"begun-{name}").touch()
    record("running", 5)
    time.sleep(60)
if broken:
    record("failed", 1, broken)
elif mode == "plan":
    (directory / "plan.json").write_text(json.dumps({"runbook": "tiny", "run_id": run_id, "parameters": {"name": name}, "gates": [{"gate": "switch", "resource": name}], "writes": writes}))
    record("planned", 2)
else:
    with open(house / "ledger", "a") as ledger:
        ledger.write(f"{name} {approve}\\n")
    record("done", 0)
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Path:
    """The runbook; its runs go to a folder of the test's, and every account can be entered."""
    tagged = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[tagged, nbformat.v4.new_code_cell(BODY)], metadata={"runbook": {"gates": ["switch"], "resource": "name"}})
    nbformat.write(notebook, tmp_path / "tiny.ipynb")
    monkeypatch.setenv("RUNBOOK_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("helpers.fleet.accounts.unreachable", lambda targets: [])
    return tmp_path / "tiny.ipynb"


@pytest.fixture
def fleet_file(tiny) -> Callable[..., Path]:
    """A fleet file of the runbook over things of these names."""

    def make(*names: str) -> Path:
        path = tiny.with_name("fleet.yaml")
        path.write_text(f"runbook: {tiny}\ntargets: [{', '.join(names)}]\n")
        return path

    return make
