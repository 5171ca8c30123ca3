"""A forked process becomes a kernel: what is its own and not the server's, then ipykernel as anybody starts it."""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import random
import sys
import threading
import time
from typing import Any

from helpers.fleet.fork_server import Request

INLINE = "module://matplotlib_inline.backend_inline"


def be_a_kernel(request: Request) -> None:
    """Be the kernel that was asked for, and end the process when it was shut down."""
    server = os.getppid()
    take_over(request)
    _be_random()
    _draw_inline()
    app = _app(request.argv, server)
    app.start()
    atexit.unregister(app.close)  # closing ipykernel's sockets in order sometimes waits for seconds for one that another thread still holds
    end(0)


def take_over(request: Request) -> None:
    """A process group of its own; the standard files, environment, folder and time zone of the one who asks."""
    os.setsid()  # so that a signal reaches what the process has started
    for number, file in enumerate(request.files):
        os.dup2(file, number)
        os.close(file)
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.reconfigure(line_buffering=True)
    os.environ.clear()
    os.environ.update(request.env)
    time.tzset()
    os.chdir(request.cwd)


def _be_random() -> None:
    """New random numbers: without this every kernel would draw those of the server."""
    import numpy

    random.seed()
    numpy.random.seed()


def _draw_inline() -> None:
    """matplotlib reads MPLBACKEND, which ipykernel sets, only when it is imported; and that was before."""
    import matplotlib

    if not os.environ.get("MPLBACKEND"):
        matplotlib.rcParams["backend"] = INLINE


def _app(argv: list[str], server: int) -> Any:
    """ipykernel's application with the arguments of `python -m ipykernel_launcher`; it ends when the server does."""
    from ipykernel.kernelapp import IPKernelApp

    launcher = importlib.util.find_spec("ipykernel_launcher")
    sys.argv = [launcher.origin if launcher and launcher.origin else "ipykernel_launcher", *argv]
    app = IPKernelApp.instance(parent_handle=server)
    app.initialize(list(argv))
    return app


def end(code: int) -> None:
    """End as Python does, threads first and then exit handlers, but leave memory to the system: to free it would copy it first."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)
