"""Choose how much to ask of a server at a time by how long it takes to answer, so that others are not kept waiting."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TypeVar

FIRST, LEAST = 128, 32
# A call more that was quick makes the next so many keys larger, one that was slow so much smaller.
MORE, FEWER = 2, 0.75
# A comparison has to come to an end on a busy server, too.
LONGEST_PAUSE_S = 0.05

Reply = TypeVar("Reply")


class Pace:
    """The number of keys of the next call, `size` (`most` at most), so that calls are answered within `latency_ms`.

    What counts is the time that we wait for an answer from when the call was sent, not what we do
    meanwhile. It holds what others make the server do, too: when they do much, calls get smaller, and
    when the smallest are slow there are pauses between them, as long as a call takes. `network_s` is how long an answer takes
    when there is no work, which is taken off.
    """

    def __init__(self, latency_ms: float = math.inf, most: int = FIRST, network_s: float = 0.0) -> None:
        self.size, self.most = min(FIRST, most), most
        self.limit_s = latency_ms / 1000
        self.network_s = network_s
        # Seconds waited for answers until now: to be noted when a call is sent.
        self.waited = 0.0
        self._pause_s = 0.0

    def answer(self, sent: float, receive: Callable[[], Reply]) -> Reply:
        """Return what `receive` returns, the answer to the call sent when `waited` was `sent`."""
        began = time.perf_counter()
        reply = receive()
        self.waited += time.perf_counter() - began
        self.took(self.waited - sent)
        return reply

    def took(self, seconds: float) -> None:
        """Note how long a call took."""
        late = seconds - self.network_s
        if late <= self.limit_s:
            self.size, self._pause_s = min(self.most, self.size + MORE), 0.0
        elif self.size > LEAST:
            self.size = max(LEAST, int(self.size * FEWER))
        else:
            self._pause_s = min(LONGEST_PAUSE_S, late)

    def wait(self) -> None:
        """Pause when the server has so much to do that even the smallest calls are slow."""
        if self._pause_s:
            time.sleep(self._pause_s)
