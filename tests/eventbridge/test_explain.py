"""The explanation of a non-match: the near miss of each field, the tree, and the smallest change, proven."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.eventbridge.explain import explain
from helpers.eventbridge.matching import matches
from helpers.eventbridge.patterns import InvalidPattern

EVENT = {
    "version": "0",
    "id": "1",
    "detail-type": "Amplify Deployment Status Change",
    "source": "aws.amplify",
    "account": "123456789012",
    "time": "2026-01-01T00:00:00Z",
    "region": "eu-west-1",
    "resources": ["arn:aws:amplify:eu-west-1:123456789012:apps/foo/branches/main"],
    "detail": {
        "appId": "foo",
        "branchName": "main",
        "jobId": "7",
        "jobStatus": "SUCCEED",
        "count": 5,
        "ok": "true",
        "ip": "10.0.0.1",
        "tags": [{"k": "a", "v": 1}, {"k": "b", "v": 2}],
        "empty": [],
        "job": {"name": "x"},
    },
}


def hint(pattern: Any) -> str:
    """The hint of the only failing field."""
    rows = explain(pattern, EVENT).rows
    (found,) = rows.loc[~rows["passed"], "hint"]
    return found


def change(pattern: Any) -> tuple[Any, str]:
    """The smallest change of a pattern, which must match, and its sentence."""
    found = explain(pattern, EVENT).change
    assert found is not None and matches(found.pattern, EVENT)
    return found.pattern, found.sentence


def test_rows_show_each_path_with_its_tests_what_was_found_and_whether_it_passes() -> None:
    found = explain({"source": ["aws.amplify"], "detail": {"jobStatus": ["FAILED", {"prefix": "X"}]}}, EVENT)
    assert not found.matched
    assert list(found.rows.columns) == ["path", "test", "found", "passed", "hint"]
    assert found.rows.values.tolist() == [
        ["source", '["aws.amplify"]', '"aws.amplify"', True, ""],
        ["detail.jobStatus", '["FAILED", {"prefix": "X"}]', '"SUCCEED"', False, '"SUCCEED" passes no test'],
    ]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ({"source": ["AWS.Amplify"]}, 'case differs: the event has "aws.amplify", the pattern "AWS.Amplify"'),
        ({"source": ["aws.amplify "]}, "white space differs"),
        (
            {"detail": {"count": ["5"]}},
            'the event has the number 5, the pattern the string "5": write it without quotes',
        ),
        ({"detail": {"jobId": [7]}}, 'the event has the string "7", the pattern the number 7: write it with quotes'),
        (
            {"detail": {"ok": [True]}},
            'the event has the string "true", the pattern the boolean true: write it with quotes',
        ),
        ({"details": {"appId": ["foo"]}}, "the event has no details.appId; it has detail.appId"),
        ({"detail": {"appID": ["foo"]}}, "the event has no detail.appID; it has detail.appId"),
        ({"jobStatus": ["SUCCEED"]}, "the event has no jobStatus; it has detail.jobStatus"),
        ({"detail": {"jobStatus": ["FAILED", "X"]}}, '"SUCCEED" is not in the list'),
        ({"detail": {"job": ["x"]}}, "an object where a scalar is needed: name one of its fields (name)"),
        ({"detail": {"empty": ["x"]}}, "an empty array has no value to test"),
        ({"detail": {"job": {"state": ["x"]}}}, "the field is missing; detail.job has name"),
        ({"detail": {"appId": {"x": ["y"]}}}, "the field is missing"),
        (
            {"detail": {"jobStatus": [{"prefix": "succ"}]}},
            'case differs: the event has "SUCCEED", the prefix is "succ"',
        ),
        ({"detail": {"count": [{"numeric": [">", 10]}]}}, "5 is not > 10"),
        ({"detail": {"jobId": [{"numeric": [">", 1]}]}}, 'numeric reads numbers only; the event has the string "7"'),
        ({"detail": {"ip": [{"cidr": "11.0.0.0/8"}]}}, '"10.0.0.1" is not in 11.0.0.0/8'),
        ({"detail": {"appId": [{"cidr": "11.0.0.0/8"}]}}, '"foo" is no IP address'),
        (
            {"detail": {"ip": [{"prefix": "10."}, "11.0.0.1"]}},
            "an address in the list makes the engine read every address as one",
        ),
        ({"detail": {"appId": [{"anything-but": ["foo"]}]}}, '"foo" is one of the values shut out'),
        ({"detail": {"appId": [{"exists": False}]}}, 'the field must be absent, and it is there: "foo"'),
        ({"resources": ["arn:aws:amplify"]}, "that is a prefix"),
        ({"resources": ["arn:*:branches/main"]}, "a wildcard is"),
        ({"detail": {"tags": {"k": ["a"], "v": [2]}}}, "it passes alone, but in another element of an array"),
    ],
)
def test_the_hint_names_the_near_miss(pattern: Any, text: str) -> None:
    assert text in hint(pattern)


@pytest.mark.parametrize(
    ("pattern", "changed", "sentence"),
    [
        (
            {"detail": {"jobStatus": ["FAILED"]}},
            {"detail": {"jobStatus": ["FAILED", "SUCCEED"]}},
            'Add "SUCCEED" to detail.jobStatus.',
        ),
        (
            {"source": ["x", "AWS.amplify"]},
            {"source": ["x", "aws.amplify"]},
            'Write "aws.amplify" for "AWS.amplify" in source.',
        ),
        ({"detail": {"count": ["5"]}}, {"detail": {"count": [5]}}, 'Write 5 for "5" in detail.count.'),
        ({"details": {"appId": ["foo"]}}, {"detail": {"appId": ["foo"]}}, "Write detail.appId for details.appId."),
        ({"source": ["aws.amplify"], "nothing": ["x"]}, {"source": ["aws.amplify"]}, "Leave nothing out."),
        (
            {"detail": {"jobStatus": [{"prefix": "succ"}]}},
            {"detail": {"jobStatus": [{"prefix": {"equals-ignore-case": "succ"}}]}},
            'Write {"prefix": {"equals-ignore-case": "succ"}} for {"prefix": "succ"} in detail.jobStatus.',
        ),
        (
            {"detail": {"appId": [{"exists": False}]}},
            {"detail": {"appId": [{"exists": True}]}},
            'Write {"exists": true} in detail.appId.',
        ),
        (
            {"$or": [{"source": ["a"], "region": ["b"]}, {"detail": {"appId": ["FOO"]}}]},
            {"$or": [{"source": ["a"], "region": ["b"]}, {"detail": {"appId": ["foo"]}}]},
            'Write "foo" for "FOO" in detail.appId.',
        ),
    ],
)
def test_the_smallest_change_matches_and_says_what_it_changes(pattern: Any, changed: Any, sentence: str) -> None:
    assert change(pattern) == (changed, sentence)


def test_a_match_has_no_change_and_no_hint() -> None:
    found = explain({"source": ["aws.amplify"]}, EVENT)
    assert found.matched and found.change is None
    assert found.rows["hint"].tolist() == [""]
    assert str(found).startswith("The event matches.")


def test_the_tree_reads_as_text_and_renders_without_letting_a_value_be_markup() -> None:
    found = explain({"source": ["<b>"], "detail": {"appId": ["foo"], "jobStatus": ["FAILED"]}}, EVENT)
    assert str(found).splitlines()[:5] == [
        "The event does not match: 2 of 3 fields fail.",
        '├─ ✗ source ["<b>"]: "aws.amplify"  <- "aws.amplify" is not in the list',
        "└─ detail",
        '   ├─ ✓ appId ["foo"]: "foo"',
        '   └─ ✗ jobStatus ["FAILED"]: "SUCCEED"  <- "SUCCEED" is not in the list',
    ]
    assert "<ul" in found._repr_html_() and "&lt;b&gt;" in found._repr_html_() and '<b>"' not in found._repr_html_()


def test_the_alternatives_of_or_are_shown_one_by_one() -> None:
    found = explain({"$or": [{"source": ["x"]}, {"region": ["eu-west-1"]}]}, EVENT)
    assert found.matched
    assert found.rows.index.tolist() == [1, 2]
    assert found.rows["passed"].tolist() == [False, True]
    assert "alternative 2\n└─ ✓ region" in str(found)


def test_a_scalar_where_a_list_is_needed_is_caught_with_the_corrected_pattern() -> None:
    with pytest.raises(InvalidPattern) as caught:
        explain('{"source": "aws.amplify"}', EVENT)
    assert caught.value.what == '"source" must be an object or an array'
    assert caught.value.remedy == 'Write {"source": ["aws.amplify"]}'
    assert explain(caught.value.corrected, EVENT).matched
