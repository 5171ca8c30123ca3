"""A registry to ask over HTTP and by the API, and small images to put into it."""

from __future__ import annotations

import base64
import http.client
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from helpers.rehearsal.cloud import Cloud
from helpers.rehearsal.ecr.manifests import digest_of

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["errors"][0]["code"])

    @property
    def message(self) -> str:
        return str(json.loads(self.body)["errors"][0]["message"])


@dataclass
class Registry:
    """A cloud's registry, asked as clients ask it, and a repository of the test's own."""

    cloud: Cloud
    repository: str
    _token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        self.ecr = self.client("ecr")

    def client(self, service: str) -> Any:
        options = Config(retries={"max_attempts": 0}, proxies={})
        return boto3.Session("rehearsal", "rehearsal", region_name=self.cloud.region).client(service, endpoint_url=self.cloud.endpoint, config=options)

    def login(self) -> tuple[str, str]:
        """Return where the registry is (host:port) and a password."""
        told = self.ecr.get_authorization_token()["authorizationData"][0]
        return told["proxyEndpoint"].removeprefix("http://"), base64.b64decode(told["authorizationToken"]).decode().removeprefix("AWS:")

    def ask(self, method: str, path: str, body: Any = None, *, password: str | None = "", **headers: str) -> Answer:
        """Send a request with a good password, another one, or (None) none."""
        if not self._token:
            self.host, self._token = self.login()
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        if password is not None:
            told["Authorization"] = "Basic " + base64.b64encode(f"AWS:{password or self._token}".encode()).decode()
        connection = http.client.HTTPConnection(self.host, timeout=20)
        try:
            connection.request(method, path.removeprefix(f"http://{self.host}"), body, told)
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def blob(self, content: bytes, repository: str = "") -> str:
        """Push a layer in one PUT; return its digest."""
        started = self.ask("POST", f"/v2/{repository or self.repository}/blobs/uploads/")
        assert started.status == 202
        done = self.ask("PUT", f"{started.headers['location']}?digest={digest_of(content)}", content)
        assert done.status == 201, done.body
        return digest_of(content)

    def manifest(self, *layers: bytes, **more: Any) -> bytes:
        """Push layers and a config; return a manifest of them, which is not pushed."""
        parts = [{"mediaType": OCI_LAYER, "digest": self.blob(one), "size": len(one)} for one in layers]
        config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
        head = {"mediaType": OCI_CONFIG, "digest": self.blob(config), "size": len(config)}
        return json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": head, "layers": parts, **more}).encode()

    def put(self, content: bytes, reference: str, media_type: str = OCI_MANIFEST) -> Answer:
        return self.ask("PUT", f"/v2/{self.repository}/manifests/{reference}", content, Content_Type=media_type)

    def push(self, tag: str, *layers: bytes, **more: Any) -> str:
        """Push an image under a tag; return its digest."""
        content = self.manifest(*(layers or (tag.encode(),)), **more)
        answer = self.put(content, tag)
        assert answer.status == 201, answer.body
        return digest_of(content)

    def tags(self) -> dict[str, str]:
        found = self.ecr.describe_images(repositoryName=self.repository)["imageDetails"]
        return {tag: one["imageDigest"] for one in found for tag in one.get("imageTags", [])}

    def detail(self, **identity: str) -> dict[str, Any]:
        return dict(self.ecr.describe_images(repositoryName=self.repository, imageIds=[identity])["imageDetails"][0])

    def refusal(self, operation: str, **asked: Any) -> tuple[str, str, int]:
        """Return code, sentence and HTTP status of the API's refusal of an operation on the repository."""
        with pytest.raises(ClientError) as caught:
            getattr(self.ecr, operation)(**{"repositoryName": self.repository, **asked})
        told = caught.value.response
        return told["Error"]["Code"], told["Error"]["Message"], told["ResponseMetadata"]["HTTPStatusCode"]


@pytest.fixture
def registry(cloud: Cloud) -> Iterator[Registry]:
    """The cloud's registry with an empty repository; faults that a test ordered are taken back."""
    made = Registry(cloud, f"test/{uuid.uuid4().hex[:8]}")
    made.ecr.create_repository(repositoryName=made.repository)
    yield made
    cloud.registry(cut={}, deny=[], kms_error=[], throttle=0, vanish={}, token_lifetime_s=12 * 3600, scan_s=1.0)
