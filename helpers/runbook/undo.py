"""Take a run back: the undos of its effects, newest first, journaled as they are done."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_type_hints

import msgspec
import pandas as pd

from helpers.aws.errors import RunbookError, explain
from helpers.runbook import store
from helpers.runbook.display import count_of
from helpers.runbook.engine import Run
from helpers.runbook.journal import Journal


@dataclass(frozen=True)
class Undo:
    """An effect that can be taken back: its journal key, the function that does it, its arguments."""

    key: str
    function: Callable[..., Any]
    arguments: dict[str, Any]

    @property
    def effect(self) -> str:
        """The effect as a reader writes it: its step and its name."""
        return self.key.replace("/", ": ")

    @property
    def done_by(self) -> str:
        """How it is taken back, in a sentence."""
        return (self.function.__doc__ or self.function.__name__).strip().splitlines()[0]


def rollback(run_id: str, *, approve: str = "", mode: str = "") -> Run:
    """Undo what run `run_id` did, in reverse; returns the run, whose `status` is `rolled back` or `failed`.

    `mode` is the run's own, or "plan" to list the writes only. Gate: `rollback`. Raises `RunbookError` where the
    run is unknown or did something that cannot be undone.
    """
    directory = store.run_directory(run_id)
    known = store.read_json(directory / "run.json")
    if known is None:
        raise store.missing(directory)
    run = Run(known["runbook"], {**known["parameters"], "run_id": run_id, "mode": mode or known["mode"], "approve": approve})
    run._open()
    steps = undos(run.journal)
    run.gate("rollback", f"Undo {count_of(len(steps), 'effect')} of run {run_id}.", run_id, by_command="rollback")
    for undo in steps:
        _take_back(run, undo)
    run._end("planned" if run.mode == "plan" else "rolled back", "")
    return run


def preview(run: Run) -> pd.DataFrame:
    """What a roll back of `run` would do now, newest effect first: effect, how it is undone."""
    rows = [(undo.effect, undo.done_by) for undo in undos(run.journal)]
    return pd.DataFrame(rows, columns=["effect", "undone by"])


def undos(journal: Journal) -> list[Undo]:
    """The undos of the effects done or in doubt, newest first. Raises `RunbookError` for one that cannot be taken back."""
    found: dict[str, Undo] = {}
    for entry in journal.of_type("intent"):
        function = _function(entry["function"])
        undo = function.undo
        if undo is None or journal.last(entry["key"])["type"] == "undone":
            continue
        if isinstance(undo, str):
            raise RunbookError(f"{entry['key']} cannot be taken back.", undo)
        found[entry["key"]] = Undo(entry["key"], undo, entry["args"])
    return list(reversed(found.values()))


def _take_back(run: Run, undo: Undo) -> None:
    with run.step(f"Undo {undo.key}") as step:
        run.journal.write("undoing", key=undo.key)
        try:
            outcome = undo.function(**_arguments(run, undo))
        except Exception as error:
            run.journal.write("kept", key=undo.key)
            raise explain(error) from error
        if outcome is not None:
            step.evidence.append(outcome)
        run.journal.write("undone", key=undo.key)


def _arguments(run: Run, undo: Undo) -> dict[str, Any]:
    hints = get_type_hints(undo.function)
    wanted = {}
    for name in inspect.signature(undo.function).parameters:
        value = undo.arguments.get(name)
        wanted[name] = run.aws if name == "aws" else value if value is None else msgspec.convert(value, hints.get(name, Any), strict=False)
    return wanted


def _function(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)

