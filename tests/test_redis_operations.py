"""The notebook of everyday operations as its users run it, and its outputs as the web shows them."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from helpers.elasticache.demo import POLICY
from helpers.rehearsal import cloud as clouds
from helpers.rehearsal import sample_outputs, scenario
from helpers.rehearsal.wire import Wire
from helpers.runbook import parameters
from tests import commands

NAME = "redis_operations"
ROOT = Path(__file__).resolve().parents[1]
PATH = ROOT / "notebooks" / f"{NAME}.ipynb"
NOTEBOOK = nbformat.read(PATH, as_version=4)
CODE = [cell for cell in NOTEBOOK.cells if cell.cell_type == "code"]
FAST = ("-p", "orders=2000", "-p", "monitor_seconds=0.5")


class House:
    """A local cloud seen only through the standard AWS variables, and a folder for runs."""

    def __init__(self, cloud: clouds.Cloud, runs: Path) -> None:
        self.cloud, self.runs = cloud, runs
        runs.mkdir(exist_ok=True)

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RUNBOOK_"))}
        return {**kept, **self.cloud.environment(), "RUNBOOK_RUNS": str(self.runs), "NO_PROXY": "127.0.0.1"}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return commands.run(arguments, self.environment, timeout=190)

    def result(self, run_id: str) -> dict[str, Any]:
        return json.loads((self.runs / run_id / "result.json").read_text())

    def primary(self) -> Wire:
        found = scenario.Access(self.cloud.environment()).client("elasticache").describe_replication_groups(ReplicationGroupId="sessions")
        endpoint = found["ReplicationGroups"][0]["NodeGroups"][0]["PrimaryEndpoint"]
        return Wire(f"{endpoint['Address']}:{endpoint['Port']}")

    def demo_keys(self) -> list[bytes]:
        with self.primary() as wire:
            return wire.one("SCAN", 0, "MATCH", "runbook:*", "COUNT", 100_000)[1]


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    cloud = clouds.up(folder / "cloud")
    try:
        scenario.redis_operations(cloud, keys=2000)
        yield House(cloud, folder / "runs")
    finally:
        clouds.down(folder / "cloud")


def written(calls: list[dict[str, Any]]) -> list[tuple]:
    return [(call["service"], call["operation"], call["resource"], call["parameters"]) for call in calls if call["write"]]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_rehearsed_from_the_command_line_it_runs_from_top_to_bottom(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RUNBOOK_"))} | {"RUNBOOK_RUNS": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "helpers.cli", "rehearse", NAME, "-p", "run_id=r"], env=environment, capture_output=True, text=True, timeout=190)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    result = json.loads((tmp_path / "r" / "result.json").read_text())
    assert (result["status"], result["metrics"]["demo_keys_removed"]) == ("done", 4)
    assert result["metrics"]["keys"] > 40_000
    assert not (tmp_path / "r" / "application.db").exists()
    for told in ("*** no cache ***", "*** cache hit ***", "Ignatius", "1 shard: 1 primary and 1 replica in 2 zones", "web-application (127.0.0.1:"):
        assert told in done.stdout


@pytest.fixture(scope="module")
def applied(house) -> tuple[list[dict[str, Any]], dict[str, Any], str]:
    """A run that was planned, and that very plan applied: the writes listed, the result, and what was printed."""
    planned = house.run("run", NAME, "--mode", "plan", "--run-id", "o", *FAST)
    assert planned.returncode == 2, planned.stdout[-3000:] + planned.stderr
    listed = house.result("o")["plan"]
    assert not any(call["sent"] for call in listed)
    assert house.demo_keys() == []
    done = house.run("run", NAME, "--mode", "apply", "--plan", str(house.runs / "o" / "plan.json"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return listed, house.result("o"), done.stdout


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_apply_writes_what_the_plan_listed_under_its_own_prefix_and_leaves_nothing(house, applied):
    listed, result, _ = applied
    assert written(result["calls"]) == written(listed)
    assert len(listed) > 10
    assert all(service == "redis" and resource.startswith("runbook:demo:") for service, _, resource, _ in written(listed))
    assert house.demo_keys() == []
    with house.primary() as wire:
        assert b"cmd=monitor" not in wire.one("CLIENT", "LIST")


@pytest.mark.slow
def test_the_calls_that_it_makes_are_those_of_its_policy(applied):
    made = {f"{call['service']}:{call['operation']}" for call in applied[1]["calls"] if call["service"] != "redis"}
    allowed = {action for one in POLICY["Statement"] for action in ([one["Action"]] if isinstance(one["Action"], str) else one["Action"])}
    assert made <= allowed
    assert allowed - made == {"secretsmanager:GetSecretValue", "elasticache:TestFailover"}  # this group wants no AUTH, this run no failover
    module, _, attribute = NOTEBOOK.metadata.runbook.policy.partition(":")
    assert getattr(importlib.import_module(module), attribute) is POLICY


@pytest.mark.slow
def test_no_session_id_of_the_application_is_in_anything_that_a_run_leaves(house, applied):
    with house.primary() as wire:
        ids = [key.split(b":")[1].decode() for key in wire.one("SCAN", 0, "MATCH", "session:*", "COUNT", 100_000)[1]]
    left = applied[2] + "".join(path.read_text(errors="replace") for path in (house.runs / "o").glob("*") if path.is_file())
    assert len(ids) > 500 and "session:" in left
    assert [one for one in ids if one in left] == []


def test_a_group_that_is_not_there_is_told_in_one_sentence(house):
    done = house.run("run", NAME, "--mode", "plan", "--run-id", "n", "-p", "replication_group=nobody")
    assert done.returncode == 1
    assert "There is no replication group 'nobody'" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_plain_papermill_runs_it_too(house, tmp_path):
    arguments = ["-m", "papermill", str(PATH), str(tmp_path / "out.ipynb"), "-p", "mode", "plan", "-p", "run_id", "pm", "-p", "orders", "2000", "-k", "python3", "--no-progress-bar"]
    done = subprocess.run([sys.executable, *arguments], env=house.environment, capture_output=True, text=True, timeout=190)
    assert done.returncode == 0, done.stderr[-3000:]
    assert house.result("pm")["status"] == "planned"


def test_the_command_line_knows_it(house):
    assert NAME in house.run("list").stdout
    told = parameters.describe(NAME)
    assert told.title and told.summary and told.minutes and told.gates == ("failover",)
    assert [one.name for one in told.parameters if not one.help] == []


def test_its_outputs_are_those_of_its_cells():
    raw = json.loads(PATH.read_text())
    assert raw["metadata"]["runbook"][sample_outputs.DIGEST] == sample_outputs.digest(raw), "refresh them: python -m helpers.rehearsal.sample_outputs redis_operations"
    assert [cell.execution_count for cell in CODE] == list(range(1, len(CODE) + 1))
    silent = {cell.id for cell in CODE if not cell.outputs}
    assert silent == {cell.id for cell in CODE if "parameters" in cell.metadata.get("tags", []) or "sample_database" in cell.source}
    assert {output.output_type for cell in CODE for output in cell.outputs} <= {"display_data", "execute_result"}
    assert sum("image/png" in output.get("data", {}) for cell in CODE for output in cell.outputs) >= 7


def test_its_outputs_hold_no_path_of_a_machine_and_no_secret():
    text = json.dumps([cell.outputs for cell in CODE])
    without_pictures = re.sub(r"[A-Za-z0-9+/=\\n]{500,}", "", text)
    assert re.findall(r"/(?:home|Users|root|tmp|work|private|var)/[^\" <]*", without_pictures) == []
    assert re.findall(r"session:[0-9a-f]{6,}", without_pictures) == []


@pytest.mark.parametrize("cell", [cell for cell in CODE if "parameters" not in cell.metadata.get("tags", [])], ids=lambda cell: cell.id)
def test_a_cell_is_short_and_a_sentence_comes_before_it(cell):
    lines = cell.source.splitlines()
    assert len(lines) <= 6
    assert not [line for line in lines if re.match(r"\s*(for|while|if|try|def|class|import) ", line)]
    before = NOTEBOOK.cells[NOTEBOOK.cells.index(cell) - 1]
    assert before.cell_type == "markdown" and "." in before.source


def test_there_is_more_prose_than_code():
    words = {kind: sum(len(cell.source.split()) for cell in NOTEBOOK.cells if cell.cell_type == kind and "parameters" not in cell.metadata.get("tags", [])) for kind in ("markdown", "code")}
    assert words["markdown"] > 3 * words["code"]
