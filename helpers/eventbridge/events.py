"""Events exactly as AWS's engine reads them: number literals kept, every value of a repeated key, the place in each array."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from helpers.aws import RunbookError
from helpers.eventbridge.tokens import (
    ARRAY,
    END_ARRAY,
    END_OBJECT,
    MAX_DEPTH,
    MAX_NAME,
    MAX_NUMBER,
    NAME,
    NUMBER,
    OBJECT,
    STRING,
    BadJson,
    Tokens,
)

MAX_EVENT = 1_048_576  # bytes; https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html: an entry is under 1 MB
ENVELOPE = frozenset(
    ("id", "source", "detail-type", "account", "time", "region")
)  # what EventBridge itself puts around `detail`


class InvalidEvent(RunbookError):
    """An event that EventBridge cannot match: no JSON, no object, or over the limit."""


@dataclass(frozen=True)
class Value:
    """A scalar of an event: `text` as the engine holds it (a string with its quotes, else the literal), and where it stands
    in the arrays around it, as pairs of an array's number and the index in it."""

    text: str
    places: tuple[tuple[int, int], ...] = ()


class Literal(str):
    """A number as it is written."""


class Members(tuple):
    """The fields of an object: pairs of name and value, a name possibly more than once."""


_DECODER = json.JSONDecoder(
    object_pairs_hook=Members, parse_float=Literal, parse_int=Literal, parse_constant=lambda name: int(name)
)
_LONG_NUMBER = re.compile(f"[0-9]{{{MAX_NUMBER // 3}}}")  # of its three parts, one has as many digits
_WORDS = {True: "true", False: "false", None: "null"}


def as_text(event: str | bytes | Mapping[str, Any]) -> str:
    """The JSON text of an event. Raises `InvalidEvent` where it has none, or is over the limit."""
    if isinstance(event, bytes | bytearray):
        try:
            text = bytes(event).decode()
        except UnicodeDecodeError as error:
            raise InvalidEvent(
                f"The event is not UTF-8: {error.reason} at byte {error.start}.", "Encode it as UTF-8."
            ) from error
    elif isinstance(event, str):
        text = event
    else:
        try:
            text = json.dumps(event, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidEvent(
                f"The event cannot be written as JSON: {error}.",
                "Use dicts, lists, strings, numbers, booleans and None.",
            ) from error
    if len(text) * 4 > MAX_EVENT and (size := len(text.encode(errors="surrogatepass"))) > MAX_EVENT:
        raise InvalidEvent(
            f"The event has {size:,} bytes; EventBridge takes entries under {MAX_EVENT:,}.",
            "Put the data into S3 and its place into the event.",
        )
    return text


def tree(text: str) -> Members:
    """The event's JSON object, its objects as `Members` and its numbers as `Literal`. Raises `InvalidEvent`."""
    try:
        found, _ = _DECODER.raw_decode(text.lstrip(" \t\r\n"))
        if _may_exceed(text):
            _check_limits(found)
    except (ValueError, RecursionError):
        found = _tree(text)
    if not isinstance(found, Members):
        raise InvalidEvent(
            "Event must be a JSON object", 'Pass the whole event: {"source": ..., "detail-type": ..., "detail": {...}}.'
        )
    return found


def fields(found: Members, steps: Collection[str] | None = None) -> dict[str, list[Value]]:
    """The scalars of an event by dotted path. With `steps`, only what the names lead to that a pattern uses.

    Objects and arrays are no values; an empty array or object leaves nothing.
    """
    paths: dict[str, list[Value]] = {}
    arrays = 0
    waiting: list[tuple[Any, str | None, tuple[tuple[int, int], ...]]] = [(found, None, ())]
    while waiting:
        node, path, places = waiting.pop()
        if type(node) is Members:
            for name, value in reversed(node):
                if steps is None or name in steps or ("." in name and all(step in steps for step in split(name))):
                    waiting.append((value, name if path is None else f"{path}.{name}", places))
        elif type(node) is list:
            inside = [
                (child, path, (*places, (arrays, at)) if type(child) in (Members, list) else places)
                for at, child in enumerate(node)
            ]
            waiting.extend(reversed(inside))
            arrays += 1
        else:
            paths.setdefault(path or "", []).append(Value(held(node), places))
    return paths


def held(scalar: Any) -> str:
    """A scalar as the engine holds it: `"x"`, `3.0e2`, `true`, `null`."""
    if isinstance(scalar, Literal):
        return str(scalar)
    return f'"{scalar}"' if isinstance(scalar, str) else _WORDS[scalar]


def split(path: str) -> list[str]:
    """The steps of a dotted path as Java splits it: empty ones at the end fall away."""
    steps = path.split(".")
    while len(steps) > 1 and not steps[-1]:
        steps.pop()
    return steps if steps != [""] or path == "" else []


def has_envelope(found: Members) -> bool:
    """True of an event that has the fields of a delivered one."""
    return ENVELOPE.issubset(name for name, _ in found)


def _may_exceed(text: str) -> bool:
    """True where a text could be beyond a limit of AWS's parser that Python's does not have."""
    if text.count("[") + text.count("{") > MAX_DEPTH or len(text) > MAX_NAME:
        return True
    return len(text) > MAX_NUMBER and _LONG_NUMBER.search(text) is not None


def _check_limits(found: Any) -> None:
    """Raise `ValueError` for what only Python's parser lets pass."""
    level, depth = [found], 0
    while level:
        depth += any(type(node) in (Members, list) for node in level)
        below: list[Any] = []
        for node in level:
            if type(node) is Members:
                below.extend(value for _, value in node)
                if any(len(name) > MAX_NAME for name, _ in node):
                    raise ValueError("name")
            elif type(node) is list:
                below.extend(node)
            elif type(node) is Literal and len(node) > MAX_NUMBER:
                raise ValueError("number")
        level = below
    if depth > MAX_DEPTH:
        raise ValueError("depth")


def _tree(text: str) -> Any:
    """The event read token by token: slower, of any depth, and with AWS's message where it is no JSON."""
    found = Tokens(text)
    stack: list[tuple[str, list[Any]]] = []
    try:
        while True:
            kind = found.advance()
            if kind in (OBJECT, ARRAY):
                stack.append((kind, []))
                continue
            if kind == NAME:
                stack[-1][1].append(found.text)
                continue
            value: Any
            if kind in (END_OBJECT, END_ARRAY):
                opened, items = stack.pop()
                value = items if opened == ARRAY else Members(zip(items[::2], items[1::2], strict=True))
            else:
                value = _scalar(kind, found.text)
            if not stack:
                return value
            stack[-1][1].append(value)
    except BadJson as error:
        raise InvalidEvent(f"The event is not JSON: {error}", "Look for a missing quote, comma or bracket.") from None


def _scalar(kind: str, text: str) -> Any:
    if kind == STRING:
        return text
    return Literal(text) if kind == NUMBER else {"true": True, "false": False}.get(kind)
