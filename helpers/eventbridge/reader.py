"""Read events in machine code: which value each wanted field has, as a number, and where a tree of such values leads.

The code is in `helpers.eventbridge.machine_code`, which needs numba and is loaded only when it is asked for.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ABSENT = 0  # the number of the value of a field that an event does not have
UNSURE, STUCK = 0, -1  # what becomes of a line beside a terminal: it is not settled here; a step of the tree is not known yet
PLAIN, BEYOND_ASCII = 1, 2  # states of a line that is an event
VALUES, STEPS = 1 << 17, 1 << 19  # that are told apart: when half of them are taken, all are forgotten
_TEXTS = 1 << 23  # bytes of all values
_DEEPEST = 60  # containers in each other; beyond that a line is left to the exact matcher
_CODE = "helpers.eventbridge.machine_code"


class Reader:
    """The fields at some paths of events, and the steps of a tree that asks for them.

    A step of a tree leads from a node (counted from 1) and a value to the next node, or to the terminal `t` as `-t`. Raises
    `ImportError` where numba is not installed.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._code = importlib.import_module(_CODE)
        names, firsts, counts, offsets, leaves = _trie(paths)
        self._names = (np.frombuffer(names, np.uint8), firsts, counts, offsets, leaves)
        self._width = len(paths)
        self._open, self._seen = np.zeros(_DEEPEST, np.int64), np.zeros(len(firsts), np.uint8)
        self._rows = np.zeros((1, len(paths)), np.int32)
        self.clear()

    def clear(self) -> None:
        """Forget all values and steps."""
        self._slots, self._texts = np.zeros(2 * VALUES, np.int32), np.zeros(_TEXTS, np.uint8)
        self._bounds, self._used = np.zeros(VALUES, np.int64), np.ones(1, np.int64)
        self._last = np.zeros(self._width, np.int32)
        self._keys, self._thens, self._known = np.zeros(2 * STEPS, np.int64), np.zeros(2 * STEPS, np.int32), 0

    @property
    def is_full(self) -> bool:
        """True where it should be cleared before the next block."""
        return bool(self._used[0] > VALUES // 2 or self._bounds[self._used[0] - 1] > _TEXTS // 2 or self._known > STEPS // 2)

    def read(self, block: bytes) -> tuple[Any, Any, Any]:
        """The numbers of the fields' values (lines x paths), where each line that is not empty begins and ends, and its state:
        `UNSURE`, `PLAIN` or, where the bytes may be no UTF-8, `BEYOND_ASCII`. The block ends with a line's end."""
        data = np.frombuffer(block, np.uint8)
        tail = np.full(64, ord("\n"), np.uint8)  # the last bytes, since 64 are looked at at a time
        tail[: len(data) % 64] = data[len(data) - len(data) % 64 :]
        marks = np.empty((2, len(data) // 64 + 2), np.uint64)
        while True:
            most = len(self._rows)
            lines, states = np.empty((most, 2), np.int64), np.empty(most, np.uint8)
            tables = (self._slots, self._texts, self._bounds, self._used, self._last)
            count = self._code.read(data, tail, *self._names, *tables, *marks, self._open, self._seen, self._rows, lines, states)
            if count >= 0:
                return self._rows[:count], lines[:count], states[:count]
            self._rows = np.zeros((2 * most, self._width), np.int32)

    def text(self, number: int) -> bytes:
        """A value as it is written; empty for the one of a field that is not there."""
        return self._texts[self._bounds[number - 1] : self._bounds[number]].tobytes() if number else b""

    def learn(self, steps: Sequence[tuple[int, int, int]]) -> bool:
        """Remember from which node which value leads where; False where there is no room for that."""
        self._known += len(steps)
        if self._known > STEPS:
            return False
        self._code.learn(self._keys, self._thens, np.array(steps, np.int64))
        return True

    def walk(self, rows: Any, states: Any, places: Any, codes: Any, nodes: Any) -> None:
        """Go on from each line's node as far as the steps are known; `codes` become the terminals or `STUCK`."""
        self._code.walk(self._keys, self._thens, rows, states, places, codes, nodes)


def is_loaded() -> bool:
    """True where the machine code is in this process already."""
    return _CODE in sys.modules


def is_kept() -> bool:
    """True where an earlier process compiled the machine code and left it here."""
    return any((Path(__file__).parent / "__pycache__").glob("machine_code.*.nbi"))


def load() -> bool:
    """Load the machine code, or compile it; False where numba is not installed."""
    if not is_loaded():
        try:
            importlib.import_module(_CODE)
        except ImportError:
            return False
        reader = Reader(["a"])
        rows, _, states = reader.read(b'{"a":1}\n')
        reader.learn([(1, 1, 0)])
        reader.walk(rows, states, np.zeros(2, np.int64), np.zeros(1, np.int32), np.ones(1, np.int32))
    return True


def _trie(paths: Sequence[str]) -> tuple[bytes, Any, Any, Any, Any]:
    """The names of the paths as a tree: all names; of each node its first child, how many it has, where its name begins, and
    the place of the path that ends there (or -1)."""
    root: dict[str, Any] = {}
    for at, path in enumerate(paths):
        inner = root
        for name in path.split("."):
            inner = inner.setdefault(name, {})
        inner[""] = at
    order: list[tuple[bytes, dict[str, Any]]] = [(b"", root)]
    firsts, counts, leaves = [], [], []
    for _, inner in order:
        children = [(name.encode(), below) for name, below in inner.items() if name]
        firsts.append(len(order))
        counts.append(len(children))
        leaves.append(inner.get("", -1))
        order += children
    offsets = np.cumsum([0] + [len(name) for name, _ in order])
    return b"".join(name for name, _ in order), np.array(firsts), np.array(counts), offsets, np.array(leaves)
