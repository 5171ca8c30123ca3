"""A fleet of different runbooks, rehearsed as its users do: canary, what fails and why, the retry of only that, and the examples in fleets/."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from helpers.fleet.file import read
from helpers.fleet.targets import resolve
from helpers.rehearsal.ecr.sample_image import sample_image

EXAMPLES = Path(__file__).resolve().parents[2] / "fleets"
FILE = """targets:
- {{runbook: eventbridge_debug, resource: amplify-to-slack, parameters: {{sink: sqs, correction: none}}}}
- {{runbook: ecr_push, resource: foo-repository, parameters: {{tag: v1, image: {late}}}}}
- {{runbook: efs_mount, resource: web-content, parameters: {{fstab: false}}}}
"""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_different_runbooks_are_one_fleet_that_stops_at_its_limit_goes_on_and_runs_only_the_failed_again(tmp_path, runbook):
    late = tmp_path / "late"
    file = tmp_path / "fleet.yaml"
    file.write_text(FILE.format(late=late / "image"))
    told = runbook("fleet", file, "--canary", "1", "--max-errors", "0", "--max-concurrency", "1", "--run-id", "f1")
    assert told.code == 4 and "1 done, 1 failed, 1 not run" in told.out and "stopped: 1 failed, and 0 may" in told.err
    on = runbook("fleet", "--resume", "f1", "--max-errors", "100%", "--max-concurrency", "2")
    assert on.code == 4 and "1 of 3 targets" in on.out and "2 done, 1 failed" in on.out, on.err
    page = (tmp_path / "runs" / "f1" / "index.html").read_text()
    assert page.count('class="cause"') == 1 and f"There is no {late / 'image'}." in page and "efs_mount × 1" in page
    late.mkdir()
    sample_image(late)
    again = runbook("fleet", "--retry-failed", "f1")
    assert again.code == 0 and "1 of 3 targets" in again.out and "3 done" in again.out, again.err
    rows = list(csv.DictReader(io.StringIO((tmp_path / "runs" / "f1" / "results.csv").read_text())))
    assert [(row["runbook"], row["status"], row["attempts"]) for row in rows] == [("eventbridge_debug", "done", "1"), ("ecr_push", "done", "2"), ("efs_mount", "done", "1")]


@pytest.mark.parametrize("name", ["capacity.yaml", "mixed.yaml"])
def test_the_examples_can_be_rehearsed(name):
    targets, faults = resolve(read(EXAMPLES / name).entries, "rehearse")
    assert not faults and len(targets) == {"capacity.yaml": 5, "mixed.yaml": 50}[name]
