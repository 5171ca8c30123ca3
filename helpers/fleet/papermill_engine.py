"""papermill's engine interface over warm kernels: plain `papermill.execute_notebook(..., engine_name="warm")`.

It is registered from code by `register`, in the process that wants it, and not by an entry point: those are loaded by every
`import papermill`, and a broken one breaks papermill.
"""

from __future__ import annotations

from typing import Any

from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines

from helpers.fleet.warm import WarmKernels
from helpers.runbook.execute import STARTUP, kernel

NAME = "warm"


def register(kernels: WarmKernels, name: str = NAME) -> None:
    """Make `engine_name=name` of papermill mean kernels of `kernels`, in this process."""
    papermill_engines.register(name, type("WarmEngine", (WarmEngine,), {"kernels": kernels}))


class WarmEngine(NBClientEngine):
    """papermill's own engine but for the kernel, which is forked."""

    kernels: WarmKernels

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: NotebookExecutionManager, kernel_name: str, log_output: bool = False, start_timeout: int = STARTUP, execution_timeout: int | None = None, **_: Any
    ) -> None:
        """Execute the cells in a kernel of this interpreter, whichever `kernel_name` the notebook has."""
        with kernel(cls.kernels.manager) as manager:
            client = PapermillNotebookClient(nb_man, km=manager, startup_timeout=start_timeout, timeout=execution_timeout, log_output=log_output)
            client.execute(cleanup_kc=True)
