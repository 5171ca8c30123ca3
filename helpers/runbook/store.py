"""A run's folder: where it is, and files in it that are written whole or not at all, readable by their owner only.

Runs that machines share are in S3 (`shared_store`); their folder here is a copy that is fetched before it is read.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.aws.errors import RunbookError

if TYPE_CHECKING:
    from helpers.runbook.shared_run import SharedRun
    from helpers.runbook.shared_store import SharedStore

DONE, FAILED, CHANGES, NOT_APPROVED, PART_FAILED, IN_DOUBT = 0, 1, 2, 3, 4, 5  # exit codes
EXIT_CODES = {"done": DONE, "rolled back": DONE, "failed": FAILED, "planned": CHANGES, "not approved": NOT_APPROVED, "in doubt": IN_DOUBT, "running": IN_DOUBT}


def runs_directory() -> Path:
    """The folder of all runs: RUNBOOK_RUNS, else `runs` in the project; for runs in S3 the folder of this machine that stands for them."""
    if (place := shared()) is not None:
        return place.folder
    configured = os.environ.get("RUNBOOK_RUNS")
    return Path(configured) if configured else Path(__file__).resolve().parents[2] / "runs"


def shared() -> SharedStore | None:
    """The store that RUNBOOK_RUNS names as s3://bucket/prefix, None where the runs are in a folder. Raises `RunbookError` for a wrong address."""
    configured = os.environ.get("RUNBOOK_RUNS", "")
    if not re.match("s3:|.*://", configured, re.IGNORECASE):
        return None
    from helpers.runbook.shared_store import opened  # boto3 takes a while to import

    return opened(configured)


def run_directory(run_id: str, *, members: bool = False) -> Path:
    """The folder of a run, with what is in S3 now; `members`: and those of the runs of a fleet."""
    place = shared()
    return place.fetch(run_id, members=members) if place else runs_directory() / run_id


def every_run() -> Path:
    """The folder of all runs, with what a list of them needs of those in S3."""
    place = shared()
    return place.fetch_all() if place else runs_directory()


def shared_with(directory: Path) -> SharedStore | None:
    """The store in S3 that a run's folder stands for; None for any other folder, such as one whose name begins with a dot."""
    place = shared()
    return place if place and directory.resolve().parent == place.folder and not directory.name.startswith(".") else None


def is_held(directory: Path) -> bool | None:
    """Whether a process somewhere goes on with a run in S3, as it was when it was fetched; None for a run in a folder."""
    place = shared_with(directory)
    if place is None:
        return None
    with place.alone(directory.name) as free:
        return not free or (directory / "lease.json").exists()


def take(directory: Path) -> SharedRun | None:
    """Go on with a run in S3: no other process will; None for a run in a folder. Raises `RunbookError` where another one does."""
    place = shared_with(directory)
    if place is None:
        return None
    from helpers.runbook.shared_run import SharedRun

    return SharedRun(place, directory.name)


@contextlib.contextmanager
def published(directory: Path, *, after_its_kernel: bool = False) -> Iterator[None]:
    """Hold a run in S3, and in the end put what it has made there; nothing for a run in a folder.

    `after_its_kernel`: the run was held by its kernel, which has ended. If another machine goes on with it by now, nothing is put.
    """
    place = shared_with(directory)
    if place is None:
        yield
        return
    from helpers.runbook.shared_run import SharedRun

    try:
        held = SharedRun(place, directory.name, journal=False)
        if after_its_kernel and place.is_behind(directory.name):
            held.close()
            raise RunbookError(f"Another machine has gone on with run {directory.name}.", "`runbook runs show` says how far it is.")
    except RunbookError as error:
        if not after_its_kernel:
            raise
        print(f"runbook: the files of this run stay on this machine: {error}", file=sys.stderr)
        place.left.add(directory.name)
        try:
            yield
        finally:
            place.left.discard(directory.name)
        return
    with contextlib.closing(held):
        yield
        try:
            place.publish(directory)
        except RunbookError as error:
            if not after_its_kernel:
                raise
            print(f"runbook: not all files of this run are in S3: {error}", file=sys.stderr)


def publish(directory: Path) -> None:
    """Put what a run in S3 that is not an apply has made there; nothing for a run in a folder."""
    place = shared_with(directory)
    if place is not None:
        place.publish(directory)


def new_run_id() -> str:
    """A run id that sorts by time: 20261123-194100-3fa9."""
    return time.strftime("%Y%m%d-%H%M%S") + "-" + secrets.token_hex(2)


def write_whole(path: Path, data: bytes, *, lasting: bool = False) -> None:
    """Write a file as a whole or not at all, readable by its owner only; `lasting`: and wait until it is on disk."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        if lasting:
            file.flush()
            os.fsync(file.fileno())
    os.replace(temporary, path)


def write_private(path: Path, text: str, *, new: bool = False) -> None:
    """Write `text` to `path` atomically with mode 0600, and to S3 where the run is there; `new`: raise `RunbookError` where that has it."""
    write_whole(path, text.encode(), lasting=True)
    place = shared_with(path.parent)
    if place is not None:
        try:
            place.wrote(path, new=new)
        except RunbookError:
            if new:  # there is no such run
                path.unlink()
                with contextlib.suppress(OSError):
                    path.parent.rmdir()
            raise


def write_json(path: Path, value: Any, *, new: bool = False) -> None:
    """`write_private` of `value` as indented JSON."""
    write_private(path, json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n", new=new)


def line_of(entry: Any) -> str:
    """An entry of a log as a line of its file."""
    return json.dumps(entry, ensure_ascii=False, default=str) + "\n"


def read_json(path: Path) -> Any:
    """The JSON in `path`, or None where there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def missing(directory: Path) -> RunbookError:
    """The error that a run's folder holds no run."""
    place = shared_with(directory)
    return RunbookError(f"There is no run {directory.name} in {place.address if place else directory.parent}.", "`runbook runs` lists them.")


def newest_results(runbook: str, mode: str, parameter: str) -> list[dict[str, Any]]:
    """The newest finished run of `runbook` in a mode for each value of one parameter."""
    found = [read_json(path) for path in every_run().glob("*/result.json")]
    done = [one for one in found if (one.get("runbook"), one.get("mode"), one.get("status")) == (runbook, mode, "done")]
    return list({one["parameters"].get(parameter): one for one in sorted(done, key=lambda one: one["ended"])}.values())
