"""Run patterns over 200,000 events, next to `orjson.loads` alone and to MiniStack's matcher; then over 5 GB.

    ./run python benchmarks/eventbridge_scan.py FOLDER [--large]

FOLDER holds amplify.jsonl, mixed.jsonl, one_pattern.jsonl and hundred_patterns.jsonl. Prints a table and writes it to
benchmarks/results/eventbridge_scan.md; `--large` adds the memory that a scan of 5 GB takes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
import pandas as pd

from helpers.eventbridge import scan

RESULTS = Path(__file__).parent / "results" / "eventbridge_scan.md"
ROUNDS = 7
SLOW = 5_000  # events that MiniStack is given
REPEATED = 40  # times that a workload is written into the file that two cores read


def seconds(work: Callable[[], Any]) -> float:
    """The seconds that a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def cpu_seconds(work: Callable[[], Any]) -> float:
    """The processor's seconds that a call takes in this process: others on the machine do not count."""
    began = time.process_time()
    work()
    return time.process_time() - began


def interleaved(works: dict[str, Callable[[], Any]], rounds: int = ROUNDS, clock: Callable[[Callable[[], Any]], float] = cpu_seconds) -> dict[str, float]:
    """The best time of each of several calls that take turns, so that a busy moment of the machine meets all of them."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(rounds):
        for name, work in works.items():
            best[name] = min(best[name], clock(work))
    return best


def parse_all(lines: list[bytes]) -> None:
    """`orjson.loads` alone."""
    for line in lines:
        orjson.loads(line)


def parse_file(path: Path) -> None:
    """`orjson.loads` alone, on the lines of a file, as a scan reads them."""
    with path.open("rb") as file:
        for line in file:
            orjson.loads(line)


def by_ministack(patterns: list[str], lines: list[bytes]) -> int:
    """MiniStack's own matcher, every pattern on every event."""
    from ministack.services import eventbridge

    count = 0
    for line in lines:
        event = json.loads(line)
        record = {"EventId": event["id"], "Source": event["source"], "DetailType": event["detail-type"], "Detail": event["detail"]}
        view = eventbridge._pattern_event_view(record | {"Account": event["account"], "Time": event["time"], "Region": event["region"], "Resources": event["resources"]})
        count += sum(bool(eventbridge._matches_pattern_view(pattern, view)) for pattern in patterns)
    return count


def measure(folder: Path, shape: str, name: str) -> dict[str, Any]:
    """A row: events/s of each way and their ratios, on one core."""
    path = folder / f"{shape}.jsonl"
    lines = path.read_bytes().splitlines()
    patterns = (folder / f"{name}_pattern{'s' if name == 'hundred' else ''}.jsonl").read_text().splitlines()
    few = lines[:SLOW]
    assert by_ministack(patterns, few) == sum(scan(patterns, few, progress=False).matched)
    best = interleaved(
        {
            "orjson": lambda: parse_all(lines),
            "orjson, file": lambda: parse_file(path),
            "scan": lambda: scan(patterns, path, cores=1, compiled=True, progress=False),
            "scan, msgspec": lambda: scan(patterns, path, cores=1, compiled=False, progress=False),
        }
    )
    theirs = interleaved({"ministack": lambda: by_ministack(patterns, few)}, 2)["ministack"] / len(few)
    ours = best["scan"] / len(lines)
    return {
        "events": shape,
        "patterns": len(patterns),
        "scan": f"{1 / ours:,.0f}",
        "scan, msgspec": f"{len(lines) / best['scan, msgspec']:,.0f}",
        "orjson.loads, lines in memory": f"{len(lines) / best['orjson']:,.0f}",
        "orjson.loads, lines of the file": f"{len(lines) / best['orjson, file']:,.0f}",
        "MiniStack": f"{1 / theirs:,.0f}",
        "/ orjson, memory": f"{best['orjson'] / best['scan']:.2f}",
        "/ orjson, file": f"{best['orjson, file'] / best['scan']:.2f}",
        "/ MiniStack": f"{theirs / ours:.0f}",
        "msgspec / orjson, memory": f"{best['orjson'] / best['scan, msgspec']:.2f}",
        "msgspec / orjson, file": f"{best['orjson, file'] / best['scan, msgspec']:.2f}",
        "msgspec / MiniStack": f"{theirs / best['scan, msgspec'] * len(lines):.0f}",
    }


def two_cores(folder: Path, scratch: Path) -> str:
    """A sentence: how much faster two processes are than one."""
    path = scratch / "many.jsonl"
    with path.open("wb") as file:
        for _ in range(REPEATED):
            file.write((folder / "amplify.jsonl").read_bytes())
    pattern = (folder / "one_pattern.jsonl").read_text()
    best = interleaved({str(cores): lambda cores=cores: scan(pattern, path, cores=cores, compiled=True, progress=False) for cores in (1, 2)}, 5, seconds)
    size = path.stat().st_size
    return f"Two cores: {size / 1e9:.1f} GB in {best['2']:.2f} s, one core {best['1']:.2f} s: {best['1'] / best['2']:.2f} times as fast."


def large(folder: Path, scratch: Path) -> str:
    """A sentence: the memory of scans of 0.5 and of 5 GB, each in a process of its own."""
    piece, path, peaks = (folder / "mixed.jsonl").read_bytes(), scratch / "large.jsonl", []
    for size in (5e8, 5e9):
        with path.open("wb") as file:
            while file.tell() < size:
                file.write(piece)
        # a shell between: Linux gives a process the peak of the one that it was forked from
        command = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, __file__, str(folder), "--only", str(path)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        peaks.append(json.loads(told))
    return "Memory: " + "; ".join(f"{one['bytes'] / 1e9:.1f} GB in {one['seconds']:.1f} s with at most {one['peak_mib']:.0f} MiB a process" for one in peaks) + "."


def loading(scratch: Path) -> str:
    """A sentence: what the machine code costs before the first scan, compiled anew and from numba's cache."""
    load = "import time; from helpers.eventbridge import reader; began = time.perf_counter(); reader.load(); print(time.perf_counter() - began)"
    told = [subprocess.run([sys.executable, "-c", load], env=os.environ | {"NUMBA_CACHE_DIR": str(scratch / "numba")}, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    return f"Machine code: compiled in {float(told[0]):.1f} s, loaded from numba's cache in {float(told[1]):.2f} s."


def only(folder: Path, path: Path) -> None:
    """Scan a file and print what that took as JSON."""
    pattern = (folder / "one_pattern.jsonl").read_text()
    took = seconds(lambda: scan(pattern, path, compiled=True, progress=False))
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps({"bytes": path.stat().st_size, "seconds": took, "peak_mib": peak / (1024 if sys.platform == "linux" else 2**20)}))


def about() -> str:
    """Return where and when this was measured."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("msgspec", "numba", "orjson", "numpy", "ministack"))
    return f"{date.today()}, {os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, {libraries}; load average before the run {os.getloadavg()[0]:.1f}."


LEGEND = f"""\
Events per second of one core's time (the process's own, so that others on the machine do not count), parsing included: 200,000
events, the best of {ROUNDS} rounds in which the ways take turns. `scan` reads the file itself and counts matches and the funnel: in
machine code, once that is loaded (`scan`, `compiled=True`), and with msgspec, where numba is not installed or the source is too
small to load it (`compiled=False`). `orjson.loads` does nothing but parse: lines that are in memory already, and the lines of
the same file. MiniStack's matcher gets {SLOW:,} of the events, parsed with `json` as MiniStack does, through its own view of an event."""


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--large", action="store_true", help="also scan 0.5 and 5 GB, and measure the memory")
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        only(options.folder, options.only)
        return
    heading = about()
    rows = [measure(options.folder, shape, name) for name in ("one", "hundred") for shape in ("amplify", "mixed")]
    table = pd.DataFrame(rows)
    print(table.to_string(index=False), flush=True)
    sentences = []
    with tempfile.TemporaryDirectory() as scratch:
        sentences.append(loading(Path(scratch)))
        print(sentences[-1], flush=True)
        sentences.append(two_cores(options.folder, Path(scratch)))
        print(sentences[-1], flush=True)
        if options.large:
            sentences.append(large(options.folder, Path(scratch)))
            print(sentences[-1], flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n\n".join(["# Patterns over many events", heading, LEGEND, _markdown(table), *sentences]) + "\n")


def _markdown(table: pd.DataFrame) -> str:
    rows = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


if __name__ == "__main__":
    main()
