"""Deliver a matched event to a target: its input, the sink, and a dead-letter queue where that fails."""

from __future__ import annotations

import logging
from typing import Any

from helpers.rehearsal.eventbridge import inputs, metrics, sinks
from helpers.rehearsal.eventbridge.sinks import NotDelivered

# What is delivered here; to the others MiniStack delivers, and sees neither permissions nor failures.
OURS = ("sqs", "lambda", "logs")
THEIRS = ("events", "sns", "states")

log = logging.getLogger("events")


def deliver(target: dict[str, Any], event: str, rule: dict[str, Any]) -> None:
    """Deliver an event, given as its JSON text, to one of `OURS`, and count it as AWS does.

    Permission and existence are not retried on AWS, so a failure is final at once.
    Source: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
    """
    metrics.count(rule, "Invocations")
    try:
        _hand_over(target, event, rule)
    except NotDelivered as failure:
        metrics.count(rule, "FailedInvocations")
        log.warning("The rule %s did not deliver to %s: %s", rule["Arn"], target["Arn"], failure.message)
        _bury(target, event, rule, failure)


def service_of(target: dict[str, Any]) -> str:
    """Return the service in a target's ARN ("sqs")."""
    return str(target["Arn"].split(":")[2])


def _hand_over(target: dict[str, Any], event: str, rule: dict[str, Any]) -> None:
    payload = inputs.payload(target, event, rule)
    match service_of(target):
        case "sqs":
            group = (target.get("SqsParameters") or {}).get("MessageGroupId", "")
            sinks.to_queue(target["Arn"], payload, rule["Arn"], group=group)
        case "lambda":
            sinks.to_function(target["Arn"], payload, rule["Arn"])
        case "logs":
            sinks.to_log_group(target["Arn"], payload, rule["Arn"], as_is=not inputs.kinds(target))


def _bury(target: dict[str, Any], event: str, rule: dict[str, Any], failure: NotDelivered) -> None:
    """Send the event as it arrived to the target's dead-letter queue, where it has one that takes it."""
    queue = (target.get("DeadLetterConfig") or {}).get("Arn")
    if not queue:
        return
    attributes = {
        "RULE_ARN": rule["Arn"],
        "TARGET_ARN": target["Arn"],
        "ERROR_CODE": failure.code,
        "ERROR_MESSAGE": failure.message,
    }
    try:
        sinks.to_queue(queue, event, rule["Arn"], attributes=attributes)
        metrics.count(rule, "InvocationsSentToDlq")
    except NotDelivered as again:
        metrics.count(rule, "InvocationsFailedToBeSentToDlq")
        log.warning("The dead-letter queue %s took no event of %s: %s", queue, rule["Arn"], again.message)
