"""The rows of file systems in a capacity report over many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

import numpy as np

from helpers.aws import capacity
from helpers.aws.capacity import AT_LIMIT, FITS, LITTLE_LEFT, NO_ADVICE, RUNS_OUT, SAVES, Row, Rows, day, headroom
from helpers.efs.credits import MIB, burst_rates
from helpers.efs.modes import BURSTING, ELASTIC, PROVISIONED
from helpers.efs.review import FALLS, NOTHING, THROTTLED, UNEXPLAINED, Review
from helpers.efs.review import RUNS_OUT as CREDITS_RUN_OUT
from helpers.efs.review import SAVES as MONEY_SAVED
from helpers.efs.source import Source

VERDICT_OF = {THROTTLED: AT_LIMIT, CREDITS_RUN_OUT: RUNS_OUT, FALLS: LITTLE_LEFT, UNEXPLAINED: NO_ADVICE, MONEY_SAVED: SAVES, NOTHING: FITS}


def record(source: Source, reviews: Iterable[Review], left_out: Sequence[str] = ()) -> Rows:
    """The rows of file systems that were reviewed, shown and kept for a report over many; `left_out` as in `helpers.efs.fleet.Fleet`."""
    rows = [row(source, one) for one in reviews]
    return capacity.record([*rows, *(_left_out(source, one) for one in left_out)])


def row(source: Source, one: Review) -> Row:
    """The row: credits and the day they run out where it bursts, else throughput next to what is permitted."""
    system, ahead = one.file_system, one.forecast
    name, measured, allowance, measured_as = _limit(one)
    p10, p50, p90 = (day(one.end, days) for days in (ahead.p10, ahead.p50, ahead.p90)) if ahead else (None, None, None)
    reasons = one.advice.reasons if one.advice else []
    return Row(
        "EFS", system.label, VERDICT_OF[one.urgency], _setting(one), one.to_do, **_where(source),
        limit=name, measured=measured, allowance=allowance, unit="MiB/s", measured_as=measured_as, headroom=None if allowance is None else headroom(measured, allowance),
        what_ends="burst credits", p10=p10, p50=p50, p90=p90, horizon=ahead.horizon_days if ahead else 0, no_day=_no_day(one),
        cost_now=one.cost_now, cost_then=_cost_then(one), currency=source.prices.currency, prices=str(source.prices),
        note=" ".join([*([one.refusal] if one.refusal else []), *reasons, *([ahead.note] if ahead and ahead.note else [])]),
        seen_until=_seen_until(one), days=len(one.metered) * one.step_seconds / 86_400,
    )  # fmt: skip


def _where(source: Source) -> dict[str, str | bool]:
    return {"account": source.aws.account if source.aws else "", "region": source.prices.region, "made_up": source.aws is None}


def _setting(one: Review) -> str:
    amount = f" {one.file_system.provisioned_mibps:,.0f} MiB/s" if one.file_system.throughput_mode == PROVISIONED and one.file_system.provisioned_mibps else ""
    return f"{one.file_system.throughput_mode}{amount}"


def _limit(one: Review) -> tuple[str, float, float | None, str]:
    """What limits it, the measured rate, the rate allowed (None: as much as is paid for), and which rate that is, MiB/s."""
    rates = one.metered / one.step_seconds / MIB
    system, baseline = one.file_system, float(burst_rates(one.file_system.standard_bytes).baseline) / MIB
    if system.throughput_mode == BURSTING:
        return "burst credits", float(rates.mean()), baseline, "mean, of the baseline"
    peak = "busiest hour" if one.step_seconds >= 3600 else "busiest minute"
    if system.throughput_mode == ELASTIC:
        return "throughput, paid by the byte", float(rates.max()), None, peak
    return "provisioned throughput", float(rates.max()), max(system.provisioned_mibps or 0.0, baseline), peak


def _no_day(one: Review) -> str:
    if one.forecast:
        return ""
    return "no credits to run out" if one.file_system.throughput_mode != BURSTING else "not known"


def _cost_then(one: Review) -> float | None:
    """After what is advised; of a throttled file system the demand is not known, and so is the cost."""
    if one.advice is None or one.urgency == THROTTLED:
        return None
    return one.cost_now if one.urgency == NOTHING else one.advice.best.monthly_cost


def _seen_until(one: Review) -> str:
    """The end of the last step with a balance, or where there is none of the history: an hour without requests has no other datapoint."""
    seen = np.flatnonzero(np.isfinite(one.balance))
    last = int(seen[-1]) + 1 if len(seen) else len(one.metered)
    return (one.start + timedelta(seconds=last * one.step_seconds)).isoformat(timespec="minutes")


def _left_out(source: Source, why: str) -> Row:
    """A file system that could not be reviewed: the sentence names it."""
    names = [one.label for one in source.file_systems if one.label in why]
    return Row("EFS", names[0] if names else "a file system", NO_ADVICE, "", "look at the metrics first", **_where(source), no_day="not known", note=why)
