"""How one run of a fleet is started, in each mode, in a kernel of the fleet's."""

from __future__ import annotations

import os
import signal
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager

from helpers.aws.errors import RunbookError
from helpers.fleet.approval import PLAN
from helpers.fleet.record import Record
from helpers.fleet.run import Ended
from helpers.fleet.targets import Target
from helpers.fleet.warm import WarmKernels
from helpers.runbook import store
from helpers.runbook.execute import ExecutionResult, execute
from helpers.runbook.saved_plan import refuse_if_stale


class Kernels:
    """The kernels of a fleet: warm, or cold where that is asked for, and those that run now."""

    def __init__(self, warm: WarmKernels | None) -> None:
        self._warm = warm
        self._live: weakref.WeakSet[AsyncKernelManager] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._interrupted = False

    def manager(self, **options: Any) -> AsyncKernelManager:
        """The manager of a new kernel. Raises `RunbookError` once the fleet was interrupted: a run that was being prepared does not begin."""
        with self._lock:
            if self._interrupted:
                raise RunbookError("The fleet was interrupted before this run began.", "Resume the fleet.")
            made = self._warm.manager(**options) if self._warm else AsyncKernelManager(**options)
            self._live.add(made)
        return made

    def interrupt(self, hard: bool) -> None:
        """Interrupt the cells that run, and let no kernel begin any more; `hard` kills those there are."""
        with self._lock:
            self._interrupted = True
            live = list(self._live)
        for one in live:
            process = getattr(one.provisioner, "process", None)
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGKILL if hard else signal.SIGINT)


Rehearse = Callable[..., ExecutionResult]


def launcher(record: Record, mode: str, kernels: Kernels, rehearse: Rehearse) -> Callable[[Target, str], Ended]:
    """A function that runs one target under a run id. `rehearse` is `helpers.rehearsal.rehearse.execute`, which the command line has."""
    return lambda target, run_id: launch(target, record.runs / run_id, mode, kernels, rehearse)


def launch(target: Target, directory: Path, mode: str, kernels: Kernels, rehearse: Rehearse | None) -> Ended:
    """Run one target in its run's folder. Raises `RunbookError` where it cannot begin."""
    values = target.values if target.reads_only else {**target.values, "mode": mode}
    if mode == "rehearse":
        assert rehearse is not None
        outcome = rehearse(target.path, values, directory, alone=True, manager=kernels.manager, quiet=True)
        return Ended(outcome.status, outcome.exit_code, outcome.error)
    if mode == "apply" and not target.reads_only:
        plan = store.read_json(directory / PLAN)
        gates = dict.fromkeys(one["gate"] for one in plan["gates"])
        values = {**values, "plan_file": str(directory / PLAN), "approve": ",".join(gates)}
        refuse_if_stale(target.path, values, directory, manager=kernels.manager)
    outcome = execute(target.path, values, run_directory=directory, manager=kernels.manager, quiet=True)
    return Ended(outcome.status, outcome.exit_code, outcome.error)


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
