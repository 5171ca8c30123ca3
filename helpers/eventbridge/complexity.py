"""How complex a wildcard is: the count by which AWS refuses a rule with too many of them.

Source: https://github.com/aws/event-ruler#machine-complexity-evaluation: the greatest number of beginnings of the wildcards
that one value can match at once. `*ab` counts 2 (`*` and `*ab`), `*a*a*a*a*a` counts 10. The wildcards of an anything-but count
as much, but a beginning that several of them share counts once.
"""

from __future__ import annotations

import re
from collections.abc import Collection

MAX_SETS = 2_000  # sets of beginnings looked at; far fewer reach any count of interest
_ELEMENT = re.compile(rb"\\([*\\])|(.)", re.DOTALL)


def complexity(tests: Collection[Collection[str]]) -> int:
    """The complexity of the tests of one field together, each as its wildcards: one, or those of an anything-but."""
    accept, stars, loops, starts, counted, offset = {b"": 0}, 0, 0, 0, 0, 0
    for wildcards in dict.fromkeys(map(tuple, tests)):
        seen: set[bytes] = set()
        for wildcard in dict.fromkeys(wildcards):
            starts |= 1 << offset
            text = f'"{wildcard}"'.encode(errors="replace")
            for element in _ELEMENT.finditer(text):
                byte = element.group(1) or element.group(2)
                if element.group() == b"*":
                    stars |= 1 << offset
                    loops |= 2 << offset
                else:
                    accept[byte] = accept.get(byte, 0) | 1 << offset
                offset += 1
                if (beginning := text[: element.end()]) not in seen:
                    seen.add(beginning)
                    counted |= 1 << offset
            offset += 1
    return _most(accept, stars, loops, starts, counted)


def _most(accept: dict[bytes, int], stars: int, loops: int, starts: int, counted: int) -> int:
    """The greatest number of beginnings at once. Each is a bit: `accept` has those that a byte leads on from, `stars` those
    before a `*`, `loops` those behind one, `starts` the empty ones, `counted` those that count."""
    waiting, seen, most = [starts], {starts}, 0
    while waiting and len(seen) < MAX_SETS:
        now = waiting.pop()
        for accepting in accept.values():
            then = (now & accepting) << 1 | now & loops
            then |= (then & stars) << 1
            if then not in seen:
                seen.add(then)
                waiting.append(then)
                most = max(most, (then & counted).bit_count())
    return most
