"""Time the credit recurrence: numba, NumPy, a day's summary, and the pandas loop that it replaces.

    ./run python benchmarks/efs_credits.py [--samples 50000000]

Prints a table and writes it to benchmarks/results/efs_credits.md. Every time is the best of some runs: other processes
only ever add to one.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from helpers.efs import credits
from helpers.efs.credits import GIB, INITIAL_CREDIT, burst_rates, simulate_credits
from helpers.efs.days import summarise

RESULTS = Path(__file__).parent / "results" / "efs_credits.md"
MINUTES = 30 * 1440
RUNS = 5


def demand(samples: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A month of minutes about the baseline, float32, and the sizes of the file systems."""
    chance = np.random.default_rng(1)
    systems = max(1, samples // MINUTES)
    sizes = chance.uniform(20, 900, systems) * GIB
    metered = chance.random((MINUTES, systems), dtype=np.float32)
    metered *= (2 * 60 * burst_rates(sizes).baseline).astype(np.float32)
    return metered, sizes


def pandas_loop(metered: pd.Series, size: float) -> list[float]:
    """The recurrence as it is written when it is written first."""
    rates, credit, balances = burst_rates(size), INITIAL_CREDIT, []
    for used in metered:
        credit = min(max(credit + rates.baseline * 60 - used, 0.0), rates.max_credit)
        balances.append(credit)
    return balances


def best(work: Callable[[], object], runs: int = RUNS) -> float:
    """The shortest of some runs, in seconds, after one that compiles."""
    work()
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return min(taken)


def measure(samples: int) -> tuple[pd.DataFrame, str]:
    """The table, and how far the two engines are apart."""
    metered, sizes = demand(samples)
    out = np.empty(metered.shape)
    one = pd.Series(metered[:, 0])
    count = metered.size
    rows = [("pandas loop, one file system", best(lambda: pandas_loop(one, sizes[0]), 3) / len(one))]
    compiled, checked = credits.numba, []
    if compiled is not None:
        rows.append(("numba", best(lambda: simulate_credits(metered, sizes[None], 60)) / count))
        rows.append(("numba, `out` given", best(lambda: simulate_credits(metered, sizes[None], 60, out=out)) / count))
        checked.append(out[::997].copy())
    credits.numba = None
    try:
        rows.append(("NumPy alone", best(lambda: simulate_credits(metered, sizes[None], 60)) / count))
        rows.append(("NumPy alone, `out` given", best(lambda: simulate_credits(metered, sizes[None], 60, out=out)) / count))
        checked.append(out[::997])
    finally:
        credits.numba = compiled
    rows.append(("day summaries (NumPy)", best(lambda: summarise(metered, sizes, 60, 1440), 2) / count))
    table = pd.DataFrame(rows, columns=["method", "seconds"])
    table["ns a sample"] = (table["seconds"] * 1e9).round(2)
    table["times the pandas loop"] = (table["seconds"].iloc[0] / table["seconds"]).round(0).astype(int)
    apart = max(float(np.abs(checked[0] - each).max()) for each in checked)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if platform.system() == "Linux" else 2**30)
    shape = f"{metered.shape[0]:,} minutes of {metered.shape[1]:,} file systems, {count / 1e6:,.1f} M samples, float32 in, float64 balances out"
    sentence = f"{shape}. The engines are at most {apart:.3g} bytes apart; the process never held more than {memory:.1f} GiB."
    return table.drop(columns="seconds"), sentence


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=50_000_000)
    options = parser.parse_args()
    table, sentence = measure(options.samples)
    load = os.getloadavg()[0]
    about = f"{date.today()}, {os.cpu_count()} cores (load average {load:.1f}), Python {platform.python_version()}, NumPy {np.__version__}, numba {getattr(credits.numba, '__version__', 'absent')}."
    rows = [list(table.columns), ["---"] * 3, *table.to_numpy().tolist()]
    text = "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)
    made = "\n\n".join(["# The credit recurrence, a minute a step", about, sentence, text])
    print(made)
    RESULTS.write_text(made + "\n")


if __name__ == "__main__":
    main()
