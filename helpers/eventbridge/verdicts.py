"""What rules make of the events that arrived: who matches, why the others do not, and the corrected pattern."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from helpers.aws import RunbookError
from helpers.eventbridge.causes import Arrived
from helpers.eventbridge.debug_rule import Debug, Removed
from helpers.eventbridge.explain import Explanation, explain
from helpers.eventbridge.lint import lint
from helpers.eventbridge.preview import preview
from helpers.eventbridge.rules import Rule
from helpers.eventbridge.slack import amplify_message
from helpers.eventbridge.survey import Survey, pattern_check

AMPLIFY = "aws.amplify"
NOTHING = "no event is known before the apply"


def verdicts(rules: Iterable[Rule], events: Sequence[str]) -> pd.DataFrame:
    """One row a rule with a pattern: how many of the events it matches, and what keeps the nearest one out."""
    rows = [(rule.name, rule.state, *_verdict(rule.pattern, events)) for rule in rules if rule.pattern]
    return pd.DataFrame(rows, columns=["rule", "state", "matches", "why the nearest other event does not match"])


def _verdict(pattern: str, events: Sequence[str]) -> tuple[str, str]:
    if not events:
        return "", NOTHING
    told = [explain(pattern, event) for event in events]
    missed = [one for one in told if not one.matched]
    return f"{len(told) - len(missed)} of {len(told)}", _why(min(missed, key=_distance)) if missed else ""


def _distance(told: Explanation) -> tuple[int, int]:
    """How far an event is from a pattern: the fields that keep it out, then how much there is to tell of the change that lets it in."""
    failures = min(sum(not row.passed for row in rows) for rows in told.alternatives)
    return failures, len(told.change.sentence) if told.change else 0


def _why(told: Explanation) -> str:
    rows = min(told.alternatives, key=lambda rows: sum(not row.passed for row in rows))
    return (
        "; ".join(f"{row.path}: {row.hint or f'{row.found} is not {row.test}'}" for row in rows if not row.passed)
        or told.verdict
    )


def traps(rules: Iterable[Rule]) -> pd.DataFrame:
    """What is dangerous in the patterns of rules, whatever the event: rule, path, finding, remedy."""
    found = [lint(rule.pattern).assign(rule=rule.name) for rule in rules if rule.pattern]
    rows = [(one.rule, one.path, one.finding, one.remedy) for frame in found for one in frame.itertuples()]
    return pd.DataFrame(rows or [("all rules", "", "none found", "")], columns=["rule", "path", "trap", "remedy"])


def nearest(pattern: str, events: Sequence[str]) -> Explanation | str:
    """The explanation of the event that comes nearest to the pattern without matching; of the first one where all match; words where there is none."""
    if not events:
        return NOTHING
    told = [explain(pattern, event) for event in events]
    return min((one for one in told if not one.matched), key=_distance, default=told[0])


def corrected(debug: Debug, rule: Rule, events: Sequence[str]) -> str:
    """The pattern that the rule should have: `correction` as given, or the smallest change that explain proposes.

    Copies were sent on purpose, so every one of them is to match. Of replayed and real events a rule rightly leaves most
    alone: there it is changed only where it matches none, and so that the nearest one matches. Raises `RunbookError`
    where EventBridge would not take the result.
    """
    if debug.correction == "none" or not (debug.correction or events):
        return rule.pattern
    pattern = debug.correction or _proposed(rule.pattern, events, every=debug.cause == "copy")
    check = pattern_check("the corrected pattern", pattern)
    if check.outcome == "fail":
        raise RunbookError(f"The corrected pattern: {check.found}", check.remedy)
    return pattern


def _proposed(pattern: str, events: Sequence[str], *, every: bool) -> str:
    if not every:
        told = [explain(pattern, event) for event in events]
        change = None if any(one.matched for one in told) else min(told, key=_distance).change
        return change.text if change else pattern
    for event in events:
        change = explain(pattern, event).change
        pattern = change.text if change else pattern
    return pattern


def before_and_after(rule: Rule, pattern: str, events: Sequence[str]) -> pd.DataFrame:
    """The rule's pattern now and corrected, each with how many of the events it matches."""
    rows = [(name, one, _verdict(one, events)[0]) for name, one in (("now", rule.pattern), ("corrected", pattern))]
    return pd.DataFrame(rows, columns=["pattern", "text", "matches"])


@dataclass(frozen=True)
class Previews:
    """What each target of a rule would get, by target."""

    shown: tuple[tuple[str, Any], ...]

    def _repr_html_(self) -> str:
        return "".join(
            f"<h4>{html.escape(name)}</h4>{one._repr_html_() if hasattr(one, '_repr_html_') else f'<p>{html.escape(one)}</p>'}"
            for name, one in self.shown
        )

    def __str__(self) -> str:
        return "\n".join(f"{name}\n{one}" for name, one in self.shown)


def transformed(found: Survey, events: Sequence[str]) -> Previews:
    """What the targets of the rule under debug would get of the event that comes nearest to its pattern; of Amplify's, where no target has a transformer, also a message for Slack."""
    if not events:
        return Previews((("", NOTHING),))
    rule, event = found.rule, min(events, key=lambda one: _distance(explain(found.rule.pattern, one)))
    names = {"rule_name": rule.name, "rule_arn": rule.arn}
    targets = [one for one in found.targets if one.rule == rule.name]
    shown = [
        (
            f"{one.id}: {one.arn}",
            preview(one.input_paths or {}, one.template, event, target=one.id, **names)
            if one.template
            else f"It gets {one.sends}.",
        )
        for one in targets
    ]
    if not any(one.template for one in targets) and json.loads(event)["source"] == AMPLIFY:
        shown.append(
            (
                "A message for Slack, as an input transformer could make it",
                preview(*amplify_message("foo"), event, **names),
            )
        )
    return Previews(tuple(shown))


def measured(arrived: Arrived, removed: Removed, found: Survey, events: Sequence[str], pattern: str) -> dict[str, Any]:
    """The numbers of a run: events that arrived, after how many seconds, how many match before and now, what was removed and what is left."""
    count = {
        name: sum(explain(one, event).matched for event in events)
        for name, one in (("matched_before", found.rule.pattern), ("matched_now", pattern))
    }
    return {
        "events_arrived": len(events),
        "arrived_after_s": arrived.seconds,
        **count,
        "things_removed": len(removed.things),
        "left_behind": removed.left,
    }
