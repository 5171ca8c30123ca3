"""The shapes that answers of all operations share: pages, and the refusal of what is not built."""

from __future__ import annotations

import base64
from typing import Any

from helpers.rehearsal.elasticache.api import Fault

# Source: AWS, the Describe operations: "Default: 100; Constraints: minimum 20; maximum 100".
PAGE_BOUNDS = (20, 100)


def page(name: str, items: list[Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """Return one page of a list under its member name, with a Marker when there is more."""
    low, high = PAGE_BOUNDS
    size = parameters.get("MaxRecords", high)
    if not low <= size <= high:
        raise Fault("InvalidParameterValueException", f"MaxRecords must be between {low} and {high}, not {size}.")
    start = _offset(parameters.get("Marker"))
    answer: dict[str, Any] = {name: items[start : start + size]}
    if start + size < len(items):
        answer["Marker"] = base64.urlsafe_b64encode(str(start + size).encode()).decode()
    return answer


def _offset(marker: str | None) -> int:
    try:
        return int(base64.urlsafe_b64decode(marker)) if marker else 0
    except ValueError as error:
        raise Fault("InvalidParameterValueException", f"The marker {marker!r} is not valid.") from error


def not_offered(what: str) -> Fault:
    """Return the error for something that ElastiCache has and the local cloud has not."""
    return Fault("InvalidParameterCombinationException", f"{what} is not offered by the local cloud yet.")
