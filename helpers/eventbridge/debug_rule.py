"""A temporary debug rule with its sink: what is asked of it, attached, and removed without a trace."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import pandas as pd

from helpers.aws import Aws, RunbookError, effect, planning
from helpers.aws.errors import is_not_found
from helpers.eventbridge.leftovers import TARGET, Leftover, debug_name, leftovers_table, of_run, remove_all
from helpers.eventbridge.rules import DEFAULT_BUS
from helpers.eventbridge.sinks import arn_of, dated_tags, ensure_sink, log_group_name


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
class Removed:
    """What was removed, and that a listing afterwards had none of it."""

    things: tuple[Leftover, ...]
    left: int

    def table(self) -> pd.DataFrame:
        """One row a thing, and what the listing says."""
        return leftovers_table(self.things).assign(
            now="to be removed" if planning() else "gone: it is not listed any more"
        )


def from_parameters(run_id: str, created: float, parameters: dict[str, Any]) -> Debug:
    """The `Debug` that the notebook's parameters ask for."""
    names = [one for one in Debug.__dataclass_fields__ if one not in ("run_id", "created", "bus")]
    return Debug(
        run_id=run_id, created=created, bus=parameters["event_bus"], **{name: parameters[name] for name in names}
    )


def copied_source(source: str) -> str:
    """The source that a copy of an event has: PutEvents refuses `aws.*`, so it is `custom.*`."""
    return f"custom.{source.removeprefix('aws.')}" if source.startswith("aws.") else source


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
