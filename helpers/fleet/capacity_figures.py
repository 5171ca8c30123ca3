"""The figures of a fleet's capacity report: the days on which resources run out, and what they cost a month."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import matplotlib.dates as mdates
import numpy as np
from matplotlib.figure import Figure

from helpers.aws.capacity import Row, money
from helpers.aws.drawing import GREY, dates, done, one_plot

if TYPE_CHECKING:
    from helpers.fleet.capacity import Total

MOST = 20  # resources in a figure
AHEAD = timedelta(days=120)  # what lies further is beyond the figure
DPI = 150

Drawn = tuple[str, bytes] | None  # the title, and a PNG


def draw_days(rows: Sequence[Row]) -> Drawn:
    """P10 to P90 of each resource that may run out, and its P50; None where none does."""
    known = sorted((one for one in rows if one.p10 and not one.no_day), key=lambda one: one.p50 or one.p10 or "")[:MOST]
    if not known:
        return None
    begin = min(datetime.fromisoformat(one.p10) for one in known if one.p10)
    end = min(max(datetime.fromisoformat(day) for one in known for day in (one.p50, one.p90) if day) if any(one.p50 or one.p90 for one in known) else begin, begin + AHEAD) + timedelta(days=5)
    figure, axes = one_plot(0.36 * len(known) + 1.3)
    for place, one in enumerate(known):
        first, middle, last = (datetime.fromisoformat(day) if day else None for day in (one.p10, one.p50, one.p90))
        axes.plot([first, min(last or end, end)], [place, place], color="0.6", lw=5, solid_capstyle="butt")
        if not last or last > end:
            axes.plot([end], [place], marker=">", color="0.6", ms=9, clip_on=False)
        if middle and middle <= end:
            axes.plot([middle], [place], marker="D", color="black", ms=6)
    axes.set_yticks(range(len(known)), [f"{one.resource}: {one.what_ends}" for one in known])
    axes.set_xlim(mdates.date2num(begin - timedelta(days=2)), mdates.date2num(end))
    axes.set_ylim(len(known) - 0.5, -0.5)
    dates(axes)
    axes.set_xlabel("runs out: P10 to P90 (bar), P50 (diamond); an arrow: later than shown")
    head = known[0]
    return _png(figure, f"{head.resource} runs out first: {head.what_ends} {f'about {head.p50}' if head.p50 else f'not before {head.p10}'}", axes)


def draw_costs(sums: Sequence[Total]) -> Drawn:
    """What each service costs a month now and as advised; None where nothing is known to cost anything."""
    shown = [one for one in sums if one.now or one.then]
    if not shown:
        return None
    figure, axes = one_plot(0.6 * len(shown) + 1.5)
    place = np.arange(len(shown))
    axes.barh(place - 0.2, [one.now for one in shown], 0.38, color=GREY, edgecolor="black", label="now")
    axes.barh(place + 0.2, [one.then for one in shown], 0.38, color="white", edgecolor="black", hatch="///", label="as advised")
    for row, one in zip(place, shown, strict=True):
        for at, value in ((row - 0.2, one.now), (row + 0.2, one.then)):
            axes.annotate(f"{money(value)} {one.currency}", (value, at), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(place, [one.service for one in shown])
    axes.invert_yaxis()
    axes.margins(x=0.14)
    axes.set_xlabel(f"{' and '.join(dict.fromkeys(one.currency for one in shown))} a month")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return _png(figure, "; ".join(_saved(shown)), axes)


def _saved(sums: Sequence[Total]) -> list[str]:
    told = []
    for currency in dict.fromkeys(one.currency for one in sums):
        some = [one for one in sums if one.currency == currency]
        now, saved, more = (sum(getattr(one, name) for one in some) for name in ("now", "saved", "more"))
        told.append(f"{money(saved)} {currency} of {money(now)} a month can be saved" + (f", and {money(more)} more keeps resources from running out" if more else ""))
    return told


def _png(figure: Figure, title: str, axes: object) -> tuple[str, bytes]:
    axes.set_title(title)  # type: ignore[attr-defined]
    made = io.BytesIO()
    done(figure).savefig(made, dpi=DPI)
    return title, made.getvalue()
