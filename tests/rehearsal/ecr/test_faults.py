"""What a rehearsal orders to go wrong in ECR, as both planes show it."""

from __future__ import annotations

import os
import struct
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError

from helpers.rehearsal.cloud import CloudFailed
from helpers.rehearsal.ecr.manifests import digest_of

MIB = 1024 * 1024


def start(registry: Any) -> str:
    return str(registry.ask("POST", f"/v2/{registry.repository}/blobs/uploads/").headers["location"])


def test_the_connection_of_a_layer_breaks_as_often_as_ordered_and_nothing_of_it_stays(registry: Any) -> None:
    content, where = os.urandom(3 * MIB), start(registry)
    registry.cloud.registry(cut={"after_bytes": MIB, "times": 2})
    for _ in range(2):
        with pytest.raises((ConnectionError, OSError)):
            registry.ask("PATCH", where, content)
    assert registry.cloud.registry()["faults"] == {}
    assert registry.ask("PATCH", where, content).headers["range"] == f"0-{3 * MIB - 1}"
    assert registry.ask("PUT", f"{where}?digest={digest_of(content)}").status == 201


def test_a_layer_part_breaks_off_too_and_the_upload_goes_on_after_the_last_whole_part(registry: Any) -> None:
    content = os.urandom(12 * MIB)
    where = {"repositoryName": registry.repository, "uploadId": registry.ecr.initiate_layer_upload(repositoryName=registry.repository)["uploadId"]}
    registry.cloud.registry(cut={"after_bytes": 8 * MIB, "times": 1})

    def send(first: int) -> Any:
        part = content[first : first + 6 * MIB]
        return registry.ecr.upload_layer_part(**where, partFirstByte=first, partLastByte=first + len(part) - 1, layerPartBlob=part)

    send(0)
    with pytest.raises(ConnectionClosedError):
        send(6 * MIB)
    assert send(6 * MIB)["lastByteReceived"] == 12 * MIB - 1
    registry.ecr.complete_layer_upload(**where, layerDigests=[digest_of(content)])


def test_a_client_that_goes_away_in_a_layer_leaves_the_upload_as_it_was(registry: Any) -> None:
    import base64
    import socket

    where = start(registry)
    registry.ask("GET", "/v2/")
    login = base64.b64encode(f"AWS:{registry._token}".encode()).decode()
    host, port = registry.host.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as client:
        path = where.removeprefix(f"http://{registry.host}")
        client.sendall(f"PATCH {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {login}\r\nContent-Length: 1000000\r\n\r\n".encode() + b"x" * 300_000)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert registry.ask("PUT", f"{where}?digest={digest_of(b'whole')}", b"whole").status == 201


def test_an_action_that_is_denied_is_named_in_the_words_of_iam(registry: Any) -> None:
    registry.cloud.registry(deny=["ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:GetAuthorizationToken"])
    sentence = f"is not authorized to perform: ecr:InitiateLayerUpload on resource: arn:aws:ecr:{registry.cloud.region}:123456789012:repository/{registry.repository}"
    code, message, status = registry.refusal("initiate_layer_upload")
    assert (code, status) == ("AccessDeniedException", 400)
    assert sentence in message and message.endswith("because no identity-based policy allows the ecr:InitiateLayerUpload action")
    with pytest.raises(Exception, match="ecr:GetAuthorizationToken on resource: \\*"):
        registry.ecr.get_authorization_token()
    registry.cloud.registry(deny=["ecr:InitiateLayerUpload", "ecr:PutImage"])
    answer = registry.ask("POST", f"/v2/{registry.repository}/blobs/uploads/")
    assert (answer.status, answer.code) == (403, "DENIED")
    assert sentence in answer.message
    assert registry.put(b"{}", "v1").status == 403


def test_a_key_that_cannot_be_used_stops_layers_of_that_repository(registry: Any) -> None:
    registry.cloud.registry(kms_error=[registry.repository])
    assert registry.refusal("initiate_layer_upload")[0] == "KmsException"
    answer = registry.ask("POST", f"/v2/{registry.repository}/blobs/uploads/")
    assert (answer.status, answer.code) == (400, "DENIED")
    assert "customer master key" in answer.message
    assert registry.ecr.describe_images(repositoryName=registry.repository)["imageDetails"] == []


def test_so_many_requests_are_too_many_as_were_ordered(registry: Any) -> None:
    where = start(registry)
    registry.cloud.registry(throttle=2)
    assert registry.refusal("describe_images") == ("ThrottlingException", "Rate exceeded", 400)
    answer = registry.ask("PATCH", where, b"layer")
    assert (answer.status, answer.code, answer.message) == (429, "TOOMANYREQUESTS", "Rate exceeded")
    assert registry.ask("PATCH", where, b"layer").status == 201
    assert registry.cloud.registry()["faults"] == {}


def test_a_repository_vanishes_while_layers_come_into_it(registry: Any) -> None:
    where = start(registry)
    registry.cloud.registry(vanish={"repository": registry.repository, "after_bytes": MIB})
    registry.ask("PATCH", where, os.urandom(2 * MIB))
    assert registry.ask("PUT", f"{where}?digest={digest_of(b'')}").code == "NAME_UNKNOWN"
    assert registry.refusal("describe_images")[0] == "RepositoryNotFoundException"


def test_a_fault_that_is_none_is_refused_in_a_sentence(registry: Any) -> None:
    with pytest.raises(CloudFailed, match="There is no fault 'explode'; there is cut, deny"):
        registry.cloud.registry(explode=True)
    with pytest.raises(CloudFailed, match="There is no repository 'no/such'"):
        registry.cloud.registry(remove="no/such")
