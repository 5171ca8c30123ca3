"""What a target gets of an event: all of it, a constant, a part of it, or a text made by an input transformer."""

from __future__ import annotations

import json
from typing import Any

from helpers.rehearsal.eventbridge.sinks import NotDelivered

KINDS = ("Input", "InputPath", "InputTransformer")


def kinds(target: dict[str, Any]) -> list[str]:
    """Return which kinds of input a target has."""
    return [kind for kind in KINDS if target.get(kind)]


def payload(target: dict[str, Any], event: dict[str, Any], rule: dict[str, Any]) -> str:
    """Return the text that a target gets; raises `NotDelivered` where AWS drops the event.

    Source: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html
    """
    if target.get("Input"):
        return str(target["Input"])
    if target.get("InputPath"):
        return _part(target["InputPath"], event)
    if target.get("InputTransformer"):
        return _transformed(target["InputTransformer"], event, rule)
    return json.dumps(event)


def _part(path: str, event: Any) -> str:
    """Return what a path like $.detail.jobId leads to, as JSON; the whole event where it leads nowhere."""
    found = event
    try:
        for name in filter(None, path.removeprefix("$").split(".")):
            found = found[name]
    except (KeyError, TypeError):
        found = event
    return json.dumps(found)


def _transformed(transformer: dict[str, Any], event: dict[str, Any], rule: dict[str, Any]) -> str:
    from ministack.services import eventbridge

    envelope = {name: value for name, value in event.items() if name != "detail"}
    view = eventbridge._EventView(envelope, event["detail"])
    text = str(eventbridge._apply_input_transformer(transformer, rule, view))
    if transformer["InputTemplate"].lstrip()[:1] in ("{", "["):
        try:
            json.loads(text)
        except ValueError as error:
            raise NotDelivered("INVALID_JSON", f"The input transformer made no JSON: {error}.") from error
    return text
