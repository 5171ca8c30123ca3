"""How a fleet is run: how many at once, how many may fail, a canary first and then waves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from helpers.aws.errors import RunbookError

Item = TypeVar("Item")
NUMBER = re.compile(r"([0-9]+)(%?)")


@dataclass(frozen=True)
class Limits:
    """`concurrency` and `errors` are numbers or shares of all ("10", "25%"); so are the sizes of the canary and the waves.

    A fleet stops when more than `errors` runs have failed, and after a canary in which any has. Shares are rounded
    down, as Systems Manager does; a share of runs at once, of a canary or of a wave is at least one.
    https://docs.aws.amazon.com/systems-manager/latest/userguide/running-automations-scale-controls.html
    """

    concurrency: str
    errors: str
    canary: str = "0"
    waves: tuple[str, ...] = ()

    def at_once(self, total: int) -> int:
        """The most runs at the same time."""
        return max(1, _count(self.concurrency, total))

    def errors_of(self, total: int) -> int:
        """How many may fail before nothing more is begun."""
        return _count(self.errors, total)

    def split(self, items: Sequence[Item]) -> list[tuple[str, Sequence[Item]]]:
        """The items in the order in which they may run: `canary`, `wave 1`, ..., each begun when the one before has ended."""
        rest = list(items)
        parts: list[tuple[str, Sequence[Item]]] = []
        sizes = [("canary", _count(self.canary, len(items), least=1)), *((f"wave {n}", _count(size, len(items), least=1)) for n, size in enumerate(self.waves, 1))]
        for name, size in sizes:
            if size and rest:
                parts.append((name, rest[:size]))
                rest = rest[size:]
        if rest:
            parts.append((f"wave {len(self.waves) + 1}" if parts else "all", rest))
        return parts


def checked(limits: Limits) -> Limits:
    """The limits, where every number is one. Raises `RunbookError` that names what is not."""
    told = {"--max-concurrency": [limits.concurrency], "--max-errors": [limits.errors], "--canary": [limits.canary], "--waves": list(limits.waves)}
    for option, texts in told.items():
        for text in texts:
            found = NUMBER.fullmatch(text)
            if not found or found[2] and int(found[1]) > 100:
                raise RunbookError(f"{option} {text} is neither a number nor a share up to 100%.", "Write 5 or 10%.")
    if limits.concurrency in {"0", "0%"}:
        raise RunbookError("--max-concurrency 0 would run nothing.", "Write 1 or more.")
    return limits


def _count(text: str, total: int, least: int = 0) -> int:
    number = int(text.rstrip("%"))
    if not text.endswith("%"):
        return number
    return max(least, number * total // 100) if number else 0
