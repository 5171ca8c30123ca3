"""A Helm chart to push: a deployment of the sample image, and a service before it."""

from __future__ import annotations

import shutil
from pathlib import Path

NAME = "chart"
CHART = Path(__file__).with_name("chart")


def sample_chart(directory: Path) -> Path:
    """Copy the sample chart (sample 1.0.0) into a folder; returns the chart's folder, which Helm takes as it is."""
    target = Path(directory) / NAME
    shutil.copytree(CHART, target, dirs_exist_ok=True)
    return target
