"""A fleet's CloudWatch metrics: what reading them costs, the reading, and which file systems deserve a closer look.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html and, for what each metric is,
https://docs.aws.amazon.com/efs/latest/ug/efs-metrics.html. Times are UTC, bytes a step are Sums, the balance is a Minimum.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
from botocore.exceptions import ClientError
from numpy.typing import NDArray

from helpers.aws import Aws, RunbookError, explain
from helpers.efs.credits import burst_rates, metered_bytes

QUERIES_A_CALL, POINTS_A_PAGE = 500, 100_800
USD_A_METRIC = 0.01 / 1000
KEPT_DAYS = {60: 15, 300: 63, 3600: 455}  # how long CloudWatch keeps datapoints of a period
MINUTE, HOUR = 60, 3600

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


@dataclass(frozen=True)
class Estimate:
    """What a read costs: metrics requested, calls, pages of 100,800 points at least, and USD at $0.01 a 1,000 metrics."""

    metrics: int
    calls: int
    pages: int
    usd: float

    def __str__(self) -> str:
        return f"CloudWatch will bill {self.usd:,.4f} USD: {self.metrics:,} metrics; calls: {self.calls:,}, pages: {self.pages:,} or more"


def estimate(file_systems: int, days: float, step_seconds: int = HOUR, names: Sequence[str] = TRIAGE) -> Estimate:
    """What `read` of so many file systems and days will cost, before it is spent."""
    metrics = file_systems * len(names)
    calls = -(-metrics // QUERIES_A_CALL)
    points = metrics * int(days * 86_400 / step_seconds)
    return Estimate(metrics, calls, max(calls, -(-points // POINTS_A_PAGE)), metrics * USD_A_METRIC)


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
    start, steps = _window(days, end, step_seconds)
    wanted = [(name, column) for column in range(len(ids)) for name in names]
    values = {name: np.full((steps, len(ids)), np.nan) for name in names}
    window = {"StartTime": start, "EndTime": start + timedelta(seconds=steps * step_seconds), "ScanBy": "TimestampAscending"}
    for first in range(0, len(wanted), QUERIES_A_CALL):
        part = wanted[first : first + QUERIES_A_CALL]
        queries = [_query(f"q{number}", ids[column], name, step_seconds) for number, (name, column) in enumerate(part)]
        for found in _results(aws, queries, window):
            name, column = part[int(found["Id"][1:])]
            at = [int((each.timestamp() - start.timestamp()) // step_seconds) for each in found["Timestamps"]]
            kept = [(row, value) for row, value in zip(at, found["Values"], strict=True) if 0 <= row < steps]
            if kept:
                rows, points = zip(*kept, strict=True)
                values[name][list(rows), column] = points
    return History(tuple(ids), start, step_seconds, values)


def _window(days: float, end: datetime, step_seconds: int) -> tuple[datetime, int]:
    """The first step's beginning, and how many steps there are; whole steps only."""
    if end.tzinfo is None:
        raise RunbookError("The end of the history has no time zone.", "Give datetime.now(timezone.utc), or another aware time.")
    if days > KEPT_DAYS.get(step_seconds, 0):
        kept = ", ".join(f"{period} s for {most} days" for period, most in KEPT_DAYS.items())
        raise RunbookError(f"CloudWatch has no {days:g} days in steps of {step_seconds} s.", f"It keeps {kept}.")
    last = int(end.timestamp()) // step_seconds * step_seconds
    steps = int(days * 86_400) // step_seconds
    return datetime.fromtimestamp(last - steps * step_seconds, timezone.utc), steps


def _query(query_id: str, file_system: str, name: str, step_seconds: int) -> dict[str, Any]:
    metric, statistic = METRICS[name]
    dimensions = [{"Name": "FileSystemId", "Value": file_system}]
    if metric == "StorageBytes":
        dimensions.append({"Name": "StorageClass", "Value": "Standard"})
        step_seconds = max(step_seconds, 900)  # it is measured every 15 minutes
    return {
        "Id": query_id,
        "MetricStat": {"Metric": {"Namespace": "AWS/EFS", "MetricName": metric, "Dimensions": dimensions}, "Period": step_seconds, "Stat": statistic},
    }


def _results(aws: Aws, queries: list[dict[str, Any]], window: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    client, token = aws.client("cloudwatch"), {}
    while True:
        try:
            page = client.get_metric_data(MetricDataQueries=queries, **window, **token)
        except ClientError as error:
            raise explain(error) from error
        yield from page["MetricDataResults"]
        if not page.get("NextToken"):
            return
        token = {"NextToken": page["NextToken"]}


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
