"""Hints: why a value missed a test by a hair, as one sentence a field."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from helpers.eventbridge import values
from helpers.eventbridge.events import Members, Value, held
from helpers.eventbridge.patterns import Test

MANY = 2_000  # names that are compared
SHOWN = 5  # values or names that a sentence lists


def names(found: Members) -> dict[str, tuple[str, list[str]]]:
    """The objects and arrays of an event by dotted path: `object` or `array`, and the names inside. The whole event is ``."""
    containers: dict[str, tuple[str, dict[str, None]]] = {}
    waiting: list[tuple[Any, str]] = [(found, "")]
    while waiting:
        node, path = waiting.pop()
        if isinstance(node, Members):
            containers.setdefault(path, ("object", {}))[1].update((name, None) for name, _ in node)
            waiting.extend((value, f"{path}.{name}" if path else name) for name, value in node)
        elif isinstance(node, list):
            containers.setdefault(path, ("array", {}))
            waiting.extend((child, path) for child in node)
    return {path: (kind, list(inside)) for path, (kind, inside) in containers.items()}


def similar_path(path: str, containers: Mapping[str, tuple[str, list[str]]], scalars: Iterable[str]) -> str | None:
    """The path of the event that a missing path probably means: `detail.state` for `details.state` or for `state`."""
    known = dict.fromkeys(scalars)
    steps, taken = path.split("."), ""
    for at, step in enumerate(steps):
        joined = f"{taken}.{step}" if taken else step
        if joined not in known and joined not in containers:
            close = _close(step, containers.get(taken, ("", []))[1])
            other = ".".join([*([taken] if taken else []), close, *steps[at + 1 :]]) if close else ""
            if other and (other in known or other in containers):
                return other
            break
        taken = joined
    ends = [one for one in known if one.split(".")[-1] == steps[-1] and one != path]
    return ends[0] if len(ends) == 1 else None


def _close(step: str, there: list[str]) -> str | None:
    folded = {name.casefold(): name for name in there[:MANY]}
    found = difflib.get_close_matches(step.casefold(), folded, n=1, cutoff=0.75)
    return folded[found[0]] if found else None


def missing(path: str, containers: Mapping[str, tuple[str, list[str]]], similar: str | None) -> str:
    """Why a path has no value."""
    if path in containers:
        kind, inside = containers[path]
        if kind == "array" and not inside:
            return (
                "an empty array has no value to test"
                if path in containers and not similar
                else f"an array; the values are in {similar}"
            )
        return f"an object where a scalar is needed: name one of its fields ({listed(inside)})"
    if similar:
        return f"the event has no {path}; it has {similar}"
    parent = path.rpartition(".")[0]
    while parent and parent not in containers:
        parent = parent.rpartition(".")[0]
    inside = containers.get(parent, ("object", []))[1]
    return (
        f"the field is missing; {parent or 'the event'} has {listed(inside)}"
        if inside
        else f"the field is missing; {parent or 'the event'} is no object with fields"
    )


def near_miss(tests: tuple[Test, ...], found: list[Value]) -> str:
    """Why none of the values passes any of the tests."""
    texts = list(dict.fromkeys(value.text for value in found))[:20]
    sentences = [sentence for test in tests for text in texts if (sentence := _pair(test, text))]
    if sentences:
        return sentences[0]
    if any(test.kind in ("address", "cidr") for test in tests) and any(_is_address(text) for text in texts):
        return "an address in the list makes the engine read every address as one: its string tests miss it"
    shown = listed(texts)
    if all(test.kind in ("exact", "number", "address") for test in tests):
        return f"{shown} is not in the list" if len(texts) == 1 else f"none of {shown} is in the list"
    return f"{shown} passes no test" if len(texts) == 1 else f"none of {shown} passes a test"


def _is_address(text: str) -> bool:
    return text.startswith('"') and values.digits(text[1:-1]) is not None


def _pair(test: Test, text: str) -> str:
    """The near miss of one value and one test, or nothing."""
    string = text[1:-1] if text.startswith('"') else None
    if test.kind in ("exact", "number", "address"):
        return _scalar(test, text, string)
    if test.kind == "exists":
        return f"the field must be absent, and it is there: {text}" if not test.value else ""
    if test.kind == "numeric":
        return _numeric(test, text, string)
    if test.kind.startswith("anything-but"):
        return f"{text} is one of the values shut out"
    if test.kind == "cidr":
        return _cidr(test, string)
    if string is None:
        return f"{test.kind} reads strings only; the event has {text} without quotes"
    return _string(test, string)


def _scalar(test: Test, text: str, string: str | None) -> str:
    wanted = held(test.value) if test.kind == "exact" else test.value
    if test.kind == "address":
        wanted = f'"{test.value}"'
    bare = wanted[1:-1] if wanted.startswith('"') else None
    if bare is not None and bare != string and string is not None:
        if bare.casefold() == string.casefold():
            return f"case differs: the event has {text}, the pattern {wanted}"
        if bare.strip() == string.strip():
            return f"white space differs: the event has {text}, the pattern {wanted}"
        if bare and (string.startswith(bare) or string.endswith(bare)):
            verb, noun = ("begins", "prefix") if string.startswith(bare) else ("ends", "suffix")
            return f"{text} {verb} with {wanted}: that is a {noun}"
        if "*" in bare:
            return f'a * is a character here; a wildcard is {{"wildcard": {wanted}}}'
        return ""
    if bare is not None and bare == text:
        return f"the event has {_kind(text)} {text}, the pattern the string {wanted}: write it without quotes"
    if string is not None and string == wanted:
        return f"the event has the string {text}, the pattern {_kind(wanted)} {wanted}: write it with quotes"
    return ""


def _kind(text: str) -> str:
    return {"true": "the boolean", "false": "the boolean", "null": "the null"}.get(text, "the number")


def _numeric(test: Test, text: str, string: str | None) -> str:
    shown = " and ".join(f"{operator} {literal}" for operator, literal in test.value)
    if string is not None:
        return f"numeric reads numbers only; the event has the string {text}"
    if text[0] not in "-0123456789":
        return f"numeric reads numbers only; the event has {text}"
    return (
        f"{text} is not {shown}"
        if values.number(text) is not None
        else f"no double holds {text}, so no numeric test passes"
    )


def _cidr(test: Test, string: str | None) -> str:
    if string is None or values.digits(string) is None:
        return "cidr reads addresses only" if string is None else f'"{string}" is no IP address'
    return f'"{string}" is not in {test.value}'


def _string(test: Test, string: str) -> str:
    wanted, folded, have = test.value, test.value.casefold(), string.casefold()
    operator = test.kind.removesuffix("-equals-ignore-case")
    fits = {
        "prefix": have.startswith(folded) and not string.startswith(wanted),
        "suffix": have.endswith(folded) and not string.endswith(wanted),
    }.get(operator, False)
    if test.kind == operator and fits:
        return f'case differs: the event has "{string}", the {operator} is "{wanted}"'
    return ""


def listed(items: list[str]) -> str:
    """The first few items, and how many more there are."""
    rest = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(one if len(one) <= 60 else one[:57] + "..." for one in items[:SHOWN]) + rest
