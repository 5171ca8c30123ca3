"""A group's weeks summed up: peaks, growth, the day its memory is full, and what a node must be able to do.

Which CPU metric counts follows from the vCPUs: commands run on one core, so on nodes of four vCPUs and more that core's own
metric is looked at, EngineCPUUtilization, and on smaller ones CPUUtilization, of which one core is 100 % / vCPUs. At 90 % of
a core it is full. https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/CacheMetrics.WhichShouldIMonitor.html
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from helpers.aws import RunbookError
from helpers.elasticache.capacity.cluster import Cluster
from helpers.elasticache.capacity.metrics import PUBLISHED_S, History
from helpers.elasticache.capacity.trend import HORIZON, Reached, Trend, trend
from helpers.elasticache.node_types import NodeType

FULL_CORE = 90.0  # per cent of one core
OWN_METRIC_FROM = 4  # vCPUs
GIB = 2**30
SHAPED = ("shaped_in", "shaped_out")  # packets held back for their bytes

Floats = NDArray[np.float64]


def cpu_metric(kind: NodeType) -> str:
    """The metric to watch on a node type, as it is called in the history."""
    return "engine_cpu" if kind.vcpus >= OWN_METRIC_FROM else "cpu"


def cpu_threshold(kind: NodeType) -> float:
    """Per cent of that metric at which the core that runs commands is full."""
    return FULL_CORE if kind.vcpus >= OWN_METRIC_FROM else FULL_CORE / kind.vcpus


@dataclass(frozen=True)
class Need:
    """The measured peaks of the busiest node, which a node type must carry.

    Bytes of memory; per cent of the core that runs commands; all cores together as per cent of one core, at the peak and on the
    average of the busiest node; bytes/s each way as the mean of the busiest hour and of the busiest minute; connections.
    `more_network_than` is the baseline that was not enough, 0 where nothing was held back; `at_least` says in sentences
    which of the peaks are known to be more.
    """

    memory: float
    core: float
    cores: float
    mean_cores: float
    network: float
    network_minute: float
    connections: float
    more_network_than: float = 0.0
    at_least: tuple[str, ...] = ()


@dataclass(frozen=True)
class Review:
    """A group, its history, the trend of its memory (None where the history is too short), and what it needs."""

    cluster: Cluster
    history: History = field(repr=False)
    trend: Trend | None = field(repr=False)
    no_trend: str
    need: Need

    @property
    def end(self) -> datetime:
        """The end of the history, UTC."""
        return self.history.start + timedelta(seconds=self.history.steps * self.history.step_seconds)

    @property
    def full(self) -> Reached | None:
        """Days until memory is full, None where there is no trend."""
        return self.lasts(self.cluster.usable)

    def lasts(self, usable: float) -> Reached | None:
        """Days until so many bytes are full."""
        return self.trend.reaches(usable, already=self.need.memory >= usable) if self.trend else None

    def day(self, days: float) -> str:
        """A day as a date; what lies beyond the horizon as that."""
        return f"{self.end + timedelta(days=days):%Y-%m-%d}" if np.isfinite(days) else f"not within {HORIZON} days"

    @property
    def fills(self) -> str:
        """The day that memory is full, in a sentence."""
        found = self.full
        if found is None:
            return f"No day can be named: {self.no_trend}"
        note = f" {self.trend.note}" if self.trend and self.trend.note else ""
        if found.p50 == 0:
            return f"Memory is full now.{note}"
        if not np.isfinite(found.p10):
            return f"Memory does not fill within {HORIZON} days as it has grown.{note}"
        late = self.day(found.p90) if np.isfinite(found.p90) else f"beyond {HORIZON} days"
        about = f"about {self.day(found.p50)}" if np.isfinite(found.p50) else f"not before {self.day(found.p10)}"
        return f"Memory is full {about} (P10 {self.day(found.p10)}, P90 {late}).{note}"

    @property
    def finding(self) -> str:
        """The report in a sentence or two."""
        share = self.need.memory / self.cluster.usable
        grows = f", growing by {self.trend.growth / GIB * 7:+,.2f} GiB a week" if self.trend else ""
        return f"{self.cluster.name} used {self.need.memory / GIB:,.1f} of {self.cluster.usable / GIB:,.1f} GiB at its peak ({share:.0%}){grows}.\n{self.fills}"


def review(cluster: Cluster, history: History) -> Review:
    """The review. Raises `RunbookError` where CloudWatch knows nothing of the group."""
    if len(history.silent()) == len(history.nodes):
        raise RunbookError(f"CloudWatch has no metrics of {cluster.name} in these {history.days:,.0f} days.", "Check the region, the account and the name.")
    try:
        found, why = trend(history.daily_peaks("memory")), ""
    except RunbookError as error:
        found, why = None, error.what
    return Review(cluster, history, found, why, needed(cluster, history))


def needed(cluster: Cluster, history: History) -> Need:
    """The peaks of the busiest node; what CloudWatch did not say counts as 0."""
    vcpus = cluster.type.vcpus
    cores = _peak(history.values["cpu"]) * vcpus
    core = _peak(history.values["engine_cpu"]) if cpu_metric(cluster.type) == "engine_cpu" else min(cores, 100.0)
    mean_cores = float(np.nan_to_num(_node_means(history.values["mean_cpu"])).max()) * vcpus
    minute = max(_peak(history.values[name]) for name in ("peak_in", "peak_out")) / PUBLISHED_S
    network = _peak(history.rates("bytes_in", "bytes_out"))
    held = any(history.total(name) for name in SHAPED)
    return Need(_peak(history.values["memory"]), core, cores, mean_cores, network, minute, _peak(history.values["connections"]), cluster.type.network_baseline if held else 0.0, _at_least(history))


def _peak(values: Floats) -> float:
    return float(np.nan_to_num(np.fmax.reduce(values, axis=None)))


def _node_means(values: Floats) -> Floats:
    known = np.isfinite(values)
    return np.divide(np.nansum(values, axis=0), known.sum(axis=0), out=np.zeros(values.shape[1]), where=known.any(axis=0))


def _at_least(history: History) -> tuple[str, ...]:
    """What was held back shows a ceiling and not a demand."""
    told = []
    if history.total("evictions") > 0:
        told.append(f"{history.total('evictions'):,.0f} keys were evicted: the data is larger than the memory shows.")
    if shaped := sum(history.total(name) for name in SHAPED):
        told.append(f"{shaped:,.0f} packets were held back by the network allowance: more was to be sent than the bytes show.")
    return tuple(told)
