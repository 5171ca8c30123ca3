"""Days in four numbers against the steps that they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.aws.errors import RunbookError
from helpers.efs.credits import GIB, TIB, simulate_credits
from helpers.efs.days import Days, balances, first_empty_day, summarise, then

A_DAY, DAYS, SYSTEMS = 24, 20, 40
CHANCE = np.random.default_rng(11)
SIZES = CHANCE.uniform(10, 2000, SYSTEMS) * GIB
METERED = CHANCE.gamma(0.3, 1, (A_DAY * DAYS, SYSTEMS)) * SIZES * 50 * 1024 / GIB * 3600 * 3.6
START = CHANCE.uniform(0, 1.5, SYSTEMS) * TIB
STEPS = simulate_credits(METERED, SIZES[None], 3600, START)


@pytest.fixture(scope="module")
def days():
    return summarise(METERED, SIZES, 3600, A_DAY)


def test_the_days_end_where_the_steps_do(days):
    assert np.allclose(balances(days, START), STEPS[A_DAY - 1 :: A_DAY], atol=1, rtol=0)


def test_days_run_out_where_a_step_does(days):
    empty = (STEPS <= 0).reshape(DAYS, A_DAY, SYSTEMS).any(axis=1)
    found = first_empty_day(days, START)
    assert 0 < np.isfinite(found).sum() < SYSTEMS
    assert np.array_equal(found, np.where(empty.any(axis=0), empty.argmax(axis=0), np.inf))


def test_two_days_in_a_row_are_one_again(days):
    even, odd = (Days(*(part[start::2] for part in days)) for start in (0, 1))
    double = summarise(METERED, SIZES, 3600, 2 * A_DAY)
    for made, wanted in zip(then(even, odd), double, strict=True):
        assert np.allclose(made, wanted, atol=1, rtol=0)


def test_part_of_a_day_is_refused():
    with pytest.raises(RunbookError, match="no whole days"):
        summarise(METERED[:-1], SIZES, 3600, A_DAY)
