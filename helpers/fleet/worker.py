"""What a worker of a Dask cluster does for fleets: runs their targets in warm kernels of its own, and says what it is.

Dask delivers at least once: a task whose worker dies runs again elsewhere, and a task that has ended may do so too. The first goes on
by the run's own journal, which repeats no effect; the second finds how the task ended in the run's folder, and runs nothing.
"""

from __future__ import annotations

import asyncio
import atexit
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from helpers.aws.errors import RunbookError
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
ENDED = "ended.json"  # in a run's folder: the task that ended last, and how
# Which cloud a run talks to, and where: the coordinator's, not the worker's. Nothing of it is a secret.
SETTINGS = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_STS_REGIONAL_ENDPOINTS")
ENDPOINTS = "AWS_ENDPOINT_URL"


@dataclass(frozen=True)
class Task:
    """One delivery of one target. `name` is the task's own: two deliveries of it have the same; `fleet` is the fleet's folder.

    It holds no credentials: a worker has its own, by the default chain. `settings` say which cloud they are for.
    """

    name: str
    session: str
    fleet: str
    target: Target
    run_id: str
    mode: str
    settings: Mapping[str, str]
    warm: bool = True

    @property
    def directory(self) -> Path:
        """The run's folder, which all workers see."""
        return Path(self.fleet).parent / self.run_id


# -- running -------------------------------------------------------------------------------------------

_lock = threading.Lock()
_warm: WarmKernels | None = None
_sessions: dict[tuple[str, str], Kernels] = {}  # the kernels of each coordinator's fleet
_running: dict[Path, int] = {}  # the folders of the runs that run in this process


def run(task: Task, rehearse: Rehearse | None = None) -> Ended:
    """Run a task's target, or return how it ended where this task has run it already; whatever goes wrong is how it ended."""
    try:
        with _marked(task.directory):
            ended = _ended_before(task)
            if ended is None:
                wait_until_free(task.directory)
                ended = _ended_before(task) or _run(task, rehearse)
    except Exception as error:
        ended = Ended.before(error)
    return ended


def _run(task: Task, rehearse: Rehearse | None) -> Ended:
    ended = launch(replace(task.target, path=found(str(task.target.path))), task.directory, task.mode, _kernels(task.fleet, task.session, task.warm), rehearse, environment(task.settings))
    store.write_json(task.directory / ENDED, {"task": task.name, **asdict(ended)})
    return ended


def _ended_before(task: Task) -> Ended | None:
    known = store.read_json(task.directory / ENDED)
    if known is None or known.pop("task") != task.name:
        return None
    return Ended(**known)


def wait_until_free(directory: Path, patience_s: float = HELD_S) -> None:
    """Wait until no process holds a run: the kernel of a worker that was killed, or one that the scheduler has lost and that still runs.

    Raises `RunbookError` where it is held for longer than `patience_s` seconds.
    """
    end = time.monotonic() + patience_s
    while (directory / "journal.jsonl").exists():
        try:
            return Journal(directory / "journal.jsonl").close()
        except RunbookError as error:
            if "another process" not in error.what:
                raise
            if time.monotonic() > end:
                raise RunbookError(f"{error.what} It has held it for {patience_s:.0f} s.", "End that process, then resume the fleet.") from error
            time.sleep(0.2)


@contextmanager
def _marked(directory: Path) -> Iterator[None]:
    with _lock:
        _running[directory] = _running.get(directory, 0) + 1
    try:
        yield
    finally:
        with _lock:
            _running[directory] -= 1
            if not _running[directory]:
                del _running[directory]


def _kernels(fleet: str, session: str, warm: bool) -> Kernels:
    """The kernels of a coordinator's fleet; the fork server is this process's, starts with the first one and ends with the process."""
    global _warm
    with _lock:
        if warm and _warm is None:
            _warm = WarmKernels()
            atexit.register(close)
        return _sessions.setdefault((fleet, session), Kernels(_warm if warm else None))


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This worker's environment, with its own credentials, for the cloud that the coordinator uses."""
    own = {name: value for name, value in os.environ.items() if name not in SETTINGS and not name.startswith(ENDPOINTS)}
    return {**own, **settings}


def settings() -> dict[str, str]:
    """What a coordinator tells its workers of its own environment."""
    return {name: value for name, value in os.environ.items() if name in SETTINGS or name.startswith(ENDPOINTS)}


def interrupt(fleet: str, session: str, hard: bool) -> None:
    """Let no run of a coordinator's fleet begin here, and interrupt those that run, an earlier coordinator's too; `hard` kills their kernels."""
    _kernels(fleet, session, True)
    with _lock:
        live = [kernels for (of, _), kernels in _sessions.items() if of == fleet]
    for kernels in live:
        kernels.interrupt(hard)


def running() -> list[str]:
    """The folders of the runs that run on this worker."""
    with _lock:
        return [str(one) for one in _running]


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

    `nonce`: a file in the folder of the runs; `paths`: notebooks, as `portable` has them; `places`: what is entered with
    `helpers.aws.connect` under `settings`.
    """
    return {
        "versions": {"Python": ".".join(platform.python_version_tuple()[:2]), **{name: _version(name) for name in PACKAGES}, "helpers": product()},
        "runbooks": {path: _digest(found(path)) for path in paths},
        "runs": {"nonce": _nonce(Path(nonce))},
        "places": _identities(places, settings),
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


def _nonce(path: Path) -> str:
    """What is in the file; empty where it is not seen, or nothing can be written beside it."""
    try:
        told = store.read_json(path)
        store.write_private(path.with_name(f"{path.name}.{platform.node()}.{os.getpid()}"), "")
        path.with_name(f"{path.name}.{platform.node()}.{os.getpid()}").unlink()
    except OSError:
        return ""
    return told or ""


def _identities(places: Sequence[Mapping[str, str]], settings: Mapping[str, str]) -> dict[str, str]:
    """Which account and region each place is here, or why it cannot be entered; asked by a process of its own, which has the settings."""
    if not places:
        return {}
    command = [sys.executable, "-c", "from helpers.fleet.accounts import main; main()"]
    done = subprocess.run(command, input=json.dumps([dict(one) for one in places]), env=environment(settings), capture_output=True, text=True)
    if done.returncode:
        return {"accounts": f"they could not be asked: {done.stderr.strip()[-200:]}"}
    return json.loads(done.stdout)
