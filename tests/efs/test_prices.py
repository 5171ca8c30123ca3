"""What EFS costs, against bills and the Pricing API's shape of answer."""

from __future__ import annotations

import json
from pathlib import Path

import boto3
import pytest
from botocore.stub import Stubber

from helpers.aws.errors import RunbookError
from helpers.aws.session import Aws
from helpers.efs.credits import GIB
from helpers.efs.prices import elastic_cost, gib_month, prices, provisioned_billable, provisioned_cost, read_products, table_prices

PRICING = json.loads((Path(__file__).parent / "data" / "pricing.json").read_text())
CASES = PRICING["vectors"]


def having(field):
    return [case for case in CASES if field in case]


@pytest.mark.parametrize("case", having("billable_mibps"), ids=str)
def test_provisioned_is_billed_above_the_included_baseline(case):
    asked = case["std_gb_month"], case["provisioned_mibps"]
    assert provisioned_billable(*asked) == pytest.approx(case["billable_mibps"])
    assert provisioned_cost(*asked, 6.0) == pytest.approx(case["monthly_usd"])


@pytest.mark.parametrize("case", having("gb_hours"), ids=str)
def test_storage_is_billed_by_the_hour(case):
    months = gib_month(case["gb_hours"], case["hours_in_month"])
    assert months == pytest.approx(case["gb_month"])
    assert round(months) * 0.30 == pytest.approx(case["monthly_usd_at_0_30"])


@pytest.mark.parametrize("case", having("et_read"), ids=str)
def test_elastic_is_billed_by_the_gib_moved(case):
    cost = elastic_cost(case["read_bytes"], case["write_bytes"], case["et_read"], case["et_write"])
    assert cost == pytest.approx(case["expected_usd_if_GiB"])
    assert cost == pytest.approx(case["cost_explorer_usd"], rel=0.0013)


@pytest.mark.parametrize("case", having("elastic_read_gib"), ids=str)
def test_elastic_breaks_even_with_so_much_provisioned(case):
    found = table_prices(case["region"])
    cost = elastic_cost(case["elastic_read_gib"] * GIB, case["elastic_write_gib"] * GIB, found.elastic_read, found.elastic_write)
    assert cost == pytest.approx(case["monthly_usd"])
    assert cost / found.provisioned == pytest.approx(case["provisioned_break_even_mibps_above_baseline"])


@pytest.mark.parametrize("region", ["us_east_1", "ap_northeast_1"])
def test_the_table_holds_the_recorded_prices(region):
    names = {"ia_et": "ia_elastic", "et_read": "elastic_read", "et_write": "elastic_write"}
    names |= {"ia_read": "ia_access", "ia_write": "ia_access", "archive_read": "archive_access", "archive_write": "archive_access"}
    found = table_prices(region.replace("_", "-"))
    for name, price in PRICING["price_tables"][region].items():
        assert getattr(found, names.get(name, name)) == price


def product(usage, price, family="Storage", unit="GB-Mo", currency="USD", **attributes):
    """A product as GetProducts returns it: https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_pricing_GetProducts.html"""
    rate = {"unit": unit, "endRange": "Inf", "description": f"{price} {currency} per {unit} for {usage}", "appliesTo": [], "rateCode": "A1.JRTCKXETXF.6YS6EN2CT7", "beginRange": "0"}
    term = {"priceDimensions": {"A1.JRTCKXETXF.6YS6EN2CT7": rate | {"pricePerUnit": {currency: f"{price:.10f}"}}}, "sku": "A1", "effectiveDate": "2026-10-01T00:00:00Z", "offerTermCode": "JRTCKXETXF", "termAttributes": {}}
    known = {"servicecode": "AmazonEFS", "locationType": "AWS Region", "usagetype": usage, "operation": "", "regionCode": "eu-west-1", "servicename": "Amazon Elastic File System"}
    return {"product": {"productFamily": family, "attributes": known | attributes, "sku": "A1"}, "serviceCode": "AmazonEFS", "terms": {"OnDemand": {"A1.JRTCKXETXF": term}}, "version": "20261001000000", "publicationDate": "2026-10-01T00:00:00Z"}


ANSWER = [
    product("EU-TimedStorage-ByteHrs", 0.33, storageClass="General Purpose"),
    product("EU-TimedStorage-Z-ByteHrs", 0.176, storageClass="One Zone-General Purpose"),
    product("EU-IATimedStorage-ByteHrs", 0.026, storageClass="Infrequent Access"),
    product("EU-IATimedStorage-SmallFiles", 0.026, storageClass="Infrequent Access"),
    product("EU-IADataAccess-Bytes", 0.011, unit="GB", storageClass="Infrequent Access", accessType="Read"),
    product("EU-ETDataAccess-Bytes", 0.031, unit="GB", accessType="Read"),
    product("EU-ETDataAccess-Bytes", 0.061, unit="GB", accessType="Write"),
    product("EU-ProvisionedTP-MiBpsHrs", 6.6, "Provisioned Throughput", "MiBps-Mo", throughputClass="Provisioned"),
    product("EU-ProvisionedTP-MiBpsHrs", 0, "Provisioned Throughput", "MiBps-Mo", throughputClass="Included"),
]  # fmt: skip
READ = {"standard": 0.33, "one_zone": 0.176, "ia": 0.026, "ia_access": 0.011, "elastic_read": 0.031, "elastic_write": 0.061, "provisioned": 6.6}


def test_products_are_told_apart_and_free_ones_left_out():
    assert read_products(ANSWER) == (READ, "USD")
    assert read_products(reversed(ANSWER)) == (READ, "USD")


@pytest.mark.parametrize(
    "odd",
    [
        product("USE2-TimedStorage-ByteHrs", 0.30, regionCode="us-east-2"),
        product("EU-TimedStorage-ByteHrs", 33, unit="TB-Mo"),
        product("EU-ProvisionedTP-MiBpsHrs", 0.009, "Provisioned Throughput", "MiBps-Hrs", throughputClass="Provisioned"),
        product("EU-TimedStorage-ByteHrs", 2.2, currency="CNY"),
        {"product": {"attributes": {}}},
        {"product": {"attributes": {"usagetype": "EU-TimedStorage-ByteHrs"}}, "terms": {"OnDemand": {"x": {"priceDimensions": {"y": {"unit": "GB-Mo", "pricePerUnit": {"USD": "none"}}}}}}},
        "a word",
    ],
    ids=["another region", "another unit", "by the hour", "another currency", "no terms", "no number", "no product"],
)
def test_what_does_not_belong_changes_no_price(odd):
    assert read_products([*ANSWER, odd], "eu-west-1") == (READ, "USD")


def test_another_currency_is_kept_and_said(monkeypatch):
    rest = [product("EU-IATimedStorage-ET-ByteHrs", 1, currency="CNY"), product("EU-ArchiveTimedStorage-ByteHrs", 1, currency="CNY"), product("EU-ArchiveDataAccess-Bytes", 1, unit="GB", currency="CNY", accessType="Read")]
    in_yuan = json.loads(json.dumps([*ANSWER, *rest]).replace('"USD"', '"CNY"'))
    found = prices(with_pricing(monkeypatch, in_yuan))
    assert (found.currency, found.standard) == ("CNY", 0.33)
    assert str(found).startswith("CNY in eu-west-1 (Pricing API, 20")


def with_pricing(monkeypatch, answer):
    """A session whose Pricing API gives this answer, or this error code."""
    client = boto3.client("pricing", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    stub = Stubber(client)
    if isinstance(answer, str):
        stub.add_client_error("get_products", answer)
    else:
        stub.add_response("get_products", {"PriceList": [each if isinstance(each, str) else json.dumps(each) for each in answer]})
    stub.activate()
    session = boto3.Session(region_name="eu-west-1")
    monkeypatch.setattr(session, "client", lambda *_, **__: client)
    return Aws(session, "111122223333", "eu-west-1", "arn")


def test_the_pricing_api_goes_first_and_says_what_the_table_filled_in(monkeypatch):
    found = prices(with_pricing(monkeypatch, ANSWER))
    assert (found.region, found.currency, found.standard, found.provisioned) == ("eu-west-1", "USD", 0.33, 6.6)
    assert found.source.startswith("Pricing API, 20") and "archive" in found.source


@pytest.mark.parametrize(("answer", "why"), [
    ("AccessDeniedException", "was not reached"),
    ([], "has no standard price"),
    ([each for each in ANSWER if "Provisioned" not in each["product"]["productFamily"]], "has no provisioned price"),
    ([product("USE1-TimedStorage-ByteHrs", 0.3, regionCode="us-east-1")], "has no standard price"),
    (["<html>"], "was not JSON"),
])  # fmt: skip
def test_the_table_stands_in_and_says_why(monkeypatch, answer, why):
    found = prices(with_pricing(monkeypatch, answer))
    assert found.standard == 0.30
    assert why in found.source and "of us-east-1" in found.source and found.source.startswith("table of November 2026")


def test_without_a_region_there_is_no_price():
    with pytest.raises(RunbookError, match="region"):
        prices()
