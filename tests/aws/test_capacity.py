"""The rows that the notebooks record are the findings of the notebooks' own functions."""

from __future__ import annotations

import json

import pytest

from helpers.aws import capacity as shared
from helpers.aws.capacity import AT_LIMIT, FITS, LITTLE_LEFT, RUNS_OUT, SAVES


def test_what_a_cell_shows_carries_its_rows_for_programs():
    from helpers.ecr import capacity, storage

    registry = storage.open_registry()
    savings = registry.savings()
    shown = capacity.record(registry, savings)._repr_mimebundle_()
    assert "<table" in shown["text/html"] and shared.read([{"data": shown}, {"text": "nothing"}]) == json.loads(json.dumps(shown[shared.MIME]))
    rows = [shared.of_json({**one, "added_later": 1}) for one in shown[shared.MIME]]
    assert {one.resource for one in rows} == {one.repository for one in registry.repositories} and all(one.made_up for one in rows)
    assert sum(one.saving for one in rows) == pytest.approx(sum(one.monthly for one in savings.values() if one.monthly > 1))
    assert sum(one.cost_now for one in rows) == pytest.approx(registry.prices.monthly(registry.stored))


def test_file_systems_cost_and_save_what_the_report_on_all_of_them_says():
    from helpers.efs import capacity, fleet, metrics, source

    found = source.open_fleet()
    history = found.hours()
    hourly = fleet.fleet(found.file_systems, history, found.prices)
    report = fleet.closer(hourly, found.minutes(metrics.flagged(history, [one.standard_bytes for one in found.file_systems])))
    rows = {one.resource: one for one in capacity.record(found, report.reviews, ["CloudWatch has no metrics of fs-0123 in these 720 steps."]).rows}
    assert sum(one.cost_now or 0 for one in rows.values()) == pytest.approx(report.cost_now)
    assert sum(one.saving for one in rows.values() if one.verdict == SAVES) == pytest.approx(report.saving)
    assert -sum(one.saving for one in rows.values() if one.verdict in (RUNS_OUT, LITTLE_LEFT)) == pytest.approx(report.remedies)
    web, review = rows["web-assets"], next(one for one in report.reviews if one.file_system.name == "web-assets")
    assert web.verdict == RUNS_OUT and (web.p10, web.p50, web.p90) == tuple(review.day(one) for one in (review.forecast.p10, review.forecast.p50, review.forecast.p90))
    assert web.measured > web.allowance and web.headroom < 0 and web.recommended == review.to_do
    assert rows["build-cache"].verdict == AT_LIMIT and rows["build-cache"].cost_then is None  # demand is not known
    assert rows["wordpress"].verdict == FITS and rows["wordpress"].ends == "not within 180 days" and rows["ml-features"].no_day == "no credits to run out"
    left_out = rows["a file system"]
    assert left_out.verdict == shared.NO_ADVICE and "no metrics of fs-0123" in left_out.note


def test_a_group_has_the_limit_that_is_nearest_and_the_day_its_memory_is_full():
    from helpers.elasticache import capacity
    from helpers.elasticache.capacity.sizing import limits

    source = capacity.open_source()
    found = capacity.review(source.cluster, source.history(28))
    sizing = capacity.size(found, source.prices)
    (row,) = capacity.record(source, sizing).rows
    assert (row.verdict, row.limit, row.headroom) == (AT_LIMIT, "network baseline", 0)  # packets were held back: what was wanted is not known
    assert (row.p10, row.p50, row.p90) == tuple(found.day(one) for one in (found.full.p10, found.full.p50, found.full.p90))
    assert (row.cost_now, row.cost_then, row.recommended) == (sizing.now.monthly_cost, sizing.best.monthly_cost, "take cache.r6g.xlarge")
    assert row.seen_until == "2026-11-01T00:00+00:00" and "held back" in row.note
    short = {one.name for one in limits(sizing.now.type, sizing.now.usable, found.need) if not one.holds(0.2)}
    assert short == set(sizing.now.lacks)
