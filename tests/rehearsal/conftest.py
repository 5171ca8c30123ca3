"""One local cloud a test module, and the few things every test of it does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
import redis
from botocore.config import Config
from botocore.exceptions import ClientError

from helpers.rehearsal.cloud import Cloud
from helpers.rehearsal.scenario import SNAPSHOT_ACTIONS

TIMEOUT_S = 30.0
BUCKET = "sessions-backup"
GRANT = list(SNAPSHOT_ACTIONS)


def wait_until(condition: Callable[[], Any], timeout_s: float = TIMEOUT_S) -> Any:
    """Return what a condition gives as soon as that is true; fail after a bound."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    pytest.fail(f"not within {timeout_s} s: {condition}")


@dataclass
class Account:
    """The clients of one cloud, and what tests ask of them."""

    cloud: Cloud

    def __post_init__(self) -> None:
        self.elasticache = self.client("elasticache")
        self.s3 = self.client("s3")

    def client(self, service: str) -> Any:
        return boto3.Session("rehearsal", "rehearsal", region_name=self.cloud.region).client(
            service, endpoint_url=self.cloud.endpoint, config=Config(retries={"max_attempts": 1}, proxies={})
        )

    def create(self, name: str, *, wait: str = "available", **options: Any) -> dict[str, Any]:
        request = {"ReplicationGroupDescription": "a test", "Engine": "redis", "EngineVersion": "6.2"}
        request |= {"CacheNodeType": "cache.r6g.large", "NumCacheClusters": 1, **options}
        self.elasticache.create_replication_group(ReplicationGroupId=name, **request)
        return self.reaches(name, wait)

    def group(self, name: str) -> dict[str, Any]:
        return self.elasticache.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]

    def member(self, name: str) -> dict[str, Any]:
        found = self.elasticache.describe_cache_clusters(CacheClusterId=name, ShowCacheNodeInfo=True)
        return found["CacheClusters"][0]

    def reaches(self, name: str, status: str) -> dict[str, Any]:
        wait_until(lambda: self.group(name)["Status"] == status)
        return self.group(name)

    def gone(self, name: str) -> None:
        wait_until(lambda: self.refusal(self.group, name) == "ReplicationGroupNotFoundFault")

    def modify(self, name: str, **changes: Any) -> dict[str, Any]:
        self.elasticache.modify_replication_group(ReplicationGroupId=name, ApplyImmediately=True, **changes)
        return self.reaches(name, "available")

    def snapshot(self, name: str, group: str) -> dict[str, Any]:
        self.elasticache.create_snapshot(SnapshotName=name, ReplicationGroupId=group)
        return self.snapshot_available(name)

    def snapshot_available(self, name: str) -> dict[str, Any]:
        def find() -> Any:
            found = self.elasticache.describe_snapshots(SnapshotName=name)["Snapshots"][0]
            return found if found["SnapshotStatus"] == "available" else None

        return wait_until(find)

    def data(self, name: str, endpoint: str = "PrimaryEndpoint") -> redis.Redis:
        address = self.group(name)["NodeGroups"][0][endpoint]
        return redis.Redis(host=address["Address"], port=address["Port"], decode_responses=True)

    def node(self, cluster: str) -> redis.Redis:
        address = self.member(cluster)["CacheNodes"][0]["Endpoint"]
        return redis.Redis(host=address["Address"], port=address["Port"], decode_responses=True)

    def bucket(self, name: str = BUCKET, *, granted: bool = True, region: str | None = None) -> str:
        client = self.s3
        location = region or self.cloud.region
        if region:
            client = boto3.Session("rehearsal", "rehearsal", region_name=region).client(
                "s3", endpoint_url=self.cloud.endpoint
            )
        client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": location})
        if granted:
            self.grant(name)
        return name

    def grant(self, bucket: str, actions: list[str] | None = None) -> None:
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": f"{self.cloud.region}.elasticache-snapshot.amazonaws.com"},
            "Action": actions or GRANT,
            "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        }
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        self.s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))

    def exists(self, bucket: str, key: str) -> bool:
        return any(o["Key"] == key for o in self.s3.list_objects_v2(Bucket=bucket).get("Contents", []))

    def events(self, source: str) -> list[str]:
        return [e["Message"] for e in self.elasticache.describe_events(SourceIdentifier=source)["Events"]]

    def refusal(self, call: Callable[..., Any], *args: Any, **options: Any) -> str:
        """Return the error code of a call that is refused, "" for one that is not."""
        try:
            call(*args, **options)
        except ClientError as error:
            self.last_message = error.response["Error"]["Message"]
            return str(error.response["Error"]["Code"])
        return ""


@pytest.fixture(scope="session")
def until() -> Callable[..., Any]:
    return wait_until


@pytest.fixture(scope="module")
def account(cloud: Cloud) -> Account:
    return Account(cloud)
