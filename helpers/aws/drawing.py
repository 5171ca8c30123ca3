"""What the figures of all reports share: their width, axes with a light grid, dates in UTC, and being shown once.

Lines differ by style and bars by hatch, so that figures read in black and white.
"""

from __future__ import annotations

import matplotlib.dates as mdates
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 9  # inches: a printed page, and a notebook's cell
GREY = "0.75"


def one_plot(height: float) -> tuple[Figure, Axes]:
    """A figure with one plot of so many inches' height."""
    figure, axes = plt.subplots(figsize=(WIDTH, height), layout="constrained")
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes


def dates(axes: Axes) -> None:
    """A time axis in UTC, whatever this machine's zone is."""
    axes.set_xlabel("time (UTC)")
    locator = mdates.AutoDateLocator(tz="UTC", maxticks=10)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator, tz="UTC"))
    axes.grid(alpha=0.3)


def done(figure: Figure) -> Figure:
    """The figure, which a notebook shows as what a cell returns, and not once more."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_title() and not figure.get_suptitle():
            axes.set_title(axes.get_title(), fontsize=11)
    plt.close(figure)
    return figure
