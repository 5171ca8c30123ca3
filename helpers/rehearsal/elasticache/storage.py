"""Reach S3 as the service does: only where a bucket policy or an ACL lets ElastiCache in.

Sources: AWS, "Exporting a backup" and "Tutorial: Seeding a new node-based cluster with an
externally created backup", with their troubleshooting sections for the errors' words.
"""

from __future__ import annotations

import fnmatch
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from helpers.rehearsal.elasticache.api import Fault

# ElastiCache's canonical user id in the default regions.
CANONICAL_ID = "540804c33a284a299d2547575ce1010f2312ef3da9b3a053c8bc45bf233e4353"
# What each permission means: actions on the bucket, actions on the object, and the ACL's name.
READ = (("s3:ListBucket",), ("s3:GetObject",), "READ")
WRITE = (
    ("s3:ListBucketMultipartUploads",),
    ("s3:PutObject", "s3:ListMultipartUploadParts"),
    "WRITE",
)
READ_ACP = (("s3:GetBucketAcl",), (), "READ_ACP")

InvalidValue = "InvalidParameterValueException"


@dataclass(frozen=True)
class Storage:
    """S3 of one cloud, in one region, as seen by the service."""

    endpoint: str
    region: str
    account: str
    _clients: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def principal(self) -> str:
        """Return the service principal that bucket policies name."""
        return f"{self.region}.elasticache-snapshot.amazonaws.com"

    def check_export(self, bucket: str, key: str) -> None:
        """Raise the service's error where it could not export to this bucket and key."""
        self._check_bucket(bucket)
        for permission in (READ, WRITE, READ_ACP):
            if not (self._policy_allows(bucket, key, permission) or self._acl_allows(bucket, permission[2])):
                raise Fault(
                    InvalidValue,
                    f"ElastiCache has not been granted {permission[2]} permissions on the S3 Bucket {bucket}.",
                )
        if self._head(bucket, key) is not None:
            raise Fault(InvalidValue, f"The S3 bucket {bucket} already contains an object with key {key}.")

    def check_import(self, arn: str) -> tuple[str, str]:
        """Return bucket and key of an object that the service may read, or raise its error."""
        bucket, key = _parse_arn(arn)
        self._check_bucket(bucket)
        head = self._head(bucket, key)
        if head is None:
            raise Fault(InvalidValue, f"The S3 object {arn} does not exist.")
        allowed = self._policy_allows(bucket, key, ((), ("s3:GetObject",), "READ"))
        if not (allowed or self._object_acl_allows(bucket, key)):
            raise Fault(InvalidValue, f"No permission to access S3 object: {arn}.")
        if str(head.get("ServerSideEncryption", "")).startswith("aws:kms"):
            raise Fault(InvalidValue, f"The S3 object {arn} must use SSE-S3 encryption, not SSE-KMS.")
        return bucket, key

    def upload(self, file: Path, bucket: str, key: str) -> None:
        """Put a file into a bucket."""
        self.client("s3").upload_file(str(file), bucket, key)

    def download(self, bucket: str, key: str, file: Path) -> None:
        """Get an object into a file."""
        file.parent.mkdir(parents=True, exist_ok=True)
        self.client("s3").download_file(bucket, key, str(file))

    def client(self, service: str) -> Any:
        """Return the boto3 client of a service of the cloud itself."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._new_client(service)
            return self._clients[service]

    def _new_client(self, service: str) -> Any:
        # Imported here, so that the cloud answers before everything that S3 will need is loaded.
        import boto3
        from botocore.config import Config

        session = boto3.Session("rehearsal", "rehearsal", region_name=self.region)
        # The cloud has no account settings to follow, and no proxy leads to this machine.
        config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 2}, connect_timeout=5, proxies={})
        return session.client(service, endpoint_url=self.endpoint, config=config)

    def _check_bucket(self, bucket: str) -> None:
        try:
            location = self.client("s3").get_bucket_location(Bucket=bucket)["LocationConstraint"] or "us-east-1"
        except ClientError as error:
            raise Fault(InvalidValue, f"The S3 bucket {bucket} does not exist.") from error
        if location != self.region:
            raise Fault(InvalidValue, f"The S3 bucket {bucket} is outside of the region.")

    def _head(self, bucket: str, key: str) -> dict[str, Any] | None:
        try:
            return dict(self.client("s3").head_object(Bucket=bucket, Key=key))
        except ClientError:
            return None

    def _policy_allows(self, bucket: str, key: str, permission: tuple[tuple[str, ...], tuple[str, ...], str]) -> bool:
        try:
            policy = json.loads(self.client("s3").get_bucket_policy(Bucket=bucket)["Policy"])
        except (ClientError, ValueError):
            return False
        of_bucket, of_object, _ = permission
        arn = f"arn:aws:s3:::{bucket}"
        needed = [(action, arn) for action in of_bucket] + [(action, f"{arn}/{key}") for action in of_object]
        return all(self._allows(policy, action, resource) for action, resource in needed)

    def _allows(self, policy: dict[str, Any], action: str, resource: str) -> bool:
        """Return whether a policy allows the service one action: some statement does, and none denies it."""
        effects = {
            statement["Effect"]
            for statement in _many(policy.get("Statement", []))
            if self._is_principal(statement.get("Principal"))
            and any(fnmatch.fnmatchcase(action.lower(), name.lower()) for name in _many(statement.get("Action", [])))
            and any(fnmatch.fnmatchcase(resource, name) for name in _many(statement.get("Resource", [])))
            and self._conditions_hold(statement.get("Condition", {}), denies=statement["Effect"] == "Deny")
        }
        return effects == {"Allow"}

    def _is_principal(self, principal: Any) -> bool:
        if principal == "*":
            return True
        return isinstance(principal, dict) and self.principal in _many(principal.get("Service", []))

    def _conditions_hold(self, conditions: dict[str, dict[str, Any]], *, denies: bool) -> bool:
        """Return whether the conditions hold; one that is not known here counts against the service."""
        facts = {"aws:sourceaccount": self.account, "aws:principalservicename": self.principal}
        for operator, wanted in conditions.items():
            for key, values in wanted.items():
                fact = facts.get(key.lower())
                if fact is None or operator not in ("StringEquals", "StringLike"):
                    return denies
                if not any(fnmatch.fnmatchcase(fact, value) for value in _many(values)):
                    return False
        return True

    def _acl_allows(self, bucket: str, permission: str) -> bool:
        return permission in _granted(lambda: self.client("s3").get_bucket_acl(Bucket=bucket))

    def _object_acl_allows(self, bucket: str, key: str) -> bool:
        return "READ" in _granted(lambda: self.client("s3").get_object_acl(Bucket=bucket, Key=key))


def _granted(ask: Callable[[], dict[str, Any]]) -> set[str]:
    """Return what an ACL grants to ElastiCache's canonical id."""
    try:
        grants = ask()["Grants"]
    except ClientError:
        return set()
    permissions = {g["Permission"] for g in grants if g["Grantee"].get("ID") == CANONICAL_ID}
    return permissions | ({"READ", "WRITE", "READ_ACP"} if "FULL_CONTROL" in permissions else set())


def _parse_arn(arn: str) -> tuple[str, str]:
    prefix = "arn:aws:s3:::"
    bucket, slash, key = arn.removeprefix(prefix).partition("/")
    if not arn.startswith(prefix) or not bucket or not slash or not key:
        raise Fault(InvalidValue, f"{arn!r} is not the ARN of an S3 object (arn:aws:s3:::bucket/key.rdb).")
    if "," in key:
        raise Fault(InvalidValue, f"The S3 object key must not contain a comma: {key}.")
    return bucket, key


def _many(value: Any) -> Iterator[Any]:
    return iter(value if isinstance(value, list) else [value])
