"""`runbook cleanup` on the clouds that it can be led to, and what it says of targets that cannot be looked at."""

from __future__ import annotations

import os
from typing import Any

import pytest
from typer.testing import CliRunner

from helpers import cli
from helpers.aws import connect
from helpers.eventbridge.health import target_checks
from helpers.eventbridge.rules import describe_rule, list_rules, list_targets
from helpers.eventbridge.sinks import ensure_queue
from helpers.rehearsal import rehearse


def test_the_shared_local_cloud_is_cleaned_up_and_one_that_does_not_run_is_told(
    house: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    house.client("sqs").create_queue(
        QueueName="runbook-debug-x", tags={"runbook-run": "x", "runbook-expires": "2020-01-01T00:00:00Z"}
    )
    house.client("sqs").create_queue(QueueName="runbook-debug-mine")
    monkeypatch.setattr(rehearse, "SHARED", house.cloud.directory)
    before = dict(os.environ)
    done = CliRunner().invoke(cli.app, ["cleanup", "--rehearsal", "--yes"])
    assert (done.exit_code, "removed: 1; a new listing has 0" in done.output) == (0, True), done.output
    assert house.left() == [("queue", "runbook-debug-mine")]  # without a tag of ours it is somebody's
    assert dict(os.environ) == before
    monkeypatch.setattr(rehearse, "SHARED", tmp_path / "nowhere")
    assert "does not run" in str(CliRunner().invoke(cli.app, ["cleanup", "--rehearsal"]).exception)


def test_targets_that_are_gone_or_elsewhere_are_told_with_what_to_do(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in house.cloud.environment().items():
        monkeypatch.setenv(name, value)
    aws, events = connect(), house.client("events")
    ensure_queue(aws, "inbox", describe_rule(aws, "default", "amplify-to-slack").arn, {})
    where = "arn:aws:{}:ap-northeast-1:{}:{}"
    arns = [
        where.format("sqs", "123456789012", "inbox"),
        where.format("lambda", "123456789012", "function:absent"),
        where.format("sqs", "210987654321", "inbox"),
        where.format("logs", "123456789012", "log-group:/aws/events/absent"),
    ]
    events.put_targets(
        Rule="amplify-to-slack", Targets=[{"Id": f"t{number}", "Arn": arn} for number, arn in enumerate(arns)]
    )
    rules = list_rules(aws, "default")
    checks = {
        one.name.removeprefix("amplify-to-slack may reach "): one
        for one in target_checks(aws, rules, list_targets(aws, rules))
    }
    assert (
        checks["inbox"].outcome,
        checks["function:absent"].outcome,
        checks["log-group:/aws/events/absent"].outcome,
    ) == ("warn", "warn", "warn")
    assert "another account" in checks["inbox"].found  # the last of the two of this name
    assert "does not exist: its events are lost" in checks["function:absent"].found
    assert "does not exist" in checks["log-group:/aws/events/absent"].found
    assert all(one.remedy for one in checks.values() if one.outcome == "warn")
