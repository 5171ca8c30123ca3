"""Warm kernels against cold ones: what they find, what they leave, how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

from helpers.fleet import fork_server
from helpers.fleet.warm import WarmKernels
from helpers.runbook.execute import kernel

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")

# What a notebook can find out about the process it runs in. The parent of a warm kernel is another one, by its nature.
FIND = """
import boto3, botocore.session, json, locale, logging, matplotlib, os, signal, sys, threading, time
import matplotlib.pyplot as plt, numpy as np, pandas as pd
print(json.dumps({
    "environment": {name: value for name, value in os.environ.items() if name != "JPY_PARENT_PID"},
    "folder": os.getcwd(), "path": sys.path, "arguments": [os.path.basename(sys.argv[0]), *sys.argv[3:]], "main": __name__,
    "names": sorted(name for name in globals() if not name.startswith("_i")),
    "rcParams": {name: str(value) for name, value in matplotlib.rcParams.items()}, "backend": plt.get_backend(), "interactive": plt.isinteractive(),
    "figures": plt.get_fignums(), "session": str(boto3.DEFAULT_SESSION), "marks": [hasattr(one, "mark") for one in (os, pd, np, boto3)],
    "options": pd.get_option("display.max_rows"), "numpy": np.geterr(),
    "signals": [str(signal.getsignal(number)) for number in signal.valid_signals() if number not in (9, 19)],
    "group": os.getpgid(0) == os.getpid(), "session id": os.getsid(0) == os.getpid(), "mask": os.umask(0o22),
    "locale": locale.getlocale(), "zone": time.tzname, "threads": sorted(type(one).__name__ for one in threading.enumerate()),
    "loggers": [str(one) for one in logging.root.handlers], "level": logging.root.level, "flags": str(sys.flags), "stdin": sys.stdin.read() if sys.stdin else None,
    "files": sorted(one for one in map(os.path.realpath, (f"/proc/self/fd/{n}" for n in os.listdir("/proc/self/fd"))) if one.startswith("/") and "/proc/" not in one and "/dev/" not in one),
}))
"""
SPOIL = """
import atexit, boto3, logging, matplotlib, os, random, signal, sys
import matplotlib.pyplot as plt, numpy as np, pandas as pd
os.environ["SPOILT"] = "yes"; os.chdir("/"); sys.path.insert(0, "/spoilt")
os.mark = pd.mark = np.mark = boto3.mark = True
matplotlib.rcParams["figure.dpi"] = 7; plt.ioff(); figure = plt.figure()
boto3.setup_default_session(region_name="eu-west-1"); pd.set_option("display.max_rows", 3); np.seterr(all="raise")
random.seed(1); np.random.seed(1); signal.signal(signal.SIGUSR1, signal.SIG_IGN); logging.basicConfig(level=10); os.umask(0); os.environ["AWS_PROFILE"] = "other"
"""
DRAW = ["import matplotlib.pyplot as plt", "plt.plot([1, 4, 2])\nplt.title('One figure')\nplt.show()", "_ = plt.figure(); plt.plot([3, 1])"]


@pytest.fixture(scope="module")
def warm():
    with WarmKernels() as kernels:
        yield kernels
        assert not kernels.reasons


def run(make, *cells: str, cwd: Path | None = None, env: dict[str, str] | None = None, gently: bool = False) -> nbformat.NotebookNode:
    """Execute cells in a kernel that `make` manages."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    with kernel(make) as manager:
        client = NotebookClient(notebook, km=manager, timeout=90, startup_timeout=120, shutdown_kernel="graceful" if gently else "immediate")
        options = {"cwd": str(cwd)} if cwd else {}
        client.execute(cleanup_kc=True, env=dict(os.environ if env is None else env), **options)
    return notebook


def printed(notebook: nbformat.NotebookNode) -> str:
    return "".join(output.text for cell in notebook.cells for output in cell.outputs if output.output_type == "stream" and output.name == "stdout")


def found(make, **options) -> dict:
    return json.loads(printed(run(make, FIND, **options)))


def wait_until(condition, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """True while the process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_warm_kernel_finds_what_a_cold_one_finds_also_after_another_has_spoilt_its_own(warm, tmp_path):
    env = {**os.environ, "AWS_REGION": "eu-west-1", "TZ": "Asia/Tokyo"}
    cold = found(AsyncKernelManager, cwd=tmp_path, env=env)
    run(warm.manager, SPOIL, cwd=tmp_path)
    forked = found(warm.manager, cwd=tmp_path, env=env)
    assert {name: value for name, value in forked.items() if value != cold[name]} == {}
    assert forked["folder"] == str(tmp_path) and forked["zone"][0] == "JST"


def test_every_kernel_draws_other_random_numbers(warm):
    draw = "import random, numpy as np, uuid; print(random.random(), np.random.random(), uuid.uuid4())"
    draws = [printed(run(warm.manager, draw)).split() for _ in range(2)]
    assert all(one != other for one, other in zip(*draws, strict=True))


def test_figures_are_shown_as_a_cold_kernel_shows_them(warm):
    pictures = []
    for make in (AsyncKernelManager, warm.manager):
        cells = run(make, *DRAW).cells
        pictures.append([[output.data["image/png"] for output in cell.outputs if "data" in output and "image/png" in output.data] for cell in cells])
    assert [len(shown) for shown in pictures[0]] == [0, 1, 1] and pictures[1] == pictures[0]


def test_exit_handlers_of_a_notebook_run_once_when_its_kernel_is_shut_down_and_never_in_the_server(warm, tmp_path):
    cell = f"import atexit, os; atexit.register(lambda: open({str(tmp_path / 'ended')!r}, 'a').write(str(os.getpid()))); print(os.getpid())"
    pid = printed(run(warm.manager, cell, gently=True)).strip()
    wait_until((tmp_path / "ended").exists)
    run(warm.manager, "1")
    assert (tmp_path / "ended").read_text() == pid and warm.pid is not None


@pytest.mark.parametrize("crash", ["import os; os.kill(os.getpid(), 9)", "import ctypes; ctypes.string_at(0)", "import os; os._exit(3)"])
def test_a_kernel_that_crashes_leaves_the_server_and_the_other_kernels_alone(warm, crash):
    results = []
    neighbour = threading.Thread(target=lambda: results.append(printed(run(warm.manager, "import time; time.sleep(2)", "print('well')"))))
    run(warm.manager, "1")
    server = warm.pid
    neighbour.start()
    with pytest.raises(DeadKernelError):
        run(warm.manager, crash)
    neighbour.join(90)
    assert results == ["well\n"] and warm.pid == server


def test_an_interrupt_reaches_the_cell(warm, tmp_path):
    def interrupting(**options):
        manager = warm.manager(**options)
        threading.Thread(target=lambda: (wait_until((tmp_path / "begun").exists), manager.provisioner.process.send_signal(signal.SIGINT))).start()
        return manager

    cell = f"import time\ntry:\n    open({str(tmp_path / 'begun')!r}, 'w').close(); time.sleep(60)\nexcept KeyboardInterrupt:\n    print('interrupted')"
    assert printed(run(interrupting, cell)) == "interrupted\n"


def test_a_server_that_was_killed_takes_its_kernels_along_and_the_next_kernel_has_a_new_one(tmp_path):
    with WarmKernels() as kernels:
        cell = f"import os, time; open({str(tmp_path / 'pids')!r}, 'w').write(f'{{os.getpid()}} {{os.getppid()}}'); os.kill(os.getppid(), 9); time.sleep(60)"
        with pytest.raises(DeadKernelError):
            run(kernels.manager, cell)
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        assert printed(run(kernels.manager, "print('again')")) == "again\n"
        wait_until(lambda: not any(map(alive, pids)))
        server = kernels.pid
    assert server not in pids and not alive(server)


def test_a_process_that_dies_leaves_neither_a_server_nor_a_kernel():
    script = """
import os, signal
from helpers.fleet.warm import WarmKernels
kernels = WarmKernels()
forked = kernels.fork(["-f", "/nonexistent/k.json", "--ip=127.0.0.1"], dict(os.environ), "/", [0, 1, 2])
print(kernels.pid, forked.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=110)
    pids = [int(word) for word in done.stdout.split()[:2]]
    assert len(pids) == 2
    wait_until(lambda: not any(map(alive, pids)))


def test_a_fork_that_would_not_be_what_a_cold_kernel_is_is_refused_with_the_reason(tmp_path, monkeypatch):
    server = fork_server.Server(None, ("json", "pandas"), {"OMP_NUM_THREADS": "2", "ANY": "1"})
    here = tmp_path / "here"
    here.mkdir()
    request = fork_server.Request([], {"OMP_NUM_THREADS": "2", "ANY": "2"}, str(here), [])
    monkeypatch.setattr(fork_server, "threads", lambda: 1)
    assert server._refusal(request) == ""
    (here / "pandas.py").write_text("")
    assert server._refusal(request) == "the folder has another pandas"
    (here / "matplotlibrc").write_text("")
    assert server._refusal(request) == "the folder has a matplotlibrc"
    assert server._refusal(fork_server.Request([], {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "2"}, "/", [])) == "PYTHONHASHSEED differ"
    monkeypatch.setattr(fork_server, "threads", lambda: 2)
    assert server._refusal(request) == "the server has 2 threads"


def test_where_a_fork_is_refused_the_same_manager_starts_a_cold_kernel(tmp_path):
    (tmp_path / "matplotlibrc").write_text("figure.dpi: 33\n")
    with WarmKernels() as kernels:
        cell = "import matplotlib; print(matplotlib.rcParams['figure.dpi'])"
        assert printed(run(kernels.manager, cell, cwd=tmp_path)) == "33.0\n"
        assert kernels.counts == {"cold": 1} and kernels.reasons == {"the folder has a matplotlibrc": 1}


def test_where_there_is_no_fork_kernels_are_cold(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with WarmKernels() as kernels:
        assert kernels.fork([], {}, "/", [0, 1, 2]) is None
        assert kernels.reasons == {"kernels are forked on Linux only": 1} and kernels.pid is None


def test_plain_papermill_imports_nothing_of_ours_and_no_entry_point_is_registered():
    script = "import papermill, sys; print([name for name in sys.modules if name.startswith('helpers')])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
    project = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text()
    assert "entry-points" not in project
