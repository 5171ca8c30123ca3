"""The credit model against AWS's tables and hand-made traces."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from helpers.aws.errors import RunbookError
from helpers.efs import credits
from helpers.efs.credits import GIB, MIB, TIB, burst_rates, metered_bytes, seconds_to_zero, simulate_credits

DATA = Path(__file__).parent / "data"
RECORDED = Path(__file__).resolve().parents[2] / "../shared/data/recorded/efs_documented_tables.json"


def vectors(name):
    return json.loads((DATA / f"{name}.json").read_text())["vectors"]


@pytest.fixture(params=["numba", "numpy"])
def engine(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setattr(credits, "numba", None)
    elif credits.numba is None:
        pytest.skip("numba is not installed")


@pytest.fixture(scope="module")
def documented():
    if not RECORDED.exists():
        pytest.skip("AWS's tables are not in this checkout's shared data")
    return json.loads(RECORDED.read_text())


@pytest.mark.parametrize("case", vectors("rates"), ids=lambda case: str(case["standard_bytes"]))
def test_rates_follow_the_size_in_the_standard_class(case):
    rates = burst_rates(case["standard_bytes"])
    assert rates.baseline == pytest.approx(case["baseline_accrual_Bps"])
    assert rates.permitted_without_credit == pytest.approx(case["permitted_no_credit_Bps"])
    assert rates.permitted_with_credit == pytest.approx(case["permitted_with_credit_Bps"])
    assert rates.max_credit == pytest.approx(case["max_credit_bytes"])
    full = seconds_to_zero(case["standard_bytes"], rates.max_credit, rates.permitted_with_credit)
    assert full == pytest.approx(case["full_to_empty_seconds_at_burst"])
    assert rates.baseline / rates.permitted_with_credit * 1440 == pytest.approx(case["max_burst_min_per_day"])


def test_the_documented_size_table_is_reproduced(documented):
    for row in documented["table"]:
        rates = burst_rates(row["size_GiB"] * GIB)
        assert rates.baseline / MIB == pytest.approx(row["baseline_MiBps"], abs=0.05)
        assert rates.permitted_with_credit / MIB == pytest.approx(row["burst_MiBps"])
        share = rates.baseline / rates.permitted_with_credit
        assert share * 100 == pytest.approx(row["pct_time_burst"], abs=0.05)
        assert share * 1440 == pytest.approx(row["max_burst_min_per_day"], abs=0.2)


def test_the_documented_worked_examples_are_reproduced(documented):
    hours = documented["worked"][0]["hours"]
    assert burst_rates(0).max_credit / (100 * MIB) / 3600 == pytest.approx(hours)
    mixed = documented["worked"][1]
    assert metered_bytes(mixed["read_Bps"], mixed["write_Bps"], mixed["metadata_Bps"]) == mixed["metered_Bps"]


def test_rates_come_in_the_shape_of_the_size():
    rates = burst_rates(np.array([[0, TIB], [2 * TIB, 10 * GIB]]))
    assert rates.permitted_with_credit.tolist() == [[100 * MIB, 100 * MIB], [200 * MIB, 100 * MIB]]


@pytest.mark.parametrize("size", [-1, float("nan")])
def test_an_impossible_size_is_refused(size):
    with pytest.raises(RunbookError, match="negative or missing"):
        burst_rates(size)


@pytest.mark.parametrize("case", vectors("metering"), ids=str)
def test_reads_are_metered_at_a_third(case):
    assert metered_bytes(case["read_Bps"], case["write_Bps"], case["metadata_Bps"]) == pytest.approx(case["metered_Bps"])


@pytest.mark.parametrize("case", vectors("credit_traces"), ids=lambda case: case["name"])
def test_the_balance_follows_the_trace(case, engine):
    metered = np.array(case["metered_bytes_per_step"], dtype=float)
    expected = case["expected_balance_after_step"][: len(metered)]
    size = case["sizes"] or case["standard_bytes"]
    balances = simulate_credits(case["metered_bytes_per_step"], size, case["dt_s"], case["initial_credit_bytes"])
    assert np.abs(balances[: len(expected)] - expected).max() <= 1


@pytest.mark.parametrize("case", vectors("credit_traces"), ids=lambda case: case["name"])
def test_the_permitted_rate_is_that_of_the_balance_at_the_start_of_the_step(case):
    balances = [case["initial_credit_bytes"], *case["expected_balance_after_step"][:-1]]
    rates = burst_rates(case["sizes"] or case["standard_bytes"])
    permitted = np.where(np.array(balances) > 0, rates.permitted_with_credit, rates.permitted_without_credit)
    assert permitted == pytest.approx(case["expected_permitted_at_step_start_Bps"])


@pytest.mark.parametrize("case", vectors("time_to_zero"), ids=str)
def test_a_constant_rate_above_the_baseline_has_a_day(case):
    found = seconds_to_zero(case["standard_bytes"], case["credit_bytes"], case["constant_metered_Bps"])
    wanted = case["seconds_to_zero"]
    assert found == (np.inf if wanted is None else pytest.approx(wanted))


@pytest.mark.parametrize(
    ("size", "credit", "rate", "wanted"),
    [(GIB, TIB, 51_200, np.inf), (GIB, 0, 0, np.inf), (0, 0, 1, 0.0), (0, 0, 0, np.inf), (GIB, TIB, np.nan, np.nan), (GIB, np.nan, MIB, np.nan)],
    ids=["at the baseline", "empty and idle", "empty and used", "no size", "no rate", "no balance"],
)
def test_the_time_to_zero_is_endless_where_the_balance_does_not_fall_and_unknown_where_a_number_is_missing(size, credit, rate, wanted):
    assert seconds_to_zero(size, credit, rate) == pytest.approx(wanted, nan_ok=True)


def test_file_systems_side_by_side_are_as_each_alone(engine):
    chance = np.random.default_rng(4)
    metered = chance.gamma(2, 3e9, (200, 7)).astype(np.float32)
    sizes = chance.uniform(0, 3 * TIB, (200, 7))
    together = simulate_credits(metered, sizes, 300, np.full(7, TIB))
    for system in range(7):
        alone = simulate_credits(metered[:, system], sizes[:, system], 300, TIB)
        assert np.array_equal(together[:, system], alone)


@pytest.mark.parametrize("shape", ["number", "step", "system"])
def test_a_size_may_be_a_number_one_a_step_or_one_a_file_system(shape, engine):
    metered = np.full((5, 3), 1e9)
    size = {"number": 512 * GIB, "step": np.full(5, 512 * GIB), "system": np.full((1, 3), 512 * GIB)}[shape]
    whole = np.full((5, 3), 512 * GIB)
    assert np.array_equal(simulate_credits(metered, size, 60), simulate_credits(metered, whole, 60))


def test_a_new_file_system_starts_with_its_initial_credits(engine):
    assert simulate_credits([1e9], 0, 60)[0] == pytest.approx(2.1 * TIB - 1e9)


def test_small_steps_of_float32_do_not_get_lost_in_a_large_balance(engine):
    metered = np.full((100_000, 1), 1000, dtype=np.float32)
    assert simulate_credits(metered, 0, 60)[-1, 0] == pytest.approx(2.1 * TIB - 1e8, abs=1)


def test_views_and_read_only_arrays_are_as_good_as_any(engine):
    metered = np.arange(12.0).reshape(3, 4) * 1e9
    wanted = simulate_credits(metered.T.copy(), GIB, 60)
    metered.flags.writeable = False
    into = np.empty((4, 6))[:, ::2]
    assert np.array_equal(simulate_credits(metered.T, GIB, 60), wanted)
    simulate_credits(metered.T, GIB, 60, out=into)
    assert np.array_equal(into, wanted)


def test_no_steps_give_no_balances(engine):
    assert simulate_credits(np.empty((0, 3)), 0, 60).shape == (0, 3)


def test_a_missing_value_is_refused_and_not_clamped_away(engine):
    with pytest.raises(RunbookError, match="missing values"):
        simulate_credits([1, np.nan, 1], GIB, 60)


@pytest.mark.parametrize(
    "wrong",
    [
        {"standard_bytes": np.ones(3)},
        {"initial_credit": [1, 2, 3]},
        {"initial_credit": -1},
        {"step_seconds": 0},
        {"metered": np.ones((1, 1, 1))},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_does_not_fit_is_refused_with_a_remedy(wrong):
    with pytest.raises(RunbookError) as refused:
        simulate_credits(**{"metered": np.ones((4, 2)), "standard_bytes": GIB, "step_seconds": 60, **wrong})
    assert refused.value.remedy
