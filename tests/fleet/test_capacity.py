"""One capacity report over a fleet of analyses: their rows as they were recorded, first what runs out first."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import nbformat
import pytest

from helpers.aws import capacity as rows
from helpers.aws.capacity import AT_LIMIT, FITS, NO_ADVICE, RUNS_OUT, SAVES, Row
from helpers.fleet import capacity, record
from helpers.fleet.file import Entry, Fault, read
from helpers.fleet.launch import Kernels, launcher
from helpers.fleet.targets import Target, resolve
from helpers.runbook import store
from helpers.runbook.execute import ExecutionResult

GROUP = Row(
    "ElastiCache", "sessions", RUNS_OUT, "2 × cache.r6g.large", "take cache.r6g.xlarge", account="012345678901", region="eu-west-1", limit="memory", measured=9.3, allowance=9.8, unit="GiB",
    headroom=5.1, what_ends="memory", p10="2026-11-07", p50="2026-11-10", p90="2026-11-12", horizon=365, cost_now=301.0, cost_then=600.0,
)  # fmt: skip
SYSTEM = replace(GROUP, service="EFS", resource="web", verdict=SAVES, p10=None, p50=None, p90=None, no_day="no credits to run out", cost_now=300.0, cost_then=100.0)
# A tiny analysis: the rows that it records are in a file beside it, by the name of the thing.
PARAMETERS = """
name: str = ""  # the thing
region: str = ""  # where
role_arn: str = ""  # a role
expected_account: str = ""  # an account
"""
BODY = """
import json, pathlib, os
from helpers.aws import capacity
told = pathlib.Path(os.environ["RUNBOOK_RUNS"]).parent / f"rows-{name}.json"
capacity.record(map(capacity.of_json, json.loads(told.read_text())))
"""


@pytest.fixture
def look(tmp_path, tiny) -> Path:
    """The analysis, beside the runbook `tiny`."""
    tagged = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Look"), tagged, nbformat.v4.new_code_cell(BODY)], metadata={"runbook": {"resource": "name"}})
    nbformat.write(notebook, tmp_path / "look.ipynb")
    return tmp_path / "look.ipynb"


def keep(look: Path, name: str, *some: Row) -> None:
    look.with_name(f"rows-{name}.json").write_text(json.dumps([asdict(one) for one in some]))


def written(look: Path, *targets: str) -> Path:
    path = look.with_name("fleet.yaml")
    path.write_text("targets:\n" + "".join(f"- {one}\n" for one in targets))
    return path


def test_the_rows_of_all_analyses_are_one_report_and_what_failed_is_in_it(look, runbook):
    keep(look, "a", SYSTEM)
    keep(look, "b", GROUP)
    told = runbook("fleet", written(look, *(f"{{runbook: {look}, resource: {name}}}" for name in ("a", "b", "c"))), "--mode", "read", "--run-id", "f1")
    assert told.code == 4 and "2 done, 1 failed" in told.out and "capacity.html" in told.out
    folder = look.parent / "runs" / "f1"
    page = (folder / "capacity.html").read_text()
    assert page.index(">sessions<") < page.index(">web<") and "<b>2026-11-10</b>" in page and "memory: 9.3 of 9.8 GiB" in page
    assert "601 → 700" in page and page.count('class="cause"') == 1 and "rows-c.json" in page and "1</b>analyses without a result" in page
    assert page.count("<img") == 2 and "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert {oct(one.stat().st_mode & 0o777) for one in folder.glob("capacity.*")} == {"0o600"}
    found = list(csv.DictReader(io.StringIO((folder / "capacity.csv").read_text())))
    assert [(one["resource"], one["verdict"], one["cost_then"]) for one in found] == [("sessions", RUNS_OUT, "600.0"), ("web", SAVES, "100.0"), ("c", "failed", "")]
    assert '<a href="capacity.html">' in (folder / "index.html").read_text()
    keep(look, "c", GROUP)
    again = runbook("fleet", "--retry-failed", "f1")
    assert again.code == 0 and "1 of 3 targets" in again.out and "failed" not in (folder / "capacity.csv").read_text()


def test_analyses_beside_runbooks_are_read_when_the_fleet_is_planned_and_not_again_when_it_is_applied(look, tiny, runbook):
    keep(look, "a", GROUP)
    told = runbook("fleet", written(look, f"{{runbook: {look}, resource: a}}", f"{{runbook: {tiny}, resource: b}}"), "--mode", "plan", "--run-id", "f1")
    assert told.code == 2 and "1 done, 1 planned" in told.out and "1 writes" in told.err
    look.with_name("rows-a.json").unlink()
    done = runbook("fleet", "--plan", "f1", "--approve", re.search(r"--approve ([0-9a-f]{16})", told.err)[1])
    assert done.code == 0 and "1 of 2 targets" in done.out and "2 done" in done.out, done.err
    assert "sessions" in (look.parent / "runs" / "f1" / "capacity.html").read_text()


def test_a_mode_that_fits_no_target_is_refused_before_anything_runs(look, tiny, runbook):
    both = written(look, f"{{runbook: {look}, resource: a}}", f"{{runbook: {tiny}, resource: b}}")
    told = runbook("fleet", both, "--mode", "read")
    assert told.code == 1 and "line 3: tiny is a runbook, and --mode read runs analyses only" in told.err
    told = runbook("fleet", written(look, f"{{runbook: {look}, resource: a}}"), "--mode", "plan")
    assert told.code == 1 and "there is nothing to plan: read them (--mode read)" in told.err
    told = runbook("fleet", written(look, f"{{runbook: {look}}}"), "--mode", "read")
    assert told.code == 1 and "names no resource, and without one look shows what is made up" in told.err
    told = runbook("fleet", written(look, "{runbook: redis_capacity, resource: sessions, parameters: {sample: true}}"), "--mode", "read")
    assert told.code == 1 and "The sample of redis_capacity is made up" in told.err
    assert not (look.parent / "runs").exists()


def test_an_analysis_of_an_account_looks_at_it_and_not_at_its_sample():
    entry = Entry(1, "redis_capacity", {"account": "012345678901", "role": "arn:aws:iam::012345678901:role/ops", "region": "eu-west-1"}, "orders")
    (target,), faults = resolve([entry], "read")
    assert not faults and target.reads_only and target.mode_in("plan") == "read" and target.mode_in("rehearse") == "rehearse"
    assert target.values == {"sample": False, "replication_group": "orders", "expected_account": "012345678901", "role_arn": "arn:aws:iam::012345678901:role/ops", "region": "eu-west-1"}


def test_a_query_finds_what_analyses_look_at(tmp_path, monkeypatch, runbook):
    monkeypatch.setattr("helpers.fleet.query.find", lambda query: ([replace(place, resource=name) for place in query.places for name in ("fs-1", "fs-2")], []))
    asked: list[Target] = []
    monkeypatch.setattr("helpers.fleet.accounts.unreachable", lambda targets: asked.extend(targets) or [Fault(0, "Nobody is there.")])
    file = tmp_path / "fleet.yaml"
    file.write_text("runbook: efs_credits\nquery: {find: file_systems, tag: team=web, in: [{region: eu-west-1}, {region: eu-central-1, profile: ops}]}\n")
    assert "Nobody is there." in runbook("fleet", file, "--mode", "read").err
    assert [(one.resource, one.region, one.reads_only) for one in asked] == [(name, region, True) for region in ("eu-west-1", "eu-central-1") for name in ("fs-1", "fs-2")]


def test_an_analysis_is_run_without_a_mode_on_a_local_cloud_or_on_the_account(kept, monkeypatch):
    ran: list[tuple[str, dict]] = []

    def run(where: str) -> Callable[..., ExecutionResult]:
        return lambda path, values, directory=None, **options: ran.append((where, values)) or ExecutionResult("x", kept.directory, "done", 0)

    monkeypatch.setattr("helpers.fleet.launch.execute", run("account"))
    for mode in ("rehearse", "read", "plan", "apply"):
        assert launcher(kept, mode, Kernels(None), run("local cloud"))(kept.targets[0], "f1.001").status == "done"
    assert ran == [(where, {"name": "one"}) for where in ("local cloud", "account", "account", "account")]


@pytest.fixture
def kept(look, monkeypatch) -> record.Record:
    """A fleet of two analyses, without a run yet."""
    path = written(look, *(f"{{runbook: {look}, resource: {name}}}" for name in ("one", "two")))
    targets, faults = resolve(read(path).entries, "read")
    assert not faults
    made = record.create("f1", path.name, "read", targets)
    yield made
    made.close()


def ended(kept: record.Record, number: int, *some: Row, at: float | None = None) -> None:
    target = kept.targets[number]
    run_id = kept.begin(target, "read", False)
    (kept.runs / run_id).mkdir(exist_ok=True)
    store.write_json(kept.runs / run_id / "result.json", {"status": "done", "ended": at or time.time(), "capacity": [asdict(one) for one in some]})
    kept.end(target, "read", run_id, "done", 0, "", 1.0)


def test_a_resource_that_two_runs_looked_at_counts_once_as_the_closer_look_saw_it(kept):
    ended(kept, 0, SYSTEM, replace(SYSTEM, resource="other"))
    ended(kept, 1, replace(SYSTEM, cost_then=50.0))
    found, failed = capacity.collect(kept)
    assert not failed and {one.row.resource: one.row.cost_then for one in found} == {"web": 50.0, "other": 100.0}


def test_costs_are_added_up_by_service_and_currency_and_what_is_not_known_stays_as_it_is(kept):
    refused = replace(SYSTEM, resource="odd", verdict=NO_ADVICE, cost_then=None)
    ended(kept, 0, SYSTEM, GROUP, refused, replace(GROUP, resource="cn", currency="CNY", verdict=FITS, cost_now=10.0, cost_then=10.0))
    sums = {(one.service, one.currency): one for one in capacity.totals(capacity.collect(kept)[0])}
    system, group = sums["EFS", "USD"], sums["ElastiCache", "USD"]
    assert (system.resources, system.now, system.saved, system.more, system.then, system.unknown) == (2, 600, 200, 0, 400, 1)
    assert (group.now, group.saved, group.more, group.then) == (301, 0, 299, 600) and sums["ElastiCache", "CNY"].then == 10


def test_what_is_old_or_silent_is_called_stale_and_what_is_refused_keeps_its_reason(kept):
    week = 8 * 86_400
    silent = replace(GROUP, resource="silent", seen_until="2020-01-01T00:00+00:00")
    refused = replace(SYSTEM, verdict=NO_ADVICE, cost_then=None, note="The balance does not agree with what was metered.")
    ended(kept, 0, replace(GROUP, seen_until="2020-01-01T00:00+00:00"), at=1577836800.0 + 3600)
    ended(kept, 1, silent, refused, replace(GROUP, resource="sample", made_up=True, seen_until="2020-01-01T00:00+00:00"))
    found = {one.row.resource: one.stale for one in capacity.collect(kept, now=time.time() + 1)[0]}
    assert found["silent"] == "no datapoint since 2020-01-01" and "days ago" in found["sessions"] and found["web"] == found["sample"] == ""
    assert all(one.stale for one in capacity.collect(kept, now=time.time() + week)[0] if not one.row.made_up)
    capacity.write(kept)
    page = (kept.directory / "capacity.html").read_text()
    assert '<div class="stale">no datapoint since 2020-01-01</div>' in page and "The balance does not agree" in page and "<b>2</b>stale" in page and "1 of 4 resources are made up" in page


def test_a_fleet_without_analyses_has_no_capacity_report(tiny, fleet_file, runbook):
    assert runbook("fleet", fleet_file("a"), "--mode", "plan", "--run-id", "f1").code == 2
    assert not list((tiny.parent / "runs" / "f1").glob("capacity.*"))


def test_the_most_urgent_comes_first_and_then_the_earliest_day():
    later, limit = replace(GROUP, p50="2026-12-01"), replace(SYSTEM, verdict=AT_LIMIT)
    assert rows.record([SYSTEM, later, GROUP, limit]).rows == [limit, GROUP, later, SYSTEM]
    assert later.ends == "2026-12-01 (P10 2026-11-07, P90 2026-11-12)" and replace(GROUP, p50=None, p90=None).ends == "not before 2026-11-07 (P10 2026-11-07, P90 beyond 365 days)"
    assert replace(GROUP, p10=None, p50=None, p90=None).ends == "not within 365 days"
