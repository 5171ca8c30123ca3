"""Where a debug rule sends events so that they can be read: a Lambda function that prints them, a log group, or a queue.

Each sink is made unless it is there, carries the run's tags from its first moment, and is named after the run.
"""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable
from typing import Any

from helpers.aws import UNKNOWN, Aws, RunbookError, planning, wait
from helpers.aws.calls import peeking
from helpers.aws.errors import is_not_found
from helpers.eventbridge.health import PRINCIPAL

ROLE_PATH = "/runbook-debug/"
RUNTIME, HANDLER = "python3.12", "index.handler"
CODE = 'import json\n\n\ndef handler(event, context):\n    print(json.dumps({"event": event}))\n'
BASIC_LOGS = ["logs:CreateLogStream", "logs:PutLogEvents"]
KEPT_DAYS = 1  # log events, should the log group stay behind
HIDDEN = 20  # seconds that a message read from the queue stays hidden from the next read
ROLE_TIMEOUT = 60.0  # seconds; a new role is known everywhere within some ten
Tags = dict[str, str]


def arn_of(aws: Aws, service: str, resource: str) -> str:
    """The ARN of a resource in the caller's partition, region and account."""
    return f"arn:{aws.caller.split(':')[1]}:{service}:{aws.region}:{aws.account}:{resource}"


def log_group_name(sink: str, name: str) -> str:
    """The log group of a sink: of its function, or where EventBridge may write."""
    return f"/aws/lambda/{name}" if sink == "lambda" else f"/aws/events/{name}"


def ensure_sink(aws: Aws, sink: str, name: str, rule_arn: str, tags: Tags) -> str:
    """Make the sink of a rule unless it is there; returns the ARN that is to be the rule's target."""
    return {"lambda": ensure_function, "logs": ensure_events_log, "sqs": ensure_queue}[sink](aws, name, rule_arn, tags)


def ensure_queue(aws: Aws, name: str, rule_arn: str, tags: Tags) -> str:
    """A queue that the rule may send to.

    Source: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html
    """
    arn, sqs = arn_of(aws, "sqs", name), aws.client("sqs")
    if not _exists(lambda: sqs.get_queue_url(QueueName=name)):
        condition = {"ArnEquals": {"aws:SourceArn": rule_arn}}
        sqs.create_queue(
            QueueName=name, Attributes={"Policy": _policy([PRINCIPAL], ["sqs:SendMessage"], arn, condition)}, tags=tags
        )
    return arn


def ensure_events_log(aws: Aws, name: str, rule_arn: str, tags: Tags) -> str:
    """A log group with a resource policy of its own, of which an account may have any number, while it has room for 10 others.

    Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/AWS-logs-and-resource-policy.html
    """
    group, logs = log_group_name("logs", name), aws.client("logs")
    arn = arn_of(aws, "logs", f"log-group:{group}")
    _ensure_log_group(aws, group, tags)
    if planning() or not logs.describe_resource_policies(resourceArn=arn, policyScope="RESOURCE")["resourcePolicies"]:
        document = _policy([PRINCIPAL, "delivery.logs.amazonaws.com"], BASIC_LOGS, f"{arn}:*")
        logs.put_resource_policy(resourceArn=arn, policyDocument=document)
    return arn


def ensure_function(aws: Aws, name: str, rule_arn: str, tags: Tags) -> str:
    """A function that prints each event as `{"event": {...}}`, with a log group, a role that may write to it alone, and leave for the rule to call it."""
    group, iam, functions = log_group_name("lambda", name), aws.client("iam"), aws.client("lambda")
    _ensure_log_group(aws, group, tags)
    if not _exists(lambda: iam.get_role(RoleName=name)):
        iam.create_role(
            RoleName=name,
            Path=ROLE_PATH,
            AssumeRolePolicyDocument=_policy(["lambda.amazonaws.com"], ["sts:AssumeRole"]),
            Tags=_pairs(tags),
        )
    if not _exists(lambda: iam.get_role_policy(RoleName=name, PolicyName=name)):
        allowed = {
            "Effect": "Allow",
            "Action": BASIC_LOGS,
            "Resource": f"{arn_of(aws, 'logs', f'log-group:{group}')}:*",
        }
        iam.put_role_policy(
            RoleName=name, PolicyName=name, PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        )
    if not _exists(lambda: functions.get_function_configuration(FunctionName=name)):
        role = f"arn:{aws.caller.split(':')[1]}:iam::{aws.account}:role{ROLE_PATH}{name}"
        wait(
            f"the role of {name}",
            lambda: _create_function(functions, name, role, tags),
            until=("created",),
            timeout=ROLE_TIMEOUT,
        )
    wait(
        f"function {name}",
        lambda: functions.get_function_configuration(FunctionName=name)["State"],
        until=("Active",),
        fail=("Failed",),
        timeout=120,
    )
    if not _may_invoke(functions, name):
        functions.add_permission(
            FunctionName=name, StatementId=name, Action="lambda:InvokeFunction", Principal=PRINCIPAL, SourceArn=rule_arn
        )
    return arn_of(aws, "lambda", f"function:{name}")


def _create_function(functions: Any, name: str, role: str, tags: Tags) -> str:
    """Create the function; a new role cannot be assumed for some seconds."""
    try:
        functions.create_function(
            FunctionName=name, Runtime=RUNTIME, Handler=HANDLER, Role=role, Code={"ZipFile": _zipped()}, Tags=tags
        )
    except functions.exceptions.InvalidParameterValueException as error:
        if "cannot be assumed" not in str(error):
            raise
        return "not known to Lambda yet"
    return "created"


def _may_invoke(functions: Any, name: str) -> bool:
    try:
        return f'"{name}"' in functions.get_policy(FunctionName=name)["Policy"]
    except functions.exceptions.ResourceNotFoundException:
        return False


def _zipped() -> bytes:
    """The function's code as a zip, the same bytes every time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("index.py", (2026, 1, 1, 0, 0, 0)), CODE)
    return buffer.getvalue()


def _ensure_log_group(aws: Aws, group: str, tags: Tags) -> None:
    logs = aws.client("logs")
    if group not in [one["logGroupName"] for one in logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]]:
        logs.create_log_group(logGroupName=group, tags=tags)
        logs.put_retention_policy(logGroupName=group, retentionInDays=KEPT_DAYS)


def _policy(
    principals: list[str], actions: list[str], resource: str = "", condition: dict[str, Any] | None = None
) -> str:
    optional = {"Resource": resource, "Condition": condition}
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": principals if len(principals) > 1 else principals[0]},
        "Action": actions,
    }
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [{**statement, **{name: value for name, value in optional.items() if value}}],
        }
    )


def _pairs(tags: Tags) -> list[dict[str, str]]:
    return [{"Key": name, "Value": value} for name, value in tags.items()]


def _exists(read: Callable[[], Any]) -> bool:
    try:
        read()
    except Exception as error:
        if is_not_found(error):
            return False
        raise
    return True


class SinkReader:
    """The events that a sink got, as JSON text in the order they were found; each `read` adds the new ones.

    Delivery is at least once: an event that comes twice counts once.
    """

    def __init__(self, aws: Aws, sink: str, name: str, log_group: str, since: float) -> None:
        self._aws, self._sink, self._name, self._since = aws, sink, name, since
        self._group = log_group or log_group_name(sink, name)
        self._found: dict[str, None] = {}

    def read(self) -> list[str]:
        """All events so far. Raises `RunbookError` where the sink is gone."""
        try:
            self._found.update(dict.fromkeys(self._messages() if self._sink == "sqs" else self._lines()))
        except Exception as error:
            if is_not_found(error):
                raise RunbookError(
                    f"The sink of {self._name} is gone: somebody, or `runbook cleanup`, removed it.", "Start a new run."
                ) from error
            raise
        return list(self._found)

    def _messages(self) -> list[str]:
        """Queue messages, hidden for some seconds and never deleted: a killed run finds them again."""
        sqs, found = self._aws.client("sqs"), []
        url = sqs.get_queue_url(QueueName=self._name)["QueueUrl"]
        while True:
            with peeking():
                messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=HIDDEN).get(
                    "Messages", []
                )
            found += [one["Body"] for one in messages]
            if not messages:
                return found

    def _lines(self) -> list[str]:
        pages = (
            self._aws.client("logs")
            .get_paginator("filter_log_events")
            .paginate(logGroupName=self._group, startTime=int(self._since * 1000))
        )
        lines = [one["message"].strip() for page in pages for one in page["events"]]
        if self._sink == "logs":
            return [line for line in lines if line.startswith("{")]
        return [
            json.dumps(json.loads(line)["event"], ensure_ascii=False) for line in lines if line.startswith('{"event":')
        ]


def dated_tags(run_id: str, hours: float) -> Tags:
    """The tags of what a run makes: its id, and when the thing may be removed as left behind (UTC; not known in a plan)."""
    expires = UNKNOWN if planning() else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + hours * 3600))
    return {"runbook-run": run_id, "runbook-expires": expires}
