"""A Dask cluster for tests: a scheduler and workers, each a process of its own on 127.0.0.1, and a runbook whose effects its cloud counts."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
from distributed import Client

MARK = "RUNBOOK_TEST_MACHINES"  # in the environment of all processes of a cluster, those that its workers start too
CALL = "import sys; from helpers.cli import main; main()"


class Machines:
    """The processes of a cluster, by name; `address` is the scheduler's."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.processes = folder, {}
        folder.mkdir(exist_ok=True)
        self._start("scheduler", "--port", "0")
        self.address = until(lambda: re.search(r"Scheduler at: +(tcp://\S+)", self._log("scheduler").read_text()))[1]

    def __enter__(self) -> Machines:
        return self

    def __exit__(self, *_: object) -> None:
        scheduler = self.processes.pop("scheduler")
        for together in (self.processes.values(), [scheduler]):  # a worker that is told to end by both ends 8 s later
            for process in together:
                process.terminate()
            for process in together:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(15)
                process.kill()
                process.wait()

    def worker(self, name: str, *arguments: str, **environment: str) -> None:
        """Start a worker with two threads that knows no region and no endpoint, but has credentials of its own."""
        credentials = {"AWS_ACCESS_KEY_ID": "rehearsal", "AWS_SECRET_ACCESS_KEY": "rehearsal", "AWS_EC2_METADATA_DISABLED": "true"}
        self._start(name, self.address, "--name", name, "--nthreads", "2", "--local-directory", str(self.folder), *arguments, **credentials, **environment)

    def until_joined(self, *names: str) -> None:
        """Wait until these workers are part of the cluster."""
        until(lambda: all("Starting established connection" in self._log(name).read_text() for name in names))

    def allow_failures(self, count: int) -> None:
        """Have the scheduler give a task up when more workers than these have died while they had it (3, where nobody says another number)."""
        with Client(self.address, set_as_default=False) as client:
            client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", count))

    def everything(self) -> list[int]:
        """The processes of the cluster, and all that they have started."""
        return with_variable(f"{MARK}={self.folder}")

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _start(self, name: str, *arguments: str, **environment: str) -> None:
        own = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "RUNBOOK_"))}
        command = [sys.executable, "-m", "dask", "scheduler" if name == "scheduler" else "worker", *arguments, "--host", "127.0.0.1", "--no-dashboard"]
        with open(self._log(name), "a") as log:
            self.processes[name] = subprocess.Popen(command, cwd=self.folder, env={**own, MARK: str(self.folder), **environment}, stdout=log, stderr=log)


def until(condition: Callable[[], Any], patience_s: float = 100) -> Any:
    """What the condition returns when it is true at last."""
    end = time.monotonic() + patience_s
    while not (found := condition()):
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)
    return found


def with_variable(text: str) -> list[int]:
    """The processes that began with a text in their environment, but this one."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if text.encode() in path.read_bytes() and path.parent.name != str(os.getpid()):
                found.append(int(path.parent.name))
    return found


# -- a runbook -----------------------------------------------------------------------------------------

PARAMETERS = """
mode: str = "rehearse"  # mode
name: str = ""  # the thing
house: str = ""  # where the tests look
approve: str = ""  # gates
plan_file: str = ""  # a plan
run_id: str = ""  # a run
"""
# The version of a parameter counts how often it was written. Its writer does not look first where the test says so: then only the
# journal keeps it from writing twice.
START = """
import os, time
from pathlib import Path
from helpers.aws import effect
from helpers.runbook import engine

place = Path(house)

@effect(undo="It stays.")
def ensure_written(aws, key: str) -> str:
    ssm = aws.client("ssm")
    if (place / f"blind-{name}").exists() or key not in [one["Name"] for one in ssm.get_parameters(Names=[key])["Parameters"]]:
        ssm.put_parameter(Name=key, Value="1", Type="String", Overwrite=True)
    return key

def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

run = engine.start(NOTEBOOK, globals())
"""
# In an apply, between the two effects: take a moment, wait where the test says so, or kill the worker.
STEPS = """
with run.step("One"):
    ensure_written(run.aws, f"/{run.id}/one")
if mode == "apply":
    (place / f"at-{name}").write_text(str(parent(os.getppid())))  # the worker: its fork server is this kernel's parent
    if (place / f"kill-{name}").exists():
        os.kill(parent(os.getppid()), 9)
        time.sleep(10)  # the end of this kernel is near
    time.sleep(float((place / "pause").read_text()) if (place / "pause").exists() else 0)
    while (place / f"wait-{name}").exists():
        time.sleep(0.05)
run.gate("go", f"Go on with {name}.", name)
with run.step("Two"):
    ensure_written(run.aws, f"/{run.id}/two")
run.finish()
"""


def write_runbook(folder: Path, names: str, start: str = START, steps: str = STEPS) -> Path:
    """A fleet file over things of these one-letter names, and its runbook beside it."""
    path = folder / "steps.ipynb"
    tagged = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    cells = [tagged, nbformat.v4.new_code_cell(f"NOTEBOOK = {str(path)!r}\n{start}"), nbformat.v4.new_code_cell(steps)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"runbook": {"gates": ["go"], "resource": "name"}}), path)
    file = folder / "fleet.yaml"
    file.write_text(f"runbook: {path}\nparameters: {{house: {folder}}}\ntargets: [{', '.join(names)}]\n")
    return file


def versions(ssm: Any, fleet: str, count: int) -> list[int]:
    """How often each effect of a fleet happened, in order: of every run, One and Two; 0 where it has not."""
    names = [f"/{fleet}.{number:03d}/{step}" for number in range(1, count + 1) for step in ("one", "two")]
    found: dict[str, int] = {}
    for first in range(0, len(names), 10):
        found |= {one["Name"]: one["Version"] for one in ssm.get_parameters(Names=names[first : first + 10])["Parameters"]}
    return [found.get(name, 0) for name in names]


def call(*arguments: str) -> subprocess.Popen:
    """`runbook fleet` in a process of its own."""
    return subprocess.Popen([sys.executable, "-c", CALL, "fleet", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
