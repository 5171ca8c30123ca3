"""The picture of a write gap: acknowledged writes per 10 ms before, during and after it."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

BIN = 10  # milliseconds
AROUND = 1000  # milliseconds shown before and after


def draw_gap(timeline: Iterable[tuple[float, int]], start: float, gap: float, *, title: str, since: str) -> Figure:
    """A bar a bin of `timeline` (milliseconds, writes acknowledged in the 10 ms from it); the gap is hatched.

    `start` and `gap` are in milliseconds; `since` says what zero is.
    """
    found = pd.DataFrame(list(timeline), columns=["at", "writes"]).sort_values("at")
    near = found[(found["at"] > start - AROUND) & (found["at"] < start + gap + AROUND)]
    drawing = Figure(figsize=(9, 2.4))
    axes = drawing.subplots()
    axes.bar(near["at"] - start, near["writes"], width=BIN, align="edge", color="0.35")
    axes.axvspan(0, gap, facecolor="none", edgecolor="0.2", hatch="///", linewidth=0)
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(f"milliseconds since {since}")
    axes.set_ylabel("acknowledged writes\nin 10 ms")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    return drawing
