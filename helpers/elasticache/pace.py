"""Choose how much to ask of servers at a time by how long others wait for them meanwhile."""

from __future__ import annotations

import select
import time
from collections.abc import Sequence

from helpers.elasticache.wire import Wire

FIRST, LEAST = 128, 32
# A quick answer makes the next calls so many keys larger, a slow one so much smaller.
MORE, FEWER = 4, 0.75
# A comparison has to come to an end on a busy server, too.
LONGEST_PAUSE_S = 0.05
ASK_EVERY_S = 0.01
# Two clocks may drift apart by so much a second.
DRIFT = 0.0005


class Waiting:
    """How long a server lets a question wait that is no work, TIME, on a connection of its own.

    The answer says when it was given, so that it may be read later. From when the question was sent to then
    there are the difference of the clocks, the way and the wait; the least of this, seen when nobody was
    before us, is taken off.
    """

    def __init__(self, wire: Wire) -> None:
        self.asked = False
        self._wire = wire
        self._sent = 0.0
        self._least, self._least_at = float("inf"), 0.0
        for _ in range(5):
            self.ask()
            self._take()

    def ask(self) -> None:
        """Send the question."""
        self._sent, self.asked = time.time(), True
        self._wire.send([("TIME",)])

    def seconds(self) -> float:
        """Return how long the question waited, or has been waiting by now while `asked` stays true."""
        answered, _, _ = select.select([self._wire.socket], [], [], 0)
        return self._take() if answered else time.time() - self._sent

    def _take(self) -> float:
        seconds, microseconds = self._wire.receive(1)[0]
        taken = int(seconds) + int(microseconds) / 1e6 - self._sent
        self.asked = False
        self._least = min(taken, self._least + (self._sent - self._least_at) * DRIFT)
        self._least_at = self._sent
        return taken - self._least


class Pace:
    """The number of keys of the next call, `size` (`most` at most), so that others wait no longer than `latency_ms`.

    How long others wait, because of our calls or of somebody else's, the servers are asked now and then.
    When it takes too long, calls get smaller, and when the smallest are still too much there are
    pauses between them.
    """

    def __init__(self, servers: Sequence[Waiting], latency_ms: float, most: int) -> None:
        self.size, self.most = min(FIRST, most), most
        self._servers, self._limit_s = servers, latency_ms / 1000
        self._changed = time.perf_counter()

    def wait(self) -> None:
        """Look how long others wait, every 10 ms, and pause when they wait too long even with small calls."""
        if time.perf_counter() - self._changed < ASK_EVERY_S:
            return
        asked = [server for server in self._servers if server.asked]
        late = max((server.seconds() for server in asked), default=0.0)
        if late > self._limit_s:
            self._slow_down(late)
        elif any(server.asked for server in self._servers):
            return
        elif asked:
            self.size = min(self.most, self.size + MORE)
        self._changed = time.perf_counter()
        for server in self._servers:
            if not server.asked:
                server.ask()

    def _slow_down(self, late: float) -> None:
        if self.size > LEAST:
            self.size = max(LEAST, int(self.size * FEWER))
        else:
            time.sleep(min(LONGEST_PAUSE_S, late))
