"""Time what it costs to keep runs in S3: an entry of a journal, and the list of runs, next to a folder.

    ./run python benchmarks/shared_store.py [--runs 100] [--entries 200] [--latency-ms 30]

S3 is the local cloud's, on this machine; the second column adds a latency to every request, as a region has it. Prints what it finds
and writes it to benchmarks/results/shared_store.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import boto3

from helpers.rehearsal import cloud as clouds
from helpers.runbook import history, shared_store, store
from helpers.runbook.journal import Journal

RESULTS = Path(__file__).parent / "results"
BUCKET = "runs"
EFFECTS = 10  # of each run that is listed


def at(address: str, machine: Path, latency_s: float = 0.0) -> list[str]:
    """Keep the runs there from now on, on a machine with this cache; returns the list that its requests are added to."""
    os.environ.update(RUNBOOK_RUNS=address, XDG_CACHE_HOME=str(machine))
    shared_store.opened.cache_clear()
    asked: list[str] = []
    place = store.shared()
    if place is not None:

        def sent(request: Any, **_: Any) -> None:
            asked.append(request.method)
            time.sleep(latency_s)

        place._client.meta.events.register("before-send.s3", sent)
    return asked


def journaled(name: str, entries: int) -> float:
    """Milliseconds that an intent or a result takes to be kept, at the median."""
    directory = store.run_directory(name)
    directory.mkdir(parents=True, exist_ok=True)
    journal, took = Journal(directory / "journal.jsonl", shared=True), []
    for number in range(entries):
        began = time.perf_counter()
        journal.write("done", key=f"1 Make/make#{number}", result={"name": "sessions", "size": number})
        took.append(time.perf_counter() - began)
    journal.close()
    return sorted(took)[len(took) // 2] * 1000


def make(number: int) -> None:
    """A run with effects and calls, as an apply leaves it."""
    directory = store.run_directory(f"run-{number:04d}")
    directory.mkdir(parents=True, exist_ok=True)
    told = {"runbook": "small", "run_id": directory.name, "mode": "apply", "created": 1e9 + number, "parameters": {}}
    store.write_json(directory / "run.json", told, new=True)
    journal = Journal(directory / "journal.jsonl", shared=True)
    journal.write("started", mode="apply", who="me", pid=1)
    for effect in range(EFFECTS):
        journal.write("intent", key=f"1 Make/make#{effect}", function="m:f", args={})
        journal.log_call({"service": "efs", "operation": "CreateTags", "write": True}, wait=False)
        journal.write("done", key=f"1 Make/make#{effect}", result=None)
    journal.write("ended", status="done", error="")
    store.write_json(directory / "result.json", {**told, "status": "done", "caller": "me", "started": 1.0, "ended": 2.0, "calls": []})
    journal.close()


def timed(work: Callable[[], Any]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--entries", type=int, default=200)
    parser.add_argument("--latency-ms", type=float, default=30.0)
    options = parser.parse_args()
    load, folder = os.getloadavg()[0], Path(tempfile.mkdtemp(prefix="rb-"))
    cloud = clouds.up(folder / "cloud")
    try:
        os.environ.update(cloud.environment(), NO_PROXY="127.0.0.1")
        boto3.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": clouds.REGION})
        address, late_s = f"s3://{BUCKET}/all", options.latency_ms / 1000
        at(str(folder / "runs"), folder)
        plain_ms = journaled("entries", options.entries)
        at(f"s3://{BUCKET}/entries", folder / "a")
        entry_ms = journaled("entries", options.entries)
        at(f"s3://{BUCKET}/entries", folder / "a", late_s)
        far_ms = journaled("far", options.entries)
        at(str(folder / "runs"), folder)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(make, range(options.runs)))
        listed_s = timed(history.runs)
        at(address, folder / "a")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(make, range(options.runs)))
        times, requests = [], []
        for machine, latency_s in (("b", 0.0), ("b", 0.0), ("c", late_s), ("c", late_s)):
            asked = at(address, folder / machine, latency_s)
            times.append(timed(lambda: [history.runs()]))
            requests.append(len(asked))
        assert len(history.runs()) == options.runs
    finally:
        clouds.down(folder / "cloud")
    lines = [
        "# Runs in S3",
        "",
        f"{date.today()}, {os.cpu_count()} cores (load {load:.1f} before), Python {platform.python_version()}. S3 is the local cloud's on this machine; nothing was measured on AWS.",
        "",
        f"| | folder | S3 | S3, {options.latency_ms:.0f} ms a request more | requests |",
        "| --- | --- | --- | --- | --- |",
        f"| an intent or a result in the journal, median of {options.entries} | {plain_ms:.1f} ms | {entry_ms:.1f} ms | {far_ms:.1f} ms | 1 |",
        f"| the list of {options.runs} runs, first time on a machine | {listed_s:.2f} s | {times[0]:.2f} s | {times[2]:.2f} s | {requests[0]} |",
        f"| the same list again | | {times[1]:.2f} s | {times[3]:.2f} s | {requests[1]} |",
        "",
        f"Each run of the list has {EFFECTS} effects: {2 * EFFECTS + 2} pieces of its journal, which are also kept as one.",
        "",
    ]
    print("\n".join(lines))
    (RESULTS / "shared_store.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
