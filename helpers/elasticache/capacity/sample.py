"""A made-up group, the same every time: four weeks of hourly metrics of two nodes, and a backup, for the notebook's outputs.

Sessions grow by some per cent a week; nights are quiet, weekends too; a report at three in the morning reads big values, by
which the network allowance is exceeded and the replica falls behind.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from helpers.aws.metrics import HOUR
from helpers.elasticache.capacity.cluster import Cluster
from helpers.elasticache.capacity.metrics import METRICS, History, Node
from helpers.elasticache.node_types import GBPS, node_type

END = datetime(2026, 11, 1, tzinfo=timezone.utc)
DAYS = 56  # of metrics that there are
NODES = (Node("sessions-001", "0001", "primary"), Node("sessions-002", "0001", "replica"))
GROUP = Cluster("sessions", "redis", "6.2.6", node_type("cache.r6g.large"), NODES)
REPORT_HOUR, REPORT_S = 3, 900  # when, and how many seconds of the hour
GIB, MIB = 2**30, 2**20

Floats = NDArray[np.float64]


def history(days: int = 28, seed: int = 7) -> History:
    """The metrics of the last `days` days, up to 56."""
    steps = DAYS * 24
    chance = np.random.default_rng(seed)
    hour, day = np.arange(steps) % 24, np.arange(steps) // 24
    users = _users(hour, day, chance)
    reports = hour == REPORT_HOUR
    values = {name: np.full((steps, len(NODES)), np.nan) for name in METRICS}
    days_own = np.convolve(chance.normal(0, 0.012, DAYS + 2), (0.6, 0.3, 0.1), "valid")  # a day resembles the one before
    memory = (4.9 + 0.055 * day + 1.25 * users) * GIB * (1 + days_own[day]) * chance.lognormal(0, 0.006, steps)
    for column, node in enumerate(NODES):
        first = node.role == "primary"
        _memory(values, column, memory * (1 if first else 0.996), chance)
        _work(values, column, users, reports, first, chance)
    values["lag"][:, 1] = np.where(reports, chance.uniform(1.5, 9.0, steps), chance.gamma(2, 0.06, steps))
    last = days * 24
    return History(NODES, END - timedelta(days=days), HOUR, {name: each[-last:] for name, each in values.items()})


def _users(hour: NDArray[np.int_], day: NDArray[np.int_], chance: np.random.Generator) -> Floats:
    """How busy the hours are: about 1 in the afternoon of a working day."""
    office = 0.55 + 0.45 * np.cos((hour - 14) / 24 * 2 * np.pi)
    weekday = np.array([1.0 if (END - timedelta(days=DAYS - int(one))).weekday() < 5 else 0.62 for one in range(DAYS)])
    return office * weekday[day] * chance.lognormal(0, 0.05, len(hour))


def _memory(values: dict[str, Floats], column: int, memory: Floats, chance: np.random.Generator) -> None:
    values["memory"][:, column] = memory
    values["memory_percent"][:, column] = 100 * memory / GROUP.usable
    values["evictions"][:, column] = 0
    values["swap"][:, column] = 0
    values["freeable"][:, column] = GROUP.type.maxmemory * 1.04 - memory * 1.05 + chance.normal(0, 20 * MIB, len(memory))


def _work(values: dict[str, Floats], column: int, users: Floats, reports: NDArray[np.bool_], first: bool, chance: np.random.Generator) -> None:
    steps, day = len(users), np.arange(len(users)) / 24
    grown = (1 + 0.004 * day) * users
    mean_cpu = 3 + (11 if first else 5) * grown
    values["mean_cpu"][:, column] = mean_cpu
    values["cpu"][:, column] = np.clip(mean_cpu * chance.uniform(1.5, 2.1, steps) + np.where(reports & first, 9, 0), 0, 100)
    values["engine_cpu"][:, column] = np.clip(1.4 * values["cpu"][:, column], 0, 100)
    values["connections"][:, column] = (640 if first else 260) * (0.7 + 0.5 * grown) + chance.normal(0, 12, steps)
    values["new_connections"][:, column] = chance.poisson(900 + 2600 * users)
    out = (0.10 if first else 0.03) * grown * GBPS * HOUR
    if first:
        out = out + np.where(reports, 1.9 * GBPS * REPORT_S * (1 + 0.002 * day), 0)
    values["bytes_out"][:, column] = out
    values["bytes_in"][:, column] = (0.06 if first else 0.045) * grown * GBPS * HOUR
    values["peak_out"][:, column] = np.where(reports & first, 4.6 * GBPS * 60, out / 60 * chance.uniform(1.4, 2.2, steps))
    values["peak_in"][:, column] = values["bytes_in"][:, column] / 60 * chance.uniform(1.4, 2.0, steps)
    for name in ("shaped_in", "shaped_packets", "shaped_tracking", "managed"):
        values[name][:, column] = 0
    values["shaped_out"][:, column] = np.where(reports & first & (day > DAYS - 9), chance.integers(200, 4000, steps), 0)


# -- the backup ----------------------------------------------------------------------------------------


def backup() -> BytesIO:
    """A backup of the group as an RDB file of format 9: sessions, cached queries, counters without an end, and some big keys."""
    chance = random.Random(11)
    saved = int(END.timestamp()) - 6 * HOUR
    out = BytesIO()
    out.write(b"REDIS0009" + _fact(b"redis-ver", b"6.2.6") + _fact(b"ctime", b"%d" % saved) + b"\xfe\x00")
    for number in range(24_000):
        out.write(_ends(saved, chance.uniform(60, 12 * HOUR)) + b"\x00" + _text(b"session:%032x" % chance.getrandbits(128)) + _text(bytes(int(chance.lognormvariate(6.6, 0.5)))))
        if number % 4 == 0:
            out.write(_ends(saved, chance.uniform(30, 600)) + b"\x00" + _text(b"SELECT * FROM orders WHERE user = %d;" % number) + _text(bytes(int(chance.lognormvariate(7.8, 0.9)))))
        if number % 5 == 0:
            out.write(b"\x00" + _text(b"views:page-%d" % number) + _text(b"%d" % chance.randrange(10**6) * 2))
    for name, count in ((b"cart:abandoned", 60_000), (b"report:last-month", 25_000), (b"feature:flags", 400)):
        members = (_text(b"field-%07d" % field) + _text(bytes(chance.randrange(20, 90))) for field in range(count))
        out.write(b"\x04" + _text(name) + _length(count) + b"".join(members))
    out.write(b"\xff" + bytes(8))
    out.seek(0)
    return out


def _fact(name: bytes, value: bytes) -> bytes:
    return b"\xfa" + _text(name) + _text(value)


def _ends(saved: int, seconds: float) -> bytes:
    return b"\xfc" + int((saved + seconds) * 1000).to_bytes(8, "little")


def _text(value: bytes) -> bytes:
    return _length(len(value)) + value


def _length(size: int) -> bytes:
    if size < 1 << 6:
        return bytes([size])
    return (0x4000 | size).to_bytes(2, "big") if size < 1 << 14 else b"\x80" + size.to_bytes(4, "big")
