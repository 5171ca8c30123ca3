"""What all reports share: figures of one width with a light grid and dates in UTC, tables of sentences, and words that fit a printed page.

Lines differ by style and bars by hatch, so that figures read in black and white.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

import matplotlib.dates as mdates
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 9  # inches: a printed page, and a notebook's cell
GREY = "0.75"
COLUMNS = 76  # of text on a printed page


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


@dataclass(frozen=True)
class Sentences:
    """A table of sentences in full, its text to the left, where notebooks put numbers to the right and cut what is long; its index only where that has a name."""

    table: pd.DataFrame

    def _repr_html_(self) -> str:
        name = self.table.index.name
        with pd.option_context("display.max_colwidth", None):
            rows = self.table.rename_axis(index=None, columns=name).to_html(border=0, justify="left", index=name is not None)
        return re.sub(r"<(td|th)>", r'<\1 style="text-align: left">', rows)

    def __repr__(self) -> str:
        return repr(self.table)


def say(*sentences: str) -> None:
    """Print sentences, a line each, broken between words where a printed page ends."""
    print("\n".join(textwrap.fill(one, COLUMNS, break_on_hyphens=False) for one in "\n".join(sentences).splitlines()))
