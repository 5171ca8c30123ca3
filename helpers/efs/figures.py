"""Figures of reviews: each title states the finding, and lines differ by style, so that they read in black and white."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import matplotlib.dates as mdates
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.aws.drawing import GREY, WIDTH, Sentences, dates, done, one_plot  # Sentences: the notebooks take it from here
from helpers.efs.credits import GIB, MIB, burst_rates
from helpers.efs.forecast import ALARM_DAYS
from helpers.efs.metrics import History
from helpers.efs.modes import ELASTIC, PROVISIONED
from helpers.efs.review import Review

MOST_SMALL = 12  # small multiples on a page
SHOWN_DAYS = 60  # of a forecast


def draw_balance(one: Review) -> Figure:
    """The balance of the history in GiB next to the largest that the size allows."""
    figure, axes = one_plot(3.2)
    most = burst_rates(one.file_system.standard_bytes).max_credit / GIB
    balance = one.balance / GIB
    axes.plot(_times(one), balance, color="black", lw=1.2, label="lowest balance of each hour")
    axes.axhline(most, color="black", ls="--", lw=1, label="largest balance for the size")
    axes.set(ylabel="burst credit balance (GiB)", ylim=(0, 1.15 * most), title=_balance_title(one))
    axes.legend(loc="lower left", frameon=False)
    dates(axes)
    return done(figure)


def _balance_title(one: Review) -> str:
    seen = one.balance[np.isfinite(one.balance)] / GIB
    name = one.file_system.label
    if not len(seen):
        return f"{name}: {one.file_system.throughput_mode}, so there is no balance"
    days = len(one.balance) * one.step_seconds / 86_400
    went = "fell" if seen[-1] < seen[0] else "rose"
    return f"{name}: the balance {went} from {seen[0]:,.0f} to {seen[-1]:,.0f} GiB in {days:,.0f} days"


def draw_throughput(one: Review, history: History) -> Figure:
    """Metered throughput in MiB/s next to the baseline, and to what EFS permitted, on a logarithmic axis."""
    figure, axes = one_plot(3.6)
    frame = history.frame(one.file_system.id)
    rate = one.metered / one.step_seconds / MIB
    baseline = burst_rates(one.file_system.standard_bytes).baseline / MIB
    axes.plot(_times(one), np.maximum(rate, 0.01), color="black", lw=0.9, label="metered, mean of each hour")
    axes.axhline(baseline, color="black", ls="--", lw=1.4, label="baseline, earned by size")
    axes.step(frame.index, frame["permitted"] / MIB, color="0.5", lw=2.2, where="post", label="permitted")
    above = (rate > baseline).mean()
    axes.set(ylabel="throughput (MiB/s)", yscale="log", title=f"{one.file_system.label}: demand averages {rate.mean():,.1f} MiB/s, {rate.mean() / baseline:.0%} of the baseline, and is above it {above:.0%} of the time")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    dates(axes)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return done(figure)


def draw_burn_down(one: Review) -> Figure:
    """The balance as it was and how it may end, and below it the share of the paths that have run out by each day."""
    if one.forecast is None:
        figure, axes = one_plot(1.4)
        axes.axis("off")
        axes.set_title(one.runs_out)
        return done(figure)
    figure, (above, below) = plt.subplots(2, 1, figsize=(WIDTH, 5.2), sharex=True, layout="constrained", height_ratios=(3, 2))
    found, now = one.forecast, one.usage.credit / GIB
    shown = min(SHOWN_DAYS, found.horizon_days)
    above.plot(_times(one), one.balance / GIB, color="black", lw=1.2, label="measured")
    ends = {name: _point(one, getattr(found, name), shown, now) for name in ("p10", "p50", "p90")}
    (early, low), (late, high) = ends["p10"], ends["p90"]
    above.fill([one.end, late, late, early], [now, high, 0, low], color=GREY, lw=0, label="80 % band of the day (P10 to P90)")
    above.plot([one.end, ends["p50"][0]], [now, ends["p50"][1]], color="black", ls="--", lw=1.4, label="median (P50)")
    above.set(ylabel="burst credit balance (GiB)", ylim=(0, None), title=_burn_title(one))
    above.legend(loc="upper right", frameon=False)
    days = np.linspace(0, shown, 241)
    share = (found.days[None, :] <= days[:, None]).mean(axis=1)
    below.plot([one.end + timedelta(days=day) for day in days], 100 * share, color="black", lw=1.4)
    alarm = one.end + timedelta(days=ALARM_DAYS)
    below.plot([alarm, alarm], [0, 100 * found.within_30_days], color="black", ls=":", lw=1.2)
    below.annotate(f"{found.within_30_days:.0%} within 30 days", (alarm, 100 * found.within_30_days), xytext=(6, -14), textcoords="offset points")
    below.set(ylabel="paths run out (%)", ylim=(0, 105))
    dates(below)
    return done(figure)


def _point(one: Review, days: float, shown: float, now: float) -> tuple[pd.Timestamp, float]:
    """Where a straight line to the day of exhaustion leaves the figure: the time, and GiB left then."""
    if days <= shown:
        return pd.Timestamp(one.end + timedelta(days=days)), 0.0
    return pd.Timestamp(one.end + timedelta(days=shown)), now * (1 - shown / days)


def _burn_title(one: Review) -> str:
    found = one.forecast
    if found is None or not np.isfinite(found.p50):
        return one.runs_out.split(" (P10")[0]
    late = f"to {one.day(found.p90)}" if np.isfinite(found.p90) else f"to beyond {found.horizon_days} days"
    return f"{one.file_system.label}: credits run out about {one.day(found.p50)} (80 % band: {one.day(found.p10)} {late})"


def draw_modes(one: Review) -> Figure:
    """What each mode costs a month, storage and throughput, with the minutes in which requests would wait."""
    figure, axes = one_plot(2.8)
    if one.advice is None:
        axes.axis("off")
        axes.set_title(f"{one.file_system.label}: no advice, because the metrics do not add up")
        return done(figure)
    options, money = one.advice.options, one.advice.prices.currency
    names = [option.mode + (f"\n{option.mibps:,.0f} MiB/s" if option.mode == PROVISIONED else "") for option in options]
    storage, throughput = ([getattr(option, which) for option in options] for which in ("storage_cost", "throughput_cost"))
    axes.barh(names, storage, color=GREY, edgecolor="black", label="storage")
    axes.barh(names, throughput, left=storage, color="white", edgecolor="black", hatch="///", label="throughput")
    for row, option in enumerate(options):
        waits = f"requests wait {'at least ' if option.at_least else ''}{option.stall_minutes:,.0f} min a month"
        axes.annotate(f"{option.monthly_cost:,.0f} {money}; {waits}", (option.monthly_cost, row), xytext=(5, 0), textcoords="offset points", va="center")
    axes.invert_yaxis()
    axes.set(xlabel=f"{money} a month", xlim=(0, 1.75 * max(option.monthly_cost for option in options) or 1), ylabel="throughput mode")
    axes.set_title(f"{one.file_system.label}: {_modes_finding(one)}")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    axes.grid(False)
    return done(figure)


def _modes_finding(one: Review) -> str:
    best = one.advice.best if one.advice else None
    if best is None:
        return ""
    if one.throttled_hours:
        return f"throttled for {one.throttled_hours:,.0f} h, so demand is unknown: elastic shows it"
    rate = f" with {best.mibps:,.0f} MiB/s" if best.mode == PROVISIONED else ""
    return f"{best.mode}{rate} is the cheapest in which requests hardly wait"


def draw_small_multiples(reviews: Sequence[Review], most: int = MOST_SMALL) -> Figure:
    """The balance of each file system as a share of its largest, the most urgent first."""
    shown = list(reviews)[:most]
    columns = min(3, len(shown)) or 1
    rows = -(-len(shown) // columns) or 1
    figure, grid = plt.subplots(rows, columns, figsize=(WIDTH, 1.9 * rows + 0.6), sharex=True, sharey=True, layout="constrained", squeeze=False)
    for axes, one in zip(grid.flat, shown, strict=False):
        _small(axes, one)
    for axes in list(grid.flat)[len(shown) :]:
        axes.axis("off")
    figure.supylabel("balance (% of the largest)", fontsize=10)
    figure.supxlabel("time (UTC)", fontsize=10)
    empty = sum(bool(one.throttled_hours) for one in shown)
    figure.suptitle(f"{empty} of {len(shown)} have been throttled" + (f"; the {most} most urgent of {len(reviews)} are shown" if len(reviews) > most else ""), fontsize=12)
    return done(figure)


def _small(axes: Axes, one: Review) -> None:
    most = burst_rates(one.file_system.standard_bytes).max_credit
    axes.plot(_times(one), 100 * one.balance / most, color="black", lw=1)
    if one.file_system.throughput_mode == ELASTIC or not np.isfinite(one.balance).any():
        axes.text(0.5, 0.5, "no balance", transform=axes.transAxes, ha="center", color="0.35")
    axes.set_title(f"{one.file_system.label}\n{one.urgency}", fontsize=9)
    axes.set_ylim(-3, 108)
    axes.xaxis.set_major_locator(mdates.DayLocator(bymonthday=(5, 15, 25)))
    axes.xaxis.set_major_formatter(mdates.DateFormatter("%d %b"))
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)


def draw_costs(reviews: Sequence[Review], most: int = MOST_SMALL) -> Figure:
    """What file systems cost a month now, and by the advice where demand is known; the costliest first."""
    shown = sorted(reviews, key=lambda one: -one.cost_now)[:most]
    money = next((one.advice.prices.currency for one in shown if one.advice), "USD")
    figure, axes = one_plot(0.42 * len(shown) + 1.4)
    place = np.arange(len(shown))
    advised = [one.advice.best.monthly_cost if one.advice and not one.throttled_hours and one.to_do != "nothing" else np.nan for one in shown]
    axes.barh(place - 0.2, [one.cost_now for one in shown], 0.38, color=GREY, edgecolor="black", label="now")
    axes.barh(place + 0.2, advised, 0.38, color="white", edgecolor="black", hatch="///", label="by the advice, where it is a change and demand is known")
    axes.set_yticks(place, [one.file_system.label for one in shown])
    axes.invert_yaxis()
    saved = max(shown, key=lambda one: one.saving if not one.throttled_hours else 0.0, default=None)
    title = f"{saved.file_system.label} can save the most: {saved.saving:,.0f} {money} a month" if saved and saved.saving > 0 else "No change saves money"
    axes.set(xlabel=f"{money} a month", ylabel="file system", title=title)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return done(figure)


def _times(one: Review) -> pd.DatetimeIndex:
    return pd.date_range(one.start, periods=len(one.metered), freq=pd.Timedelta(seconds=one.step_seconds))
