"""Speak the AWS query protocol of ElastiCache: forms in, XML out, both driven by botocore's model."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from botocore.loaders import Loader
from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StructureShape


class Fault(Exception):
    """An error answer of the service; `shape` names it in botocore's model, which gives code and status."""

    def __init__(self, shape: str, message: str) -> None:
        super().__init__(message)
        self.shape = shape
        self.message = message


@functools.cache
def model() -> ServiceModel:
    """Return botocore's model of the service."""
    return ServiceModel(Loader().load_service_model("elasticache", "service-2"), "elasticache")


def parse(body: str) -> tuple[str, dict[str, Any]]:
    """Return operation name and typed parameters of a form-encoded request.

    Raises Fault for an unknown operation and for a required parameter that is missing.
    """
    form = dict(parse_qsl(body, keep_blank_values=True))
    name = form.get("Action", "")
    if name not in model().operation_names:
        raise Fault("InvalidAction", f"Could not find operation {name or '(none)'} for version 2015-02-02")
    shape = model().operation_model(name).input_shape
    if shape is None:
        return name, {}
    parameters = _read(shape, form, "") or {}
    for required in shape.required_members:
        if required not in parameters:
            raise Fault("InvalidParameterValueException", f"The parameter {required} must be provided.")
    return name, parameters


def serialise(operation: str, result: Mapping[str, Any], request_id: str) -> bytes:
    """Return the XML answer of an operation."""
    described: OperationModel = model().operation_model(operation)
    inner = ""
    if described.output_shape is not None:
        inner = _members(described.output_shape, result)
    wrapper = (described.output_shape.serialization.get("resultWrapper") if described.output_shape else None) or (
        f"{operation}Result"
    )
    return _document(
        f"{operation}Response",
        f"<{wrapper}>{inner}</{wrapper}><ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>",
    )


def fault(error: Fault, request_id: str) -> tuple[int, bytes]:
    """Return HTTP status and XML of an error answer."""
    code, status = error.shape, 400
    if error.shape in model().shape_names:
        described = model().shape_for(error.shape).metadata.get("error", {})
        code, status = described.get("code", code), described.get("httpStatusCode", status)
    return status, _document(
        "ErrorResponse",
        f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{escape(error.message)}</Message></Error>"
        f"<RequestId>{request_id}</RequestId>",
    )


def _document(name: str, inner: str) -> bytes:
    return f'<{name} xmlns="{model().metadata["xmlNamespace"]}">{inner}</{name}>'.encode()


def _read(shape: Shape, form: Mapping[str, str], prefix: str) -> Any:
    """Return the value at a prefix of the form, None when it holds nothing there."""
    if isinstance(shape, StructureShape):
        read = {}
        for name, member in shape.members.items():
            key = member.serialization.get("name", name)
            value = _read(member, form, f"{prefix}.{key}" if prefix else key)
            if value is not None:
                read[name] = value
        return read or None
    if isinstance(shape, ListShape):
        return _read_list(shape, form, prefix)
    text = form.get(prefix)
    return None if text is None else _typed(shape, text, prefix)


def _read_list(shape: ListShape, form: Mapping[str, str], prefix: str) -> list[Any] | None:
    for member_name in (shape.member.serialization.get("name", "member"), "member"):
        items: list[Any] = []
        while (value := _read(shape.member, form, f"{prefix}.{member_name}.{len(items) + 1}")) is not None:
            items.append(value)
        if items:
            return items
    # The protocol writes an empty list as an empty value.
    return [] if prefix in form else None


def _typed(shape: Shape, text: str, name: str) -> Any:
    try:
        match shape.type_name:
            case "integer" | "long":
                return int(text)
            case "double" | "float":
                return float(text)
            case "boolean":
                return {"true": True, "false": False}[text.lower()]
            case "timestamp":
                return _instant(text)
    except (ValueError, KeyError) as error:
        raise Fault("InvalidParameterValueException", f"{text!r} is not a valid value of {name}.") from error
    return text


def _instant(text: str) -> datetime:
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _write(shape: Shape, name: str, value: Any) -> str:
    if isinstance(shape, StructureShape):
        inner = _members(shape, value)
    elif isinstance(shape, ListShape):
        member_name = shape.member.serialization.get("name", "member")
        inner = "".join(_write(shape.member, member_name, item) for item in value)
    elif isinstance(shape, MapShape):
        raise TypeError(f"{name}: ElastiCache answers with no maps.")
    else:
        inner = _text(value)
    return f"<{name}>{inner}</{name}>"


def _members(shape: StructureShape, values: Mapping[str, Any]) -> str:
    unknown = set(values) - set(shape.members)
    if unknown:
        raise TypeError(f"{shape.name} has no member {sorted(unknown)}.")
    return "".join(
        _write(member, member.serialization.get("name", name), values[name])
        for name, member in shape.members.items()
        if values.get(name) is not None
    )


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return escape(str(value))
