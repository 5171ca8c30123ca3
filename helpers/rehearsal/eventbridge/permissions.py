"""Whether the policy of a queue, a function or a log group lets EventBridge deliver to it."""

from __future__ import annotations

from typing import Any

PRINCIPAL = "events.amazonaws.com"


def queue_allows(queue: dict[str, Any], rule_arn: str) -> bool:
    """Return whether the policy of an SQS queue lets a rule send messages.

    Source: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html#eb-sqs-permissions
    """
    attributes = queue["attributes"]
    return _allows(attributes.get("Policy"), "sqs:SendMessage", attributes["QueueArn"], rule_arn)


def function_allows(function: dict[str, Any], arn: str, rule_arn: str) -> bool:
    """Return whether the policy of a Lambda function lets a rule invoke it.

    Source: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html#eb-lambda-permissions
    """
    return _allows(function["policy"], "lambda:InvokeFunction", arn, rule_arn)


def log_group_allows(group: str, stream_arn: str, rule_arn: str) -> bool:
    """Return whether the log group's policy or one of the account's lets a rule create a stream and put events.

    The documented policy has the rule's ARN as a condition of PutLogEvents only, so the stream is created without one.
    Source: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html#eb-cloudwatchlogs-permissions
    """
    from ministack.services import cloudwatch_logs as service

    policies = [*service._resource_policies.values()]
    if own := service._log_group_policies.get(group):
        policies.append(own)
    documents = [one["policyDocument"] for one in policies]
    creates = any(_allows(document, "logs:CreateLogStream", stream_arn, "") for document in documents)
    return creates and any(_allows(document, "logs:PutLogEvents", stream_arn, rule_arn) for document in documents)


def _allows(document: Any, action: str, resource: str, rule_arn: str) -> bool:
    """Return whether a resource policy allows EventBridge an action; without a document it allows nothing."""
    from ministack.core.iam_evaluator import EvalContext, evaluate_resource_policy
    from ministack.core.responses import get_account_id, get_region

    source = {"aws:sourcearn": rule_arn, "aws:sourceaccount": get_account_id()} if rule_arn else {}
    context = EvalContext(
        # A service is nobody of the account: a grant to the account does not count for it.
        principal_arn="*",
        principal_type="Service",
        principal_account="",
        action=action,
        resource_arn=resource,
        region=get_region(),
        service_context=source,
    )
    return bool(document) and evaluate_resource_policy(document, context, service=PRINCIPAL).decision == "Allow"
