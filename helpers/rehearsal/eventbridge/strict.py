"""What AWS refuses of EventBridge requests and MiniStack 1.5.33 does not."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from helpers.rehearsal.eventbridge import delivery, entries, inputs
from helpers.rehearsal.stricter import _json, _refuse

Answer = tuple[int, dict[str, str], Any]
Handler = Callable[..., Awaitable[Answer]]

MAX_TARGETS = 5
MAX_PATTERN_CHARACTERS = 4096
RATE = re.compile(r"rate\((\d+) (minute|hour|day)(s?)\)")
PLACEHOLDER = re.compile(r"<([^<>]*)>")
RESERVED = ("rule-arn", "rule-name", "event", "event.json", "event.ingestion-time")


class Refused(Exception):
    """A request that AWS refuses, with its error code and words."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def install(handlers: dict[str, Handler]) -> None:
    """Put the checks before MiniStack's handler."""
    inner = handlers["events"]

    async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Answer:
        action = headers.get("x-amz-target", "").rpartition(".")[2]
        try:
            asked = json.loads(body or b"{}")
            if action in CHECKS:
                CHECKS[action](asked)
        except Refused as refusal:
            return _refuse(refusal.code, str(refusal), 400)
        if action == "PutEvents":
            return _json(entries.put(asked["Entries"]))
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
    if schedule.startswith("rate(") and not _is_rate(schedule):
        raise Refused("ValidationException", "Parameter ScheduleExpression is not valid.")
    if eventbridge._rule_key(asked.get("Name"), bus) in eventbridge._rules:
        asked.pop("Tags", None)


def _is_rate(schedule: str) -> bool:
    """Return whether a rate is valid: a whole number above 0, and the unit in the plural unless it is 1."""
    found = RATE.fullmatch(schedule)
    return bool(found) and int(found[1]) > 0 and (found[3] == "s") == (int(found[1]) != 1)


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
    name = target["Id"]
    if len(inputs.kinds(target)) > 1:
        raise Refused("ValidationException", f"Only one of Input, InputPath, or InputTransformer must be provided for target {name}.")
    if target.get("Input"):
        try:
            json.loads(target["Input"])
        except ValueError:
            raise Refused("ValidationException", f"JSON syntax error in input for target {name}.") from None
    transformer = target.get("InputTransformer") or {}
    known = {*transformer.get("InputPathsMap", {}), *(f"aws.events.{reserved}" for reserved in RESERVED)}
    for placeholder in PLACEHOLDER.findall(transformer.get("InputTemplate", "")):
        if placeholder not in known:
            raise Refused("ValidationException", f"InputTemplate for target {name} contains invalid placeholder {placeholder}.")
    if target["Arn"].count(":") < 5:
        return
    service = delivery.service_of(target)
    if service not in (*delivery.OURS, *delivery.THEIRS):
        ours = ", ".join((*delivery.OURS, *delivery.THEIRS))
        raise Refused("ValidationException", f"The local cloud does not deliver to {service} (target {name}). Use a target of {ours}.")


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
            f"1 validation error detected: Value '{given}' at 'entries' failed to satisfy constraint: Member must have length {bound}",
        )
    if sum(map(entries.size_of, given)) > entries.MAX_BYTES:
        raise Refused("ValidationException", "Total size of the entries in the request is over the limit.")


# Replays


def _start_replay(asked: dict[str, Any]) -> None:
    """The events of a replay end after they start.

    Source: https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_StartReplay.html
    """
    if asked.get("EventEndTime", 0) <= asked.get("EventStartTime", 0):
        raise Refused("ValidationException", "Parameter EventEndTime is not valid. Reason: EventStartTime must be before EventEndTime.")


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
    "StartReplay": _start_replay,
}
