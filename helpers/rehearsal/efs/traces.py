"""Thirty days of CloudWatch metrics for four file systems: one bursting, one provisioned, one elastic, one throttled.

Every hour has its sums; the credit balance follows from them by the rule of
https://docs.aws.amazon.com/efs/latest/ug/performance.html#bursting, so that balance, size and metered bytes agree.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
HOURS, HOUR_S, MINUTE_S = 30 * 24, 3600, 60
FINE_HOURS = 14 * 24  # of which there are minutes too, where they are asked for
SUMS = {"DataReadIOBytes", "DataWriteIOBytes", "MetadataIOBytes", "TotalIOBytes", "MeteredIOBytes", "ClientConnections"}
ENDS = "BurstCreditBalance"  # what it is at the end of an hour, between which it is a line
STORAGE_CLASSES = ("Total", "Standard", "IA", "Archive")


@dataclass(frozen=True)
class Kind:
    """A file system and what is asked of it: sizes in bytes, the mean demand metered in bytes/s, the credits it starts with."""

    mode: str
    standard: int
    infrequent: int
    demand: float
    credit: float
    provisioned_mibps: float = 0.0
    clients: int = 4


FILE_SYSTEMS: Mapping[str, Kind] = {
    "web-content": Kind("bursting", 300 * GIB, 120 * GIB, 15.2 * MIB, 2.1 * TIB, clients=6),
    "analytics": Kind("provisioned", 500 * GIB, 0, 31 * MIB, 2.1 * TIB, provisioned_mibps=50.0, clients=10),
    "events": Kind("elastic", 80 * GIB, 40 * GIB, 3 * MIB, 0.0, clients=3),
    "builds": Kind("bursting", 40 * GIB, 0, 2.6 * MIB, 0.25 * TIB, clients=8),  # throttled once its credits are gone
}
ELASTIC_WRITE_LIMIT = 1 * GIB  # bytes/s, what an elastic file system shows as its permitted throughput


def demand(name: str, hours: np.ndarray) -> np.ndarray:
    """Return the metered bytes that clients ask for in each hour: high in the afternoon, low on the seventh day, a little random.

    `hours` counts hours since 1970, UTC; the same name and hour always give the same.
    """
    kind, chance = FILE_SYSTEMS[name], np.random.default_rng(zlib.crc32(name.encode()))
    day = 1 + 0.6 * np.sin((hours % 24 - 9) * 2 * np.pi / 24)
    week = np.where(hours // 24 % 7 == 3, 0.6, 1.0)
    shape = day * week * chance.lognormal(0, 0.08, hours.size)
    return kind.demand * HOUR_S * shape / shape.mean()


def metrics(name: str, last_hour: int) -> dict[str, np.ndarray]:
    """Return a value an hour for each metric, for the 30 days that end with `last_hour` (hours since 1970).

    Sums in bytes for the …IOBytes, bytes/s for PermittedThroughput, bytes for BurstCreditBalance, which an elastic file system has
    not, percent for PercentIOLimit, a sum of minutes for ClientConnections.
    """
    kind, asked = FILE_SYSTEMS[name], demand(name, np.arange(last_hour - HOURS + 1, last_hour + 1))
    baseline = kind.standard / GIB * 50 * KIB
    granted, balance, permitted = _granted(kind, asked, baseline)
    read, write, metadata = granted * 0.45 * 3, granted * 0.5, granted * 0.05
    found = {
        "DataReadIOBytes": read,
        "DataWriteIOBytes": write,
        "MetadataIOBytes": metadata,
        "TotalIOBytes": read + write + metadata,
        "MeteredIOBytes": granted,
        "PermittedThroughput": permitted,
        "PercentIOLimit": np.minimum(100.0, 100 * granted / HOUR_S / permitted),
        "ClientConnections": np.full(HOURS, 60.0 * kind.clients),
    }
    return found if kind.mode == "elastic" else {**found, "BurstCreditBalance": balance}


def datapoints(metric: str, values: np.ndarray, last_hour: int, fine: bool) -> Iterator[tuple[int, float]]:
    """Yield the seconds since 1970 and the value of each datapoint of a metric; `fine` has one a minute in the last two weeks."""
    coarse = len(values) - FINE_HOURS if fine else len(values)
    begin = (last_hour - len(values) + 1) * HOUR_S
    for hour in range(coarse):
        yield begin + hour * HOUR_S, float(values[hour])
    minutes = HOUR_S // MINUTE_S
    for hour in range(coarse, len(values)):
        before, value = (values[hour - 1], values[hour]) if metric == ENDS else (values[hour], values[hour])
        told = np.full(minutes, value / minutes) if metric in SUMS else np.linspace(before, value, minutes + 1)[1:]
        for minute, one in enumerate(told.tolist()):
            yield begin + hour * HOUR_S + minute * MINUTE_S, one


def _granted(kind: Kind, asked: np.ndarray, baseline: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the clients get of what they ask for, the balance at the end of each hour, and the permitted bytes/s in it."""
    cap, credit = 2.1 * TIB * max(1.0, kind.standard / TIB), kind.credit
    granted, balance, permitted = asked.copy(), np.empty(asked.size), np.empty(asked.size)
    for hour, wanted in enumerate(asked):
        if kind.mode != "bursting":
            fixed = kind.provisioned_mibps * MIB if kind.mode == "provisioned" else ELASTIC_WRITE_LIMIT
            granted[hour], permitted[hour], balance[hour] = min(wanted, fixed * HOUR_S), fixed, cap
            continue
        full, floor = 100 * MIB * max(1.0, kind.standard / TIB), max(baseline, MIB)
        granted[hour] = min(wanted, credit + floor * HOUR_S, full * HOUR_S)
        credit = min(cap, max(0.0, credit + baseline * HOUR_S - granted[hour]))
        permitted[hour], balance[hour] = full if credit > 0 else floor, credit
    return granted, balance, permitted


def storage(name: str) -> dict[str, float]:
    """Return the bytes of each storage class, as the metric StorageBytes names them."""
    kind = FILE_SYSTEMS[name]
    return dict(zip(STORAGE_CLASSES, (kind.standard + kind.infrequent, kind.standard, kind.infrequent, 0), strict=True))
