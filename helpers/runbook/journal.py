"""The journal of a run: intents before effects, results after them, one JSON line each, synced to disk."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # pragma: no cover - the product runs on Linux and macOS
    fcntl = None

from helpers.aws.errors import RunbookError
from helpers.runbook import store
from helpers.runbook.redact import redact_data

CAN_WAIT = {"step", "card", "metrics"}  # a resumed run writes these again: they go to S3 with the next entry that others must know of
BEGINS = {"started", "intent", "undoing", "gate", "approved", "begin"}  # nothing follows from these before they are in S3
CALLS = "calls.jsonl"


class Journal:
    """An append-only file of entries; the last entry of a key says how far its effect is.

    `shared`: of a run in S3 every entry is put there, too, and no other process goes on with the run until `close`. Raises
    `RunbookError` where another one does.
    """

    def __init__(self, path: Path, *, read_only: bool = False, shared: bool = False) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._shared = store.take(path.parent) if shared and not read_only else None
        try:
            self._file = None if read_only else _open_alone(path)
            self.entries = _read(path)
        except BaseException:
            self._let_go()
            raise

    def write(self, type: str, **fields: Any) -> dict[str, Any]:
        """Append an entry and wait until it is on disk, and in S3 where the run is there.

        What begins something is put into S3 first. What has happened is on disk first: it is not lost where S3 cannot be reached.
        """
        entry = {"at": time.time(), "type": type, **fields}
        masked = redact_data(entry)
        with self._lock:
            if self._shared is not None and type in BEGINS:
                self._shared.add(self.path.name, masked, wait=True, begins=True)
            self.entries.append(entry)
            if self._file is not None:
                self._file.write(store.line_of(masked))
                self._file.flush()
                os.fsync(self._file.fileno())
            if self._shared is not None and type not in BEGINS:
                self._shared.add(self.path.name, masked, wait=type not in CAN_WAIT)
        return entry

    def log_call(self, call: dict[str, Any], *, wait: bool) -> None:
        """Append a call to calls.jsonl; `wait` until it is in S3, where the run is there."""
        call = redact_data(call)
        with self._lock:
            with open(self.path.with_name(CALLS), "a", encoding="utf-8", opener=_private) as file:
                file.write(store.line_of(call))
            if self._shared is not None:
                self._shared.add(CALLS, call, wait=wait)

    def check(self) -> None:
        """Return where this process still may act. Raises `RunbookError` where another one has gone on with the run."""
        if self._shared is not None:
            self._shared.check()

    def last(self, key: str) -> dict[str, Any] | None:
        """The newest intent, done or undone entry of an effect."""
        matching = [entry for entry in self.entries if entry.get("key") == key and entry["type"] in {"intent", "done", "undone"}]
        return matching[-1] if matching else None

    def in_doubt(self) -> list[str]:
        """The effects whose intent has neither a result nor an undo."""
        keys = dict.fromkeys(entry["key"] for entry in self.entries if entry["type"] == "intent")
        return [key for key in keys if self.last(key)["type"] == "intent"]

    def half_undone(self) -> str:
        """The effect whose undo was cut short, by a kill for example, so that it is neither done nor undone; empty where there is none."""
        undos = [entry for entry in self.entries if entry["type"] in {"undoing", "undone", "kept"}]
        return undos[-1]["key"] if undos and undos[-1]["type"] == "undoing" else ""

    def of_type(self, type: str) -> list[dict[str, Any]]:
        """The entries of one type, oldest first."""
        return [entry for entry in self.entries if entry["type"] == type]

    def close(self) -> None:
        """Let another process run this run."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._let_go()

    def _let_go(self) -> None:
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.close()


def _read(path: Path) -> list[dict[str, Any]]:
    """The whole entries of a journal; a last line torn by a crash is left out."""
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else [""]
    entries = []
    for number, line in enumerate(lines[:-1], 1):  # what follows the last line end was cut off
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise RunbookError(f"Line {number} of {path} is damaged, so what the run did is not known.", "Mend the line from a copy; do not go on without it.") from error
    return entries


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _open_alone(path: Path) -> Any:
    """Open for appending under a lock that dies with the process, after cutting a torn last line off."""
    file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - kept open for the life of the run
    os.chmod(path, 0o600)
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunbookError(f"The run in {path.parent.name} is being run by another process.", "Wait for it, or restart that kernel.") from error
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        file.truncate(data.rfind(b"\n") + 1)
    return file
