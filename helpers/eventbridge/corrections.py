"""What an invalid pattern probably means: the scalar that should be a list, the operator outside its list, quotes of Python."""

from __future__ import annotations

import ast
import difflib
import json
import warnings
from collections.abc import Iterator
from typing import Any

OPERATORS = (
    "prefix",
    "suffix",
    "equals-ignore-case",
    "wildcard",
    "anything-but",
    "exists",
    "numeric",
    "cidr",
    "exactly",
)


def guesses(text: str) -> Iterator[Any]:
    """Patterns as Python objects that the text may mean, the likeliest first; none of them need be valid."""
    try:
        found = _read(text)
        if isinstance(found, dict):
            yield found
            yield _mended(found)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python does not know
            return ast.literal_eval(text.strip())


def _mended(node: dict[str, Any]) -> dict[str, Any]:
    """The object with each scalar in a list, and each operator in one."""
    return {name: _mended_list(value) if name == "$or" else _mended_value(value) for name, value in node.items()}


def _mended_list(value: Any) -> Any:
    return [_mended(one) if isinstance(one, dict) else one for one in value] if isinstance(value, list) else value


def _mended_value(value: Any) -> Any:
    if isinstance(value, dict):
        return [_operator(value)] if len(value) == 1 and _known(next(iter(value))) else _mended(value)
    if isinstance(value, list):
        flat = [one for item in value for one in (item if isinstance(item, list) else [item])]
        return [_operator(one) if isinstance(one, dict) and len(one) == 1 else one for one in flat]
    return [value]


def _known(name: str) -> str | None:
    close = difflib.get_close_matches(str(name).lower().replace("_", "-"), OPERATORS, n=1, cutoff=0.85)
    return close[0] if close else None


def _operator(expression: dict[str, Any]) -> dict[str, Any]:
    name, value = next(iter(expression.items()))
    return {_known(name) or name: value}
