"""Whatever goes in, only the named errors come out, and `explain` says what `matches` says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from helpers.eventbridge.events import InvalidEvent
from helpers.eventbridge.explain import explain
from helpers.eventbridge.lint import lint
from helpers.eventbridge.matching import matches
from helpers.eventbridge.patterns import InvalidPattern, parse

NAMED = (InvalidPattern, InvalidEvent)
FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))

texts = st.sampled_from(
    [
        "a",
        "A",
        "ab",
        "b",
        "",
        "*",
        "a*",
        "10.0.0.1",
        "::1",
        "1",
        "true",
        "é",
        "ß",
        "😀",
        "\ud800",
        '"',
        "\\",
        "aws.s3",
        "AWS.S3",
    ]
)
numbers = st.sampled_from([0, 1, -1, 5, 300, 3.0, 0.1, 1e300, 12345678901234567890, 2**53 + 1])
scalars = st.one_of(texts, numbers, st.booleans(), st.none())
names = st.sampled_from(["a", "b", "c", "a.b", "detail", "details", "source", "", "$or", "A"])
operators = st.one_of(
    st.builds(
        lambda name, value: {name: value},
        st.sampled_from(["prefix", "suffix", "equals-ignore-case", "wildcard", "exactly"]),
        texts,
    ),
    st.builds(lambda value: {"exists": value}, st.booleans()),
    st.builds(lambda value: {"cidr": value}, st.sampled_from(["10.0.0.0/8", "::/0", "10.0.0.1/31", "18.0.0.0/8"])),
    st.builds(
        lambda operator, value: {"numeric": [operator, value]}, st.sampled_from(["=", "<", "<=", ">", ">="]), numbers
    ),
    st.builds(lambda low, high: {"numeric": [">", low, "<=", high]}, numbers, numbers),
    st.builds(
        lambda value: {"anything-but": value},
        st.one_of(texts, numbers, st.lists(texts, max_size=3), st.lists(numbers, max_size=3)),
    ),
    st.builds(
        lambda name, value: {"anything-but": {name: value}},
        st.sampled_from(["prefix", "suffix", "equals-ignore-case", "wildcard"]),
        st.one_of(texts, st.lists(texts, max_size=3)),
    ),
    st.builds(lambda name, value: {name: {"equals-ignore-case": value}}, st.sampled_from(["prefix", "suffix"]), texts),
)
lists = st.lists(st.one_of(scalars, operators), min_size=1, max_size=3)
patterns = st.recursive(
    st.dictionaries(names, lists, min_size=1, max_size=3),
    lambda inner: st.one_of(
        st.dictionaries(names, st.one_of(lists, inner), min_size=1, max_size=3),
        st.builds(
            lambda rest, branches: {**rest, "$or": branches},
            st.dictionaries(names, lists, max_size=2),
            st.lists(inner, min_size=2, max_size=3),
        ),
    ),
    max_leaves=5,
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=8,
)
events = st.dictionaries(names, values, max_size=4)


def matched(pattern: Any, event: Any) -> Any:
    try:
        return matches(pattern, event)
    except NAMED as error:
        return type(error), error.what


def explained(pattern: Any, event: Any) -> Any:
    try:
        found = explain(pattern, event)
    except NAMED as error:
        return type(error), error.what
    assert str(found) and found._repr_html_() and len(found.rows) >= 1
    if found.change is not None:
        assert not found.matched and matches(found.change.pattern, event)
    if found.matched:
        assert found.change is None
    if len(found.alternatives) == 1:
        assert found.matched == found.rows["passed"].all()
    return found.matched


@FUZZ
@given(patterns, events)
@example({"a": [{"exists": False}]}, {"a": "x"})
def test_explain_says_what_matches_says_and_offers_only_changes_that_match(pattern: Any, event: Any) -> None:
    assert explained(pattern, event) == matched(pattern, event)


@FUZZ
@given(patterns, events)
def test_the_text_and_the_object_of_a_pattern_and_an_event_give_the_same_answer(pattern: Any, event: Any) -> None:
    assert matched(json.dumps(pattern), json.dumps(event).encode()) == matched(pattern, event)


@FUZZ
@given(patterns)
def test_lint_names_a_remedy_for_each_finding(pattern: Any) -> None:
    found = lint(pattern)
    assert list(found.columns) == ["path", "finding", "remedy"]
    assert found["finding"].map(bool).all()


junk = st.one_of(
    st.text(max_size=60),
    st.binary(max_size=60),
    st.text(alphabet='{}[]:,"\\ \n01-+.eEtrufalsn$o*', max_size=60),
    st.recursive(
        st.one_of(st.none(), st.floats(), st.integers(), st.text(), st.binary()),
        lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    ),
)


@FUZZ
@given(junk, junk)
def test_junk_gives_a_named_error_or_an_answer(pattern: Any, event: Any) -> None:
    for call in (
        lambda: matches(pattern, event),
        lambda: explain(pattern, event),
        lambda: parse(pattern),
        lambda: matches({"a": ["x"]}, event),
    ):
        try:
            call()
        except NAMED as error:
            assert error.what
    assert list(lint(pattern).columns) == ["path", "finding", "remedy"]


@pytest.mark.parametrize(
    "text",
    [
        '{"a":' * 600,
        "[" * 100_000,
        '{"a":' * 200_000,
        '{"a":[1' + "0" * 2_000 + "]}",
        '{"a":[1e' + "9" * 900 + "]}",
        '{"a":["\\ud800"]}',
        '{"a":[NaN]}',
    ],
)
def test_extreme_texts_give_a_named_error_or_an_answer(text: str) -> None:
    for pattern, event in ((text, "{}"), ('{"a":["x"]}', text), (text, text)):
        assert explained(pattern, event) == matched(pattern, event)


def test_a_pattern_and_an_event_hundreds_of_levels_deep_are_answered() -> None:
    deep: Any = ["x"]
    for _ in range(600):
        deep = {"a": deep}
    text = '{"a":' * 600 + '["x"]' + "}" * 600
    assert matched(text, text) is True
    assert explained(text, text) is True
    assert explained(text, '{"a":1}') is False
    assert matched(deep, text) is True


def test_an_event_of_a_thousand_levels_is_read_and_a_deeper_one_refused() -> None:
    assert matches('{"b":["x"]}', '{"b":"x","a":' + "[" * 999 + "]" * 999 + "}") is True
    with pytest.raises(InvalidEvent, match="nesting depth"):
        matches('{"b":["x"]}', '{"b":"x","a":' + "[" * 1_000 + "]" * 1_000 + "}")
