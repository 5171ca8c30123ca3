"""Input paths: the part of JSONPath that EventBridge evaluates on an event."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

PATH = re.compile(r"\$(?:\.[\w/-]+|\.\*|\[[0-9]{1,9}\]|\[\*\])*")
STEP = re.compile(r"\.([\w/-]+|\*)|\[([0-9]+|\*)\]")


class Missing:
    """What a path gives that the event does not have."""


MISSING = Missing()


def is_path(path: str) -> bool:
    """True for what EventBridge documents: names with dashes, underscores and slashes after dots, array indexes, wildcards.

    Source: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html
    """
    return PATH.fullmatch(path) is not None


def find(path: str, event: Any) -> Any:
    """The value at the path: with a wildcard a list of all, `MISSING` where the event has none or the path is no path.

    EventBridge does not check a path when the target is put.
    """
    if not is_path(path):
        return MISSING
    found, many = [event], False
    for name, index in STEP.findall(path):
        found = [value for one in found for value in _children(one, name, index)]
        if not found and not many:
            return MISSING
        many = many or "*" in (name, index)
    return found if many else found[0]


def _children(value: Any, name: str, index: str) -> Iterable[Any]:
    """The values one step below: those of an object by name, of an array by index, of either by a wildcard."""
    if isinstance(value, dict):
        if "*" in (name, index):
            return list(value.values())
        return [value[name]] if name and name in value else []
    if isinstance(value, list):
        if "*" in (name, index):
            return value
        return [value[int(index)]] if index and int(index) < len(value) else []
    return []
