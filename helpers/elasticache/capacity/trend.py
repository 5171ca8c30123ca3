"""When a limit is reached: daily peaks drawn on by a straight line, with a band from the days' own scatter.

A line, because what fills a cache (users, keys a user) grows from day to day by about as much; the burst-credit forecast
of EFS is about a balance that refills, and does not fit. Weekdays have levels of their own where three weeks or more are
known. The band comes from a block bootstrap: weeks of residuals are put together anew, the line is drawn again, and the
day counted on which it reaches the limit, so that days that resemble their neighbours do not make it too narrow. It knows nothing of
what has not happened yet: a release, a campaign.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from helpers.aws.errors import RunbookError

LEAST_DAYS, WEEKDAYS_FROM, BLOCK, PATHS, HORIZON = 7, 21, 7, 400, 365
STEP_SIGMAS, STEP_SHARE = 8.0, 0.10  # a change from one day to the next that stays: of the usual change, and of the level

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reached:
    """Days from the end of the history until a limit is reached, as quantiles over the paths; inf beyond the horizon."""

    p10: float
    p50: float
    p90: float


@dataclass(frozen=True)
class Trend:
    """The line through daily peaks: growth a day, `level` on the last day, and the paths it may take.

    `paths` is (horizon, paths), in the unit of the peaks; `days` how many days it was drawn through; `note` says what
    they do not tell, else it is empty.
    """

    growth: float
    level: float
    days: int
    paths: Floats = field(repr=False)
    note: str = ""

    def reaches(self, limit: float, already: bool = False) -> Reached:
        """When the daily peak reaches `limit`; 0 where it has."""
        if already:
            return Reached(0.0, 0.0, 0.0)
        above = self.paths >= limit
        days = np.where(above.any(axis=0), above.argmax(axis=0) + 1.0, np.inf)
        return Reached(*(float(one) for one in np.quantile(days, [0.1, 0.5, 0.9], method="inverted_cdf")))

    def band(self, days: int) -> tuple[Floats, Floats, Floats]:
        """The 10 %, 50 % and 90 % levels of the next `days` days."""
        low, middle, high = np.quantile(self.paths[:days], [0.1, 0.5, 0.9], axis=1)
        return low, middle, high


def trend(peaks: ArrayLike, seed: int = 0) -> Trend:
    """The trend of daily `peaks`, the latest last; NaN is a day that is not known.

    Where the level has changed from one day to the next and stayed, only the days after that count. Raises
    `RunbookError` for less than seven days.
    """
    values = np.asarray(peaks, dtype=np.float64)
    values, note = _since_step(values)
    day = np.flatnonzero(np.isfinite(values))
    if len(day) < LEAST_DAYS:
        raise RunbookError(f"{len(day)} days of history show no trend.", f"Give {LEAST_DAYS} days or more; four weeks tell weekdays apart.")
    known = values[day]
    ahead = np.arange(len(values), len(values) + HORIZON)
    weekdays = len(day) >= WEEKDAYS_FROM
    columns, future = _columns(day, len(values), weekdays), _columns(ahead, len(values), weekdays)
    solve = np.linalg.pinv(columns)
    fitted = columns @ (beta := solve @ known)
    rest = (known - fitted) * np.sqrt(len(day) / max(len(day) - np.linalg.matrix_rank(columns), 1))
    chance = np.random.default_rng(seed)
    again = _blocks(rest, len(day), chance)
    betas = beta[:, None] + solve @ again
    paths = future @ betas + _blocks(rest, HORIZON, chance)
    return Trend(float(beta[1]), float(beta[0] + (beta[2:].mean() if weekdays else 0.0)), len(day), paths, note)


def _columns(day: NDArray[np.int_], days: int, weekdays: bool) -> Floats:
    """A level, a growth from the last day on, and where they are known the days of the week."""
    line = np.column_stack([np.ones(len(day)), day - (days - 1.0)])
    return np.column_stack([line, day[:, None] % 7 == np.arange(7)]) if weekdays else line


def _blocks(rest: Floats, length: int, chance: np.random.Generator) -> Floats:
    """Residuals put together anew from weeks of them, (length, paths)."""
    size = min(BLOCK, len(rest))
    starts = chance.integers(0, len(rest) - size + 1, (-(-length // size), PATHS))
    picked = rest[starts[:, None, :] + np.arange(size)[None, :, None]]
    return picked.reshape(-1, PATHS)[:length]


def _since_step(values: Floats) -> tuple[Floats, str]:
    """The days after the last change of level, with a note; all of them where there is none, or too few after it."""
    change = np.diff(values)
    if not np.isfinite(change).any():
        return values, ""
    usual = np.nanmedian(np.abs(change - np.nanmedian(change))) * 1.4826
    for at in range(len(values) - 1, 1, -1):
        before, after = values[max(at - 3, 0) : at], values[at : at + 3]
        if not (np.isfinite(before).any() and np.isfinite(after).any()):
            continue
        moved, level = np.nanmedian(after) - np.nanmedian(before), abs(np.nanmedian(before))
        if abs(change[at - 1]) > max(STEP_SIGMAS * usual, STEP_SHARE * level) and abs(moved) > 0.7 * abs(change[at - 1]):
            past = len(values) - at
            if past >= LEAST_DAYS:
                return values[at:], f"The level changed {past} days ago; the trend is that of the days since."
            return values, f"The level changed {past} days ago, too short a time for a trend: do not trust the day."
    return values, ""
