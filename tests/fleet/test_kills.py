"""A fleet's apply whose coordinator is killed: going on repeats no effect, because each run has its own journal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import nbformat
import pytest

PARAMETERS = """
mode: str = "rehearse"  # mode
name: str = ""  # the thing
house: str = ""  # where the ledger is
approve: str = ""  # gates
plan_file: str = ""  # a plan
run_id: str = ""  # a run
"""
START = """
import time
from pathlib import Path
from helpers.aws import act, effect
from helpers.aws.session import Aws
from helpers.runbook import engine
engine.amazon.connect = lambda **_: Aws(None, "012345678901", "", "eu-west-1", "arn:aws:iam::012345678901:user/me")

def append(line):
    with open(Path(house) / "ledger", "a") as ledger:
        ledger.write(line + "\\n")

@effect(undo="It stays.")
def write_down(line: str) -> str:
    act("ledger", "Append", line, lambda: append(line))
    return line

run = engine.start(NOTEBOOK, globals())
"""
STEPS = """
with run.step("One"):
    write_down(f"{name} one")
if mode == "apply" and name == "b" and not (Path(house) / "killed").exists():
    (Path(house) / "now").touch()
    time.sleep(100)
run.gate("go", f"Go on with {name}.", name)
with run.step("Two"):
    write_down(f"{name} two")
run.finish()
"""
CALL = "import sys; from helpers.fleet import accounts; accounts.unreachable = lambda targets: []; from helpers.cli import main; main()"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are counted in /proc")
def test_a_coordinator_killed_in_the_middle_of_an_apply_is_gone_on_with_and_every_effect_happens_once(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNBOOK_RUNS", str(tmp_path / "runs"))
    path = tmp_path / "steps.ipynb"
    tagged = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    cells = [tagged, nbformat.v4.new_code_cell(f"NOTEBOOK = {str(path)!r}\n{START}"), nbformat.v4.new_code_cell(STEPS)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"runbook": {"gates": ["go"], "resource": "name"}}), path)
    (tmp_path / "fleet.yaml").write_text(f"runbook: {path}\nparameters: {{house: {tmp_path}}}\ntargets: [a, b, c]\n")

    def call(*arguments: str) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", CALL, "fleet", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    planned = call(str(tmp_path / "fleet.yaml"), "--mode", "plan", "--run-id", "f1")
    out, err = planned.communicate(timeout=100)
    assert planned.returncode == 2, out + err
    assert "6 writes and 3 gates" in err and not (tmp_path / "ledger").exists()
    killed = call("--plan", "f1", "--approve", re.search(r"Code: (\w+)", err)[1], "--max-concurrency", "1")
    try:
        end = time.monotonic() + 100
        while not (tmp_path / "now").exists():
            assert time.monotonic() < end and killed.poll() is None, killed.communicate()
            time.sleep(0.05)
        os.kill(killed.pid, signal.SIGKILL)
    finally:
        killed.kill()
        killed.communicate()
    (tmp_path / "killed").touch()
    assert (tmp_path / "ledger").read_text().splitlines() == ["a one", "a two", "b one"]
    resumed = call("--resume", "f1")
    out, err = resumed.communicate(timeout=100)
    assert resumed.returncode == 0, out + err
    assert "2 of 3 targets" in out
    assert Counter((tmp_path / "ledger").read_text().splitlines()) == Counter(f"{name} {step}" for name in "abc" for step in ("one", "two"))
    assert not [one for one in Path("/proc").glob("[0-9]*/environ") if _environ(one).find(f"RUNBOOK_RUNS={tmp_path}".encode()) >= 0 and one.parent.name != str(os.getpid())]


def _environ(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
