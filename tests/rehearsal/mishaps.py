"""What goes wrong around a run, made on purpose: each makes one thing that a runbook has to notice or refuse."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from helpers.rehearsal import dataset, settings
from helpers.rehearsal.application import PARAMETER
from helpers.rehearsal.cluster_wire import connect
from helpers.rehearsal.scenario import Access
from helpers.rehearsal.wire import Refused, Wire, WireError


def truncated_object(endpoint_environment: Mapping[str, str], bucket: str, key: str, keep: float = 0.5) -> int:
    """Cut an object, such as an exported RDB file, to its first part; return the bytes that are left."""
    s3 = Access(endpoint_environment).client("s3")
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    left = body[: int(len(body) * keep)]
    s3.put_object(Bucket=bucket, Key=key, Body=left)
    return len(left)


def parameter_changed(endpoint_environment: Mapping[str, str], value: str, parameter: str = PARAMETER) -> str:
    """Set the application's endpoint, in any form, behind the runbook's back, and return what it was."""
    access = Access(endpoint_environment)
    before = settings.read(access.client, parameter)
    settings.write(access.client, parameter, value)
    return before


def grown(endpoint: str, mebibytes: int, **options: Any) -> int:
    """Store that much data more, in keys of 1 MiB named ballast:N, and return the bytes that the servers now use."""
    with connect(endpoint, timeout_s=dataset.TIMEOUT_S, **options) as wire:
        wire.bulk(("SET", f"ballast:{number}", bytes(1 << 20)) for number in range(mebibytes))
        return sum(int(memory.split(b"used_memory:")[1].split()[0]) for memory in wire.each("INFO", "memory"))


def flushed(endpoint: str, database: int = 0, **options: Any) -> None:
    """Empty a database with FLUSHDB, on the primary that the endpoint leads to."""
    with Wire(endpoint, **options) as wire:
        wire.one("SELECT", database)
        wire.one("FLUSHDB")


def capture_cut(endpoint: str, **options: Any) -> int:
    """Cut the connections of a run's capture, whose names begin with runbook-capture; return how many there were."""
    with Wire(endpoint, **options) as wire:
        names = [dict(part.split("=", 1) for part in line.split()) for line in wire.one("CLIENT", "LIST").decode().splitlines()]
        ours = [one["id"] for one in names if one["name"].startswith("runbook-capture")]
        return sum(wire.one("CLIENT", "KILL", "ID", number) for number in ours)


class LeftBehind:
    """A client that never follows the setting: it writes to one endpoint until it is told to stop.

    `acknowledged` are the numbers, from 1 on, of the writes that were; number N is the key left-behind:N.
    """

    def __init__(self, endpoint: str, every_s: float = 0.01, **options: Any) -> None:
        self._connect: Callable[[], Any] = lambda: connect(endpoint, timeout_s=1.0, **options)
        self._every_s = every_s
        self.acknowledged: list[int] = []
        self.refused: list[str] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._stopping.set()
        self._thread.join(5)

    def _write(self) -> None:
        wire, number = None, 0
        while not self._stopping.wait(self._every_s):
            number += 1
            try:
                wire = wire or self._connect()
                wire.one("SET", f"left-behind:{number}", time.time())
                self.acknowledged.append(number)
            except (WireError, Refused) as error:
                self.refused.append(str(error))
                if isinstance(error, WireError):
                    wire = None

    def __enter__(self) -> LeftBehind:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
