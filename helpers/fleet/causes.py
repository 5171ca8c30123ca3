"""Errors of many runs, grouped by cause: the same sentence about different targets is one cause with one remedy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from helpers.fleet.record import NEVER, Outcome

PARTS = re.compile(r"^(?P<what>.*?)(?: Remedy: (?P<remedy>.*?))?(?: \(request id [^)]*\))?$", re.DOTALL)
# What differs from one run to the next and says nothing about the cause: ids, ARNs, paths, times, numbers.
CHANGING = (re.compile(r"arn:[\w:/.*@+=,-]+"), re.compile(r"(?<![\w./-])/[\w./@+-]*"), re.compile(r"\b[\w.-]*\d{6,}[\w.-]*\b"), re.compile(r"\b(?:fs|fsmt|fsap|i|sg|subnet|vpc|eni)-[0-9a-f]{8,17}\b"), re.compile(r"\b\d+(?:\.\d+)?\b"))
ELSE = "…"


@dataclass(frozen=True)
class Cause:
    """Why some runs did not end well: the sentence, what to do, and whom it concerns."""

    what: str
    remedy: str
    outcomes: tuple[Outcome, ...]


def split(error: str) -> tuple[str, str]:
    """An error's sentence and its remedy, without the request id."""
    found = PARTS.match(" ".join(error.split()))
    return (found["what"], found["remedy"] or "") if found else (error, "")


def causes(outcomes: Sequence[Outcome]) -> list[Cause]:
    """The causes, the most frequent first; a cause of one run keeps its own words."""
    groups: dict[str, list[Outcome]] = {}
    for one in outcomes:
        if not one.good and one.status != NEVER:
            groups.setdefault(_general(one), []).append(one)
    found = []
    for general, members in groups.items():
        what, remedy = split(members[0].error or members[0].status)
        found.append(Cause(what if len({split(one.error)[0] for one in members}) == 1 else general, _without(remedy, members[0]) if len(members) > 1 else remedy, tuple(members)))
    return sorted(found, key=lambda cause: -len(cause.outcomes))


def _general(outcome: Outcome) -> str:
    """The sentence without what is this target's alone."""
    text = _without(split(outcome.error or outcome.status)[0], outcome)
    for pattern in CHANGING:
        text = pattern.sub(ELSE, text)
    return text


def _without(text: str, outcome: Outcome) -> str:
    own = [outcome.run_id, *(value for value in outcome.target.values.values() if isinstance(value, str) and len(value) > 3), outcome.target.resource, outcome.target.account]
    for value in sorted({one for one in own if one}, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", ELSE, text)
    return text
