"""Score the forecast of the day the burst credits run out next to what people draw today, on traces whose day is known.

    ./run python benchmarks/efs_forecast.py TOOL [--tested 900 901 7001 7002] [--tuned 500 501 502 503]

TOOL is the script that makes the traces (make_efs_traces.py). Writes benchmarks/results/efs_forecast.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from helpers.efs.forecast import ALARM, ALARM_DAYS, forecast

RESULTS = Path(__file__).parent / "results" / "efs_forecast.md"
STEP_S = 300
A_DAY = 86_400 // STEP_S
HORIZON = 180
SHORTEST = 0.25  # days: what is earlier counts as this, so that no forecast is infinitely wrong

Trace = dict[str, Any]


class Said(NamedTuple):
    """What a method says of a trace: the day, whether it warns of the next 30 days, and its band."""

    day: float
    alarm: bool
    low: float = np.nan
    high: float = np.nan


def traces(tool: Path, seed: int, per_kind: int, kept: Path) -> Iterator[Trace]:
    """The traces of a seed, made by the tool where they are not kept yet."""
    file = kept / f"{seed}.npz"
    if not file.exists():
        subprocess.run([sys.executable, str(tool), str(file), "--seed", str(seed), "--per-kind", str(per_kind)], check=True)
    with np.load(file) as arrays:
        columns = {name: arrays[name] for name in arrays}
    for row in range(len(columns["kind"])):
        yield {name: column[row] for name, column in columns.items()}


def _by_slope(credit: float, slope: float) -> Said:
    day = credit / -slope if slope < 0 else np.inf
    return Said(day, day <= ALARM_DAYS)


def last_day(trace: Trace) -> Said:
    """The slope of the balance over the last 24 h."""
    return _by_slope(trace["credit_now"], trace["balance"][-1] - trace["balance"][-1 - A_DAY])


def _minima(trace: Trace) -> np.ndarray[Any, Any]:
    return trace["balance"].reshape(-1, A_DAY).min(axis=1)


def least_squares(trace: Trace) -> Said:
    """A straight line through the daily minima."""
    lows = _minima(trace)
    return _by_slope(trace["credit_now"], np.polyfit(np.arange(len(lows)), lows, 1)[0])


def theil_sen(trace: Trace) -> Said:
    """The median of the slopes between each two daily minima."""
    lows = _minima(trace)
    one, other = np.triu_indices(len(lows), 1)
    return _by_slope(trace["credit_now"], np.median((lows[other] - lows[one]) / (other - one)))


def ours(trace: Trace) -> Said:
    """The forecast of this project."""
    found = forecast(trace["metered"], trace["standard_bytes"], trace["credit_now"], STEP_S, horizon_days=HORIZON)
    return Said(found.p50, found.alarm, found.p10, found.p90)


METHODS: dict[str, Callable[[Trace], Said]] = {
    "slope of the last 24 h": last_day,
    "least squares, daily minimum": least_squares,
    "Theil-Sen, daily minimum": theil_sen,
    "forecast()": ours,
}


def score(found: pd.DataFrame) -> dict[str, Any]:
    """The row of a table: errors over traces that run out, alarms and coverage over all."""
    ends = found[np.isfinite(found["truth"])]
    error = np.abs(np.log2(ends["day"].clip(SHORTEST, HORIZON) / ends["truth"]))
    named = np.isfinite(ends["day"])
    soon = found["truth"] <= ALARM_DAYS
    row = {
        "median": round(error.median(), 2),
        "p90": round(error.quantile(0.9), 2),
        "names a day": f"{named.mean():.0%}",
        "median of those": round(error[named].median(), 2),
        "missed": f"{int((soon & ~found['alarm']).sum())} of {int(soon.sum())}",
        "false alarms": f"{int((~soon & found['alarm']).sum())} of {int((~soon).sum())}",
    }
    if found["high"].notna().all():
        inside = (found["low"] <= found["truth"]) & (found["truth"] <= found["high"])
        row |= {"band holds it": f"{inside.mean():.0%}", "where it runs out": f"{inside[ends.index].mean():.0%}"}
    return row


def measure(tool: Path, seeds: list[int], per_kind: int, kept: Path) -> pd.DataFrame:
    """What each method says of each trace of the seeds."""
    rows = []
    for seed in seeds:
        for trace in traces(tool, seed, per_kind, kept):
            for name, method in METHODS.items():
                began = time.perf_counter()
                said = method(trace)
                rows.append({"method": name, "kind": str(trace["kind"]), "truth": trace["days_to_zero"], **said._asdict(), "seconds": time.perf_counter() - began})
    return pd.DataFrame(rows)


def table(found: pd.DataFrame) -> pd.DataFrame:
    """A row a method."""
    rows = [{"method": name, **score(part)} | {"ms": round(part["seconds"].mean() * 1000, 1)} for name, part in found.groupby("method", sort=False)]
    return pd.DataFrame(rows).fillna("")


def by_kind(found: pd.DataFrame) -> pd.DataFrame:
    """The forecast's own rows, a kind of file system each."""
    mine = found[found["method"] == "forecast()"]
    return pd.DataFrame([{"kind": kind, **score(part)} for kind, part in mine.groupby("kind", sort=False)]).fillna("")


LEGEND = f"""\
`median` and `p90` are of abs(log2(forecast / truth)) over the traces that run out within {HORIZON} days; no method is
counted as later than {HORIZON} days or earlier than {SHORTEST}, also where it says that they last; `names a day` and `median of those`
leave such answers out, which helps a method that seldom gives a day. `missed` are traces that run out within {ALARM_DAYS} days without an alarm,
`false alarms` the opposite; `forecast()` warns where at least {ALARM:.0%} of its paths run out by then. `band holds it` is
how often the 80 % band held the day (a trace that outlasts the horizon has the day inf), over all traces and over those
that run out."""


def main() -> None:
    """Score all methods, print the tables and write them down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tool", type=Path)
    parser.add_argument("--tested", type=int, nargs="*", default=[900, 901, 7001, 7002])
    parser.add_argument("--tuned", type=int, nargs="*", default=[500, 501, 502, 503])
    parser.add_argument("--per-kind", type=int, default=60)
    parser.add_argument("--kept", type=Path, help="a folder that keeps the traces made")
    options = parser.parse_args()
    parts = ["# The day the burst credits run out", f"{date.today()}; made-up traces, 28 days of history in steps of 5 minutes.", LEGEND]
    with tempfile.TemporaryDirectory() as folder:
        for title, seeds in (("Seeds that tuned nothing", options.tested), ("Seeds that priors and the threshold of alarms were chosen on", options.tuned)):
            if not seeds:
                continue
            found = measure(options.tool, seeds, options.per_kind, options.kept or Path(folder))
            parts += [f"## {title}: {', '.join(map(str, seeds))}", _markdown(table(found)), _markdown(by_kind(found))]
            print("\n\n".join(parts[-3:]), flush=True)
    if options.tested:
        RESULTS.write_text("\n\n".join(parts) + "\n")


def _markdown(rows: pd.DataFrame) -> str:
    lines = [list(rows.columns), ["---"] * len(rows.columns), *rows.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


if __name__ == "__main__":
    main()
