"""Requests that AWS refuses are refused here, with AWS's code and words."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

Refusal = Callable[..., tuple[str, str]]


def entry(**changes: Any) -> dict[str, Any]:
    return {"Source": "shop", "DetailType": "Order", "Detail": "{}", **changes}


def test_events_of_aws_and_incomplete_ones_are_refused_one_by_one(bus: Any) -> None:
    wrong = [entry(Source="aws.amplify"), entry(), entry(Detail="no"), entry(Detail='{"x": NaN}'), entry(DetailType="")]
    answer = bus.events.put_events(Entries=wrong)
    codes = [one.get("ErrorCode") for one in answer["Entries"]]
    assert codes == ["NotAuthorizedForSourceException", None, "MalformedDetail", "MalformedDetail", "InvalidArgument"]
    assert answer["FailedEntryCount"] == 4 and answer["Entries"][1]["EventId"]
    assert answer["Entries"][0]["ErrorMessage"] == "Not authorized for the source."
    assert answer["Entries"][4]["ErrorMessage"] == "Parameter DetailType is not valid. Reason: DetailType is a required argument."


def test_entries_of_more_than_a_mebibyte_together_are_refused(bus: Any, refusal: Refusal) -> None:
    fits = entry(Detail=json.dumps({"x": "a" * (1024 * 1024 - 17)}))  # {"x": "..."} and shop and Order
    assert len(fits["Detail"]) + 9 == 1024 * 1024 + 1
    code, message = refusal(bus.events.put_events, Entries=[fits])
    assert (code, message) == ("ValidationException", "Total size of the entries in the request is over the limit.")
    shorter = entry(Detail=fits["Detail"].replace("aa", "a", 1))
    assert bus.events.put_events(Entries=[shorter])["FailedEntryCount"] == 0


def test_no_more_than_ten_entries_are_taken(bus: Any, refusal: Refusal) -> None:
    code, message = refusal(bus.events.put_events, Entries=[entry()] * 11)
    assert code == "ValidationException" and message.endswith("Member must have length less than or equal to 10")


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ('{"source": "aws.amplify"}', '"source" must be an object or an array'),
        ('{"source": []}', "Empty arrays are not allowed"),
        ('{"source": [{"begins": "x"}]}', "Unrecognized match type begins"),
    ],
)
def test_an_invalid_pattern_is_refused_with_the_reason(bus: Any, refusal: Refusal, pattern: str, reason: str) -> None:
    code, message = refusal(bus.events.put_rule, Name="invalid", EventPattern=pattern)
    assert code == "InvalidEventPatternException"
    assert message.startswith(f"Event pattern is not valid. Reason: {reason}")


def test_a_pattern_is_tested_with_a_whole_event_only(bus: Any, refusal: Refusal) -> None:
    event = {"id": "1", "account": "1", "source": "shop", "time": "2026-01-01T00:00:00Z", "region": "x", "resources": [], "detail-type": "Order"}

    def tested(pattern: str, event: str) -> bool:
        return bus.events.test_event_pattern(EventPattern=pattern, Event=event)["Result"]

    whole = json.dumps(event)[:-1] + ', "detail": {"n": 3.0e2, "n": 1}}'
    assert tested('{"detail": {"n": [300]}}', whole) and not tested('{"detail": {"n": [2]}}', whole)
    for broken in ('{"source": "shop"}', "no JSON"):
        assert refusal(tested, pattern='{"source": ["shop"]}', event=broken)[0] == "ValidationException"
    code, message = refusal(tested, pattern='{"source": "shop"}', event=whole)
    assert code == "InvalidEventPatternException" and '"source" must be an object or an array' in message


def test_a_pattern_of_more_than_4096_characters_is_refused(bus: Any, refusal: Refusal) -> None:
    pattern = json.dumps({"source": ["x" * 4090]})
    code, message = refusal(bus.events.put_rule, Name="long", EventPattern=pattern)
    assert code == "ValidationException" and message.endswith("Member must have length less than or equal to 4096")


@pytest.mark.parametrize("schedule", ["rate(1 minutes)", "rate(10 minute)", "rate(10 MINUTES)", "rate( 10 minutes )", "rate(0 minutes)", "rate(10 seconds)"])
def test_an_invalid_rate_is_refused(bus: Any, refusal: Refusal, schedule: str) -> None:
    wanted = ("ValidationException", "Parameter ScheduleExpression is not valid.")
    assert refusal(bus.events.put_rule, Name="rate", ScheduleExpression=schedule) == wanted


@pytest.mark.parametrize("schedule", ["rate(1 minute)", "rate(10 minutes)", "rate(1 day)", "cron(0 12 * * ? *)"])
def test_a_valid_schedule_is_taken(bus: Any, schedule: str) -> None:
    assert bus.events.put_rule(Name="schedule", ScheduleExpression=schedule, State="DISABLED")["RuleArn"].endswith(":rule/schedule")


def test_a_schedule_that_only_aws_can_run_is_refused_with_that_said(bus: Any, refusal: Refusal) -> None:
    code, message = refusal(bus.events.put_rule, Name="last", ScheduleExpression="cron(0 0 L-3 * ? *)")
    assert code == "ValidationException" and message.startswith("The local cloud cannot run cron(0 0 L-3 * ? *), which is valid on AWS.")
    assert refusal(bus.events.put_rule, Name="once", ScheduleExpression="at(2027-01-31T09:00:00)")[1] == "Parameter ScheduleExpression is not valid."


def test_a_rule_needs_a_pattern_or_a_schedule_and_a_schedule_the_default_bus(bus: Any, refusal: Refusal) -> None:
    nothing = refusal(bus.events.put_rule, Name="nothing")
    assert nothing == ("ValidationException", "Parameter(s) EventPattern or ScheduleExpression must be specified.")
    bus.events.create_event_bus(Name="no-schedules")
    elsewhere = refusal(bus.events.put_rule, Name="elsewhere", EventBusName="no-schedules", ScheduleExpression="rate(1 day)")
    assert elsewhere == ("ValidationException", "ScheduleExpression is supported only on the default event bus.")


def test_a_rule_with_targets_cannot_be_deleted(bus: Any, refusal: Refusal) -> None:
    bus.rule("held", bus.queue("held"))
    assert refusal(bus.events.delete_rule, Name="held") == ("ValidationException", "Rule can't be deleted since it has targets.")
    bus.events.remove_targets(Rule="held", Ids=["1"])
    bus.events.delete_rule(Name="held")
    assert refusal(bus.events.list_targets_by_rule, Rule="held")[0] == "ResourceNotFoundException"


def test_a_rule_has_five_targets_at_most(bus: Any, refusal: Refusal) -> None:
    queue = bus.queue("many")
    bus.rule("many")
    targets = [{"Id": str(number), "Arn": queue} for number in range(5)]
    bus.events.put_targets(Rule="many", Targets=targets)
    bus.events.put_targets(Rule="many", Targets=targets[:2])
    code, message = refusal(bus.events.put_targets, Rule="many", Targets=[{"Id": "sixth", "Arn": queue}])
    assert (code, message) == ("LimitExceededException", "The requested resource exceeds the maximum number allowed.")


def test_a_target_has_one_kind_of_input_and_placeholders_with_a_value(bus: Any, refusal: Refusal) -> None:
    queue = bus.queue("kinds")
    bus.rule("kinds")

    def refused(**options: Any) -> str:
        code, message = refusal(bus.events.put_targets, Rule="kinds", Targets=[{"Id": "x", "Arn": queue, **options}])
        assert code == "ValidationException"
        return message

    two = "Only one of Input, InputPath, or InputTransformer must be provided for target x."
    assert refused(Input="1", InputPath="$.detail") == two
    transformer = {"InputPathsMap": {"known": "$.id"}, "InputTemplate": '"<known> <other>"'}
    assert refused(InputTransformer=transformer) == "InputTemplate for target x contains invalid placeholder other."
    assert refused(Input="{no") == "JSON syntax error in input for target x."


def test_a_target_that_the_local_cloud_cannot_deliver_to_is_refused_with_the_ones_it_can(bus: Any, refusal: Refusal) -> None:
    bus.rule("far")
    stream = f"arn:aws:kinesis:{bus.account.cloud.region}:{bus.account.cloud.account}:stream/x"
    code, message = refusal(bus.events.put_targets, Rule="far", Targets=[{"Id": "x", "Arn": stream}])
    assert code == "ValidationException" and message.startswith("The local cloud does not deliver to kinesis")


def test_tags_are_given_to_a_new_rule_and_found_again(bus: Any) -> None:
    tags = [{"Key": "runbook:run-id", "Value": "r-1"}]
    arn = bus.events.put_rule(Name="tagged", EventPattern='{"source": ["shop"]}', Tags=tags)["RuleArn"]
    bus.events.put_rule(Name="tagged", EventPattern='{"source": ["shop"]}', Tags=[{"Key": "late", "Value": "ignored"}])
    bus.events.tag_resource(ResourceARN=arn, Tags=[{"Key": "more", "Value": "yes"}])
    assert bus.events.list_tags_for_resource(ResourceARN=arn)["Tags"] == [*tags, {"Key": "more", "Value": "yes"}]
    wanted = [{"Key": "runbook:run-id", "Values": ["r-1"]}]
    found = bus.account.client("resourcegroupstaggingapi").get_resources(TagFilters=wanted)["ResourceTagMappingList"]
    assert [one["ResourceARN"] for one in found] == [arn]
