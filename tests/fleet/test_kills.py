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

import boto3
import pytest

from helpers.rehearsal import cloud as clouds
from tests.fleet.machines import write_runbook

START = """
import time
from pathlib import Path
from helpers.aws import act, effect
from helpers.aws.session import Aws
from helpers.runbook import engine
engine.amazon.connect = lambda **_: Aws(None, "012345678901", "eu-west-1", "arn:aws:iam::012345678901:user/me")

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
    planned_killed_and_resumed(tmp_path, "here", "here")
    assert not [one for one in Path("/proc").glob("[0-9]*/environ") if _environ(one).find(f"RUNBOOK_RUNS={tmp_path}".encode()) >= 0 and one.parent.name != str(os.getpid())]


@pytest.mark.slow
def test_a_fleet_whose_machine_died_in_the_middle_of_an_apply_is_gone_on_with_on_another_by_what_is_in_s3(tmp_path, monkeypatch):
    cloud = clouds.up(tmp_path / "cloud")
    try:
        for name, value in {**cloud.environment(), "NO_PROXY": "127.0.0.1", "RUNBOOK_RUNS": "s3://fleets/team", "RUNBOOK_LEASE_S": "3"}.items():
            monkeypatch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="fleets", CreateBucketConfiguration={"LocationConstraint": clouds.REGION})
        planned_killed_and_resumed(tmp_path, "one", "another")
        assert not (tmp_path / "runs").exists()
    finally:
        clouds.down(tmp_path / "cloud")


def planned_killed_and_resumed(house: Path, machine: str, other: str) -> None:
    """Plan a fleet of three and apply it on a machine, which is a cache folder; kill it amid the second run, and go on on another one."""
    file = write_runbook(house, "abc", START, STEPS)

    def call(where: str, *arguments: str) -> subprocess.Popen:
        environment = {**os.environ, "XDG_CACHE_HOME": str(house / where)}
        return subprocess.Popen([sys.executable, "-c", CALL, "fleet", *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    planned = call(machine, str(file), "--mode", "plan", "--run-id", "f1")
    out, err = planned.communicate(timeout=100)
    assert planned.returncode == 2, out + err
    assert "6 writes and 3 gates" in err and not (house / "ledger").exists()
    killed = call(machine, "--plan", "f1", "--approve", re.search(r"Code: (\w+)", err)[1], "--max-concurrency", "1")
    try:
        end = time.monotonic() + 100
        while not (house / "now").exists():
            assert time.monotonic() < end and killed.poll() is None, killed.communicate()
            time.sleep(0.05)
        os.kill(killed.pid, signal.SIGKILL)
    finally:
        killed.kill()
        killed.communicate()
    (house / "killed").touch()
    assert (house / "ledger").read_text().splitlines() == ["a one", "a two", "b one"]
    resumed = call(other, "--resume", "f1")
    out, err = resumed.communicate(timeout=100)
    assert resumed.returncode == 0, out + err
    assert "2 of 3 targets" in out
    assert Counter((house / "ledger").read_text().splitlines()) == Counter(f"{name} {step}" for name in "abc" for step in ("one", "two"))


def _environ(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
