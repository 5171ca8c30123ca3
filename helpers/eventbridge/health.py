"""How rules and targets fare: metrics, dead-letter queues, and whether EventBridge may reach a target."""

from __future__ import annotations

import fnmatch
import json
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pandas as pd

from helpers.aws import Aws, Check, planning
from helpers.aws.calls import peeking
from helpers.aws.errors import error_code, is_not_found
from helpers.eventbridge.rules import DEFAULT_BUS, Rule, Target

METRICS = (
    "MatchedEvents",
    "Invocations",
    "FailedInvocations",
    "ThrottledRules",
)  # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-monitoring.html
QUERIES = 500  # queries a GetMetricData call
SAMPLE = 100  # dead letters looked at in one queue
PRINCIPAL = "events.amazonaws.com"
ACTIONS = {
    "lambda": "lambda:InvokeFunction",
    "sqs": "sqs:SendMessage",
    "sns": "sns:Publish",
    "logs": "logs:PutLogEvents",
}


def rule_health(aws: Aws, rules: Iterable[Rule], hours: int = 24) -> pd.DataFrame:
    """The sums of MatchedEvents, Invocations, FailedInvocations and ThrottledRules of each rule over the last hours.

    CloudWatch has no datum where nothing happened (FailedInvocations is emitted only when it is not zero), so that is 0.
    """
    rules = list(rules)
    sums = _sums(aws, [(rule, metric) for rule in rules for metric in METRICS], hours)
    rows = [(rule.name, rule.state, *(int(sums[rule.name, metric]) for metric in METRICS)) for rule in rules]
    return pd.DataFrame(rows, columns=["rule", "state", *METRICS])


def _sums(aws: Aws, wanted: list[tuple[Rule, str]], hours: int) -> Counter[tuple[str, str]]:
    now, sums = time.time(), Counter()
    for start in range(0, len(wanted), QUERIES):
        part = wanted[start : start + QUERIES]
        queries = [
            {"Id": f"m{number}", "MetricStat": {"Metric": _metric(*one), "Period": 3600, "Stat": "Sum"}}
            for number, one in enumerate(part)
        ]
        pages = (
            aws.client("cloudwatch")
            .get_paginator("get_metric_data")
            .paginate(StartTime=now - hours * 3600, EndTime=now, MetricDataQueries=queries)
        )
        for found in (one for page in pages for one in page["MetricDataResults"]):
            rule, metric = part[int(found["Id"][1:])]
            sums[rule.name, metric] += sum(found["Values"])
    return sums


def _metric(rule: Rule, metric: str) -> dict[str, Any]:
    bus = [] if rule.bus == DEFAULT_BUS else [{"Name": "EventBusName", "Value": rule.bus}]
    return {
        "Namespace": "AWS/Events",
        "MetricName": metric,
        "Dimensions": [*bus, {"Name": "RuleName", "Value": rule.name}],
    }


def dead_letters(aws: Aws, targets: Iterable[Target]) -> pd.DataFrame:
    """The dead-letter queues of targets: depth, and how often which error stands in their messages.

    Messages are received with a visibility timeout of 0, so that they stay; a plan, which must not touch their receive
    counts, tells the depth only. Source: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
    """
    rows = []
    for arn in dict.fromkeys(one.dead_letter_arn for one in targets if one.dead_letter_arn):
        rows += _letters(aws, arn)
    return pd.DataFrame(rows, columns=["dead-letter queue", "depth", "error code", "messages", "the service says"])


def _letters(aws: Aws, arn: str) -> list[tuple[str, Any, str, Any, str]]:
    name, sqs = arn.rpartition(":")[2], aws.client("sqs")
    try:
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    except Exception as error:
        if is_not_found(error):
            return [(name, "", "", "", "there is no such queue: failed events are lost")]
        raise
    depth = int(
        sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])["Attributes"][
            "ApproximateNumberOfMessages"
        ]
    )
    if planning() or not depth:
        return [(name, depth, "", "", "")]
    try:
        found = _peek(sqs, url, min(depth, SAMPLE))
    except Exception as error:
        if "AccessDenied" not in error_code(error):
            raise
        return [(name, depth, "", "", f"its messages cannot be read: {error_code(error)}")]
    return [(name, depth, code, count, said) for (code, said), count in Counter(found.values()).most_common()] or [
        (name, depth, "", "", "")
    ]


def _peek(sqs: Any, url: str, wanted: int) -> dict[str, tuple[str, str]]:
    """The errors of some messages of a queue, by message id; the messages stay visible, so the same one may come twice."""
    found: dict[str, tuple[str, str]] = {}
    for _ in range(wanted):
        with peeking():
            letters = sqs.receive_message(
                QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0, MessageAttributeNames=["All"]
            ).get("Messages", [])
        found.update({one["MessageId"]: _error(one) for one in letters})
        if not letters or len(found) >= wanted:
            break
    return found


def _error(letter: dict[str, Any]) -> tuple[str, str]:
    told = {name: value.get("StringValue", "") for name, value in letter.get("MessageAttributes", {}).items()}
    return told.get("ERROR_CODE", "not from EventBridge"), told.get("ERROR_MESSAGE", "")


def target_checks(aws: Aws, rules: Iterable[Rule], targets: Iterable[Target]) -> list[Check]:
    """Whether EventBridge may reach each target of each rule: by the target's own policy, or by a role."""
    arns = {rule.name: rule.arn for rule in rules}
    return [_may_reach(aws, arns[one.rule], one) for one in targets]


def _may_reach(aws: Aws, rule_arn: str, target: Target) -> Check:
    name = f"{target.rule} may reach {target.arn.split(':', 5)[-1]}"
    if target.service not in ACTIONS:
        if target.role_arn:
            return Check(name, "pass", f"through {target.role_arn}")
        return Check(
            name,
            "warn",
            f"the target {target.id} has no role, which {target.service} needs",
            "Give the target a role that events.amazonaws.com may assume (PutTargets RoleArn).",
        )
    if target.role_arn and target.service != "logs":
        return Check(name, "pass", f"through {target.role_arn}")
    if target.arn.split(":")[3:5] != [aws.region, aws.account]:
        return Check(
            name,
            "warn",
            f"{target.arn} is in another account or region, where its policy cannot be read",
            "Look there.",
        )
    action = ACTIONS[target.service]
    try:
        allowed = any(allows(policy, action, rule_arn, target.arn) for policy in _policies(aws, target))
    except Exception as error:
        if "AccessDenied" in error_code(error):
            return Check(
                name,
                "warn",
                f"the policy of {target.arn} cannot be read: {error_code(error)}",
                "Let the caller read it, or look yourself.",
            )
        if not is_not_found(error):
            raise
        return Check(
            name,
            "warn",
            f"{target.arn} does not exist: its events are lost",
            "Create it, or remove the target from the rule.",
        )
    if allowed:
        return Check(name, "pass", f"its policy allows {PRINCIPAL} {action}")
    return Check(
        name,
        "warn",
        f"no policy of {target.arn} allows {PRINCIPAL} {action}: events do not arrive",
        _grant(target, rule_arn),
    )


def _policies(aws: Aws, target: Target) -> list[str]:
    """The policies that stand at a target, as JSON. Raises the service's not-found error where there is no target."""
    resource = target.arn.split(":", 5)[5]
    if target.service == "lambda":
        function = resource.removeprefix("function:")
        aws.client("lambda").get_function_configuration(FunctionName=function)
        return _or_none(lambda: aws.client("lambda").get_policy(FunctionName=function)["Policy"])
    if target.service == "sqs":
        url = aws.client("sqs").get_queue_url(QueueName=resource)["QueueUrl"]
        return [
            aws.client("sqs")
            .get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])
            .get("Attributes", {})
            .get("Policy", "")
        ]
    if target.service == "sns":
        return [aws.client("sns").get_topic_attributes(TopicArn=target.arn)["Attributes"].get("Policy", "")]
    return log_policies(aws, log_group_of(target.arn))


def log_group_of(arn: str) -> str:
    """The log group in a target's ARN, `arn:aws:logs:region:account:log-group:/aws/events/x` with or without `:*`."""
    return arn.split(":log-group:", 1)[1].removesuffix(":*")


def log_policies(aws: Aws, group: str) -> list[str]:
    """The account's resource policies of CloudWatch Logs and the log group's own. Raises not-found where the group does not exist."""
    logs = aws.client("logs")
    found = [
        one for one in logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"] if one["logGroupName"] == group
    ]
    if not found:
        raise logs.exceptions.ResourceNotFoundException(
            {"Error": {"Code": "ResourceNotFoundException", "Message": group}}, "DescribeLogGroups"
        )
    of_account = logs.describe_resource_policies()["resourcePolicies"]
    own = logs.describe_resource_policies(resourceArn=found[0]["arn"].removesuffix(":*"), policyScope="RESOURCE")[
        "resourcePolicies"
    ]
    return [one["policyDocument"] for one in [*of_account, *own]]


def _or_none(read: Any) -> list[str]:
    try:
        return [read()]
    except Exception as error:
        if is_not_found(error):
            return []
        raise


def allows(policy: str, action: str, source_arn: str, resource: str) -> bool:
    """True where a resource policy lets EventBridge do `action` on `resource` for the rule `source_arn`, and none of its statements denies it."""
    statements = json.loads(policy).get("Statement", []) if policy else []
    about = [
        one
        for one in ([statements] if isinstance(statements, dict) else statements)
        if _is_about(one, action, source_arn, resource)
    ]
    return any(one["Effect"] == "Allow" for one in about) and not any(one["Effect"] == "Deny" for one in about)


def _is_about(statement: dict[str, Any], action: str, source_arn: str, resource: str) -> bool:
    principal = statement.get("Principal", "")
    services = _many(principal.get("Service", principal.get("AWS", ""))) if isinstance(principal, dict) else [principal]
    return (
        any(one in (PRINCIPAL, "*") for one in services)
        and _named(statement.get("Action", []), action.lower(), lower=True)
        and _named(statement.get("Resource", "*"), resource.removesuffix(":*"), f"{resource.removesuffix(':*')}:*")
        and all(
            _holds(operator, name, value, source_arn)
            for operator, tests in statement.get("Condition", {}).items()
            for name, value in tests.items()
        )
    )


def _holds(operator: str, name: str, value: Any, source_arn: str) -> bool:
    """A condition on the rule's ARN or account; any other one is not met by EventBridge as far as can be told."""
    asked = {"aws:sourcearn": source_arn, "aws:sourceaccount": source_arn.split(":")[4]}.get(name.lower())
    return (
        asked is not None and operator.startswith(("Arn", "String")) and "Not" not in operator and _named(value, asked)
    )


def _named(patterns: Any, *texts: str, lower: bool = False) -> bool:
    return any(fnmatch.fnmatchcase(text, one.lower() if lower else one) for one in _many(patterns) for text in texts)


def _many(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _grant(target: Target, rule_arn: str) -> str:
    """What to do so that EventBridge may reach the target."""
    if target.service == "lambda":
        return f"aws lambda add-permission --function-name {target.arn.rpartition(':')[2]} --statement-id {target.rule} --action lambda:InvokeFunction --principal {PRINCIPAL} --source-arn {rule_arn}"
    if target.service == "logs":
        return f"Add a resource policy for the log group (aws logs put-resource-policy) that allows {PRINCIPAL} and delivery.logs.amazonaws.com logs:CreateLogStream and logs:PutLogEvents."
    return f"Add a statement to its policy that allows {PRINCIPAL} {ACTIONS[target.service]} where aws:SourceArn is {rule_arn}."
