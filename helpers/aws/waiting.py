"""Wait for a state with a bound, a progress bar, and an end at once on failure."""

from __future__ import annotations

import random
import sys
import time
import warnings
from collections.abc import Callable, Collection
from typing import Any

from helpers.aws.effects import planning
from helpers.aws.errors import RunbookError

with warnings.catch_warnings():
    # Without ipywidgets the bar is text, which is what a report can keep. tqdm.auto is the same and brings asyncio, 10 ms and 1 MB.
    warnings.simplefilter("ignore")
    from tqdm.autonotebook import tqdm

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 15.0  # seconds
SHOWN_AFTER = 0.5  # seconds: what is over sooner needs no bar
ELAPSED = "{desc} {elapsed}"


class WaitFailed(RunbookError):
    """The awaited thing failed, or did not get there in time."""


def wait(
    title: str,
    state: Callable[[], str],
    *,
    until: Collection[str] = ("available",),
    fail: Collection[str] = (),
    timeout: float = 3600.0,
    events: Callable[[], Any] | None = None,
) -> str:
    """Poll `state` until it is one of `until`; returns that state.

    `timeout` is in seconds. A state in `fail` ends the wait at once. `events` tells the service's own
    words for the error. Pauses grow from 0.1 s to 15 s with jitter, so that many runs do not poll in step.
    In a plan the state is not awaited. Raises `WaitFailed`.
    """
    started, pause = time.monotonic(), FIRST_PAUSE
    with tqdm(total=0, bar_format=ELAPSED, leave=False, delay=SHOWN_AFTER, file=sys.stdout) as bar:
        while True:
            now = state()
            shown = time.monotonic() - started > SHOWN_AFTER
            bar.set_description_str(f"{title}: {now}", refresh=shown)
            if now in until or planning():
                if shown:
                    bar.clear()  # its end clears only what it has drawn of itself, and not this description
                return now
            if now in fail:
                raise WaitFailed(f"{title}: ended as {now!r}.{_told(events)}")
            if time.monotonic() - started > timeout:
                raise WaitFailed(f"{title}: still {now!r} after {timeout:.0f} s.{_told(events)}", "Look at it in the console, then resume the run: it waits on.")
            time.sleep(pause * random.uniform(0.8, 1.2))
            pause = min(pause * 1.3, LONGEST_PAUSE)


def _told(events: Callable[[], Any] | None) -> str:
    lines = [str(line) for line in events()] if events else []
    return " The service says: " + " | ".join(lines) if lines else ""
