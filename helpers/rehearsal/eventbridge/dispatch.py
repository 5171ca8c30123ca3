"""Take an event to the archives of its bus, and to the rules that match it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from helpers.rehearsal.eventbridge import archives, delivery, engine, metrics


def install(loop: asyncio.AbstractEventLoop) -> None:
    """Put this module's way in the place of MiniStack's; everything happens in the loop, one event after the other."""
    from ministack.services import eventbridge

    theirs = eventbridge._invoke_target

    def invoke_target(target: dict[str, Any], event: dict[str, Any], rule: dict[str, Any], view: Any = None) -> None:
        # EventBridge Scheduler comes this way too, with a schedule for the rule.
        of_a_rule = ":events:" in rule.get("Arn", "")
        if of_a_rule and delivery.service_of(target) in delivery.OURS:
            delivery.deliver(target, engine.text_of(event), rule)
            return
        if of_a_rule:
            metrics.count(rule, "Invocations")
        theirs(target, event, rule, view)

    eventbridge._dispatch_event = _within(loop, dispatch)
    # MiniStack asks for this beside some dispatches and not beside others (those of S3); here it belongs to all.
    eventbridge._archive_event = lambda *_: None
    eventbridge._invoke_target = _within(loop, invoke_target)


def dispatch(event: dict[str, Any], view: Any = None) -> None:
    """Take an event, as MiniStack keeps it, to the archives and to the targets of every enabled rule that matches it.

    A replayed event is not archived again. Source: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-archive.html
    """
    from ministack.services import eventbridge

    if not event.get("ReplayName"):
        archives.record(event)
    text = engine.text_of(event)
    for key, rule in list(eventbridge._rules.items()):
        if not _concerned(key, rule, event) or not engine.matches(rule["EventPattern"], text):
            continue
        metrics.count(rule, "MatchedEvents", "TriggeredRules")
        for target in list(eventbridge._targets.get(key, [])):
            eventbridge._invoke_target(target, event, rule, view)


def _concerned(key: str, rule: dict[str, Any], event: dict[str, Any]) -> bool:
    """Return whether a rule looks at an event at all: of its bus, not one it has forwarded, and asked for by a replay."""
    asked = _filter_of_replay(event)
    return (
        rule["EventBusName"] == event.get("EventBusName", "default")
        and rule["State"].startswith("ENABLED")
        and bool(rule.get("EventPattern"))
        and key not in event.get("_DispatchPath", [])
        and (not asked or rule["Arn"] in asked)
    )


def _filter_of_replay(event: dict[str, Any]) -> list[str]:
    """Return the ARNs of the rules that a replay is for; [] for all, and for an event that is not replayed."""
    from ministack.services import eventbridge

    replay = eventbridge._replays.get(event.get("ReplayName")) if event.get("ReplayName") else None
    return replay["Destination"].get("FilterArns") or [] if replay else []


def _within(loop: asyncio.AbstractEventLoop, work: Callable[..., None]) -> Callable[..., None]:
    """Return the work as one that runs in the loop's thread, at once where that calls, else as its next step."""
    own = threading.current_thread()

    def run(*arguments: Any) -> None:
        if threading.current_thread() is own:
            work(*arguments)
        else:
            loop.call_soon_threadsafe(work, *arguments)

    return run
