"""The command line in processes forked from one that has imported it, its notebooks in warm kernels: the same runs, without Python's start.

A test that is about a process of its own (a signal to it, its start) begins one itself.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping

from helpers.fleet import fork_child, fork_server
from helpers.fleet.forking import ask, end_server, start_server
from helpers.fleet.warm import WarmKernels

IMPORTED = ("helpers.cli", "helpers.runbook.execute", "helpers.rehearsal.rehearse", "helpers.fleet.commands")


def run(arguments: tuple[str, ...], environment: Mapping[str, str], timeout: float = 150) -> subprocess.CompletedProcess[str]:
    """`runbook ARGUMENTS` in an environment: its exit code and what it wrote. Raises `subprocess.TimeoutExpired`."""
    with open(os.devnull) as nothing, tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(_server())
        process, refusal = ask(connection, list(arguments), dict(environment), os.getcwd(), [nothing.fileno(), out.fileno(), errors.fileno()])
        assert process is not None, refusal
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        for file in (out, errors):
            file.seek(0)
        return subprocess.CompletedProcess(arguments, code, out.read(), errors.read())


@functools.cache
def _server() -> str:
    """The socket of this process's server of commands; it ends with this process, and the kernels' server too."""
    folder = tempfile.mkdtemp(prefix="rb-commands-", dir="/tmp")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, module in (("commands.kernels", "helpers.fleet.fork_server"), ("commands", "tests.commands")):
        atexit.register(end_server, start_server(f"{folder}/{name}", lifeline=True, module=module))
    return f"{folder}/commands"


class Shared(WarmKernels):
    """The kernels of a fork server that another process has started."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def _address(self) -> str:
        return self._path


def main(path: str, idle_s: None) -> None:
    """The server: in each process that it forks, run the command that was asked for."""
    before = dict(os.environ)
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"  # else NumPy starts threads
    for name in IMPORTED:
        importlib.import_module(name)
    from helpers import cli
    from helpers.runbook.execute import execute

    execute.__kwdefaults__["manager"] = Shared(f"{path}.kernels").manager
    request = fork_server.serve(path, (), before, idle_s)
    fork_child.take_over(request)
    sys.argv = ["runbook", *request.argv]
    try:
        cli.main()
    except SystemExit as done:
        fork_child.end(done.code)
    except BaseException:
        traceback.print_exc()
        fork_child.end(1)
