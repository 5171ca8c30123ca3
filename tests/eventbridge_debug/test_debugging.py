"""The EventBridge debugging runbook as its users run it, on a local cloud that delivers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from helpers.eventbridge.policy import POLICY
from helpers.runbook import parameters

pytestmark = pytest.mark.timeout(300)

STEPS = ["1 Attach the debug rule", "2 Cause an event", "3 Remove what was made", "4 Correct the rule"]
RIGHT = {
    "source": ["aws.amplify"],
    "detail-type": ["Amplify Deployment Status Change"],
    "detail": {"appId": ["foo", "bar"], "jobStatus": ["SUCCEED", "FAILED"]},
}


def permitted() -> set[str]:
    return {
        action
        for one in POLICY["Statement"]
        for action in ([one["Action"]] if isinstance(one["Action"], str) else one["Action"])
    }


@pytest.mark.parametrize("sink", ["lambda", "logs", "sqs"])
def test_apply_sends_what_plan_listed_corrects_the_rule_and_leaves_nothing_behind(house: Any, sink: str) -> None:
    before = house.pattern()
    planned = house.plan("r", "-p", f"sink={sink}")
    assert (house.pattern(), house.left()) == (before, [])
    done = house.apply("r", "--plan", str(house.runs / "r" / "plan.json"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert house.sent("r") == planned
    assert (house.pattern(), house.left()) == (RIGHT, [])
    metrics = house.result("r")["metrics"]
    assert (metrics["events_arrived"], metrics["matched_before"], metrics["matched_now"], metrics["left_behind"]) == (
        4,
        0,
        4,
        0,
    )
    made = {f"{call['service']}:{call['operation']}" for call in house.result("r")["calls"]}
    assert made - permitted() == set()


@pytest.mark.parametrize("steps", [STEPS[::2], STEPS[1::2]], ids=["odd", "even"])
def test_killed_in_one_step_after_the_other_and_resumed_it_corrects_the_rule_and_leaves_nothing_behind(house: Any, steps: list[str]) -> None:
    for step in steps:
        running = house.started("k")
        house.await_step("k", step)
        time.sleep(int.from_bytes(os.urandom(1)) / 1000)  # anywhere in the step's first quarter of a second
        with contextlib.suppress(ProcessLookupError):  # it may just be over
            os.kill(house.kernel("k"), signal.SIGKILL)
        running.wait(60)
    done = house.runbook("resume", "k", "--approve", "correct")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert (house.pattern(), house.left()) == (RIGHT, [])
    assert house.result("k")["metrics"]["events_arrived"] == 4


def killed_with_the_rule_attached(house: Any, run_id: str, *more: str) -> None:
    running = house.started(run_id, "-p", "cause=real", "-p", "source=custom.silent", "-p", "correction=none", *more)
    house.await_step(run_id, STEPS[1])
    os.kill(house.kernel(run_id), signal.SIGKILL)
    running.wait(60)


@pytest.mark.parametrize("sink", ["lambda", "logs", "sqs"])
def test_cleanup_of_a_killed_run_lists_first_and_removes_with_yes(house: Any, sink: str) -> None:
    killed_with_the_rule_attached(house, "k", "-p", f"sink={sink}")
    before = house.left()
    assert ("rule", "runbook-debug-k") in before
    dry = house.runbook("cleanup", "k")
    assert (dry.returncode, house.left()) == (0, before), dry.stderr
    assert "runbook-debug-k" in dry.stdout and "nothing was removed" in dry.stdout
    assert house.runbook("cleanup").stdout.count("runbook-debug-k") == 0  # it is not expired
    done = house.runbook("cleanup", "k", "--yes")
    assert (done.returncode, house.left()) == (0, []), done.stderr
    assert "a new listing has 0" in done.stdout


@pytest.mark.parametrize("sink", ["lambda", "logs"])
def test_cleanup_finds_what_a_run_killed_while_attaching_had_made_so_far(house: Any, sink: str) -> None:
    running = house.started("k", "-p", f"sink={sink}", "-p", "cause=real", "-p", "source=custom.silent")
    calls = house.runs / "k" / "calls.jsonl"
    house.poll(lambda: calls.exists() and '"write": true' in calls.read_text(), "the first thing made")
    os.kill(house.kernel("k"), signal.SIGKILL)
    running.wait(60)
    assert house.left()
    done = house.runbook("cleanup", "k", "--yes")
    assert (done.returncode, house.left()) == (0, []), done.stderr


def test_a_rehearsal_that_failed_is_cleaned_up_on_its_own_cloud(house: Any) -> None:
    options = [
        "-p",
        "run_id=failed",
        "-p",
        "cause=real",
        "-p",
        "source=custom.silent",
        "-p",
        "wait_seconds=1.0",
        "-p",
        "sink=sqs",
    ]
    assert house.runbook("rehearse", "eventbridge_debug", *options).returncode == 1
    try:
        done = house.runbook("cleanup", "failed", "--yes")
        assert (done.returncode, "removed: 2; a new listing has 0" in done.stdout) == (0, True), (
            done.stdout + done.stderr
        )
    finally:
        house.runbook("cloud", "down", "failed")
    assert "does not run" in house.runbook("cleanup", "failed").stderr


def test_cleanup_without_a_run_removes_what_is_expired_and_nothing_else(house: Any) -> None:
    killed_with_the_rule_attached(house, "old", "-p", "sink=sqs", "-p", "keep_hours=0.0")
    killed_with_the_rule_attached(house, "young", "-p", "sink=sqs")
    time.sleep(1.1)  # an expiry is in whole seconds
    assert "runbook-debug-old" in house.runbook("cleanup").stdout
    assert house.runbook("cleanup", "--yes").returncode == 0
    assert house.left() == [("rule", "runbook-debug-young"), ("queue", "runbook-debug-young")]


def test_without_approval_the_rule_stays_and_nothing_is_left_behind(house: Any) -> None:
    before = house.pattern()
    stopped = house.apply("g", approve="")
    assert stopped.returncode == 3, stopped.stderr
    assert (house.pattern(), house.left()) == (before, [])
    done = house.runbook("resume", "g", "--approve", "correct")
    assert done.returncode == 0, done.stderr
    assert house.pattern() == RIGHT


def test_roll_back_restores_the_old_pattern_with_all_else_of_the_rule(house: Any) -> None:
    described = lambda: {
        name: value
        for name, value in house.client("events").describe_rule(Name="amplify-to-slack").items()
        if name != "ResponseMetadata"
    }  # noqa: E731
    before = described()
    assert house.apply("b", "-p", "sink=sqs").returncode == 0
    assert described() != before
    back = house.runbook("rollback", "b", "--approve", "rollback")
    assert back.returncode == 0, back.stdout[-3000:] + back.stderr
    assert (described(), house.left()) == (before, [])


def test_roll_back_of_a_run_that_was_killed_removes_what_it_made(house: Any) -> None:
    killed_with_the_rule_attached(house, "k", "-p", "sink=lambda")
    back = house.runbook("rollback", "k", "--approve", "rollback")
    assert back.returncode == 0, back.stdout[-3000:] + back.stderr
    assert house.left() == []


def test_a_rule_that_somebody_changed_meanwhile_is_left_alone(house: Any) -> None:
    assert house.apply("s", "-p", "sink=sqs", approve="").returncode == 3
    house.client("events").put_rule(Name="amplify-to-slack", EventPattern='{"source": ["aws.s3"]}')
    done = house.runbook("resume", "s", "--approve", "correct")
    assert done.returncode == 1
    assert "somebody changed it meanwhile" in done.stderr
    assert house.pattern() == {"source": ["aws.s3"]}


def test_a_rule_on_a_bus_of_its_own_is_debugged_there(house: Any) -> None:
    events = house.client("events")
    events.create_event_bus(Name="orders")
    events.put_rule(
        Name="paid", EventBusName="orders", EventPattern='{"source": ["shop"], "detail": {"state": ["PAID"]}}'
    )
    event = json.dumps({"source": "shop", "detail-type": "order", "detail": {"state": "paid"}})
    done = house.apply(
        "o", "-p", "event_bus=orders", "-p", "rule=paid", "-p", "source=shop", "-p", f"event={event}", "-p", "sink=sqs"
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    found = json.loads(events.describe_rule(Name="paid", EventBusName="orders")["EventPattern"])
    assert "paid" in found["detail"]["state"]
    assert (
        house.result("o")["metrics"]["matched_now"],
        house.left(),
        events.list_rules(EventBusName="orders")["Rules"][0]["Name"],
    ) == (1, [], "paid")


def test_who_may_not_make_the_debug_rule_is_told_before_anything_is_made(house: Any) -> None:
    iam = house.client("iam")
    iam.create_user(UserName="operator")
    key = iam.create_access_key(UserName="operator")["AccessKey"]
    operator = {
        **house.environment,
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
    }
    refused = subprocess.run(
        house.command(*house.arguments("p")), env=operator, capture_output=True, text=True, timeout=150
    )
    assert refused.returncode == 1
    assert (
        "user/operator may not events:DeleteRule on arn:aws:events:ap-northeast-1:123456789012:rule/runbook-debug-p"
        in refused.stderr
    )
    assert "Remedy: `runbook show eventbridge_debug --policy` prints the policy" in refused.stderr
    assert house.left() == []
    iam.put_user_policy(UserName="operator", PolicyName="debug", PolicyDocument=json.dumps(POLICY))
    done = subprocess.run(
        house.command(*house.arguments("p2")), env=operator, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert "asked of IAM for arn:aws:iam::123456789012:user/operator" in house.report("p2")


def depth(house: Any, queue: str) -> int:
    url = house.client("sqs").get_queue_url(QueueName=queue)["QueueUrl"]
    return int(
        house.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"][
            "ApproximateNumberOfMessages"
        ]
    )


def test_an_archive_is_replayed_to_the_debug_rule_alone(house: Any) -> None:
    done = house.apply("a", "-p", "cause=replay", "-p", "sink=sqs")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    metrics = house.result("a")["metrics"]
    assert metrics["events_arrived"] > 100
    assert (metrics["matched_before"], house.pattern(), house.left()) == (0, RIGHT, [])
    assert 0 < metrics["matched_now"] < metrics["events_arrived"]
    assert depth(house, "slack-outbox") == 0


def test_a_real_event_is_awaited(house: Any) -> None:
    running = house.started("e", "-p", "cause=real", "-p", "sink=sqs")
    house.await_step("e", STEPS[1])
    house.client("amplify").start_job(appId="foo", branchName="main", jobType="RELEASE")
    assert running.wait(120) == 0
    assert house.result("e")["metrics"]["events_arrived"] >= 1
    assert house.left() == []


def test_events_that_do_not_come_are_told_with_the_pattern_that_waits_for_them(house: Any) -> None:
    done = house.apply(
        "w",
        "-p",
        "cause=real",
        "-p",
        "source=custom.silent",
        "-p",
        "wait_seconds=1.0",
        "-p",
        "sink=sqs",
        "-p",
        "correction=none",
    )
    assert done.returncode == 1
    assert 'The debug rule listens to {"source": ["custom.silent"]}.' in done.stderr
    assert "runbook cleanup w --yes" in done.stderr


def test_health_names_the_error_codes_of_dead_letters_and_the_target_without_permission(house: Any) -> None:
    house.client("amplify").start_job(appId="foo", branchName="main", jobType="RELEASE")
    house.poll(lambda: depth(house, "amplify-to-audit-dlq") > 0, "a dead letter")
    before = depth(house, "amplify-to-audit-dlq")
    assert house.apply("h", "-p", "sink=sqs").returncode == 0
    report = house.report("h")
    assert "NO_PERMISSIONS" in report
    assert "allows events.amazonaws.com sqs:SendMessage: events do not arrive" in report
    assert "where aws:SourceArn is arn:aws:events:ap-northeast-1:123456789012:rule/amplify-to-audit" in report
    assert depth(house, "amplify-to-audit-dlq") >= before


BAD = [
    (
        {"rule": "amplify-to-slak"},
        "There is no rule 'amplify-to-slak' on the event bus default in ap-northeast-1. Remedy: Do you mean amplify-to-slack?",
    ),
    ({"event_bus": "nowhere"}, "There is no event bus 'nowhere'"),
    ({"debug_pattern": '{"source": "aws.amplify"}'}, '"source" must be an object or an array'),
    ({"debug_pattern": '{"source": ["aws.amplify"'}, "is refused: "),
    (
        {"debug_pattern": json.dumps({"source": ["x" * 5000]})},
        "it has 5,016 characters, and a rule's pattern at most 4,096",
    ),
    ({"correction": '{"source": []}'}, "Empty arrays are not allowed"),
    ({"event": '{"source": "aws.amplify", '}, "is no JSON"),
    ({"event": '{"source": "aws.amplify"}'}, "event 1 has no detail-type, detail."),
    ({"event": "absent.jsonl"}, "absent.jsonl cannot be read: No such file or directory"),
    ({"event": "large.jsonl"}, "event 1 has 1,000,0"),
    (
        {"sink": "logs", "log_group": "/aws/events/absent"},
        "there is no log group /aws/events/absent in ap-northeast-1.",
    ),
    (
        {"sink": "logs", "log_group": "/aws/events/closed"},
        "no resource policy lets events.amazonaws.com write to /aws/events/closed.",
    ),
    ({"cause": "replay", "archive": "nobody"}, "there is no archive 'nobody'"),
    ({"cause": "replay", "replay_from": "yesterday"}, "'yesterday' is no time."),
    ({"expected_account": "012345678901"}, "012345678901 is expected: nothing was done"),
]
CODE = "import sys; from helpers import eventbridge, runbook; run = runbook.start('eventbridge_debug', {**eval(sys.argv[1])}); run.preflight(eventbridge.survey, run.aws, eventbridge.from_parameters(run.id, run.created, run.parameters))"


def test_bad_input_gets_one_clear_error_and_changes_nothing(house: Any, tmp_path: Path) -> None:
    house.client("logs").create_log_group(logGroupName="/aws/events/closed")
    (tmp_path / "large.jsonl").write_text(
        json.dumps({"source": "custom.x", "detail-type": "x", "detail": {"text": "x" * 1_000_000}}) + "\n"
    )
    declared = {one.name: one.default for one in parameters.load(parameters.find("eventbridge_debug"))}
    environment = {**house.environment, "PYTHONPATH": str(Path(__file__).parents[2])}
    for number, (values, sentence) in enumerate(BAD):
        asked = {**declared, "mode": "apply", "run_id": f"bad{number}", **values}
        done = subprocess.run(
            [sys.executable, "-c", CODE, repr(asked)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, sentence in done.stderr) == (1, True), (values, done.stderr)
        assert "Remedy: " in done.stderr.splitlines()[-1], done.stderr
    assert not [
        call
        for path in house.runs.glob("*/calls.jsonl")
        for call in map(json.loads, path.read_text().splitlines())
        if call["write"]
    ]
    assert house.left() == []


def test_plain_papermill_runs_it_too(house: Any, tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "runbooks" / "eventbridge_debug.ipynb"
    arguments = [
        "-m",
        "papermill",
        str(path),
        str(tmp_path / "out.ipynb"),
        "-p",
        "mode",
        "plan",
        "-p",
        "run_id",
        "pm",
        "-k",
        "python3",
        "--no-progress-bar",
    ]
    environment = {**house.environment, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert house.result("pm")["status"] == "planned"
