"""Time the preview of a lifecycle policy: 10,000 images (and a full repository, 100,000), under 1, 4 and 50 rules.

    ./run python benchmarks/ecr_lifecycle.py [--images 10000]

Prints a table and writes it to benchmarks/results/ecr_lifecycle.md. Every kind of pattern is among the rules, as is a rule that all
images are ranked for; the images are made up beforehand, their times are text as the shared cases have them.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import time
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from helpers.ecr import preview_lifecycle

RESULTS = Path(__file__).parent / "results" / "ecr_lifecycle.md"
NOW = datetime(2026, 11, 1, tzinfo=timezone.utc)
RULES = (1, 4, 50)
FULL = 100_000  # the most images that a repository may have
ROUNDS = 7
LIMIT_S = 0.2


def images(count: int) -> list[dict[str, Any]]:
    """Images of two years: commits, releases, stages, untagged ones, and lists of two images each."""
    chance = random.Random(7)
    made: list[dict[str, Any]] = []
    for number in range(count):
        tags = [f"git-{chance.getrandbits(40):010x}"] * bool(number % 5) + [f"release-{number // 70}.{number % 70}"] * (number % 7 == 0)
        pushed = NOW - timedelta(minutes=chance.randrange(1_000_000))
        one: dict[str, Any] = {"digest": f"sha256:{chance.getrandbits(256):064x}", "tags": tags + [f"eu-prod-{number}"] * (number % 11 == 0)}
        one |= {"pushedAt": pushed.isoformat(), "sizeBytes": chance.randrange(10**8)}
        if number % 20 == 19:
            one["references"] = [made[-1]["digest"], made[-2]["digest"]]
        made.append(one)
    return made


def policy(rules: int) -> dict[str, Any]:
    """So many rules: prefixes, suffixes and wildcards in turn, each keeping its newest five, and an age for all the rest."""
    patterns = [(f"release-{place}*", f"*prod-{place}*", f"git-{place % 16:x}*{place}", f"*-{place}*1*")[place % 4] for place in range(1, rules)]
    selections = [{"tagStatus": "tagged", "tagPatternList": [pattern], "countType": "imageCountMoreThan", "countNumber": 5} for pattern in patterns]
    selections.append({"tagStatus": "any", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 90})
    return {"rules": [{"rulePriority": place, "selection": one, "action": {"type": "expire"}} for place, one in enumerate(selections, 1)]}


def measured(rules: int, some: list[dict[str, Any]]) -> tuple[float, float, float, int]:
    """The best and the median of the rounds and the least of the processor's time in seconds, and how many images expire."""
    asked, took, used = policy(rules), [], []
    for _ in range(ROUNDS):
        began, busy = time.perf_counter(), time.process_time()
        found = preview_lifecycle(asked, some, NOW)
        took.append(time.perf_counter() - began)
        used.append(time.process_time() - busy)
    return min(took), float(np.median(took)), min(used), int((found.action == "expire").sum())


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    count, load = parser.parse_args().images, os.getloadavg()[0]
    rows = [("images", "rules", "best, s", "median, s", "processor, s", "expire"), ("---",) * 6]
    for size in (count, FULL):
        some = images(size)
        for rules in RULES:
            best, median, processor, expire = measured(rules, some)
            rows.append((f"{size:,}", str(rules), f"{best:.3f}", f"{median:.3f}", f"{processor:.3f}", f"{expire:,}"))
    text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    about = f"{date.today()}, {os.cpu_count()} cores (load {load:.1f}: other work ran meanwhile), Python {platform.python_version()}, NumPy {np.__version__}, pandas {pd.__version__}."
    page = "\n\n".join(["# The preview of a lifecycle policy", about, text, f"{ROUNDS} rounds each; wanted: {count:,} images in under {LIMIT_S} s."])
    print(page)
    RESULTS.write_text(page + "\n")


if __name__ == "__main__":
    main()
