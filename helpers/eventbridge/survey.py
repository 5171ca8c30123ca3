"""Everything that would make a debugging run fail or mislead, found before anything is made."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from helpers.aws import Aws, Check, RunbookError
from helpers.aws.errors import error_code, is_not_found
from helpers.aws.permissions import permissions
from helpers.eventbridge.amplify import deployment_events
from helpers.eventbridge.causes import ENTRY_LIMIT, entry_size, replay_window
from helpers.eventbridge.debug_rule import Debug, copied_source
from helpers.eventbridge.health import allows, log_policies, target_checks
from helpers.eventbridge.leftovers import ORDER, find_leftovers
from helpers.eventbridge.patterns import InvalidPattern, parse
from helpers.eventbridge.policy import MAKE
from helpers.eventbridge.rules import (
    PATTERN_LIMIT,
    Rule,
    Target,
    bus_exists,
    describe_rule,
    list_rules,
    list_targets,
    targets_table,
)
from helpers.eventbridge.sinks import arn_of

LOG_POLICIES = 10  # resource policies of an account and region; https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html


@dataclass(frozen=True)
class Survey:
    """What was found: the rule under debug, all rules of the bus, their targets, the events to send (JSON text), the checks."""

    rule: Rule
    rules: tuple[Rule, ...]
    targets: tuple[Target, ...]
    events: tuple[str, ...]
    checks: tuple[Check, ...]

    def table(self) -> pd.DataFrame:
        """The targets of the rules."""
        return targets_table(self.targets)


def survey(aws: Aws, debug: Debug) -> Survey:
    """Look at everything the run needs. Raises `RunbookError` where the bus or the rule does not exist."""
    if not bus_exists(aws, debug.bus):
        raise RunbookError(
            f"There is no event bus {debug.bus!r} in {aws.region}.",
            "Events of AWS services arrive on the bus `default`; check the name and the region.",
        )
    rule = describe_rule(aws, debug.bus, debug.rule)
    rules = list_rules(aws, debug.bus)
    targets = list_targets(aws, rules)
    events, told = _events(aws, debug)
    checks = [
        Check("who is calling", "pass", aws.caller), Check("the bus and the rule exist", "pass", f"{len(rules)} rules on {debug.bus}, {rule.name} is {rule.state}"),
        permissions(aws, _writes(aws, debug), "eventbridge_debug"), _enabled(rule), _correctable(debug, rule), *_patterns(debug), told, *_log_group(aws, debug), *_archive(aws, debug),
        *target_checks(aws, rules, targets), _leftovers(aws),
    ]  # fmt: skip
    return Survey(rule, rules, targets, events, tuple(check for check in checks if check))


# -- input ------------------------------------------------------------------------------------------------


def _patterns(debug: Debug) -> list[Check]:
    given = {
        "the debug rule's pattern": debug.pattern,
        "the parameter `correction`": "" if debug.correction == "none" else debug.correction,
    }
    return [pattern_check(name, text) for name, text in given.items() if text]


def pattern_check(name: str, text: str) -> Check:
    """Whether EventBridge would take a pattern: its length, and the language in the words of its own engine."""
    if len(text) > PATTERN_LIMIT:
        return Check(
            name,
            "fail",
            f"it has {len(text):,} characters, and a rule's pattern at most {PATTERN_LIMIT:,}.",
            "Split it into several rules, or use prefix and wildcard instead of long lists.",
        )
    try:
        parse(text)
    except InvalidPattern as error:
        return Check(name, "fail", f"{_short(text)} is refused: {error.what}.", error.remedy)
    return Check(name, "pass", _short(text))


def _events(aws: Aws, debug: Debug) -> tuple[tuple[str, ...], Check | None]:
    """The events to send, and the check of them; none for a cause that sends nothing."""
    if debug.cause != "copy":
        return (), None
    name, remedy = "the events to send", "Give one event as JSON, or a file with one event a line, in `event`."
    try:
        texts = _texts(debug.event) or deployment_events(aws.account, aws.region)
        for number, text in enumerate(texts, 1):
            _refuse(json.loads(text), f"event {number}")
    except ValueError as error:
        return (), Check(name, "fail", f"{_short(debug.event)} is no JSON: {error}.", remedy)
    except OSError as error:
        return (), Check(name, "fail", f"{debug.event} cannot be read: {error.strerror}.", remedy)
    except RunbookError as error:
        return (), Check(name, "fail", error.what, error.remedy)
    sources = sorted({json.loads(text)["source"] for text in texts})
    copies = ", ".join(f"{one} as {copied_source(one)}" for one in sources)
    return tuple(texts), Check(name, "pass", f"{len(texts)}: {copies}; other rules that match the copies get them too")


def _texts(given: str) -> list[str]:
    """The events in the parameter: none, one as JSON, or those of a file, one a line."""
    if not given.strip() or given.lstrip().startswith(("{", "[")) or not given.endswith((".json", ".jsonl", ".ndjson")):
        return [given] if given.strip() else []
    return [line for line in Path(given).read_text(encoding="utf-8").splitlines() if line.strip()]


def _refuse(event: Any, which: str) -> None:
    """Raises `RunbookError` for what PutEvents would not take."""
    faults = [
        name
        for name, kind in {"source": str, "detail-type": str, "detail": dict}.items()
        if not isinstance(event, dict) or not isinstance(event.get(name), kind)
    ]
    if faults:
        raise RunbookError(
            f"{which} has no {', '.join(faults)}.",
            'An event is an object with the texts "source" and "detail-type" and the object "detail".',
        )
    if entry_size(event) > ENTRY_LIMIT:
        raise RunbookError(
            f"{which} has {entry_size(event):,} bytes, and PutEvents takes less than 1 MB.",
            "Put the large part into S3, and send its key.",
        )


# -- the account --------------------------------------------------------------------------------------------


def _enabled(rule: Rule) -> Check | None:
    if rule.state.startswith("ENABLED"):
        return None
    return Check(
        "the rule is enabled",
        "warn",
        f"{rule.name} is {rule.state}: it matches nothing, whatever its pattern says",
        "Enable it: aws events enable-rule.",
    )


def _correctable(debug: Debug, rule: Rule) -> Check | None:
    name = "the rule's pattern can be corrected"
    if debug.correction == "none":
        return None
    if rule.managed_by:
        return Check(
            name,
            "fail",
            f"{rule.name} is managed by {rule.managed_by}, which alone may change it",
            "Set correction=none.",
        )
    return (
        None
        if rule.pattern
        else Check(
            name,
            "fail",
            f"{rule.name} has a schedule ({rule.schedule}) and no pattern",
            "Name a rule with an event pattern.",
        )
    )


def _log_group(aws: Aws, debug: Debug) -> list[Check]:
    if debug.sink != "logs":
        return (
            [Check("log_group", "fail", f"it is for sink=logs, and the sink is {debug.sink}", "Leave it empty.")]
            if debug.log_group
            else []
        )
    name = "EventBridge may write to the log group"
    if not debug.log_group:
        return [_room(aws)]
    try:
        policies = log_policies(aws, debug.log_group)
    except Exception as error:
        if not is_not_found(error):
            raise
        return [
            Check(
                name,
                "fail",
                f"there is no log group {debug.log_group} in {aws.region}.",
                "Create it, or leave `log_group` empty: the run makes one and removes it.",
            )
        ]
    arn = arn_of(aws, "logs", f"log-group:{debug.log_group}")
    if any(allows(policy, "logs:PutLogEvents", debug.arn(aws), arn) for policy in policies):
        return [Check(name, "pass", debug.log_group)]
    return [
        Check(
            name,
            "fail",
            f"no resource policy lets events.amazonaws.com write to {debug.log_group}.",
            "Add one (aws logs put-resource-policy), or leave `log_group` empty.",
        )
    ]


def _room(aws: Aws) -> Check:
    count = len(aws.client("logs").describe_resource_policies()["resourcePolicies"])
    return Check(
        "EventBridge may write to the log group",
        "pass",
        f"the new log group gets a policy of its own; the account has {count} of at most {LOG_POLICIES} others",
    )


def _archive(aws: Aws, debug: Debug) -> list[Check]:
    if debug.cause != "replay":
        return []
    name = "the archive has events to replay"
    try:
        found = aws.client("events").describe_archive(ArchiveName=debug.archive)
        begin, end = replay_window(debug)
    except RunbookError as error:
        return [Check(name, "fail", error.what, error.remedy)]
    except Exception as error:
        if not is_not_found(error):
            raise
        return [
            Check(
                name,
                "fail",
                f"there is no archive {debug.archive!r} in {aws.region}.",
                "Name one of `aws events list-archives`, or choose another cause.",
            )
        ]
    window = f"{debug.archive}: {found['EventCount']:,} events; from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC, to the debug rule alone"
    if not found["EventSourceArn"].endswith(f"event-bus/{debug.bus}"):
        return [
            Check(
                name,
                "fail",
                f"{debug.archive} is of {found['EventSourceArn']}.",
                "Name an archive of the rule's bus: events are replayed to the bus they came from.",
            )
        ]
    if begin >= end:
        return [Check(name, "fail", window, "Let replay_from be before replay_to.")]
    return [
        Check(
            name,
            "pass" if found["EventCount"] else "warn",
            window,
            "" if found["EventCount"] else "The archive counts new events with a delay of some minutes.",
        )
    ]


def _leftovers(aws: Aws) -> Check:
    try:
        expired = [one for one in find_leftovers(aws) if one.is_expired]
    except Exception as error:
        if "AccessDenied" not in error_code(error):
            raise
        return Check(
            "nothing is left of earlier runs",
            "warn",
            f"could not be listed: {error_code(error)}",
            "Allow the listing; the run proves with it that everything is gone.",
        )
    if expired:
        kinds = ", ".join(
            f"{sum(one.kind == kind for one in expired)} {kind}"
            for kind in ORDER
            if any(one.kind == kind for one in expired)
        )
        return Check(
            "nothing is left of earlier runs",
            "warn",
            f"expired: {kinds}",
            "`runbook cleanup` lists them, with --yes it removes them.",
        )
    return Check("nothing is left of earlier runs", "pass", "nothing expired")


# -- permissions ----------------------------------------------------------------------------------------------


def _writes(aws: Aws, debug: Debug) -> Iterable[tuple[str, tuple[str, ...]]]:
    """Each resource the run writes to, with the actions on it."""
    region = f"arn:{aws.caller.split(':')[1]}:{{service}}:{aws.region}:{aws.account}:"
    for kind in ("rule", debug.cause, debug.sink):
        for pattern, actions in MAKE.get(kind, {}).items():
            _, _, service, _, _, resource = pattern.split(":", 5)
            named = (
                resource.replace("rule/*runbook-debug-*", debug.arn(aws).split(":", 5)[5])
                .replace("runbook-debug-*", debug.name)
                .replace("event-bus/*", f"event-bus/{debug.bus}")
                .replace("archive/*", f"archive/{debug.archive}")
            )
            where = (
                f"arn:{aws.caller.split(':')[1]}:iam::{aws.account}:"
                if service == "iam"
                else region.format(service=service)
            )
            yield where + named, actions


def _short(text: str) -> str:
    return text if len(text) <= 200 else text[:200] + " ..."
