"""Take a whole fleet back: list what each run's roll back would undo, ask once, and roll back the runs, the last begun first."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from helpers.aws.errors import RunbookError
from helpers.fleet import record, report
from helpers.fleet.approval import LENGTH
from helpers.fleet.commands import typed_code, user
from helpers.fleet.record import Record
from helpers.fleet.targets import Target
from helpers.runbook import store
from helpers.runbook.journal import Journal
from helpers.runbook.undo import Undo, undos

APPLY, ROLLED_BACK = "apply", "rolled back"


@dataclass(frozen=True)
class Applied:
    """A run that changed something: the effects that can be taken back, newest first, or why it cannot be."""

    target: Target
    run_id: str
    steps: tuple[Undo, ...] = ()
    refused: str = ""


def applied(kept: Record) -> list[Applied]:
    """The runs of a fleet that have something to be undone, the last begun first."""
    runs = {one["run_id"]: one["number"] for one in kept.journal.of_type("begin") if one["mode"] == APPLY}
    targets = {one.number: one for one in kept.targets}
    found = [_applied(kept, targets[number], run_id) for run_id, number in reversed(runs.items())]
    return [one for one in found if one.steps or one.refused]


def _applied(kept: Record, target: Target, run_id: str) -> Applied:
    try:
        return Applied(target, run_id, tuple(undos(Journal(kept.runs / run_id / "journal.jsonl", read_only=True))))
    except RunbookError as error:
        return Applied(target, run_id, refused=str(error))


def code(runs: Sequence[Applied]) -> str:
    """What approves taking back these effects of these runs and no others."""
    told = [(one.run_id, [step.key for step in one.steps]) for one in runs]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:LENGTH]


def roll_back(fleet_id: str, *, approve: str = "", mode: str = "", undo: Callable[[str], tuple[int, str]] | None = None) -> int:
    """Roll back the runs of a fleet that was applied; returns the exit code, 4 where some of them could not be.

    In `mode` plan they are only listed. `undo(run_id)` takes one run back and returns its exit code and what went wrong; a
    fault in one does not stop the others. Raises `RunbookError` for a fleet that was not applied.
    """
    kept = record.load(fleet_id)
    try:
        return _roll_back(kept, approve, mode, undo or _in_a_process)
    finally:
        kept.close()


def _roll_back(kept: Record, approve: str, mode: str, undo: Callable[[str], tuple[int, str]]) -> int:
    if not any(one["mode"] == APPLY for one in kept.journal.of_type("started")):
        rehearsed = kept.told["mode"] == "rehearse"
        raise RunbookError(f"Fleet {kept.id} was not applied, so nothing is to be undone{': the local clouds of its rehearsals have ended' if rehearsed else ''}.")
    runs = applied(kept)
    _list(kept, runs)
    if mode == "plan" or not runs:
        return store.CHANGES if runs else store.DONE
    wanted, given = code(runs), approve or typed_code(f"Type the code {code(runs)} to roll back fleet {kept.id}: ")
    if given != wanted:
        told = f"{given} approves another roll back." if given else "Its roll back is not approved."
        print(f"runbook: Fleet {kept.id} was not rolled back: {told} Remedy: Review the list above, then add `--approve {wanted}`.", file=sys.stderr)
        return store.NOT_APPROVED
    return _carry_out(kept, runs, undo)


def _carry_out(kept: Record, runs: Sequence[Applied], undo: Callable[[str], tuple[int, str]]) -> int:
    """Roll back the runs one after the other, and write the fleet's report anew; returns the exit code."""
    kept.journal.write("roll back", runs=len(runs), effects=sum(len(one.steps) for one in runs), who=user())
    codes = []
    for number, one in enumerate(runs, 1):
        began = time.time()
        result, error = (store.FAILED, one.refused) if one.refused else undo(one.run_id)
        status = ROLLED_BACK if result == store.DONE else "failed"
        kept.end(one.target, APPLY, one.run_id, status, result, error, time.time() - began)
        print(f"{time.strftime('%H:%M:%S')} {number}/{len(runs)} {one.target.label}: {status}{f'  {error}' if error else ''}", flush=True)
        codes.append(result)
    failed = sum(one != store.DONE for one in codes)
    exit_code = store.PART_FAILED if failed else store.DONE
    kept.journal.write("ended", mode=APPLY, exit_code=exit_code, stopped="")
    report.write(kept, f"Rolled back: {len(runs) - failed} of {len(runs)} runs that had changed something.")
    print(f"\nfleet {kept.id}: {len(runs) - failed} rolled back, {failed} failed (exit code {exit_code})")
    return exit_code


def _list(kept: Record, runs: Sequence[Applied]) -> None:
    """Print what would be undone, in the order in which it would be."""
    from helpers.cli import print_table

    effects = sum(len(one.steps) for one in runs)
    print(f"fleet {kept.id}: {len(runs)} of {len(kept.targets)} runs changed something; their roll back undoes {effects} effects, the last run first")
    rows = [(one.run_id, one.target.label, step.effect, step.done_by) for one in runs for step in one.steps]
    rows += [(one.run_id, one.target.label, "cannot be taken back", one.refused) for one in runs if one.refused]
    if rows:
        print_table(("run", "target", "effect", "undone by"), rows)
    sys.stdout.flush()


def _in_a_process(run_id: str) -> tuple[int, str]:
    """Roll a run back as `runbook rollback` does, in a process of its own."""
    done = subprocess.run([sys.executable, "-m", "helpers.cli", "rollback", run_id, "--approve", "rollback"], capture_output=True, text=True)
    told = [line.removeprefix("runbook: ") for line in done.stderr.splitlines() if line.startswith("runbook: ")]
    return done.returncode, "" if done.returncode == store.DONE else told[-1] if told else done.stderr.strip()[-500:] or f"exit code {done.returncode}"
