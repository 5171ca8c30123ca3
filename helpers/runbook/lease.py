"""The lease of a run in S3: who goes on with it, renewed while that process lives; one that is not renewed runs out, and anybody may take it.

It is taken and renewed by conditional writes, so two processes never have it at once. How old it is, is told by the clock of S3 alone:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import threading
import time
from typing import Any

from helpers.aws.errors import RunbookError
from helpers.runbook.shared_store import LEASE as NAME
from helpers.runbook.shared_store import Changed, SharedStore

TTL_S = 30.0  # RUNBOOK_LEASE_S sets another
SECOND = 1.0  # S3 tells times in whole seconds


class Lease:
    """The lease of one run, held by this process from `take` to `release`."""

    def __init__(self, store: SharedStore, run_id: str) -> None:
        self._store, self._run_id = store, run_id
        self._ttl_s = float(os.environ.get("RUNBOOK_LEASE_S") or TTL_S)
        self._etag, self._renewals, self._token = "", 0, secrets.token_hex(8)
        self._renewed = _now()
        self._lost: RunbookError | None = None
        self._lock, self._ending = threading.Lock(), threading.Event()

    def take(self) -> None:
        """Take the lease, waiting until that of a process that died has run out; who calls holds the run's files on this machine alone.

        Raises `RunbookError` where another process is seen to renew it.
        """
        seen = ""
        while not self._etag:
            began, found = _now(), self._look()
            if found is None or self._free(*found):
                self._etag = self._write(found[1] if found else "")
                self._renewed = began
                continue
            told, etag, age_s = found
            if seen and seen != etag:
                raise RunbookError(f"Run {self._run_id} is being run by {told['holder']}.", "Wait until it has ended there, or end it there first.")
            if not seen:
                print(f"Run {self._run_id} is held by {told['holder']}: waiting {max(1.0, told['ttl_s'] + SECOND - age_s):.0f} s to see whether that still runs.", file=sys.stderr, flush=True)
            seen = etag
            time.sleep(min(1.0, told["ttl_s"] / 10))
        threading.Thread(target=self._keep, name=f"lease of {self._run_id}", daemon=True).start()

    def check(self) -> None:
        """Return where the lease is held; one that could not be renewed in time is renewed now. Raises `RunbookError` where it is not to be had."""
        if self._lost is None and _since(self._renewed) < self._ttl_s * 2 / 3:
            return
        self._renew()

    def release(self) -> None:
        """Let others have it at once."""
        self._ending.set()
        with self._lock:
            if self._lost is None and self._etag:
                self._write(self._etag, released=True)
                self._etag = ""

    def _keep(self) -> None:
        while not self._ending.wait(self._ttl_s / 3):
            try:
                self._renew()
            except RunbookError:
                if self._lost is not None:
                    return  # `check` says so before the next effect

    def _renew(self) -> None:
        with self._lock:
            if self._lost is not None:
                raise self._lost
            if self._ending.is_set():
                return
            began = _now()
            etag = self._write(self._etag)
            if not etag:
                self._lost = RunbookError(f"Another process has taken run {self._run_id}{self._by()}, because this one did not renew its lease in {self._ttl_s:.0f} s.", "It goes on there: `runbook runs show` says how far.")
                raise self._lost
            self._etag, self._renewed = etag, began

    def _look(self) -> tuple[dict[str, Any], str, float] | None:
        try:
            data, etag, age_s = self._store.read(self._run_id, NAME)
        except KeyError:
            return None
        return json.loads(data), etag, age_s

    def _free(self, told: dict[str, Any], etag: str, age_s: float) -> bool:
        """True for a lease that was released, has run out, or was of a process of this machine: that has died, or this one had not its files alone."""
        return told["released"] or told["cache"] == self._store.id or age_s > told["ttl_s"] + SECOND

    def _write(self, etag: str, *, released: bool = False) -> str:
        """Write the lease in place of that with an ETag, or as the first; returns the new ETag, or nothing where another was faster."""
        self._renewals += 1
        told = {"run": self._run_id, "holder": holder(), "cache": self._store.id, "token": self._token, "ttl_s": self._ttl_s, "renewals": self._renewals, "released": released}
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        try:
            return self._store.write(self._run_id, NAME, json.dumps(told, indent=1).encode(), **condition)
        except Changed:
            return ""

    def _by(self) -> str:
        found = self._look()
        return f" ({found[0]['holder']})" if found else ""


def holder() -> str:
    """This process, as others are told of it."""
    import getpass

    try:
        user = getpass.getuser()
    except Exception:  # no such user in a container
        user = "somebody"
    return f"{user} on {socket.gethostname()}, process {os.getpid()}"


def _now() -> tuple[float, float]:
    return time.monotonic(), time.time()


def _since(then: tuple[float, float]) -> float:
    """Seconds since then: by the clock that stands still while the machine sleeps, or by the one that can be set, whichever says more."""
    return max(time.monotonic() - then[0], time.time() - then[1])
