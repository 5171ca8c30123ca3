"""The IAM policy that the EventBridge debugging runbook and `runbook cleanup` need.

Everything that is made or removed is named runbook-debug-...; only PutRule reaches other rules, to correct one.
"""

from __future__ import annotations

from typing import Any

RULE = "arn:aws:events:*:*:rule/*runbook-debug-*"
FUNCTION = "arn:aws:lambda:*:*:function:runbook-debug-*"
ROLE = "arn:aws:iam::*:role/runbook-debug/runbook-debug-*"
FUNCTION_LOGS = "arn:aws:logs:*:*:log-group:/aws/lambda/runbook-debug-*"
EVENT_LOGS = "arn:aws:logs:*:*:log-group:/aws/events/runbook-debug-*"
QUEUE = "arn:aws:sqs:*:*:runbook-debug-*"
LOG_GROUP = ("logs:CreateLogGroup", "logs:DeleteLogGroup", "logs:PutRetentionPolicy", "logs:TagResource")

# What is written, by what is chosen: the debug rule always, then the cause and the sink.
MAKE: dict[str, dict[str, tuple[str, ...]]] = {
    "rule": {RULE: ("events:DeleteRule", "events:PutRule", "events:PutTargets", "events:RemoveTargets", "events:TagResource")},
    "copy": {"arn:aws:events:*:*:event-bus/*": ("events:PutEvents",)},
    "replay": {"arn:aws:events:*:*:archive/*": ("events:StartReplay",)},
    "sqs": {QUEUE: ("sqs:CreateQueue", "sqs:DeleteQueue", "sqs:ReceiveMessage", "sqs:SetQueueAttributes", "sqs:TagQueue")},
    "logs": {EVENT_LOGS: LOG_GROUP, "arn:aws:logs:*:*:*": ("logs:PutResourcePolicy",)},
    "lambda": {
        FUNCTION_LOGS: LOG_GROUP,
        FUNCTION: ("lambda:AddPermission", "lambda:CreateFunction", "lambda:DeleteFunction", "lambda:TagResource"),
        ROLE: ("iam:CreateRole", "iam:DeleteRole", "iam:DeleteRolePolicy", "iam:PassRole", "iam:PutRolePolicy", "iam:TagRole"),
    },
}  # fmt: skip

# Reads of the rules, their health and the targets' own policies, and the listings that prove that nothing is left.
READ = (
    "cloudwatch:GetMetricData",
    "events:DescribeArchive", "events:DescribeEventBus", "events:DescribeReplay", "events:DescribeRule", "events:ListEventBuses", "events:ListRules",
    "events:ListTagsForResource", "events:ListTargetsByRule", "events:TestEventPattern",
    "iam:GetRole", "iam:GetRolePolicy", "iam:ListRoleTags", "iam:ListRoles", "iam:SimulatePrincipalPolicy",
    "lambda:GetFunctionConfiguration", "lambda:GetPolicy", "lambda:ListFunctions", "lambda:ListTags",
    "logs:DescribeLogGroups", "logs:DescribeResourcePolicies", "logs:FilterLogEvents", "logs:ListTagsForResource",
    "sns:GetTopicAttributes",
    "sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:ListQueueTags", "sqs:ListQueues",
)  # fmt: skip

POLICY: dict[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [
        {"Sid": "WhoAmI", "Effect": "Allow", "Action": ["sts:GetCallerIdentity", "iam:ListAccountAliases"], "Resource": "*"},
        {"Sid": "Look", "Effect": "Allow", "Action": list(READ), "Resource": "*"},
        # The error codes in dead letters: name your dead-letter queues.
        {"Sid": "DeadLetters", "Effect": "Allow", "Action": "sqs:ReceiveMessage", "Resource": "arn:aws:sqs:*:*:*-dlq"},
        *({"Sid": f"{kind.title()}{number}", "Effect": "Allow", "Action": list(actions), "Resource": resource} for kind, parts in MAKE.items() for number, (resource, actions) in enumerate(parts.items(), 1)),
        # Only to correct a rule: name the rules.
        {"Sid": "Correct", "Effect": "Allow", "Action": "events:PutRule", "Resource": "arn:aws:events:*:*:rule/*"},
    ],
}
