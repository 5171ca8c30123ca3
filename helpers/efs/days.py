"""Whole days of the credit recurrence in four numbers each, so that a what-if costs days and not minutes.

A step turns a balance c into min(high, max(low, c + change)); steps in a row are again such a step. A month of minutes
of 10,000 file systems, 1.7 GB, becomes 10 MB, and gives the same balances at the days' ends from any start.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from helpers.aws.errors import RunbookError
from helpers.efs.credits import burst_rates

Floats = NDArray[np.float64]


class Days(NamedTuple):
    """What each day does to a balance (bytes), arrays of (days, file systems).

    A day that starts with c ends with `min(high, max(low, c + change))`. It passes without running out where
    c > `safe_start` (inf where no start is safe).
    """

    change: Floats
    low: Floats
    high: Floats
    safe_start: Floats


def summarise(metered: ArrayLike, standard_bytes: ArrayLike, step_seconds: float, steps_a_day: int) -> Days:
    """The days of `metered` bytes a step, (steps,) or (steps, file systems), whole days only.

    `standard_bytes` is a number or one a file system. Raises `RunbookError` where the steps are no whole days.
    """
    used = np.asarray(metered)
    used = used.reshape(len(used), -1)
    days, rest = divmod(len(used), steps_a_day)
    if rest or not days:
        raise RunbookError(f"{len(used)} steps are no whole days of {steps_a_day}.", "Cut the history at midnight, or at the same hour.")
    rates = burst_rates(standard_bytes)
    gain, cap = np.asarray(rates.baseline) * step_seconds, np.asarray(rates.max_credit)
    by_day = used.reshape(days, steps_a_day, -1)
    change, low = np.zeros((2, days, used.shape[1]))
    high = np.broadcast_to(cap, change.shape).copy()
    need = np.zeros(change.shape)
    for step in range(steps_a_day):
        net = gain - by_day[:, step]
        change += net
        for bound in (low, high):
            bound += net
            np.clip(bound, 0.0, cap, out=bound)
        np.maximum(need, -change, out=need)
        need[high <= 0] = np.inf
    return Days(change, low, high, need)


def then(first: Days, second: Days) -> Days:
    """Two days in a row as one."""
    low, high = (np.minimum(second.high, np.maximum(second.low, bound + second.change)) for bound in (first.low, first.high))
    need = np.where(first.high > second.safe_start, np.maximum(first.safe_start, second.safe_start - first.change), np.inf)
    return Days(first.change + second.change, low, high, need)


def balances(days: Days, credit: ArrayLike) -> Floats:
    """The balance after each day, (days, file systems), from `credit` bytes at the start: a number or one a file system."""
    left = np.broadcast_to(np.asarray(credit, dtype=np.float64), days.change.shape[1:])
    ends = np.empty(days.change.shape)
    for end, change, low, high in zip(ends, days.change, days.low, days.high, strict=True):
        left = np.minimum(high, np.maximum(low, left + change), out=end)
    return ends


def first_empty_day(days: Days, credit: ArrayLike) -> Floats:
    """The number of the first day (from 0) in which the balance reaches zero, a file system each; inf where it never does."""
    starts = np.concatenate([np.broadcast_to(np.asarray(credit, dtype=np.float64), days.change[:1].shape), balances(days, credit)[:-1]])
    empty = starts <= days.safe_start
    return np.where(empty.any(axis=0), empty.argmax(axis=0), np.inf)
