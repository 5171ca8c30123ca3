"""ECR's API: a request by its target, checked against botocore's model, to an operation and its answer."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import botocore.session

from helpers.rehearsal.cloud import ACCOUNT
from helpers.rehearsal.ecr.refusals import Refused, invalid
from helpers.rehearsal.stricter import Answer

Operation = Callable[[Any, dict[str, Any]], dict[str, Any]]


class Api:
    """A service's operations on a registry. `service` is botocore's name of it."""

    def __init__(self, service: str, registry: Any, operations: Mapping[str, Operation]) -> None:
        self._service, self._registry, self._operations = service, registry, operations

    def answer(self, target: str, body: bytes) -> Answer:
        """Return the answer to a request: HTTP status, headers and JSON."""
        name = target.rpartition(".")[2]
        try:
            try:
                asked = json.loads(body or b"{}")
            except ValueError as error:
                raise Refused("SerializationException", "The request is no JSON.") from error
            told, status = self._perform(name, asked), 200
        except Refused as refused:
            told, status = {"__type": refused.code, "message": refused.message, **refused.members}, refused.status
        headers = {"Content-Type": "application/x-amz-json-1.1"}
        return status, headers, json.dumps(told).encode()

    def _perform(self, name: str, asked: dict[str, Any]) -> dict[str, Any]:
        operation = self._operations.get(name)
        if operation is None:
            known = name in _model(self._service).operation_names
            told = f"The local cloud has no {name}." if known else f"There is no operation {name!r}."
            raise Refused("UnsupportedOperationException" if known else "UnknownOperationException", told)
        self._registry.faults.meet(name, _named(asked))
        check(_model(self._service).operation_model(name).input_shape, asked)
        if asked.get("registryId", ACCOUNT) != ACCOUNT:
            raise invalid("registryId", f"the local cloud has the registry {ACCOUNT} only")
        return operation(self._registry, asked)


def _named(asked: dict[str, Any]) -> str:
    names = asked.get("repositoryNames") or [""]
    return str(asked.get("repositoryName") or (names[0] if len(names) == 1 else ""))


@functools.cache
def _model(service: str) -> Any:
    return botocore.session.get_session().get_service_model(service)


def check(shape: Any, value: Any, name: str = "") -> None:
    """Refuse what the service's own model refuses: absent members, lengths, patterns and choices."""
    rules = shape.metadata
    if shape.type_name == "structure":
        for member in shape.required_members:
            if value.get(member) is None:
                raise invalid(member, "Member must not be null")
        for member, given in value.items():
            if member in shape.members and given is not None:
                check(shape.members[member], given, member)
    elif shape.type_name == "list":
        _check_length(name, len(value), rules)
        for one in value:
            check(shape.member, one, name)
    elif shape.type_name == "string":
        if rules.get("enum") and value not in rules["enum"]:
            raise invalid(name, f"Member must satisfy enum value set: [{', '.join(rules['enum'])}]")
        _check_length(name, len(value), rules)
        if rules.get("pattern") and not re.fullmatch(_for_python(rules["pattern"]), value):
            raise invalid(name, f"must satisfy regular expression '{rules['pattern']}'")
    elif shape.type_name in ("integer", "long"):
        if "min" in rules and value < rules["min"]:
            raise invalid(name, f"must have value greater than or equal to {rules['min']}")
        if "max" in rules and value > rules["max"]:
            raise invalid(name, f"must have value less than or equal to {rules['max']}")


def _check_length(name: str, length: int, rules: Mapping[str, Any]) -> None:
    if length < rules.get("min", 0):
        raise invalid(name, f"must have length greater than or equal to {rules['min']}")
    if length > rules.get("max", length):
        raise invalid(name, f"must have length less than or equal to {rules['max']}")


def _for_python(pattern: str) -> str:
    """Return a pattern of the model as Python reads it: "[a-zA-Z0-9-_+.]" has a range that is none."""
    return pattern.replace("0-9-_", r"0-9\-_")


def page(items: list[Any], asked: Mapping[str, Any], kind: str, *, most: int = 100) -> dict[str, Any]:
    """Return a page of what is listed, {kind: [...]}, with nextToken where more is to come."""
    token = asked.get("nextToken") or "0"
    if not token.isdigit() or int(token) > len(items):
        raise invalid("nextToken", "Invalid token")
    start, size = int(token), int(asked.get("maxResults") or most)
    rest = {"nextToken": str(start + size)} if start + size < len(items) else {}
    return {kind: items[start : start + size], **rest}
