"""Traps of a pattern: what is valid and yet rarely meant, each with its remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import Any

import pandas as pd

from helpers.eventbridge import patterns, values
from helpers.eventbridge.complexity import complexity
from helpers.eventbridge.matching import dropped, java_order
from helpers.eventbridge.patterns import InvalidPattern, Pattern, Test

# https://docs.aws.amazon.com/eventbridge/latest/ref/overiew-event-structure.html; a replay adds its name
TOP_LEVEL = (
    "version",
    "id",
    "detail-type",
    "source",
    "account",
    "time",
    "region",
    "resources",
    "detail",
    "replay-name",
)
STRINGS = frozenset(TOP_LEVEL) - {"detail"}
NEAR_LIMIT = 8  # of a complexity of 10, above which AWS refuses
COLUMNS = ["path", "finding", "remedy"]
Finding = tuple[str, str, str]  # path, finding, remedy


def lint(pattern: str | bytes | Mapping[str, Any]) -> pd.DataFrame:
    """The traps of a pattern, a row each: path, finding, remedy. Empty where there is none; an invalid pattern is one finding.

    Source of the operators that Pipes lacks: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-pipes-event-filtering.html
    """
    try:
        parsed = patterns.parse(pattern)
    except InvalidPattern as error:
        return pd.DataFrame([("", f"AWS refuses the pattern: {error.what}", error.remedy)], columns=COLUMNS)
    return pd.DataFrame(list(dict.fromkeys(_findings(parsed))), columns=COLUMNS)


def _findings(pattern: Pattern) -> Iterator[Finding]:
    if pattern.or_fault:
        yield (
            "$or",
            f"$or is taken for the name of a field: {pattern.or_fault}",
            'Write two objects or more: {"$or": [{...}, {...}]}.',
        )
    for path in pattern.overwritten:
        yield (
            path,
            "The field is written more than once; the last list counts, also inside $or.",
            "Write it once, or once in each object of $or.",
        )
    for number in dropped(pattern):
        if not any(_covers(earlier, pattern.alternatives[number]) for earlier in pattern.alternatives[:number]):
            finding = f"Alternative {number + 1} shares values with an earlier one; AWS's engine takes it for the same and never matches its others."
            yield "$or", finding, "Give alternatives values that do not overlap, or put all values into one list."
    for rule in pattern.alternatives:
        for path, tests in rule.items():
            yield from _name(path)
            yield from _tests(path, tests)
        yield from _absent(rule)


def _covers(wide: Mapping[str, tuple[Test, ...]], narrow: Mapping[str, tuple[Test, ...]]) -> bool:
    return wide.keys() == narrow.keys() and all(set(narrow[path]) <= set(wide[path]) for path in wide)


def _name(path: str) -> Iterator[Finding]:
    """Names that no event of EventBridge has."""
    top = path.split(".")[0]
    if top in (*TOP_LEVEL, "$or"):
        return
    close = difflib.get_close_matches(
        top.lower().replace("_", "-").replace("detailtype", "detail-type"), TOP_LEVEL, n=1, cutoff=0.8
    )
    finding = f"Events have no field {top} beside source and detail."
    yield (
        path,
        finding,
        f"Write {close[0]}." if close else f"What an application sends stands under detail: detail.{path}.",
    )


def _tests(path: str, tests: tuple[Test, ...]) -> Iterator[Finding]:
    for test in tests:
        yield from _test(path, test)
    kinds = {test.kind for test in tests}
    addresses, numbers = kinds & {"address", "cidr"}, kinds & {"number", "numeric", "anything-but-number"}
    if addresses and numbers:
        yield (
            path,
            "A field with a numeric test never matches addresses.",
            "Test them in two alternatives of $or that begin with other fields.",
        )
    elif addresses and kinds - {"address", "cidr", "exists"}:
        yield (
            path,
            "Beside an address, the other tests miss every value that is an address.",
            "Name addresses by cidr, or leave them out.",
        )
    found = complexity(patterns.wildcards(tests))
    if found >= NEAR_LIMIT:
        yield (
            path,
            f"The wildcards have a complexity of {found}; AWS refuses above {patterns.MAX_COMPLEXITY}.",
            "Use fewer *, or a prefix or a suffix.",
        )


def _test(path: str, test: Test) -> Iterator[Finding]:
    if test.kind == "address":
        finding = f"{test.source} looks like an IP address and is matched as one, in any spelling."
        yield path, finding, f'For the very string write {{"exactly": {test.source}}}.'
    if test.kind == "number" and values.number(test.value) is None:
        yield (
            path,
            f"No double holds {test.value}: it matches only where the event has the same digits.",
            "Send long numbers as strings.",
        )
    if test.kind == "exact" and isinstance(test.value, str):
        yield from _string(path, test)
    if path in STRINGS and (
        test.kind in ("number", "numeric") or (test.kind == "exact" and not isinstance(test.value, str))
    ):
        yield (
            path,
            f"{path} is always a string, so {test.source} never passes.",
            f'Write "{test.value}".' if test.kind == "number" else "Test a string.",
        )
    if path == "detail":
        yield path, "detail is an object; tests see scalars only.", 'Test a field in it: {"detail": {"state": [...]}}.'
    if test.kind == "wildcard" or (test.kind.startswith("anything-but-") and test.kind != "anything-but-number"):
        yield (
            path,
            f"EventBridge Pipes lacks {test.source}.",
            "In a pipe's filter, list the values, or use a prefix or a suffix.",
        )


def _string(path: str, test: Test) -> Iterator[Finding]:
    lower = test.value.lower()
    if path == "source" and lower.startswith("aws.") and lower != test.value:
        yield (
            path,
            f"{test.source} never passes: matching is case-sensitive, and AWS's sources are lower case.",
            f'Write "{lower}".',
        )
    if "*" in test.value:
        yield path, f"The * in {test.source} is a plain character.", f'Write {{"wildcard": {test.source}}}.'


def _absent(rule: Mapping[str, tuple[Test, ...]]) -> Iterator[Finding]:
    """`exists: false` that is decided before any other field of the same object: in an array it asks about every element."""
    for path, tests in rule.items():
        if not any(test.kind == "exists" and not test.value for test in tests):
            continue
        beside = sorted((other for other in rule if len(_shared(path, other)) > 1), key=java_order)
        if beside[1:] and beside[0] == path:
            around = ".".join(_shared(path, beside[1]))
            finding = f"exists: false is decided before {beside[1]}, in alphabetical order: if {around} is an array, it asks about every element."
            yield path, finding, "Test a field of the element that sorts before it, or its absence in the target."


def _shared(path: str, other: str) -> list[str]:
    """The steps around both fields."""
    pairs = zip(path.split(".")[:-1], other.split(".")[:-1], strict=False)
    return [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]
