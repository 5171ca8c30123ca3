"""Analyses run headless: no mode, no run_id; the notebook becomes a page."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from helpers.runbook import history, store
from helpers.runbook.execute import execute
from helpers.runbook.parameters import ParameterError


@pytest.fixture
def analysis(tmp_path):
    """Make a tiny analysis of the cells given, after a heading and its one parameter."""

    def make(*cells: str) -> Path:
        heading = nbformat.v4.new_markdown_cell("# How old are things?")
        tagged = nbformat.v4.new_code_cell("years: int = 3  # how old", metadata={"tags": ["parameters"]})
        nbformat.write(nbformat.v4.new_notebook(cells=[heading, tagged, *map(nbformat.v4.new_code_cell, cells)]), tmp_path / "ages.ipynb")
        return tmp_path / "ages.ipynb"

    return make


def test_an_analysis_ends_as_done_with_a_private_page_of_its_outputs_that_has_no_code_and_loads_nothing(analysis, tmp_path):
    path = analysis("print(f'They are {years * 12} months old.')", "from IPython.display import HTML\nHTML('<b>bold</b>')")
    done = execute(path, {"years": 4}, run_directory=tmp_path / "runs" / "a1", quiet=True)
    assert (done.status, done.exit_code, done.error, done.result["parameters"]) == ("done", 0, "", {"years": 4})
    report = done.directory / "report.html"
    page = report.read_text()
    assert "They are 48 months old." in page and "<b>bold</b>" in page and "<title>How old are things?</title>" in page
    assert "years * 12" not in page and "<script" not in page
    assert {oct(file.stat().st_mode & 0o777) for file in (report, done.output, done.directory / "result.json")} == {"0o600"}
    assert store.read_json(done.directory / "result.json")["mode"] == "read"
    assert [(one.id, one.status, one.mode) for one in history.runs(tmp_path / "runs")] == [("a1", "done", "read")]


def test_an_analysis_that_fails_says_why_and_keeps_what_it_showed_until_then(analysis, tmp_path):
    done = execute(analysis("print('read')", "raise ValueError('no such group')"), {}, run_directory=tmp_path / "runs" / "a2", quiet=True)
    assert (done.status, done.exit_code, done.error) == ("failed", 1, "ValueError: no such group")
    assert "read" in (done.directory / "report.html").read_text()


def test_an_analysis_takes_only_the_parameters_that_it_declares(analysis, tmp_path):
    with pytest.raises(ParameterError, match="There is no parameter mode"):
        execute(analysis("print(years)"), {"mode": "plan"}, run_directory=tmp_path / "runs" / "a3")
    assert not (tmp_path / "runs").exists()
