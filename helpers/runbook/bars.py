"""Progress bars are for who watches: a terminal shows them, a log or a pipe does not."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from typing import TextIO


def is_shown(text: str, stream: TextIO) -> bool:
    """False for a piece of a bar, which returns to the start of its line, where `stream` is no terminal."""
    return "\r" not in text or stream.isatty()


@contextlib.contextmanager
def on_a_terminal_only() -> Iterator[None]:
    """What this process prints meanwhile comes without its bars where nobody watches."""
    with contextlib.nullcontext() if sys.stdout.isatty() else contextlib.redirect_stdout(_Filtered(sys.stdout)):
        yield


class _Filtered(io.TextIOBase):
    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        if is_shown(text, self.stream):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        self.stream.flush()
