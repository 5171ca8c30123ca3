"""Reading CloudWatch: pages, gaps, time zones, the price beforehand, and the balance at the end of an hour."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Any

import boto3
import numpy as np
import pytest
from botocore.stub import Stubber

from helpers.aws import Aws, RunbookError
from helpers.efs import metrics, sample
from helpers.efs.agreement import check_balance

END = datetime(2026, 11, 1, tzinfo=timezone.utc)
IDS = [f"fs-{number:08x}" for number in range(101)]  # 505 metrics of triage: two calls


class CloudWatch:
    """Answers GetMetricData in pages of 300 metrics with the hour's number as value, and remembers what it was asked."""

    def __init__(self, zone: timezone = timezone.utc, missing: frozenset[int] = frozenset()) -> None:
        self.zone, self.missing, self.asked = zone, missing, []

    def get_metric_data(self, **asked: Any) -> dict[str, Any]:
        self.asked.append(asked)
        queries, first = asked["MetricDataQueries"], int(asked.get("NextToken", 0))
        hours = [hour for hour in range(72) if hour not in self.missing]
        times = [(asked["StartTime"] + timedelta(hours=hour)).astimezone(self.zone) for hour in hours]
        results = [{"Id": each["Id"], "Timestamps": times, "Values": [float(hour) for hour in hours]} for each in queries[first : first + 300]]
        return {"MetricDataResults": results} | ({"NextToken": str(first + 300)} if first + 300 < len(queries) else {})


class Session(Aws):
    """A session whose only client is the given one."""

    def __new__(cls, client: Any) -> Any:
        made = object.__new__(cls)
        object.__setattr__(made, "given", client)
        return made

    def __init__(self, client: Any) -> None:
        """The fields of a real session are not needed."""

    def client(self, service: str) -> Any:
        assert service == "cloudwatch"
        return self.given


def test_five_hundred_queries_go_into_a_call_and_every_page_is_read():
    cloudwatch = CloudWatch()
    history = metrics.read(Session(cloudwatch), IDS, 3, END)
    assert [len(each["MetricDataQueries"]) for each in cloudwatch.asked] == [500, 500, 5]
    assert [each.get("NextToken") for each in cloudwatch.asked] == [None, "300", None]
    assert all((values == np.arange(72)[:, None]).all() for values in history.values.values())
    assert history.start == END - timedelta(days=3)


def test_statistics_and_dimensions_are_those_of_each_metric():
    cloudwatch = CloudWatch()
    metrics.read(Session(cloudwatch), IDS[:1], 3, END, names=metrics.WHOLE)
    asked = {each["MetricStat"]["Metric"]["MetricName"]: each["MetricStat"] for each in cloudwatch.asked[0]["MetricDataQueries"]}
    assert {name: each["Stat"] for name, each in asked.items()} == {
        "DataReadIOBytes": "Sum",
        "DataWriteIOBytes": "Sum",
        "MetadataIOBytes": "Sum",
        "BurstCreditBalance": "Minimum",
        "PermittedThroughput": "Average",
        "StorageBytes": "Average",
    }
    assert {"Name": "StorageClass", "Value": "Standard"} in asked["StorageBytes"]["Metric"]["Dimensions"]
    assert not any("Expression" in each for each in cloudwatch.asked[0]["MetricDataQueries"])


def test_botocore_accepts_the_queries():
    client = boto3.client("cloudwatch", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    with Stubber(client) as stub:
        stub.add_response("get_metric_data", {"MetricDataResults": []})
        assert metrics.read(Session(client), IDS[:2], 3, END).silent() == IDS[:2]


def test_a_gap_is_a_gap_and_not_zero_but_no_io_is_no_io():
    history = metrics.read(Session(CloudWatch(missing=frozenset(range(10, 20)))), IDS[:1], 3, END)
    assert np.isnan(history.values["balance"][10:20]).all()
    assert (history.metered()[10:20] == 0).all()
    assert (history.sizes([1.0])[10:20] == 9).all()


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/St_Johns"])
def test_times_are_utc_whatever_the_zone_of_the_machine_and_of_the_answer(monkeypatch, zone):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        history = metrics.read(Session(CloudWatch(timezone(timedelta(hours=9)))), IDS[:1], 3, END.astimezone(timezone(timedelta(hours=-3))))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert str(history.frame(IDS[0]).index[0]) == "2026-10-29 00:00:00+00:00"
    assert (history.values["read"][:, 0] == np.arange(72)).all()


def test_an_end_without_a_zone_is_refused():
    with pytest.raises(RunbookError, match="no time zone"):
        metrics.read(Session(CloudWatch()), IDS[:1], 3, END.replace(tzinfo=None))


def test_minutes_are_not_asked_for_longer_than_cloudwatch_keeps_them():
    with pytest.raises(RunbookError, match="60 s for 15 days"):
        metrics.read(Session(CloudWatch()), IDS[:1], 30, END, 60)


def test_the_price_of_ten_thousand_file_systems_is_said_beforehand():
    cost = metrics.estimate(10_000, 30, names=("read", "write", "metadata", "balance"))
    assert (cost.metrics, cost.calls, cost.pages) == (40_000, 80, 286)
    assert cost.usd == pytest.approx(0.40)
    assert "0.4000 USD" in str(cost)


def test_the_balance_of_hours_is_explained_though_it_is_the_lowest_of_each():
    systems, history = sample.fleet()
    sizes = [one.standard_bytes for one in systems]
    ends, metered = metrics.balance_at_end(history, sizes), history.metered()
    column = [one.name for one in systems].index(sample.HOME)
    exact = check_balance(ends[:, column], metered[:, column], sizes[column], 3600)
    lowest = check_balance(history.values["balance"][:, column], metered[:, column], sizes[column], 3600)
    assert exact.agrees and exact.steps > 400
    assert abs(exact.share) < 0.001 < abs(lowest.share)


def test_only_those_with_a_low_balance_or_demand_above_the_baseline_are_flagged():
    systems, history = sample.fleet()
    names = {one.id: one.name for one in systems}
    found = {names[one] for one in metrics.flagged(history, [one.standard_bytes for one in systems])}
    assert {"web-assets", "build-cache", "media-ingest"} <= found
    assert not {"home-directories", "wordpress", "archive-intake", "ml-features"} & found
