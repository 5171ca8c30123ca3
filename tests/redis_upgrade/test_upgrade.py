"""The Redis upgrade runbook as its users run it: on a local cloud with real engines, an application writing all the time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from helpers import runbook
from helpers.aws import calls
from helpers.aws.errors import RunbookError
from helpers.elasticache import cutover
from helpers.elasticache.policy import POLICY
from helpers.rehearsal import scenario
from helpers.runbook import parameters

pytestmark = pytest.mark.timeout(300)

STEPS = [
    "1 Back up and export", "2 Import into a new group", "3 Upgrade the new group", "Failover check", "Catch up", "Verify", "4 Switch the application", "5 Delete the old group",
]  # fmt: skip


ACTIONS = {"s3:HeadObject": "s3:GetObject", "s3:ListBuckets": "s3:ListAllMyBuckets"}  # where IAM names a call otherwise


def actions(house: Any, run_id: str) -> set[str]:
    """The IAM actions of the calls that a run made."""
    made = {f"{call['service']}:{call['operation']}" for call in house.result(run_id)["calls"] if call["service"] != "redis"}
    return {ACTIONS.get(action, action) for action in made}


def permitted() -> set[str]:
    return {action for one in POLICY["Statement"] for action in ([one["Action"]] if isinstance(one["Action"], str) else one["Action"])}


def test_apply_sends_what_plan_listed_and_loses_no_acknowledged_write(house: Any) -> None:
    planned = house.plan("r")
    assert house.groups() == ["sessions"]
    done = house.apply("r", "--plan", str(house.runs / "r" / "plan.json"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert house.sent("r") == planned
    house.assert_moved("r")
    metrics = house.result("r")["metrics"]
    assert metrics["acknowledged_writes"] > 0
    assert metrics["acknowledged_writes_lost"] == 0
    assert metrics["write_gap_ms"] > 0
    assert metrics["cost_a_month_before_usd"] > metrics["cost_a_month_after_usd"] > 0  # Valkey's nodes cost less
    assert actions(house, "r") - permitted() == set()


@pytest.mark.parametrize("steps", [STEPS[::2], STEPS[1::2]], ids=["odd", "even"])
def test_killed_in_one_step_after_the_other_and_resumed_it_ends_in_the_same_state(house: Any, steps: tuple[str, ...]) -> None:
    arguments = ["run", "redis_upgrade", "--mode", "apply", "--run-id", "k", "--approve", "switch,delete", "-p", "quiet_seconds=1"]
    plans: list[tuple[int, list[tuple[str, str, str]]]] = []
    for killed, step in enumerate(steps, 1):
        running = subprocess.Popen(house.command(*arguments), env=house.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        house.await_step("k", step)
        time.sleep(int.from_bytes(os.urandom(1)) / 1000)  # anywhere in the step's first quarter of a second
        started = [one["pid"] for one in house.journal("k") if one["type"] == "started"]
        assert len(started) == killed
        os.kill(started[-1], signal.SIGKILL)
        assert running.wait(60) in (1, 5)
        arguments = ["resume", "k", "--approve", "switch,delete"]
        before = len(_calls(house, "k"))
        if step in (*STEPS[::2], steps[-1]):  # a plan of what is left takes as long as the resumed run's start
            plans.append((before, house.plan("k")))
    done = house.runbook(*arguments)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    house.assert_moved("k")
    calls = _calls(house, "k")
    for before, left in plans[:-1]:  # killed again, a step looks again: what was planned is sent, if not in one go
        assert {call for call in calls[before:] if call[0] != "redis"} == {call for call in left if call[0] != "redis"}
    before, left = plans[-1]
    assert [call for call in calls[before:] if call[0] != "redis"] == [call for call in left if call[0] != "redis"]


def _calls(house: Any, run_id: str) -> list[tuple[str, str, str]]:
    lines = (house.runs / run_id / "calls.jsonl").read_text().splitlines()
    every = [json.loads(line) for line in lines if line.endswith("}")]
    return [house.identity(call) for call in every if call["write"] and not call["error_code"]]


def test_an_apply_refuses_a_plan_that_is_no_longer_what_would_be_done(house: Any) -> None:
    house.plan("old")
    house.client("elasticache").modify_replication_group(ReplicationGroupId="sessions", SnapshotRetentionLimit=3, ApplyImmediately=True)
    house.poll(lambda: house.client("elasticache").describe_replication_groups(ReplicationGroupId="sessions")["ReplicationGroups"][0]["Status"] == "available", "the group")
    done = house.apply("old", "--plan", str(house.runs / "old" / "plan.json"))
    assert done.returncode == 1
    assert "with another SnapshotRetentionLimit. Nothing was sent." in done.stderr
    assert not (house.runs / "old" / "journal.jsonl").exists()
    assert house.groups() == ["sessions"]


def test_the_classic_procedure_runs_and_reports_the_writes_it_lost(house: Any) -> None:
    done = house.apply("c", "-p", "strategy=classic")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    metrics = house.result("c")["metrics"]
    assert metrics["acknowledged_writes_lost"] > 0
    assert metrics["acknowledged_writes_lost"] == house.audited()["acknowledged_writes_lost"]
    assert metrics["keys_different"] > 0
    assert "sessions" in house.groups()


def test_in_place_the_group_is_upgraded_with_no_acknowledged_write_lost_and_no_way_back(house: Any) -> None:
    planned = house.plan("i", "-p", "strategy=in_place")
    done = house.apply("i", "-p", "strategy=in_place")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert house.sent("i") == planned
    assert house.groups() == ["sessions"]
    assert house.audited()["acknowledged_writes_lost"] == 0
    back = house.runbook("rollback", "i", "--approve", "rollback")
    assert back.returncode == 1
    assert "AWS offers no downgrade" in back.stderr


def test_a_group_rebuilt_on_its_own_version_takes_writes(house: Any) -> None:
    done = house.apply("v", "-p", "engine=redis", "-p", "engine_version=6.2", "-p", "test_failover=false")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    (new,) = house.groups()
    before = house.audited()["acknowledged_writes"]
    house.poll(lambda: house.audited()["acknowledged_writes"] > before + 100, "the application to write")
    assert (house.audited()["acknowledged_writes_lost"], house.endpoint()) == (0, house.entry(new))


def test_a_roll_back_that_failed_or_was_killed_while_carrying_back_is_done_again(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = house.endpoint()
    assert house.apply("w", "-p", "test_failover=false", approve="switch").returncode == 3
    for name, value in house.environment.items():
        monkeypatch.setenv(name, value)
    with monkeypatch.context() as patched, pytest.raises(RunbookError, match="in vain"):
        patched.setattr(cutover, "carry_application", _fail)
        runbook.rollback("w", approve="rollback")
    calls.watch(None)
    host, port = house.entry("sessions").split(":")
    with redis.Redis(host=host, port=int(port)) as client, pytest.raises(redis.ResponseError, match="NOREPLICAS"):
        client.set("late", "write")  # the application is still on the new group
    done = len(_calls(house, "w"))
    back = subprocess.Popen(house.command("rollback", "w", "--approve", "rollback"), env=house.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    house.poll(lambda: any(call[:2] == ("redis", "RESTORE") for call in _calls(house, "w")[done:]) or back.poll() is not None, "the first keys carried back")
    assert back.poll() is None
    back.kill()
    back.wait()
    forward = house.runbook("resume", "w", "--approve", "switch,delete")
    assert forward.returncode == 1 and "End it first: `runbook rollback w`" in forward.stderr, forward.stdout[-2000:] + forward.stderr
    again = house.runbook("rollback", "w", "--approve", "rollback")
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr
    report = house.audited()
    assert (house.groups(), house.endpoint(), report["acknowledged_writes_lost"], report["endpoint"]) == (["sessions"], before, 0, before)


def _fail(*_: Any) -> None:
    raise RunbookError("Carried in vain.")


def test_without_approval_it_stops_before_the_switch_and_rolls_back_to_the_start(house: Any) -> None:
    before = house.endpoint()
    assert house.apply("g", approve="").returncode == 3
    assert house.endpoint() == before
    assert house.apply("g", approve="switch").returncode == 3
    assert (house.endpoint() != before, "sessions" in house.groups()) == (True, True)
    back = house.runbook("rollback", "g", "--approve", "rollback")
    assert back.returncode == 0, back.stdout[-3000:] + back.stderr
    assert (house.groups(), house.endpoint()) == (["sessions"], before)
    report = house.audited()
    assert (report["acknowledged_writes_lost"], report["endpoint"]) == (0, before)
    assert house.client("elasticache").describe_snapshots()["Snapshots"] == []
    assert actions(house, "g") - permitted() == set()


def test_where_client_pause_is_refused_the_application_s_own_flag_freezes_it(build: Any) -> None:
    with build({"refuse_client_pause": True}) as house:
        refused = house.apply("f", "-p", "freeze=client_pause")
        assert refused.returncode == 1
        assert "CLIENT PAUSE is refused by this group" in refused.stderr
        done = house.apply("g")
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr
        house.assert_moved("g")
        assert "the application's flag" in (house.runs / "g" / "report.html").read_text().replace("&#x27;", "'")


BAD = [
    ({"replication_group": "nobody"}, "There is no replication group 'nobody'"),
    ({"engine_version": "6.x", "engine": "redis"}, "is not pinned in full"),
    ({"engine_version": "5.0", "engine": "redis"}, "is a downgrade"),
    ({"engine_version": "7.9"}, "is not offered"),
    ({"bucket": "elsewhere"}, "elsewhere is in us-west-2"),
    ({"bucket": "ungranted"}, "ungranted does not allow s3:PutObject"),
    ({"bucket": "absent"}, "there is no bucket absent"),
    ({"backup": "s3://sessions-backup/cut.rdb"}, "is truncated"),
    ({"backup": "s3://sessions-backup/large.rdb", "node_type": "cache.t3.micro"}, "after the reserve: it would end as restore-failed"),
    ({"switch_parameter": "/nobody"}, "there is no SSM parameter /nobody"),
    ({"node_type": "cache.z9.huge"}, "is not offered for sessions"),
    ({"expected_account": "012345678901"}, "012345678901 is expected: nothing was done"),
]


def spoil(house: Any) -> None:
    """Buckets and files that an upgrade must refuse."""
    variables = house.cloud.environment()
    scenario.bucket_elsewhere(variables, "elsewhere")
    scenario.bucket_without_grant(variables, "ungranted")
    s3 = house.client("s3")
    s3.put_object(Bucket="sessions-backup", Key="cut.rdb", Body=b"REDIS0009" + b"\x00" * 500)
    s3.put_object(Bucket="sessions-backup", Key="large.rdb", Body=b"REDIS0009" + b"\x00" * 280_000_000 + b"\xff" + b"\x00" * 8)


def test_bad_input_gets_one_clear_error_and_changes_nothing(house: Any) -> None:
    spoil(house)
    code = "import sys; from helpers import elasticache, runbook; run = runbook.start('redis_upgrade', {**eval(sys.argv[1])}); run.preflight(elasticache.survey, run.aws, elasticache.from_parameters(run.id, run.parameters))"
    declared = {one.name: one.default for one in parameters.load(parameters.find("redis_upgrade"))}
    tries = []
    for number, (values, _) in enumerate(BAD):
        asked = {**declared, "mode": "apply", "run_id": f"bad{number}", **values}
        tries.append(subprocess.Popen([sys.executable, "-c", code, repr(asked)], env=house.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        if len(tries) % 2 == 0:
            tries[-2].wait(60), tries[-1].wait(60)
    for one, (values, sentence) in zip(tries, BAD, strict=True):
        _, errors = one.communicate(timeout=110)
        assert (one.returncode, sentence in errors) == (1, True), (values, errors)
    assert not [call for path in house.runs.glob("*/calls.jsonl") for call in map(json.loads, path.read_text().splitlines()) if call["write"]]
    assert house.groups() == ["sessions"]


def test_the_command_line_tells_a_bad_input_in_one_sentence(house: Any) -> None:
    done = house.apply("bad", "-p", "replication_group=nobody")
    assert done.returncode == 1
    assert "There is no replication group 'nobody' in ap-northeast-1. Remedy: " in done.stderr
    assert "Traceback" not in done.stderr
    done = house.apply("worse", "-p", "strategy=boldly")
    assert done.returncode == 1
    assert "strategy" in done.stderr
    assert not (house.runs / "worse").exists()


def test_a_parameter_changed_by_somebody_else_meanwhile_is_left_alone(house: Any) -> None:
    assert house.apply("s", approve="").returncode == 3
    house.client("ssm").put_parameter(Name=scenario.PARAMETER, Value="127.0.0.1:1", Overwrite=True)
    done = house.apply("s")
    assert done.returncode == 1
    assert "somebody changed it meanwhile" in done.stderr
    assert house.endpoint() == "127.0.0.1:1"
    assert "sessions" in house.groups()


def test_plain_papermill_runs_it_too(house: Any, tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "runbooks" / "redis_upgrade.ipynb"
    arguments = ["-m", "papermill", str(path), str(tmp_path / "out.ipynb"), "-p", "mode", "plan", "-p", "run_id", "pm", "-k", "python3", "--no-progress-bar"]
    done = subprocess.run([sys.executable, *arguments], env=house.environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert house.result("pm")["status"] == "planned"
