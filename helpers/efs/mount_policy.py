"""The IAM policy that the EFS mount runbook needs. The hosts' own roles need AmazonSSMManagedInstanceCore, and the client actions where `iam` is set."""

from __future__ import annotations

from typing import Any

READ = (
    "ec2:DescribeInstances", "ec2:DescribeSecurityGroups",
    "elasticfilesystem:DescribeAccessPoints", "elasticfilesystem:DescribeFileSystemPolicy", "elasticfilesystem:DescribeFileSystems",
    "elasticfilesystem:DescribeMountTargetSecurityGroups", "elasticfilesystem:DescribeMountTargets",
    "ssm:DescribeInstanceInformation", "ssm:GetCommandInvocation",
)  # fmt: skip

POLICY: dict[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [
        {"Sid": "WhoAmI", "Effect": "Allow", "Action": ["sts:GetCallerIdentity", "iam:ListAccountAliases"], "Resource": "*"},
        {"Sid": "Look", "Effect": "Allow", "Action": list(READ), "Resource": "*"},
        # Root on every instance of the account: name yours, or add a condition on ssm:resourceTag/….
        {"Sid": "RunOnHosts", "Effect": "Allow", "Action": "ssm:SendCommand", "Resource": ["arn:aws:ssm:*::document/AWS-RunShellScript", "arn:aws:ec2:*:*:instance/*"]},
    ],
}
