"""Which mode is advised on demand where the answer is plain."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.aws.errors import RunbookError
from helpers.efs.credits import GIB, MIB, TIB, burst_rates
from helpers.efs.prices import table_prices
from helpers.efs.recommend import Usage, bursting, elastic, enough_mibps, recommend, storage_cost, tiered, waiting_steps

PRICES = table_prices("us-east-1")
HOURS = 730


def usage(mibps, *, size=100 * GIB, hours=HOURS, **more):
    """Writes only, at a rate in MiB/s (a number or one an hour)."""
    write = np.broadcast_to(np.asarray(mibps, dtype=float), (hours,)) * MIB * 3600
    nothing = np.zeros(hours)
    return Usage(nothing, write, nothing, 3600, size, **more)


def test_demand_below_the_baseline_stays_bursting():
    advice = recommend(usage(2), PRICES)
    assert advice.best.mode == "bursting"
    assert advice.best.monthly_cost == pytest.approx(30.0)
    assert advice.best.stall_minutes == 0


def test_a_balance_that_always_falls_asks_for_provisioned():
    advice = recommend(usage(8), PRICES)
    assert (advice.best.mode, advice.best.mibps) == ("provisioned", 8)
    assert advice.best.monthly_cost == pytest.approx(30 + (8 - 5) * 6)
    assert advice.options[0].note.startswith("the balance always falls")
    assert "neither lowered nor left" in advice.reasons[-1]


def test_rare_bursts_above_the_credits_ask_for_elastic():
    spikes = np.zeros(HOURS)
    spikes[::365] = 400
    advice = recommend(usage(spikes, size=GIB), PRICES, tolerated_minutes=0)
    assert advice.best.mode == "elastic"
    assert advice.best.throughput_cost == pytest.approx(2 * 400 * 3600 / 1024 * 0.06)
    assert advice.break_even_mibps == pytest.approx(advice.best.throughput_cost / 6)


def test_a_months_credits_do_not_hide_what_follows():
    # 0.6 MiB/s above the baseline of 100 GiB: 2.1 TiB last 42 days, longer than the history.
    slow = usage(burst_rates(100 * GIB).baseline / MIB + 0.6)
    waiting, credit = waiting_steps(slow.metered, slow.standard_bytes, 3600, slow.credit)
    assert not waiting.any() and credit > 0
    assert bursting(slow, PRICES).stall_minutes > 10_000


def test_work_waits_until_there_is_throughput_for_it():
    waiting, credit = waiting_steps(np.array([3.0, 0, 0, 0]) * 60 * MIB, 0, 60, 0)
    assert waiting.tolist() == [True, True, False, False]
    assert credit == 0


def test_the_amount_is_the_smallest_that_keeps_the_queue_short():
    hours = np.full(HOURS, 5.0)
    hours[100:103] = 20
    assert enough_mibps(usage(hours), "us-east-1", tolerated_minutes=0) == 20
    # 45 MiB/s-hours too much wait until the rate has made up for them.
    allowed = enough_mibps(usage(hours), "us-east-1", tolerated_minutes=24 * 60)
    assert 5 < allowed < 20
    assert enough_mibps(usage(0), "us-east-1") == 1


def test_more_than_can_be_provisioned_leaves_elastic():
    advice = recommend(usage(4000), PRICES)
    assert advice.best.mode == "elastic"
    assert advice.options[1].note == "More than the 3,414 MiB/s of us-east-1 would be needed."


def test_a_region_that_provisions_less_is_not_advised_more():
    tokyo = table_prices("ap-northeast-1")
    advice = recommend(usage(1200, size=20 * TIB), tokyo)
    assert (advice.options[1].mibps, advice.options[1].note) == (1024, "More than the 1,024 MiB/s of ap-northeast-1 would be needed.")
    assert advice.options[0].note.endswith("above what EFS serves in ap-northeast-1: 3 GiB/s of reads, 1 of writes")
    assert (advice.best.mode, advice.best.stall_minutes) == ("elastic", 0)
    assert recommend(usage(1200, size=20 * TIB), PRICES).options[1].mibps == 1200


def test_what_no_mode_serves_asks_for_more_file_systems():
    advice = recommend(usage(6000), PRICES)
    assert advice.best.stall_minutes > 40_000
    assert advice.reasons[0].startswith("No mode serves this in us-east-1") and "several file systems" in advice.reasons[0]


def test_throttled_hours_size_nothing():
    hours = np.full(HOURS, 3.0)
    slow = np.zeros(HOURS, dtype=bool)
    slow[-100:], hours[-100:] = True, burst_rates(100 * GIB).baseline / MIB
    advice = recommend(usage(hours, throttled=slow, credit=0), PRICES)
    assert advice.best.mode == "elastic"
    assert "demand unknown, at least 4.9 MiB/s" in advice.reasons[0]
    assert advice.options[1].mibps == 3 and advice.options[1].at_least
    assert advice.options[0].stall_minutes >= 6000


def test_the_lock_of_a_day_is_said():
    locked = usage(0.5, mode="provisioned", provisioned_mibps=16, hours_locked=6)
    advice = recommend(locked, PRICES)
    assert not advice.best.allowed
    assert "in 18.0 h" in advice.reasons[-1]


def test_moving_to_ia_takes_its_baseline_along():
    now = usage(4)
    then = tiered(now, 80 * GIB)
    assert recommend(now, PRICES).best.mode == "bursting"
    assert storage_cost(then, PRICES, "bursting") == pytest.approx(20 * 0.30 + 80 * 0.025)
    advice = recommend(then, PRICES)
    assert advice.best.mode == "provisioned"
    # The throughput to buy instead takes most of what storage saves.
    assert advice.best.monthly_cost == pytest.approx(20 * 0.30 + 80 * 0.025 + (4 - 1) * 6)


def test_access_to_ia_is_billed_and_a_smaller_file_system_keeps_fewer_credits():
    then = tiered(usage(4, size=2 * TIB, credit=4 * TIB), 1.5 * TIB, access_share=0.5)
    assert then.credit == pytest.approx(2.1 * TIB)
    assert then.ia_access == pytest.approx(0.5 * 4 * MIB * 3600 * HOURS)


def test_ia_is_cheaper_to_keep_in_elastic_mode():
    kept = usage(0, ia_bytes=100 * GIB)
    assert elastic(kept, PRICES).storage_cost == pytest.approx(30 + 1.6)


def test_a_history_of_some_days_costs_the_same_a_month():
    assert elastic(usage(1, hours=73), PRICES).throughput_cost == pytest.approx(elastic(usage(1), PRICES).throughput_cost)


def test_the_table_shows_currency_and_lock():
    table = recommend(usage(8), PRICES).table()
    assert "USD a month" in table and list(table["mode"]) == ["bursting", "provisioned", "elastic"]


def test_more_than_there_is_cannot_move():
    with pytest.raises(RunbookError, match="cannot move"):
        tiered(usage(1), 101 * GIB)


def test_metrics_of_different_hours_are_refused():
    with pytest.raises(RunbookError, match="different length"):
        Usage(np.zeros(3), np.zeros(2), np.zeros(3), 3600, GIB)
