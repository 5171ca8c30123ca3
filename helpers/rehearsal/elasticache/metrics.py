"""Four weeks of CloudWatch metrics of a group's nodes, as if it had been in use: users by day, weekends, growth, a nightly job."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

NAMESPACE, NODE_ID = "AWS/ElastiCache", "0001"
HOUR_S, MINUTES = 3600, 60
DAYS = 28
MIB, GIB = 2**20, 2**30
USABLE = 14_037_181_030 * 0.75  # of cache.r6g.large, less its reserve
JOB_HOUR = 2

Floats = np.ndarray


def series(nodes: Sequence[tuple[str, bool]], last_hour: int) -> Iterator[dict[str, Any]]:
    """Every metric of the nodes (cluster id, whether it is the primary) for the 28 days that end with `last_hour` (hours since 1970).

    Each is {"metric", "dimensions", "start", "sum", "min", "max"}: lists with a value an hour, of 60 samples each.
    """
    hours = np.arange(last_hour - DAYS * 24 + 1, last_hour + 1)
    for identity, primary in nodes:
        for metric, (mean, low, high) in _node(identity, primary, hours).items():
            yield {
                "metric": metric,
                "dimensions": {"CacheClusterId": identity, "CacheNodeId": NODE_ID},
                "start": int(hours[0]) * HOUR_S,
                "sum": (mean * MINUTES).tolist(),
                "min": np.broadcast_to(low, mean.shape).tolist(),
                "max": np.broadcast_to(high, mean.shape).tolist(),
            }


def _node(identity: str, primary: bool, hours: Floats) -> dict[str, tuple[Floats, Any, Any]]:
    """Mean, lowest and highest minute of each hour, by metric."""
    chance, share = np.random.default_rng(zlib.crc32(identity.encode())), 1.0 if primary else 0.4
    day = (hours - hours[0]) / 24
    users = (0.55 + 0.45 * np.sin((hours % 24 - 8) * 2 * np.pi / 24)) * np.where((hours // 24 + 4) % 7 < 2, 0.6, 1.0) * chance.lognormal(0, 0.06, hours.size)
    job = hours % 24 == JOB_HOUR
    memory = (5.2 + 0.02 * day + 0.9 * users) * GIB
    cpu = 4 + 14 * share * users
    sent, got = (90 * MIB * share * users + np.where(job & primary, 900 * MIB, 0)), 40 * MIB * share * users
    clients = 400 * share * (0.6 + 0.5 * users)
    nothing = np.zeros(hours.size)
    found = {
        "BytesUsedForCache": (memory, memory * 0.99, memory * 1.01),
        "DatabaseMemoryUsagePercentage": (100 * memory / USABLE, 99 * memory / USABLE, 101 * memory / USABLE),
        "CPUUtilization": (cpu, cpu * 0.6, cpu * 1.5),
        "EngineCPUUtilization": (1.2 * cpu, 0.7 * cpu, np.minimum(100, 1.9 * cpu)),
        "CurrConnections": (clients, clients * 0.95, clients * 1.05),
        "NewConnections": (12 * users, 0, 40 * users),
        "NetworkBytesOut": (sent, sent * 0.5, sent * 2),
        "NetworkBytesIn": (got, got * 0.5, got * 2),
        "FreeableMemory": (np.full(hours.size, 4.0 * GIB), 3.8 * GIB, 4.2 * GIB),
    }
    exceeded = ("NetworkBandwidthInAllowanceExceeded", "NetworkBandwidthOutAllowanceExceeded", "NetworkPacketsPerSecondAllowanceExceeded", "NetworkConntrackAllowanceExceeded")
    found |= {name: (nothing, 0, 0) for name in ("Evictions", "SwapUsage", "TrafficManagementActive", *exceeded)}
    if not primary:
        found["ReplicationLag"] = (np.full(hours.size, 0.08), 0, np.where(job, 2.5, 0.3))
    return found


def store(asked: dict[str, Any]) -> None:
    """Put series into MiniStack: {"series": as `series` gives them}."""
    from ministack.core.responses import request_scope
    from ministack.services import cloudwatch

    from helpers.rehearsal.cloud import ACCOUNT, REGION

    with request_scope(ACCOUNT, REGION):
        for one in asked["series"]:
            for number, (total, low, high) in enumerate(zip(one["sum"], one["min"], one["max"], strict=True)):
                sets = {"SampleCount": MINUTES, "Sum": total, "Minimum": low, "Maximum": high}
                cloudwatch._store_datum(NAMESPACE, one["metric"], one["dimensions"], one["start"] + number * HOUR_S, "None", None, None, None, sets)
