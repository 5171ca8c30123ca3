"""The IAM policy that the ECR push runbook needs.

Layers go to the registry over HTTP, where IAM asks for the actions of the API: a missing one shows in Docker as an endless retry.
https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from helpers.aws import Aws
from helpers.ecr.login import PRIVATE

PUSH = ("ecr:BatchCheckLayerAvailability", "ecr:CompleteLayerUpload", "ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart")
# What is read back is pulled; a mounted layer is read from the other repository.
READ = ("ecr:BatchGetImage", "ecr:DescribeImageScanFindings", "ecr:DescribeImages", "ecr:DescribeRepositories", "ecr:GetDownloadUrlForLayer")
REGISTRY = ("ecr:GetAccountSetting", "ecr:GetAuthorizationToken", "ecr:GetRegistryScanningConfiguration", "iam:SimulatePrincipalPolicy", "kms:DescribeKey")
SETTINGS = ("ecr:CreateRepository", "ecr:DeleteRepository", "ecr:PutImageScanningConfiguration", "ecr:PutImageTagMutability")
UNDO = ("ecr:BatchDeleteImage",)
SCAN = ("ecr:StartImageScan",)
ENHANCED = ("ecr:PutRegistryScanningConfiguration", "iam:CreateServiceLinkedRole", "inspector2:Enable", "inspector2:ListAccountPermissions")
PUBLIC = tuple(f"ecr-public:{one.partition(':')[2]}" for one in (*PUSH, *UNDO, "ecr:CreateRepository", "ecr:DeleteRepository", "ecr:DescribeImages", "ecr:DescribeRepositories"))
PUBLIC_REGISTRY = ("ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken")

POLICY: dict[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [
        {"Sid": "WhoAmI", "Effect": "Allow", "Action": ["sts:GetCallerIdentity", "iam:ListAccountAliases"], "Resource": "*"},
        {"Sid": "Look", "Effect": "Allow", "Action": list(REGISTRY), "Resource": "*"},
        # Name your repositories: arn:aws:ecr:REGION:ACCOUNT:repository/NAME.
        {"Sid": "PushAndProve", "Effect": "Allow", "Action": [*PUSH, *READ, *SCAN, *UNDO], "Resource": "arn:aws:ecr:*:*:repository/*"},
        {"Sid": "Settings", "Effect": "Allow", "Action": list(SETTINGS), "Resource": "arn:aws:ecr:*:*:repository/*"},
        # Only where `scan` is enhanced.
        {"Sid": "EnhancedScans", "Effect": "Allow", "Action": list(ENHANCED), "Resource": "*"},
        # Only where `visibility` is public.
        {"Sid": "PublicRegistry", "Effect": "Allow", "Action": list(PUBLIC_REGISTRY), "Resource": "*"},
        {"Sid": "PublicRepositories", "Effect": "Allow", "Action": list(PUBLIC), "Resource": "arn:aws:ecr-public::*:repository/*"},
    ],
}


def writes_of(aws: Aws, repository: str, visibility: str, operations: Iterable[str]) -> list[tuple[str, tuple[str, ...]]]:
    """What a run with these changes of settings writes: the repository's ARN and the actions on it."""
    partition = aws.caller.split(":")[1]
    if visibility != PRIVATE:
        return [(f"arn:{partition}:ecr-public::{aws.account}:repository/{repository}", tuple(one.replace("ecr:", "ecr-public:") for one in PUSH))]
    settings = tuple(one for one in SETTINGS if one.partition(":")[2] in set(operations))
    return [(f"arn:{partition}:ecr:{aws.region}:{aws.account}:repository/{repository}", (*PUSH, *settings))]
