"""Time warm kernels next to what people use: the papermill command line, and papermill.execute_notebook on two threads.

    ./run python benchmarks/fleet_warm.py [--runs 30] [--many 1000]

The notebook imports boto3, pandas and matplotlib, makes a client and a table, and draws one figure. The outputs of every run are
compared with a cold kernel's. Then many runs look for lost ones, growing memory and kernels left behind. Either is left out with 0.
Prints what it finds and writes it to benchmarks/results/fleet_warm.md and fleet_warm_many.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import nbformat
import papermill

from helpers.fleet import papermill_engine
from helpers.fleet.warm import WarmKernels

RESULTS = Path(__file__).parent / "results"
THREADS = 2
CELLS = (
    "import boto3\nimport matplotlib.pyplot as plt\nimport pandas as pd",
    "client = boto3.client('s3', region_name='eu-west-1')\nclient.meta.endpoint_url",
    "frame = pd.DataFrame({'hour': range(24), 'MiB': [hour * hour % 7 for hour in range(24)]})\nframe.describe()",
    "frame.plot(x='hour', y='MiB', title='One figure')\nplt.show()",
)


def write_notebook(path: Path) -> None:
    """The notebook that every way runs."""
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS], metadata=spec), path)


def shown(path: Path) -> list[Any]:
    """The outputs of an executed notebook."""
    return [[dict(output) for output in cell.outputs] for cell in nbformat.read(path, as_version=4).cells]


def timed(runs: int, work: Callable[[int], Any], threads: int) -> float:
    """Seconds that `work` takes for all of `runs` numbers on so many threads."""
    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(runs)))
    return time.perf_counter() - began


def kernels_of(server: int) -> list[int]:
    """The processes that the fork server has."""
    return [int(pid) for pid in Path(f"/proc/{server}/task/{server}/children").read_text().split()]


def memory_mib(pid: int | str = "self") -> float:
    """The resident memory of a process, MiB."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def compare(folder: Path, runs: int) -> list[str]:
    """The table of the three ways, and how many outputs are equal to a cold kernel's, in Markdown."""
    source = folder / "notebook.ipynb"

    def command_line(number: int) -> None:
        subprocess.run([sys.executable, "-m", "papermill", source, folder / f"cli-{number}.ipynb", "--no-progress-bar"], check=True, stderr=subprocess.DEVNULL)

    def library(number: int) -> None:
        papermill.execute_notebook(source, folder / f"library-{number}.ipynb", progress_bar=False)

    def warm(number: int) -> None:
        papermill.execute_notebook(source, folder / f"warm-{number}.ipynb", progress_bar=False, engine_name=papermill_engine.NAME)

    began = time.perf_counter()
    warm(-1)
    start_s = time.perf_counter() - began
    command_s, library_s, warm_s = timed(runs, command_line, 1), timed(runs, library, THREADS), timed(runs, warm, THREADS)
    ways = {"papermill command line": command_s, "papermill.execute_notebook, two threads": library_s, "warm kernels, two threads": warm_s}
    rows = [f"| {name} | {took / runs:.2f} | {60 * runs / took:.0f} | {command_s / took:.1f} |" for name, took in ways.items()]
    cold = shown(folder / "cli-0.ipynb")
    equal = Counter(name for name in ("library", "warm") for number in range(runs) if shown(folder / f"{name}-{number}.ipynb") == cold)
    return [
        "| way | seconds each | a minute | x the command line |",
        "| --- | --- | --- | --- |",
        *rows,
        "",
        f"Warm kernels run {library_s / warm_s:.1f} times what execute_notebook runs on two threads. The server's start and the first run took {start_s:.1f} s and are not in the table.",
        "",
        f"Outputs and figures equal to a cold kernel's: {equal['warm']} of {runs} warm runs (the library: {equal['library']} of {runs}).",
        "",
    ]


def endure(folder: Path, runs: int, kernels: WarmKernels) -> list[str]:
    """Run many, and say what was lost, how memory went and what was left behind."""
    source = folder / "notebook.ipynb"
    memory: list[tuple[float, float]] = []
    good: Counter[bool] = Counter()
    papermill.execute_notebook(source, folder / "first.ipynb", progress_bar=False, engine_name=papermill_engine.NAME)
    cold = shown(folder / "first.ipynb")

    def one(number: int) -> None:
        out = folder / f"many-{number}.ipynb"
        papermill.execute_notebook(source, out, progress_bar=False, engine_name=papermill_engine.NAME)
        good[shown(out) == cold] += 1
        out.unlink()
        if number % (runs // 10 or 1) == 0:
            memory.append((memory_mib(), memory_mib(kernels.pid or "self")))

    seconds = timed(runs, one, THREADS)
    here = [round(value) for value, _ in memory]
    server = [round(value) for _, value in memory]
    return [
        f"{runs} runs in {seconds:.0f} s ({60 * runs / seconds:.0f} a minute): {good[True]} with the outputs of the first, {good[False]} with others.",
        "",
        f"Memory of this process after each tenth, MiB: {', '.join(map(str, here))}; of the server: {', '.join(map(str, server))}.",
        "",
        f"Kernels left behind: {len(kernels_of(kernels.pid or os.getpid()))}. Cold kernels: {kernels.counts['cold']}.",
    ]


def main() -> None:
    """Run the comparison and write it down."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--runs", type=int, default=30)
    options.add_argument("--many", type=int, default=1000)
    asked = options.parse_args()
    machine = f"{date.today()}, {os.cpu_count()} cores (load {os.getloadavg()[0]:.1f} before), Python {platform.python_version()}, papermill {papermill.__version__}."
    with tempfile.TemporaryDirectory() as name, WarmKernels() as kernels:
        folder = Path(name)
        write_notebook(folder / "notebook.ipynb")
        papermill_engine.register(kernels)
        if asked.runs:
            write("fleet_warm.md", ["# Warm kernels", "", machine, "", *compare(folder, asked.runs)])
        if asked.many:
            write("fleet_warm_many.md", ["# Many runs on warm kernels", "", machine, "", *endure(folder, asked.many, kernels)])


def write(name: str, lines: list[str]) -> None:
    """Print lines, and keep them among the results."""
    text = "\n".join(lines).rstrip() + "\n"
    print(text, flush=True)
    (RESULTS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
