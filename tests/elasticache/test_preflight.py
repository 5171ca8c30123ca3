"""The bucket's grant, as a policy can say it."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.aws import RunbookError
from helpers.elasticache.preflight import EXPORT_ACTIONS, _missing_actions, split_s3

PRINCIPAL = "eu-west-1.elasticache-snapshot.amazonaws.com"


def statement(**changes: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Principal": {"Service": PRINCIPAL}, "Action": list(EXPORT_ACTIONS), "Resource": ["arn:aws:s3:::b", "arn:aws:s3:::b/*"], **changes}


@pytest.mark.parametrize(
    "statements",
    [
        [statement()],
        [statement(Action="s3:*")],
        [statement(Action=["s3:Get*", "s3:List*", "s3:PutObject"])],
        [statement(Principal={"Service": [PRINCIPAL, "other.amazonaws.com"]}, Resource="arn:aws:s3:::b*")],
        [statement(Action=action) for action in EXPORT_ACTIONS],
    ],
)
def test_a_policy_that_allows_the_export_is_recognised(statements: list[dict[str, Any]]) -> None:
    assert _missing_actions(statements, PRINCIPAL, "b") == []


@pytest.mark.parametrize(
    ("statements", "missing"),
    [
        ([], list(EXPORT_ACTIONS)),
        ([statement(Principal={"Service": "us-east-1.elasticache-snapshot.amazonaws.com"})], list(EXPORT_ACTIONS)),
        ([statement(Resource="arn:aws:s3:::other/*")], list(EXPORT_ACTIONS)),
        ([statement(Action=["s3:PutObject"])], [action for action in EXPORT_ACTIONS if action != "s3:PutObject"]),
        ([statement(Resource="arn:aws:s3:::b/*")], ["s3:ListBucket", "s3:GetBucketAcl", "s3:ListBucketMultipartUploads"]),
        ([statement(Resource="arn:aws:s3:::b")], ["s3:PutObject", "s3:GetObject", "s3:ListMultipartUploadParts"]),
        ([statement(), statement(Effect="Deny", Action="s3:PutObject")], ["s3:PutObject"]),
    ],
)
def test_what_a_policy_does_not_allow_is_named(statements: list[dict[str, Any]], missing: list[str]) -> None:
    assert _missing_actions(statements, PRINCIPAL, "b") == missing


def test_an_s3_address_has_a_bucket_and_a_key() -> None:
    assert split_s3("s3://b/k/l.rdb") == ("b", "k/l.rdb")
    for wrong in ("b/k", "s3://b", "s3:///k", "https://b/k"):
        with pytest.raises(RunbookError, match="is no S3 address"):
            split_s3(wrong)
