"""The keys that a demonstration writes: under a prefix of their own, short-lived, and removed at its end."""

from __future__ import annotations

from typing import Any, Protocol

import redis

from helpers.aws import act

PREFIX = "runbook:demo:"
TTL_S = 300.0  # they end by themselves should nobody remove them

# The IAM policy of the notebook: it reads, but for TestFailover where that is asked for. The secret is read where the group wants AUTH.
POLICY: dict[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [
        {"Sid": "WhoAmI", "Effect": "Allow", "Action": ["sts:GetCallerIdentity", "iam:ListAccountAliases"], "Resource": "*"},
        {"Sid": "Group", "Effect": "Allow", "Action": ["elasticache:DescribeCacheClusters", "elasticache:DescribeEvents", "elasticache:DescribeReplicationGroups"], "Resource": "*"},
        {"Sid": "Failover", "Effect": "Allow", "Action": "elasticache:TestFailover", "Resource": "*"},
        {"Sid": "AuthToken", "Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "arn:aws:secretsmanager:*:*:secret:sessions/redis/auth-*"},
    ],
}


class Writer(Protocol):
    """Something that remembers the keys it wrote."""

    client: redis.Redis | redis.RedisCluster
    prefix: str
    written: set[str]


def remove(*writers: Writer) -> int:
    """Delete what the writers wrote; returns how many keys were still there (0 in a plan). No other key is touched."""
    removed = 0
    for writer in writers:
        removed += act("redis", "DEL", f"{writer.prefix}*", lambda one=writer: _delete(one)) or 0
    return removed


def _delete(writer: Writer) -> int:
    """One by one: with cluster mode enabled the keys of one command must be of one slot."""
    return sum(int(writer.client.delete(key)) for key in sorted(writer.written))
