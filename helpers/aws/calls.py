"""Every AWS call of the process, seen inside botocore: recorded always, and in a plan held back when it writes.

The hooks are botocore's documented client events (`before-parameter-build`, `before-call`, `after-call`,
`after-call-error`); `before-call` comes after parameter validation, and an answer given there replaces the
request. They are attached to every client of the process at its first call, whoever made the client.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

from botocore.awsrequest import AWSResponse
from botocore.client import BaseClient

from helpers.aws.planned import PlannedWorld, verb_and_noun

READ_VERBS = {
    "Decode", "Describe", "Detect", "Estimate", "Filter", "Get",
    "Head", "List", "Lookup", "Preview", "Query", "Scan", "Search", "Select", "Simulate", "Validate",
}  # fmt: skip
READS = {("appconfigdata", "StartConfigurationSession"), ("events", "TestEventPattern"), ("logs", "StartQuery"), ("logs", "StopQuery")}
WRITES = {("elasticache", "TestFailover"), ("ecr", "StartLifecyclePolicyPreview")}
SECRET_NAMES = {"AuthToken", "Password", "Passwords", "SecretString", "SecretBinary", "MasterUserPassword"}
NAMING = ("Name", "Id", "Identifier", "Arn", "ARN", "Key", "Bucket", "Url", "Rule")


@dataclass
class Call:
    """One call: what was asked, of what, and how it went. Times in unix seconds and milliseconds."""

    service: str
    operation: str
    resource: str
    write: bool
    parameters: dict[str, Any]
    at: float = field(default_factory=time.time)
    sent: bool = True
    duration_ms: float = 0.0
    request_id: str = ""
    status: int = 0
    retries: int = 0
    error_code: str = ""
    step: str = ""

    @property
    def identity(self) -> tuple[str, str, str]:
        """What a plan and an apply are compared by: service, operation, resource name."""
        return self.service, self.operation, self.resource


class Watch:
    """Where calls go: `on_write` may raise before a write leaves, `on_call` gets every finished call."""

    def __init__(self, on_call: Callable[[Call], None], on_write: Callable[[Call], None] | None = None, plan: PlannedWorld | None = None) -> None:
        self.on_call, self.on_write, self.plan = on_call, on_write, plan


_watch: Watch | None = None
_hooked: WeakSet[BaseClient] = WeakSet()
_unwatched: WeakSet[BaseClient] = WeakSet()
_make_api_call = BaseClient._make_api_call
_peeking: ContextVar[bool] = ContextVar("peeking", default=False)


def watch(new: Watch | None) -> None:
    """Send the process's calls to `new` from now on; None ends it."""
    global _watch
    BaseClient._make_api_call = _make_watched_call
    _watch = new


def leave_unwatched(client: BaseClient) -> None:
    """Never see the calls of this client: it keeps a run's own records, which are no part of what the run does, and are kept in a plan too."""
    _unwatched.add(client)


@contextlib.contextmanager
def unguarded() -> Iterator[None]:
    """Let writes through that `on_write` might refuse, to put back what a failure left; they are recorded, and a plan still sends none."""
    held = _watch.on_write if _watch else None
    if _watch:
        _watch.on_write = None
    try:
        yield
    finally:
        if _watch:
            _watch.on_write = held


@contextlib.contextmanager
def peeking() -> Iterator[None]:
    """Record calls as reads that only look, whatever their name says (ReceiveMessage of messages that are left where they are); a plan sends none of them."""
    token = _peeking.set(True)
    try:
        yield
    finally:
        _peeking.reset(token)


def planned_world() -> PlannedWorld | None:
    """The planned world while a plan is made, else None."""
    return _watch.plan if _watch else None


def is_write(service: str, operation: str) -> bool:
    """True unless the operation is known to change nothing; the unknown counts as a write."""
    if (service, operation) in WRITES:
        return True
    if (service, operation) in READS or operation.startswith(("AssumeRole", "BatchCheck", "BatchGet")):
        return False
    return verb_and_noun(operation)[0] not in READ_VERBS


@contextlib.contextmanager
def outside_aws(service: str, operation: str, resource: str, parameters: dict[str, Any]) -> Iterator[bool]:
    """Record a write that does not go through botocore; yields whether it may go out."""
    with outside_aws_together([(service, operation, resource, parameters)]) as (call,):
        yield call.sent


@contextlib.contextmanager
def outside_aws_together(writes: Sequence[tuple[str, str, str, dict[str, Any]]]) -> Iterator[list[Call]]:
    """Record writes that go out at once and not through botocore, in the order given; yields them, and `sent` says whether they may go out.

    Each is (service, operation, resource, parameters). Who sends them sets `status`, and `request_id` where there is one, of each
    that is done. Where one fails all have its error, as they are gone on with together.
    """
    every = [Call(service, operation, resource, True, _plain(parameters)) for service, operation, resource, parameters in writes]
    if _watch is None:
        yield every
        return
    for call in every:
        call.sent = _watch.plan is None
        if _watch.on_write:
            _watch.on_write(call)
    try:
        yield every
    except BaseException as error:
        for call in every:
            call.error_code = type(error).__name__
        raise
    finally:
        for call in every:
            call.duration_ms = call.duration_ms or (time.time() - call.at) * 1000
            _watch.on_call(call)


def _make_watched_call(client: BaseClient, operation_name: str, api_params: dict) -> Any:
    if client in _unwatched:
        return _make_api_call(client, operation_name, api_params)
    if client not in _hooked:
        events = client.meta.events
        events.register_last("before-parameter-build", _keep_parameters, unique_id="runbook-parameters")
        events.register_last("before-call", _before, unique_id="runbook-before")
        events.register_first("after-call", _after, unique_id="runbook-after")
        events.register_first("after-call-error", _failed, unique_id="runbook-failed")
        _hooked.add(client)
    return _make_api_call(client, operation_name, api_params)


def _keep_parameters(params: dict, context: dict, **_: Any) -> None:
    context["runbook_parameters"] = dict(params)


def _before(model: Any, context: dict, **_: Any) -> tuple[AWSResponse, dict] | None:
    if _watch is None:
        return None
    service, operation = model.service_model.service_name, model.name
    parameters = context.get("runbook_parameters", {})
    write = is_write(service, operation) and not (_peeking.get() and _watch.plan is None)
    call = Call(service, operation, resource_name(model, parameters), write, _shown(model, parameters))
    context["runbook_call"] = call
    if call.write and _watch.on_write:
        _watch.on_write(call)
    if _watch.plan is None:
        return None
    answer = _watch.plan.write(model, parameters) if call.write else _watch.plan.read(model, parameters)
    if answer is None:
        return None
    call.sent = False
    answer.setdefault("ResponseMetadata", {"RequestId": "", "HTTPStatusCode": 404 if "Error" in answer else 200, "HTTPHeaders": {}, "RetryAttempts": 0})
    return AWSResponse("", answer["ResponseMetadata"]["HTTPStatusCode"], {}, None), answer


def _after(http_response: Any, parsed: dict, model: Any, context: dict, **_: Any) -> None:
    call = context.get("runbook_call")
    if call is None or _watch is None:
        return
    metadata = parsed.get("ResponseMetadata", {})
    call.duration_ms = (time.time() - call.at) * 1000
    call.request_id, call.status = metadata.get("RequestId", ""), metadata.get("HTTPStatusCode", 0)
    call.retries, call.error_code = metadata.get("RetryAttempts", 0), parsed.get("Error", {}).get("Code", "")
    if _watch.plan is not None and call.sent and not call.error_code:
        _watch.plan.merge(model, context.get("runbook_parameters", {}), parsed)
    _watch.on_call(call)


def _failed(exception: Exception, context: dict, **_: Any) -> None:
    call = context.get("runbook_call")
    if call is not None and _watch is not None:
        call.duration_ms = (time.time() - call.at) * 1000
        call.error_code = type(exception).__name__
        _watch.on_call(call)


def resource_name(model: Any, parameters: dict) -> str:
    """The name of what a call is about: its required naming members, joined (`bucket/key`, `from -> to`)."""
    shape = model.input_shape
    if shape is None:
        return ""
    ordered = [name for name in shape.required_members if name in parameters] + [name for name in parameters if name not in shape.required_members]
    names = [name for name in ordered if isinstance(parameters[name], str) and name.endswith(NAMING) and name not in SECRET_NAMES]
    required = [name for name in names if name in shape.required_members] or names[:1]
    values = [parameters[name] for name in required]
    source_first = any(name.startswith("Source") for name in required)
    return (" -> " if source_first else "/").join(values)


def _shown(model: Any, parameters: dict) -> dict[str, Any]:
    members = model.input_shape.members if model.input_shape else {}
    open_value = model.service_model.service_name == "ssm" and parameters.get("Type") == "String"
    shown = {}
    for name, value in parameters.items():
        secret = name in SECRET_NAMES or (members.get(name) is not None and members[name].metadata.get("sensitive") and not open_value)
        shown[name] = "(secret)" if secret else _plain(value)
    return shown


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): "(secret)" if key in SECRET_NAMES else _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(item) for item in value]
    if isinstance(value, (bytes, bytearray)):
        return f"({len(value)} bytes)"
    if hasattr(value, "read"):
        return "(a stream)"
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
