"""Patterns as AWS's engine reads them, by the package's own implementation of it.

The package is imported when it is first needed: it takes most of a second, which other rehearsals need not wait for.
"""

from __future__ import annotations

import json
from typing import Any

# In the order in which AWS writes them.
ENVELOPE = {
    "version": "Version",
    "id": "EventId",
    "detail-type": "DetailType",
    "source": "Source",
    "account": "Account",
    "time": "Time",
    "region": "Region",
    "resources": "Resources",
}


def text_of(record: dict[str, Any]) -> str:
    """Return the JSON text of an event as MiniStack keeps it; its detail is as it was sent, numbers and repeated keys too."""
    from ministack.services import eventbridge

    envelope = {name: record.get(kept, "0") for name, kept in ENVELOPE.items()}
    envelope["time"] = eventbridge._event_time_string(record)
    if record.get("ReplayName"):
        envelope["replay-name"] = record["ReplayName"]
    return f'{json.dumps(envelope, separators=(",", ":"), ensure_ascii=False)[:-1]},"detail":{record["Detail"]}}}'


def matches(pattern: str, event: str) -> bool:
    """Return whether an event matches; one that its envelope takes over the limit matches nothing."""
    from helpers import eventbridge

    try:
        return eventbridge.matches(pattern, event)
    except eventbridge.InvalidEvent:
        return False


def problem_of(pattern: str) -> str | None:
    """Return AWS's words for why it refuses a pattern, None for one that it takes, and for none at all."""
    from helpers import eventbridge

    try:
        if pattern:
            eventbridge.parse(pattern)
    except eventbridge.InvalidPattern as error:
        return error.what
    return None
