"""The command `runbook`: what it prints, what it refuses, how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from helpers import cli

PARAMETERS = """
name: str = "sessions"  # the group
count: int = 1  # how many
final: bool = True  # with a final snapshot
status: str = "done"  # how the run ends
mode: str = "rehearse"  # rehearse, plan or apply
approve: str = ""  # gates
plan_file: str = ""  # a saved plan
run_id: str = ""  # a run to resume
"""
BODY = """
import json, os, pathlib
directory = pathlib.Path(os.environ["RUNBOOK_RUNS"]) / run_id
values = {"name": name, "count": count, "final": final, "status": status}
codes = {"done": 0, "failed": 1, "planned": 2, "not approved": 3}
if approve:
    status = "done"
elif mode == "plan" and status == "done":
    status = "planned"
told = {"runbook": "tiny", "run_id": run_id, "mode": mode, "status": status, "exit_code": codes[status], "error": "" if status == "done" else "It stopped."}
(directory / "run.json").write_text(json.dumps({"runbook": str(pathlib.Path(NOTEBOOK)), "run_id": run_id, "mode": mode, "parameters": values}))
(directory / "result.json").write_text(json.dumps({**told, "plan": [], "metrics": {"keys_compared": 7}, "parameters": {**values, "approve": approve, "plan_file": plan_file}}))
"""


@pytest.fixture
def tiny(tmp_path) -> Path:
    """A runbook that records what it was given, and ends as it is told."""
    path = tmp_path / "tiny.ipynb"
    tagged = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    body = nbformat.v4.new_code_cell(f"NOTEBOOK = {str(path)!r}\n{BODY}")
    nbformat.write(nbformat.v4.new_notebook(cells=[tagged, body], metadata={"runbook": {"gates": ["switch", "delete"]}}), path)
    return path


def recorded(tmp_path: Path, run_id: str) -> dict:
    return json.loads((tmp_path / "runs" / run_id / "result.json").read_text())


@pytest.mark.parametrize("tool", ["helpers.runbook.analysis", "helpers.runbook.execute", "helpers.fleet.commands"])
def test_a_run_compiles_no_grammar_of_addresses(tool):
    script = f"import sys, {tool}, helpers.runbook.analysis, helpers.runbook.execute; assert 'lark' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_help_imports_nothing_heavy(runbook):
    heavy = "{'pandas', 'numpy', 'boto3', 'botocore', 'papermill', 'nbformat', 'matplotlib', 'redis'}"
    script = f"import sys, helpers.cli; loaded = {heavy} & set(sys.modules); assert not loaded, loaded"
    subprocess.run([sys.executable, "-c", script], check=True)
    told = runbook("--help")
    assert told.code == 0 and "Exit codes" in told.out
    assert all(command in told.out for command in ("list", "show", "run", "rehearse", "resume", "rollback", "cloud"))


def test_list_and_show_tell_what_a_runbook_is(runbook):
    assert "redis_upgrade" in runbook("list").out
    shown = runbook("show", "redis_upgrade").out
    assert "replication_group" in shown and "the group to upgrade" in shown and "Gates:" in shown and "IAM policy" in shown


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-p", "nam=x"], "There is no parameter nam. Do you mean name?"),
        (["-p", "count=two"], "count is 'two', which is not a whole number."),
        (["-p", "final=yes", "-p", "count=1.5"], "count is '1.5', which is not a whole number. final is 'yes': write true or false."),
        (["-p", "name"], "-p name is not of the form NAME=VALUE."),
        (["-p", "name=a", "-p", "name=b"], "-p name is given twice."),
        (["--mode", "aply"], "There is no mode 'aply'. Remedy: Choose rehearse, plan, apply."),
        (["--approve", "swich"], "has no gate swich. Remedy: Its gates: switch, delete."),
        (["--run-id", "../x"], "'../x' cannot be a run id."),
        (["--plan", "no.json"], "no.json cannot be read as a plan"),
        (["--mode", "plan", "-p", "mode=apply"], "-p mode=apply and --mode plan differ."),
        (["--nope"], "No such option: --nope"),
    ],
)
def test_bad_input_is_one_sentence_and_starts_nothing(runbook, tiny, tmp_path, arguments, sentence):
    told = runbook("run", tiny, *arguments)
    assert told.code == 1
    assert sentence in told.err and len(told.err.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_run_gets_its_parameters_as_written_and_tells_where_its_files_are(runbook, tiny, tmp_path):
    told = runbook("run", tiny, "-p", "name=012345678901", "-p", "final=false", "--mode", "plan", "--run-id", "first")
    assert told.code == 2, told.err
    assert recorded(tmp_path, "first")["parameters"] | {"approve": ""} == {"name": "012345678901", "count": 1, "final": False, "status": "done", "approve": "", "plan_file": ""}
    assert recorded(tmp_path, "first")["mode"] == "plan"
    assert "tiny: planned (exit code 2)" in told.out and "runs/first/result.json" in told.out and "keys_compared" in told.out


def test_a_run_stopped_at_a_gate_ends_with_3_and_is_resumed_with_its_parameters_and_the_approval(runbook, tiny, tmp_path):
    stopped = runbook("run", tiny, "-p", "name=7.10", "-p", "status=not approved", "--mode", "plan", "--run-id", "gated")
    assert stopped.code == 3 and "runbook resume gated" in stopped.err
    refused = runbook("resume", "gated", "-p", "name=7.1")
    assert refused.code == 1 and "Run gated has another name." in refused.err
    done = runbook("resume", "gated", "--approve", "switch", "-p", "name=7.10")
    assert done.code == 0, done.err
    assert recorded(tmp_path, "gated")["parameters"]["name"] == "7.10" and recorded(tmp_path, "gated")["parameters"]["approve"] == "switch"
    assert "gated" in runbook("runs").out


def test_a_saved_plan_is_applied_with_its_own_run_id_and_parameters(runbook, tiny, tmp_path):
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"runbook": "tiny", "run_id": "planned", "parameters": {"name": "orders"}, "writes": []}))
    differs = runbook("run", tiny, "--plan", plan, "-p", "name=sessions")
    assert differs.code == 1 and "has another name" in differs.err
    assert "do not go together" in runbook("run", tiny, "--plan", plan, "--mode", "plan").err
    assert runbook("run", tiny, "--plan", plan).code == 0
    told = recorded(tmp_path, "planned")
    assert (told["mode"], told["parameters"]["name"], told["parameters"]["plan_file"]) == ("apply", "orders", str(plan))


def test_a_run_that_does_not_exist_is_refused(runbook):
    for command in ("resume", "rollback"):
        told = runbook(command, "no-such-run")
        assert told.code == 1 and "There is no run no-such-run" in told.err


@pytest.mark.parametrize(("codes", "together"), [([0, 0], 0), ([2], 2), ([1, 1], 1), ([0, 1], 4), ([0, 5, 3], 4), ([], 0)])
def test_several_runs_end_with_one_code(codes, together):
    assert cli._together(codes) == together
