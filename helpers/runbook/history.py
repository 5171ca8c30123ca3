"""History: what was run, by whom and when, and one run's timeline with its request ids; read from the runs' folders, which are not touched."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.aws.errors import RunbookError
from helpers.runbook import store
from helpers.runbook.journal import Journal

CUT_SHORT = "cut short"  # it says running, and its process has gone
EFFECTS = {"done": "effect done", "undoing": "taking back", "undone": "effect undone", "kept": "not taken back"}


@dataclass(frozen=True)
class Past:
    """A run as a list shows it: `who` is the caller's ARN, `what` what it did or would do; unix time.

    `duration_s` is of the process that ran it last: hours may pass between a plan and its apply.
    """

    id: str
    runbook: str
    mode: str
    status: str
    who: str
    what: str
    began: float
    duration_s: float | None = None
    error: str = ""


@dataclass(frozen=True)
class Moment:
    """A line of a timeline: unix time, what happened, to what, and the id of the request where it was one."""

    at: float
    event: str
    about: str = ""
    request_id: str = ""


def runs(directory: Path | None = None) -> list[Past]:
    """The runs in a folder (default: the project's), oldest first; a folder that cannot be read as a run says so in its status."""
    folder = directory or store.every_run()
    found = [_past_or_fault(path.parent) for path in folder.glob("*/run.json")]
    return sorted(found, key=lambda one: (one.began, one.id))


def past(directory: Path) -> Past:
    """What one run is in a list. Raises `RunbookError` where there is none in the folder, or its files are damaged."""
    known = _json(directory / "run.json")
    if known is None:
        raise store.missing(directory)
    result = _json(directory / "result.json") or {}
    started = Journal(directory / "journal.jsonl", read_only=True).of_type("started")
    status = result.get("status", "unknown")
    held = store.is_held(directory)
    if status == "running" and started and not (_runs(started[-1].get("pid")) if held is None else held):
        status = CUT_SHORT
    who = result.get("caller") or (started[-1].get("who", "") if started else "")
    began = known.get("created") or (directory / "run.json").stat().st_mtime
    took = result["ended"] - result["started"] if "started" in result and "ended" in result and status not in ("running", CUT_SHORT) else None
    return Past(directory.name, known["runbook"], result.get("mode", known["mode"]), status, who, _what(result), began, took, result.get("error", ""))


def timeline(directory: Path, *, reads: bool = False) -> list[Moment]:
    """What happened in a run in the order of time: its steps, effects and gates, and every write (with `reads`, every call)."""
    past(directory)  # refuses a folder that is no run
    moments = [moment for entry in Journal(directory / "journal.jsonl", read_only=True).entries for moment in _of_entry(entry)]
    calls = [*_lines(directory / "calls.jsonl"), *(_json(directory / "result.json") or {}).get("plan", [])]
    moments += [_of_call(call) for call in calls if call["write"] or reads]
    return sorted(moments, key=lambda one: one.at)


def _past_or_fault(directory: Path) -> Past:
    try:
        return past(directory)
    except (RunbookError, KeyError, TypeError) as error:
        return Past(directory.name, "?", "?", "damaged", "", "", (directory / "run.json").stat().st_mtime, error=str(error))


def _what(result: dict[str, Any]) -> str:
    if result.get("mode") == "plan":
        return f"{len(result.get('plan', []))} writes planned"
    sent = [call for call in result.get("calls", []) if call["write"] and call["sent"] and not call["error_code"]]
    return f"{len(sent)} writes" if result else ""


def _of_entry(entry: dict[str, Any]) -> Iterator[Moment]:
    at, kind = entry["at"], entry["type"]
    if kind == "started":
        yield Moment(at, f"started in mode {entry['mode']}", f"{entry.get('who', '')} in {entry.get('account', '')}, {entry.get('region', '')}; user {entry.get('user', '')}, process {entry.get('pid', '')}")
    elif kind == "step" and entry["event"] == "begin":
        yield Moment(at, "step", entry["step"])
    elif kind == "step":
        yield Moment(at, f"step {entry['status']}", f"{entry['step']} ({entry['duration_s']:.1f} s){': ' if entry['error'] else ''}{entry['error']}")
    elif kind == "intent":
        yield Moment(at, "effect again, in doubt" if entry.get("again") else "effect", entry["key"])
    elif kind in EFFECTS:
        yield Moment(at, EFFECTS[kind], entry["key"])
    elif kind == "gate":
        yield Moment(at, f"gate {entry['gate']}", f"{entry['resource']}: {entry['by']}")
    elif kind == "ended":
        yield Moment(at, f"ended: {entry['status']}", entry["error"])


def _of_call(call: dict[str, Any]) -> Moment:
    sort = "write" if call["write"] else "read"
    retried = f", {call['retries']} retries" if call.get("retries") else ""
    error = f": refused with {call['error_code']}" if call["error_code"] else ""
    return Moment(call["at"], sort if call["sent"] else f"{sort}, not sent", f"{call['service']} {call['operation']} {call['resource']}{error}{retried}".rstrip(), call.get("request_id", ""))


def _json(path: Path) -> Any:
    """The JSON in a file, None where there is none. Raises `RunbookError` where it is damaged."""
    try:
        return store.read_json(path)
    except ValueError as error:
        raise RunbookError(f"{path} is damaged: {error}.") from error


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file of JSON lines; what a crash has torn is left out."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


def _runs(pid: Any) -> bool:
    """True where a process of this machine has that id."""
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, TypeError, ValueError):
        return False
    except PermissionError:
        return True
    return True
