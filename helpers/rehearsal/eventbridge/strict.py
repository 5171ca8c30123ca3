"""What AWS refuses of EventBridge requests and MiniStack 1.5.33 does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from helpers.rehearsal.eventbridge import delivery, engine, entries, inputs
from helpers.rehearsal.stricter import Answer, Handler, refuse, reply

MAX_TARGETS = 5
MAX_PATTERN_CHARACTERS = 4096
NEEDED = ("id", "account", "source", "time", "region", "resources", "detail-type")


class Refused(Exception):
    """A request that AWS refuses, with its error code and words."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def install(handlers: dict[str, Handler]) -> None:
    """Put the checks before MiniStack's handler, and the engine's judgment of patterns in the place of its own."""
    from ministack.services import eventbridge

    eventbridge._event_pattern_error = engine.problem_of
    inner = handlers["events"]

    async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Answer:
        action = headers.get("x-amz-target", "").rpartition(".")[2]
        try:
            asked = json.loads(body or b"{}")
            if action in CHECKS:
                CHECKS[action](asked)
        except Refused as refusal:
            return refuse(refusal.code, str(refusal), 400)
        if action == "PutEvents":
            return reply(entries.put(asked["Entries"]))
        if action == "TestEventPattern":
            return reply({"Result": engine.matches(asked["EventPattern"], asked["Event"])})
        return await inner(method, path, headers, json.dumps(asked).encode(), query)

    handlers["events"] = handle


# Rules


def _put_rule(asked: dict[str, Any]) -> None:
    """A pattern or a schedule, the schedule a valid one and on the default bus; tags are for a new rule only.

    Source: https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutRule.html
    """
    from ministack.services import eventbridge

    pattern, schedule = asked.get("EventPattern", ""), asked.get("ScheduleExpression", "")
    if not pattern and not schedule:
        raise Refused("ValidationException", "Parameter(s) EventPattern or ScheduleExpression must be specified.")
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        raise Refused(
            "ValidationException",
            f"1 validation error detected: Value '{pattern}' at 'eventPattern' failed to satisfy constraint: "
            f"Member must have length less than or equal to {MAX_PATTERN_CHARACTERS}",
        )
    asked["EventBusName"] = bus = _bus_of(asked)
    if schedule and bus != "default":
        raise Refused("ValidationException", "ScheduleExpression is supported only on the default event bus.")
    _check_schedule(schedule)
    if eventbridge._rule_key(asked.get("Name"), bus) in eventbridge._rules:
        asked.pop("Tags", None)


def _check_schedule(schedule: str) -> None:
    """A rule's schedule is a rate or cron; at(...) is EventBridge Scheduler's."""
    from helpers.eventbridge import InvalidSchedule, describe_schedule
    from ministack.services import eventbridge

    if not schedule:
        return
    try:
        describe_schedule(schedule)
    except InvalidSchedule:
        schedule = ""
    if not schedule.startswith(("rate(", "cron(")):
        raise Refused("ValidationException", "Parameter ScheduleExpression is not valid.")
    if not eventbridge._validate_schedule_expression(schedule):
        message = f"The local cloud cannot run {schedule}, which is valid on AWS. Use a simpler one to rehearse."
        raise Refused("ValidationException", message)


def _delete_rule(asked: dict[str, Any]) -> None:
    """A rule with targets stays. Source: https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_DeleteRule.html"""
    from ministack.services import eventbridge

    asked["EventBusName"] = _bus_of(asked)
    if eventbridge._targets.get(eventbridge._rule_key(asked.get("Name"), asked["EventBusName"])):
        raise Refused("ValidationException", "Rule can't be deleted since it has targets.")


def _rule_exists(asked: dict[str, Any]) -> None:
    """The requests about a rule want one that is there, whether its bus is named by name or by ARN."""
    from ministack.services import eventbridge

    name = asked.get("Rule") or asked.get("Name")
    asked["EventBusName"] = bus = _bus_of(asked)
    if eventbridge._rule_key(name, bus) not in eventbridge._rules:
        raise Refused("ResourceNotFoundException", f"Rule {name} does not exist on EventBus {bus}.")


def _bus_of(asked: dict[str, Any]) -> str:
    return str(asked.get("EventBusName") or "default").rpartition("event-bus/")[2]


# Targets


def _put_targets(asked: dict[str, Any]) -> None:
    """At most five targets a rule, each with one kind of input and placeholders that have a value.

    Source: https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutTargets.html
    """
    from ministack.services import eventbridge

    _rule_exists(asked)
    there = eventbridge._targets.get(eventbridge._rule_key(asked["Rule"], asked["EventBusName"]), [])
    if len({target["Id"] for target in [*there, *asked.get("Targets", [])]}) > MAX_TARGETS:
        raise Refused("LimitExceededException", "The requested resource exceeds the maximum number allowed.")
    for target in asked.get("Targets", []):
        _check_target(target)


def _check_target(target: dict[str, Any]) -> None:
    from helpers.eventbridge.transformers import InvalidTemplate, check_transformer

    name = target["Id"]
    if len(inputs.kinds(target)) > 1:
        message = f"Only one of Input, InputPath, or InputTransformer must be provided for target {name}."
        raise Refused("ValidationException", message)
    if target.get("Input"):
        try:
            json.loads(target["Input"])
        except ValueError:
            raise Refused("ValidationException", f"JSON syntax error in input for target {name}.") from None
    if transformer := target.get("InputTransformer"):
        try:
            check_transformer(transformer.get("InputPathsMap", {}), transformer["InputTemplate"], name)
        except InvalidTemplate as error:
            raise Refused("ValidationException", error.what) from error
    if target["Arn"].count(":") < 5:
        return
    service = delivery.service_of(target)
    if service not in (*delivery.OURS, *delivery.THEIRS):
        ours = ", ".join((*delivery.OURS, *delivery.THEIRS))
        message = f"The local cloud does not deliver to {service} (target {name}). Use a target of {ours}."
        raise Refused("ValidationException", message)


# Events


def _put_events(asked: dict[str, Any]) -> None:
    """One to ten entries, which are not too large together.

    Source: https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
    """
    given = asked.get("Entries", [])
    if not 1 <= len(given) <= entries.MAX_ENTRIES:
        bound = "greater than or equal to 1" if not given else f"less than or equal to {entries.MAX_ENTRIES}"
        raise Refused(
            "ValidationException",
            f"1 validation error detected: Value '{given}' at 'entries' failed to satisfy constraint: "
            f"Member must have length {bound}",
        )
    if sum(map(entries.size_of, given)) > entries.MAX_BYTES:
        raise Refused("ValidationException", "Total size of the entries in the request is over the limit.")


def _test_event_pattern(asked: dict[str, Any]) -> None:
    """A valid pattern, and an event with all that EventBridge puts around a detail.

    Source: https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_TestEventPattern.html
    """
    if problem := engine.problem_of(asked["EventPattern"]):
        raise Refused("InvalidEventPatternException", f"Event pattern is not valid. Reason: {problem}")
    try:
        event = json.loads(asked["Event"])
    except ValueError as error:
        raise Refused("ValidationException", "Parameter Event is not valid. Reason: It is not JSON.") from error
    for name in NEEDED:
        if name not in event:
            raise Refused("ValidationException", f"Parameter Event is not valid. Reason: The event has no {name}.")


# Replays


def _start_replay(asked: dict[str, Any]) -> None:
    """The events of a replay end after they start.

    Source: https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_StartReplay.html
    """
    if asked.get("EventEndTime", 0) <= asked.get("EventStartTime", 0):
        message = "Parameter EventEndTime is not valid. Reason: EventStartTime must be before EventEndTime."
        raise Refused("ValidationException", message)


CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "PutRule": _put_rule,
    "DeleteRule": _delete_rule,
    "DescribeRule": _rule_exists,
    "EnableRule": _rule_exists,
    "DisableRule": _rule_exists,
    "ListTargetsByRule": _rule_exists,
    "RemoveTargets": _rule_exists,
    "PutTargets": _put_targets,
    "PutEvents": _put_events,
    "TestEventPattern": _test_event_pattern,
    "StartReplay": _start_replay,
}
