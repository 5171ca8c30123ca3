"""A local cloud with a registry, and the session that a script would have on it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from helpers.aws import Aws, connect
from helpers.rehearsal import cloud as clouds


@dataclass
class Account:
    """The cloud, the session, and a repository of the test's own."""

    cloud: clouds.Cloud
    aws: Aws
    repository: str

    @property
    def ecr(self) -> Any:
        return self.aws.client("ecr")

    def tags(self) -> dict[str, str]:
        """The repository's tags with the digests that they name."""
        found = self.ecr.describe_images(repositoryName=self.repository)["imageDetails"]
        return {tag: one["imageDigest"] for one in found for tag in one.get("imageTags", [])}

    def digests(self) -> set[str]:
        return {one["imageDigest"] for one in self.ecr.describe_images(repositoryName=self.repository)["imageDetails"]}


@pytest.fixture
def account(cloud: clouds.Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """A session on the cloud with an empty repository; faults that a test ordered and did not meet are taken back."""
    for name, value in {**cloud.environment(), "NO_PROXY": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    aws = connect()
    name = f"test/{uuid.uuid4().hex[:8]}"
    aws.client("ecr").create_repository(repositoryName=name)
    yield Account(cloud, aws, name)
    cloud.registry(cut={}, deny=[], kms_error=[], throttle=0, vanish={}, token_lifetime_s=43200)
