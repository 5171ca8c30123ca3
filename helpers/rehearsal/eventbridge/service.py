"""EventBridge and Amplify in the local cloud: one call puts them in MiniStack, one answers control requests."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

from helpers.rehearsal.eventbridge import dispatch, entries, strict
from helpers.rehearsal.eventbridge.amplify import Amplify
from helpers.rehearsal.stricter import Handler


def install(handlers: dict[str, Handler]) -> Amplify:
    """Put delivery, checks and Amplify in MiniStack, from within the loop that serves it; returns Amplify."""
    from ministack.core import router

    loop = asyncio.get_running_loop()
    # What events are matched with takes most of a second to import, so that begins now.
    loop.run_in_executor(None, importlib.import_module, "helpers.eventbridge")
    dispatch.install(loop)
    strict.install(handlers)
    amplify = Amplify()
    handlers["amplify"] = amplify.handle
    # By the service's name in a request's signature.
    router.SERVICE_PATTERNS["amplify"] = {"host_patterns": [r"amplify\."]}
    return amplify


def emit(asked: dict[str, Any]) -> int:
    """Emit the events of a control request; returns how many. Raises ValueError where one is no event."""
    events = asked["events"]
    for event in events:
        if missing := {"source", "detail-type", "detail"} - set(event):
            raise ValueError(f"An event needs {min(missing)!r}.")
    entries.emit(events, bus=asked.get("bus", "default"), past=bool(asked.get("past")))
    return len(events)
