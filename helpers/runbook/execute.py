"""Run a runbook's notebook headless and report how it ended, judged by its result.json and never by the notebook."""

from __future__ import annotations

import builtins
import contextlib
import copy
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# jsonschema would compile grammars with it when imported (0.9 s), for a check that notebooks do not use.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NotebookExecutionManager
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from helpers.aws.errors import RunbookError
from helpers.runbook import parameters as schema
from helpers.runbook import analysis, bars, store
from helpers.runbook.interrupts import handled_by
from helpers.runbook.journal import Journal
from helpers.runbook.redact import redact

KERNEL = "python3"
STARTUP = 120  # seconds that a kernel may take to start, on a busy machine
ORPHAN = 4.0  # seconds within which a kernel ends that lost its parent
SHOWN = {"display_data", "execute_result"}
WIDGET = "application/vnd.jupyter.widget-view+json"
Manager = Callable[..., AsyncKernelManager]


@dataclass(frozen=True)
class ExecutionResult:
    """How a run ended: its exit code (0 done, 1 failed, 2 changes, 3 not approved, 5 in doubt) and its files."""

    run_id: str
    directory: Path
    status: str
    exit_code: int
    error: str = ""
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def output(self) -> Path:
        """The executed notebook."""
        return self.directory / "output.ipynb"


def execute(
    name: str | Path,
    parameters: Mapping[str, Any],
    *,
    run_directory: Path,
    environment: Mapping[str, str] | None = None,
    manager: Manager = AsyncKernelManager,
    quiet: bool = False,
) -> ExecutionResult:
    """Run runbook or analysis `name` in a fresh kernel; its folder is `run_directory`, whose name becomes its `run_id`.

    `parameters` are typed values; they are checked before the kernel starts. `environment` is the kernel's whole
    environment (default: this process's); `manager` makes the manager of the kernel. What the notebook shows is printed
    as it comes, unless `quiet`. The executed notebook is kept in output.ipynb, atomic and 0600, after every cell. Raises `ParameterError` for wrong parameters and
    `RunbookError` where another process runs this run; a notebook that fails, or a kernel that dies, is told by the
    result.
    """
    path = schema.find(name)
    declared = schema.load(path)
    reads_only = analysis.is_analysis(declared)
    values = schema.check_values(declared, {**parameters, **({} if reads_only else {"run_id": run_directory.name})})
    run_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    _refuse_a_second(run_directory / "journal.jsonl")
    before, began = _stamp(run_directory / "result.json"), time.time()
    applies = values.get("mode", next((p.default for p in declared if p.name == "mode"), "")) == "apply"
    with contextlib.nullcontext() if applies else store.published(run_directory):  # an apply is held by its kernel
        fault = _run(path, values, run_directory, _environment(run_directory, environment, applies), manager, quiet)
        with store.published(run_directory, after_its_kernel=True) if applies else contextlib.nullcontext():
            if reads_only:
                result = analysis.record(path, values, run_directory, began, fault)
                return ExecutionResult(run_directory.name, run_directory, result["status"], result["exit_code"], fault, result)
            if _stamp(run_directory / "result.json") == before:
                return _unrecorded(path, values, run_directory, fault)
            return _judge(run_directory, fault)


def _refuse_a_second(journal: Path) -> None:
    """Leave a run alone that another process runs: its result and notebook are that one's.

    A kernel whose parent was killed notices it within a second or two, so the lock is asked for a little longer.
    """
    end = time.monotonic() + ORPHAN
    while journal.exists():
        try:
            return Journal(journal).close()
        except RunbookError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


# -- the kernel ----------------------------------------------------------------------------------------


class _Notebook(NotebookExecutionManager):
    """papermill's bookkeeping of cells, saved atomically and readable by the owner only; once a code cell has ended, not at each cell's start, too."""

    _saves = True

    def save(self, **kwargs: Any) -> None:
        if self._saves:
            store.write_private(Path(self.output_path), redact(nbformat.writes(_without_bars(self.nb))))
            self.last_save_time = self.now()

    def cell_start(self, cell: Any, cell_index: int | None = None, **kwargs: Any) -> None:
        self._saves = False
        super().cell_start(cell, cell_index, **kwargs)
        self._saves = cell.cell_type == "code"

    def notebook_complete(self, **kwargs: Any) -> None:
        self._saves = True
        super().notebook_complete(**kwargs)


class _Printing(PapermillNotebookClient):
    """papermill's client, which also prints what the kernel shows."""

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        _print(msg["msg_type"], msg["content"])
        return super().process_message(msg, cell, cell_index)


def _run(path: Path, values: Mapping[str, Any], directory: Path, environment: Mapping[str, str], make: Manager, quiet: bool) -> str:
    """Execute the notebook; returns why it stopped early, or the empty string."""
    notebook = parameterize_notebook(load_notebook_node(str(path)), dict(values), kernel_name=KERNEL, language="python")
    notebook.metadata.papermill.update(input_path=path.name, output_path="output.ipynb")
    manager = _Notebook(notebook, output_path=str(directory / "output.ipynb"), progress_bar=False)
    manager.notebook_start()
    fault = ""
    try:
        with kernel(make) as its_kernel, _interrupting(its_kernel):
            kind = PapermillNotebookClient if quiet else _Printing
            client = kind(manager, km=its_kernel, timeout=None, iopub_timeout=60, startup_timeout=STARTUP, shutdown_kernel="immediate")
            client.execute(env=environment, cleanup_kc=True)
    except DeadKernelError:
        fault = "The kernel died."
    except KeyboardInterrupt:
        fault = "The run was interrupted."
    except Exception as error:
        fault = f"The notebook could not be run: {error or type(error).__name__}"
    finally:
        manager.notebook_complete()
    return fault or _first_error(notebook)


@contextlib.contextmanager
def kernel(make: Manager = AsyncKernelManager) -> Iterator[AsyncKernelManager]:
    """The manager, made by `make`, of a kernel of this very interpreter, whatever kernels a user has registered under the same name.

    It is spoken to over sockets in a folder of its own, which no other user of the machine can enter; their path must
    be short (104 bytes on macOS).
    """
    place = None if len(tempfile.gettempdir()) < 70 else "/tmp"
    with tempfile.TemporaryDirectory(prefix="rb-", dir=place, ignore_cleanup_errors=True) as folder:
        specs = KernelSpecManager(kernel_dirs=[])
        yield make(kernel_name=KERNEL, kernel_spec_manager=specs, transport="ipc", connection_file=f"{folder}/k.json")


def _environment(directory: Path, environment: Mapping[str, str] | None, applies: bool) -> dict[str, str]:
    """The kernel's environment: as given, and where the runs are. Of runs in S3 only an apply is written there by its kernel itself."""
    place = store.shared_with(directory) if applies else None
    return {**(os.environ if environment is None else environment), "RUNBOOK_RUNS": place.address if place else str(directory.parent.resolve())}


def _interrupting(kernel: AsyncKernelManager) -> contextlib.AbstractContextManager[None]:
    """Ctrl-C and SIGTERM interrupt the kernel first, so that the step can undo a freeze; a second one ends the run."""
    told: list[int] = []

    def interrupt(number: int, frame: Any) -> None:
        pid = getattr(kernel.provisioner, "pid", None)
        if told or pid is None:
            raise KeyboardInterrupt
        told.append(number)
        os.kill(pid, signal.SIGINT)

    return handled_by(interrupt)


def _without_bars(notebook: Any) -> Any:
    """A copy of the notebook in which a progress bar is what it was last, and nothing where that is blank."""
    kept = copy.deepcopy(notebook)
    for cell in kept.cells:
        if "outputs" not in cell:
            continue
        cell.outputs = _joined(cell.outputs)
        for output in cell.outputs:
            if output.output_type == "stream":
                output.text = "\n".join(line.rsplit("\r", 1)[-1] for line in output.text.split("\n"))
        cell.outputs = [output for output in cell.outputs if output.output_type != "stream" or output.text.strip()]
    return kept


def _joined(outputs: list[Any]) -> list[Any]:
    """The outputs with what a stream said in a row as one: a bar moves on in many pieces."""
    joined: list[Any] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last is not None and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def _first_error(notebook: Any) -> str:
    """The error that ended the notebook, or the empty string; our own errors are sentences without a type."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                return f"{output.ename}: {output.evalue}" if hasattr(builtins, output.ename) else output.evalue
    return ""


def _print(kind: str, content: Mapping[str, Any]) -> None:
    """Show a message of the kernel in the terminal: text of cards and streams; progress bars on a terminal only."""
    if kind == "stream":
        stream = sys.stderr if content["name"] == "stderr" else sys.stdout
        if bars.is_shown(content["text"], stream):
            print(content["text"], end="", flush=True, file=stream)
    elif kind in SHOWN and WIDGET not in content["data"] and "text/plain" in content["data"]:
        print(content["data"]["text/plain"], flush=True)


# -- the verdict ---------------------------------------------------------------------------------------


def _judge(directory: Path, fault: str) -> ExecutionResult:
    """The result as the run recorded it; one that says `running` was cut short, and is corrected."""
    result = store.read_json(directory / "result.json")
    if result["status"] == "running":
        status = _cut_short(directory)
        result.update(status=status, exit_code=store.EXIT_CODES[status], error=fault or "The notebook ended before `run.finish()`.")
        store.write_json(directory / "result.json", result)
    return ExecutionResult(directory.name, directory, result["status"], result["exit_code"], result.get("error", ""), result)


def _cut_short(directory: Path) -> str:
    """`in doubt` where an effect was begun and not recorded as done, else `failed`."""
    return "in doubt" if Journal(directory / "journal.jsonl", read_only=True).in_doubt() else "failed"


def _unrecorded(path: Path, values: Mapping[str, Any], directory: Path, fault: str) -> ExecutionResult:
    """The result of a notebook that ended before its run recorded one."""
    status = _cut_short(directory)
    error = fault or "The notebook began no run: it has to call `runbook.start`."
    result = {
        "runbook": path.stem,
        "run_id": directory.name,
        "mode": values.get("mode", "rehearse"),
        "status": status,
        "exit_code": store.EXIT_CODES[status],
        "error": error,
        "ended": time.time(),
        "parameters": dict(values),
        "steps": [],
        "calls": [],
        "metrics": {},
    }
    if not (directory / "journal.jsonl").exists():  # else this attempt was refused, and what the run did stays recorded
        store.write_json(directory / "result.json", result)
    return ExecutionResult(directory.name, directory, status, result["exit_code"], error, result)


def _stamp(path: Path) -> tuple[int, int] | None:
    """What tells one version of a file that is replaced as a whole from the next."""
    try:
        told = path.stat()
    except FileNotFoundError:
        return None
    return told.st_ino, told.st_mtime_ns
