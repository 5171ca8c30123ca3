"""What a worker of a Dask cluster does for fleets: runs their targets in warm kernels of its own, and says what it is.

Dask delivers at least once: a task whose worker dies runs again elsewhere, and a task that has ended may do so too. The first goes on
by the run's own journal, which repeats no effect; the second finds how the task ended in the run's folder, and runs nothing.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import hashlib
import importlib.metadata
import os
import platform
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from helpers.aws.errors import RunbookError
from helpers.fleet import accounts
from helpers.fleet.launch import Kernels, Rehearse, launch
from helpers.fleet.run import Ended
from helpers.fleet.targets import Target
from helpers.fleet.warm import WarmKernels
from helpers.runbook import store
from helpers.runbook.journal import Journal

PRODUCT = Path(__file__).resolve().parents[1]
# What must be of one version for a run to be the same everywhere.
PACKAGES = ("distributed", "boto3", "botocore", "ipykernel", "jupyter_client", "nbclient", "papermill", "numpy", "pandas", "matplotlib")
# A run that another process holds: seconds until that process has ended. A machine that vanished keeps its locks on NFS 4 for a
# lease, 90 s as Linux has it (nfsd(7)); a kernel that lost its worker ends within 4 s.
HELD_S = 100.0
NONCE = "nonce.json"
ENDED = "ended.json"  # in a run's folder: the task that ended last, and how
# Where the runs are, which cloud they talk to, and in which region: the coordinator's say, not the worker's. Nothing of it is a secret.
SETTINGS = re.compile(r"RUNBOOK_RUNS|AWS_(DEFAULT_)?REGION|AWS_ENDPOINT_URL.*|AWS_IGNORE_CONFIGURED_ENDPOINT_URLS|AWS_USE_(FIPS|DUALSTACK)_ENDPOINT|AWS_STS_REGIONAL_ENDPOINTS")


@dataclass(frozen=True)
class Task:
    """One target to be run. `name` is the task's own: where it is delivered twice, both have the same; `session` is its coordinator's.

    It holds no credentials: a worker has its own, by AWS's default chain. `settings` say what they are for.
    """

    name: str
    session: str
    fleet: str
    target: Target
    run_id: str
    mode: str
    settings: Mapping[str, str]
    warm: bool = True


# -- running -------------------------------------------------------------------------------------------

_lock = threading.Lock()
_warm: WarmKernels | None = None
_sessions: dict[tuple[str, str], Kernels] = {}  # the kernels of each coordinator's fleet
_running: Counter[str] = Counter()  # the ids of the runs that run in this process


def run(task: Task, rehearse: Rehearse | None = None) -> Ended:
    """Run a task's target, or return how it ended where this task has run it already; whatever goes wrong is how it ended."""
    try:
        _say_where(task)
        with _adopted(task.settings, task.run_id):
            directory = store.run_directory(task.run_id).resolve()
            ended = _ended_before(task, directory)
            if ended is None:
                wait_until_free(directory)
                ended = _ended_before(task, directory) or _run(task, directory, rehearse)
            return ended
    except Exception as error:
        return Ended.before(error)


def _run(task: Task, directory: Path, rehearse: Rehearse | None) -> Ended:
    target = replace(task.target, path=found(str(task.target.path)))
    # Jupyter keeps a thread's event loop in its context, and tasks get copies of one context: two of them would share a loop.
    ended = contextvars.Context().run(launch, target, directory, task.mode, _kernels(task.fleet, task.session, task.warm), rehearse)
    store.write_json(directory / ENDED, {"task": task.name, **asdict(ended)})
    return ended


def _say_where(task: Task) -> None:
    """Tell the task's coordinator which worker has it."""
    from distributed import get_worker

    with suppress(ValueError):  # in no worker, in a test
        get_worker().log_event(task.session, (task.target.number, str(get_worker().name)))


def _ended_before(task: Task, directory: Path) -> Ended | None:
    known = store.read_json(directory / ENDED)
    if known is None or known.pop("task") != task.name:
        return None
    return Ended(**known)


def wait_until_free(directory: Path, patience_s: float = HELD_S) -> None:
    """Wait until no process holds a run: the kernel of a worker that was killed, or one that the scheduler has lost and that still runs.

    Raises `RunbookError` where it is held for longer than `patience_s` seconds.
    """
    end = time.monotonic() + patience_s
    while store.is_held(directory) and time.monotonic() < end:  # in S3, where a lease tells it
        time.sleep(1)
        store.run_directory(directory.name)
    while (directory / "journal.jsonl").exists():
        try:
            return Journal(directory / "journal.jsonl").close()
        except RunbookError as error:
            if "is being run by" not in error.what:
                raise
            if time.monotonic() > end:
                raise RunbookError(f"{error.what} It has held it for {patience_s:.0f} s.", "End that process, then resume the fleet.") from error
            time.sleep(0.2)


@contextmanager
def _adopted(settings: Mapping[str, str], run_id: str) -> Iterator[None]:
    """Have a coordinator's settings in this process's environment while a run of its fleet runs.

    Raises `RunbookError` where runs of a fleet with others run here: a process has one environment.
    """
    with _lock:
        mine = own_settings()
        if mine != settings and _running:
            raise RunbookError(f"This worker runs a fleet with other settings: {', '.join(_differing(mine, settings))}.", "Wait for its end, or start other workers.")
        if mine != settings:
            for name in mine:
                os.environ.pop(name, None)
            os.environ.update(settings)
        _running[run_id] += 1
    try:
        yield
    finally:
        with _lock:
            _running[run_id] -= 1
            if not _running[run_id]:
                del _running[run_id]


def own_settings() -> dict[str, str]:
    """What of this process's environment a coordinator decides; the folder of the runs in any case."""
    runs = os.environ.get("RUNBOOK_RUNS", "")
    return {**{name: value for name, value in os.environ.items() if SETTINGS.fullmatch(name)}, "RUNBOOK_RUNS": runs if "://" in runs else str(store.runs_directory().resolve())}


def _differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    return sorted(name for name in {**one, **other} if one.get(name) != other.get(name))


def warm_kernels() -> WarmKernels:
    """The warm kernels of this process, made once; their fork server ends with the process."""
    global _warm
    with _lock:
        if _warm is None:
            _warm = WarmKernels()
            atexit.register(close)
        return _warm


def _kernels(fleet: str, session: str, warm: bool) -> Kernels:
    """The kernels of a coordinator's fleet."""
    made = Kernels(warm_kernels() if warm else None)
    with _lock:
        return _sessions.setdefault((fleet, session), made)


def interrupt(fleet: str, session: str, hard: bool) -> None:
    """Let no run of a coordinator's fleet begin here, and interrupt those that run, an earlier coordinator's too; `hard` kills their kernels."""
    _kernels(fleet, session, True)
    with _lock:
        live = [kernels for (of, _), kernels in _sessions.items() if of == fleet]
    for kernels in live:
        kernels.interrupt(hard)


def running() -> list[str]:
    """The ids of the runs that run on this worker."""
    with _lock:
        return list(_running)


def close() -> None:
    """End the fork server, and with it every kernel that is left."""
    global _warm
    with _lock:
        server, _warm = _warm, None
        _sessions.clear()
    if server is not None:
        server.close()


# -- what a worker is ----------------------------------------------------------------------------------


async def look(*question: Any) -> dict[str, dict[str, str]]:
    """`facts` in a thread: the worker's own loop goes on."""
    return await asyncio.to_thread(facts, *question)


def facts(nonce: str, paths: Sequence[str], places: Sequence[Mapping[str, str]], settings: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """What has to be the same on every worker and in the coordinator: versions, runbooks (by digest), runs, places.

    `nonce`: a folder among the runs; `paths`: notebooks, as `portable` has them; `places`: what is entered with
    `helpers.aws.connect`, under `settings`. Raises `RunbookError` where this worker is busy under others.
    """
    with _adopted(settings, nonce):
        return {
            "versions": {"Python": ".".join(platform.python_version_tuple()[:2]), **{name: _version(name) for name in PACKAGES}, "helpers": product()},
            "runbooks": {path: _digest(found(path)) for path in paths},
            "runs": {"nonce": _nonce(store.runs_directory() / nonce)},
            "places": accounts.identities(places),
        }


def portable(path: Path) -> str:
    """A notebook by its place in the project, or its whole path elsewhere."""
    project = PRODUCT.parent
    return str(path.relative_to(project)) if path.is_relative_to(project) else str(path)


def found(path: str) -> Path:
    """The notebook here that `portable` means."""
    return PRODUCT.parent / path


def product() -> str:
    """A digest of this product's code."""
    digest = hashlib.sha256()
    for path in sorted(one for one in PRODUCT.rglob("*") if one.is_file() and one.suffix != ".pyc"):
        digest.update(f"{path.relative_to(PRODUCT)} {_digest(path)}\n".encode())
    return digest.hexdigest()[:12]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else ""


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _nonce(folder: Path) -> str:
    """What the coordinator wrote there; empty where that is not seen, or nothing can be written beside it. Runs in S3: the address, which can be listed."""
    if place := store.shared():
        place.listed(folder.name)
        return place.address
    try:
        store.write_json(folder / f"{platform.node()}-{os.getpid()}.json", "seen")
        return store.read_json(folder / NONCE) or ""
    except OSError:
        return ""
