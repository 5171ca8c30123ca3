"""A fleet run's own folder: fleet.json with its targets, and a journal of what was begun and how it ended.

The runs of a fleet are ordinary runs beside it (`<fleet>.001`, `<fleet>.002`, ...): `runbook resume`, `rollback` and `cleanup` know them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from helpers.aws.errors import RunbookError
from helpers.fleet.targets import Target
from helpers.runbook import parameters, store
from helpers.runbook.analysis import MODE
from helpers.runbook.journal import Journal

RECORD = "fleet.json"
GOOD = {"done", "planned", "rolled back"}
NEVER = "not run"
INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Outcome:
    """How a target stands: `not run`, `running`, `interrupted`, or the status of its newest run. Seconds; unix time."""

    target: Target
    status: str = NEVER
    run_id: str = ""
    exit_code: int | None = None
    error: str = ""
    began: float = 0.0
    duration_s: float = 0.0
    attempts: int = 0

    @property
    def good(self) -> bool:
        """True where the run ended as it should."""
        return self.status in GOOD


class Record:
    """The folder of one fleet run, and its journal; one process at a time writes it."""

    def __init__(self, directory: Path, told: dict[str, Any], *, read_only: bool = False) -> None:
        self.directory, self.told = directory, told
        self.targets = [Target(**{**one, "path": _notebook(one)}) for one in told["targets"]]
        self.journal = Journal(directory / "journal.jsonl", read_only=read_only, shared=True)

    def close(self) -> None:
        """Let another process go on with this fleet run."""
        self.journal.close()

    @property
    def id(self) -> str:
        """The name of the fleet run."""
        return self.directory.name

    @property
    def mode(self) -> str:
        """The mode it was last started in; the one that was asked for until then."""
        started = self.journal.of_type("started")
        return started[-1]["mode"] if started else self.told["mode"]

    @property
    def runs(self) -> Path:
        """The folder of its runs."""
        return self.directory.parent

    def begin(self, target: Target, mode: str, again: bool) -> str:
        """Journal that a target's run begins; returns the run's id. `again` makes a new run where a rehearsal's cloud has gone."""
        mode = target.mode_in(mode)
        attempt = sum(1 for one in self._of("begin", mode) if one["number"] == target.number) + 1
        run_id = f"{self.id}.{target.number:0{self._width}d}{f'.{attempt}' if again and attempt > 1 else ''}"
        self.journal.write("begin", mode=mode, number=target.number, run_id=run_id, attempt=attempt)
        return run_id

    def end(self, target: Target, mode: str, run_id: str, status: str, exit_code: int, error: str, duration_s: float) -> None:
        """Journal how it ended."""
        self.journal.write("end", mode=target.mode_in(mode), number=target.number, run_id=run_id, status=status, exit_code=exit_code, error=error, duration_s=round(duration_s, 3))

    def outcomes(self, mode: str = "") -> list[Outcome]:
        """How every target stands in a mode (default: the newest), in the order of the file."""
        mode = mode or self.mode
        ends = {one["number"]: one for one in self._of("end", mode)}
        begins: dict[int, dict[str, Any]] = {}
        attempts: Counter[int] = Counter()
        for one in self._of("begin", mode):
            begins[one["number"]] = one
            attempts[one["number"]] += 1
        return [_outcome(target, begins.get(target.number), ends.get(target.number), attempts[target.number]) for target in self.targets]

    def result_of(self, outcome: Outcome) -> dict[str, Any]:
        """The run's own result.json; empty where there is none."""
        return (store.read_json(self.runs / outcome.run_id / "result.json") if outcome.run_id else None) or {}

    def _of(self, type: str, mode: str) -> list[dict[str, Any]]:
        return [one for one in self.journal.of_type(type) if one["mode"] in (mode, MODE)]  # what analyses have read holds in a plan and its apply

    @property
    def _width(self) -> int:
        return max(3, len(str(len(self.targets))))


def _outcome(target: Target, begin: dict[str, Any] | None, end: dict[str, Any] | None, attempts: int) -> Outcome:
    if begin is None:
        return Outcome(target)
    if end is None or end["at"] < begin["at"]:  # begun again, and not ended
        return Outcome(target, INTERRUPTED, begin["run_id"], began=begin["at"], attempts=attempts)
    return Outcome(target, end["status"], end["run_id"], end["exit_code"], end["error"], begin["at"], end["duration_s"], attempts)


def _notebook(told: dict[str, Any]) -> Path:
    """Where a target's notebook is: on another machine than the fleet was begun on, the runbook of that name."""
    path = Path(told["path"])
    return path if path.exists() else parameters.names().get(told["runbook"], path)


def create(fleet_id: str, file: str, mode: str, targets: Sequence[Target]) -> Record:
    """The folder of a new fleet run. Raises `RunbookError` where a run has that name."""
    directory = store.run_directory(fleet_id).resolve()
    if directory.exists():
        raise RunbookError(f"There is a run {fleet_id} already.", "Choose another --run-id, or go on with it: --resume, --retry-failed or --plan.")
    directory.mkdir(parents=True, mode=0o700)
    told = {"fleet": fleet_id, "file": file, "mode": mode, "created": time.time(), "targets": [{**asdict(one), "path": str(one.path)} for one in targets]}
    store.write_json(directory / RECORD, told, new=True)
    return Record(directory, told)


def load(fleet_id: str, *, read_only: bool = False) -> Record:
    """A fleet run that exists. Raises `RunbookError` where there is none of that name, or another process runs it."""
    directory = store.run_directory(fleet_id, members=True).resolve()
    told = store.read_json(directory / RECORD)
    if told is None:
        raise RunbookError(f"There is no fleet run {fleet_id}.", "`runbook runs` lists them.")
    return Record(directory, told, read_only=read_only)


def same_targets(record: Record, targets: Iterable[Target]) -> bool:
    """True where a file still says what the fleet run was made of."""
    return [(one.runbook, one.values) for one in record.targets] == [(one.runbook, one.values) for one in targets]


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """One code for all: theirs where they agree (2 where any of the plans has changes), else 4."""
    codes = {store.FAILED if one.exit_code is None else one.exit_code for one in outcomes}
    if codes <= {store.DONE, store.CHANGES}:
        return max(codes, default=store.DONE)
    never_run = any(one.exit_code is None for one in outcomes)
    return codes.pop() if len(codes) == 1 and not never_run else store.PART_FAILED
