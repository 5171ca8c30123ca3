"""Whether a resource policy lets EventBridge in for a rule."""

from __future__ import annotations

import json
from typing import Any

import pytest

from helpers.eventbridge.health import allows

RULE = "arn:aws:events:eu-west-1:123456789012:rule/to-slack"
QUEUE = "arn:aws:sqs:eu-west-1:123456789012:outbox"
GOOD = {
    "Effect": "Allow",
    "Principal": {"Service": "events.amazonaws.com"},
    "Action": "sqs:SendMessage",
    "Resource": QUEUE,
}


def allowed(*statements: dict[str, Any], action: str = "sqs:SendMessage", resource: str = QUEUE) -> bool:
    return allows(json.dumps({"Version": "2012-10-17", "Statement": list(statements)}), action, RULE, resource)


@pytest.mark.parametrize(
    "change",
    [
        {}, {"Action": ["sqs:GetQueueUrl", "SQS:SendMessage"]}, {"Action": "sqs:*"}, {"Principal": "*"}, {"Principal": {"AWS": "*"}}, {"Resource": "*"},
        {"Principal": {"Service": ["sns.amazonaws.com", "events.amazonaws.com"]}}, {"Condition": {"ArnEquals": {"aws:SourceArn": RULE}}},
        {"Condition": {"ArnLike": {"AWS:SourceArn": ["arn:aws:events:*:*:rule/to-*"]}}}, {"Condition": {"StringEquals": {"aws:SourceAccount": "123456789012"}}},
    ],
)  # fmt: skip
def test_a_statement_about_the_rule_lets_it_in(change: dict[str, Any]) -> None:
    assert allowed({**GOOD, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"Action": "sqs:ReceiveMessage"}, {"Principal": {"Service": "sns.amazonaws.com"}}, {"Resource": QUEUE + "-2"}, {"Effect": "Deny"},
        {"Condition": {"ArnEquals": {"aws:SourceArn": RULE + "-2"}}}, {"Condition": {"Bool": {"aws:SecureTransport": "true"}, "ArnNotEquals": {"aws:SourceArn": RULE}}},
        {"Condition": {"StringEquals": {"aws:SourceAccount": "210987654321"}}},
    ],
)  # fmt: skip
def test_a_statement_about_something_else_does_not(change: dict[str, Any]) -> None:
    assert not allowed({**GOOD, **change})


def test_a_denial_outweighs_a_permission() -> None:
    assert not allowed(GOOD, {**GOOD, "Effect": "Deny", "Principal": "*"})


def test_a_policy_for_all_streams_of_a_log_group_counts_for_the_group() -> None:
    group = "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/events/x"
    statement = {**GOOD, "Action": ["logs:CreateLogStream", "logs:PutLogEvents"], "Resource": f"{group}:*"}
    assert allowed(statement, action="logs:PutLogEvents", resource=group)
    assert not allows("", "logs:PutLogEvents", RULE, group)
