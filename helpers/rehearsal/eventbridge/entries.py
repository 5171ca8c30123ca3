"""Accept events: the entries of PutEvents, and whole ones as AWS services emit them."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from helpers.rehearsal.eventbridge import archives

MAX_ENTRIES = 10
# All entries of a request together.
# Source: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html#eb-putevent-size
MAX_BYTES = 1024 * 1024
TIME_BYTES = 14
REQUIRED = ("Source", "DetailType", "Detail")


def put(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Accept the entries that AWS accepts; returns what PutEvents answers, with the errors in their places."""
    results = []
    for entry in entries:
        problem = _problem_of(entry)
        if problem is None:
            accept(record := _record_of(entry))
            results.append({"EventId": record["EventId"]})
        else:
            results.append({"ErrorCode": problem[0], "ErrorMessage": problem[1]})
    return {"FailedEntryCount": sum("ErrorCode" in result for result in results), "Entries": results}


def emit(events: Sequence[Mapping[str, Any]], *, bus: str = "default", past: bool = False) -> None:
    """Accept events as they arrive at targets, of any source; `past` ones are in the archives only, no rule sees them.

    An event needs source, detail-type and detail; the rest is made up where it is missing.
    """
    for event in events:
        accept(_record_of_event(event, bus), past=past)


def accept(record: dict[str, Any], *, past: bool = False) -> None:
    """Take an event, as MiniStack keeps it, to the archives of its bus, and unless it is `past` to the rules."""
    from ministack.services import eventbridge

    eventbridge._ensure_default_bus()
    if past:
        archives.record(record)
    else:
        eventbridge._dispatch_event(record)


def size_of(entry: Mapping[str, Any]) -> int:
    """Return the size of an entry of PutEvents in bytes, as EventBridge counts it."""
    texts = [entry.get(name, "") for name in REQUIRED] + list(entry.get("Resources") or [])
    return (TIME_BYTES if "Time" in entry else 0) + sum(len(text.encode()) for text in texts)


def _problem_of(entry: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the error code and message of an entry that AWS does not accept."""
    for name in REQUIRED:
        if not entry.get(name):
            return "InvalidArgument", f"Parameter {name} is not valid. Reason: {name} is a required argument."
    if entry["Source"].startswith("aws."):
        return "NotAuthorizedForSourceException", "Not authorized for the source."
    return None if _is_object(entry["Detail"]) else ("MalformedDetail", "Detail is malformed.")


def _is_object(detail: str) -> bool:
    """Return whether a detail is a JSON object; NaN and the like are no JSON."""
    from helpers.eventbridge.transformers import load_json

    try:
        return isinstance(load_json(detail), dict)
    except ValueError:
        return False


def _record_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    from ministack.core.responses import get_account_id, get_region

    return {
        "EventId": str(uuid.uuid4()),
        "Source": entry["Source"],
        "DetailType": entry["DetailType"],
        "Detail": entry["Detail"],
        "EventBusName": str(entry.get("EventBusName") or "default").rpartition("event-bus/")[2],
        "Time": int(entry.get("Time") or time.time()),
        "Resources": entry.get("Resources") or [],
        "Account": get_account_id(),
        "Region": get_region(),
    }


def _record_of_event(event: Mapping[str, Any], bus: str) -> dict[str, Any]:
    entry = {
        "Source": event["source"],
        "DetailType": event["detail-type"],
        "Detail": json.dumps(event["detail"]),
        "EventBusName": bus,
        "Resources": event.get("resources"),
    }
    if "time" in event:
        entry["Time"] = datetime.fromisoformat(event["time"]).timestamp()
    given = {name: event[key] for name, key in (("EventId", "id"), ("Account", "account"), ("Region", "region")) if key in event}
    return {**_record_of(entry), **given}
