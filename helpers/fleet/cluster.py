"""A fleet on Dask distributed: a scheduler that runs, or one in this process; what its workers are is checked before anything runs."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import re
import secrets
import shutil
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.aws.errors import RunbookError
from helpers.fleet import accounts, worker
from helpers.fleet.launch import Rehearse
from helpers.fleet.record import INTERRUPTED, Record
from helpers.fleet.run import Ended
from helpers.fleet.targets import Target
from helpers.runbook import store
from helpers.runbook.journal import Journal

if TYPE_CHECKING:
    from distributed import Client, Future

LOCAL = "local"
ADDRESS = re.compile(r"tcp://(\[[0-9A-Fa-f:.]+\]|[\w.-]+):([0-9]{1,5})")
CONNECT_S = 8.0  # until a scheduler answers
CHECK_S = 60.0  # until all workers have said what they are: they may have to enter every account
ENTERED = re.compile(r"[0-9]{12} in ")  # what helpers.fleet.accounts says of a place that can be entered
LOOK_S = 1.0  # how often a task that takes long is looked after
ALONE_S = 60.0  # how long there may be no worker before what waits for one is given up
SHOWN = 4  # workers that a fault names


def checked(address: str) -> str:
    """The address. Raises `RunbookError` where it is none, or Dask is not installed."""
    found = ADDRESS.fullmatch(address)
    if address != LOCAL and not (found and 0 < int(found[2]) < 65536):
        raise RunbookError(f"--cluster {address} is no address of a cluster.", "Write tcp://HOST:PORT, as `dask scheduler` prints it, or local.")
    if importlib.util.find_spec("distributed") is None:
        raise RunbookError("--cluster needs Dask distributed, which is not installed.", "Install the extra: `uv sync --extra cluster`, or `pip install distributed`.")
    return address


class Cluster:
    """A cluster that was joined. `close` leaves it, and ends what this process has started."""

    def __init__(self, address: str, at_once: int, *, warm: bool = True) -> None:
        """Join the cluster at an address, or make one in this process that runs `at_once` at once, in `warm` kernels.

        Raises `RunbookError` where it does not answer or has no worker.
        """
        self.address = checked(address)
        self.session = uuid.uuid4().hex
        self.where: dict[int, str] = {}  # the worker of each target that has begun, by the target's number
        self._warm, self._own = warm, None
        self._earlier: set[str] = set()
        self._futures: set[Future] = set()
        self._interrupted = False
        self._starting = threading.Thread(target=lambda: worker.warm_kernels().start() if warm and address == LOCAL else None)
        self._starting.start()  # the fork server imports while this process imports Dask
        from distributed import Client

        for name in [one for one in logging.root.manager.loggerDict if one.startswith("distributed")]:
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what goes wrong is told in our own words
        if address == LOCAL:
            self._own = _in_this_process(at_once)
        try:
            self._client: Client = Client(self._own or address, timeout=CONNECT_S, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise RunbookError(f"No Dask scheduler answers at {address}: {error or type(error).__name__}.", "Start one (`dask scheduler`), or correct --cluster.") from error
        if not self._workers():
            self.close()
            raise RunbookError(f"The cluster at {address} has no workers.", f"Start some: `./run dask worker {address}`.")
        self._client.subscribe_topic(self.session, lambda event: self.where.update([event[1]]))

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster; one in this process ends, with its kernels."""
        with contextlib.suppress(Exception):  # a scheduler that has gone cannot be told
            self._client.close(timeout=5)
        if self._own is not None:
            self._own.close(timeout=10)
            self._starting.join()
            worker.close()

    def _workers(self) -> dict[str, Any]:
        """The workers there are, by address."""
        return self._client.scheduler_info()["workers"]

    @property
    def size(self) -> str:
        """How many workers, with how many threads."""
        workers = self._workers()
        threads = sum(one["nthreads"] for one in workers.values())
        return f"{len(workers)} worker{'s' * (len(workers) != 1)} with {threads} thread{'s' * (threads != 1)}"

    # -- before anything runs --------------------------------------------------------------------------

    def faults(self, targets: Sequence[Target], mode: str) -> list[str]:
        """Why the workers would not run the targets as this process would: another product, another runbook, another account, other runs."""
        if self._own is not None:
            return []
        paths = sorted({worker.portable(one.path) for one in targets})
        places = accounts.places(targets) if mode != "rehearse" else []
        with _nonce() as nonce:
            question = (nonce, paths, places, worker.own_settings())
            with ThreadPoolExecutor(1) as beside:
                here = beside.submit(worker.facts, *question)
                told = self._ask(worker.look, *question)
            mine = here.result()
        faults: dict[str, list[str]] = {}
        for address, theirs in told.items():
            for fault in _differences(mine, theirs, self.address):
                faults.setdefault(fault, []).append(address)
        return [f"{_several(names)}: {fault}" for fault, names in faults.items()]

    def _ask(self, function: Callable[..., Any], *arguments: Any, patience_s: float = CHECK_S) -> dict[str, Any]:
        """What a function returns on each worker, by the worker's name; an exception where it raised one or did not answer in time."""
        workers = self._workers()
        told: dict[str, Any] = dict.fromkeys(workers, RunbookError(f"It did not answer in {patience_s:.0f} s.", "End it, or wait until it is free."))

        def ask() -> None:
            told.update(self._client.run(function, *arguments, on_error="return"))

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(patience_s)
        return {str(workers.get(address, {}).get("name", address)): one for address, one in told.copy().items()}

    # -- running ---------------------------------------------------------------------------------------

    def launcher(self, record: Record, mode: str, rehearse: Rehearse) -> Callable[[Target, str], Ended]:
        """A function that runs one target under a run id on a worker, and waits for it. Each is one task of Dask's, which may deliver it twice."""
        settings = worker.own_settings()

        def launch(target: Target, run_id: str) -> Ended:
            if self._interrupted:
                raise RunbookError("The fleet was interrupted before this run began.", "Resume the fleet.")
            self._await_earlier(run_id)
            portable = replace(target, path=Path(worker.portable(target.path)))
            task = worker.Task(uuid.uuid4().hex, self.session, record.id, portable, run_id, mode, settings, self._warm)
            future = self._client.submit(worker.run, task, rehearse if mode == "rehearse" else None, key=f"{run_id}-{task.name}", pure=False)
            self._futures.add(future)
            try:
                return self._result(future, run_id)
            finally:
                self._futures.discard(future)
                future.release()  # else it would run again when the worker that keeps its result dies
                store.run_directory(run_id)  # what a worker put into S3 is in the fleet's report

        return launch

    def _result(self, future: Future, run_id: str) -> Ended:
        """How a task ended; also where its worker dies each time, there is no worker any more, or the scheduler has gone."""
        from distributed.scheduler import KilledWorker

        alone_since = 0.0
        while True:
            try:
                return future.result(timeout=LOOK_S)
            except TimeoutError:
                alone_since = 0.0 if self._has_workers() else alone_since or time.monotonic()
            except KilledWorker as error:
                return _killed(store.run_directory(run_id), error)
            except Exception as error:  # a task's own errors are returned
                if self._interrupted:
                    return Ended(INTERRUPTED, store.FAILED, "The fleet was interrupted.")
                why = "" if isinstance(error, CancelledError) else f": {type(error).__name__}: {error}"
                return Ended(INTERRUPTED, store.FAILED, f"The scheduler at {self.address} has gone{why}. Remedy: Start it and its workers again, then resume the fleet.")
            if alone_since and time.monotonic() - alone_since > ALONE_S:
                return Ended(INTERRUPTED, store.FAILED, f"The cluster at {self.address} has had no worker for {ALONE_S:.0f} s. Remedy: Start some, then resume the fleet.")

    def _has_workers(self) -> bool:
        """False where the scheduler says that it has none; a scheduler that has gone is told by the future."""
        try:
            return bool(self._workers())
        except Exception:
            return True

    def join_earlier(self, record: Record) -> int:
        """Find the runs of this fleet that still run on workers, because only their coordinator has gone; they are waited for. Returns how many."""
        self._earlier = {one.run_id for one in record.outcomes()} & self._running()
        return len(self._earlier)

    def _running(self) -> set[str]:
        return {run_id for told in self._ask(worker.running).values() if isinstance(told, list) for run_id in told}

    def _await_earlier(self, run_id: str) -> None:
        """Wait for the end of a run that an earlier coordinator began."""
        while run_id in self._earlier and run_id in self._running() and not self._interrupted:
            time.sleep(LOOK_S)

    def interrupter(self, record: Record) -> Callable[[bool], None]:
        """A function that interrupts the fleet's runs on all workers; `hard` ends them, and waits for no worker that does not answer."""

        def interrupt(hard: bool) -> None:
            self._interrupted = True
            self._ask(worker.interrupt, record.id, self.session, hard, patience_s=LOOK_S * 5)
            if hard:
                self._client.cancel(list(self._futures), force=True)

        return interrupt


def _in_this_process(at_once: int) -> Any:
    """A scheduler and a worker in this process, which talk without a socket: nothing listens, and nothing is left when the process ends."""
    import dask
    from distributed import Scheduler, SpecCluster, Worker

    class Deaf:
        """Without the HTTP server that Dask starts, on all interfaces, even where it has no dashboard."""

        def start_http_server(self, *_: Any, **__: Any) -> None:
            pass

    dask.config.set({"distributed.worker.profile.enabled": False})  # it would look at every thread a hundred times a second
    warnings.filterwarnings("ignore", "Couldn't detect a suitable IP address")  # a machine without a network
    options = {"protocol": "inproc://", "dashboard": False}
    return SpecCluster(
        scheduler={"cls": type("DeafScheduler", (Deaf, Scheduler), {}), "options": options},
        workers={0: {"cls": type("DeafWorker", (Deaf, Worker), {}), "options": {**options, "nthreads": at_once, "memory_limit": None, "name": LOCAL}}},
        silence_logs=logging.CRITICAL,
    )


@contextlib.contextmanager
def _nonce() -> Iterator[str]:
    """A folder among the runs with a file that says something nobody can guess; what was made for it is removed."""
    runs = store.runs_directory()
    made = not runs.exists()
    name = f".cluster-{secrets.token_hex(4)}"
    (runs / name).mkdir(parents=True, mode=0o700)
    try:
        store.write_json(runs / name / worker.NONCE, secrets.token_hex(16))
        yield name
    finally:
        shutil.rmtree(runs / name, ignore_errors=True)
        if made:
            with contextlib.suppress(OSError):
                runs.rmdir()


def _differences(mine: dict[str, dict[str, str]], theirs: dict[str, dict[str, str]] | Exception, address: str) -> Iterator[str]:
    """What is other on a worker than here, each with its remedy."""
    same = f"Remedy: Start it in the environment of this very version: `./run dask worker {address}`."
    if isinstance(theirs, RunbookError):
        yield f"{theirs}"
        return
    if isinstance(theirs, Exception):
        yield f"It has not this product: {type(theirs).__name__}: {theirs}. {same}"
        return
    for name, here in mine["versions"].items():
        if (there := theirs["versions"].get(name, "")) != here:
            yield f"{name} is {there or 'missing'} and not {here}. {same}"
    for path, here in mine["runbooks"].items():
        if (there := theirs["runbooks"][path]) != here:
            yield f"{path} is {'another one' if there else 'not there'}. Remedy: Copy it to the same place on every machine."
    if theirs["runs"] != mine["runs"]:
        yield f"The folder of the runs, {store.runs_directory()}, is not shared with it, or it cannot write there. Remedy: Set RUNBOOK_RUNS here to one that all machines share."
    for place, here in mine["places"].items():
        if ENTERED.match(here) and (there := theirs["places"].get(place, "nowhere")) != here:
            yield f"{place} leads to {there} and not to {here}. Remedy: Give its process the credentials and the profiles that this one has."


def _several(workers: Sequence[str]) -> str:
    more = len(workers) - SHOWN
    return f"Worker{'s' * (len(workers) > 1)} {', '.join(workers[:SHOWN])}{f' and {more} more' if more > 0 else ''}"


def _killed(directory: Path, error: Any) -> Ended:
    """How a run ended whose workers died: in doubt where an effect was begun and not recorded as done."""
    doubt = Journal(directory / "journal.jsonl", read_only=True).in_doubt()
    status = "in doubt" if doubt else "failed"
    count = error.allowed_failures + 1
    why = f"{count} worker{'s' * (count > 1)} died running it, {error.last_worker.name} the last. Remedy: Look into their logs (memory?), then run it again."
    return Ended(status, store.EXIT_CODES[status], why)
