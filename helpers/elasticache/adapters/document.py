"""The endpoint inside a text: plain `host:port`, one key of a JSON object, or its keys `host` and `port`.

A change touches the endpoint's own characters and nothing else: other keys, their order, numbers and blanks
stay byte for byte, which reading and writing the JSON anew would not keep.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from helpers.elasticache.adapters.setting import NOT_SHOWN, shown, split_endpoint

BLANK = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True)
class _Member:
    """A member of a JSON object: its value, and where that begins and ends in the text."""

    value: Any
    begin: int
    end: int


def endpoint_in(text: str, key: str) -> str:
    """The endpoint that `text` holds, or in parentheses why it holds none; nothing else of the text."""
    members = _members(text)
    if key and members is None:
        return "(no JSON object)"
    if key and key not in members:
        return f"(JSON without the key {key!r})"
    if key:
        found = members[key].value
    elif members is None:
        found = text.strip()
    elif {"host", "port"} <= members.keys():
        found = f"{members['host'].value}:{members['port'].value}"
    else:
        return "(JSON without the keys host and port: name the one key that holds host:port as #key)"
    return shown(found) if isinstance(found, str) else NOT_SHOWN


def with_endpoint(text: str, key: str, endpoint: str) -> str:
    """`text` with another endpoint where `endpoint_in` finds one."""
    members = _members(text)
    if members is None:
        return text.replace(text.strip(), endpoint)
    if key:
        return _replaced(text, (members[key], json.dumps(endpoint)))
    host, port = split_endpoint(endpoint)
    number = isinstance(members["port"].value, int) and port.isdigit()
    return _replaced(text, (members["host"], json.dumps(host)), (members["port"], port if number else json.dumps(port)))


def _replaced(text: str, *changes: tuple[_Member, str]) -> str:
    for member, new in sorted(changes, key=lambda change: change[0].begin, reverse=True):
        text = text[: member.begin] + new + text[member.end :]
    return text


def _members(text: str) -> dict[str, _Member] | None:
    """The members of the JSON object that `text` is; None where it is no JSON object."""
    try:
        if not isinstance(json.loads(text), dict):
            return None
    except ValueError:
        return None
    found, decoder = {}, json.JSONDecoder()
    at = _over_blanks(text, text.index("{") + 1)
    while text[at] != "}":
        name, at = decoder.raw_decode(text, at)
        at = _over_blanks(text, _over_blanks(text, at) + 1)  # the colon
        value, end = decoder.raw_decode(text, at)
        found[name] = _Member(value, at, end)
        at = _over_blanks(text, end)
        if text[at] == ",":
            at = _over_blanks(text, at + 1)
    return found


def _over_blanks(text: str, at: int) -> int:
    return BLANK.match(text, at).end()
