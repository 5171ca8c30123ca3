"""Time the fleet report: 1,000 file systems with 30 days of hourly metrics, reviewed, ranked and drawn.

    ./run python benchmarks/efs_fleet.py [--file-systems 1000]

Prints a table and writes it to benchmarks/results/efs_fleet.md. The metrics are made up beforehand; how long
CloudWatch takes to send them is not part of it, what it bills is shown.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import resource
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from helpers.efs import figures, metrics, sample
from helpers.efs.fleet import fleet
from helpers.efs.prices import table_prices

RESULTS = Path(__file__).parent / "results" / "efs_fleet.md"


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What `work` returns, and the seconds it took."""
    began = time.perf_counter()
    made = work()
    return made, time.perf_counter() - began


def peak_mib() -> float:
    """The most memory that the process has held, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**10 if platform.system() == "Linux" else 2**20)


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file-systems", type=int, default=1000)
    count = parser.parse_args().file_systems
    (systems, history), made = timed(lambda: sample.fleet(count))
    before, load, began = peak_mib(), os.getloadavg()[0], time.process_time()
    report, reviewed = timed(lambda: fleet(systems, history, table_prices("us-east-1")))
    flagged, triaged = timed(lambda: metrics.flagged(history, [one.standard_bytes for one in systems]))
    _, tabled = timed(lambda: (report.table().to_html(), report.first().to_html(), report.checks().to_html()))
    pictures = [figures.draw_small_multiples, figures.draw_costs]
    _, drawn = timed(lambda: [draw(report.reviews).savefig(io.BytesIO(), format="png") for draw in pictures])
    processor = time.process_time() - began
    parts = [("review and rank", reviewed), ("triage", triaged), ("three tables as HTML", tabled), ("two figures as PNG", drawn)]
    rows = [("part", "seconds"), ("---", "---"), *((name, f"{seconds:.2f}") for name, seconds in parts), ("the report", f"{sum(each for _, each in parts):.2f}"), ("of it processor time", f"{processor:.2f}")]
    text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    about = f"{date.today()}, {os.cpu_count()} cores (load {load:.1f}: other work ran meanwhile), Python {platform.python_version()}, NumPy {np.__version__}."
    shape = f"{count:,} file systems, {len(history.times):,} hours of {len(history.values)} metrics; {len(flagged):,} are flagged for a look by the minute."
    shape += f" The process held at most {peak_mib():,.0f} MiB, {before:,.0f} of it before the report. {metrics.estimate(count, sample.DAYS)}."
    page = "\n\n".join(["# The fleet report", about, shape, text, report.finding])
    print(page, f"(the made-up fleet took {made:.1f} s)", sep="\n\n")
    RESULTS.write_text(page + "\n")


if __name__ == "__main__":
    main()
