"""What a target gets of an event: all of it, a constant, a part of it, or a text made by an input transformer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from helpers.rehearsal.eventbridge.sinks import NotDelivered

KINDS = ("Input", "InputPath", "InputTransformer")


def kinds(target: dict[str, Any]) -> list[str]:
    """Return which kinds of input a target has."""
    return [kind for kind in KINDS if target.get(kind)]


def payload(target: dict[str, Any], event: str, rule: dict[str, Any]) -> str:
    """Return the text that a target gets of an event (JSON text); raises `NotDelivered` where AWS drops the event.

    Source: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html
    """
    from helpers import eventbridge

    if not kinds(target):
        return event
    try:
        now = datetime.now(UTC)
        return eventbridge.target_input(target, event, rule_name=rule["Name"], rule_arn=rule["Arn"], ingestion_time=now)
    except eventbridge.NotDelivered as error:
        raise NotDelivered("INVALID_JSON" if "InputTransformer" in target else "INVALID_PARAMETER", error.what) from error
