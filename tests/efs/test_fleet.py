"""Reviews of the made-up fleet: what is refused, what comes first, and what the sentences say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helpers.aws import RunbookError
from helpers.efs import figures, sample, source
from helpers.efs.fleet import closer, fleet
from helpers.efs.metrics import History
from helpers.efs.prices import table_prices
from helpers.efs.review import NOTHING, RUNS_OUT, SAVES, THROTTLED, UNEXPLAINED, review, what_if_tiered

SYSTEMS, HOURS = sample.fleet()
PRICES = table_prices("us-east-1")
REPORT = fleet(SYSTEMS, HOURS, PRICES)
BY_NAME = {one.file_system.name: one for one in REPORT.reviews}


def only(history: History, **values: np.ndarray) -> History:
    return replace(history, values={**history.values, **values})


def test_the_made_up_fleet_is_always_the_same():
    again = sample.fleet()[1]
    assert all(np.array_equal(again.values[name], HOURS.values[name], equal_nan=True) for name in HOURS.values)


def test_what_hurts_comes_first_and_what_needs_nothing_last():
    urgencies = [one.urgency for one in REPORT.reviews]
    assert urgencies[0] == THROTTLED and urgencies[-1] == NOTHING
    assert (BY_NAME["web-assets"].urgency, BY_NAME["ml-features"].urgency) == (RUNS_OUT, SAVES)
    assert REPORT.table()["file system"].tolist() == [one.file_system.name for one in REPORT.reviews]


def test_a_throttled_file_system_is_not_sized_from_its_ceiling():
    one = BY_NAME["build-cache"]
    assert one.advice.best.mode == "elastic"
    assert "demand unknown, at least" in one.runs_out
    assert REPORT.table().set_index("file system").loc["build-cache", "advised"] == "demand unknown"


@pytest.mark.parametrize("factor", [2**30 / 10**9, 1.4], ids=["GB for GiB", "IA counted in"])
def test_no_advice_is_given_where_a_wrong_size_does_not_explain_the_balance(factor):
    wrong = only(HOURS, standard=HOURS.values["standard"] * factor)
    one = review(SYSTEMS[0], wrong, PRICES)
    assert one.advice is None and one.forecast is None and one.urgency == UNEXPLAINED
    assert "no advice" in one.refusal and one.to_do == "look at the metrics first"
    assert not one.agreement.agrees


def test_elastic_has_a_gap_for_a_balance_and_no_credits_to_run_out():
    one = BY_NAME["ml-features"]
    assert np.isnan(one.balance).all() and one.forecast is None
    assert one.runs_out == "Elastic: no credits to run out."
    assert one.saving == pytest.approx(one.cost_now - one.advice.best.monthly_cost)


def test_a_gap_in_the_balance_is_no_end_of_the_credits():
    column = HOURS.ids.index(SYSTEMS[0].id)
    balance = HOURS.values["balance"].copy()
    balance[300:400, column] = np.nan
    one = review(SYSTEMS[0], only(HOURS, balance=balance), PRICES)
    assert one.throttled_hours == 0 and one.agreement.agrees
    assert one.forecast.p50 == BY_NAME["web-assets"].forecast.p50


def test_a_file_system_without_metrics_is_named_and_the_others_are_reviewed():
    column = 2
    silent = {name: values.copy() for name, values in HOURS.values.items()}
    for values in silent.values():
        values[:, column] = np.nan
    found = fleet(SYSTEMS, replace(HOURS, values=silent), PRICES)
    assert len(found.reviews) == len(SYSTEMS) - 1
    assert found.left_out[0].startswith("CloudWatch has no metrics of home-directories")


def test_bursting_without_any_balance_gets_no_advice():
    one = review(SYSTEMS[0], only(HOURS, balance=np.full(HOURS.metered().shape, np.nan)), PRICES)
    assert one.advice is None and one.urgency == UNEXPLAINED
    assert one.runs_out.startswith("When the credits run out is not known. CloudWatch has no BurstCreditBalance of web-assets")


def test_a_metric_that_was_not_read_is_named():
    lacking = replace(HOURS, values={name: values for name, values in HOURS.values.items() if name != "metadata"})
    with pytest.raises(RunbookError, match="no MetadataIOBytes"):
        review(SYSTEMS[0], lacking, PRICES)


def test_a_file_system_that_was_not_read_is_named():
    with pytest.raises(RunbookError, match="No metrics of fs-00000000 were read"):
        review(replace(SYSTEMS[0], id="fs-00000000"), HOURS, PRICES)


def test_a_day_of_history_says_so_instead_of_a_date():
    day = replace(HOURS, values={name: values[-30:] for name, values in HOURS.values.items()})
    assert "1 whole days of history say nothing" in review(SYSTEMS[0], day, PRICES).runs_out


def test_an_empty_file_system_is_reviewed():
    nothing = {name: np.zeros_like(values) for name, values in HOURS.values.items()} | {"balance": np.full(HOURS.metered().shape, 2.1 * 2**40)}
    one = review(replace(SYSTEMS[0], standard_bytes=0.0), replace(HOURS, values=nothing), PRICES)
    assert (one.cost_now, one.urgency) == (0.0, NOTHING)


def test_minutes_show_peaks_that_hours_average_away():
    made_up = source.open_fleet()
    named = {one.name: one.id for one in made_up.file_systems}
    finer = closer(REPORT, made_up.minutes([named["ci-workspaces"]], days=4))
    sized = {one.file_system.name: one for one in finer.reviews}
    assert sized["ci-workspaces"].advice.best.mibps > BY_NAME["ci-workspaces"].advice.best.mibps
    assert sized["web-assets"] == BY_NAME["web-assets"]


def test_the_saving_counts_only_those_where_nothing_else_is_wrong():
    assert REPORT.saving == pytest.approx(sum(BY_NAME[name].saving for name in ("ml-features", "ci-workspaces")))
    assert f"{REPORT.saving:,.0f} can be saved" in REPORT.finding
    assert REPORT.remedies > 0


def test_what_moves_to_ia_takes_its_baseline_along():
    rows = what_if_tiered(BY_NAME["web-assets"], PRICES)
    assert rows["baseline, MiB/s"].tolist() == ["8.8", "6.6", "4.4"]


def test_figures_state_their_findings_and_label_both_axes():
    one = BY_NAME["web-assets"]
    hours = source.open_one().hours(names=("read", "write", "metadata", "balance", "standard", "permitted"))
    drawn = [figures.draw_balance(one), figures.draw_throughput(one, hours), figures.draw_burn_down(one), figures.draw_modes(one), figures.draw_costs(REPORT.reviews)]
    for figure in drawn:
        assert any(character.isdigit() for character in figure.axes[0].get_title())
        assert figure.axes[-1].get_xlabel() and all(axes.get_ylabel() for axes in figure.axes)
    assert one.day(one.forecast.p50) in drawn[2].axes[0].get_title()


def test_a_figure_of_what_has_no_balance_says_so():
    assert "no balance" in figures.draw_balance(BY_NAME["ml-features"]).axes[0].get_title()
    assert "no credits to run out" in figures.draw_burn_down(BY_NAME["ml-features"]).axes[0].get_title()


def test_sentences_stand_to_the_left_and_ranks_beside_them():
    shown = figures.Sentences(REPORT.first())._repr_html_()
    assert "<td style=\"text-align: left\">" in shown and "rank" in shown
    assert ">0</th>" not in figures.Sentences(REPORT.checks())._repr_html_()


def test_a_report_of_no_file_system_is_a_sentence():
    with pytest.raises(RunbookError, match="is no id of a file system"):
        source.file_systems.describe(None, "fs-xyz")
