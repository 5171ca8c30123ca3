"""Figures of a scan: what each field rejects, and how many events match as the day goes by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import boto3
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from helpers.eventbridge import sample_day
from helpers.eventbridge.scan import ScanResult

MOST_SHOWN = 200_000  # matching events that are kept in memory for figures


def open_source(source: str) -> dict[str, Any]:
    """What `scan` takes for a notebook's parameter `source`: empty is the sample day; `s3://` is read with the default credentials."""
    if not source:
        return {"source": sample_day.lines()}
    return {"source": source, "s3": boto3.client("s3") if source.startswith("s3://") else None}


def draw_funnel(result: ScanResult, pattern: int = 0) -> Figure:
    """The events that are left behind each field; the title names the field that rejects the most."""
    funnel = result.funnel(pattern)
    worst = funnel.loc[funnel["rejected"].idxmax()]
    names = ["all events", *funnel["field"]]
    left = [result.events, *funnel["left"]]
    figure, axes = plt.subplots(figsize=(8, 0.5 * len(names) + 1.2), layout="constrained")
    bars = axes.barh(names, left, color="0.7", edgecolor="black")
    axes.bar_label(bars, [f"{one:,}" for one in left], padding=4)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set(xlabel="events left", title=f"{worst['field']} rejects the most: {worst['rejected']:,} of {result.events:,} events")
    plt.close(figure)
    return figure


def rate(events: list[dict[str, Any]], every: str = "15min") -> pd.Series:
    """Events by their `time`, counted every so often (a pandas offset); events without a time are left out."""
    times = pd.to_datetime([event["time"] for event in events if "time" in event], utc=True, errors="coerce").dropna()
    return pd.Series(1, index=times, dtype=int).resample(every).sum()


def draw_rate(series: Mapping[str, pd.Series], every: str = "15min") -> Figure:
    """Events against the time of day (UTC), a line for each pattern; the title names the highest peak."""
    figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    for (name, counts), style in zip(series.items(), ("-", "--", ":", "-."), strict=False):
        axes.step(counts.index, counts.to_numpy(), style, color="black", where="post", label=name)
    peaks = {name: counts.idxmax() for name, counts in series.items() if len(counts)}
    top = max(peaks, key=lambda name: series[name].max(), default=None)
    title = f"{top}: at most {series[top].max():,} in {every}, at {peaks[top]:%H:%M} UTC" if top else "No event matches"
    axes.set(xlabel="time (UTC)", ylabel=f"events in {every}", title=title, ylim=(0, None))
    axes.legend()
    plt.close(figure)
    return figure

