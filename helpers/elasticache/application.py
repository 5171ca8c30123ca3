"""The application's own report of the switch: what it wrote, what it lost, how long it could not write."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from helpers.aws import Aws, RunbookError, WaitFailed, planning, wait
from helpers.aws.errors import is_not_found
from helpers.elasticache.gap import draw_gap
from helpers.elasticache.preflight import split_s3
from helpers.elasticache.upgrade import Upgrade

AUDIT_WAIT = 60.0  # seconds


@dataclass(frozen=True)
class Report:
    """What the application measured of itself; empty where it publishes no report."""

    values: dict[str, Any]
    note: str = ""

    def table(self) -> pd.DataFrame:
        """The application's counts: what, number."""
        if self.note:
            return pd.DataFrame({"application": [self.note]})
        shown = {
            "acknowledged writes": "acknowledged_writes",
            "acknowledged writes lost": "acknowledged_writes_lost",
            "writes refused or timed out (the application knows)": "unacknowledged_writes",
            "longest time without a write, around the switch (ms)": "write_gap_ms",
            "sessions missing": "sessions_missing",
            "stale reads": "stale_reads",
            "endpoint now": "endpoint",
        }
        rows = [(label, self.values[key]) for label, key in shown.items() if key in self.values]
        if "audited_at" in self.values:
            rows.append(("counted at", time.strftime("%H:%M:%S", time.localtime(self.values["audited_at"]))))
        rows += [("error met", f"{text}: {count}") for text, count in (self.values.get("errors") or {}).items()]
        return pd.DataFrame(rows, columns=["the application says", "value"])

    def figure(self) -> Figure | None:
        """Acknowledged writes per 10 ms around the last change of endpoint; None without a time line."""
        if not self.values.get("timeline"):
            return None
        timeline, gap = self.values["timeline"], float(self.values.get("write_gap_ms") or 0)
        start = self.values.get("gap_started") or max(at for at, _ in timeline)
        return draw_gap(timeline, start, gap, title=f"The application could not write for {gap:.0f} ms", since="its last write to the old endpoint")


def application_report(aws: Aws, upgrade: Upgrade) -> Report:
    """The application's report after an audit that began now; the wait is bounded.

    The report is JSON at `application_report` (s3://bucket/key) with at least `acknowledged_writes`,
    `acknowledged_writes_lost`, `write_gap_ms` and `audited_at` (unix seconds).
    """
    if not upgrade.application_report:
        return Report({}, "it publishes no report (parameter application_report)")
    if planning():
        return Report({}, f"read from {upgrade.application_report} after the apply")
    asked = time.time()

    def state() -> str:
        found = read_report(aws, upgrade.application_report)
        return "audited" if found.get("audited_at", 0) >= asked else "auditing" if found else "absent"

    try:
        wait("the application's audit", state, until=("audited",), fail=("absent",), timeout=AUDIT_WAIT)
    except WaitFailed as error:  # its absence takes nothing from what was done
        return Report({}, f"no report of the application: {error.what}")
    return Report(read_report(aws, upgrade.application_report))


def read_report(aws: Aws, uri: str) -> dict[str, Any]:
    """The report as it is now; empty where there is none, or no `uri`. Raises `RunbookError` where it is no JSON."""
    if not uri:
        return {}
    bucket, key = split_s3(uri)
    try:
        return json.loads(aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
    except json.JSONDecodeError as error:
        raise RunbookError(f"{uri} holds no JSON: {error}.", "Point application_report at the application's report.") from error
    except Exception as error:
        if is_not_found(error):
            return {}
        raise
