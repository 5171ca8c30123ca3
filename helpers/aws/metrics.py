"""Reading CloudWatch: what it costs, whole steps of a window, and every page of GetMetricData.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html; times are UTC.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
from botocore.exceptions import ClientError
from numpy.typing import NDArray

from helpers.aws.errors import RunbookError, explain
from helpers.aws.session import Aws

QUERIES_A_CALL, POINTS_A_PAGE = 500, 100_800
USD_A_METRIC = 0.01 / 1000
KEPT_DAYS = {60: 15, 300: 63, 3600: 455}  # how long CloudWatch keeps datapoints of a period
MINUTE, HOUR, DAY = 60, 3600, 86_400

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


def estimate_read(metrics: int, days: float, step_seconds: int = HOUR) -> Estimate:
    """What a read of so many metrics and days will cost, before it is spent."""
    calls = -(-metrics // QUERIES_A_CALL)
    points = metrics * int(days * DAY / step_seconds)
    return Estimate(metrics, calls, max(calls, -(-points // POINTS_A_PAGE)), metrics * USD_A_METRIC)


def query(namespace: str, metric: str, dimensions: Mapping[str, str], statistic: str, period: int) -> dict[str, Any]:
    """One metric as GetMetricData asks for it, without its id."""
    named = [{"Name": name, "Value": value} for name, value in dimensions.items()]
    return {"MetricStat": {"Metric": {"Namespace": namespace, "MetricName": metric, "Dimensions": named}, "Period": period, "Stat": statistic}}


def read_metrics(aws: Aws, queries: Sequence[Mapping[str, Any]], days: float, end: datetime, step_seconds: int = HOUR) -> tuple[datetime, Floats]:
    """The metrics of the `days` before `end`, which has a time zone: the first step's beginning, and values (steps, queries).

    NaN where CloudWatch has no datapoint. 500 queries go into a call, and each page that follows is read. Raises
    `RunbookError` where CloudWatch keeps no datapoints of that step for so long, or where `end` has no time zone.
    """
    start, steps = _window(days, end, step_seconds)
    values = np.full((steps, len(queries)), np.nan)
    window = {"StartTime": start, "EndTime": start + timedelta(seconds=steps * step_seconds), "ScanBy": "TimestampAscending"}
    for first in range(0, len(queries), QUERIES_A_CALL):
        part = [{"Id": f"q{number}", **one} for number, one in enumerate(queries[first : first + QUERIES_A_CALL])]
        for found in _results(aws, part, window):
            column = first + int(found["Id"][1:])
            at = [int((each.timestamp() - start.timestamp()) // step_seconds) for each in found["Timestamps"]]
            kept = [(row, value) for row, value in zip(at, found["Values"], strict=True) if 0 <= row < steps]
            if kept:
                rows, points = zip(*kept, strict=True)
                values[list(rows), column] = points
    return start, values


def _window(days: float, end: datetime, step_seconds: int) -> tuple[datetime, int]:
    """The first step's beginning, and how many steps there are; whole steps only."""
    if end.tzinfo is None:
        raise RunbookError("The end of the history has no time zone.", "Give datetime.now(timezone.utc), or another aware time.")
    if days > KEPT_DAYS.get(step_seconds, 0):
        kept = ", ".join(f"{period} s for {most} days" for period, most in KEPT_DAYS.items())
        raise RunbookError(f"CloudWatch has no {days:g} days in steps of {step_seconds} s.", f"It keeps {kept}.")
    last = int(end.timestamp()) // step_seconds * step_seconds
    steps = int(days * DAY) // step_seconds
    return datetime.fromtimestamp(last - steps * step_seconds, timezone.utc), steps


def _results(aws: Aws, queries: Sequence[Mapping[str, Any]], window: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
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
