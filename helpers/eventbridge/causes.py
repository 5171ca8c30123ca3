"""Events for a debug rule, caused in three ways, and read from its sink: copies sent, an archive replayed, real ones awaited."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from helpers.aws import Aws, RunbookError, WaitFailed, effect, planning, wait
from helpers.aws.effects import note, recall
from helpers.aws.errors import is_not_found
from helpers.eventbridge.debug_rule import Attached, Debug, copied_source
from helpers.eventbridge.sinks import SinkReader, arn_of

ENTRIES = 10  # of one PutEvents call
ENTRY_LIMIT = 1_000_000  # bytes of all entries of a call; https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevent-size.html
SEND_AGAIN = 20.0  # seconds after which a copy is sent again: a new rule may need up to a minute until it matches
A_DAY = datetime.timedelta(days=1)
KEPT = 1000  # events of a run; the journal holds them
SHOWN = 20  # of them in a table
QUIET = 3.0  # seconds without a new event that end the reading of a replay


@dataclass(frozen=True)
class Arrived:
    """The events that the sink got, as JSON text by time, and how long the first took (seconds); in a plan those to be sent."""

    events: tuple[str, ...]
    seconds: float
    note: str = ""

    def table(self) -> pd.DataFrame:
        """One row an event: its envelope, then every field of `detail` as `detail.name`."""
        return pd.DataFrame({"events": [self.note]}) if self.note and not self.events else unfolded(self.events)


def undo_cause(aws: Aws, debug: Debug) -> None:
    """Nothing: events cannot be called back. That they were sent is forgotten, so that a resumed run sends them again."""
    note("sent", [])


@effect(undo=undo_cause)
def cause_event(aws: Aws, debug: Debug, attached: Attached, events: Sequence[str]) -> Arrived:
    """Cause events (send copies of `events`, start the replay, or wait for real ones) and read what the sink gets.

    Raises `WaitFailed` where nothing, or not everything that was sent, arrives in `wait_seconds`.
    """
    if debug.cause == "replay":
        _start_replay(aws, debug)
    if planning():
        sent = _send(aws, debug, events) if debug.cause == "copy" else []
        return Arrived(tuple(events), 0.0) if sent else Arrived((), 0.0, "not known before the apply")
    reader, started = SinkReader(aws, debug.sink, debug.name, debug.log_group, attached.since), time.monotonic()
    arrived = {"copy": _copies, "replay": _replayed, "real": _real}[debug.cause](aws, debug, reader, events)
    in_order = sorted(arrived, key=lambda event: json.loads(event).get("time", ""))
    return Arrived(tuple(in_order[:KEPT]), round(time.monotonic() - started, 1))


def _copies(aws: Aws, debug: Debug, reader: SinkReader, events: Sequence[str]) -> list[str]:
    """The copies that arrived: all of them, of the last sending."""
    sent, last = recall("sent") or _send(aws, debug, events), time.monotonic()

    def state() -> str:
        nonlocal sent, last
        missing = set(sent) - {json.loads(event)["id"] for event in reader.read()}
        if missing and time.monotonic() - last > SEND_AGAIN:
            sent, last = _send(aws, debug, events), time.monotonic()
        return f"{len(missing)} of {len(sent)} not there yet" if missing else "all there"

    _wait_for(debug, state, "all there")
    arrived = {json.loads(event)["id"]: event for event in reader.read()}
    return [arrived[one] for one in sent]


def _replayed(aws: Aws, debug: Debug, reader: SinkReader, events: Sequence[str]) -> list[str]:
    """The replayed events: until the replay is over and nothing more comes."""
    seen, last = 0, time.monotonic()

    def state() -> str:
        nonlocal seen, last
        found, replay = len(reader.read()), aws.client("events").describe_replay(ReplayName=debug.name)
        if found != seen:
            seen, last = found, time.monotonic()
        if replay["State"] in ("FAILED", "CANCELLED"):
            raise WaitFailed(
                f"The replay {debug.name} ended as {replay['State']}: {replay.get('StateReason', '')}",
                "Start a new run.",
            )
        return (
            "all there"
            if found and replay["State"] == "COMPLETED" and time.monotonic() - last > QUIET
            else f"{replay['State']}, {found} so far"
        )

    _wait_for(debug, state, "all there")
    return reader.read()


def _real(aws: Aws, debug: Debug, reader: SinkReader, events: Sequence[str]) -> list[str]:
    """Events as their service emits them: as many as are wanted."""

    def state() -> str:
        found = len(reader.read())
        return "all there" if found >= debug.events_wanted else f"{found} of {debug.events_wanted} so far"

    _wait_for(debug, state, "all there")
    return reader.read()


def _wait_for(debug: Debug, state: Any, end: str) -> None:
    try:
        wait(f"events in the sink of {debug.name}", state, until=(end,), timeout=debug.wait_seconds)
    except WaitFailed as error:
        remedy = f"Cause an event and resume the run, which waits on; or remove the debug rule: `runbook cleanup {debug.run_id} --yes`."
        raise WaitFailed(
            f"{error.what} The debug rule listens to {debug.pattern}.",
            error.remedy if "replay" in error.what else remedy,
        ) from error


def _send(aws: Aws, debug: Debug, events: Sequence[str]) -> list[str]:
    """Send copies of events, `aws.*` as `custom.*`; returns their ids, which are noted for a resumed run."""
    sent = []
    for entries in _batches([_entry(debug, json.loads(event)) for event in events]):
        answer = aws.client("events").put_events(Entries=entries)
        refused = [one for one in answer["Entries"] if one.get("ErrorCode")]
        if refused:
            raise RunbookError(
                f"PutEvents refused {len(refused)} of {len(entries)} events with {refused[0]['ErrorCode']}: {refused[0].get('ErrorMessage', '')}",
                "Mend the parameter `event`.",
            )
        sent += [one["EventId"] for one in answer["Entries"]] if not planning() else ["planned"]
    note("sent", sent)
    return sent


def _entry(debug: Debug, event: dict[str, Any]) -> dict[str, Any]:
    detail = json.dumps(event["detail"], ensure_ascii=False)
    return {
        "Source": copied_source(event["source"]),
        "DetailType": event["detail-type"],
        "Detail": detail,
        "Resources": event.get("resources", []),
        "EventBusName": debug.bus,
    }


def entry_size(event: dict[str, Any]) -> int:
    """The bytes that a PutEvents entry of the event counts.

    Source: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevent-size.html
    """
    texts = [
        copied_source(event["source"]),
        event["detail-type"],
        json.dumps(event["detail"], ensure_ascii=False),
        *event.get("resources", []),
    ]
    return sum(len(text.encode()) for text in texts)


def _batches(entries: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Entries in lots that one PutEvents call takes."""
    lots: list[list[dict[str, Any]]] = [[]]
    for entry in entries:
        size = sum(len(json.dumps(one)) for one in lots[-1]) + len(json.dumps(entry))
        if lots[-1] and (len(lots[-1]) == ENTRIES or size > ENTRY_LIMIT):
            lots.append([])
        lots[-1].append(entry)
    return lots


def _start_replay(aws: Aws, debug: Debug) -> None:
    """Replay the archive to the debug rule alone, unless that has been started: the real targets do not see the events again."""
    events = aws.client("events")
    try:
        events.describe_replay(ReplayName=debug.name)
        return
    except Exception as error:
        if not is_not_found(error):
            raise
    begin, end = replay_window(debug)
    bus = arn_of(aws, "events", f"event-bus/{debug.bus}")
    archive = events.describe_archive(ArchiveName=debug.archive)["ArchiveArn"]
    events.start_replay(
        ReplayName=debug.name,
        EventSourceArn=archive,
        EventStartTime=begin,
        EventEndTime=end,
        Destination={"Arn": bus, "FilterArns": [debug.arn(aws)]},
    )


def replay_window(debug: Debug) -> tuple[datetime.datetime, datetime.datetime]:
    """From when to when events are replayed: as asked, or the day before the run began. Raises `RunbookError` for what is no ISO time."""
    end = _time(debug.replay_to) or datetime.datetime.fromtimestamp(int(debug.created), datetime.UTC)
    return _time(debug.replay_from) or end - A_DAY, end


def _time(text: str) -> datetime.datetime | None:
    if not text:
        return None
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise RunbookError(f"{text!r} is no time.", "Write it as 2026-11-24T09:00:00Z.") from error
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)


def originals(debug: Debug, arrived: Arrived) -> tuple[str, ...]:
    """The events as the rule under debug would get them: a copy with the source that it is a copy of."""
    if debug.cause != "copy":
        return arrived.events
    return tuple(_with_source(event, debug.source) for event in arrived.events)


def as_delivered(arrived: Arrived) -> pd.DataFrame:
    """The first event, whole and letter by letter as the sink got it."""
    return pd.DataFrame(
        {"the first event as it was delivered": [arrived.events[0] if arrived.events else arrived.note]}
    )


def _with_source(event: str, source: str) -> str:
    found = json.loads(event)
    return (
        json.dumps({**found, "source": source}, ensure_ascii=False)
        if found["source"] == copied_source(source)
        else event
    )


def unfolded(events: Sequence[str]) -> pd.DataFrame:
    """Events as a table, one row each: the envelope without version, account and resources, then `detail` field by field; the first 20."""
    rows = []
    for text in events[:SHOWN]:
        event = json.loads(text)
        envelope = {name: event[name] for name in ("time", "source", "detail-type", "region") if name in event}
        rows.append({**envelope, **_fields("detail", event.get("detail"))})
    more = [{"time": f"and {len(events) - SHOWN} more"}] if len(events) > SHOWN else []
    return pd.DataFrame(rows + more).fillna("")


def _fields(path: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict) and value:
        return {name: found for key, item in value.items() for name, found in _fields(f"{path}.{key}", item).items()}
    return {path: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}
