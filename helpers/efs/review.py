"""One file system's month reviewed: is the balance explained, when do the credits run out, which mode fits, what to do.

The same for one and for a fleet; everything comes from metrics that were read, and nothing is read or changed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helpers.aws.errors import RunbookError
from helpers.efs.agreement import LEAST_STEPS, Agreement, check_balance
from helpers.efs.credits import GIB, MIB, burst_rates
from helpers.efs.file_systems import FileSystem
from helpers.efs.forecast import Forecast, forecast, throttled_steps
from helpers.efs.metrics import TRIAGE, History, balance_at_end
from helpers.efs.modes import BURSTING, PROVISIONED
from helpers.efs.prices import Prices, provisioned_cost
from helpers.efs.recommend import TOLERATED_MINUTES, Recommendation, Usage, recommend, storage_cost, tiered

SATURATED = 0.95  # of the provisioned rate: an hour at it shows a ceiling, not demand
WORTH = 1.0  # a month, in the currency of the prices: a smaller saving is no reason to change anything

# What is to be done, the most urgent first.
THROTTLED = "requests wait already"
RUNS_OUT = "credits run out soon"
FALLS = "the balance falls in the long run"
UNEXPLAINED = "metrics do not add up"
SAVES = "money can be saved"
NOTHING = "nothing to do"
URGENCIES = (THROTTLED, RUNS_OUT, FALLS, UNEXPLAINED, SAVES, NOTHING)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Review:
    """What is known of a file system; `forecast` is None without a balance that counts, `advice` where it was refused.

    `balance` and `metered` are bytes a step of `step_seconds`, `start` the beginning of the first step, UTC. `refusal`
    says why there is no advice, `cost_now` what a month costs as the file system is set.
    """

    file_system: FileSystem
    start: datetime
    step_seconds: int
    balance: Floats
    metered: Floats
    usage: Usage
    agreement: Agreement
    forecast: Forecast | None
    advice: Recommendation | None
    refusal: str
    cost_now: float

    @property
    def end(self) -> datetime:
        """The end of the history, UTC."""
        return self.start + timedelta(seconds=len(self.metered) * self.step_seconds)

    @property
    def throttled_hours(self) -> float:
        """Hours of the history in which demand is unknown."""
        return float(self.usage.slow.sum() * self.usage.step_seconds / 3600)

    @property
    def saving(self) -> float:
        """What the advice saves a month; negative where it costs more, 0 without advice."""
        return self.cost_now - self.advice.best.monthly_cost if self.advice else 0.0

    @property
    def checked(self) -> str:
        """The self-check as a sentence."""
        if self.agreement.steps < LEAST_STEPS:
            return "The balance was hardly ever between empty and full, or there is none: nothing to check it by."
        told = f"Over {self.agreement.steps:,} steps, {abs(self.agreement.unexplained) / GIB:,.1f} GiB ({abs(self.agreement.share):.1%}) are not explained by reads, writes and size"
        return f"{told}: {'the balance agrees' if self.agreement.agrees else 'the balance does not agree, and no advice is given'}."

    def sized_by(self, finer: Review) -> Review:
        """This review with the usage, self-check and advice of a finer one of fewer days."""
        return replace(self, usage=finer.usage, agreement=finer.agreement, advice=finer.advice, refusal=finer.refusal, cost_now=finer.cost_now)

    def day(self, days: float) -> str:
        """The date some days after the history, or that the credits outlast the forecast."""
        if not np.isfinite(days):
            return f"not in {self.forecast.horizon_days} days" if self.forecast else ""
        return f"{self.end + timedelta(days=days):%Y-%m-%d}"

    @property
    def runs_out(self) -> str:
        """The forecast as a sentence."""
        if self.forecast is None and self.file_system.throughput_mode != BURSTING:
            return f"{self.file_system.throughput_mode.capitalize()}: no credits to run out."
        if self.forecast is None:
            return f"When the credits run out is not known. {self.refusal}"
        found = self.forecast
        said = f"Credits run out {self.day(found.p50)} (P10 {self.day(found.p10)}, P90 {self.day(found.p90)}); {found.within_30_days:.0%} within 30 days."
        if not np.isfinite(found.p50):
            said = f"Credits probably outlast {found.horizon_days} days (P10 {self.day(found.p10)}); {found.within_30_days:.0%} run out within 30 days."
        return f"{said} {found.note}".strip()

    @property
    def urgency(self) -> str:
        """One of `URGENCIES`, the first that applies."""
        if self.advice is None:
            return UNEXPLAINED
        if self.throttled_hours:
            return THROTTLED
        if self.forecast and self.forecast.alarm:
            return RUNS_OUT
        if not self._differs:
            return NOTHING
        if self.file_system.throughput_mode == BURSTING and self.advice.options[0].stall_minutes > TOLERATED_MINUTES:
            return FALLS
        return SAVES if self.saving > WORTH else NOTHING

    @property
    def _differs(self) -> bool:
        """Whether the advice is another mode or amount than now."""
        mode, best = self.file_system.throughput_mode, self.advice.best if self.advice else None
        return best is not None and (best.mode != mode or (mode == PROVISIONED and best.mibps != self.file_system.provisioned_mibps))

    @property
    def to_do(self) -> str:
        """The next step in a few words."""
        if self.advice is None:
            return "look at the metrics first"
        best, mode = self.advice.best, self.file_system.throughput_mode
        if self.urgency == NOTHING:
            return "nothing"
        if not self._differs:
            return f"stay {mode}, and watch the balance"
        if best.mode == mode:
            return f"provision {best.mibps:,.0f} MiB/s, not {self.file_system.provisioned_mibps or 0:,.0f}"
        if best.mode == PROVISIONED:
            return f"provision {best.mibps:,.0f} MiB/s"
        return f"switch to {best.mode}" + (" for some days" if self.throttled_hours else "")


def review(file_system: FileSystem, history: History, prices: Prices) -> Review:
    """The review of one file system of `history`; prices are of its region.

    The size is the latest StorageBytes, or where there is none what EFS describes. Raises `RunbookError` for a file
    system without a single datapoint.
    """
    history.require(TRIAGE)
    history = history.of(file_system.id)
    if history.silent():
        raise RunbookError(
            f"CloudWatch has no metrics of {file_system.label} in these {len(history.times):,} steps.",
            "Check the region and the time; a file system that nobody mounted has none.",
        )
    sizes = history.sizes([file_system.standard_bytes])[:, 0]
    known = replace(file_system, standard_bytes=float(sizes[-1]))
    balance, metered = history.values["balance"][:, 0], history.metered()[:, 0]
    moved = {name: history.moved(name)[:, 0] for name in ("read", "write", "metadata")}
    usage = Usage(
        **moved,
        step_seconds=history.step_seconds,
        standard_bytes=known.standard_bytes,
        ia_bytes=known.ia_bytes,
        archive_bytes=known.archive_bytes,
        credit=_last(balance, known.standard_bytes),
        mode=known.throughput_mode,
        provisioned_mibps=known.provisioned_mibps,
        one_zone=bool(known.zone),
        throttled=_throttled(known, metered, balance, sizes, history.step_seconds),
    )
    checkable = balance_at_end(history, [known.standard_bytes])[:, 0]
    if known.throughput_mode != BURSTING:  # the rules of bursting do not hold: a gap, which proves nothing
        checkable = np.full(balance.shape, np.nan)
    agreement = check_balance(checkable, metered, sizes, history.step_seconds)
    refused = agreement.steps >= LEAST_STEPS and not agreement.agrees
    ahead, advice, why = None, None, ""
    try:
        if refused:
            agreement.require()
        if known.throughput_mode == BURSTING and not np.isfinite(balance).any():
            raise RunbookError(
                f"CloudWatch has no BurstCreditBalance of {known.label} in these {len(balance):,} steps: nothing can be checked, and no advice is given.",
                "Check that it was bursting all the time: in elastic mode there is no balance.",
            )
        advice = recommend(usage, prices)
        if known.throughput_mode == BURSTING:
            ahead = forecast(metered, known.standard_bytes, usage.credit, history.step_seconds, throttled=usage.slow)
    except RunbookError as error:
        why = str(error)
    now = storage_cost(usage, prices, known.throughput_mode) + _throughput_cost(usage, prices, advice)
    return Review(known, history.start, history.step_seconds, balance, metered, usage, agreement, ahead, advice, why, now)


def review_all(file_systems: Sequence[FileSystem], history: History, prices: Prices) -> tuple[list[Review], list[str]]:
    """The reviews in order of what to do first, and a sentence for each file system that has none."""
    found, left_out = [], []
    for one in file_systems:
        try:
            found.append(review(one, history, prices))
        except RunbookError as error:
            left_out.append(str(error))
    return sorted(found, key=order), left_out


def order(one: Review) -> tuple[int, float, float]:
    """The key by which reviews are sorted, the most urgent first."""
    soon = -one.forecast.within_30_days if one.forecast else 0.0
    return URGENCIES.index(one.urgency), soon if one.urgency in (RUNS_OUT, FALLS) else 0.0, -abs(one.saving)


def _last(balance: Floats, standard_bytes: float) -> float:
    """The latest balance, or without one that of a new file system of the size."""
    seen = balance[np.isfinite(balance)]
    return float(seen[-1]) if len(seen) else float(burst_rates(standard_bytes).max_credit)


def _throttled(file_system: FileSystem, metered: Floats, balance: Floats, sizes: Floats, step_seconds: int) -> NDArray[np.bool_]:
    if file_system.throughput_mode == BURSTING:
        return throttled_steps(metered, balance, sizes, step_seconds)
    if file_system.throughput_mode == PROVISIONED:
        ceiling = np.maximum((file_system.provisioned_mibps or 0) * MIB, burst_rates(sizes).permitted_without_credit)
        return metered >= SATURATED * ceiling * step_seconds
    return np.zeros(len(metered), dtype=bool)


def _throughput_cost(usage: Usage, prices: Prices, advice: Recommendation | None) -> float:
    """What throughput costs a month as it is set; elastic's is among the options."""
    if usage.mode == PROVISIONED:
        return provisioned_cost(usage.standard_bytes / GIB, usage.provisioned_mibps or 0, prices.provisioned)
    return next((option.throughput_cost for option in advice.options if option.mode == usage.mode), 0.0) if advice else 0.0


def what_if_tiered(one: Review, prices: Prices, shares: Sequence[float] = (0.0, 0.25, 0.5)) -> pd.DataFrame:
    """The advice after some share of Standard has moved to IA, which takes its baseline along; a row a share.

    Nothing that moved is read again: add IA access where it is, 0.01 USD a GiB in us-east-1.
    """
    rows = []
    for share in shares:
        usage = tiered(one.usage, share * one.usage.standard_bytes)
        advice, baseline = recommend(usage, prices), burst_rates(usage.standard_bytes).baseline / MIB
        best = advice.best
        rate = f" {best.mibps:,.0f} MiB/s" if best.mode == PROVISIONED else ""
        rows.append((f"{share:.0%}", f"{usage.standard_bytes / GIB:,.0f}", f"{baseline:,.1f}", f"{advice.options[0].stall_minutes:,.0f}", f"{best.mode}{rate}", f"{best.monthly_cost:,.2f}"))
    money = f"{prices.currency} a month"
    columns = ["moved to IA", "Standard, GiB", "baseline, MiB/s", "bursting stalls, min a month", "advised", money]
    return pd.DataFrame(rows, columns=columns)
