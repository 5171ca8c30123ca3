"""Runs in S3, on the local cloud: two machines are two cache folders."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import nbformat
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError

from helpers.aws import RunbookError, act, calls, effect
from helpers.aws import session as aws_session
from helpers.fleet import history as fleet_history
from helpers.fleet import record
from helpers.fleet.targets import Target
from helpers.rehearsal import cloud as clouds
from helpers.runbook import engine, history, lease, rollback, shared_run, shared_store, store
from helpers.runbook import parameters as schema
from helpers.runbook.journal import Journal

SECRET = "kQ9vXw2LmN7pRt4YbZ8s"
PARAMETERS = 'mode: str = "rehearse"  # mode\nname: str = "a"  # the thing\nhouse: str = ""  # where the ledger is\nrun_id: str = ""  # a run\napprove: str = ""  # gates\nplan_file: str = ""  # a plan'
NOTEBOOK = """
import time
from pathlib import Path
from helpers.aws import act, effect
from helpers.aws.session import Aws
from helpers.runbook import engine
engine.amazon.connect = lambda **_: Aws(None, "012345678901", "eu-west-1", "arn:aws:iam::012345678901:user/me")

@effect(undo="It stays.")
def write_down(line: str) -> str:
    ledger = Path(house) / "ledger"
    if ledger.exists() and line in ledger.read_text().splitlines():
        return line
    act("ledger", "Append", line, lambda: open(ledger, "a").write(line + "\\n"))
    if line == "two" and not (Path(house) / "killed").exists():
        (Path(house) / "now").touch()
        time.sleep(100)
    return line

run = engine.start(NOTEBOOK, globals())
for line in ("one", "two", "three"):
    with run.step(line.title()):
        write_down(line)
run.finish()
"""
LEDGER: list[str] = []
_names = itertools.count(1)


@effect()
def write_down(line: str) -> str:
    act("ledger", "Append", line, lambda: LEDGER.append(line))
    return line


def put_back(line: str) -> None:
    """Put it back."""
    LEDGER.append(f"no {line}")


@effect(undo=put_back)
def erase(line: str) -> None:
    act("ledger", "Append", line, lambda: LEDGER.append(line))


class House:
    """A bucket of runs, and machines that share it."""

    def __init__(self, folder: Path, bucket: str, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.bucket, self.s3, self._monkeypatch = folder, bucket, s3, monkeypatch

    def machine(self, name: str) -> None:
        """This process becomes another machine: one with a cache of its own."""
        self._monkeypatch.setenv("XDG_CACHE_HOME", str(self.folder / name))
        shared_store.opened.cache_clear()

    def begin(self, **values: object) -> engine.Run:
        return engine.start("small", {"mode": "apply", "name": "a", "house": "", "run_id": "", "approve": "", "plan_file": "", **values})

    def objects(self) -> dict[str, bytes]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return {one["Key"]: self.s3.get_object(Bucket=self.bucket, Key=one["Key"])["Body"].read() for page in pages for one in page.get("Contents", [])}

    def lease(self, run_id: str) -> dict[str, Any]:
        return json.loads(self.s3.get_object(Bucket=self.bucket, Key=f"team/{run_id}/lease.json")["Body"].read())

    def ended_elsewhere(self, run_id: str) -> None:
        """Another process lets go of a run."""
        self.s3.put_object(Bucket=self.bucket, Key=f"team/{run_id}/lease.json", Body=json.dumps({**self.lease(run_id), "released": True}).encode())

    def fails(self, when: Callable[[Any], bool], *, arrives: bool = False) -> None:
        """Requests of the store for which `when` holds break off, before they arrive or after."""

        def broken(request: Any, **_: Any) -> AWSResponse | None:
            if not when(request):
                return None
            if arrives:
                import urllib3

                urllib3.PoolManager().request(request.method, request.url, headers=dict(request.headers), body=request.body)
            raise EndpointConnectionError(endpoint_url="http://s3")

        shared_store.opened(os.environ["RUNBOOK_RUNS"])._client.meta.events.register_last("before-send.s3", broken, unique_id="broken")

    def works_again(self) -> None:
        shared_store.opened(os.environ["RUNBOOK_RUNS"])._client.meta.events.unregister("before-send.s3", unique_id="broken")


@pytest.fixture
def house(cloud: clouds.Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    LEDGER.clear()
    for name, value in {**cloud.environment(), "NO_PROXY": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    bucket = f"runs-{next(_names)}"
    s3 = boto3.client("s3", config=Config(max_pool_connections=40))
    calls.leave_unwatched(s3)
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": clouds.REGION})
    monkeypatch.setenv("RUNBOOK_RUNS", f"s3://{bucket}/team")
    monkeypatch.setattr(shared_store, "SETTINGS", Config(retries={"mode": "standard", "total_max_attempts": 1}, max_pool_connections=32))
    path = tmp_path / "small.ipynb"
    cell = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell, nbformat.v4.new_code_cell(f"NOTEBOOK = {str(path)!r}\n{NOTEBOOK}")]), path)
    found = schema.find
    monkeypatch.setattr(schema, "find", lambda name: path if name == "small" else found(name))
    monkeypatch.setattr(engine.amazon, "connect", lambda **_: aws_session.Aws(None, "012345678901", "eu-west-1", "arn:aws:iam::012345678901:user/me"))
    made = House(tmp_path, bucket, s3, monkeypatch)
    made.machine("a")
    yield made
    engine._end_earlier_run()
    engine._current = None
    calls.watch(None)


def died(run: engine.Run) -> None:
    """What is left when the process of a run is killed: nothing is released, nothing is sent."""
    shared = run.journal._shared
    shared._lease._ending.set()
    shared._lease._etag = ""
    shared._waiting.clear()
    shared.fault = RunbookError("dead")
    run._close()


# -- what S3 does ------------------------------------------------------------------------------------


def test_the_local_cloud_refuses_conditional_writes_as_s3_does(house):
    """Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html"""

    def put(body: bytes, **condition: str) -> Any:
        try:
            return house.s3.put_object(Bucket=house.bucket, Key="one", Body=body, **condition)["ETag"]
        except ClientError as error:
            return error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]

    assert put(b"x", IfMatch='"0123"') == ("NoSuchKey", 404)
    first = put(b"1", IfNoneMatch="*")
    assert put(b"2", IfNoneMatch="*") == ("PreconditionFailed", 412)
    second = put(b"2", IfMatch=first)
    assert put(b"3", IfMatch=first) == ("PreconditionFailed", 412)
    assert house.s3.get_object(Bucket=house.bucket, Key="one")["Body"].read() == b"2" and first != second


def test_of_many_conditional_writes_at_once_one_succeeds(house):
    won: list[int] = []

    def put(number: int) -> None:
        try:
            house.s3.put_object(Bucket=house.bucket, Key="one", Body=b"%d" % number, IfNoneMatch="*")
            won.append(number)
        except ClientError:
            pass

    threads = [threading.Thread(target=put, args=(number,)) for number in range(30)]
    [one.start() for one in threads], [one.join() for one in threads]
    assert len(won) == 1 and house.s3.get_object(Bucket=house.bucket, Key="one")["Body"].read() == b"%d" % won[0]


# -- an apply ------------------------------------------------------------------------------------------


def test_a_run_begun_on_one_machine_is_gone_on_with_on_another_and_every_effect_happens_once(house):
    first = house.begin()
    with first.step("1 Write"):
        write_down("one")
    died(first)
    house.ended_elsewhere(first.id)
    house.machine("b")
    again = house.begin(run_id=first.id)
    assert again.directory != first.directory and stat.S_IMODE(again.directory.parent.stat().st_mode) == 0o700
    with again.step("1 Write"):
        write_down("one")
        write_down("two")
    again.finish()
    assert LEDGER == ["one", "two"]
    house.machine("c")
    (past,) = history.runs()
    assert (past.id, past.status, past.what) == (first.id, "done", "2 writes")
    assert [one.about for one in history.timeline(store.run_directory(first.id)) if one.event == "effect done"] == ["1 Write/write_down", "1 Write/write_down#2"]


def test_files_are_private_here_and_nothing_of_the_store_is_among_the_calls(house):
    run = house.begin()
    with run.step("1 Write"):
        write_down("one")
    run.finish()
    assert [call["service"] for call in run.result()["calls"]] == ["ledger"]
    kept = [path for path in run.directory.parent.rglob("*") if path.is_file() and ".locks" not in path.parts]
    assert kept and all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in kept)
    assert {key.removeprefix(f"team/{run.id}/") for key in house.objects() if "/journal/" not in key} == {"run.json", "result.json", "report.html", "lease.json"}


def test_a_plan_lists_no_write_of_the_store_and_is_applied_on_another_machine(house):
    planned = house.begin(mode="plan", run_id="p1")
    with planned.step("1 Write"):
        write_down("one")
        boto3.client("s3").put_object(Bucket=house.bucket, Key="by-the-run", Body=b"")
    planned.finish()
    assert [(one["service"], one["operation"]) for one in planned.result()["plan"]] == [("ledger", "Append"), ("s3", "PutObject")]
    assert not LEDGER and "by-the-run" not in house.objects() and "team/p1/plan.json" in house.objects()
    house.machine("b")
    applied = house.begin(run_id="p1", plan_file=str(store.run_directory("p1") / "plan.json"))
    with applied.step("1 Write"):
        write_down("one")
        boto3.client("s3").put_object(Bucket=house.bucket, Key="by-the-run", Body=b"")
    applied.finish()
    assert LEDGER == ["one"] and "by-the-run" in house.objects() and applied.status == "done"


def test_a_machine_that_was_thought_dead_sends_nothing_once_another_has_gone_on(house, monkeypatch):
    monkeypatch.setenv("RUNBOOK_LEASE_S", "1")
    slow = house.begin()
    with slow.step("1 Write"):
        write_down("one")
    slow.journal._shared._lease._ending.set()  # asleep: it does not renew
    slow_place, before = slow.journal._shared, slow.directory
    house.machine("b")
    monkeypatch.setenv("RUNBOOK_LEASE_S", "30")
    fast = engine.Run("small", {**slow.parameters, "run_id": slow.id})
    fast._open()
    slow_place._lease._ending.clear()
    engine.effects.record_with(slow)
    with pytest.raises(RunbookError, match="Another process has"), slow.step("2 Write"):
        write_down("two")
    assert LEDGER == ["one"] and before.exists()
    engine.effects.record_with(fast)
    calls.watch(calls.Watch(fast._on_call, fast._on_write))
    with fast.step("2 Write"):
        write_down("two")
    fast.finish()
    house.machine("a")
    with store.published(slow.directory, after_its_kernel=True):
        store.write_json(slow.directory / "result.json", {"status": "in doubt"})
    assert LEDGER == ["one", "two"] and json.loads(house.objects()[f"team/{slow.id}/result.json"])["status"] == "done"


def test_a_number_of_the_journal_that_is_taken_ends_the_run_before_its_next_effect(house):
    run = house.begin()
    with run.step("1 Write"):
        write_down("one")
        number = run.journal._shared._number + 1
        house.s3.put_object(Bucket=house.bucket, Key=f"team/{run.id}/journal/{number:08d}.json", Body=json.dumps({"writer": "me on elsewhere, process 7", "lines": {}}).encode())
        with pytest.raises(RunbookError, match=r"gone on with run .* \(me on elsewhere, process 7\)"):
            write_down("two")
        with pytest.raises(RunbookError, match="gone on"):
            write_down("three")
    assert LEDGER == ["one"]
    assert "three" not in "".join(map(bytes.decode, house.objects().values()))


def test_a_put_whose_answer_was_lost_is_not_taken_for_another_process(house):
    run = house.begin()
    with run.step("1 Write"):
        write_down("one")
        house.fails(lambda request: "/journal/" in request.url, arrives=True)
        with pytest.raises(RunbookError, match="cannot be reached to write"):
            write_down("two")
        house.works_again()
        write_down("three")
    run.finish()
    assert LEDGER == ["one", "three"]
    house.machine("b")
    entries = Journal(store.run_directory(run.id) / "journal.jsonl", read_only=True)
    assert [one["key"] for one in entries.of_type("done")] == ["1 Write/write_down", "1 Write/write_down#3"]


def test_when_s3_fails_no_further_effect_happens_and_what_has_happened_is_known_to_the_resumed_run(house):
    run = house.begin()
    with pytest.raises(RunbookError, match="s3://runs-.*/team, cannot be reached"), run.step("1 Write"):
        write_down("one")
        house.fails(lambda request: LEDGER[-1:] == ["two"])  # S3 fails when the effect has happened, and before that can be told
        write_down("two")
    with pytest.raises(RunbookError, match="This run has ended"):
        run.step("2 Write").__enter__()
    house.works_again()
    assert not any(b'"two"' in body for key, body in house.objects().items() if "/journal/" in key and b'"done"' in body)
    again = house.begin(run_id=run.id)
    with again.step("1 Write"):
        write_down("one"), write_down("two"), write_down("three")
    again.finish()
    assert LEDGER == ["one", "two", "three"]
    house.machine("b")
    assert history.past(store.run_directory(run.id)).status == "done"


def test_no_secret_reaches_s3(house, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    house.machine("b")
    run = house.begin(name=f"x{SECRET}")
    with run.step("1 Write"):
        write_down(f"password={SECRET}")
        run.table("Shown", {"key": SECRET})
    run.note(told=SECRET)
    run.finish()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "rehearsal")
    objects = house.objects()
    assert len(objects) > 5 and not [key for key, body in objects.items() if SECRET.encode() in body]


def test_what_is_masked_on_the_way_to_s3_is_still_json(house):
    run = house.begin()
    store.write_json(run.directory / "more.json", {"error": 'It said password=hunter22"x and no more.'})
    kept = house.objects()[f"team/{run.id}/more.json"]
    assert json.loads(kept)["error"].startswith("It said password=(secret)") and b"hunter22" not in kept


# -- who goes on ------------------------------------------------------------------------------------


def test_of_two_processes_that_go_on_with_a_run_one_is_told_who_the_other_is(house, monkeypatch):
    monkeypatch.setenv("RUNBOOK_LEASE_S", "6")
    first = house.begin()
    house.machine("b")
    with pytest.raises(RunbookError, match=rf"being run by .* process {os.getpid()}"):
        engine.Run("small", {**first.parameters, "run_id": first.id})._open()
    with first.step("1 Write"):
        write_down("one")
    first.finish()
    assert LEDGER == ["one"]


def test_a_lease_that_was_released_is_free_at_once_and_who_waits_for_another_says_for_whom(house, capfd, monkeypatch):
    monkeypatch.setenv("RUNBOOK_LEASE_S", "600")
    run = house.begin()
    run.finish()
    house.machine("b")
    again = house.begin(run_id=run.id)
    died(again)
    assert "waiting" not in capfd.readouterr().err
    house.machine("c")
    monkeypatch.setattr(lease.time, "sleep", lambda s: house.ended_elsewhere(run.id))
    house.begin(run_id=run.id).finish()
    assert re.search(rf"Run {run.id} is held by .*process {os.getpid()}: waiting (60[01]|59\d) s to see whether that still runs", capfd.readouterr().err)


def test_a_lease_of_a_dead_process_is_free_when_it_has_run_out(house, monkeypatch):
    monkeypatch.setenv("RUNBOOK_LEASE_S", "1")
    run = house.begin()
    died(run)
    house.machine("b")
    house.begin(run_id=run.id).finish()


def test_the_run_of_a_process_of_this_machine_that_died_is_free_at_once(house, monkeypatch):
    monkeypatch.setenv("RUNBOOK_LEASE_S", "600")
    run = house.begin()
    died(run)
    house.machine("a")
    for _ in range(2):  # the second finds the journal in pieces and as a whole
        again = house.begin(run_id=run.id)
        with again.step("1 Write"):
            write_down("one"), write_down("two"), write_down("three")
        again.finish()
    assert LEDGER == ["one", "two", "three"]


def test_of_many_machines_that_take_a_run_at_once_one_has_it(house, monkeypatch):
    monkeypatch.setenv("RUNBOOK_LEASE_S", "6")
    address, had, told = os.environ["RUNBOOK_RUNS"], [], []
    places = [house.machine(f"m{number}") or shared_store.opened(address) for number in range(5)]

    def take(place: shared_store.SharedStore) -> None:
        try:
            had.append(shared_run.SharedRun(place, "r1"))
        except RunbookError as error:
            told.append(str(error))

    threads = [threading.Thread(target=take, args=(place,)) for place in places]
    [one.start() for one in threads], [one.join() for one in threads]
    assert len(had) == 1 and len(told) == 4 and all("Run r1 is being run by" in one for one in told)
    had[0].close()


def test_a_run_is_taken_back_on_another_machine(house):
    run = house.begin()
    with run.step("1 Write"):
        write_down("one"), erase("two")
    run.finish()
    house.machine("b")
    back = rollback(run.id, approve="rollback")
    assert (back.status, LEDGER) == ("rolled back", ["one", "two", "no two"])
    house.machine("c")
    assert history.past(store.run_directory(run.id)).status == "rolled back"


def test_a_run_that_could_not_begin_is_not_held(house):
    with pytest.raises(RunbookError, match="holds no plan"):
        house.begin(run_id="r1", plan_file=str(house.folder / "none.json"))
    house.machine("b")
    house.begin(run_id="r1").finish()


def test_a_lease_is_renewed_while_its_process_lives(house, monkeypatch):
    monkeypatch.setenv("RUNBOOK_LEASE_S", "1")
    run = house.begin()
    first, end = house.lease(run.id), time.monotonic() + 30
    while house.lease(run.id)["renewals"] < first["renewals"] + 2:
        assert time.monotonic() < end
        time.sleep(0.1)
    run.finish()
    assert house.lease(run.id)["released"] and not first["released"]


def test_a_run_that_runs_elsewhere_is_not_called_cut_short(house):
    run = house.begin()
    assert [one.status for one in history.runs()] == ["running"]
    house.machine("b")
    assert [one.status for one in history.runs()] == ["running"]
    died(run)
    house.ended_elsewhere(run.id)
    assert [one.status for one in history.runs()] == ["cut short"]


def test_two_new_runs_of_one_name_are_one(house):
    house.begin(run_id="x").finish()
    house.machine("b")
    store.run_directory("x")
    shared_store.opened(os.environ["RUNBOOK_RUNS"]).folder.joinpath("y").mkdir()
    house.s3.put_object(Bucket=house.bucket, Key="team/y/run.json", Body=b"{}")
    with pytest.raises(RunbookError, match="There is a run y in s3://.*/team already"):
        store.write_json(store.runs_directory() / "y" / "run.json", {}, new=True)


# -- history and bad input --------------------------------------------------------------------------


def test_the_history_fetches_what_is_new_and_touches_nothing(house):
    for name in ("r1", "r2"):
        run = house.begin(run_id=name)
        with run.step("1 Write"):
            write_down(name)
        run.finish()
    before = house.objects()
    house.machine("b")
    assert [(one.id, one.status, one.what) for one in history.runs()] == [("r1", "done", "1 writes"), ("r2", "done", "1 writes")]
    asked: list[str] = []
    place = shared_store.opened(os.environ["RUNBOOK_RUNS"])
    place._client.meta.events.register("before-send.s3", lambda request, **_: asked.append(request.method + request.url))
    assert len(history.runs()) == 2 and len(asked) == 1 and "list-type" in asked[0]
    assert house.objects() == before


def test_a_listing_cannot_lead_out_of_the_folder(house):
    for key in ("team/../evil/run.json", "team/r1/../../evil", "team/.known/r1", "team/r1/.id", "team/r1/journal/../../x.json"):
        house.s3.put_object(Bucket=house.bucket, Key=key, Body=b"{}")
    assert store.every_run() and history.runs() == []
    assert not [path for path in house.folder.rglob("*") if path.name in {"evil", "x.json", "r1"}]


def test_a_journal_with_a_gap_is_refused(house):
    run = house.begin()
    with run.step("1 Write"):
        write_down("one")
    died(run)
    house.ended_elsewhere(run.id)
    house.s3.delete_object(Bucket=house.bucket, Key=f"team/{run.id}/journal/00000002.json")
    house.machine("b")
    with pytest.raises(RunbookError, match="Entry 2 of the journal"):
        house.begin(run_id=run.id)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("s3://", "is no place in S3"),
        ("s3://Bad_Bucket/x", "is no place in S3"),
        ("s3:/bucket", "is no place in S3"),
        ("https://bucket.s3.amazonaws.com/x", "is no place in S3"),
        ("s3://there-is-none/x", "There is no bucket there-is-none"),
    ],
)
def test_a_wrong_address_is_one_sentence_before_anything_runs(house, monkeypatch, address, told):
    monkeypatch.setenv("RUNBOOK_RUNS", address)
    with pytest.raises(RunbookError, match=told):
        house.begin()
    assert not LEDGER


@pytest.mark.parametrize("action", ["GET", "PUT"])
def test_a_missing_permission_is_one_sentence_before_anything_runs(house, action):
    def refused(request: Any, **_: Any) -> AWSResponse | None:
        if request.method != action:
            return None
        body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
        return AWSResponse(request.url, 403, {}, type("Raw", (), {"stream": lambda self: iter([body]), "read": lambda self: body})())

    shared_store.opened(os.environ["RUNBOOK_RUNS"])._client.meta.events.register_last("before-send.s3", refused)
    with pytest.raises(RunbookError, match="cannot be used: .*AccessDenied.* s3:PutObject"):
        house.begin()
    assert not LEDGER


# -- fleets -----------------------------------------------------------------------------------------


def test_a_fleet_is_gone_on_with_on_another_machine(house, monkeypatch):
    monkeypatch.setenv("RUNBOOK_LEASE_S", "6")
    path = house.folder / "small.ipynb"
    targets = [Target(number, number, "small", path, {"name": name}, resource=name) for number, name in enumerate("abc", 1)]
    kept = record.create("f1", "fleet.yaml", "apply", targets)
    kept.journal.write("started", mode="apply", who="me", targets=3, limits={})
    kept.end(targets[0], "apply", kept.begin(targets[0], "apply", False), "done", 0, "", 1.0)
    kept.begin(targets[1], "apply", False)
    kept.close()
    store.write_json(kept.directory / "plan.json", {"runs": []})
    (kept.runs / "f1.001").mkdir()
    store.write_json(kept.runs / "f1.001" / "result.json", {"mode": "apply", "status": "done", "calls": []})
    house.machine("b")
    again = record.load("f1")
    assert [(one.status, one.run_id) for one in again.outcomes()] == [("done", "f1.001"), ("interrupted", "f1.002"), ("not run", "")]
    assert again.result_of(again.outcomes()[0])["status"] == "done" and store.read_json(again.directory / "plan.json") == {"runs": []}
    house.machine("c")
    with pytest.raises(RunbookError, match="being run by"):
        record.load("f1")
    again.close()
    assert [one.what for one in fleet_history.runs()] == ["1 done, 1 interrupted, 1 not run"]
    with pytest.raises(RunbookError, match="There is a run f1 already"):
        record.create("f1", "fleet.yaml", "apply", targets)


# -- the command line ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_apply_killed_on_one_machine_is_resumed_on_another_by_the_command_line(house):
    said = house.folder / "said"

    def call(machine: str, *arguments: str) -> subprocess.Popen:
        environment = {**os.environ, "XDG_CACHE_HOME": str(house.folder / machine), "RUNBOOK_LEASE_S": "2"}
        with said.open("w") as output:  # not a pipe, which the kernel that is stopped would hold open
            return subprocess.Popen([sys.executable, "-m", "helpers.cli", *arguments], env=environment, stdout=output, stderr=output)

    asked = ["run", str(house.folder / "small.ipynb"), "--mode", "apply", "--run-id", "k1", "-p", f"house={house.folder}"]
    killed = call("a", *asked)
    try:
        end = time.monotonic() + 100
        while not (house.folder / "now").exists():
            assert time.monotonic() < end and killed.poll() is None, said.read_text()
            time.sleep(0.05)
        kernel = json.loads(next(body for key, body in house.objects().items() if key == "team/k1/journal/00000001.json"))["lines"]["journal.jsonl"][0]["pid"]
        os.kill(kernel, signal.SIGSTOP)  # it neither renews its lease nor notices that its parent is gone
        os.kill(killed.pid, signal.SIGKILL)
    finally:
        killed.kill()
        killed.wait()
    (house.folder / "killed").touch()
    try:
        resumed = call("b", "resume", "k1").wait(100)
    finally:
        os.kill(kernel, signal.SIGKILL)
    assert resumed == 0, said.read_text()
    assert Counter((house.folder / "ledger").read_text().splitlines()) == Counter(["one", "two", "three"])
    objects = house.objects()
    assert json.loads(objects["team/k1/result.json"])["status"] == "done" and b"Three" in objects["team/k1/output.ipynb"]
