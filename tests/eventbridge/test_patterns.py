"""Parsing of patterns, with AWS's texts for what is invalid."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from helpers.eventbridge.complexity import complexity
from helpers.eventbridge.patterns import InvalidPattern, Test, parse


def refused(pattern: Any) -> InvalidPattern:
    with pytest.raises(InvalidPattern) as caught:
        parse(pattern)
    return caught.value


def test_or_makes_one_alternative_a_branch_and_multiplies() -> None:
    found = parse(
        {"s": ["x"], "$or": [{"a": [1]}, {"b": [True]}], "d": {"$or": [{"e": [None]}, {"f": ["y"]}]}}
    ).alternatives
    assert [sorted(rule) for rule in found] == [
        ["a", "d.e", "s"],
        ["b", "d.e", "s"],
        ["a", "d.f", "s"],
        ["b", "d.f", "s"],
    ]
    assert found[0] == {"s": (Test("exact", "x"),), "a": (Test("number", "1"),), "d.e": (Test("exact", None),)}


def test_a_test_is_written_again_as_it_stands_in_a_pattern() -> None:
    written = (
        '[1.50,"x",null,true,"10.0.0.1",{"cidr":"10.0.0.0/8"},{"prefix":{"equals-ignore-case":"q"}},{"wildcard":"a*"},{"exists":false},'
        '{"anything-but":["x","y"]},{"anything-but":3},{"anything-but":{"suffix":"z"}},{"numeric":[">",1,"<=",5.0]}]'
    )
    tests = parse('{"a":' + written + "}").alternatives[0]["a"]
    assert parse('{"a":[' + ",".join(test.source for test in tests) + "]}").alternatives[0]["a"] == tests
    assert {test.kind for test in tests} >= {
        "number",
        "exact",
        "address",
        "cidr",
        "prefix-equals-ignore-case",
        "anything-but-number",
    }


def test_the_last_list_of_a_path_counts_and_is_told() -> None:
    found = parse('{"a":["1"],"b":{"c":["x"]},"b.c":["y"],"a":["2"]}')
    assert found.alternatives == ({"a": (Test("exact", "2"),), "b.c": (Test("exact", "y"),)},)
    assert found.overwritten == ("b.c", "a")


def test_or_that_is_no_alternative_is_the_name_of_a_field() -> None:
    found = parse('{"$or":{"a":[1]}}')
    assert list(found.alternatives[0]) == ["$or.a"]
    assert found.or_fault == "It must be an Array followed with $or."


@pytest.mark.parametrize(
    ("nested", "taken"),
    [('{"prefix":"x"}', True), ('{"equals-ignore-case":["x"]}', True), ('{"prefix":["x"]}', False), ('{"suffix":["x"]}', False), ('{"wildcard":"x*"}', False)],
)  # fmt: skip
def test_where_or_is_the_name_of_a_field_only_the_older_forms_of_anything_but_are_taken(nested: str, taken: bool) -> None:
    pattern = '{"$or":{"a":[1]},"b":[{"anything-but":' + nested + "}]}"
    if taken:
        assert parse(pattern).or_fault
    else:
        assert refused(pattern).what == "It must be an Array followed with $or."


@pytest.mark.parametrize("literal", ["1e99999999999", "0e99999999999", "-1.5e-2147483648"])
def test_a_power_of_ten_beyond_32_bits_is_refused_with_the_text_of_awss_parser(literal: str) -> None:
    assert refused('{"a":[{"numeric":["=",' + literal + "]}]}").what == "value exceeds limits"
    assert refused('{"a":[{"anything-but":' + literal + "}]}").what == "value exceeds limits"
    assert parse('{"a":[' + literal + "]}")


@pytest.mark.parametrize(
    ("pattern", "corrected"),
    [
        ('{"source": "aws.amplify"}', {"source": ["aws.amplify"]}),
        ({"source": "x", "detail": {"n": 5}}, {"source": ["x"], "detail": {"n": [5]}}),
        ({"source": {"prefix": "aws."}}, {"source": [{"prefix": "aws."}]}),
        ("{'source': ['x']}", {"source": ["x"]}),
        ('{"source": ["x"],}', {"source": ["x"]}),
        ({"a": [["x", "y"]]}, {"a": ["x", "y"]}),
        ({"a": [{"Prefix": "x"}]}, {"a": [{"prefix": "x"}]}),
        ({"a": [{"equals_ignore_case": "x"}]}, {"a": [{"equals-ignore-case": "x"}]}),
    ],
)
def test_an_invalid_pattern_comes_with_the_valid_one_that_is_meant(pattern: Any, corrected: Any) -> None:
    error = refused(pattern)
    assert error.corrected == corrected
    assert "Write {" in error.remedy
    assert parse(error.corrected)


@pytest.mark.parametrize("pattern", ["", "[]", '{"a":[]}', '{"a":{}}', {}, '{"a":[{"nonsense":"x"}]}'])
def test_a_pattern_that_means_nothing_has_no_correction(pattern: Any) -> None:
    assert refused(pattern).corrected is None


def test_every_refusal_has_a_remedy_and_survives_a_way_between_processes() -> None:
    for pattern in ('{"a":[{"exists":1}]}', '{"a":[{"wildcard":"**"}]}', '{"a":[tru]}', '{"a":"x"}', "[]"):
        error = refused(pattern)
        again = pickle.loads(pickle.dumps(error))
        assert error.remedy
        assert (again.what, again.remedy, again.corrected) == (error.what, error.remedy, error.corrected)


def test_a_pattern_over_the_limit_is_refused_with_its_length_and_a_remedy() -> None:
    error = refused('{"a":["' + "x" * 5_000 + '"]}')
    assert "5,010 characters; EventBridge takes 4,096" in str(error)
    assert error.remedy
    assert parse('{"a":["' + "x" * 4_086 + '"]}')


def test_more_fields_than_the_engine_takes_are_refused() -> None:
    assert parse({f"{at:x}": [1] for at in range(256)})
    assert refused({f"{at:x}": [1] for at in range(257)}).what == "The pattern tests 257 fields; AWS's engine takes 256."


def test_what_is_no_json_object_is_refused_with_a_sentence() -> None:
    assert "not UTF-8" in refused(b"\xff").what
    assert "cannot be written as JSON" in refused({"a": {1, 2}}).what
    assert "Filter is not an object" == refused([1]).what
    assert refused('{"a":' * 700).what.startswith("Unexpected end-of-input")


def test_too_many_combinations_of_or_are_refused_before_they_fill_the_memory() -> None:
    branches = ",".join('"$or":[{"a%d":[1]},{"b%d":[1]}]' % (at, at) for at in range(20))
    assert "more than 1,000 combinations" in refused("{" + branches + "}").what


@pytest.mark.parametrize(
    ("wildcard", "count"),
    [
        ("*", 2),
        ("abc", 1),
        ("*ab", 2),
        ("*aa", 3),
        ("aa*", 2),
        ("a*bbb", 4),
        ("*ab*b*b*", 7),
        ("*a*a*a*a*a*a*a*a*", 17),
    ],
)
def test_complexity_counts_the_beginnings_that_one_value_can_match(wildcard: str, count: int) -> None:
    assert complexity([[wildcard]]) == count


def test_wildcards_of_one_field_add_up_and_those_of_an_anything_but_share_what_they_have_in_common() -> None:
    assert complexity([["a*bc"], ["a*bcde"]]) == 4
    assert complexity([["*ab", "*cd", "*ef"]]) == 2
    assert complexity([["*ab"], ["*cd"], ["*ef"]]) == 6
    assert complexity([["x*"], ["x*"]]) == 2


def test_a_rule_too_complex_for_aws_is_refused_with_its_text_unless_only_the_engine_is_asked() -> None:
    pattern = {"detail": {"arn": [{"wildcard": "*:*:*:*:*:event-bus/*"}]}}
    assert refused(pattern).what.startswith("Rule is too complex - try using fewer wildcard characters")
    assert parse(pattern, limits=False)


def test_the_wildcards_of_anything_but_and_of_alternatives_over_one_field_count_too() -> None:
    assert refused({"detail": {"arn": [{"anything-but": {"wildcard": "*:*:*:*:*:event-bus/*"}}]}}).what.startswith("Rule is too complex")
    branches = [{"arn": [{"wildcard": f"*:*:{name}"}]} for name in ("a", "b", "c", "d")]
    assert refused({"detail": {"$or": branches}}).what.startswith("Rule is too complex")
    assert parse({"detail": {"$or": branches[:2]}})
    assert parse({"$or": [{"a": [str(at)], **branch} for at, branch in enumerate(branches)]})
