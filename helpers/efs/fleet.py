"""The fleet report: every file system reviewed and ranked, with what to do first, what it costs and what it saves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from helpers.efs.credits import GIB
from helpers.efs.file_systems import FileSystem
from helpers.efs.metrics import History
from helpers.efs.modes import BURSTING
from helpers.efs.prices import Prices
from helpers.efs.review import FALLS, NOTHING, RUNS_OUT, SAVES, THROTTLED, UNEXPLAINED, Review, order, review_all


@dataclass(frozen=True)
class Fleet:
    """The reviews, the most urgent first; `left_out` says in a sentence each what could not be reviewed."""

    reviews: list[Review]
    left_out: list[str]
    prices: Prices

    @property
    def cost_now(self) -> float:
        """What the fleet costs a month as it is set."""
        return sum(one.cost_now for one in self.reviews)

    @property
    def saving(self) -> float:
        """What may be saved a month where nothing else is wrong."""
        return sum(one.saving for one in self.reviews if one.urgency == SAVES)

    @property
    def remedies(self) -> float:
        """What it costs more a month to keep credits from running out where demand is known."""
        return -sum(one.saving for one in self.reviews if one.urgency in (RUNS_OUT, FALLS))

    @property
    def finding(self) -> str:
        """The report in a sentence or three."""
        count = {kind: sum(one.urgency == kind for one in self.reviews) for kind in (THROTTLED, RUNS_OUT, UNEXPLAINED)}
        money = self.prices.currency
        told = f"{count[THROTTLED]} of {len(self.reviews)} file systems are throttled and {count[RUNS_OUT]} run out of credits within 30 days."
        told += f"\nThe fleet costs {self.cost_now:,.0f} {money} a month;\n{self.saving:,.0f} can be saved, and {self.remedies:,.0f} keeps credits from running out."
        return told + (f"\n{count[UNEXPLAINED]} do not add up and get no advice." if count[UNEXPLAINED] else "")

    def table(self) -> pd.DataFrame:
        """A row a file system, ranked."""
        money = self.prices.currency
        rows = [
            {
                "file system": one.file_system.label,
                "what to do": one.to_do,
                "why": one.urgency,
                "credits out (P50)": _day(one),
                "in 30 days": f"{one.forecast.within_30_days:.0%}" if one.forecast else "",
                f"{money} now": f"{one.cost_now:,.0f}",
                "advised": _advised(one),
                "throttled, h": f"{one.throttled_hours:,.0f}" if one.throttled_hours else "",
                "mode": one.file_system.throughput_mode,
                "GiB": f"{one.file_system.standard_bytes / GIB:,.0f}",
            }
            for one in self.reviews
        ]
        return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1)).rename_axis(columns="rank")

    def first(self, count: int = 5) -> pd.DataFrame:
        """What to do first, and why, in words."""
        rows = [(one.file_system.label, one.to_do, _why(one)) for one in self.reviews if one.urgency != NOTHING][:count]
        return pd.DataFrame(rows, columns=["file system", "what to do", "why"], index=pd.RangeIndex(1, len(rows) + 1, name="rank"))

    def checks(self) -> pd.DataFrame:
        """The self-check of each file system that has one to make."""
        rows = [(one.file_system.label, f"{one.agreement.steps:,}", f"{abs(one.agreement.share):.2%}" if one.agreement.steps else "", one.checked) for one in self.reviews if one.file_system.throughput_mode == BURSTING]
        return pd.DataFrame(rows, columns=["file system", "steps compared", "not explained", "finding"])


def fleet(file_systems: Sequence[FileSystem], history: History, prices: Prices) -> Fleet:
    """The report on `history`, hourly as a rule."""
    return Fleet(*review_all(file_systems, history, prices), prices)


def closer(found: Fleet, minutes: History) -> Fleet:
    """The report with the file systems of `minutes` sized by them: hours average peaks away.

    The forecast stays that of the hours, which are of more days.
    """
    wanted = [one.file_system for one in found.reviews if one.file_system.id in minutes.ids]
    finer, left_out = review_all(wanted, minutes, found.prices)
    by_id = {one.file_system.id: one for one in finer}
    reviews = [one.sized_by(by_id[one.file_system.id]) if one.file_system.id in by_id else one for one in found.reviews]
    return Fleet(sorted(reviews, key=order), [*found.left_out, *left_out], found.prices)


def _day(one: Review) -> str:
    if one.forecast is None:
        return "no balance" if not np.isfinite(one.balance).any() else "does not apply"
    return one.day(one.forecast.p50)


def _advised(one: Review) -> str:
    if one.advice is None:
        return ""
    if one.urgency == THROTTLED:
        return "demand unknown"
    return f"{one.advice.best.monthly_cost:,.0f}" if one.urgency != NOTHING else f"{one.cost_now:,.0f}"


def _why(one: Review) -> str:
    reasons = [one.refusal] if one.refusal else []
    reasons += [one.runs_out] if one.forecast and one.urgency in (RUNS_OUT, FALLS) else []
    return " ".join(reasons + (one.advice.reasons if one.advice else []))
