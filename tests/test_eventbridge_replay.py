"""The replay notebook as its users run it, and its outputs as the web shows them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from helpers.eventbridge import sample_day
from helpers.rehearsal import sample_outputs

PATH = Path(__file__).resolve().parents[1] / "notebooks" / "eventbridge_replay.ipynb"
NOTEBOOK = nbformat.read(PATH, as_version=4)
CODE = [cell for cell in NOTEBOOK.cells if cell.cell_type == "code"]


def papermill(tmp_path: Path, *arguments: str) -> str:
    """The text that the notebook prints under papermill."""
    command = [sys.executable, "-m", "papermill", str(PATH), str(tmp_path / "out.ipynb"), "--no-progress-bar", "-k", "python3", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, cwd=PATH.parents[1])
    assert done.returncode == 0, done.stderr[-3000:]
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    return "".join(output.get("text", "") for cell in cells if cell.cell_type == "code" for output in cell.outputs)


def test_papermill_runs_it_on_files(tmp_path: Path) -> None:
    (tmp_path / "day.jsonl").write_bytes(b"\n".join([*sample_day.lines(500), b"{broken"]))
    told = papermill(tmp_path, "-p", "source", str(tmp_path / "*.jsonl"), "-p", "new_pattern", '{"source": ["aws.s3"]}')
    want = sum(json.loads(line)["source"] == "aws.s3" for line in sample_day.lines(500))
    assert f"{want} of 500 events match; 1 lines are no events" in told


def test_the_sample_day_is_always_the_same() -> None:
    assert sample_day.lines(50) == sample_day.lines(50)
    times = [json.loads(line)["time"][:16] for line in sample_day.lines(200)]
    assert times == sorted(times)


def test_its_outputs_are_those_of_its_cells() -> None:
    raw = json.loads(PATH.read_text(encoding="utf-8"))
    assert raw["metadata"]["runbook"][sample_outputs.DIGEST] == sample_outputs.digest(raw), "refresh them: python -m helpers.rehearsal.sample_outputs eventbridge_replay"
    assert [cell.execution_count for cell in CODE] == list(range(1, len(CODE) + 1))
    assert {output.output_type for cell in CODE for output in cell.outputs} == {"execute_result", "stream"}
    assert sum("image/png" in output.get("data", {}) for cell in CODE for output in cell.outputs) == 3


def test_its_outputs_hold_no_path_of_a_machine() -> None:
    text = re.sub(r"[A-Za-z0-9+/=\\n]{500,}", "", json.dumps([cell.outputs for cell in CODE]))
    assert re.findall(r"/(?:home|Users|root|tmp|work|private|var)/[^\" <]*", text) == []


@pytest.mark.parametrize("cell", [cell for cell in CODE if "parameters" not in cell.metadata.get("tags", [])], ids=lambda cell: cell.id)
def test_a_cell_is_short_and_a_sentence_comes_before_it(cell: nbformat.NotebookNode) -> None:
    assert len(cell.source.splitlines()) <= 4
    before = NOTEBOOK.cells[NOTEBOOK.cells.index(cell) - 1]
    assert before.cell_type == "markdown" and re.search(r"[.?:]", before.source)
