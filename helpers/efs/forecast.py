"""The day the burst credits run out, as a band: days that may follow are drawn from those that were, and go through the clamp.

Daily demand is explained by a level, the days of the week, and where the history speaks for them a growth of some
per cent a day and either a jump that stays or one loud day that does not. Each such explanation weighs as much as the
days support it; a path draws one, goes on from it, takes the hours of a day that was, and spends its credits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from helpers.aws.errors import RunbookError
from helpers.efs.credits import KEEP, MIB, burst_rates, numba

DAY = 86_400
BLOCKS = 8  # of a day: balances are followed every three hours
LEAST_DAYS, MOST_DAYS = 3, 35  # of history: five weeks say more of the next ones than a year does
WEEK = 7
ALARM_DAYS, ALARM = 30, 0.8  # a warning is due where this share of the paths runs out within these days

# What is thought before a day is seen. Logarithms of daily bytes; these five in units of the noise between days.
LEVEL, WEEKDAY, WEEKEND, GROWTH, JUMP = 40.0, 2.5, 6.0, 0.035, 6.0
GROWTH_MEAN = 0.010  # a day, where there is growth: demand grows more often than it shrinks
NOISE_SHAPE, NOISE_SCALE = 5.0, 0.2  # of the inverse gamma distribution of the noise's variance
P_WEEKEND, P_GROWTH, P_JUMP, P_LOUD = 0.8, 0.15, 0.30, 0.15
JUMPS_BACK = 14  # days within which a jump is looked for

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Forecast:
    """Days from the end of the history until the balance is zero; inf where it outlasts `horizon_days`.

    `p10`, `p50` and `p90` are quantiles over the paths, `within_30_days` the share of them that run out by then.
    `days` holds every path's day. `note` says what the history does not tell, else it is empty.
    """

    p10: float
    p50: float
    p90: float
    within_30_days: float
    horizon_days: int
    days: Floats
    note: str = ""

    @property
    def alarm(self) -> bool:
        """Whether a warning is due: at least four paths in five run out within 30 days."""
        return self.within_30_days >= ALARM


def forecast(
    metered: ArrayLike,
    standard_bytes: float,
    credit: float,
    step_seconds: float,
    *,
    horizon_days: int = 180,
    paths: int = 400,
    seed: int = 0,
    throttled: ArrayLike | None = None,
) -> Forecast:
    """When `credit` bytes will be used up, from `metered` bytes a step of some weeks (steps,), the latest last.

    The last 35 days count. The size stays `standard_bytes`. Steps that `throttled` marks show a ceiling and not demand: days with any are read
    as no lower than the busiest whole day, and the note says "demand unknown, at least X". Raises `RunbookError` for
    less than three days of history, gaps in it, or a step that does not divide three hours.
    """
    used = np.asarray(metered, dtype=np.float64)
    if np.isnan(used).any():
        raise RunbookError("The history has gaps.", "Where CloudWatch has no datapoint of a metered file system, give 0.")
    chance = np.random.default_rng(seed)
    blocks = _blocks(used, step_seconds)
    slow = np.zeros(len(used), dtype=bool) if throttled is None else np.asarray(throttled, dtype=bool)
    held_back = _blocks(slow.astype(np.float64), step_seconds).sum(axis=1) > 0
    rates = burst_rates(standard_bytes)
    seen = blocks.sum(axis=1)
    if held_back.any() and not held_back.all():
        seen = np.where(held_back, np.maximum(seen, seen[~held_back].max()), seen)
    shares = blocks / np.maximum(blocks.sum(axis=1, keepdims=True), 1.0)
    least = max(rates.baseline * DAY * 1e-4, 1.0)  # a day of nothing has no logarithm
    levels = _futures(np.log(np.maximum(seen, least)), horizon_days, paths, chance)
    donors = np.flatnonzero(~held_back) if not held_back.all() else np.arange(len(blocks))
    like = chance.choice(donors, (horizon_days, paths))
    totals = np.exp(np.minimum(levels, 80, out=levels), out=levels)
    days = _days_to_zero(totals, shares, like, standard_bytes, credit) if credit > 0 else np.zeros(paths)
    p10, p50, p90 = np.quantile(days, [0.1, 0.5, 0.9], method="inverted_cdf")
    within = float((days <= ALARM_DAYS).mean())
    return Forecast(float(p10), float(p50), float(p90), within, horizon_days, days, _note(used, slow, step_seconds))


def throttled_steps(metered: ArrayLike, balance: ArrayLike, standard_bytes: ArrayLike, step_seconds: float) -> NDArray[np.bool_]:
    """Which steps were throttled: no credits at their start, and nearly all metered that is permitted without.

    `balance` is that after each step, as BurstCreditBalance shows it. The first step has no balance before it and
    counts as not throttled.
    """
    used, left = np.asarray(metered, dtype=np.float64), np.asarray(balance, dtype=np.float64)
    ceiling = burst_rates(standard_bytes).permitted_without_credit * step_seconds
    empty = np.zeros(left.shape, dtype=bool)
    empty[1:] = left[:-1] <= np.broadcast_to(ceiling, left.shape)[1:]
    return empty & (left <= ceiling) & (used >= 0.95 * ceiling)


def _note(used: Floats, slow: NDArray[np.bool_], step_seconds: float) -> str:
    if not slow.any():
        return ""
    hours, rate = slow.sum() * step_seconds / 3600, used[slow].mean() / step_seconds / MIB
    return f"Throttled for {hours:,.1f} h of the history: demand unknown, at least {rate:,.1f} MiB/s then."


def _blocks(used: Floats, step_seconds: float) -> Floats:
    """Bytes of each three hours, (days, 8), of the last whole days, which end where the history ends."""
    a_block = DAY / BLOCKS / step_seconds
    if a_block != int(a_block):
        raise RunbookError(f"Steps of {step_seconds} s do not make up three hours.", "Fetch the metric by 60, 300 or 3,600 s.")
    a_day = int(a_block) * BLOCKS
    days = min(len(used) // a_day, MOST_DAYS)
    if days < LEAST_DAYS:
        raise RunbookError(f"{days} whole days of history say nothing.", f"Give {LEAST_DAYS} days or more; four weeks tell weekdays apart.")
    return used[len(used) - days * a_day :].reshape(days, BLOCKS, -1).sum(axis=2)


def _days_to_zero(totals: Floats, shares: Floats, like: NDArray[np.int_], standard_bytes: float, credit: float) -> Floats:
    """The day each path reaches zero, to the minute by the rate of its block; inf where it never does.

    `totals` is bytes a day, (days, paths); a day's blocks have the `shares` of the day of the history that `like` names.
    """
    seconds, rates = DAY / BLOCKS, burst_rates(standard_bytes)
    found = np.full(totals.shape[1], np.inf)
    follow = _follow_numpy if numba is None else _follow_numba
    follow(totals, shares, like, rates.baseline * seconds, rates.max_credit, np.full(totals.shape[1], float(credit)), found)
    return found / BLOCKS


def _follow_numpy(totals: Floats, shares: Floats, like: NDArray[np.int_], gain: float, cap: float, credit: Floats, found: Floats) -> None:
    """Spend `credit` block by block, all paths together, and note in `found` the blocks until a path is empty."""
    left = np.arange(len(found))
    for day, (total, donor) in enumerate(zip(totals, like, strict=True)):
        asked = total[left] * shares[donor[left]].T
        for block, change in enumerate(gain - asked):
            after = credit + change
            gone = (after <= 0) & (credit > 0)
            if gone.any():
                found[left[gone]] = day * BLOCKS + block + credit[gone] / -change[gone]
                after[gone] = -np.inf  # and stays so
            credit = np.minimum(after, cap)
        left, credit = left[credit > 0], credit[credit > 0]


if numba is not None:

    @numba.njit(cache=KEEP, error_model="numpy")
    def _follow_numba(totals, shares, like, gain, cap, credit, found):  # type: ignore[no-untyped-def]
        """The same, path by path within a day."""
        for day in range(totals.shape[0]):
            for path in range(totals.shape[1]):
                left, total, donor = credit[path], totals[day, path], like[day, path]
                if left <= 0.0:
                    continue
                for block in range(shares.shape[1]):
                    change = gain - total * shares[donor, block]
                    after = left + change
                    if after <= 0.0:
                        found[path] = day * shares.shape[1] + block + left / -change
                        left = 0.0
                        break
                    left = min(after, cap)
                credit[path] = left


class _Explanations(NamedTuple):
    """Linear models of the days' logarithms, one a row: what was thought of their coefficients, solved for any days.

    A model's columns are level, days of the week, growth, event. Gaussian coefficients in units of the noise, whose variance has
    an inverse gamma distribution; the textbook conjugate regression.
    """

    stays: Floats  # 1 where the event goes on after the history, 0 where it was one loud day
    centre: Floats  # coefficients
    expected: Floats  # days: what the centre makes of them
    gain: Floats  # coefficients from days
    spread: Floats  # root of the covariance of the coefficients, in units of the noise
    inverse: Floats  # of the days' covariance
    log_weight: Floats


def _season(day: NDArray[np.int_]) -> Floats:
    return (day[:, None] % WEEK == np.arange(WEEK)).astype(np.float64)


def _weeks() -> list[tuple[Floats, float]]:
    """The covariance of the days of the week and its probability: two days apart from the others, or each its own."""
    pairs = [np.isin(np.arange(WEEK), [first, (first + 1) % WEEK]).astype(np.float64) for first in range(WEEK)]
    weekends = [(WEEKEND**2 * np.outer(pair, pair), P_WEEKEND / WEEK) for pair in pairs]
    return [(WEEKDAY**2 * np.eye(WEEK), 1 - P_WEEKEND), *weekends]


def _events(days: int) -> list[tuple[NDArray[np.bool_], float, float]]:
    """The days of an event, its probability, and 1 where it stays: none, a jump, or a loud day."""
    day = np.arange(days)
    back = min(JUMPS_BACK, days - 1)
    jumps = [(day >= days - recent, P_JUMP / back, 1.0) for recent in range(1, back + 1)]
    loud = [(day == one, P_LOUD / days, 0.0) for one in day]
    return [(day < 0, 1 - P_JUMP - P_LOUD, 0.0), *jumps, *loud]


@lru_cache(maxsize=8)
def _explanations(days: int) -> _Explanations:
    """All explanations of a history of some days."""
    day = np.arange(days)
    made = []
    for event, p_event, stays in _events(days):
        columns = np.column_stack([np.ones(days), _season(day), day - (days - 1.0), event])
        for week, p_week in _weeks():
            for growth, p_growth in ((0.0, 1 - P_GROWTH), (GROWTH, P_GROWTH)):
                prior = np.diag([LEVEL**2, *np.zeros(WEEK), growth**2, JUMP**2])
                prior[1 : 1 + WEEK, 1 : 1 + WEEK] = week
                centre = np.zeros(len(prior))
                centre[-2] = GROWTH_MEAN if growth else 0.0
                made.append((stays, centre, columns @ centre, *_solved(columns, prior, np.log(p_event * p_week * p_growth))))
    return _Explanations(*(np.array(rows) for rows in zip(*made, strict=True)))


def _solved(columns: Floats, prior: Floats, log_prior: float) -> tuple[Floats, Floats, Floats, float]:
    """Gain, spread, inverse and logarithm of the weight of one explanation."""
    covariance = columns @ prior @ columns.T + np.eye(len(columns))
    inverse = np.linalg.inv(covariance)
    gain = prior @ columns.T @ inverse
    values, vectors = np.linalg.eigh(prior - gain @ columns @ prior)
    return gain, vectors * np.sqrt(np.maximum(values, 0)), inverse, log_prior - 0.5 * np.linalg.slogdet(covariance)[1]


def _futures(logs: Floats, horizon: int, paths: int, chance: np.random.Generator) -> Floats:
    """Logarithms of daily demand that may come, (horizon, paths)."""
    days, known = len(logs), _explanations(len(logs))
    off = logs.mean()  # so that the level's prior is about zero
    rests = logs - off - known.expected
    # einsum and no product of matrices, whose threads wait for each other on a busy machine.
    misfits = NOISE_SCALE + 0.5 * (np.einsum("eij,ej->ei", known.inverse, rests) * rests).sum(axis=1)
    shape = NOISE_SHAPE + days / 2
    weights = known.log_weight - shape * np.log(misfits)
    weights = np.exp(weights - weights.max())
    drawn = np.repeat(np.arange(len(weights)), chance.multinomial(paths, weights / weights.sum()))  # one explanation a path
    noise = np.sqrt(misfits[drawn] / chance.gamma(shape, size=paths))
    some, place = np.unique(drawn, return_inverse=True)
    means = known.centre[some] + np.einsum("eij,ej->ei", known.gain[some], rests[some])
    beta = means[place].T + np.einsum("pij,jp->ip", known.spread[drawn], chance.standard_normal((known.centre.shape[1], paths))) * noise
    ahead = np.arange(days, days + horizon)
    future = beta[1 + ahead % WEEK]
    future += off + beta[0] + known.stays[drawn] * beta[-1]
    future += (ahead - (days - 1.0))[:, None] * beta[-2]
    loud = chance.standard_normal((horizon, paths))
    loud *= noise
    future += loud
    return future
