"""The smallest change of a pattern that makes it match an event, proven by matching before it is offered."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

from helpers.eventbridge.events import InvalidEvent, Value
from helpers.eventbridge.matching import matches
from helpers.eventbridge.patterns import InvalidPattern, Test

TRIES = 60  # combinations of edits that are tried
MANY = 20  # values of a field that are looked at
Edit = Callable[[dict[str, Any]], bool]


@dataclass(frozen=True)
class Change:
    """A changed pattern, as a Python object, that matches the event, and what was changed, in a sentence."""

    pattern: dict[str, Any]
    sentence: str

    @property
    def text(self) -> str:
        """The changed pattern as JSON."""
        return json.dumps(self.pattern, ensure_ascii=False)


@dataclass(frozen=True)
class Failing:
    """A path whose tests fail: what the event has there, and the path that is probably meant."""

    path: str
    tests: tuple[Test, ...]
    found: list[Value]
    similar: str | None
    similar_found: list[Value]


def smallest_change(text: str, event: Any, failing: list[Failing]) -> Change | None:
    """The first verified combination of one edit a failing path, small edits first; None where none makes it match."""
    try:
        edits = [list(_edits(one)) for one in failing]
        for chosen in islice(product(*edits), TRIES):
            pattern = json.JSONDecoder().raw_decode(text.strip())[0]
            if all(edit(pattern) for _, edit in chosen) and _works(pattern, event):
                return Change(pattern, "; ".join(sentence for sentence, _ in chosen) + ".")
    except RecursionError:  # a pattern nested hundreds of levels deep
        return None
    return None


def _works(pattern: dict[str, Any], event: Any) -> bool:
    try:
        return matches(pattern, event)
    except (InvalidPattern, InvalidEvent):
        return False


def _edits(one: Failing) -> Iterator[tuple[str, Edit]]:
    """The edits that may mend a path, the smallest first: a sentence, and a function of the pattern that says whether it applied."""
    found = list(dict.fromkeys(value.text for value in one.found))
    for at, test in enumerate(one.tests):
        for text in found[:MANY]:
            mended = _mended(test, text)
            if mended is not None:
                yield f"Write {_json(mended)} for {test.source} in {one.path}", _edit(one, at, mended)
    if one.similar and not found:
        yield f"Write {one.similar} for {one.path}", lambda pattern: _rename(pattern, one, [])
        for text in list(dict.fromkeys(value.text for value in one.similar_found))[:3]:
            sentence = f"Write {one.similar} for {one.path} and add {_json(_python(text))}"
            yield sentence, lambda pattern, text=text: _rename(pattern, one, [_python(text)])
    if found and not any(test.kind == "exists" for test in one.tests):
        for text in found[:3]:
            yield f"Add {_json(_python(text))} to {one.path}", _edit(one, len(one.tests), _python(text))
    yield f"Leave {one.path} out", _edit(one, None, None)
    for at, test in enumerate(one.tests):
        if test.kind == "exists":
            yield (
                f"Write {Test('exists', not test.value).source} in {one.path}",
                _edit(one, at, {"exists": not test.value}),
            )
    if not found:
        yield f'Add {{"exists": false}} to {one.path}', _edit(one, len(one.tests), {"exists": False})


def _mended(test: Test, text: str) -> Any:
    """The test as it must be written for a value that it misses by case, white space, quotes or being shut out; else None."""
    if test.kind in ("exact", "number") and _bare(str(_python(text))) == _bare(
        test.value if test.kind == "number" else _word(test.value)
    ):
        return _python(text)
    if test.kind in ("prefix", "suffix") and text.startswith('"'):
        return {test.kind: {"equals-ignore-case": test.value}}
    if test.kind in ("anything-but", "anything-but-number"):
        left = [one for one in test.value if one != (text[1:-1] if text.startswith('"') else text)]
        written = left if test.kind == "anything-but" else [json.loads(one) for one in left]
        return {"anything-but": written} if left and len(left) < len(test.value) else None
    return None


def _bare(text: str) -> str:
    return text.strip().casefold()


def _word(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _python(text: str) -> Any:
    """A value of an event as a Python object."""
    return text[1:-1] if text.startswith('"') else json.loads(text)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _places(node: dict[str, Any], path: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Where a pattern has the list of a path: the object around it and its name there, in every branch of an `$or`."""
    for name, value in node.items():
        if name == "$or" and isinstance(value, list):
            for branch in value:
                if isinstance(branch, dict):
                    yield from _places(branch, path)
        elif isinstance(value, list) and name == path:
            yield node, name
        elif isinstance(value, dict) and path.startswith(f"{name}."):
            yield from _places(value, path[len(name) + 1 :])


def _edit(one: Failing, at: int | None, value: Any) -> Edit:
    """Write a value at a place of a path's list, at its end too; without a place, leave the path out."""

    def apply(pattern: dict[str, Any]) -> bool:
        holder, name = _holder(pattern, one)
        if holder is None:
            return False
        if at is None:
            del holder[name]
            _prune(pattern)
        else:
            holder[name][at : at + 1] = [value]
        return bool(pattern)

    return apply


def _holder(pattern: dict[str, Any], one: Failing) -> tuple[dict[str, Any] | None, str]:
    """The first object that has the list of a path, which is as long as its tests are many."""
    return next(
        ((holder, name) for holder, name in _places(pattern, one.path) if len(holder[name]) == len(one.tests)),
        (None, ""),
    )


def _rename(pattern: dict[str, Any], one: Failing, more: list[Any]) -> bool:
    """Move the list of a path to the path that is meant, with `more`."""
    holder, name = _holder(pattern, one)
    if holder is None or "$or" in pattern:
        return False
    listed = holder.pop(name)
    _prune(pattern)
    node: Any = pattern
    *around, last = (one.similar or "").split(".")
    for step in around:
        node = node.setdefault(step, {})
        if not isinstance(node, dict):
            return False
    if last in node:
        return False
    node[last] = [*listed, *more]
    return True


def _prune(node: dict[str, Any]) -> None:
    """Take out empty lists, and objects that have become empty."""
    for name in list(node):
        if isinstance(node[name], dict):
            _prune(node[name])
        if node[name] in ({}, []):
            del node[name]
