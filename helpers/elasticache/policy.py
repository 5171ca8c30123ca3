"""The IAM policy that the Redis upgrade runbook needs, from preflight to roll back.

Replace the names in the resources where your application's setting and bucket have others.
Source of the export's part: https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/backups-exporting.html
"""

from __future__ import annotations

from typing import Any

ELASTICACHE = (
    "AddTagsToResource", "CopySnapshot", "CreateCacheParameterGroup", "CreateReplicationGroup", "CreateSnapshot", "DeleteCacheParameterGroup", "DeleteReplicationGroup",
    "DeleteSnapshot", "DescribeCacheClusters", "DescribeCacheEngineVersions", "DescribeCacheParameterGroups", "DescribeCacheParameters",
    "DescribeEngineDefaultParameters", "DescribeEvents", "DescribeReplicationGroups", "DescribeSnapshots", "ListAllowedNodeTypeModifications",
    "ListTagsForResource", "ModifyCacheParameterGroup", "ModifyReplicationGroup", "TestFailover",
)  # fmt: skip
CONFIGURATION = (
    "CreateHostedConfigurationVersion", "DeleteHostedConfigurationVersion", "GetDeployment", "GetEnvironment", "GetHostedConfigurationVersion", "GetLatestConfiguration",
    "ListConfigurationProfiles", "ListDeployments", "ListEnvironments", "ListHostedConfigurationVersions", "StartConfigurationSession", "StartDeployment", "StopDeployment",
)  # fmt: skip
SECRET = ("DescribeSecret", "GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage")
KEY_USERS = ["appconfig.*.amazonaws.com", "secretsmanager.*.amazonaws.com", "ssm.*.amazonaws.com"]
BUCKET = ("GetBucketAcl", "GetBucketLocation", "GetBucketPolicy", "ListBucket")  # without ListBucket a missing file answers 403, not 404
OBJECT = ("DeleteObject", "GetObject")

POLICY: dict[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [
        {"Sid": "WhoAmI", "Effect": "Allow", "Action": ["sts:GetCallerIdentity", "iam:ListAccountAliases"], "Resource": "*"},
        {"Sid": "Groups", "Effect": "Allow", "Action": [f"elasticache:{action}" for action in ELASTICACHE], "Resource": "*"},
        # What the nodes cost; without it a dated table serves.
        {"Sid": "Prices", "Effect": "Allow", "Action": "pricing:GetProducts", "Resource": "*"},
        {"Sid": "ExportChecksTheCaller", "Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"},
        {"Sid": "BackupBucket", "Effect": "Allow", "Action": [f"s3:{action}" for action in BUCKET], "Resource": "arn:aws:s3:::sessions-backup"},
        {"Sid": "BackupFiles", "Effect": "Allow", "Action": [f"s3:{action}" for action in OBJECT], "Resource": "arn:aws:s3:::sessions-backup/*"},
        # Where the application finds its endpoint: keep the statements of the store that is used.
        {"Sid": "Endpoint", "Effect": "Allow", "Action": ["ssm:GetParameter", "ssm:PutParameter"], "Resource": "arn:aws:ssm:*:*:parameter/sessions/redis/*"},
        {"Sid": "EndpointAttributes", "Effect": "Allow", "Action": "ssm:DescribeParameters", "Resource": "*"},
        # It also covers auth_secret, where the group asks for a login.
        {"Sid": "EndpointSecret", "Effect": "Allow", "Action": [f"secretsmanager:{action}" for action in SECRET], "Resource": "arn:aws:secretsmanager:*:*:secret:sessions/redis/*"},
        {"Sid": "EndpointConfigurations", "Effect": "Allow", "Action": "appconfig:ListApplications", "Resource": "*"},
        {"Sid": "EndpointConfiguration", "Effect": "Allow", "Action": [f"appconfig:{action}" for action in CONFIGURATION],
         "Resource": ["arn:aws:appconfig:*:*:application/*", "arn:aws:appconfig:*:*:deploymentstrategy/AppConfig.AllAtOnce"]},
        {"Sid": "EndpointRecord", "Effect": "Allow", "Action": ["route53:ChangeResourceRecordSets", "route53:GetHostedZone", "route53:ListResourceRecordSets"], "Resource": "arn:aws:route53:::hostedzone/*"},
        {"Sid": "EndpointRecordChange", "Effect": "Allow", "Action": "route53:GetChange", "Resource": "arn:aws:route53:::change/*"},
        # Only where the setting is encrypted with a key of your own.
        {"Sid": "EndpointKey", "Effect": "Allow", "Action": ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey"], "Resource": "arn:aws:kms:*:*:key/*",
         "Condition": {"StringLike": {"kms:ViaService": KEY_USERS}}},
    ],
}
