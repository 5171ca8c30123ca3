"""Layers in parts, by ECR's own API: after a broken connection only the part that was on its way is sent again.

The registry's way to go on with a layer, several PATCH requests, is no way on ECR: its Range header stays where the first piece
ended, https://github.com/aws/containers-roadmap/issues/2831. A part is base64 in JSON, a third more bytes than a layer sent whole.
https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_UploadLayerPart.html
"""

from __future__ import annotations

import binascii
import hashlib
import http.client
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from helpers.aws import RunbookError
from helpers.ecr.content import Blob, blame, changed, short
from helpers.ecr.wire import BUSY, CUT, PAUSE_S, TRIES, Connections
from helpers.ecr.words import refusal

MIB = 1 << 20
# https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html
LEAST, MOST_PARTS = 5 * MIB, 4200
SLICE = 192 * 1024  # a multiple of 3, as base64 makes 4 characters of 3 bytes

Body = Sequence[bytes]


class Refused(Exception):
    """An exception of ECR's API: its code, message, the members it has, the HTTP status and the request id."""

    def __init__(self, code: str, message: str, members: dict[str, Any], status: int, request_id: str) -> None:
        self.code, self.message, self.members, self.status, self.request_id = code, message, members, status, request_id
        super().__init__(code, message)


@dataclass(frozen=True)
class InParts:
    """A layer that was sent in parts: the bytes sent, those sent again included, how often the connection broke, and the last request's id."""

    sent: int
    cuts: int
    request_id: str


class Api:
    """The calls that upload layers of a repository, signed, over connections of their own that stay open; `client` is boto3's and says where the service is."""

    def __init__(self, session: Any, client: Any, repository: str) -> None:
        self.repository, self._session, meta = repository, session, client.meta
        self._service, self._region = meta.service_model.signing_name, meta.region_name
        self._target = meta.service_model.metadata["targetPrefix"]
        self._endpoint = meta.endpoint_url
        self.connections = Connections(meta.endpoint_url)

    def call(self, operation: str, body: Body, on_sent: Callable[[int], None] = lambda _: None) -> dict[str, Any]:
        """One call with a JSON body, in pieces; sent again where the service is busy. `on_sent` counts what left. Raises `Refused`, or one of `CUT`."""
        pause = PAUSE_S
        for left in reversed(range(TRIES)):
            answer = self.connections.exchange("POST", "/", self._signed(operation, body), send=lambda connection: self._send(connection, body, on_sent))
            told = _json(answer.body)
            if answer.status == 200:
                return {**told, "request_id": answer.headers.get("x-amzn-requestid", "")}
            code = str(told.get("__type", "")).rpartition("#")[2] or str(answer.status)
            if not left or not (answer.status in BUSY or code.startswith("Throttling")):
                raise Refused(code, str(told.get("message") or told.get("Message") or ""), told, answer.status, answer.headers.get("x-amzn-requestid", ""))
            time.sleep(pause * random.uniform(0.8, 1.2))
            pause *= 2
        raise AssertionError("unreachable")

    def _send(self, connection: http.client.HTTPConnection, body: Body, on_sent: Callable[[int], None]) -> None:
        for piece in body:
            connection.send(piece)
            on_sent(len(piece))

    def _signed(self, operation: str, body: Body) -> dict[str, str]:
        """The headers, with a signature that is good for this body."""
        hashed = hashlib.sha256()
        for piece in body:
            hashed.update(piece)
        headers = {
            "Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"{self._target}.{operation}",
            "X-Amz-Content-SHA256": hashed.hexdigest(), "Content-Length": str(sum(map(len, body))),
        }  # fmt: skip
        request = AWSRequest("POST", f"{self._endpoint.rstrip('/')}/", headers=headers)
        SigV4Auth(self._session.get_credentials().get_frozen_credentials(), self._service, self._region).add_auth(request)
        return dict(request.headers.items())


def part_size(size: int) -> int:
    """The bytes of a part of a layer of `size` bytes: small enough to lose little, and few enough for ECR."""
    return max(LEAST, -(-size // MOST_PARTS))


def send_in_parts(api: Api, blob: Blob, upload: str = "", on_bytes: Callable[[int], None] = lambda _: None) -> InParts:
    """Send a layer in parts and complete it. `upload` is an upload that broke: it is gone on with from what it has received.

    Raises `RunbookError` where a part is refused, the layer is not what its digest says, or the connection breaks again and
    again without a part getting through.
    """
    sending = _Sending(api, blob, on_bytes)
    try:
        return sending.run(upload)
    except Refused as refused:
        told = refusal(refused.code, refused.message, "UploadLayerPart", refused.status, refused.request_id)
        raise (blame(blob, told) if refused.code == "InvalidLayerException" else told) from refused


class _Sending:
    """One layer on its way: `position` is the first byte that ECR has not confirmed."""

    def __init__(self, api: Api, blob: Blob, on_bytes: Callable[[int], None]) -> None:
        self.api, self.repository, self.blob, self.on_bytes = api, api.repository, blob, on_bytes
        self.position, self.sent, self.cuts, self.in_a_row, self.step = 0, 0, 0, 0, part_size(blob.size)

    def run(self, upload: str) -> InParts:
        upload = upload or self._begin()
        corrected = -1
        with self.blob.open() as file:
            while self.position < self.blob.size:
                try:
                    told = self._send_part(upload, file)
                except Refused as refused:
                    last = int(refused.members.get("lastValidByteReceived") or 0) + 1
                    if refused.code == "InvalidLayerPartException" and 0 < last <= self.blob.size and last not in (corrected, self.position):
                        self.position = corrected = last  # the answer to this part was lost, or the upload has more than is known here
                    elif refused.code in ("UploadNotFoundException", "InvalidLayerPartException") and corrected != 0:
                        upload, self.position, corrected = self._begin(), 0, 0
                    else:
                        raise
                    continue
                self.position = int(told["lastByteReceived"]) + 1
        return InParts(self.sent, self.cuts, self._complete(upload))

    def _begin(self) -> str:
        return str(self._ask("InitiateLayerUpload", _body({"repositoryName": self.repository}))["uploadId"])

    def _complete(self, upload: str) -> str:
        try:
            return str(self._ask("CompleteLayerUpload", _body({"repositoryName": self.repository, "uploadId": upload, "layerDigests": [self.blob.digest]}))["request_id"])
        except Refused as refused:
            if refused.code in ("LayerAlreadyExistsException", "UploadNotFoundException") and self._there():
                return refused.request_id
            raise

    def _there(self) -> bool:
        """Whether the layer is in the repository: somebody else, or a request whose answer was lost, completed it."""
        told = self._ask("BatchCheckLayerAvailability", _body({"repositoryName": self.repository, "layerDigests": [self.blob.digest]}))
        return any(one.get("layerAvailability") == "AVAILABLE" for one in told.get("layers", []))

    def _count(self, size: int) -> None:
        self.sent += size * 3 // 4  # base64

    def _ask(self, operation: str, body: Body, on_sent: Callable[[int], None] = lambda _: None) -> dict[str, Any]:
        """A call, sent again where the connection breaks; after some breaks in a row it gives up."""
        while True:
            try:
                told = self.api.call(operation, body, on_sent)
                self.in_a_row = 0
                return told
            except CUT as error:
                self.cuts += 1
                self.in_a_row += 1
                if self.in_a_row >= TRIES:
                    raise RunbookError(
                        f"The connection broke {self.in_a_row} times at byte {self.position:,} of layer {short(self.blob.digest)} ({error or type(error).__name__}). Nothing was published.",
                        "Resume the run where the network holds: layers that are there are not sent again.",
                    ) from error
                time.sleep(PAUSE_S * 2 ** (self.in_a_row - 1) * random.uniform(0.8, 1.2))

    def _send_part(self, upload: str, file: Any) -> dict[str, Any]:
        """Send the part at `position`: put into the JSON as it is, where an encoder would look at every character, and in memory once."""
        size = min(self.step, self.blob.size - self.position)
        file.seek(self.blob.offset + self.position)
        slices = [binascii.b2a_base64(self._read(file, min(SLICE, size - start)), newline=False) for start in range(0, size, SLICE)]
        head = {"repositoryName": self.repository, "uploadId": upload, "partFirstByte": self.position, "partLastByte": self.position + size - 1}
        told = self._ask("UploadLayerPart", (_body(head)[0][:-1] + b',"layerPartBlob":"', *slices, b'"}'), self._count)
        self.on_bytes(size)
        return told

    def _read(self, file: Any, size: int) -> bytes:
        piece = b""
        while len(piece) < size:
            more = file.read(size - len(piece))
            if not more:
                raise changed(self.blob, "it has become shorter")
            piece += more
        return piece


def _body(value: dict[str, Any]) -> Body:
    return (json.dumps(value, separators=(",", ":")).encode(),)


def _json(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body or b"{}")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
