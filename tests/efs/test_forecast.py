"""The forecast of the day the credits run out, on demand whose future is plain."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from helpers.aws.errors import RunbookError
from helpers.efs.credits import GIB, TIB, burst_rates, numba, seconds_to_zero, simulate_credits
from helpers.efs.forecast import forecast, throttled_steps

SIZE = 100 * GIB
BASELINE = burst_rates(SIZE).baseline
HOURS = 28 * 24


def demand(share, hours=HOURS, noise=0.1):
    """Bytes an hour at a share of the baseline."""
    return BASELINE * 3600 * share * np.random.default_rng(7).lognormal(0, noise, hours)


def test_a_steady_drain_runs_out_when_the_rate_says_so():
    found = forecast(demand(3), SIZE, TIB, 3600)
    true = seconds_to_zero(SIZE, TIB, BASELINE * 3) / 86_400
    assert found.p10 <= true <= found.p90
    assert found.p50 == pytest.approx(true, rel=0.15)
    assert found.within_30_days == 1 and found.alarm


def test_what_stays_below_the_baseline_lasts():
    found = forecast(demand(0.5), SIZE, 2 * TIB, 3600)
    assert (found.p10, found.p50, found.within_30_days, found.alarm) == (np.inf, np.inf, 0, False)


def test_a_jump_of_the_last_two_days_goes_on():
    used = demand(0.5)
    used[-48:] *= 6
    found = forecast(used, SIZE, TIB, 3600)
    assert found.p50 == pytest.approx(seconds_to_zero(SIZE, TIB, BASELINE * 3) / 86_400, rel=0.3)


def test_one_loud_day_does_not_come_again():
    used = demand(0.5)
    used[-240:-216] *= 8
    assert not forecast(used, SIZE, TIB, 3600).alarm


def test_growth_brings_a_day_that_the_mean_does_not_show():
    growing = demand(0.6) * np.exp(0.02 * (np.arange(HOURS) / 24 - 14))
    found = forecast(growing, SIZE, TIB, 3600)
    assert growing.mean() < BASELINE * 3600
    assert 5 < found.p50 < 60


def test_quiet_weekends_are_expected_to_come_back():
    weekday = np.arange(HOURS) // 24 % 7
    used = np.where(weekday < 5, 1.8, 0.2) * demand(1, noise=0.02)
    ahead = np.where(np.arange(HOURS, 2 * HOURS) // 24 % 7 < 5, 1.8, 0.2) * BASELINE * 3600
    assert weekday[-1] == 6  # the week starts anew after the history
    true = (simulate_credits(ahead, SIZE, 3600, TIB) <= 0).argmax() / 24
    assert forecast(used, SIZE, TIB, 3600).p50 == pytest.approx(true, rel=0.3)


def test_the_same_history_gives_the_same_forecast():
    one, other = (forecast(demand(1.2), SIZE, TIB, 3600) for _ in range(2))
    assert np.array_equal(one.days, other.days)


@pytest.mark.skipif(numba is None, reason="only NumPy is installed here: there is nothing to compare")
@pytest.mark.parametrize("load", [0.9, 1.05, 3])
def test_the_forecast_is_the_same_without_numba(monkeypatch, load):
    compiled = forecast(demand(load), SIZE, TIB, 3600)
    monkeypatch.setattr(sys.modules[forecast.__module__], "numba", None)
    assert forecast(demand(load), SIZE, TIB, 3600).days == pytest.approx(compiled.days, abs=1e-9)


def test_an_idle_file_system_never_runs_out():
    assert forecast(np.zeros(HOURS), SIZE, TIB, 3600).p10 == np.inf


def test_the_period_of_the_metric_hardly_matters():
    by_minutes = np.repeat(demand(3) / 60, 60)
    assert forecast(by_minutes, SIZE, TIB, 60).p50 == pytest.approx(forecast(demand(3), SIZE, TIB, 3600).p50, rel=0.02)


@pytest.mark.parametrize("days", [3, 7, 13, 60])
def test_short_and_long_histories_see_a_drain(days):
    found = forecast(demand(3, days * 24), SIZE, TIB, 3600)
    assert found.p10 <= seconds_to_zero(SIZE, TIB, BASELINE * 3) / 86_400 <= found.p90


def test_a_gap_is_refused():
    used = demand(1)
    used[5] = np.nan
    with pytest.raises(RunbookError, match="gaps"):
        forecast(used, SIZE, TIB, 3600)


def test_an_empty_balance_has_run_out_already():
    assert forecast(demand(0.5), SIZE, 0, 3600).p90 == 0


@pytest.mark.parametrize(("hours", "step", "message"), [(71, 3600, "2 whole days"), (HOURS, 7000, "three hours")])
def test_too_little_history_or_an_odd_step_is_refused(hours, step, message):
    with pytest.raises(RunbookError, match=message):
        forecast(np.ones(hours), SIZE, TIB, step)


def test_a_throttled_stretch_is_found_and_its_demand_is_unknown():
    used = demand(0.8)
    ceiling = burst_rates(SIZE).permitted_without_credit * 3600
    used[-30:] = ceiling
    balance = np.full(HOURS, float(TIB))
    balance[-31:] = 0
    slow = throttled_steps(used, balance, SIZE, 3600)
    assert np.flatnonzero(slow).tolist() == list(range(HOURS - 30, HOURS))
    found = forecast(used, SIZE, 0, 3600, throttled=slow)
    assert found.note == "Throttled for 30.0 h of the history: demand unknown, at least 4.9 MiB/s then."


def test_zero_credits_with_little_use_are_no_throttling():
    assert not throttled_steps(np.ones(5), np.zeros(5), SIZE, 3600).any()


def test_a_history_without_throttling_has_no_note():
    assert forecast(demand(2), SIZE, TIB, 3600).note == ""
