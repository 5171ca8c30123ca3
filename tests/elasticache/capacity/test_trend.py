"""The day a limit is reached: on series whose day is known, with steps, gaps and no growth."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.aws.errors import RunbookError
from helpers.elasticache.capacity.trend import HORIZON, Reached, trend

CHANCE = np.random.default_rng(1)
LEVEL = 100.0


def series(days: int, growth: float, *, weekend: float = 0.0, noise: float = 1.0, chance: np.random.Generator = CHANCE) -> np.ndarray:
    """Daily peaks that grow, are lower at weekends, and resemble the day before."""
    day = np.arange(days)
    scatter = np.zeros(days)
    for at in range(1, days):
        scatter[at] = 0.5 * scatter[at - 1] + chance.normal(0, noise)
    return LEVEL + growth * day - weekend * (day % 7 >= 5) + scatter


def test_the_true_day_lies_in_the_band_about_as_often_as_it_says() -> None:
    chance = np.random.default_rng(3)
    inside = 0
    for _ in range(100):
        growth = chance.uniform(0.2, 2.0)
        known = series(28 + HORIZON, growth, weekend=chance.uniform(0, 4), chance=chance)
        limit = known[:28].max() + chance.uniform(3, 60)
        found = trend(known[:28]).reaches(limit)
        true = float(np.argmax(known[28:] >= limit) + 1)
        inside += found.p10 <= true <= found.p90
    assert 68 <= inside <= 94  # of an 80 % band


def test_without_scatter_the_day_is_exact() -> None:
    found = trend(LEVEL + 2.0 * np.arange(28))
    assert found.growth == pytest.approx(2.0) and found.level == pytest.approx(LEVEL + 2.0 * 27)
    assert found.reaches(LEVEL + 2.0 * 39.5) == Reached(13.0, 13.0, 13.0)


def test_what_does_not_grow_is_never_full() -> None:
    found = trend(series(28, 0.0)).reaches(LEVEL * 1.5)
    assert not np.isfinite(found.p10)


def test_a_limit_that_has_been_reached_is_reached_now() -> None:
    assert trend(series(28, 1.0)).reaches(50.0, already=True).p90 == 0


def test_after_a_step_only_the_days_since_count() -> None:
    stepped = series(28, 0.0)
    stepped[16:] += 60
    found = trend(stepped)
    assert (found.days, "12 days ago" in found.note) == (12, True)
    assert abs(found.growth) < 0.5


def test_a_step_too_short_ago_is_told() -> None:
    stepped = series(28, 0.0)
    stepped[25:] += 60
    assert "do not trust" in trend(stepped).note


def test_a_single_loud_day_is_no_step() -> None:
    loud = series(28, 0.5)
    loud[14] += 60
    assert trend(loud).note == ""


def test_days_without_datapoints_are_left_out() -> None:
    gaps = LEVEL + 2.0 * np.arange(28)
    gaps[[3, 4, 20]] = np.nan
    assert trend(gaps).growth == pytest.approx(2.0)


def test_a_few_days_are_no_history() -> None:
    with pytest.raises(RunbookError, match="5 days of history"):
        trend(series(5, 1.0))
