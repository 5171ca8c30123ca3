"""The traps of a pattern are found, and a plain pattern has none."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.eventbridge.lint import lint


@pytest.mark.parametrize(
    "pattern",
    [
        {
            "source": ["aws.s3"],
            "detail-type": ["Object Created"],
            "detail": {"bucket": {"name": ["b"]}, "n": [5, {"numeric": [">", 3]}]},
        },
        {"account": ["123456789012"], "$or": [{"detail": {"a": ["x"]}}, {"detail": {"b": ["y"]}}]},
        {"detail": {"a": [{"exists": False}], "b": ["x"], "items": {"b": ["x"], "c": [{"exists": False}]}}},
    ],
)
def test_a_plain_pattern_has_no_finding(pattern: Any) -> None:
    assert lint(pattern).empty


@pytest.mark.parametrize(
    ("pattern", "path", "finding", "remedy"),
    [
        ({"source": ["AWS.S3"]}, "source", "matching is case-sensitive", 'Write "aws.s3".'),
        ({"details": {"a": ["x"]}}, "details.a", "no field details", "Write detail."),
        ({"detailType": ["x"]}, "detailType", "no field detailType", "Write detail-type."),
        ({"orderId": ["x"]}, "orderId", "no field orderId", "stands under detail: detail.orderId."),
        ({"detail": {"ip": ["10.0.0.1"]}}, "detail.ip", "looks like an IP address", '{"exactly": "10.0.0.1"}'),
        (
            {"detail": {"ip": [{"cidr": "10.0.0.0/8"}, {"prefix": "11."}]}},
            "detail.ip",
            "miss every value that is an address",
            "cidr",
        ),
        ({"detail": {"ip": [{"cidr": "10.0.0.0/8"}, 5]}}, "detail.ip", "never matches addresses", "alternatives"),
        (
            {"detail": {"items": {"a": [{"exists": False}], "b": ["x"]}}},
            "detail.items.a",
            "decided before detail.items.b",
            "sorts before",
        ),
        ({"detail": {"a": [{"wildcard": "*a*a*a*a*"}]}}, "detail.a", "complexity of 9", "fewer *"),
        ({"detail": {"a": [{"wildcard": "x*"}]}}, "detail.a", 'Pipes lacks {"wildcard": "x*"}', "filter"),
        ({"detail": {"a": [{"anything-but": {"prefix": "x"}}]}}, "detail.a", "Pipes lacks", "filter"),
        (
            '{"detail":{"a":["1"],"$or":[{"a":["2"]},{"b":["3"]}]}}',
            "detail.a",
            "written more than once",
            "once in each object of $or",
        ),
        ({"$or": {"a": [1]}}, "$or", "taken for the name of a field: It must be an Array", "two objects"),
        (
            {"$or": [{"source": ["x", "y"]}, {"source": ["y", "z"]}]},
            "$or",
            "Alternative 2 shares values",
            "do not overlap",
        ),
        ({"account": [123456789012]}, "account", "always a string", 'Write "123456789012".'),
        ({"detail": {"a": [12345678901234567890]}}, "detail.a", "No double holds", "strings"),
        ({"resources": ["arn:*"]}, "resources", "is a plain character", '{"wildcard": "arn:*"}'),
        ({"detail": [{"exists": True}]}, "detail", "detail is an object", "field in it"),
        (
            {"detail": {"a": [{"wildcard": "*a*a*a*a*a*a"}]}},
            "",
            "AWS refuses the pattern: Rule is too complex",
            "fewer *",
        ),
        (
            {"source": "aws.s3"},
            "",
            'AWS refuses the pattern: "source" must be an object or an array',
            '{"source":["aws.s3"]}',
        ),
        ('{"a":["' + "x" * 5_000 + '"]}', "", "5,010 characters", "several rules"),
    ],
)
def test_a_trap_is_found_with_its_path_and_remedy(pattern: Any, path: str, finding: str, remedy: str) -> None:
    rows = [(row.path, row.finding, row.remedy) for row in lint(pattern).itertuples()]
    assert any(
        row[0] == path and finding in row[1] and remedy.replace(" ", "") in row[2].replace(" ", "") for row in rows
    ), rows
