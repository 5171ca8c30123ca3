"""Headless execution: the verdict, the files it leaves, interrupted and killed kernels."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import pytest

from helpers.aws.errors import RunbookError
from helpers.runbook import bars, store
from helpers.runbook.execute import execute
from helpers.runbook.journal import Journal
from helpers.runbook.parameters import ParameterError

PARAMETERS = 'name: str = "sessions"  # the group\nwait_s: float = 0.0  # seconds to wait\nmode: str = "rehearse"\nrun_id: str = ""'
RECORD = """
import json, os, pathlib
directory = pathlib.Path(os.environ["RUNBOOK_RUNS"]) / run_id
def record(status, code):
    result = {"runbook": "tiny", "run_id": run_id, "status": status, "exit_code": code, "error": "", "name": name}
    (directory / "new.json").write_text(json.dumps(result))
    os.replace(directory / "new.json", directory / "result.json")
"""
INTENT = 'with open(directory / "journal.jsonl", "a") as f: f.write(json.dumps({"at": 0, "type": "intent", "key": "copy"}) + "\\n")'


@pytest.fixture
def notebook(tmp_path):
    """Make a tiny runbook of the cells given."""

    def make(*cells: str) -> Path:
        tagged = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
        made = nbformat.v4.new_notebook(cells=[tagged, *map(nbformat.v4.new_code_cell, (RECORD, *cells))])
        nbformat.write(made, tmp_path / "tiny.ipynb")
        return tmp_path / "tiny.ipynb"

    return make


@pytest.fixture
def directory(tmp_path) -> Path:
    return tmp_path / "runs" / "r1"


def wait_until(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_a_run_is_judged_by_what_it_recorded_shown_as_it_comes_and_kept_private(notebook, directory, capfd):
    outcome = execute(notebook('print("one"); record("done", 0)', '{"shown": name}'), {"name": "012345678901"}, run_directory=directory)
    assert (outcome.status, outcome.exit_code, outcome.run_id) == ("done", 0, "r1")
    assert outcome.result["name"] == "012345678901"
    assert "one\n{'shown': '012345678901'}" in capfd.readouterr().out
    assert nbformat.read(outcome.output, as_version=4).cells[-2].outputs[0].text == "one\n"
    assert outcome.output.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in directory.iterdir()) == ["output.ipynb", "result.json"]


def test_of_a_progress_bar_the_saved_notebook_keeps_what_stood_last_and_nothing_of_one_that_was_cleared(notebook, directory):
    bar = 'import sys, time\nfor text in ("\\rhalf", "\\rwhole", {end!r}):\n    print(text, end="", flush=True)\n    time.sleep(0.25)'
    outcome = execute(notebook(bar.format(end="\rdone\n"), bar.format(end="\r     \r"), 'record("done", 0)'), {}, run_directory=directory, quiet=True)
    left, cleared = (cell.outputs for cell in nbformat.read(outcome.output, as_version=4).cells[-3:-1])
    assert ([one.text for one in left], cleared) == (["done\n"], [])


def test_where_no_terminal_is_a_bar_is_not_printed_and_what_stands_around_it_is(capsys):
    with bars.on_a_terminal_only():
        print("\rhalf", end="")
        print("done")
    assert capsys.readouterr().out == "done\n"


def test_the_working_directory_and_the_environment_of_the_caller_stay_as_they_are(notebook, directory, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "production")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    here = os.getcwd()
    cell = 'import os; assert "AWS_PROFILE" not in os.environ and os.environ["AWS_REGION"] == "eu-west-1", os.environ; record("done", 0)'
    outcome = execute(notebook(cell), {}, run_directory=directory, environment={**environment, "AWS_REGION": "eu-west-1"})
    assert outcome.exit_code == 0, outcome.error
    assert os.getcwd() == here and os.environ["AWS_PROFILE"] == "production"


def test_an_earlier_result_in_the_folder_is_not_taken_for_this_one(notebook, directory):
    directory.mkdir(parents=True)
    store.write_json(directory / "result.json", {"status": "done", "exit_code": 0})
    outcome = execute(notebook("1 / 0"), {}, run_directory=directory)
    assert (outcome.status, outcome.exit_code) == ("failed", 1)
    assert outcome.error == "ZeroDivisionError: division by zero"
    assert store.read_json(directory / "result.json")["status"] == "failed"


def test_a_cell_that_exits_with_zero_is_not_taken_for_success(notebook, directory):
    outcome = execute(notebook('record("running", 5)', "import sys; sys.exit(0)", 'record("done", 0)'), {}, run_directory=directory)
    assert (outcome.status, outcome.exit_code) == ("failed", 1)


def test_a_notebook_that_ends_without_finishing_its_run_has_failed(notebook, directory):
    outcome = execute(notebook('record("running", 5)'), {}, run_directory=directory)
    assert outcome.exit_code == 1 and "run.finish()" in outcome.error


@pytest.mark.parametrize(("before", "status", "code"), [("", "failed", 1), (INTENT, "in doubt", 5)])
def test_a_killed_kernel_is_in_doubt_only_when_an_effect_was_begun(notebook, directory, before, status, code):
    kill = f"{before}\nrecord('running', 5)\nimport os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    outcome = execute(notebook(kill), {}, run_directory=directory)
    assert (outcome.status, outcome.exit_code, outcome.error) == (status, code, "The kernel died.")
    assert store.read_json(directory / "result.json")["exit_code"] == code


def test_wrong_parameters_are_refused_before_anything_is_made(notebook, directory):
    with pytest.raises(ParameterError, match="There is no parameter nam. Do you mean name?"):
        execute(notebook(""), {"nam": "x"}, run_directory=directory)
    assert not directory.exists()


def test_a_run_that_another_process_runs_is_left_alone(notebook, directory, monkeypatch):
    monkeypatch.setattr("helpers.runbook.execute.ORPHAN", 0.1)
    directory.mkdir(parents=True)
    held = Journal(directory / "journal.jsonl")
    with pytest.raises(RunbookError, match="is being run by another process"):
        execute(notebook('record("done", 0)'), {}, run_directory=directory)
    held.close()
    assert not (directory / "output.ipynb").exists()


def test_two_runs_at_once_in_threads_do_not_disturb_each_other(notebook, directory):
    path = notebook('import time; time.sleep(wait_s); record("done", 0)')
    outcomes = {}

    def run(name: str) -> None:
        outcomes[name] = execute(path, {"name": name, "wait_s": 0.2}, run_directory=directory.parent / name)

    threads = [threading.Thread(target=run, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {name: outcome.result["name"] for name, outcome in outcomes.items()} == {"a": "a", "b": "b"}


def test_an_interrupt_reaches_the_cell_so_that_it_can_clean_up(notebook, directory):
    cell = f"""
{INTENT.replace('"copy"', '"frozen"')}
record("running", 5)
try:
    import time; time.sleep(60)
finally:
    {INTENT.replace('"intent"', '"done"').replace('"copy"', '"frozen"')}
"""
    script = "import sys, pathlib; from helpers.runbook.execute import execute; sys.exit(execute(sys.argv[1], {}, run_directory=pathlib.Path(sys.argv[2])).exit_code)"
    process = subprocess.Popen([sys.executable, "-c", script, str(notebook(cell)), str(directory)])
    try:
        wait_until(lambda: (directory / "result.json").exists())
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 1
    finally:
        process.kill()
    assert json.loads((directory / "result.json").read_text())["error"].startswith("KeyboardInterrupt")
