"""Time a fleet on Dask, in this machine's own process, next to the same fleet on threads: `runbook fleet` as its users call it.

    ./run python benchmarks/fleet_cluster.py [--runs 30] [--rounds 4]

Each of the runs is the notebook of fleet_warm.py (boto3, pandas, one figure), which records a result. Threads and Dask take turns,
two runs at once, each in a process of its own; a round's whole time is that of the command, and the time of its runs is from the
first's begin to the last's end. Prints what it finds and writes it to benchmarks/results/fleet_cluster.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import nbformat
from fleet_warm import CELLS, RESULTS

AT_ONCE = 2
WAYS = {"threads": [], "Dask": ["--cluster", "local"]}
PARAMETERS = 'mode: str = "plan"  # mode\nname: str = ""  # the thing\nrun_id: str = ""  # a run'
# What the engine would record of a run without steps: the engine itself costs both ways the same, and needs an account.
RECORD = """
import json, os, pathlib
told = {"runbook": "figure", "run_id": run_id, "mode": mode, "status": "done", "exit_code": 0, "error": "", "metrics": {}, "steps": [], "plan": [], "calls": []}
(pathlib.Path(os.environ["RUNBOOK_RUNS"]) / run_id / "result.json").write_text(json.dumps(told))
"""
CALL = "import sys; from helpers.fleet import accounts; accounts.unreachable = lambda targets: []; from helpers.cli import main; main()"


def write_fleet(folder: Path, runs: int) -> Path:
    """A fleet file of so many runs, and their notebook."""
    tagged = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    cells = [tagged, *(nbformat.v4.new_code_cell(cell) for cell in CELLS), nbformat.v4.new_code_cell(RECORD)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"runbook": {"resource": "name"}}), folder / "figure.ipynb")
    file = folder / "fleet.yaml"
    file.write_text(f"runbook: {folder / 'figure.ipynb'}\ntargets: [{', '.join(f'n{number}' for number in range(runs))}]\n")
    return file


def timed(file: Path, fleet: str, runs: int, arguments: list[str]) -> tuple[float, float, float]:
    """Seconds of the whole command, of its runs, and of the processors."""
    command = [sys.executable, "-c", CALL, "fleet", file, "--mode", "plan", "--run-id", fleet, "--max-concurrency", str(AT_ONCE), *arguments]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "RUNBOOK_RUNS": str(file.parent / "runs")})
    whole, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0 and f"{runs} done" in done.stdout, done.stdout + done.stderr
    entries = [json.loads(line) for line in (file.parent / "runs" / fleet / "journal.jsonl").read_text().splitlines()]
    at = [one["at"] for one in entries if one["type"] in ("begin", "end")]
    return whole, max(at) - min(at), after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Run the rounds and write them down."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--runs", type=int, default=30)
    options.add_argument("--rounds", type=int, default=4)
    asked = options.parse_args()
    load = os.getloadavg()[0]
    found: dict[str, list[tuple[float, float, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as name:
        file = write_fleet(Path(name), asked.runs)
        for number in range(asked.rounds):
            for way in sorted(WAYS, reverse=number % 2 == 0):
                found[way].append(timed(file, f"{way}-{number}", asked.runs, WAYS[way]))
                print(number, way, *(f"{seconds:.2f}" for seconds in found[way][-1]), flush=True)
    medians = {way: [statistics.median(column) for column in zip(*rows, strict=True)] for way, rows in found.items()}
    ratios = [medians["Dask"][column] / medians["threads"][column] for column in range(3)]
    names = ("the whole command, s", "its runs, s", "processor time, s")
    lines = [
        "# A fleet on Dask in one process, next to threads",
        "",
        f"{date.today()}, {os.cpu_count()} cores (load {load:.1f} before), Python {platform.python_version()}, distributed {version('distributed')}. {asked.runs} runs, {AT_ONCE} at once, {asked.rounds} rounds in turns.",
        "",
        f"| median of the rounds | {' | '.join(WAYS)} | Dask / threads |",
        "| --- | --- | --- | --- |",
        *(f"| {name} | {medians['threads'][n]:.2f} | {medians['Dask'][n]:.2f} | {ratios[n]:.2f} |" for n, name in enumerate(names)),
        "",
        f"Every round, whole command: {'; '.join(f'{way} ' + ', '.join(f'{row[0]:.2f}' for row in rows) for way, rows in found.items())}. The whole command has the imports, the start of the scheduler and the worker, of the fork server, and the report; processor time is that of this command's own processes and of the kernels that they waited for.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    (RESULTS / "fleet_cluster.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
