"""What file system policies let clients do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.aws.errors import RunbookError
from helpers.efs.policy import access

CASES = json.loads((Path(__file__).parent / "data" / "fs_policy.json").read_text())["vectors"]
ROLE = "arn:aws:iam::111122223333:role/App"
POINT = "arn:aws:elasticfilesystem:us-east-1:111122223333:access-point/fsap-1"
ALL = "elasticfilesystem:Client*"
FULL, NONE = (True, True, True), (False, False, False)


def statement(effect="Allow", action=ALL, principal="*", **condition):
    made = {"Effect": effect, "Principal": {"AWS": principal}, "Action": action, "Resource": "*"}
    return made | ({"Condition": condition} if condition else {})


def policy(*statements):
    return {"Version": "2012-10-17", "Statement": list(statements)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_access_is_as_the_policy_grants_it(case):
    assert access(case["policy"], case["client"])._asdict() == case["expected"]


def test_a_policy_may_come_as_json():
    case = CASES[2]
    assert access(json.dumps(case["policy"]), case["client"])._asdict() == case["expected"]


@pytest.mark.parametrize(
    ("principal", "named", "expected"),
    [
        (ROLE, ROLE, FULL),
        ("arn:aws:sts::111122223333:assumed-role/App/i-0abc", ROLE, FULL),
        (ROLE, "111122223333", FULL),
        (ROLE, "arn:aws:iam::111122223333:root", FULL),
        (ROLE, "arn:aws:iam::111122223333:role/Other", NONE),
        (ROLE, "arn:aws:iam::444455556666:root", NONE),
        (ROLE, ["arn:aws:iam::111122223333:role/Other", ROLE], FULL),
    ],
)
def test_a_role_is_known_by_its_arn_its_sessions_and_its_account(principal, named, expected):
    assert access(policy(statement(principal=named)), {"tls": True, "principal": principal}) == expected


@pytest.mark.parametrize("name", ["role", "principalArn", "iam_role", "iam"])
def test_a_principal_may_be_called_otherwise(name):
    assert access(policy(statement(principal=ROLE)), {"tls": True, name: ROLE}) == FULL


@pytest.mark.parametrize("name", ["access_point", "accessPointArn", "accesspoint"])
def test_an_access_point_may_be_called_otherwise(name):
    asked = statement(StringEquals={"elasticfilesystem:AccessPointArn": POINT})
    assert access(policy(asked), {"tls": True, name: POINT}) == FULL


def test_an_identity_that_is_not_named_is_refused():
    with pytest.raises(RunbookError, match="not named"):
        access(policy(statement()), {"tls": True, "iam": True})


def test_tls_written_as_text_is_read():
    deny = statement("Deny", "*", Bool={"aws:SecureTransport": "false"})
    assert access(policy(statement(), deny), {"tls": "false"}) == NONE
    assert access(policy(statement(), deny), {"tls": "true", "iam": False}) == FULL


def test_without_tls_there_is_no_identity():
    assert access(policy(statement(principal=ROLE)), {"tls": False, "principal": ROLE}) == NONE


def test_a_deny_alone_leaves_an_anonymous_client_without_any_allow():
    deny = statement("Deny", "*", Bool={"aws:SecureTransport": "false"})
    assert access(policy(deny), {"tls": True}) == NONE


def test_a_deny_wins_over_an_allow():
    assert access(policy(statement(), statement("Deny", "elasticfilesystem:ClientWrite")), {"tls": True}) == (True, False, True)


def test_write_without_mount_is_nothing():
    assert access(policy(statement(action="elasticfilesystem:ClientWrite")), {"tls": True}) == NONE


def test_an_access_point_opens_what_asks_for_it():
    asks = policy(statement(StringEquals={"elasticfilesystem:AccessPointArn": POINT}))
    assert access(asks, {"tls": True, "access_point": POINT}) == FULL
    assert access(asks, {"tls": True, "access_point": POINT + "2"}) == NONE


@pytest.mark.parametrize(
    ("operator", "expected"), [("StringEquals", NONE), ("StringEqualsIfExists", FULL), ("StringNotEquals", FULL), ("StringNotLike", FULL)]
)
def test_a_missing_key_fails_a_condition_unless_it_is_negated_or_optional(operator, expected):
    assert access(policy(statement(**{operator: {"elasticfilesystem:AccessPointArn": POINT}})), {"tls": True}) == expected


def test_null_asks_whether_a_key_is_there():
    asks = policy(statement("Allow"), statement("Deny", Null={"elasticfilesystem:AccessPointArn": "true"}))
    assert access(asks, {"tls": True}) == NONE
    assert access(asks, {"tls": True, "access_point": POINT}) == FULL


def test_everything_but_root_is_not_action():
    grant = {"Effect": "Allow", "Principal": "*", "NotAction": "elasticfilesystem:ClientRootAccess", "Resource": "*"}
    assert access(policy(grant), {"tls": False}) == (True, True, False)


def test_an_address_may_be_asked_for():
    asks = policy(statement(IpAddress={"aws:SourceIp": ["10.0.0.0/16"]}))
    assert access(asks, {"tls": True, "source_ip": "10.0.3.4"}) == FULL
    assert access(asks, {"tls": True, "source_ip": "10.1.3.4"}) == NONE


def test_the_principals_own_policy_counts_too():
    own = {"Statement": {"Effect": "Allow", "Action": "elasticfilesystem:*", "Resource": "*"}}
    client = {"tls": True, "principal": ROLE, "identity_policy": own}
    assert access(policy(statement(action="elasticfilesystem:ClientMount")), client) == FULL


def test_an_unknown_field_or_operator_is_refused():
    with pytest.raises(RunbookError, match="no field rolle"):
        access(policy(statement()), {"tls": True, "rolle": ROLE})
    with pytest.raises(RunbookError, match="DateLess"):
        access(policy(statement(DateLess={"aws:CurrentTime": "x"})), {"tls": True})


@pytest.mark.parametrize(
    "none",
    [
        "[]",
        "null",
        "[" * 5_000,
        '{"Statement": ["x"]}',
        '{"Statement": {"Effect": ["Allow"], "Principal": "*", "Action": "*"}}',
        policy(statement(action=5)),
        policy(statement(principal=[None])),
        policy(statement(Bool="aws:SecureTransport")),
        policy(statement(StringEquals={"aws:SourceVpc": {}})),
        policy(statement(IpAddress={"aws:SourceIp": "10.0.0.0/99"})),
    ],
    ids=lambda none: str(none)[:60],
)
def test_what_is_no_policy_is_refused_with_a_remedy(none):
    with pytest.raises(RunbookError) as refused:
        access(none, {"tls": True, "source_ip": "10.0.3.4"})
    assert refused.value.remedy


def test_an_identity_that_is_no_arn_is_of_no_account():
    assert access(policy(statement(StringEquals={"aws:PrincipalAccount": "111122223333"})), {"tls": True, "principal": "App"}) == NONE
