"""A target that does not let its rule in gets nothing: metrics count it, and a dead-letter queue says why."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest


def total(bus: Any, metric: str, rule: str, bus_name: str = "") -> float:
    """Return the sum of a rule's metric over the last minutes, 0 where it was never counted."""
    dimensions = [{"Name": "RuleName", "Value": rule}]
    if bus_name:
        dimensions.append({"Name": "EventBusName", "Value": bus_name})
    query = {"Namespace": "AWS/Events", "MetricName": metric, "Dimensions": dimensions}
    now = time.time()
    found = bus.cloudwatch.get_metric_statistics(**query, StartTime=now - 600, EndTime=now + 60, Period=60, Statistics=["Sum"])
    return sum(point["Sum"] for point in found["Datapoints"])


def why(message: dict[str, Any]) -> dict[str, str]:
    return {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}


def arn(bus: Any, service: str, resource: str) -> str:
    return f"arn:aws:{service}:{bus.account.cloud.region}:{bus.account.cloud.account}:{resource}"


def test_a_queue_without_a_policy_gets_nothing_and_the_dead_letter_queue_says_why(bus: Any) -> None:
    closed, dead = bus.queue("closed", allow=None), bus.queue("closed-dlq")
    rule = bus.rule("closed", closed, pattern={"source": ["shop.closed"]}, DeadLetterConfig={"Arn": dead})
    bus.put({"n": 1}, source="shop.closed")
    buried = bus.messages(dead)[0]
    assert json.loads(buried["Body"])["detail"] == {"n": 1}
    told = why(buried)
    assert (told["ERROR_CODE"], told["RULE_ARN"], told["TARGET_ARN"]) == ("NO_PERMISSIONS", rule, closed)
    assert "events.amazonaws.com" in told["ERROR_MESSAGE"] and closed in told["ERROR_MESSAGE"]
    assert bus.waiting(closed) == 0
    assert [total(bus, name, "closed") for name in ("MatchedEvents", "Invocations", "FailedInvocations", "InvocationsSentToDlq")] == [1, 1, 1, 1]


def test_a_policy_for_another_rule_does_not_let_this_one_in(bus: Any) -> None:
    queue = bus.queue("others", allow=arn(bus, "events", "rule/another"))
    bus.rule("not-another", queue, pattern={"source": ["shop.others"]})
    bus.put(source="shop.others")
    assert bus.waiting(queue) == 0 and total(bus, "FailedInvocations", "not-another") == 1
    bus.rule("another", queue, pattern={"source": ["shop.others"]})
    bus.put(source="shop.others")
    assert bus.waiting(queue) == 1


def test_failures_are_a_metric_only_where_there_are_some(bus: Any) -> None:
    bus.events.create_event_bus(Name="counted")
    queue = bus.queue("counted")
    bus.rule("fine", queue, bus="counted")
    bus.put(bus="counted")
    bus.put(bus="counted")
    assert total(bus, "MatchedEvents", "fine", "counted") == total(bus, "Invocations", "fine", "counted") == 2
    named = bus.cloudwatch.list_metrics(Namespace="AWS/Events", Dimensions=[{"Name": "RuleName", "Value": "fine"}])["Metrics"]
    assert {metric["MetricName"] for metric in named} == {"MatchedEvents", "TriggeredRules", "Invocations"}


def test_metric_data_gives_the_same_counts(bus: Any) -> None:
    bus.rule("asked", bus.queue("asked"), pattern={"source": ["shop.asked"]})
    bus.put(source="shop.asked")
    metric = {"Namespace": "AWS/Events", "MetricName": "Invocations", "Dimensions": [{"Name": "RuleName", "Value": "asked"}]}
    queries = [{"Id": "one", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Sum"}}]
    now = time.time()
    answer = bus.cloudwatch.get_metric_data(MetricDataQueries=queries, StartTime=now - 600, EndTime=now + 60)
    assert sum(answer["MetricDataResults"][0]["Values"]) == 1


@pytest.mark.parametrize(("service", "resource"), [("sqs", "nowhere"), ("lambda", "function:nowhere"), ("logs", "log-group:/aws/events/nowhere")])
def test_a_target_that_does_not_exist_is_a_failure(bus: Any, service: str, resource: str) -> None:
    source, dead = f"shop.nowhere.{service}", bus.queue(f"nowhere-{service}-dlq")
    bus.rule(f"nowhere-{service}", arn(bus, service, resource), pattern={"source": [source]}, DeadLetterConfig={"Arn": dead})
    bus.put(source=source)
    told = why(bus.messages(dead)[0])
    assert told["ERROR_CODE"] == "NO_RESOURCE" and told["TARGET_ARN"] == arn(bus, service, resource)


def test_a_log_group_without_a_resource_policy_stays_empty(bus: Any) -> None:
    dead = bus.queue("unwritable-dlq")
    bus.logs.create_log_group(logGroupName="/aws/events/unwritable")
    target = arn(bus, "logs", "log-group:/aws/events/unwritable")
    bus.rule("unwritable", target, pattern={"source": ["shop.unwritable"]}, DeadLetterConfig={"Arn": dead})
    bus.put(source="shop.unwritable")
    assert why(bus.messages(dead)[0])["ERROR_CODE"] == "NO_PERMISSIONS"
    assert bus.logs.describe_log_streams(logGroupName="/aws/events/unwritable")["logStreams"] == []


def test_a_dead_letter_queue_that_lets_nobody_in_gets_nothing(bus: Any) -> None:
    dead = bus.queue("deaf-dlq", allow=None)
    bus.rule("deaf", bus.queue("deaf", allow=None), pattern={"source": ["shop.deaf"]}, DeadLetterConfig={"Arn": dead})
    bus.put(source="shop.deaf")
    assert bus.waiting(dead) == 0
    assert total(bus, "InvocationsFailedToBeSentToDlq", "deaf") == 1 and total(bus, "InvocationsSentToDlq", "deaf") == 0


def test_a_quote_in_a_value_breaks_a_json_template_and_nothing_is_delivered(bus: Any) -> None:
    queue, dead = bus.queue("broken"), bus.queue("broken-dlq")
    transformer = {"InputPathsMap": {"q": "$.detail.q"}, "InputTemplate": '{"text": "<q>"}'}
    bus.rule("broken", queue, pattern={"source": ["shop.broken"]}, InputTransformer=transformer, DeadLetterConfig={"Arn": dead})
    bus.put({"q": 'say "hi"'}, source="shop.broken")
    bus.put({"q": "say hi"}, source="shop.broken")
    assert why(bus.messages(dead)[0])["ERROR_CODE"] == "INVALID_JSON"
    assert [one["Body"] for one in bus.messages(queue)] == ['{"text":"say hi"}']
