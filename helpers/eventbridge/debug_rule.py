"""A temporary debug rule: attached with its sink, fed with events, read, removed; and the rule under debug corrected."""

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
from helpers.eventbridge.leftovers import TARGET, Leftover, debug_name, leftovers_table, of_run, remove_all
from helpers.eventbridge.matching import matches
from helpers.eventbridge.rules import DEFAULT_BUS, Rule, describe_rule, put_pattern
from helpers.eventbridge.sinks import SinkReader, arn_of, dated_tags, ensure_sink, log_group_name

ENTRIES = 10  # of one PutEvents call
ENTRY_LIMIT = 1_000_000  # bytes of all entries of a call; https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevent-size.html
SEND_AGAIN = 20.0  # seconds after which a copy is sent again: a new rule may need up to a minute until it matches
A_DAY = datetime.timedelta(days=1)
KEPT = 1000  # events of a run; the journal holds them
SHOWN = 20  # of them in a table
TESTED = 10  # matching events, and as many others, that TestEventPattern is asked about
QUIET = 3.0  # seconds without a new event that end the reading of a replay


@dataclass(frozen=True)
class Debug:
    """What is asked of a run: the parameters of the notebook, and when the run began (unix seconds)."""

    run_id: str
    created: float
    bus: str
    rule: str
    source: str
    sink: str
    cause: str
    debug_pattern: str
    event: str
    archive: str
    replay_from: str
    replay_to: str
    log_group: str
    correction: str
    events_wanted: int
    wait_seconds: float
    keep_hours: float

    @property
    def name(self) -> str:
        """The name of everything the run makes."""
        return debug_name(self.run_id)

    @property
    def pattern(self) -> str:
        """The debug rule's pattern: as given, or everything of the source; a copy's source is `custom.*`."""
        return self.debug_pattern or json.dumps(
            {"source": [copied_source(self.source) if self.cause == "copy" else self.source]}
        )

    def arn(self, aws: Aws) -> str:
        """The debug rule's ARN."""
        return arn_of(aws, "events", f"rule/{self.name}" if self.bus == DEFAULT_BUS else f"rule/{self.bus}/{self.name}")


@dataclass(frozen=True)
class Attached:
    """The debug rule with its sink, and from when on (unix seconds) the sink is read."""

    name: str
    pattern: str
    target: str
    expires: str
    since: float

    def table(self) -> pd.DataFrame:
        """What was made: rule, pattern, sink, expiry."""
        rows = [
            ("debug rule", self.name),
            ("pattern", self.pattern),
            ("sends to", self.target),
            ("tagged to expire", self.expires),
        ]
        return pd.DataFrame(rows, columns=["", "made"])


@dataclass(frozen=True)
class Arrived:
    """The events that the sink got, as JSON text by time, and how long the first took (seconds); in a plan those to be sent."""

    events: tuple[str, ...]
    seconds: float
    note: str = ""

    def table(self) -> pd.DataFrame:
        """One row an event: its envelope, then every field of `detail` as `detail.name`."""
        return pd.DataFrame({"events": [self.note]}) if self.note and not self.events else unfolded(self.events)


@dataclass(frozen=True)
class Removed:
    """What was removed, and that a listing afterwards had none of it."""

    things: tuple[Leftover, ...]
    left: int

    def table(self) -> pd.DataFrame:
        """One row a thing, and what the listing says."""
        return leftovers_table(self.things).assign(
            now="to be removed" if planning() else "gone: it is not listed any more"
        )


@dataclass(frozen=True)
class Corrected:
    """A rule's pattern before and now, how many of the events it matches, and on how many of those tested AWS's own TestEventPattern says the same."""

    rule: str
    before: str
    now: str
    matched: int
    of: int
    tested: int
    agreed: int

    def table(self) -> pd.DataFrame:
        """Before, now, the matches, and AWS's word on it."""
        said = "not asked in a plan" if planning() else f"says the same of {self.agreed} of {self.tested} events"
        rows = [
            ("pattern before", self.before),
            ("pattern now", self.now),
            ("matches", f"{self.matched} of {self.of} events"),
            ("TestEventPattern", said),
        ]
        return pd.DataFrame(rows, columns=["", self.rule])


def from_parameters(run_id: str, created: float, parameters: dict[str, Any]) -> Debug:
    """The `Debug` that the notebook's parameters ask for."""
    names = [one for one in Debug.__dataclass_fields__ if one not in ("run_id", "created", "bus")]
    return Debug(
        run_id=run_id, created=created, bus=parameters["event_bus"], **{name: parameters[name] for name in names}
    )


def copied_source(source: str) -> str:
    """The source that a copy of an event has: PutEvents refuses `aws.*`, so it is `custom.*`."""
    return f"custom.{source.removeprefix('aws.')}" if source.startswith("aws.") else source


# -- attach and remove -----------------------------------------------------------------------------------


def detach(aws: Aws, debug: Debug) -> None:
    """Remove the debug rule and its sink."""
    remove_all(aws, _made(debug) if planning() else of_run(aws, debug.run_id))


@effect(undo=detach)
def attach(aws: Aws, debug: Debug) -> Attached:
    """Make the sink and the debug rule that sends to it, each unless it is there; all tagged with the run's id and an expiry."""
    events, since, tags = aws.client("events"), time.time(), dated_tags(debug.run_id, debug.keep_hours)
    target = (
        arn_of(aws, "logs", f"log-group:{debug.log_group}")
        if debug.log_group
        else ensure_sink(aws, debug.sink, debug.name, debug.arn(aws), tags)
    )
    try:
        events.describe_rule(Name=debug.name, EventBusName=debug.bus)
    except Exception as error:
        if not is_not_found(error):
            raise
        events.put_rule(
            Name=debug.name, EventBusName=debug.bus, EventPattern=debug.pattern, State="ENABLED", Tags=[{"Key": name, "Value": value} for name, value in tags.items()],
            Description=f"Temporary: shows what arrives, for run {debug.run_id}. `runbook cleanup` removes it.",
        )  # fmt: skip
    refused = events.put_targets(Rule=debug.name, EventBusName=debug.bus, Targets=[{"Id": TARGET, "Arn": target}])[
        "FailedEntries"
    ]
    if refused:
        raise RunbookError(
            f"The debug rule cannot send to {target}: {refused[0].get('ErrorMessage', refused[0].get('ErrorCode'))}.",
            "Choose another sink.",
        )
    return Attached(debug.name, debug.pattern, target, tags["runbook-expires"], since)


@effect()
def remove(aws: Aws, debug: Debug) -> Removed:
    """Remove everything that the run made, and list again to prove it."""
    things = _made(debug) if planning() else of_run(aws, debug.run_id)
    remove_all(aws, things)
    return Removed(tuple(things), 0 if planning() else len(of_run(aws, debug.run_id)))


def _made(debug: Debug) -> list[Leftover]:
    """What `attach` makes, in the order it is removed."""
    rule, group = Leftover("rule", debug.name, debug.bus), Leftover("log group", log_group_name(debug.sink, debug.name))
    kinds = {
        "sqs": [Leftover("queue", debug.name)],
        "logs": [] if debug.log_group else [group],
        "lambda": [Leftover("function", debug.name), Leftover("role", debug.name), group],
    }
    return [rule, *kinds[debug.sink]]


# -- cause an event, and read what arrives ------------------------------------------------------------------


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


# -- what arrived -----------------------------------------------------------------------------------------


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


# -- correct -----------------------------------------------------------------------------------------------


def undo_correct(aws: Aws, rule: Rule, pattern: str) -> None:
    """Give the rule its old pattern back."""
    now = describe_rule(aws, rule.bus, rule.name).pattern
    if now == pattern:
        put_pattern(aws, rule, rule.pattern)
    elif now != rule.pattern and not planning():
        raise _changed_meanwhile(rule, now)


@effect(undo=undo_correct)
def correct(aws: Aws, rule: Rule, pattern: str, events: Sequence[str]) -> Corrected:
    """Give the rule the corrected pattern, unless somebody changed it meanwhile, and ask AWS's own TestEventPattern about it."""
    now = describe_rule(aws, rule.bus, rule.name).pattern
    if now not in (rule.pattern, pattern):
        raise _changed_meanwhile(rule, now)
    if now != pattern:
        put_pattern(aws, rule, pattern)
    told = [matches(pattern, event) for event in events]
    asked = [] if planning() else [place for answer in (True, False) for place in _places(told, answer)]
    agreed = sum(
        aws.client("events").test_event_pattern(EventPattern=pattern, Event=events[place])["Result"] == told[place]
        for place in asked
    )
    return Corrected(rule.name, rule.pattern, pattern, sum(told), len(events), len(asked), agreed)


def _places(told: list[bool], answer: bool) -> list[int]:
    """Where the first few events of one answer are."""
    return [place for place, one in enumerate(told) if one is answer][:TESTED]


def _changed_meanwhile(rule: Rule, now: str) -> RunbookError:
    return RunbookError(
        f"The pattern of {rule.name} is {now}: somebody changed it meanwhile, so it is left alone.",
        "Look who did, and start a new run.",
    )
