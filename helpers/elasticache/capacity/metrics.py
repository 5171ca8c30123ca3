"""The CloudWatch metrics of a group's nodes: which, by what statistic, what reading them costs, and the reading.

What each is: https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/CacheMetrics.HostLevel.html and CacheMetrics.Redis.html.
They are published every minute, so a Maximum is that of the highest minute of a step. Times are UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helpers.aws import Aws
from helpers.aws.metrics import DAY, HOUR, Estimate, estimate_read, query, read_metrics

NAMESPACE, NODE_ID = "AWS/ElastiCache", "0001"  # every node of Redis is a cache cluster whose only cache node is 0001
PUBLISHED_S = 60

# name here: CloudWatch's name, statistic; in and out twice, as a mean of the step and as its highest minute
METRICS = {
    "memory": ("BytesUsedForCache", "Maximum"),
    "memory_percent": ("DatabaseMemoryUsagePercentage", "Maximum"),
    "evictions": ("Evictions", "Sum"),
    "connections": ("CurrConnections", "Maximum"),
    "new_connections": ("NewConnections", "Sum"),
    "engine_cpu": ("EngineCPUUtilization", "Maximum"),
    "cpu": ("CPUUtilization", "Maximum"),
    "mean_cpu": ("CPUUtilization", "Average"),
    "credits": ("CPUCreditBalance", "Minimum"),
    "swap": ("SwapUsage", "Maximum"),
    "freeable": ("FreeableMemory", "Minimum"),
    "bytes_in": ("NetworkBytesIn", "Sum"),
    "bytes_out": ("NetworkBytesOut", "Sum"),
    "peak_in": ("NetworkBytesIn", "Maximum"),
    "peak_out": ("NetworkBytesOut", "Maximum"),
    "shaped_in": ("NetworkBandwidthInAllowanceExceeded", "Sum"),
    "shaped_out": ("NetworkBandwidthOutAllowanceExceeded", "Sum"),
    "shaped_packets": ("NetworkPacketsPerSecondAllowanceExceeded", "Sum"),
    "shaped_tracking": ("NetworkConntrackAllowanceExceeded", "Sum"),
    "lag": ("ReplicationLag", "Maximum"),
    "managed": ("TrafficManagementActive", "Maximum"),
}

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Node:
    """A node: its cache cluster id, its shard, and its role today, empty where AWS does not tell it."""

    id: str
    shard: str
    role: str


@dataclass(frozen=True)
class History:
    """Metrics of a group's nodes: `values` by name, each (steps, nodes), NaN where CloudWatch has no datapoint.

    `start` is UTC, and the beginning of the first step. Memory is bytes, CPU per cent, network bytes a step (`bytes_...`) or
    a minute (`peak_...`), lag seconds, `shaped_...` packets a step that were held back or dropped.
    """

    nodes: tuple[Node, ...]
    start: datetime
    step_seconds: int
    values: Mapping[str, Floats]

    @property
    def times(self) -> pd.DatetimeIndex:
        """The beginning of each step, UTC."""
        return pd.date_range(self.start, periods=self.steps, freq=pd.Timedelta(seconds=self.step_seconds), name="UTC")

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return len(self.values["memory"])

    @property
    def days(self) -> float:
        """How long the history is."""
        return self.steps * self.step_seconds / DAY

    def highest(self, name: str) -> Floats:
        """The highest node's value of each step, NaN where no node has one."""
        return np.fmax.reduce(self.values[name], axis=1)

    def peak(self, name: str) -> float:
        """The highest value of all, NaN where there is none."""
        return float(np.fmax.reduce(self.values[name], axis=None))

    def total(self, name: str) -> float:
        """The sum over all steps and nodes; no datapoint counts as 0."""
        return float(np.nansum(self.values[name]))

    def rates(self, *names: str) -> Floats:
        """The largest of sums as bytes/s, (steps, nodes): in and out have an allowance each."""
        return np.fmax.reduce([self.values[name] for name in names]) / self.step_seconds

    def busiest(self, name: str) -> Node:
        """The node with the highest value."""
        return self.nodes[int(np.argmax(np.nan_to_num(np.fmax.reduce(self.values[name], axis=0), nan=-1.0)))]

    def silent(self) -> list[str]:
        """The nodes of which CloudWatch has no memory datapoint at all."""
        seen = np.isfinite(self.values["memory"]).any(axis=0)
        return [one.id for one, any_point in zip(self.nodes, seen, strict=True) if not any_point]

    def daily_peaks(self, name: str) -> Floats:
        """The highest value of each whole day, (days,), the days ending where the history ends; NaN for a day without one."""
        a_day = DAY // self.step_seconds
        whole = self.steps // a_day
        return np.fmax.reduce(self.highest(name)[self.steps - whole * a_day :].reshape(whole, a_day), axis=1)


def estimate(nodes: int, days: float) -> Estimate:
    """What `read` of so many nodes and days will cost, before it is spent."""
    return estimate_read(nodes * len(METRICS), days)


def read(aws: Aws, nodes: Sequence[Node], days: float, end: datetime) -> History:
    """The hourly metrics of the `days` before `end`, which has a time zone.

    Print `estimate` first: this spends it. Raises `RunbookError` where `end` has no time zone, or hours are not kept so long.
    """
    queries = [query(NAMESPACE, metric, {"CacheClusterId": one.id, "CacheNodeId": NODE_ID}, statistic, HOUR) for metric, statistic in METRICS.values() for one in nodes]
    start, values = read_metrics(aws, queries, days, end)
    by_name = values.reshape(len(values), len(METRICS), len(nodes))
    return History(tuple(nodes), start, HOUR, {name: np.ascontiguousarray(by_name[:, number]) for number, name in enumerate(METRICS)})
