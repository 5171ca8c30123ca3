"""The engine of the runbooks: modes, steps, checks, gates, journal, resume, rollback, display."""

from typing import Any

_PLACES = {"GateNotPassed": "engine", "Run": "engine", "start": "engine", "preview": "undo", "rollback": "undo"}
__all__ = list(_PLACES)


def __getattr__(name: str) -> Any:
    """What is used is imported then: a command that only starts a notebook needs neither pandas nor botocore."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    return value
