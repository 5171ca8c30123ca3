"""`runbook fleet` as its users call it: plan, one approval, apply, retry, resume, the report."""

from __future__ import annotations

import csv
import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from helpers.aws.errors import RunbookError
from helpers.fleet import accounts

ASK = accounts.unreachable  # before a fixture puts it out of the way


def code_of(told) -> str:
    return re.search(r"Code: ([0-9a-f]{16})", told.err)[1]


def ledger(tiny: Path) -> list[str]:
    path = tiny.with_name("ledger")
    return sorted(path.read_text().splitlines()) if path.exists() else []


def test_a_fleet_is_planned_approved_as_a_whole_and_applied_once(tiny, fleet_file, runbook):
    told = runbook("fleet", fleet_file("a", "b", "c"), "--mode", "plan", "--run-id", "f1")
    assert told.code == 2 and "3 planned" in told.out and ledger(tiny) == []
    code = code_of(told)
    assert "The plan has 3 writes and 3 gates." in told.err
    refused = runbook("fleet", "--plan", "f1")
    assert refused.code == 3 and f"--approve {code}" in refused.err
    assert runbook("fleet", "--plan", "f1", "--approve", "0" * 16).code == 3 and ledger(tiny) == []
    done = runbook("fleet", fleet_file("a", "b", "c"), "--plan", "f1", "--approve", code)
    assert done.code == 0, done.err
    assert ledger(tiny) == ["a switch", "b switch", "c switch"]
    page = (tiny.parent / "runs" / "f1" / "index.html").read_text()
    assert "efs: CreateTags" in page and "../f1.001/output.ipynb" in page and "<script" not in page and "http" not in page.replace("http-equiv", "")
    rows = list(csv.DictReader(io.StringIO((tiny.parent / "runs" / "f1" / "results.csv").read_text())))
    assert [(row["resource"], row["status"], row["writes"]) for row in rows] == [("a", "done", "1"), ("b", "done", "1"), ("c", "done", "1")]


def test_a_plan_that_was_touched_or_another_file_is_not_applied(tiny, fleet_file, runbook):
    code = code_of(runbook("fleet", fleet_file("a"), "--mode", "plan", "--run-id", "f1"))
    other = runbook("fleet", fleet_file("a", "b"), "--plan", "f1", "--approve", code)
    assert other.code == 1 and "fleet.yaml is not what fleet f1 was made of" in other.err
    plan = tiny.parent / "runs" / "f1.001" / "plan.json"
    plan.write_text(plan.read_text().replace("CreateTags", "DeleteFileSystem"))
    touched = runbook("fleet", "--plan", "f1", "--approve", code)
    assert touched.code == 1 and "The plan of a is not the one that fleet f1 was planned with" in touched.err and ledger(tiny) == []


def test_only_the_failed_are_run_again_and_errors_are_grouped_by_cause(tiny, fleet_file, runbook):
    for name in ("b", "c"):
        tiny.with_name(f"broken-{name}").write_text(f"The file system {name} has no mount target. Remedy: Make one in {name}.")
    told = runbook("fleet", fleet_file("a", "b", "c"), "--mode", "plan", "--run-id", "f1")
    assert told.code == 4 and "--retry-failed f1" in told.err
    page = (tiny.parent / "runs" / "f1" / "index.html").read_text()
    assert page.count('class="cause"') == 1 and "<b>2 ×</b> The file system … has no mount target." in page and "Make one in …." in page
    refused = runbook("fleet", "--plan", "f1")
    assert refused.code == 1 and "has no whole plan: b, c" in refused.err
    for name in ("b", "c"):
        tiny.with_name(f"broken-{name}").unlink()
    again = runbook("fleet", "--retry-failed", "f1")
    assert again.code == 2 and "2 of 3 targets" in again.out and "3 planned" in again.out


def test_every_fault_is_listed_before_anything_runs(tiny, runbook, monkeypatch):
    file = tiny.with_name("fleet.yaml")
    file.write_text(f"runbook: {tiny}\ntargets:\n- a\n- a\n- {{resource: b, parameters: {{sise: 1}}}}\n- {{resource: c, role: 'arn:aws:iam::111111111111:role/gone'}}\n- {{runbook: nothing}}\n")
    def refuse(role_arn="", **_):
        if role_arn:
            raise RunbookError("AssumeRole was refused with AccessDenied: not authorized")

    monkeypatch.setattr(accounts, "unreachable", lambda targets: ASK(targets, refuse))
    told = runbook("fleet", file, "--mode", "plan")
    assert told.code == 1 and "fleet.yaml has 4 faults; nothing was run." in told.err and not (tiny.parent / "runs").exists()
    for line in ("line 4: It is the target of line 3 again", "line 5: There is no parameter sise", "line 6: AssumeRole was refused", "line 7: There is no runbook 'nothing'"):
        assert line in told.err


def test_ctrl_c_ends_a_fleet_cleanly_and_resume_goes_on(tiny, fleet_file, runbook):
    tiny.with_name("broken-b").write_text("wait")
    file = fleet_file("a", "b", "c")
    script = "import sys; from helpers.fleet import accounts; accounts.unreachable = lambda targets: []; from helpers.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", script, "fleet", str(file), "--mode", "plan", "--run-id", "f1", "--max-concurrency", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        end = time.monotonic() + 100
        while not tiny.with_name("begun-b").exists():
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=110)
    finally:
        process.kill()
    assert process.returncode == 4 and "1 planned, 1 interrupted, 1 not run" in out and "--resume f1" in err
    tiny.with_name("broken-b").unlink()
    again = runbook("resume", "f1")
    assert again.code == 2 and "2 of 3 targets" in again.out and "3 planned" in again.out


def test_contradictions_are_refused(tiny, fleet_file, runbook):
    file = fleet_file("a")
    for arguments, sentence in (
        ((), "There is no fleet file."),
        ((file, "--mode", "apply"), "A fleet is applied by its plan."),
        ((file, "--mode", "trial"), "There is no mode 'trial'."),
        ((file, "--max-errors", "lots"), "--max-errors lots is neither a number nor a share"),
        (("--resume", "x", "--plan", "x"), "do not go together"),
        (("--resume", "nothing"), "There is no fleet run nothing."),
        (("--resume", "../x"), "cannot be a run id"),
    ):
        told = runbook("fleet", *arguments)
        assert told.code == 1 and sentence in told.err, told.err
