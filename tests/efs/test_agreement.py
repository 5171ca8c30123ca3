"""The self-check: a history that the model explains, and the mistakes that it must catch."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.aws.errors import RunbookError
from helpers.efs.agreement import check_balance
from helpers.efs.credits import GIB, TIB, burst_rates, simulate_credits

SIZE = 300 * GIB
METERED = np.random.default_rng(3).gamma(2, 0.45, 14 * 24) * burst_rates(SIZE).baseline * 3600
BALANCE = simulate_credits(METERED, SIZE, 3600, TIB)


def test_a_balance_that_follows_the_rules_agrees():
    found = check_balance(BALANCE, METERED, SIZE, 3600)
    assert found.agrees and found.steps > 200
    assert found.unexplained == pytest.approx(0, abs=1)
    found.require()


@pytest.mark.parametrize(
    ("balance", "metered", "size"),
    [
        (BALANCE, METERED, SIZE / 2**30 * 10**9),  # GB for GiB
        (BALANCE, METERED, SIZE * 1.4),  # IA counted in
        (BALANCE, METERED * 1.8, SIZE),  # TotalIOBytes for MeteredIOBytes
        (BALANCE, METERED / 60, SIZE),  # an average for a sum
    ],
    ids=["GB", "IA", "TotalIOBytes", "Average"],
)
def test_a_mistake_in_units_is_caught_and_advice_refused(balance, metered, size):
    found = check_balance(balance, metered, size, 3600)
    assert not found.agrees
    with pytest.raises(RunbookError, match="no advice"):
        found.require()


def test_gaps_are_left_out():
    gapped = BALANCE.copy()
    gapped[50:100] = np.nan
    assert check_balance(gapped, METERED, SIZE, 3600).agrees


@pytest.mark.parametrize("balance", [np.full(len(METERED), np.nan), np.zeros(len(METERED)), np.full(len(METERED), 2.1 * TIB)])
def test_no_balance_an_empty_one_and_a_full_one_prove_nothing(balance):
    with pytest.raises(RunbookError, match="cannot be checked"):
        check_balance(balance, METERED, SIZE, 3600).require()


def test_metrics_of_different_hours_are_refused():
    with pytest.raises(RunbookError, match="do not match"):
        check_balance(BALANCE[1:], METERED, SIZE, 3600)
