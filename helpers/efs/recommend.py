"""Which throughput mode a file system needs: each simulated on its own month, with what it costs and where it stalls."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helpers.aws.errors import RunbookError
from helpers.efs.credits import GIB, INITIAL_CREDIT, KEEP, MIB, burst_rates, metered_bytes, numba, simulate_credits
from helpers.efs.limits import largest_provisioned_mibps, limits
from helpers.efs.modes import BURSTING, ELASTIC, PROVISIONED, can_switch
from helpers.efs.prices import Prices, elastic_cost, provisioned_cost

MONTH_S = 730 * 3600  # as AWS's calculator has it
TOLERATED_MINUTES = 45.0  # a month that a file system may stall: 0.1 %
SETTLED = 12  # histories in a row until the balance at their end tells the long run

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Usage:
    """What a file system was asked for, and how it is set now.

    `read`, `write` and `metadata` are bytes a step (steps,) of DataReadIOBytes, DataWriteIOBytes and MetadataIOBytes,
    sizes and `credit` bytes. `throttled` marks the steps whose demand is unknown. `ia_access` is bytes read from and
    written to IA in the whole history. `hours_locked` is how long ago provisioned was switched to or changed.
    """

    read: Floats
    write: Floats
    metadata: Floats
    step_seconds: float
    standard_bytes: float
    ia_bytes: float = 0.0
    archive_bytes: float = 0.0
    credit: float = INITIAL_CREDIT
    mode: str = BURSTING
    provisioned_mibps: float | None = None
    hours_locked: float | None = None
    one_zone: bool = False
    ia_access: float = 0.0
    throttled: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))

    def __post_init__(self) -> None:
        if not len(self.read) or not len(self.read) == len(self.write) == len(self.metadata):
            raise RunbookError("Reads, writes and metadata are missing or of different length.", "Fetch the three metrics for the same hours.")
        if np.isnan(self.read + self.write + self.metadata).any():
            raise RunbookError("The history has gaps.", "Where CloudWatch has no datapoint, give 0.")

    @property
    def metered(self) -> Floats:
        """Bytes a step that count against throughput."""
        return metered_bytes(self.read, self.write, self.metadata)

    @property
    def slow(self) -> NDArray[np.bool_]:
        """The throttled steps, none where nothing was said."""
        return self.throttled if len(self.throttled) else np.zeros(len(self.read), dtype=bool)

    @property
    def months(self) -> float:
        """The length of the history in months of 730 h."""
        return len(self.read) * self.step_seconds / MONTH_S


@dataclass(frozen=True)
class Option:
    """A mode on the file system's own demand: cost a month, and minutes a month in which requests had to wait.

    `allowed` is whether EFS lets the file system change to it now; `at_least` says that unknown demand was left out.
    """

    mode: str
    mibps: float | None
    storage_cost: float
    throughput_cost: float
    stall_minutes: float
    allowed: bool
    at_least: bool = False
    note: str = ""

    @property
    def monthly_cost(self) -> float:
        """Storage and throughput."""
        return self.storage_cost + self.throughput_cost


@dataclass(frozen=True)
class Recommendation:
    """The option to take, all options, and why; `break_even_mibps` above the baseline cost as much as elastic."""

    best: Option
    options: list[Option]
    break_even_mibps: float
    reasons: list[str]
    prices: Prices

    def table(self) -> pd.DataFrame:
        """A row an option, in the currency of the prices."""
        money = f"{self.prices.currency} a month"
        rows = [
            {
                "mode": option.mode,
                "MiB/s": "" if option.mibps is None else f"{option.mibps:,.0f}",
                money: f"{option.monthly_cost:,.2f}",
                "of it throughput": f"{option.throughput_cost:,.2f}",
                "stalls, min a month": ("at least " if option.at_least else "") + f"{option.stall_minutes:,.0f}",
                "now": "yes" if option.allowed else "after the 24 h lock",
                "note": option.note,
            }
            for option in self.options
        ]
        return pd.DataFrame(rows)


def waiting_steps(demand: Floats, standard_bytes: float, step_seconds: float, credit: float) -> tuple[NDArray[np.bool_], float]:
    """Which steps of a bursting file system leave work behind, and the balance at the end.

    `demand` is metered bytes a step. What does not fit waits for the next step. With credits a step may take what the
    burst rate and the balance allow, and never less than the rate without credits.
    """
    rates = burst_rates(standard_bytes)
    gain, floor, burst = (rate * step_seconds for rate in rates[:3])
    after = simulate_credits(demand, standard_bytes, step_seconds, credit)
    before = np.concatenate([[credit], after[:-1]])
    short = np.flatnonzero(demand > np.maximum(floor, np.minimum(burst, before + gain)))
    waiting = np.zeros(len(demand), dtype=bool)
    if not len(short):  # nothing ever waits, and the balance is that of the demand
        return waiting, float(after[-1])
    first = int(short[0])
    return waiting, _queue(demand[first:], gain, floor, burst, rates.max_credit, float(before[first]), waiting[first:])


def _queue(demand: Floats, gain: float, floor: float, burst: float, most: float, credit: float, waiting: NDArray[np.bool_]) -> float:
    """Serve the demand of each step as far as the balance allows, mark in `waiting` the steps that leave some, return the balance."""
    left = 0.0
    for step in range(len(demand)):
        left += float(demand[step])
        done = min(left, max(floor, min(burst, credit + gain)))
        credit = min(max(credit + gain - done, 0.0), most)
        left -= done
        waiting[step] = left > 1
    return credit


if numba is not None:
    _queue = numba.njit(cache=KEEP)(_queue)


def _waiting_at(rate: float, demand: Floats, step_seconds: float) -> NDArray[np.bool_]:
    """Which steps leave work behind at a constant rate (bytes/s): the queue is the running sum above its lowest point."""
    level = np.concatenate([[0.0], np.cumsum(demand - rate * step_seconds)])
    return (level - np.minimum.accumulate(level))[1:] > 1


def _minutes(waiting: NDArray[np.bool_], usage: Usage) -> float:
    """Minutes a month of 730 h."""
    return float(waiting.sum() * usage.step_seconds / 60 / usage.months)


def _above_limits(usage: Usage, mode: str, region: str) -> tuple[NDArray[np.bool_], str]:
    """Which steps leave reads or writes behind because the region serves no more in a mode, and that in words."""
    most = limits(mode, region, one_zone=usage.one_zone)
    waiting = _waiting_at(most.read, usage.read, usage.step_seconds) | _waiting_at(most.write, usage.write, usage.step_seconds)
    note = f"above what EFS serves in {region}: {most.read / GIB:g} GiB/s of reads, {most.write / GIB:g} of writes"
    return waiting, note if waiting.any() else ""


def _noted(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def enough_mibps(usage: Usage, region: str, tolerated_minutes: float = TOLERATED_MINUTES) -> int:
    """The smallest whole MiB/s with which requests wait no longer than `tolerated_minutes` a month.

    Throttled steps show no demand and are left out, so that with any of them this is a lower bound. Raises
    `RunbookError` where more is needed than EFS provisions in the region.
    """
    demand = usage.metered[~usage.slow]
    low, high = 0, largest_provisioned_mibps(region, one_zone=usage.one_zone)
    if _minutes(_waiting_at(high * MIB, demand, usage.step_seconds), usage) > tolerated_minutes:
        raise RunbookError(f"More than the {high:,} MiB/s of {region} would be needed.", "Spread the data over several file systems, or use elastic.")
    while high - low > 1:
        middle = (low + high) // 2
        fits = _minutes(_waiting_at(middle * MIB, demand, usage.step_seconds), usage) <= tolerated_minutes
        low, high = (low, middle) if fits else (middle, high)
    return high


def storage_cost(usage: Usage, prices: Prices, mode: str) -> float:
    """What storage and IA access cost a month; IA is cheaper to keep in elastic mode, which bills access by itself."""
    standard = prices.one_zone if usage.one_zone else prices.standard
    kept = usage.standard_bytes * standard + usage.archive_bytes * prices.archive
    kept += usage.ia_bytes * (prices.ia_elastic if mode == ELASTIC else prices.ia)
    return (kept + usage.ia_access / usage.months * prices.ia_access) / GIB


def _allowed(usage: Usage, mode: str, mibps: float | None = None) -> bool:
    return mode == usage.mode != PROVISIONED or can_switch(usage.mode, mode, usage.provisioned_mibps, mibps, usage.hours_locked)


def bursting(usage: Usage, prices: Prices) -> Option:
    """Bursting in the long run: the history again and again until the balance shows whether it always falls."""
    demand, credit = usage.metered, usage.credit
    for _ in range(SETTLED):
        waiting, after = waiting_steps(demand, usage.standard_bytes, usage.step_seconds, credit)
        if abs(after - credit) < 1:
            break
        credit = after
    falls = demand.sum() > burst_rates(usage.standard_bytes).baseline * len(demand) * usage.step_seconds
    above, limit = _above_limits(usage, BURSTING, prices.region)
    note = _noted("the balance always falls: demand is above the baseline" if falls else "", limit)
    stalls = _minutes(waiting | above | usage.slow, usage)
    return Option(BURSTING, None, storage_cost(usage, prices, BURSTING), 0.0, stalls, _allowed(usage, BURSTING), bool(usage.slow.any()), note)


def provisioned(usage: Usage, prices: Prices, tolerated_minutes: float = TOLERATED_MINUTES) -> Option:
    """Provisioned with just enough, or with the most there is; where the baseline is above that, it is free and bursting applies."""
    try:
        mibps, too_little = enough_mibps(usage, prices.region, tolerated_minutes), ""
    except RunbookError as error:
        mibps, too_little = largest_provisioned_mibps(prices.region, one_zone=usage.one_zone), error.what
    gib = usage.standard_bytes / GIB
    rate = max(mibps * MIB, burst_rates(usage.standard_bytes).baseline)
    waiting = _waiting_at(rate, usage.metered[~usage.slow], usage.step_seconds)
    above, limit = _above_limits(usage, PROVISIONED, prices.region)
    waiting |= above[~usage.slow]
    unknown = bool(usage.slow.any())
    note = too_little or limit or ("demand was throttled: at least this much" if unknown else "")
    cost = provisioned_cost(gib, mibps, prices.provisioned)
    allowed = _allowed(usage, PROVISIONED, mibps)
    return Option(PROVISIONED, mibps, storage_cost(usage, prices, PROVISIONED), cost, _minutes(waiting, usage), allowed, unknown, note)


def elastic(usage: Usage, prices: Prices) -> Option:
    """Elastic: pays for the bytes moved, metadata as reads, and stalls above its regional limits alone."""
    moved = (usage.read + usage.metadata).sum() / usage.months, usage.write.sum() / usage.months
    cost = elastic_cost(*moved, prices.elastic_read, prices.elastic_write)
    unknown = bool(usage.slow.any())
    above, limit = _above_limits(usage, ELASTIC, prices.region)
    note = _noted("demand was throttled: costs at least this much" if unknown else "", limit)
    return Option(ELASTIC, None, storage_cost(usage, prices, ELASTIC), cost, _minutes(above, usage), _allowed(usage, ELASTIC), unknown, note)


def recommend(usage: Usage, prices: Prices, tolerated_minutes: float = TOLERATED_MINUTES) -> Recommendation:
    """The cheapest mode in which requests wait no longer than `tolerated_minutes` a month, and why.

    Where they wait longer in every mode, the one in which they wait least, and that one file system is too few.
    With throttled steps the demand is unknown: nothing is sized from them, and elastic is advised, which shows the
    demand and can be left again at any time.
    """
    options = [bursting(usage, prices), provisioned(usage, prices, tolerated_minutes), elastic(usage, prices)]
    by_mode = {option.mode: option for option in options}
    break_even = by_mode[ELASTIC].throughput_cost / prices.provisioned
    if usage.slow.any():
        best = by_mode[ELASTIC]
        least = usage.metered[usage.slow].mean() / usage.step_seconds / MIB
        reasons = [
            f"Throttled for {usage.slow.sum() * usage.step_seconds / 3600:,.1f} h: demand unknown, at least {least:,.1f} MiB/s.",
            "Elastic for some days shows the demand and can be left at any time; size provisioned from those days.",
        ]
    elif enough := [option for option in options if option.stall_minutes <= tolerated_minutes]:
        best = min(enough, key=lambda option: option.monthly_cost)
        reasons = [_why(best, by_mode, break_even, prices)]
    else:
        best = min(options, key=lambda option: (option.stall_minutes, option.monthly_cost))
        reasons = [f"No mode serves this in {prices.region}: requests wait {best.stall_minutes:,.0f} minutes a month in {best.mode} mode too. Spread the data over several file systems."]
    if not best.allowed:
        wait = 24 - (usage.hours_locked or 0)
        reasons.append(f"Provisioned was changed {usage.hours_locked:,.1f} h ago: EFS allows this in {wait:,.1f} h.")
    elif best.mode == PROVISIONED and usage.mode != PROVISIONED:
        reasons.append("For 24 h after the switch provisioned can be raised, but neither lowered nor left.")
    return Recommendation(best, options, break_even, reasons, prices)


def _why(best: Option, by_mode: dict[str, Option], break_even: float, prices: Prices) -> str:
    burst = by_mode[BURSTING]
    if best.mode == BURSTING:
        return "Bursting is enough: the balance comes back, and no other mode is cheaper."
    stalls = f"Bursting would make requests wait {burst.stall_minutes:,.0f} minutes a month"
    stalls += f"; {burst.note}." if burst.note else "."
    if burst.stall_minutes == 0:
        stalls = f"Bursting does not stall, but {best.mode} is cheaper."
    other = by_mode[ELASTIC if best.mode == PROVISIONED else PROVISIONED]
    cheaper = f"{best.mode.capitalize()} costs {best.monthly_cost:,.2f} {prices.currency} a month, {other.mode} {other.monthly_cost:,.2f}"
    return f"{stalls} {cheaper}; they break even at {break_even:,.1f} MiB/s above the baseline."


def tiered(usage: Usage, moved_bytes: float, access_share: float = 0.0) -> Usage:
    """The file system after `moved_bytes` went from Standard to IA, with `access_share` of all reads and writes on them.

    That takes their baseline and lowers the largest balance too, so look at `recommend` of this and not at storage
    alone. IA bills at least 128 KiB a file. Raises `RunbookError` for more bytes than there are.
    """
    if not 0 <= moved_bytes <= usage.standard_bytes:
        raise RunbookError(f"{moved_bytes / GIB:,.1f} GiB cannot move: Standard holds {usage.standard_bytes / GIB:,.1f} GiB.", "Move at most what is there.")
    left = usage.standard_bytes - moved_bytes
    accessed = access_share * float(usage.read.sum() + usage.write.sum())
    credit = min(usage.credit, burst_rates(left).max_credit)
    return replace(usage, standard_bytes=left, ia_bytes=usage.ia_bytes + moved_bytes, ia_access=usage.ia_access + accessed, credit=credit)
