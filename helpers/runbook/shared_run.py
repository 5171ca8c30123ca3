"""A run in S3 that this process goes on with: it holds the run's lease, and adds to its journal one object at a time.

S3 cannot append, so what is added is an object with the next number, put on the condition that there is none: whoever has gone on with
the run meanwhile has taken that number. https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
import threading
from typing import Any

from helpers.aws.errors import RunbookError
from helpers.runbook.lease import Lease, holder
from helpers.runbook.shared_store import Changed, SharedStore
from helpers.runbook.store import line_of, write_whole

PATIENCE_S = 10.0  # for another process of this machine that only fetches the run
WORTH_IT = 4  # so many pieces are put together in one when the run is let go


class SharedRun:
    """Holds a run from its making to `close`. Raises `RunbookError` where another process holds it, or S3 cannot be reached.

    `fault` is why the last entry could not be put; it is None again when that could be done later.
    """

    def __init__(self, store: SharedStore, run_id: str, *, journal: bool = True) -> None:
        self._store, self._run_id = store, run_id
        self.fault: RunbookError | None = None
        self._fenced = False
        self._writer = f"{holder()}, {secrets.token_hex(4)}"
        self._waiting: list[tuple[str, dict[str, Any]]] = []
        self._lock = threading.RLock()
        self._number = self._whole = 0
        with contextlib.ExitStack() as stack:
            if not stack.enter_context(store.alone(run_id, PATIENCE_S)):
                raise RunbookError(f"The run in {run_id} is being run by another process.", "Wait for it, or restart that kernel.")
            self._lease = Lease(store, run_id)
            self._lease.take()
            stack.callback(self._lease.release)
            if journal:
                self._follow()
            store.owned[run_id] = self
            stack.callback(store.owned.pop, run_id)
            self._held = stack.pop_all()

    def _follow(self) -> None:
        """Read what there is; what this machine wrote and could not put is put first."""
        numbers = self._store.bring(self._run_id)
        self._number = self._whole = max(numbers, default=0)
        directory = self._store.folder / self._run_id
        for name, lines in self._store.unrolled(self._run_id).items():
            path = directory / name
            whole = path.read_text(encoding="utf-8").rpartition("\n")[0] if path.exists() else ""
            self._waiting += [(name, json.loads(line)) for line in whole.splitlines()[len(lines) :] if line]
        if self._waiting:
            self._flush()

    def add(self, name: str, entry: dict[str, Any], *, wait: bool, begins: bool = False) -> None:
        """Add an entry to one of the run's logs; with `wait`, return when it and all before it are in S3.

        Raises `RunbookError` where that fails; once it has, only for what `begins` something.
        """
        with self._lock:
            if not self._fenced:
                self._waiting.append((name, entry))
            if not wait:
                return
            failed_before = self.fault is not None
            try:
                if self._fenced:
                    raise self.fault  # type: ignore[misc]
                self._lease.check()
                self._flush()
                self.fault = None
            except RunbookError as error:
                self.fault = error
                if begins:
                    self._forget(entry)
                if begins or not failed_before:
                    raise

    def check(self) -> None:
        """Return where this process may go on with the run. Raises `RunbookError` where another one has."""
        if self._fenced and self.fault:
            raise self.fault
        self._lease.check()

    def close(self) -> None:
        """Put what still waits, and let others have the run at once."""
        with self._lock:
            try:
                with self._held:
                    if self._waiting and not self.fault:
                        self._flush()
                    if self._number >= self._whole + WORTH_IT and not self.fault:
                        self._put_whole()
            except RunbookError as error:  # all that others must know is there, and a lease runs out
                print(f"runbook: {error}", file=sys.stderr)

    def _forget(self, entry: dict[str, Any]) -> None:
        """What was not begun must not be told later."""
        self._waiting = [one for one in self._waiting if one[1] is not entry]

    def _flush(self) -> None:
        lines: dict[str, list[dict[str, Any]]] = {}
        for name, entry in self._waiting:
            lines.setdefault(name, []).append(entry)
        try:
            self._put(f"journal/{self._number + 1:08d}.json", lines)
        except Changed as error:
            if self._was_mine():
                return self._flush() if self._waiting else None
            self._fenced = True
            raise RunbookError(f"Another process has gone on with run {self._run_id}{self._who()}: this one stops, and sends nothing more.", "`runbook runs show` says how far it is.") from error
        self._number += 1
        self._waiting.clear()
        return None

    def _put_whole(self) -> None:
        """All of the journal in one object more, so that it can be read with one request."""
        lines = {name: [json.loads(line) for line in found] for name, found in self._store.unrolled(self._run_id).items()}
        with contextlib.suppress(Changed):  # it is there
            self._put(f"journal/{self._number:08d}-all.json", lines)

    def _put(self, name: str, lines: dict[str, list[dict[str, Any]]]) -> None:
        data = json.dumps({"writer": self._writer, "lines": lines}, ensure_ascii=False, default=str).encode()
        self._store.write(self._run_id, name, data, IfNoneMatch="*")
        self._keep(name, data)

    def _keep(self, name: str, data: bytes) -> None:
        path = self._store.folder / self._run_id / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(path, data)

    def _was_mine(self) -> bool:
        """True where the number was taken by a put of this very process that seemed to have failed: what it holds waits no longer."""
        name = f"journal/{self._number + 1:08d}.json"
        try:
            data, _, _ = self._store.read(self._run_id, name)
        except KeyError:
            return False
        there = json.loads(data)
        if there["writer"] != self._writer:
            return False
        self._keep(name, data)
        sent = {(log, line_of(entry)) for log, entries in there["lines"].items() for entry in entries}
        self._waiting = [(log, entry) for log, entry in self._waiting if (log, line_of(entry)) not in sent]
        self._number += 1
        return True

    def _who(self) -> str:
        with contextlib.suppress(Exception):
            return f" ({json.loads(self._store.read(self._run_id, f'journal/{self._number + 1:08d}.json')[0])['writer']})"
        return ""
