"""A made-up fleet, the same every time: file systems of each kind with a month of hourly metrics, for the notebooks' outputs.

The balance is simulated minute by minute by the credit rules and throttled by them, then put together by the hour (or not) as
CloudWatch does: sums, the lowest balance, the average of the permitted rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import numpy as np
from numpy.typing import NDArray

from helpers.efs.credits import GIB, MIB, TIB, burst_rates
from helpers.efs.file_systems import FileSystem
from helpers.efs.metrics import HOUR, History
from helpers.efs.modes import BURSTING, ELASTIC, PROVISIONED

END = datetime(2026, 11, 1, tzinfo=timezone.utc)
DAYS = 30
STEP = 60  # seconds
READS = 3 * 0.55  # bytes read for a byte metered: reads are metered at a third
WRITES, METADATA = 0.40, 0.05

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Kind:
    """A kind of file system: GiB in Standard, demand as a share of the baseline, growth a day, and how it is set."""

    name: str
    gib: float
    demand: float
    growth: float = 0.0
    credit: float = 2.1  # TiB at the start
    mode: str = BURSTING
    mibps: float | None = None
    nights: bool = False  # all of it in three hours of the night


KINDS = (
    Kind("web-assets", 180, 1.01, 0.0022, 2.1),
    Kind("build-cache", 60, 3.5),
    Kind("home-directories", 900, 0.45),
    Kind("nightly-reports", 60, 1.06, 0.0, 1.1, nights=True),
    Kind("media-ingest", 700, 0.97, 0.0019, 2.0),
    Kind("ci-workspaces", 120, 1.6, 0.0, 2.1, PROVISIONED, 96),
    Kind("ml-features", 120, 0.6, 0.0, 2.1, ELASTIC),
    Kind("wordpress", 35, 0.3),
    Kind("archive-intake", 1500, 0.12, 0.0, 2.9),
)
HOME = KINDS[0].name


def fleet(count: int = len(KINDS), step_seconds: int = HOUR, seed: int = 5) -> tuple[list[FileSystem], History]:
    """`count` file systems and their metrics of 30 days by the hour or the minute; those after the first nine vary on them."""
    chance = np.random.default_rng(seed)
    kinds = [KINDS[number % len(KINDS)] for number in range(count)]
    again = np.arange(count) >= len(KINDS)
    gib = np.array([kind.gib for kind in kinds]) * np.where(again, chance.uniform(0.5, 2, count), 1)
    wanted = np.array([kind.demand for kind in kinds]) * np.where(again, chance.uniform(0.7, 1.2, count), 1)
    systems = [_file_system(number, kind, size) for number, (kind, size) in enumerate(zip(kinds, gib, strict=True))]
    return systems, _history(systems, kinds, gib, wanted, step_seconds, chance)


def _file_system(number: int, kind: Kind, gib: float) -> FileSystem:
    name = kind.name if number < len(KINDS) else f"{kind.name}-{number // len(KINDS) + 1}"
    return FileSystem(f"fs-{number + 0x5a3c0001:017x}", name, throughput_mode=kind.mode, provisioned_mibps=kind.mibps, standard_bytes=gib * GIB)


def _history(systems: list[FileSystem], kinds: list[Kind], gib: Floats, wanted: Floats, step_seconds: int, chance: np.random.Generator) -> History:
    rates = burst_rates(gib * GIB)
    modes = np.array([kind.mode for kind in kinds])
    fixed = np.array([(kind.mibps or 0) * MIB for kind in kinds])
    credit = np.minimum(np.array([kind.credit for kind in kinds]) * TIB, rates.max_credit)
    together, an_hour = step_seconds // STEP, HOUR // STEP
    metered, lowest, permitted = np.zeros((3, DAYS * 24 * an_hour // together, len(systems)))
    lowest[:] = np.inf
    days = chance.lognormal(-0.01, 0.15, (DAYS, len(systems)))
    bursts, constant = modes == BURSTING, np.where(modes == ELASTIC, 3 * 1024 * MIB, np.maximum(fixed, rates.baseline))
    earned = rates.baseline * STEP
    for hour in range(DAYS * 24):
        day, of_day = divmod(hour, 24)
        level = wanted * rates.baseline * _shape(kinds, of_day, day) * days[day]
        demands = level * chance.gamma(4, 0.25, (an_hour, len(systems)))
        for step, demand in enumerate(demands, hour * an_hour):
            bursting = np.where(credit > rates.permitted_with_credit, rates.permitted_with_credit, rates.permitted_without_credit)
            allowed = np.where(bursts, bursting, constant)
            done = np.minimum(demand, allowed) * STEP
            credit = np.minimum(np.maximum(credit + earned - done, 0), rates.max_credit)
            row = step // together
            metered[row] += done
            lowest[row] = np.minimum(lowest[row], credit)
            permitted[row] += allowed / together
    lowest[:, modes == ELASTIC] = np.nan  # elastic has no balance
    values = {"read": READS * metered, "write": WRITES * metered, "metadata": METADATA * metered, "balance": lowest}
    values |= {"standard": np.broadcast_to(gib * GIB, metered.shape), "permitted": permitted}
    return History(tuple(one.id for one in systems), END - timedelta(days=DAYS), step_seconds, values)


def _shape(kinds: list[Kind], hour: int, day: int) -> Floats:
    """The share of its mean that each file system is asked for at an hour of a day."""
    office = 1 + 0.8 * np.cos((hour - 14) / 24 * 2 * np.pi)
    night = 8.0 if 1 <= hour < 4 else 0.0
    weekday = 1.16 if (END - timedelta(days=DAYS - day)).weekday() < 5 else 0.6
    return np.array([(night if kind.nights else office * weekday) * (1 + kind.growth) ** day for kind in kinds])
