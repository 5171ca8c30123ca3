"""The history of fleets, beside that of single runs: in a list a fleet stands for its runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.aws.errors import RunbookError
from helpers.fleet.record import RECORD, Record
from helpers.runbook import history, store
from helpers.runbook.history import Moment, Past

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("run", "runbook", "mode", "status", "began", "took", "who", "what", "error")


def runs(directory: Path | None = None, *, members: bool = False) -> list[Past]:
    """All runs in a folder and all fleets, oldest first; the runs of fleets themselves only with `members`."""
    folder = directory or store.every_run()
    fleets = [_past_or_fault(path.parent) for path in folder.glob(f"*/{RECORD}")]
    ids = tuple(f"{one.id}." for one in fleets)
    single = [one for one in history.runs(folder) if members or not ids or not one.id.startswith(ids)]
    return sorted([*fleets, *single], key=lambda one: (one.began, one.id))


def rows(found: Iterable[Past]) -> list[tuple[str, ...]]:
    """Runs as the list shows them, a text for each of `COLUMNS`."""
    return [(one.id, one.runbook, one.mode, one.status, when(one.began), seconds(one.duration_s), one.who, one.what, one.error) for one in found]


def table() -> pd.DataFrame:
    """The runs there were, oldest first, for a notebook."""
    import pandas as pd  # it takes half a second, which `runbook runs` does not need

    return pd.DataFrame(rows(runs()), columns=list(COLUMNS))


def when(at: float) -> str:
    """A moment on this machine's clock, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def seconds(duration_s: float | None) -> str:
    """`46.1 s`, and nothing where it is not known."""
    return "" if duration_s is None else f"{duration_s:.1f} s"


def past(directory: Path) -> Past:
    """What one fleet is in a list."""
    record = Record(directory, store.read_json(directory / RECORD), read_only=True)
    outcomes = record.outcomes()
    counts = Counter(one.status for one in outcomes)
    started, ended = record.journal.of_type("started"), record.journal.of_type("ended")
    over = bool(ended) and ended[-1]["at"] > started[-1]["at"]
    status = "running or cut short" if not over else next(iter(counts)) if len(counts) == 1 else "part failed"
    runbooks = ", ".join(sorted({one.target.runbook for one in outcomes}))
    what = ", ".join(f"{count} {name}" for name, count in counts.items())
    why = ended[-1]["stopped"] if over else ""
    return Past(
        record.id, f"fleet of {runbooks}", record.mode, status, started[-1]["who"] if started else "", what, record.told["created"], ended[-1]["at"] - record.told["created"] if over else None, why
    )


def timeline(directory: Path, *, reads: bool = False) -> list[Moment]:
    """What happened in a run or a fleet, in the order of time."""
    if not (directory / RECORD).exists():
        return history.timeline(directory, reads=reads)
    record = Record(directory, store.read_json(directory / RECORD), read_only=True)
    labels = {one.number: one.label for one in record.targets}
    found = []
    for entry in record.journal.entries:
        kind, label = entry["type"], labels.get(entry.get("number", 0), "")
        if kind == "started":
            found.append(Moment(entry["at"], f"started in mode {entry['mode']}", f"{entry['targets']} targets, by {entry['who']}"))
        elif kind == "approved":
            found.append(Moment(entry["at"], "plan approved", f"{entry['digest'][:16]}, by {entry['by']}"))
        elif kind == "roll back":
            found.append(Moment(entry["at"], "roll back begins", f"{entry['runs']} runs with {entry['effects']} effects, by {entry['who']}"))
        elif kind == "part":
            found.append(Moment(entry["at"], entry["name"], f"{len(entry['numbers'])} targets"))
        elif kind == "begin":
            found.append(Moment(entry["at"], "run", f"{entry['run_id']}: {label}"))
        elif kind == "end":
            found.append(Moment(entry["at"], f"run {entry['status']}", f"{entry['run_id']}: {label} ({entry['duration_s']:.1f} s){': ' if entry['error'] else ''}{entry['error']}"))
        elif kind == "throttled":
            found.append(Moment(entry["at"], "throttled", f"{entry['run_id']}: {label}, again in {entry['pause_s']} s"))
        elif kind == "stopped":
            found.append(Moment(entry["at"], "stopped", entry["why"]))
        elif kind == "ended":
            found.append(Moment(entry["at"], "ended", f"exit code {entry['exit_code']}"))
    return found


def known(run_id: str) -> Past:
    """A run or a fleet by its name. Raises `RunbookError` where there is none."""
    directory = store.run_directory(run_id)
    return past(directory) if (directory / RECORD).exists() else history.past(directory)


def _past_or_fault(directory: Path) -> Past:
    try:
        return past(directory)
    except (RunbookError, ValueError, KeyError, TypeError) as error:
        return Past(directory.name, "?", "?", "damaged", "", "", (directory / RECORD).stat().st_mtime, error=str(error))
