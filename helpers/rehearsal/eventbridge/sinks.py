"""Hand an event to an SQS queue, a Lambda function or a log group; what cannot be handed over is a `NotDelivered`."""

from __future__ import annotations

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from helpers.rehearsal.eventbridge import permissions

# Each call at the same time is a process of its own here: a replay of hundreds of events takes turns.
_calls = ThreadPoolExecutor(max_workers=2, thread_name_prefix="function")


@dataclass
class NotDelivered(Exception):
    """An event that a target did not take: `code` is EventBridge's error code, `message` a sentence.

    Source of the codes: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
    """

    code: str
    message: str


def to_queue(arn: str, payload: str, rule_arn: str, *, group: str = "", attributes: dict[str, str] | None = None) -> None:
    """Send a message with these string attributes; `group` is the message group of a FIFO queue."""
    from ministack.services import sqs

    queue = sqs._queue_by_arn(arn)
    if queue is None:
        raise NotDelivered("NO_RESOURCE", f"The queue {arn} does not exist.")
    if not permissions.queue_allows(queue, rule_arn):
        raise _locked_out(f"The policy of the queue {arn} does not let", "send messages", rule_arn)
    message: dict[str, Any] = {"QueueUrl": queue["url"], "MessageBody": payload}
    if group:
        message |= {"MessageGroupId": group, "MessageDeduplicationId": hashlib.sha256(payload.encode()).hexdigest()}
    if attributes:
        message["MessageAttributes"] = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}
    try:
        sqs._act_send_message(message, queue["url"])
    except sqs._Err as refusal:
        raise NotDelivered("INVALID_PARAMETER", str(refusal)) from refusal


def to_function(arn: str, payload: str, rule_arn: str) -> None:
    """Start a function with the payload as its event; its output goes to its log group."""
    from ministack.services import lambda_svc

    function, configuration, _ = lambda_svc._get_func_record_for_ref(arn)
    if not function or not configuration:
        raise NotDelivered("NO_RESOURCE", f"The function {arn} does not exist.")
    if not permissions.function_allows(function, arn, rule_arn):
        raise _locked_out(f"The policy of the function {arn} does not let", "invoke it", rule_arn)
    try:
        event = json.loads(payload)
    except ValueError as error:
        raise NotDelivered("INVALID_JSON", f"What the function {arn} would get is not JSON: {error}.") from error
    record = lambda_svc._execution_record_for_config(function, configuration)
    _calls.submit(lambda_svc._execute_function_with_config_scope, record, event)


def to_log_group(arn: str, payload: str, rule_arn: str, *, as_is: bool) -> None:
    """Write one log event in a stream of its own; `as_is`: the payload is the event and not made by the target's input.

    An input of a log group has the form {"timestamp": milliseconds, "message": text}.
    Source: https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutTargets.html (CloudWatch Logs)
    """
    from ministack.services import cloudwatch_logs as logs

    group = arn.removesuffix(":*").split(":log-group:")[1]
    if group not in logs._log_groups:
        raise NotDelivered("NO_RESOURCE", f"The log group {group} does not exist.")
    digest = hashlib.sha256(f"{rule_arn}{payload}{time.time_ns()}".encode()).hexdigest()
    stream_arn = f"{arn.removesuffix(':*')}:log-stream:{digest[:32]}"
    if not permissions.log_group_allows(group, stream_arn, rule_arn):
        raise _locked_out("No resource policy lets", f"create a stream and put events in the log group {group}", rule_arn)
    event = {"timestamp": int(time.time() * 1000), "message": payload} if as_is else _log_event(payload)
    where = {"logGroupName": group, "logStreamName": digest[:32]}
    logs._create_log_stream(where)
    logs._put_log_events({**where, "logEvents": [event]})


def _locked_out(who: str, action: str, rule_arn: str) -> NotDelivered:
    return NotDelivered("NO_PERMISSIONS", f"{who} {permissions.PRINCIPAL} {action} for {rule_arn}.")


def _log_event(payload: str) -> dict[str, Any]:
    form = '{"timestamp": <milliseconds>, "message": "<text>"}'
    try:
        asked = json.loads(payload)
        message = asked["message"]
        return {"timestamp": int(asked["timestamp"]), "message": message if isinstance(message, str) else json.dumps(message)}
    except (ValueError, KeyError, TypeError) as error:
        raise NotDelivered("INVALID_PARAMETER", f"The input of a log group must be {form}.") from error
