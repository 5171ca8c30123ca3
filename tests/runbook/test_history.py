"""History: the list of runs, and a run's timeline."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from helpers.aws.errors import RunbookError
from helpers.runbook import history, store
from helpers.runbook.journal import Journal

CALLER = "arn:aws:iam::012345678901:user/me"


def written(folder: Path, name: str, *, created: float = 100.0, status: str = "done", pid: int = 0, **result: object) -> Path:
    """A run's folder as the engine leaves it."""
    directory = folder / name
    directory.mkdir(parents=True)
    store.write_json(directory / "run.json", {"runbook": "small", "run_id": name, "mode": "apply", "created": created, "parameters": {}})
    journal = Journal(directory / "journal.jsonl")
    journal.write("started", mode="apply", who=CALLER, account="012345678901", region="eu-west-1", user="me", pid=pid)
    journal.write("step", step="1 Make", event="begin")
    journal.write("intent", key="1 Make/make", function="m:f", args={})
    journal.write("done", key="1 Make/make", result=None)
    journal.write("card", title="x", html="")
    journal.write("step", step="1 Make", event="end", status="done", duration_s=1.5, error="")
    journal.close()
    store.write_json(directory / "result.json", {"runbook": "small", "mode": "apply", "status": status, "caller": CALLER, "started": 200.0, "ended": 203.0, "error": "", "calls": [], **result})
    return directory


def call(operation: str, write: bool, **more: object) -> dict:
    return {"service": "efs", "operation": operation, "resource": "fs-1", "write": write, "sent": True, "at": 1e10, "request_id": "r-1", "retries": 0, "error_code": "", **more}


def test_runs_are_listed_by_time_with_status_who_what_and_when(tmp_path):
    written(tmp_path, "late", created=300.0, calls=[call("CreateTags", True), call("DescribeTags", False), call("CreateTags", True, error_code="Throttling")])
    written(tmp_path, "early", status="failed", error="It broke.")
    early, late = history.runs(tmp_path)
    assert (early.id, early.status, early.error, early.who, early.began, early.duration_s) == ("early", "failed", "It broke.", CALLER, 100.0, 3.0)
    assert (late.id, late.what) == ("late", "1 writes")


def test_a_run_that_says_running_is_cut_short_when_its_process_has_gone(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert history.past(written(tmp_path, "a", status="running", pid=gone.pid)).status == "cut short"
    alive = history.past(written(tmp_path, "b", status="running", pid=os.getpid()))
    assert (alive.status, alive.duration_s) == ("running", None)


def test_a_timeline_has_steps_effects_and_writes_with_their_request_ids_and_reads_where_they_are_asked_for(tmp_path):
    directory = written(tmp_path, "a")
    lines = [call("DescribeTags", False), call("CreateTags", True, error_code="AccessDenied", retries=2)]
    (directory / "calls.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines) + '{"torn')
    before = {path: path.read_bytes() for path in directory.iterdir()}
    moments = history.timeline(directory)
    assert [one.event for one in moments] == ["started in mode apply", "step", "effect", "effect done", "step done", "write"]
    assert (moments[-1].about, moments[-1].request_id) == ("efs CreateTags fs-1: refused with AccessDenied, 2 retries", "r-1")
    assert [one.event for one in history.timeline(directory, reads=True)][-2:] == ["read", "write"]
    assert {path: path.read_bytes() for path in directory.iterdir()} == before


def test_a_damaged_run_does_not_hide_the_others(tmp_path):
    written(tmp_path, "good")
    bad = written(tmp_path, "bad")
    (bad / "result.json").write_text("{")
    assert {one.id: one.status for one in history.runs(tmp_path)} == {"good": "done", "bad": "damaged"}
    with pytest.raises(RunbookError, match="is damaged"):
        history.timeline(bad)
    with pytest.raises(RunbookError, match="There is no run nothing"):
        history.past(tmp_path / "nothing")
