"""A fleet's CloudWatch metrics: what reading them costs, the reading, and which file systems deserve a closer look.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html and, for what each metric is,
https://docs.aws.amazon.com/efs/latest/ug/efs-metrics.html. Times are UTC, bytes a step are Sums, the balance is a Minimum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helpers.aws import Aws, RunbookError
from helpers.aws.metrics import HOUR, MINUTE, Estimate, estimate_read, query, read_metrics
from helpers.efs.credits import burst_rates, metered_bytes

# name here: CloudWatch's name, statistic
METRICS = {
    "read": ("DataReadIOBytes", "Sum"),
    "write": ("DataWriteIOBytes", "Sum"),
    "metadata": ("MetadataIOBytes", "Sum"),
    "balance": ("BurstCreditBalance", "Minimum"),
    "standard": ("StorageBytes", "Average"),
    "permitted": ("PermittedThroughput", "Average"),
    "io_limit": ("PercentIOLimit", "Maximum"),
    "connections": ("ClientConnections", "Sum"),
}
TRIAGE = ("read", "write", "metadata", "balance", "standard")
WHOLE = (*TRIAGE, "permitted")

Floats = NDArray[np.float64]


def estimate(file_systems: int, days: float, step_seconds: int = HOUR, names: Sequence[str] = TRIAGE) -> Estimate:
    """What `read` of so many file systems and days will cost, before it is spent."""
    return estimate_read(file_systems * len(names), days, step_seconds)


@dataclass(frozen=True)
class History:
    """Metrics of some file systems: `values` by name, each (steps, file systems), NaN where CloudWatch has no datapoint.

    `start` is UTC, and the beginning of the first step. Sums are bytes a step, balance and Standard size bytes, the
    permitted rate bytes/s.
    """

    ids: tuple[str, ...]
    start: datetime
    step_seconds: int
    values: Mapping[str, Floats]

    @property
    def times(self) -> pd.DatetimeIndex:
        """The beginning of each step, UTC."""
        steps = len(next(iter(self.values.values())))
        return pd.date_range(self.start, periods=steps, freq=pd.Timedelta(seconds=self.step_seconds), name="UTC")

    def frame(self, file_system: str) -> pd.DataFrame:
        """One file system: a row a step, a column a metric. Raises `RunbookError` for one that was not read."""
        column = self._column(file_system)
        return pd.DataFrame({name: values[:, column] for name, values in self.values.items()}, index=self.times)

    def of(self, file_system: str) -> History:
        """The history of one file system alone. Raises `RunbookError` for one that was not read."""
        column = self._column(file_system)
        values = {name: np.ascontiguousarray(values[:, column : column + 1]) for name, values in self.values.items()}  # steps side by side in memory
        return History((file_system,), self.start, self.step_seconds, values)

    def _column(self, file_system: str) -> int:
        if file_system not in self.ids:
            raise RunbookError(f"No metrics of {file_system} were read.", f"Read them first; there are those of {', '.join(self.ids[:5])}{' and others' * (len(self.ids) > 5)}.")
        return self.ids.index(file_system)

    def require(self, names: Sequence[str]) -> None:
        """Raise `RunbookError` where one of the metrics was not asked for."""
        absent = [METRICS[name][0] for name in names if name not in self.values]
        if absent:
            raise RunbookError(f"The history has no {', '.join(absent)}.", "Read them too: `names` of metrics.read lists what is read.")

    def metered(self) -> Floats:
        """Bytes a step that count against throughput; no datapoint of I/O is no I/O."""
        return metered_bytes(*(self.moved(name) for name in ("read", "write", "metadata")))

    def moved(self, name: str) -> Floats:
        """Bytes a step of `read`, `write` or `metadata`, 0 where nothing was moved."""
        return np.nan_to_num(self.values[name])

    def sizes(self, else_bytes: Sequence[float]) -> Floats:
        """Bytes in Standard at each step: the last known before, else the first known after, else `else_bytes`."""
        seen = self.values["standard"]
        known = seen if np.isfinite(seen).all() else pd.DataFrame(seen).ffill().bfill().to_numpy()
        return np.where(np.isfinite(known), known, np.asarray(else_bytes, dtype=np.float64))

    def silent(self) -> list[str]:
        """The file systems without a single datapoint."""
        seen = np.any([np.isfinite(values).any(axis=0) for values in self.values.values()], axis=0)
        return [one for one, any_point in zip(self.ids, seen, strict=True) if not any_point]


def read(aws: Aws, ids: Sequence[str], days: float, end: datetime, step_seconds: int = HOUR, names: Sequence[str] = TRIAGE) -> History:
    """The metrics of the `days` before `end`, which has a time zone; 500 queries a call, and each page that follows.

    Print `estimate` first: this spends it. Raises `RunbookError` where CloudWatch keeps no datapoints of that step for
    so long, or where `end` has no time zone.
    """
    queries = [_query(one, name, step_seconds) for one in ids for name in names]
    start, values = read_metrics(aws, queries, days, end, step_seconds)
    return History(tuple(ids), start, step_seconds, {name: np.ascontiguousarray(values[:, number :: len(names)]) for number, name in enumerate(names)})


def _query(file_system: str, name: str, step_seconds: int) -> dict[str, Any]:
    metric, statistic = METRICS[name]
    dimensions = {"FileSystemId": file_system}
    if metric == "StorageBytes":
        dimensions["StorageClass"] = "Standard"
        step_seconds = max(step_seconds, 900)  # it is measured every 15 minutes
    return query("AWS/EFS", metric, dimensions, statistic, step_seconds)


def flagged(history: History, standard_bytes: Sequence[float]) -> list[str]:
    """The file systems whose minutes are worth fetching: an hour near the end of the credits, or demand above the baseline."""
    rates = burst_rates(history.sizes(standard_bytes))
    used, left = history.metered(), history.values["balance"]
    low = np.where(np.isfinite(left), left, np.inf).min(axis=0) < 0.1 * rates.max_credit[-1]
    above = used.sum(axis=0) > rates.baseline.sum(axis=0) * history.step_seconds
    has_balance = np.isfinite(left).any(axis=0)
    return [one for one, flag in zip(history.ids, has_balance & (low | above), strict=True) if flag]


def balance_at_end(history: History, standard_bytes: Sequence[float]) -> Floats:
    """The balance at the end of each step in bytes, NaN where the lowest of an hour does not tell it.

    The lowest balance of an hour is its end where the balance falls, and its beginning where it rises. A step within
    two steps' flow of empty or full is left out, because the clamp may have acted inside it.
    """
    rates = burst_rates(history.sizes(standard_bytes))
    earned, used, lowest = rates.baseline * history.step_seconds, history.metered(), history.values["balance"]
    flow = np.maximum(earned, used)
    ends = lowest.copy()
    if history.step_seconds > MINUTE:
        rises = earned > used
        following = np.vstack([lowest[1:], np.full((1, lowest.shape[1]), np.nan)])
        rises_on = np.vstack([rises[1:], np.zeros((1, lowest.shape[1]), dtype=bool)])
        ends = np.where(rises, np.where(rises_on, following, np.nan), lowest)
    inside = (lowest > 2 * flow) & (lowest < rates.max_credit - 2 * flow)
    return np.where(inside, ends, np.nan)
