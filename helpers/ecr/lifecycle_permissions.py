"""The IAM policy that the lifecycle runbook and the storage notebook need; without the reads of ECS and the like nobody is seen using an image."""

from __future__ import annotations

from typing import Any

READ = ("ecr:BatchGetImage", "ecr:DescribeImages", "ecr:DescribeRepositories", "ecr:GetLifecyclePolicy", "ecr:GetLifecyclePolicyPreview")
WRITE = ("ecr:DeleteLifecyclePolicy", "ecr:PutLifecyclePolicy", "ecr:StartLifecyclePolicyPreview")
USES = (
    "ecs:DescribeServices", "ecs:DescribeTaskDefinition", "ecs:DescribeTasks", "ecs:ListClusters", "ecs:ListServices",
    "ecs:ListTaskDefinitionFamilies", "ecs:ListTasks", "eks:ListClusters", "inspector2:ListCoverage", "lambda:GetFunction", "lambda:ListFunctions",
)  # fmt: skip

POLICY: dict[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [
        {"Sid": "WhoAmI", "Effect": "Allow", "Action": ["sts:GetCallerIdentity", "iam:ListAccountAliases"], "Resource": "*"},
        {"Sid": "WhoUsesImagesAndWhatTheyCost", "Effect": "Allow", "Action": [*USES, "pricing:GetProducts"], "Resource": "*"},
        # Every repository of the account: name yours, as arn:aws:ecr:*:*:repository/shop/web.
        {"Sid": "ReadRepositories", "Effect": "Allow", "Action": list(READ), "Resource": "arn:aws:ecr:*:*:repository/*"},
        {"Sid": "PutPolicies", "Effect": "Allow", "Action": list(WRITE), "Resource": "arn:aws:ecr:*:*:repository/*"},
    ],
}
