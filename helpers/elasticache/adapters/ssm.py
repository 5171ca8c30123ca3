"""The endpoint in an SSM parameter, `/name`: a put, and the version that tells whether somebody was faster."""

from __future__ import annotations

from typing import Any

from helpers.aws import UNKNOWN, Aws, Check, RunbookError
from helpers.aws.errors import is_not_found
from helpers.elasticache.adapters.setting import Setting, await_seen, changed_meanwhile, shown

NOUN = "SSM parameter"
KEPT = ("AllowedPattern", "DataType", "Description", "KeyId", "Tier")  # told by DescribeParameters, taken by PutParameter
SLOWEST = 10.0  # seconds


def read(aws: Aws, where: str) -> Setting:
    """The parameter as it is now; version 0 and an empty value where it does not exist."""
    found = _get(aws, where)
    return Setting(where, shown(found["Value"]), found["Version"]) if found else Setting(where, "", 0)


def put(aws: Aws, before: Setting, expected: str, value: str) -> None:
    """Put `value`; where somebody wrote since `before` was read, put theirs back and raise `RunbookError`.

    PutParameter has no condition, but it counts versions: one more than expected was written by somebody else, or by
    a request of ours that was sent again. Type, KMS key, tier, description and pattern are sent as they are; policies
    are preserved where none are sent. Source: https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html
    """
    kept = _kept(aws, before.where)
    version, last = _put(aws, before.where, value, kept), before.version
    foreign = None
    while UNKNOWN not in (version, last) and (theirs := _written_between(aws, before.where, last, version, value)):
        foreign = theirs
        last, version = version, _put(aws, before.where, theirs, kept)
        value = theirs
    if foreign is not None:
        raise changed_meanwhile(before.where, shown(foreign), expected)
    await_seen(aws, before, value, read)


def put_parameter(aws: Aws, name: str, value: str) -> None:
    """Set a parameter whatever it holds; a new one becomes a String."""
    found = _get(aws, name)
    _put(aws, name, value, {"Type": found["Type"] if found else "String"})


def checks(aws: Aws, where: str) -> list[Check]:
    """That what the parameter is made of can be read: without it a put would lose its KMS key."""
    kept = _kept(aws, where)
    told = f"{kept['Type']}, tier {kept.get('Tier', 'Standard')}" + (f", key {kept['KeyId']}" if "KeyId" in kept else "")
    return [Check("the parameter's type, key and tier can be kept", "pass", told)]


def _get(aws: Aws, name: str) -> dict[str, Any] | None:
    try:
        return aws.client("ssm").get_parameter(Name=name, WithDecryption=True)["Parameter"]
    except Exception as error:
        if is_not_found(error):
            return None
        raise


def _put(aws: Aws, name: str, value: str, kept: dict[str, Any]) -> Any:
    return aws.client("ssm").put_parameter(Name=name, Value=value, Overwrite=True, **kept)["Version"]


def _kept(aws: Aws, name: str) -> dict[str, Any]:
    """What a put has to send again: a SecureString without its KeyId would be encrypted with the account's default key."""
    filters = [{"Key": "Name", "Option": "Equals", "Values": [name]}]
    pages = aws.client("ssm").get_paginator("describe_parameters").paginate(ParameterFilters=filters)
    found = next((one for page in pages for one in page["Parameters"] if one["Name"] == name), None)
    if found is None:
        raise RunbookError(f"DescribeParameters does not list {name}.", "See that the parameter is still there; a new one is listed within seconds.")
    return {"Type": found["Type"], **{member: found[member] for member in KEPT if found.get(member)}}


def _written_between(aws: Aws, name: str, last: int, version: int, ours: str) -> str:
    """The newest value that somebody else wrote after version `last` and before `version`; "" where nobody did."""
    for number in range(version - 1, last, -1):
        theirs = aws.client("ssm").get_parameter(Name=f"{name}:{number}", WithDecryption=True)["Parameter"]["Value"]
        if theirs != ours:
            return theirs
    return ""
