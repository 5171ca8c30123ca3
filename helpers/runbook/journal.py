"""The journal of a run: intents before effects, results after them, one JSON line each, synced to disk."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # pragma: no cover - the product runs on Linux and macOS
    fcntl = None

from helpers.aws.errors import RunbookError
from helpers.runbook.redact import redact


class Journal:
    """An append-only file of entries; the last entry of a key says how far its effect is."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._file = None if read_only else _open_alone(path)
        self.entries = _read(path)

    def write(self, type: str, **fields: Any) -> dict[str, Any]:
        """Append an entry and wait until it is on disk."""
        entry = {"at": time.time(), "type": type, **fields}
        self.entries.append(entry)
        if self._file is not None:
            self._file.write(json.dumps(_masked(entry), ensure_ascii=False, default=str) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        return entry

    def last(self, key: str) -> dict[str, Any] | None:
        """The newest intent, done or undone entry of an effect."""
        matching = [entry for entry in self.entries if entry.get("key") == key and entry["type"] in {"intent", "done", "undone"}]
        return matching[-1] if matching else None

    def in_doubt(self) -> list[str]:
        """The effects whose intent has neither a result nor an undo."""
        keys = dict.fromkeys(entry["key"] for entry in self.entries if entry["type"] == "intent")
        return [key for key in keys if self.last(key)["type"] == "intent"]

    def of_type(self, type: str) -> list[dict[str, Any]]:
        """The entries of one type, oldest first."""
        return [entry for entry in self.entries if entry["type"] == type]

    def close(self) -> None:
        """Let another process run this run."""
        if self._file is not None:
            self._file.close()
            self._file = None


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


def _masked(value: Any) -> Any:
    """The value with secrets masked in its texts, before JSON escapes them."""
    if isinstance(value, dict):
        return {name: _masked(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(item) for item in value]
    return redact(value) if isinstance(value, str) else value


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
