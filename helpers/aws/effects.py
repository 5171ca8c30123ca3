"""Effects: functions that change something, so that a run can remember, skip and undo them.

Outside a run an effect is an ordinary function. Inside one, the run's recorder journals the intent
before the call and the result after it, and answers from the journal when the effect is done.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from helpers.aws import calls

Function = TypeVar("Function", bound=Callable[..., Any])


class Recorder(Protocol):
    """What a run offers to the effects called in it."""

    def perform(self, function: Callable[..., Any], args: tuple, kwargs: dict) -> Any: ...

    def remember(self, name: str, value: Any) -> None: ...

    def recall(self, name: str) -> Any: ...


_recorder: Recorder | None = None


def record_with(recorder: Recorder | None) -> None:
    """Journal the effects called from now on with `recorder`; None: with nobody."""
    global _recorder
    _recorder = recorder


def effect(*, undo: Callable[..., Any] | str | None = None) -> Callable[[Function], Function]:
    """Mark a function as an effect; `undo` takes the same arguments and takes the effect back.

    The arguments and the result must be plain data (str, numbers, lists, dataclasses) to be journaled;
    an argument that is not (a client, a connection) is handed to `undo` as None. The function must look
    before it acts: it is called again when a crash left it in doubt.
    """

    def mark(function: Function) -> Function:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if _recorder is None:
                return function(*args, **kwargs)
            return _recorder.perform(call, args, kwargs)

        call.undo = undo
        call.plain = function
        return call

    return mark


def note(name: str, value: Any) -> None:
    """Journal a plain value at once, for the process that may have to go on from here."""
    if _recorder is not None:
        _recorder.remember(name, value)


def recall(name: str) -> Any:
    """The newest value noted under `name` in this run, also by a process that was killed; None where there is none."""
    return None if _recorder is None else _recorder.recall(name)


def planning() -> bool:
    """True while writes are only listed: nothing but reads leaves the process."""
    return calls.planned_world() is not None


def act(service: str, operation: str, resource: str, do: Callable[[], Any], **parameters: Any) -> Any:
    """Do a write that is no AWS call (a Redis command, say), recorded as one; in a plan it is only listed.

    Returns what `do()` returns, or None in a plan.
    """
    with calls.outside_aws(service, operation, resource, parameters) as go:
        return do() if go else None
