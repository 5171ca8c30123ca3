"""The timeline figure of a run: one bar a step, writes as marks."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure


def draw(run: Any) -> Figure:
    """The steps of `run` from first to last; seconds since the start on the horizontal axis."""
    steps = [step for step in run.result()["steps"] if "duration_s" in step]
    drawing = Figure(figsize=(9, 0.9 + 0.34 * max(len(steps), 1)))
    axes = drawing.subplots()
    if not steps:
        return drawing
    origin = min(step["started"] for step in steps)
    for row, step in enumerate(steps):
        failed = step["status"] in {"failed", "not approved"}
        axes.barh(row, max(step["duration_s"], 0.02), left=step["started"] - origin, height=0.62, color="white" if failed else "0.75", edgecolor="0.2", hatch="///" if failed else None)
        axes.text(step["started"] - origin + step["duration_s"], row, f" {step['duration_s']:.1f} s", va="center", fontsize=8)
    rows = {step["title"]: row for row, step in enumerate(steps)}
    marks = [(write["at"] - origin, rows[write["step"]]) for write in run.writes() if write["step"] in rows]
    if marks:
        axes.plot(*zip(*marks, strict=True), "k|", markersize=9, label="a write")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize=8, frameon=False)
    axes.set_yticks(range(len(steps)), [step["title"] for step in steps], fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    slowest = max(steps, key=lambda step: step["duration_s"])
    total = max(step["started"] + step["duration_s"] for step in steps) - origin
    axes.set_title(f"{total:.{0 if total >= 10 else 1}f} s in all; the longest step was “{slowest['title']}”", fontsize=10, loc="left")
    axes.set_xlabel("seconds since the first step")
    axes.set_ylabel("step")
    axes.spines[["top", "right"]].set_visible(False)
    return drawing
