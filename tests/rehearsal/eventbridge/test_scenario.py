"""The scenario of the event runbook: Amplify deploys, one rule never matches, one cannot deliver, an archive has a day of events."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from helpers.rehearsal import scenario
from helpers.rehearsal.cloud import CloudFailed
from helpers.rehearsal.eventbridge.scenario import AUDIT_RULE, FAULTY_PATTERN, EventScenario
from helpers.rehearsal.rehearse import scenario_of


@pytest.fixture(scope="module")
def seeded(bus: Any) -> EventScenario:
    cloud = bus.account.cloud
    found = scenario.SCENARIOS["eventbridge_debug"](cloud, fresh=True, **scenario.options_of({"rule": ""}, "eventbridge_debug"))
    # The tests cause the events that they count.
    cloud.settings(deploy_every_s=0)
    return found


def deploy(bus: Any, app: str, branch: str) -> str:
    """Deploy a branch of an app, wait for its end, and return the status."""
    amplify = bus.account.client("amplify")
    job = amplify.start_job(appId=app, branchName=branch, jobType="RELEASE")["jobSummary"]["jobId"]

    def ended() -> str | None:
        summary = amplify.get_job(appId=app, branchName=branch, jobId=job)["job"]["summary"]
        return summary["status"] if "endTime" in summary else None

    return bus.until(ended)


def test_the_runbook_is_rehearsed_on_this_scenario() -> None:
    assert scenario_of("eventbridge_debug") == "eventbridge_debug"
    options = scenario.options_of({"rule": "mine", "event_bus": "orders", "archive": "", "sink": "sqs"}, "eventbridge_debug")
    assert options == {"rule": "mine", "event_bus": "orders"}


def test_a_deployment_emits_its_statuses_which_the_faulty_rule_never_matches(bus: Any, seeded: EventScenario) -> None:
    queue = bus.queue("watching")
    bus.rule("watching", queue, pattern={"source": ["aws.amplify"]})
    assert deploy(bus, "foo", "main") == "SUCCEED" and deploy(bus, "bar", "broken") == "FAILED"
    events = [json.loads(one["Body"]) for one in bus.messages(queue, 6)]
    assert {event["detail-type"] for event in events} == {"Amplify Deployment Status Change"}
    told = sorted((event["detail"]["appId"], event["detail"]["jobStatus"]) for event in events)
    assert told == [("bar", "FAILED"), ("bar", "RUNNING"), ("bar", "STARTED"), ("foo", "RUNNING"), ("foo", "STARTED"), ("foo", "SUCCEED")]
    assert bus.waiting(seeded.slack_queue_arn) == 0


def test_the_corrected_rule_tells_slack_how_deployments_end(bus: Any, seeded: EventScenario) -> None:
    corrected = {("detail" if name == "details" else name): value for name, value in FAULTY_PATTERN.items()}
    bus.events.put_rule(Name="amplify-to-slack", EventPattern=json.dumps(corrected))
    deploy(bus, "foo", "main"), deploy(bus, "bar", "broken"), deploy(bus, "baz", "main")
    messages = [json.loads(one["Body"]) for one in bus.messages(seeded.slack_queue_arn, 2)]
    assert all(message["channel"] == "foo" and message["text"] == "Amplifyデプロイ完了通知" for message in messages)
    assert {message["blocks"][1]["elements"][0]["text"] for message in messages} == {"*結果*: SUCCEED", "*結果*: FAILED"}
    # A new run begins with the rule as it was seeded.
    again = scenario.SCENARIOS["eventbridge_debug"](bus.account.cloud, fresh=True)
    bus.account.cloud.settings(deploy_every_s=0)
    assert again == seeded
    assert json.loads(bus.events.describe_rule(Name="amplify-to-slack")["EventPattern"]) == FAULTY_PATTERN


def test_the_second_rule_cannot_deliver_and_its_dead_letter_queue_says_why(bus: Any, seeded: EventScenario) -> None:
    dead = seeded.slack_queue_arn.replace("slack-outbox", f"{AUDIT_RULE}-dlq")
    message = bus.messages(dead)[0]
    assert message["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "NO_PERMISSIONS"
    assert json.loads(message["Body"])["source"] == "aws.amplify"


def test_the_archive_has_a_day_of_events_that_replay_to_a_debug_rule(bus: Any, seeded: EventScenario) -> None:
    queue = bus.queue("replayed")
    pattern = {"source": ["aws.amplify"], "detail": {"appId": ["foo", "bar"], "jobStatus": ["SUCCEED", "FAILED"]}, "replay-name": [{"exists": True}]}
    rule = bus.rule("replayed", queue, pattern=pattern)
    assert bus.events.describe_archive(ArchiveName="amplify-archive")["EventCount"] >= 200
    arn, now = bus.events.describe_event_bus(Name="default")["Arn"], time.time()
    destination = {"Arn": arn, "FilterArns": [rule]}
    day = {"EventStartTime": now - 90_000, "EventEndTime": now - 60}
    bus.events.start_replay(ReplayName="day", EventSourceArn=seeded.archive_arn, Destination=destination, **day)
    events = [json.loads(one["Body"]) for one in bus.messages(queue, 40)]
    assert {event["detail"]["appId"] for event in events} == {"foo", "bar"}
    assert {event["detail"]["jobStatus"] for event in events} == {"SUCCEED", "FAILED"}


def test_amplify_deploys_by_itself_when_told_to(bus: Any, seeded: EventScenario) -> None:
    queue = bus.queue("by-itself")
    bus.rule("by-itself", queue, pattern={"source": ["aws.amplify"]})
    bus.account.cloud.settings(deploy_every_s=1)
    bus.until(lambda: bus.waiting(queue) > 0)
    assert bus.account.cloud.settings(deploy_every_s=0)["deploy_every_s"] == 0


def test_what_is_no_event_is_not_emitted(bus: Any) -> None:
    with pytest.raises(CloudFailed, match="An event needs 'detail'"):
        bus.account.cloud.emit([{"source": "aws.s3", "detail-type": "x"}])


def test_amplify_refuses_apps_that_it_has_not(bus: Any) -> None:
    assert bus.account.refusal(deploy, bus, "nobody", "main") == "NotFoundException"
