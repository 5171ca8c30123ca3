"""The application's endpoint in an SSM parameter: read it, and change it only from the value that is expected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from helpers.aws import UNKNOWN, Aws, RunbookError
from helpers.aws.errors import is_not_found


@dataclass(frozen=True)
class Parameter:
    """An SSM parameter: name, value, type and version (`absent` where there is none)."""

    name: str
    value: str
    type: str
    version: int | str


def read_parameter(aws: Aws, name: str) -> Parameter:
    """The parameter as it is now; version 0 and an empty value where it does not exist."""
    try:
        found = aws.client("ssm").get_parameter(Name=name, WithDecryption=True)["Parameter"]
    except Exception as error:
        if is_not_found(error):
            return Parameter(name, "", "String", 0)
        raise
    return Parameter(name, found["Value"], found.get("Type", "String"), found["Version"])


def compare_and_set(aws: Aws, before: Parameter, expected: str, value: str) -> None:
    """Set the parameter to `value`, provided that it still is as `before` was read and held `expected`.

    SSM has no conditional write: the version that PutParameter returns tells whether somebody wrote since
    `before` was read, and then their value is put back. Raises `RunbookError` in both cases.
    Source: https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html
    """
    if before.value != expected:
        raise changed_meanwhile(before.name, before.value, expected)
    version = _put(aws, before, value)
    if UNKNOWN not in (version, before.version) and version != before.version + 1:
        theirs = _value_at(aws, before.name, version - 1)
        if theirs == value:
            return  # our own request, sent twice by a retry
        _put(aws, before, theirs)
        raise changed_meanwhile(before.name, theirs, expected)


def put_parameter(aws: Aws, name: str, value: str) -> None:
    """Set a parameter whatever it holds."""
    _put(aws, read_parameter(aws, name), value)


def _put(aws: Aws, parameter: Parameter, value: str) -> Any:
    return aws.client("ssm").put_parameter(Name=parameter.name, Value=value, Type=parameter.type, Overwrite=True)["Version"]


def _value_at(aws: Aws, name: str, version: int) -> str:
    return aws.client("ssm").get_parameter(Name=f"{name}:{version}", WithDecryption=True)["Parameter"]["Value"]


def changed_meanwhile(name: str, found: str, expected: str) -> RunbookError:
    """The error that says so: somebody else changed the parameter."""
    return RunbookError(
        f"{name} holds {found!r}, not {expected!r}: somebody changed it meanwhile. It was left as it is.",
        "Find out who and why (ssm get-parameter-history), put it right, and resume the run.",
    )
