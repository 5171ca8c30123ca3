"""The group's row in a capacity report over many."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from helpers.aws import capacity
from helpers.aws.capacity import AT_LIMIT, FITS, LITTLE_LEFT, RUNS_OUT, SAVES, Row, Rows, day, known
from helpers.elasticache.capacity.review import Review
from helpers.elasticache.capacity.sizing import Sizing
from helpers.elasticache.capacity.source import Source
from helpers.elasticache.capacity.trend import HORIZON


def record(source: Source, sizing: Sizing) -> Rows:
    """The row of a group that was sized, shown and kept for a report over many."""
    return capacity.record([row(source, sizing)])


def row(source: Source, sizing: Sizing) -> Row:
    """The row: the limit that is nearest, the day on which memory is full, and the type to take."""
    found, limit = sizing.review, sizing.tightest
    cluster, full = found.cluster, found.full
    days = (full.p10, full.p50, full.p90) if full else ()
    p10, p50, p90 = (day(found.end, one) for one in days) if days else (None, None, None)
    silent = found.history.silent()
    notes = [sizing.finding, *sizing.reasons, *([f"CloudWatch has no metrics of {', '.join(silent)}."] if silent else []), *([found.trend.note] if found.trend and found.trend.note else [])]
    return Row(
        "ElastiCache", cluster.name, _verdict(sizing), f"{len(cluster.nodes)} × {cluster.type.name}, {cluster.engine} {cluster.engine_version}", sizing.to_do,
        account=source.aws.account if source.aws else "", region=sizing.prices.region, made_up=source.aws is None,
        limit=limit.name, measured=limit.measured, allowance=limit.allowance, unit=limit.unit, measured_as=limit.measured_as, headroom=limit.headroom,
        what_ends="memory", p10=p10, p50=p50, p90=p90, horizon=HORIZON, no_day="" if full else f"not known: {found.no_trend}",
        cost_now=known(sizing.now.monthly_cost), cost_then=known(sizing.best.monthly_cost) if sizing.best else None,
        currency=sizing.prices.currency, prices=str(sizing.prices), note=" ".join(notes), seen_until=_seen_until(found), days=found.history.days,
    )  # fmt: skip


def _verdict(sizing: Sizing) -> str:
    found = sizing.review
    if found.need.at_least or sizing.tightest.headroom <= 0:
        return AT_LIMIT
    if found.full and found.full.p50 <= capacity.SOON:
        return RUNS_OUT
    if sizing.now.lacks:
        return LITTLE_LEFT
    return SAVES if sizing.changes else FITS


def _seen_until(found: Review) -> str:
    """The end of the last step with a datapoint of memory."""
    last = int(np.flatnonzero(np.isfinite(found.history.highest("memory")))[-1]) + 1
    return (found.history.start + timedelta(seconds=last * found.history.step_seconds)).isoformat(timespec="minutes")
