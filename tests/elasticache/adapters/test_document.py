"""The endpoint inside a text: found, changed alone, and nothing else told."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from helpers.aws import UNKNOWN
from helpers.elasticache.adapters.document import endpoint_in, with_endpoint

VALUES = some.recursive(some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False) | some.text(), lambda inner: some.lists(inner) | some.dictionaries(some.text(), inner), max_leaves=6)


@settings(max_examples=60, deadline=None)
@given(some.dictionaries(some.text(), VALUES), some.sampled_from([None, 1, "\t"]), some.booleans(), some.integers(0, 5))
def test_only_the_endpoints_own_characters_change_whatever_else_the_json_holds(other: dict, indent: int | str | None, ascii_only: bool, place: int) -> None:
    members = [item for item in other.items() if item[0] != "redis"]
    members.insert(min(place, len(members)), ("redis", "old:1"))
    text = json.dumps(dict(members), indent=indent, ensure_ascii=ascii_only)
    begin = text.index('"old:1"', text.index('"redis":'))
    assert endpoint_in(text, "redis") == "old:1"
    assert with_endpoint(text, "redis", "new:22") == f'{text[:begin]}"new:22"{text[begin + 7 :]}'


def test_the_last_of_two_equal_keys_counts_as_for_every_parser() -> None:
    text = '{"redis": "a:1", "redis": "b:2"}'
    assert endpoint_in(text, "redis") == "b:2"
    assert with_endpoint(text, "redis", "c:3") == '{"redis": "a:1", "redis": "c:3"}'


def test_numbers_and_blanks_stay_as_they_were_written() -> None:
    text = ' {\n"n" : 1.00e2 ,"redis":"a:1","big":123456789012345678901234567890.10}\n'
    assert with_endpoint(text, "redis", "b:2") == text.replace("a:1", "b:2")


@pytest.mark.parametrize(("port", "after"), [("6379", "6380"), ('"6379"', '"6380"')])
def test_host_and_port_both_change_and_the_port_keeps_its_type(port: str, after: str) -> None:
    text = f'{{"port": {port}, "password": "x", "host": "a.b"}}'
    assert endpoint_in(text, "") == "a.b:6379"
    assert with_endpoint(text, "", "c.d:6380") == f'{{"port": {after}, "password": "x", "host": "c.d"}}'


def test_plain_text_keeps_the_blanks_around_it() -> None:
    assert endpoint_in("a:1\n", "") == "a:1"
    assert with_endpoint("a:1\n", "", "b:2") == "b:2\n"


@pytest.mark.parametrize(
    ("text", "key", "told"),
    [
        ('{"redis": ', "redis", "(no JSON object)"),
        ("a:1", "redis", "(no JSON object)"),
        ('["a:1"]', "redis", "(no JSON object)"),
        ('{"other": "s3cret:1"}', "redis", "(JSON without the key 'redis')"),
        ('{"url": "s3cret:1"}', "", "(JSON without the keys host and port: name the one key that holds host:port as #key)"),
        ('{"redis": "s3cret"}', "redis", "(something that is no host:port)"),
        ('{"redis": {"s3cret": 1}}', "redis", "(something that is no host:port)"),
        ('{"redis": "rediss://u:s3cret@a:1/0"}', "redis", "(something that is no host:port)"),
        ('{"host": ["s3cret"], "port": 1}', "", "(something that is no host:port)"),
        ("s3cret", "", "(something that is no host:port)"),
        ("", "", "(something that is no host:port)"),
        ("s3cret with: 1", "", "(something that is no host:port)"),
    ],
)
def test_a_text_without_an_endpoint_says_why_and_shows_nothing_of_itself(text: str, key: str, told: str) -> None:
    assert endpoint_in(text, key) == told


def test_an_endpoint_that_a_plan_does_not_know_yet_is_one() -> None:
    unknown = f"{UNKNOWN}:{UNKNOWN}"
    for text, key in (("a:1", ""), ('{"k": "a:1"}', "k"), ('{"host": "a", "port": 1}', "")):
        assert endpoint_in(with_endpoint(text, key, unknown), key) == unknown
