"""An archive records what a bus gets, and a replay takes it to the rules again, with the replay's name."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="module")
def archived(bus: Any) -> str:
    """Return the ARN of an archive of a bus with three events: one of a shop, two of other sources."""
    source = bus.events.create_event_bus(Name="archived")["EventBusArn"]
    arn = bus.events.create_archive(ArchiveName="kept", EventSourceArn=source)["ArchiveArn"]
    bus.put({"n": 1}, bus="archived")
    bus.put({"n": 2}, bus="archived", source="other")
    bus.account.cloud.emit([{"source": "aws.amplify", "detail-type": "past", "detail": {"n": 3}, "time": "2026-01-01T00:00:00Z"}], bus="archived", past=True)
    return arn


def replay(bus: Any, archive: str, name: str, *rules: str, **options: Any) -> None:
    """Replay an archive's events to rules, and wait until AWS would say that it is done."""
    destination = {"Arn": bus.events.describe_event_bus(Name="archived")["Arn"]}
    if rules:
        destination["FilterArns"] = list(rules)
    bounds = {"EventStartTime": 0, "EventEndTime": time.time() + 60, **options}
    bus.events.start_replay(ReplayName=name, EventSourceArn=archive, Destination=destination, **bounds)
    bus.until(lambda: bus.events.describe_replay(ReplayName=name)["State"] == "COMPLETED")


def test_a_replay_takes_the_events_to_the_chosen_rules_alone_and_adds_its_name(bus: Any, archived: str) -> None:
    chosen, other = bus.queue("chosen"), bus.queue("not-chosen")
    everything = {"source": [{"exists": True}]}
    rule = bus.rule("chosen", chosen, bus="archived", pattern=everything)
    bus.rule("not-chosen", other, bus="archived", pattern=everything)
    replay(bus, archived, "again", rule)
    events = [json.loads(one["Body"]) for one in bus.messages(chosen, 3)]
    assert {event["detail"]["n"] for event in events} == {1, 2, 3}
    assert {event["replay-name"] for event in events} == {"again"}
    assert bus.waiting(other) == 0
    assert bus.events.describe_archive(ArchiveName="kept")["EventCount"] == 3


def test_a_replay_without_chosen_rules_goes_to_all_that_match_within_its_time(bus: Any, archived: str) -> None:
    queue = bus.queue("all-rules")
    bus.rule("all-rules", queue, bus="archived", pattern={"source": ["aws.amplify", "shop"], "replay-name": [{"exists": True}]})
    replay(bus, archived, "old", EventEndTime=time.mktime((2026, 2, 1, 0, 0, 0, 0, 0, 0)))
    event = json.loads(bus.messages(queue)[0]["Body"])
    assert (event["time"], event["detail"]) == ("2026-01-01T00:00:00Z", {"n": 3})
    assert bus.waiting(queue) == 0


def test_a_past_event_reaches_no_rule_before_it_is_replayed(bus: Any, archived: str) -> None:
    queue = bus.queue("live")
    bus.rule("live", queue, bus="archived", pattern={"source": ["aws.amplify"], "replay-name": [{"exists": False}]})
    event = {"source": "aws.amplify", "detail-type": "x", "detail": {}}
    bus.account.cloud.emit([event], bus="archived", past=True)
    assert bus.waiting(queue) == 0
    bus.account.cloud.emit([event], bus="archived")
    assert bus.waiting(queue) == 1


def test_a_replay_must_end_after_it_starts(bus: Any, archived: str, refusal: Callable[..., tuple[str, str]]) -> None:
    bus_arn = bus.events.describe_event_bus(Name="archived")["Arn"]
    bounds = {"EventStartTime": 20, "EventEndTime": 10}
    code, _ = refusal(bus.events.start_replay, ReplayName="never", EventSourceArn=archived, Destination={"Arn": bus_arn}, **bounds)
    assert code == "ValidationException"


def test_an_archive_with_a_pattern_keeps_what_matches(bus: Any) -> None:
    source = bus.events.create_event_bus(Name="chosen-few")["EventBusArn"]
    bus.events.create_archive(ArchiveName="few", EventSourceArn=source, EventPattern='{"detail": {"n": [{"numeric": [">", 1]}]}}')
    for number in range(4):
        bus.put({"n": number}, bus="chosen-few")
    found = bus.events.describe_archive(ArchiveName="few")
    assert found["EventCount"] == 2 and found["SizeBytes"] > 200


def test_what_a_bucket_emits_is_delivered_and_archived(bus: Any) -> None:
    bus.events.create_archive(ArchiveName="uploads", EventSourceArn=bus.events.describe_event_bus(Name="default")["Arn"], EventPattern='{"source": ["aws.s3"]}')
    queue = bus.queue("uploads")
    bus.rule("uploads", queue, pattern={"source": ["aws.s3"], "detail": {"object": {"key": [{"suffix": ".png"}]}}})
    bucket = bus.account.bucket("uploads", granted=False)
    bus.account.s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={"EventBridgeConfiguration": {}})
    for key in ("a.png", "b.txt"):
        bus.account.s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    event = json.loads(bus.messages(queue)[0]["Body"])
    assert (event["source"], event["detail-type"], event["detail"]["object"]["key"]) == ("aws.s3", "Object Created", "a.png")
    bus.until(lambda: bus.events.describe_archive(ArchiveName="uploads")["EventCount"] == 2)


def test_an_event_that_a_rule_forwards_is_on_the_other_bus_too(bus: Any) -> None:
    arn = bus.events.create_event_bus(Name="second")["EventBusArn"]
    bus.events.create_archive(ArchiveName="second", EventSourceArn=arn)
    bus.rule("forward", arn, pattern={"source": ["forwarded"]})
    queue = bus.queue("second")
    bus.rule("arrived", queue, bus="second", pattern={"source": ["forwarded"]})
    bus.put({"n": 1}, source="forwarded")
    assert json.loads(bus.messages(queue)[0]["Body"])["detail"] == {"n": 1}
    assert bus.events.describe_archive(ArchiveName="second")["EventCount"] == 1
