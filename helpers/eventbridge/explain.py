"""Why an event matches a pattern or not: each field with its tests, what the event has there, and the near miss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd

from helpers.eventbridge import events, hints, patterns
from helpers.eventbridge.changes import Change, Failing, smallest_change
from helpers.eventbridge.events import Value
from helpers.eventbridge.matching import accepts, java_order, matches
from helpers.eventbridge.patterns import Pattern, Test

DEEPEST = 50  # steps of a path that the tree shows one below the other
COLUMNS = ["path", "test", "found", "passed", "hint"]


@dataclass(frozen=True)
class Row:
    """One field of one alternative: its dotted path, its tests and the event's values as text, whether it passes, and a hint."""

    path: str
    test: str
    found: str
    passed: bool
    hint: str


@dataclass(frozen=True)
class Explanation:
    """What `explain` found: whether it matches, the fields of each alternative, and the smallest change that would match."""

    matched: bool
    alternatives: tuple[tuple[Row, ...], ...]
    change: Change | None

    @property
    def rows(self) -> pd.DataFrame:
        """A row a field: path, test, found, passed, hint. With `$or` the index numbers the alternatives, one of which must pass whole."""
        rows = [(row.path, row.test, row.found, row.passed, row.hint) for rows in self.alternatives for row in rows]
        numbers = [number for number, rows in enumerate(self.alternatives, 1) for _ in rows]
        index = pd.Index(numbers, name="alternative") if len(self.alternatives) > 1 else None
        return pd.DataFrame(rows, columns=COLUMNS, index=index)

    @property
    def verdict(self) -> str:
        """One sentence: it matches, or how many fields fail."""
        if self.matched:
            return "The event matches."
        failed = min((sum(not row.passed for row in rows), len(rows)) for rows in self.alternatives)
        if not failed[0]:
            return "The event does not match: alternatives that begin with the same field change how each other read its values."
        where = f" of the nearest of {len(self.alternatives)} alternatives" if len(self.alternatives) > 1 else ""
        fields, fail = "fields" if failed[1] > 1 else "field", "fails" if failed[0] == 1 else "fail"
        return f"The event does not match: {failed[0]} of {failed[1]} {fields}{where} {fail}."

    def __str__(self) -> str:
        lines = [self.verdict]
        for number, rows in enumerate(self.alternatives, 1):
            if len(self.alternatives) > 1:
                lines.append(f"alternative {number}")
            lines.extend(_lines(_tree(rows)))
        if self.change:
            lines += [f"Smallest change: {self.change.sentence}", f"  {self.change.text}"]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        parts = [f"<p><b>{escape(self.verdict)}</b></p>"]
        for number, rows in enumerate(self.alternatives, 1):
            if len(self.alternatives) > 1:
                parts.append(f"<p>alternative {number}</p>")
            parts.append(_list(_tree(rows)))
        if self.change:
            parts.append(f"<p>Smallest change: {escape(self.change.sentence)}</p><pre>{escape(self.change.text)}</pre>")
        return "".join(parts)


def explain(pattern: str | bytes | Mapping[str, Any], event: str | bytes | Mapping[str, Any]) -> Explanation:
    """Explain whether and why an event matches a pattern; `.matched` is what `matches` says.

    Raises `InvalidPattern` for a pattern that AWS refuses, with AWS's text, a remedy, and in `corrected` the valid
    pattern that is probably meant: `{"source": ["aws.amplify"]}` for `{"source": "aws.amplify"}`. Raises `InvalidEvent`.
    """
    text = patterns.as_text(pattern)
    event_text = events.as_text(event)
    matched = matches(text, event_text)
    parsed = patterns.parse(text, limits=False)
    seen = _Seen(event_text)
    explained = [_alternative(rule, seen) for rule in parsed.alternatives]
    change = None
    if not matched:
        nearest = min((failing for _, failing in explained), key=len)
        change = smallest_change(text, event_text, nearest)
    return Explanation(matched, tuple(rows for rows, _ in explained), change)


class _Seen:
    """An event, flattened once: its scalars, and its objects and arrays, by dotted path."""

    def __init__(self, text: str) -> None:
        found = events.tree(text)
        self.scalars = events.fields(found)
        self.containers = hints.names(found)


def _alternative(rule: Mapping[str, tuple[Test, ...]], seen: _Seen) -> tuple[tuple[Row, ...], list[Failing]]:
    """The rows of one alternative, and its failing paths. A path passes if it does together with those before it that pass."""
    passed: dict[str, tuple[Test, ...]] = {}
    rows: dict[str, Row] = {}
    failing: list[Failing] = []
    for path in sorted(rule, key=java_order):
        together = {**passed, path: rule[path]}
        passes = accepts(Pattern("", (together,)), seen.scalars)
        if passes:
            passed = together
        found = seen.scalars.get(path, [])
        similar = None if found or passes else hints.similar_path(path, seen.containers, seen.scalars)
        hint = "" if passes else _hint(rule[path], path, seen, similar)
        if not passes:
            failing.append(Failing(path, rule[path], found, similar, seen.scalars.get(similar or "", [])))
        rows[path] = Row(
            path, f"[{', '.join(test.source for test in rule[path])}]", _found(path, found, seen), passes, hint
        )
    return tuple(rows[path] for path in rule), failing


def _hint(tests: tuple[Test, ...], path: str, seen: _Seen, similar: str | None) -> str:
    found = seen.scalars.get(path, [])
    if accepts(Pattern("", ({path: tests},)), seen.scalars):
        return "it passes alone, but in another element of an array than the fields before it"
    if not found:
        return hints.missing(path, seen.containers, similar)
    if path in seen.containers and seen.containers[path][0] == "array":
        return hints.near_miss(tests, found) + (" (values of an array)" if len(found) > 1 else "")
    return hints.near_miss(tests, found)


def _found(path: str, found: list[Value], seen: _Seen) -> str:
    """The values of a path as text: `"aws.s3"`, `1, 2`, `{appId, branchName}`, or `-` where there is nothing."""
    if found:
        return hints.listed([value.text for value in found])
    if path not in seen.containers:
        return "-"
    kind, inside = seen.containers[path]
    return f"{{{hints.listed(inside)}}}" if kind == "object" else "[]"


def _tree(rows: tuple[Row, ...]) -> dict[str, Any]:
    """The rows by the steps of their paths."""
    tree: dict[str, Any] = {}
    for row in rows:
        *around, last = row.path.split(".") if row.path.count(".") < DEEPEST else [row.path]
        node = tree
        for step in around:
            node = node.setdefault((step, "object"), {})
        node[(last, "field")] = row
    return tree


def _lines(tree: dict[Any, Any], indent: str = "") -> list[str]:
    lines: list[str] = []
    for at, ((name, _), node) in enumerate(tree.items()):
        last = at == len(tree) - 1
        branch, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
        lines.append(f"{indent}{branch}{_label(name, node)}")
        if isinstance(node, dict):
            lines += _lines(node, indent + below)
    return lines


def _label(name: str, node: Any) -> str:
    if isinstance(node, dict):
        return name
    hint = f"  <- {node.hint}" if node.hint else ""
    return f"{'✓' if node.passed else '✗'} {name} {node.test}: {node.found}{hint}"


def _list(tree: dict[Any, Any]) -> str:
    items = [
        f"<li>{escape(_label(name, node))}{_list(node) if isinstance(node, dict) else ''}</li>"
        for (name, _), node in tree.items()
    ]
    return f'<ul style="list-style: none">{"".join(items)}</ul>'
