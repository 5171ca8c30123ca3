"""The engine's quirks, one by one; test_cases.py has what AWS and the engine have decided."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.eventbridge.events import InvalidEvent
from helpers.eventbridge.matching import matches
from helpers.eventbridge.patterns import InvalidPattern

ENVELOPE = {
    "id": "1",
    "source": "s",
    "detail-type": "t",
    "account": "1",
    "time": "2026-01-01T00:00:00Z",
    "region": "eu-west-1",
}


def passes(tests: Any, value: Any) -> bool:
    return matches({"a": tests}, {"a": value})


def test_exists_false_in_an_array_asks_about_the_element_found_by_the_fields_that_sort_before_it() -> None:
    event = {"items": [{"b": "x", "a": "1", "c": "1"}, {"b": "y"}]}
    assert matches({"items": {"b": ["y"], "c": [{"exists": False}]}}, event)
    assert not matches({"items": {"b": ["y"], "a": [{"exists": False}]}}, event)


def test_the_values_that_pass_come_from_one_element_of_each_array() -> None:
    event = {"tags": [{"k": "a", "v": 1}, {"k": "b", "v": 2}]}
    assert matches({"tags": {"k": ["a"], "v": [1]}}, event)
    assert not matches({"tags": {"k": ["a"], "v": [2]}}, event)


def test_exists_true_is_true_of_scalars_only() -> None:
    assert passes([{"exists": True}], None)
    assert not passes([{"exists": True}], {"b": 1}) and not passes([{"exists": True}], [])


def test_an_address_is_matched_in_any_spelling_and_blinds_the_other_tests_of_its_list() -> None:
    assert passes(["::1"], "0:0:0:0:0:0:0:1")
    assert passes(["10.0.0.1"], "::ffff:a00:1")
    assert passes([{"prefix": "10."}], "10.0.0.7") and not passes([{"prefix": "10."}, "10.0.0.1"], "10.0.0.7")
    assert not passes([5, "10.0.0.1"], "10.0.0.1")


def test_numbers_are_compared_as_numbers_where_a_double_holds_them_and_as_written_where_not() -> None:
    assert matches('{"a":[300]}', '{"a":3.0e2}')
    assert not matches('{"a":[12345678901234567890]}', '{"a":1.2345678901234567890e19}')
    assert matches('{"a":[12345678901234567890]}', '{"a":12345678901234567890}')
    assert not matches('{"a":[{"numeric":[">",0]}]}', '{"a":12345678901234567890}')
    assert matches('{"a":[{"numeric":["=",-0.0]}]}', '{"a":0}')


def test_case_is_folded_a_utf_16_unit_at_a_time() -> None:
    assert passes([{"equals-ignore-case": "straße"}], "STRASSE")
    assert not passes([{"equals-ignore-case": "😀"}], "😀")


def test_the_bytes_of_a_wildcard_part_must_not_overlap() -> None:
    assert passes([{"wildcard": "a*ab*b"}], "aabb") and not passes([{"wildcard": "a*ab*b"}], "aab")
    assert passes([{"wildcard": "a\\*b"}], "a*b") and not passes([{"wildcard": "a\\*b"}], "axb")


def test_any_value_of_a_repeated_key_matches_and_a_dotted_key_is_a_nested_one() -> None:
    assert matches({"a": ["1"]}, '{"a":"0","a":"1"}')
    assert matches({"a": {"b": ["1"]}}, {"a.b": "1"}) and matches({"a.b": ["1"]}, {"a": {"b": "1"}})


def test_a_value_beside_an_array_counts_where_its_path_has_none_in_the_element_found() -> None:
    pattern = '{"a":{"b":[1],"c":[2]}}'
    assert matches(pattern, '{"a":[{"b":1}],"a.c":2}')
    assert not matches(pattern, '{"a":[{"b":1,"c":9}],"a.c":2}')
    assert not matches(pattern, '{"a":[{"b":1},{"c":9}],"a":{"c":2}}')
    absent = '{"a":{"b":[1],"c":[{"exists":false}]}}'
    assert matches(absent, '{"a":[{"b":1},{"c":9}]}')
    assert not matches(absent, '{"a":[{"b":1},{"c":9}],"a":{"c":2}}')


def test_an_alternative_that_shares_a_value_with_an_earlier_one_loses_its_others() -> None:
    pattern = {"$or": [{"a": ["x", "y"]}, {"a": ["y", "z"]}]}
    assert [matches(pattern, {"a": value}) for value in "xyz"] == [True, True, False]


def test_what_stands_behind_the_closing_brace_does_not_matter() -> None:
    assert matches('{"a":["x"]} trailing', ' {"a":"x"}} also')


def test_a_python_object_is_matched_as_its_json() -> None:
    assert matches({"a": [True]}, {"a": True}) and not matches({"a": [1]}, {"a": True})
    assert matches(b'{"a":["\xc3\xa9"]}', {"a": "é"})


def test_only_an_event_with_an_envelope_meets_the_limits_of_the_service() -> None:
    pattern = {"detail": {"arn": [{"wildcard": "*:*:*:*:*:event-bus/*"}]}}
    assert not matches(pattern, {"detail": {"arn": "x"}})
    with pytest.raises(InvalidPattern, match="Rule is too complex"):
        matches(pattern, {**ENVELOPE, "detail": {"arn": "x"}})


@pytest.mark.parametrize(
    ("event", "text"),
    [
        ("[]", "Event must be a JSON object"),
        ("", "Event must be a JSON object"),
        ('{"a":', "The event is not JSON: Unexpected end-of-input"),
        ('{"a":NaN}', "Non-standard token 'NaN'"),
        ({"a": float("inf")}, "Non-standard token 'Infinity'"),
        (b"\xff", "not UTF-8"),
        ({"a": {1}}, "cannot be written as JSON"),
        ({"a": "x" * 1_100_000}, "1,100,009 bytes; EventBridge takes entries under 1,048,576"),
        ('{"a":1' + "0" * 1_000 + "}", "Number value length"),
    ],
)
def test_an_event_that_is_none_is_refused_with_a_sentence_and_a_remedy(event: Any, text: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        matches({"a": ["x"]}, event)
    assert text in caught.value.what


def test_an_empty_list_that_the_engine_fails_on_is_told_apart_from_a_match() -> None:
    with pytest.raises(InvalidEvent, match="anything-but-prefix list is empty"):
        matches({"a": [{"anything-but": {"prefix": []}}]}, {"a": "x"})
    assert matches({"a": ["y", {"anything-but": {"prefix": []}}]}, {"a": "x"})


elements = st.lists(st.fixed_dictionaries({}, optional={name: st.sampled_from("xy") for name in "abc"}), max_size=30)


@given(elements, elements)
def test_long_arrays_are_matched_element_by_element(first: list[dict[str, str]], second: list[dict[str, str]]) -> None:
    event = {"items": [{"list": first}, {"list": second}]}
    both = any(one.get("a") == "x" and one.get("c") == "y" for one in first + second)
    assert matches({"items": {"list": {"a": ["x"], "c": ["y"]}}}, event) == both
    alone = any(one.get("a") == "x" and "b" not in one for one in first + second)
    assert matches({"items": {"list": {"a": ["x"], "b": [{"exists": False}]}}}, event) == alone


def test_ten_thousand_values_of_an_array_are_matched_at_once() -> None:
    assert matches({"a": ["9999"], "b": ["x"]}, {"a": [str(number) for number in range(10_000)], "b": "x"})
