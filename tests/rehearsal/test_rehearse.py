"""A rehearsal from the command line: its own cloud, killed and resumed, and nothing of the user's AWS settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from helpers import cli
from helpers.aws.errors import RunbookError
from helpers.rehearsal import cloud as clouds
from helpers.rehearsal import rehearse

PARAMETERS = """
value: str = "1"  # what to write
crash: str = ""  # a file whose absence kills the kernel amid the effect
mode: str = "rehearse"  # rehearse, plan or apply
approve: str = ""  # gates
run_id: str = ""  # a run to resume
"""
BODY = """
import os, pathlib, signal
from helpers import aws as amazon, runbook

@amazon.effect()
def write(aws: amazon.Aws, value: str) -> str:
    aws.client("ssm").put_parameter(Name="/tiny", Value=value, Type="String", Overwrite=True)
    if crash and not pathlib.Path(crash).exists():
        pathlib.Path(crash).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return value

run = runbook.start(NOTEBOOK, globals())
with run.step("Write"):
    write(run.aws, value)
run.note(now=run.aws.client("ssm").get_parameter(Name="/tiny")["Parameter"]["Value"])
run.finish()
"""


@pytest.fixture
def tiny(tmp_path) -> Path:
    """A runbook that writes one SSM parameter."""
    path = tmp_path / "tiny.ipynb"
    tagged = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    body = nbformat.v4.new_code_cell(f"NOTEBOOK = {str(path)!r}\n{BODY}")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}, "language_info": {"name": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[tagged, body], metadata=kernel), path)
    return path


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Runs and the shared cloud in a folder of the test, and a user whose settings lead to a real account."""
    monkeypatch.setenv("RUNBOOK_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(rehearse, "SHARED", tmp_path / "shared")
    for name, value in {"AWS_PROFILE": "production", "AWS_ENDPOINT_URL_SSM": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}.items():
        monkeypatch.setenv(name, value)
    yield
    rehearse.down(everything=True)


@pytest.fixture
def runbook(monkeypatch, capfd):
    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["runbook", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capfd.readouterr()
        return ended.value.code, told.out + told.err

    return call


def result(tmp_path: Path, run_id: str) -> dict:
    return json.loads((tmp_path / "runs" / run_id / "result.json").read_text())


def test_a_rehearsal_runs_on_a_cloud_of_its_own_that_ends_with_it(runbook, tiny, tmp_path):
    code, told = runbook("rehearse", tiny, "-p", "value=012", "-p", "run_id=one")
    assert code == 0, told
    assert result(tmp_path, "one")["metrics"] == {"now": "012"}
    assert [(c["operation"], c["write"]) for c in result(tmp_path, "one")["calls"] if c["service"] == "ssm"] == [("PutParameter", True), ("GetParameter", False)]
    assert clouds.attach(tmp_path / "runs" / "one" / "cloud") is None
    assert os.environ["AWS_PROFILE"] == "production"


def test_a_killed_rehearsal_keeps_its_cloud_and_is_resumed_on_it(runbook, tiny, tmp_path):
    code, told = runbook("rehearse", tiny, "-p", f"crash={tmp_path / 'crashed'}", "-p", "run_id=killed")
    assert code == 5 and "The kernel died." in told and "runbook resume killed" in told
    kept = clouds.attach(tmp_path / "runs" / "killed" / "cloud")
    assert kept is not None and kept.endpoint in runbook("cloud", "status")[1]
    code, told = runbook("resume", "killed")
    assert code == 0, told
    assert result(tmp_path, "killed")["status"] == "done"
    assert clouds.attach(kept.directory) is None


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_plain_papermill_rehearses_too_and_what_it_guesses_wrong_is_refused(tiny, tmp_path, monkeypatch):
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL_SSM"):
        monkeypatch.delenv(name)
    command = [sys.executable, "-m", "papermill", str(tiny), str(tmp_path / "out.ipynb"), "-p", "run_id", "plain"]
    guessed = subprocess.run([*command, "-p", "value", "012"], capture_output=True, text=True, timeout=140)
    assert guessed.returncode == 1 and "write `-r value <text>`" in guessed.stderr
    assert not (tmp_path / "runs").exists()
    passed = subprocess.run([*command, "-r", "value", "012"], capture_output=True, text=True, timeout=140)
    assert passed.returncode == 0, passed.stderr
    assert result(tmp_path, "plain")["metrics"] == {"now": "012"}


def test_a_run_whose_cloud_has_ended_is_refused(tmp_path):
    lost = tmp_path / "runs" / "lost"
    lost.mkdir(parents=True)
    (lost / "rehearsal.json").write_text(json.dumps({"cloud": str(lost / "cloud"), "runbook": "tiny"}))
    (lost / "journal.jsonl").write_text('{"at": 0, "type": "intent", "key": "Write/write"}\n')
    with pytest.raises(RunbookError, match="The local cloud of run lost has ended"):
        rehearse.prepare("tiny", {}, lost)


def test_the_shared_cloud_is_used_where_it_runs_and_outlives_the_run(runbook, tmp_path):
    code, told = runbook("cloud", "up", "--scenario", "none")
    assert code == 0 and "export AWS_ENDPOINT_URL=http://127.0.0.1:" in told
    guest = tmp_path / "runs" / "guest"
    assert rehearse.prepare("tiny", {}, guest)["AWS_ENDPOINT_URL"] in told
    assert rehearse.release(guest) and not (guest / "cloud").exists()
    assert clouds.attach(tmp_path / "shared") is not None
    assert "ended: " in runbook("cloud", "down")[1]
    assert runbook("cloud", "status")[1].strip() == "no local cloud is running"


def test_no_aws_setting_of_the_user_reaches_a_rehearsal():
    environment = rehearse.kernel_environment({"AWS_REGION": "ap-northeast-1"})
    assert {name: value for name, value in environment.items() if name.startswith("AWS_")} == {"AWS_REGION": "ap-northeast-1"}


def test_without_redis_6_2_the_rehearsal_takes_the_oldest_pair_and_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    older, newer = rehearse.engines.Engine("valkey", "8.1.8", Path("a")), rehearse.engines.Engine("valkey", "9.1.2", Path("b"))
    monkeypatch.setattr(rehearse.engines, "available", lambda: [older, newer])
    assert rehearse.defaults("redis_upgrade") == {"engine": "valkey", "engine_version": "9.1"}
    assert "from valkey 8.1 to valkey 9.1" in capsys.readouterr().out
