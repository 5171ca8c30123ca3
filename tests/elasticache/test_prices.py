"""What nodes cost, against the Pricing API's shape of answer and the dated table."""

from __future__ import annotations

import json

import boto3
import pytest
from botocore.stub import Stubber

from helpers.aws.session import Aws
from helpers.elasticache.node_types import NODE_TYPES
from helpers.elasticache.prices import TABLE, prices, read_products, table_prices


def product(engine, usage, *usd):
    dimensions = {str(number): {"pricePerUnit": {"USD": str(price)}} for number, price in enumerate(usd)}
    return {"product": {"productFamily": "Cache Instance", "attributes": {"cacheEngine": engine, "usagetype": usage}}, "terms": {"OnDemand": {"t": {"priceDimensions": dimensions}}}}


ANSWER = [
    product("Redis", "APN1-NodeUsage:cache.r6g.large", 0, 0.247),
    product("Valkey", "APN1-NodeUsage:cache.r6g.large", 0.1976),
    product("Memcached", "APN1-NodeUsage:cache.r6g.large", 0.3),
    product("Redis", "APN1-Outpost-NodeUsage:cache.r6g.large", 9.9),
    product("Redis", "APN1-ExtendedSupportYr1-NodeUsage:cache.r6g.large", 9.8),
    product("Redis", "NodeUsage:cache.m7g.large", 0.158),
]


class Session:
    """A boto3 session whose only client is the given one."""

    def __init__(self, client):
        self._client = client

    def client(self, service, **_):
        assert service == "pricing"
        return self._client


@pytest.fixture
def asked():
    client = boto3.client("pricing", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    with Stubber(client) as stub:
        yield Aws(Session(client), "1", "ap-northeast-1", "me"), stub


def test_node_hours_are_read_by_engine_and_other_lines_are_left_out():
    assert read_products(ANSWER) == ({"redis": {"cache.r6g.large": 0.247, "cache.m7g.large": 0.158}, "valkey": {"cache.r6g.large": 0.1976}}, "USD")


def test_the_api_is_asked_for_the_nodes_of_the_sessions_region(asked):
    aws, stub = asked
    for engine in ("Redis", "Valkey"):
        wanted = {"regionCode": "ap-northeast-1", "productFamily": "Cache Instance", "cacheEngine": engine}
        filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in wanted.items()]
        listed = [json.dumps(one) for one in ANSWER if one["product"]["attributes"]["cacheEngine"] == engine]
        stub.add_response("get_products", {"PriceList": listed}, {"ServiceCode": "AmazonElastiCache", "Filters": filters})
    found = prices(aws)
    assert found.monthly("redis", "cache.r6g.large", 2) == pytest.approx(0.247 * 730 * 2)
    assert found.monthly("valkey", "cache.m7g.large") is None
    assert found.source.startswith("Pricing API, 20")


def test_where_the_api_refuses_the_table_serves_and_says_of_which_region_it_is(asked):
    aws, stub = asked
    stub.add_client_error("get_products", "AccessDeniedException", "no")
    found = prices(aws)
    assert found.monthly("redis", "cache.r6g.large") == pytest.approx(0.206 * 730)
    assert "table of October 2026; of us-east-1, because ap-northeast-1 is not in it" in str(found) and "AccessDeniedException" in str(found)


def test_an_answer_without_an_engine_is_no_price_list(asked):
    aws, stub = asked
    stub.add_response("get_products", {"PriceList": [json.dumps(ANSWER[0])]})
    stub.add_response("get_products", {"PriceList": []})
    assert "no price of valkey nodes" in prices(aws).source


def test_the_table_has_every_node_type_that_is_sized_on_each_engine_that_runs_on_it():
    missing = [(engine, one.name) for one in NODE_TYPES.values() for engine in one.engines if one.name not in TABLE[engine]]
    assert missing == []
    assert set(TABLE["valkey"]) == set(NODE_TYPES)


def test_valkey_costs_a_fifth_less_than_redis():
    found = table_prices("us-east-1")
    assert found.monthly("valkey", "cache.r7g.large") == pytest.approx(0.1752 * 730)
