"""Choose how much to ask of servers at a time by how long others wait for them meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable

FIRST, LEAST = 128, 32
# A quick answer makes the next calls so many keys larger, a slow one so much smaller.
MORE, FEWER = 4, 0.75
# A comparison has to come to an end on a busy server, too.
LONGEST_PAUSE_S = 0.05
ASK_EVERY_S = 0.01


class Pace:
    """The number of keys of the next call, `size` (`most` at most), so that others wait no longer than `latency_ms`.

    `ask` asks the servers for an answer that is no work, on a connection of its own, and waits for it:
    that is how long others wait, because of our calls or of somebody else's. When it takes too long,
    calls get smaller, and when the smallest are still too much there are pauses between them. The
    quickest of a few answers before the work is the network's share, which is taken off.
    """

    def __init__(self, ask: Callable[[], object], latency_ms: float, most: int) -> None:
        self.size, self.most = min(FIRST, most), most
        self._ask, self._limit_s = ask, latency_ms / 1000
        self._pause_s = 0.0
        self._network_s = min(self._answer_s() for _ in range(5))
        self._asked = time.perf_counter()

    def wait(self) -> None:
        """Ask how the servers are, every 10 ms, and pause when they have so much to do that even small calls are slow."""
        if time.perf_counter() - self._asked < ASK_EVERY_S:
            return
        late = self._answer_s() - self._network_s
        if late <= self._limit_s:
            self.size, self._pause_s = min(self.most, self.size + MORE), 0.0
        elif self.size > LEAST:
            self.size = max(LEAST, int(self.size * FEWER))
        else:
            self._pause_s = min(LONGEST_PAUSE_S, late)
            time.sleep(self._pause_s)
        self._asked = time.perf_counter()

    def _answer_s(self) -> float:
        began = time.perf_counter()
        self._ask()
        return time.perf_counter() - began
