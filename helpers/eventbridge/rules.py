"""Rules of an event bus and their targets, as EventBridge describes them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from helpers.aws import Aws, RunbookError
from helpers.aws.errors import is_not_found

DEFAULT_BUS = "default"
PATTERN_LIMIT = 4096  # characters; botocore's service model of events, PutRule.EventPattern


@dataclass(frozen=True)
class Rule:
    """A rule with everything that PutRule sets, because PutRule resets what it is not given."""

    name: str
    bus: str
    arn: str
    pattern: str
    schedule: str
    state: str
    description: str = ""
    role_arn: str = ""
    managed_by: str = ""


@dataclass(frozen=True)
class Target:
    """A target of a rule: where it sends, what it makes of the event, and where failed events go (ARNs)."""

    rule: str
    id: str
    arn: str
    role_arn: str = ""
    dead_letter_arn: str = ""
    input: str = ""
    input_path: str = ""
    input_paths: dict[str, str] | None = None
    template: str = ""

    @property
    def service(self) -> str:
        """The service in the target's ARN: lambda, sqs, sns, logs, ..."""
        return self.arn.split(":")[2]

    @property
    def sends(self) -> str:
        """What the target gets, in words."""
        if self.template:
            return f"an input transformer of {len(self.input_paths or {})} paths"
        return f"only {self.input_path}" if self.input_path else "a constant" if self.input else "the whole event"


def bus_exists(aws: Aws, bus: str) -> bool:
    """True where the region has an event bus of this name."""
    try:
        aws.client("events").describe_event_bus(Name=bus)
    except Exception as error:
        if is_not_found(error):
            return False
        raise
    return True


def describe_rule(aws: Aws, bus: str, name: str) -> Rule:
    """A rule of a bus. Raises `RunbookError` with the nearest name where there is none."""
    try:
        return _rule(bus, aws.client("events").describe_rule(Name=name, EventBusName=bus))
    except Exception as error:
        if not is_not_found(error):
            raise
    near = difflib.get_close_matches(name, [one.name for one in list_rules(aws, bus)], n=1)
    raise RunbookError(
        f"There is no rule {name!r} on the event bus {bus} in {aws.region}.",
        f"Do you mean {near[0]}?" if near else "Check the rule, the bus and the region.",
    )


def list_rules(aws: Aws, bus: str) -> tuple[Rule, ...]:
    """All rules of a bus, by name."""
    pages = aws.client("events").get_paginator("list_rules").paginate(EventBusName=bus)
    return tuple(sorted((_rule(bus, one) for page in pages for one in page["Rules"]), key=lambda rule: rule.name))


def list_targets(aws: Aws, rules: Iterable[Rule]) -> tuple[Target, ...]:
    """The targets of rules, rule by rule."""
    pages = aws.client("events").get_paginator("list_targets_by_rule")
    return tuple(
        _target(rule.name, one)
        for rule in rules
        for page in pages.paginate(Rule=rule.name, EventBusName=rule.bus)
        for one in page["Targets"]
    )


def put_pattern(aws: Aws, rule: Rule, pattern: str) -> None:
    """Give a rule another pattern and leave all else as it is.

    Source: https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutRule.html (what is omitted gets its default)
    """
    kept = {"ScheduleExpression": rule.schedule, "Description": rule.description, "RoleArn": rule.role_arn}
    asked = {name: value for name, value in kept.items() if value}
    aws.client("events").put_rule(
        Name=rule.name, EventBusName=rule.bus, EventPattern=pattern, State=rule.state, **asked
    )


def rules_table(rules: Iterable[Rule]) -> pd.DataFrame:
    """Rules as a table: name, state, pattern or schedule."""
    rows = [(rule.name, rule.state, rule.pattern or rule.schedule, rule.managed_by) for rule in rules]
    return pd.DataFrame(rows, columns=["rule", "state", "pattern or schedule", "managed by"])


def targets_table(targets: Iterable[Target]) -> pd.DataFrame:
    """Targets as a table: rule, id, ARN, what is sent, dead-letter queue."""
    rows = [(one.rule, one.id, one.arn, one.sends, one.dead_letter_arn.rpartition(":")[2] or "none") for one in targets]
    return pd.DataFrame(rows, columns=["rule", "target", "ARN", "gets", "dead-letter queue"])


def _rule(bus: str, found: dict) -> Rule:
    names = ("EventPattern", "ScheduleExpression", "State", "Description", "RoleArn", "ManagedBy")
    return Rule(found["Name"], bus, found["Arn"], *(found.get(name, "") for name in names))


def _target(rule: str, found: dict) -> Target:
    transformer = found.get("InputTransformer", {})
    dead_letters = found.get("DeadLetterConfig", {}).get("Arn", "")
    shaped = (
        found.get("Input", ""),
        found.get("InputPath", ""),
        transformer.get("InputPathsMap"),
        transformer.get("InputTemplate", ""),
    )
    return Target(rule, found["Id"], found["Arn"], found.get("RoleArn", ""), dead_letters, *shaped)
