"""The numbers that an upgrade is judged by."""

from __future__ import annotations

from typing import Any

import pandas as pd

from helpers.elasticache.application import Report
from helpers.elasticache.cutover import Switched
from helpers.elasticache.stages import Verified


def side_by_side(results: list[dict[str, Any]]) -> pd.DataFrame:
    """Runs of different strategies next to each other, this one first: what each measured."""
    if not results:
        return pd.DataFrame({"measured": ["by the apply"]})
    columns = ["strategy", "write gap (ms)", "acknowledged writes", "of them lost", "keys different at the end", "run"]
    names = ("write_gap_ms", "acknowledged_writes", "acknowledged_writes_lost", "keys_different")
    rows = [(one["parameters"].get("strategy"), *(one["metrics"].get(name) for name in names), one["run_id"]) for one in results]
    return pd.DataFrame(rows, columns=columns, dtype=object)


def measured(application: Report, switched: Switched, verified: Verified) -> dict[str, Any]:
    """write_gap_ms, acknowledged_writes, acknowledged_writes_lost, keys_compared, keys_different; None: not measured.

    The gap is the application's own where it reports one, else the time that writes were frozen.
    """
    said, last = application.values, switched.comparison if not switched.comparison.note else verified
    compared = not last.note
    return {
        "write_gap_ms": round(said["write_gap_ms"], 1) if "write_gap_ms" in said else round(switched.freeze_ms, 1) or None,
        "acknowledged_writes": said.get("acknowledged_writes"),
        "acknowledged_writes_lost": said.get("acknowledged_writes_lost"),
        "keys_compared": last.keys_compared if compared else None,
        "keys_different": last.keys_different if compared else None,
        "freeze_ms": round(switched.freeze_ms, 1),
    }
