"""The IAM policy that the Redis upgrade runbook needs, from preflight to roll back.

Replace the names in the resources where your application's parameter and bucket have others.
Source of the export's part: https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/backups-exporting.html
"""

from __future__ import annotations

from typing import Any

ELASTICACHE = (
    "CopySnapshot", "CreateCacheParameterGroup", "CreateReplicationGroup", "CreateSnapshot", "DeleteCacheParameterGroup", "DeleteReplicationGroup",
    "DeleteSnapshot", "DescribeCacheClusters", "DescribeCacheEngineVersions", "DescribeCacheParameterGroups", "DescribeCacheParameters",
    "DescribeEngineDefaultParameters", "DescribeEvents", "DescribeReplicationGroups", "DescribeSnapshots", "ListAllowedNodeTypeModifications",
    "ModifyCacheParameterGroup", "ModifyReplicationGroup",
)  # fmt: skip
BUCKET = ("GetBucketAcl", "GetBucketLocation", "GetBucketPolicy", "ListBucket")  # without ListBucket a missing file answers 403, not 404
OBJECT = ("DeleteObject", "GetObject")

POLICY: dict[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [
        {"Sid": "WhoAmI", "Effect": "Allow", "Action": ["sts:GetCallerIdentity", "iam:ListAccountAliases"], "Resource": "*"},
        {"Sid": "Groups", "Effect": "Allow", "Action": [f"elasticache:{action}" for action in ELASTICACHE], "Resource": "*"},
        {"Sid": "ExportChecksTheCaller", "Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"},
        {"Sid": "BackupBucket", "Effect": "Allow", "Action": [f"s3:{action}" for action in BUCKET], "Resource": "arn:aws:s3:::sessions-backup"},
        {"Sid": "BackupFiles", "Effect": "Allow", "Action": [f"s3:{action}" for action in OBJECT], "Resource": "arn:aws:s3:::sessions-backup/*"},
        {"Sid": "Endpoint", "Effect": "Allow", "Action": ["ssm:GetParameter", "ssm:PutParameter"], "Resource": "arn:aws:ssm:*:*:parameter/sessions/redis/*"},
    ],
}
