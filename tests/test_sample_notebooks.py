"""The notebooks on made-up data as their users run them, and their outputs as the web shows them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from helpers.rehearsal import sample_outputs

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NAMES = ("ecr_storage", "efs_credits", "efs_fleet", "redis_capacity")
FIGURES = {"ecr_storage": 4, "efs_credits": 4, "efs_fleet": 2, "redis_capacity": 8}


def code(name: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(FOLDER / f"{name}.ipynb", as_version=4).cells if cell.cell_type == "code"]


def printed(cell: nbformat.NotebookNode) -> str:
    """What a cell printed; a busy kernel may have sent it in parts."""
    return "".join(output.text for output in cell.outputs if output.output_type == "stream" and output.name == "stdout")


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", NAMES)
def test_papermill_runs_it_and_it_says_what_its_outputs_say(tmp_path, name):
    command = [sys.executable, "-m", "papermill", str(FOLDER / f"{name}.ipynb"), str(tmp_path / "out.ipynb"), "--no-progress-bar", "-k", "python3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=390, cwd=FOLDER.parent)
    assert done.returncode == 0, done.stderr[-3000:]
    cells = [cell for cell in nbformat.read(tmp_path / "out.ipynb", as_version=4).cells if cell.cell_type == "code"]
    assert [printed(cell) for cell in cells if "injected-parameters" not in cell.metadata.get("tags", [])] == [printed(cell) for cell in code(name)]


@pytest.mark.parametrize("name", NAMES)
def test_its_outputs_are_those_of_its_cells(name):
    raw = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    assert raw["metadata"]["runbook"][sample_outputs.DIGEST] == sample_outputs.digest(raw), f"refresh them: python -m helpers.rehearsal.sample_outputs {name}"
    assert sum("image/png" in output.get("data", {}) for cell in code(name) for output in cell.outputs) == FIGURES[name]


@pytest.mark.parametrize("name", NAMES)
def test_its_outputs_hold_no_path_of_a_machine_and_no_warning(name):
    text = re.sub(r"[A-Za-z0-9+/=\\n]{500,}", "", json.dumps([cell.outputs for cell in code(name)]))
    assert re.findall(r"/(?:home|Users|root|tmp|work|private|var)/[^\" <]*", text) == []
    assert "Warning" not in text and "stderr" not in text


@pytest.mark.parametrize("name", NAMES)
def test_a_cell_is_short_and_a_sentence_comes_before_it(name):
    cells = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4).cells
    for before, cell in zip(cells, cells[1:], strict=False):
        if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", []):
            assert len(cell.source.splitlines()) <= 7
            assert before.cell_type == "markdown" and re.search(r"[.?:]", before.source)
