"""Figures of a registry: each title states the finding, and bars differ by shade and hatch, so that they read in black and white."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.aws.drawing import GREY, WIDTH, done
from helpers.ecr.prices import GIB
from helpers.ecr.saving import Saving, gib
from helpers.ecr.storage import WORST, Registry

MOST_BARS = 15
AGE_DAYS = np.arange(0, 366)
MARKED_DAYS = 90


def draw_repositories(registry: Registry) -> Figure:
    """GiB stored in each repository next to the sum of its image sizes, on a logarithmic axis."""
    shown = [one for one in registry.by_size if one.bytes_of()][:MOST_BARS]
    figure, axes, place = _bars(len(shown))
    stored, summed = np.array([one.bytes_of() / GIB for one in shown]), np.array([one.summed / GIB for one in shown])
    axes.barh(place - 0.2, stored, 0.38, color=GREY, edgecolor="black", label="stored: each layer once")
    axes.barh(place + 0.2, summed, 0.38, color="white", edgecolor="black", hatch="///", label="sum of image sizes")
    for row, (mine, sum_) in enumerate(zip(stored, summed, strict=True)):
        _beside(axes, f"{gib(mine * GIB)}; sizes say {sum_ / mine:,.1f} times that", max(mine, sum_), row)
    _names(axes, [one.repository for one in shown])
    axes.set(xlabel="GiB (logarithmic)", xscale="log", xlim=(stored.min(initial=1.0) / 2, 25 * summed.max(initial=stored.min(initial=1.0))))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.set_title(f"{gib(registry.stored)} are stored, though image sizes add up to {registry.times:.1f} times that")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return done(figure)


def draw_ages(registry: Registry) -> Figure:
    """What deleting every image older than so many days would free, GiB."""
    figure, axes = plt.subplots(figsize=(WIDTH, 3.2), layout="constrained")
    axes.grid(alpha=0.3)
    freed = registry.older_than(AGE_DAYS.tolist()) / GIB
    marked = freed[MARKED_DAYS]
    axes.plot(AGE_DAYS, freed, color="black", lw=1.4)
    axes.plot([MARKED_DAYS, MARKED_DAYS, 0], [0, marked, marked], color="black", ls=":", lw=1.2)
    axes.annotate(gib(marked * GIB), (MARKED_DAYS, marked), xytext=(6, 4), textcoords="offset points")
    share = marked / freed[0] if freed[0] else 0.0
    axes.set(xlabel="deleted: images pushed more than this many days ago", ylabel="freed (GiB)", xlim=(0, AGE_DAYS[-1]), ylim=(0, None))
    axes.set_title(f"{share:.0%} of what is stored is held by images older than {MARKED_DAYS} days alone")
    return done(figure)


def draw_savings(savings: Mapping[str, Saving]) -> Figure:
    """GiB stored in each repository, split into what a policy leaves and what it frees, with the money of a month."""
    shown = [(name, one) for name, one in savings.items() if one.bytes_before][:MOST_BARS]
    figure, axes, place = _bars(len(shown))
    freed = np.array([one.bytes_freed / GIB for _, one in shown])
    left = np.array([one.bytes_before / GIB for _, one in shown]) - freed
    axes.barh(place, left, 0.6, color=GREY, edgecolor="black", label="stays")
    axes.barh(place, freed, 0.6, left=left, color="white", edgecolor="black", hatch="///", label="is freed")
    for row, (_, one) in enumerate(shown):
        text = f"{one.bytes_freed / one.bytes_before:.0%} freed, {one.monthly:,.2f} {one.currency} a month"
        _beside(axes, text, left[row] + freed[row], row)
    _names(axes, [name for name, _ in shown])
    axes.set(xlabel="unique layers (GiB)", xlim=(0, 1.4 * max((left + freed).max(initial=0.0), 1e-3)))
    before, gone = sum(one.bytes_before for one in savings.values()), sum(one.bytes_freed for one in savings.values())
    money, currency = sum(one.monthly for one in savings.values()), next((one.currency for one in savings.values()), "USD")
    axes.set_title(f"The policy would free {gib(gone)} of {gib(before)}, {money:,.2f} {currency} a month")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return done(figure)


def draw_findings(registry: Registry) -> Figure:
    """Critical and high findings of the images in use, by repository."""
    found = registry.findings().loc[:, list(WORST)].iloc[:MOST_BARS]
    figure, axes, place = _bars(len(found))
    start = np.zeros(len(found))
    for severity, style in zip(WORST, ({"color": "0.25"}, {"color": "white", "hatch": "///"}), strict=True):
        counts = found[severity].to_numpy()
        axes.barh(place, counts, 0.6, left=start, edgecolor="black", label=severity.lower(), **style)
        start = start + counts
    for row, (critical, high) in enumerate(found.itertuples(index=False)):
        _beside(axes, f"{critical} critical, {high} high", start[row], row)
    _names(axes, list(found.index))
    axes.set(xlabel="findings in images in use", xlim=(0, 1.35 * max(start.max(initial=0.0), 1)))
    worst = found.CRITICAL.idxmax() if len(found) and found.CRITICAL.max() else ""
    total = int(found.CRITICAL.sum())
    axes.set_title(f"{worst} runs {found.CRITICAL.max()} of the {total} critical findings" if worst else "No image in use is known to have a critical finding")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return done(figure)


def _bars(count: int) -> tuple[Figure, Axes, np.ndarray]:
    figure, axes = plt.subplots(figsize=(WIDTH, 0.42 * count + 1.4), layout="constrained")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes, np.arange(count)


def _beside(axes: Axes, text: str, end: float, row: int) -> None:
    """Words right of a bar that ends there."""
    axes.annotate(text, (end, row), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9)


def _names(axes: Axes, names: list[str]) -> None:
    """Repositories down the side, the first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_ylabel("repository")
