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


def product(usage, price, family="Storage", **attributes):
    dimension = {"priceDimensions": {"d": {"pricePerUnit": {"USD": str(price)}}}}
    return {"product": {"productFamily": family, "attributes": {"usagetype": usage, **attributes}}, "terms": {"OnDemand": {"t": dimension}}}


ANSWER = [
    product("EU-TimedStorage-ByteHrs", 0.33),
    product("EU-IATimedStorage-ByteHrs", 0.026),
    product("EU-ETDataAccess-Bytes", 0.031, accessType="Read"),
    product("EU-ETDataAccess-Bytes", 0.061, accessType="Write"),
    product("EU-ProvisionedTP-MiBpsHrs", 6.6, "Provisioned Throughput", throughputClass="Provisioned"),
    product("EU-ProvisionedTP-MiBpsHrs", 0, "Provisioned Throughput", throughputClass="Included"),
]


def test_products_are_told_apart_and_free_ones_left_out():
    wanted = {"standard": 0.33, "ia": 0.026, "elastic_read": 0.031, "elastic_write": 0.061, "provisioned": 6.6}
    assert read_products(ANSWER) == (wanted, "USD")


def with_pricing(monkeypatch, answer):
    """A session whose Pricing API gives this answer, or this error code."""
    client = boto3.client("pricing", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    stub = Stubber(client)
    if isinstance(answer, str):
        stub.add_client_error("get_products", answer)
    else:
        stub.add_response("get_products", {"PriceList": [json.dumps(each) for each in answer]})
    stub.activate()
    session = boto3.Session(region_name="eu-west-1")
    monkeypatch.setattr(session, "client", lambda *_, **__: client)
    return Aws(session, "111122223333", "", "eu-west-1", "arn")


def test_the_pricing_api_goes_first_and_says_what_the_table_filled_in(monkeypatch):
    found = prices(with_pricing(monkeypatch, ANSWER))
    assert (found.region, found.currency, found.standard, found.provisioned) == ("eu-west-1", "USD", 0.33, 6.6)
    assert found.source.startswith("Pricing API, 20") and "archive" in found.source


@pytest.mark.parametrize(("answer", "why"), [("AccessDeniedException", "was not reached"), ([], "has no standard price")])
def test_the_table_stands_in_and_says_why(monkeypatch, answer, why):
    found = prices(with_pricing(monkeypatch, answer))
    assert found.standard == 0.30
    assert why in found.source and "of us-east-1" in found.source


def test_without_a_region_there_is_no_price():
    with pytest.raises(RunbookError, match="region"):
        prices()
