"""The registry as clients of /v2 meet it: logins, layers, manifests, tags and referrers."""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from typing import Any

import pytest

from helpers.rehearsal.ecr.manifests import digest_of

MIB = 1024 * 1024
ABSENT = "sha256:" + "0" * 64
INDEX = "application/vnd.oci.image.index.v1+json"


# Logins


def test_a_request_without_a_login_is_asked_for_one(registry: Any) -> None:
    answer = registry.ask("GET", "/v2/", password=None)
    assert (answer.status, answer.body) == (401, b"Not Authorized\n")
    assert answer.headers["www-authenticate"].startswith('Basic realm="http://127.0.0.1')
    assert registry.ask("GET", "/v2/").status == 200


def test_a_wrong_password_is_refused_and_an_expired_one_says_so(registry: Any) -> None:
    assert registry.ask("GET", "/v2/", password="other").message == "Your Authorization Token is invalid."
    registry.cloud.registry(expire_tokens=True)
    answer = registry.ask("GET", "/v2/")
    assert (answer.status, answer.code, answer.message) == (403, "DENIED", "Your authorization token has expired. Reauthenticate and try again.")
    _, fresh = registry.login()
    assert registry.ask("GET", "/v2/", password=fresh).status == 200


def test_a_token_is_good_for_twelve_hours_or_as_long_as_was_ordered(registry: Any, until: Any) -> None:
    from datetime import UTC, datetime

    told = registry.ecr.get_authorization_token()["authorizationData"][0]
    assert (told["expiresAt"] - datetime.now(UTC)).total_seconds() == pytest.approx(12 * 3600, abs=60)
    registry.cloud.registry(token_lifetime_s=0.2)
    _, brief = registry.login()
    until(lambda: registry.ask("GET", "/v2/", password=brief).status == 403)


def test_the_cloud_s_own_endpoint_leads_to_the_registry(registry: Any) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{registry.cloud.endpoint}/v2/{registry.repository}/tags/list", timeout=10)
    assert caught.value.code == 421
    assert registry.cloud.registry()["endpoint"] in caught.value.read().decode()


# Layers


def test_a_layer_comes_in_one_put_and_goes_out_by_a_signed_address(registry: Any) -> None:
    content = os.urandom(300_000)
    digest = registry.blob(content)
    head = registry.ask("HEAD", f"/v2/{registry.repository}/blobs/{digest}")
    assert (head.status, head.headers["content-length"], head.headers["docker-content-digest"]) == (200, "300000", digest)
    found = registry.ask("GET", f"/v2/{registry.repository}/blobs/{digest}")
    assert found.status == 307
    # As at S3, the address itself is the permission.
    assert registry.ask("GET", found.headers["location"], password=None).body == content
    part = registry.ask("GET", found.headers["location"], password=None, Range="bytes=10-19")
    assert (part.status, part.body, part.headers["content-range"]) == (206, content[10:20], "bytes 10-19/300000")
    assert registry.ask("GET", found.headers["location"], password=None, Range="bytes=-5").body == content[-5:]
    assert registry.ask("GET", found.headers["location"].replace("Signature=", "Signature=x"), password=None).status == 403


def test_a_layer_of_unknown_length_comes_in_one_streamed_patch(registry: Any) -> None:
    content = os.urandom(3 * MIB)
    started = registry.ask("POST", f"/v2/{registry.repository}/blobs/uploads/")
    # http.client sends an iterator of unknown length in chunks.
    patched = registry.ask("PATCH", started.headers["location"], iter([content[:MIB], content[MIB:]]))
    assert (patched.status, patched.headers["range"]) == (201, f"0-{3 * MIB - 1}")
    done = registry.ask("PUT", f"{patched.headers['location']}?digest={digest_of(content)}")
    assert (done.status, done.headers["docker-content-digest"]) == (201, digest_of(content))


def test_a_second_piece_is_stored_but_the_range_stays_so_that_going_on_from_it_is_refused(registry: Any) -> None:
    """github.com/aws/containers-roadmap/issues/2831."""
    pieces = [os.urandom(1000) for _ in range(3)]
    where = registry.ask("POST", f"/v2/{registry.repository}/blobs/uploads/").headers["location"]
    assert registry.ask("PATCH", where, pieces[0], Content_Range="0-999").headers["range"] == "0-999"
    assert registry.ask("PATCH", where, pieces[1], Content_Range="1000-1999").headers["range"] == "0-999"
    assert registry.ask("PATCH", where, pieces[1], Content_Range="1000-1999").status == 416
    whole = b"".join(pieces)
    assert registry.ask("PUT", f"{where}?digest={digest_of(whole)}", pieces[2], Content_Range="2000-2999").status == 201


def test_a_layer_with_another_digest_is_refused_and_its_upload_is_over(registry: Any) -> None:
    where = registry.ask("POST", f"/v2/{registry.repository}/blobs/uploads/").headers["location"]
    refused = registry.ask("PUT", f"{where}?digest={ABSENT}", b"something else")
    assert (refused.status, refused.code) == (400, "BLOB_UPLOAD_INVALID")
    assert refused.message == "None of the provided layer digests match the calculated layer digest"
    assert registry.ask("PUT", f"{where}?digest={ABSENT}", b"something else").code == "BLOB_UPLOAD_UNKNOWN"
    assert registry.ask("PUT", f"{where}?digest=md5:1", b"").code == "BLOB_UPLOAD_UNKNOWN"


def test_a_large_layer_is_on_disk_and_never_in_memory_as_a_whole(registry: Any) -> None:
    def memory() -> int:
        from pathlib import Path

        status = Path(f"/proc/{registry.cloud.pid}/status")
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024 if status.exists() else 0

    registry.blob(b"first")
    piece, before = os.urandom(MIB), memory()
    where = registry.ask("POST", f"/v2/{registry.repository}/blobs/uploads/").headers["location"]
    patched = registry.ask("PATCH", where, iter([piece] * 96))
    assert patched.status == 201
    assert registry.ask("PUT", f"{where}?digest={digest_of(piece * 96)}").status == 201
    assert memory() - before < 32 * MIB


def test_a_layer_is_mounted_only_where_the_registry_shares_layers_and_the_encryption_is_the_same(registry: Any) -> None:
    other, digest = f"{registry.repository}-other", registry.blob(b"shared")
    registry.ecr.create_repository(repositoryName=other)
    mount = f"/v2/{other}/blobs/uploads/?mount={digest}&from={registry.repository}"
    registry.ecr.put_account_setting(name="BLOB_MOUNTING", value="DISABLED")
    assert registry.ask("POST", mount).status == 202
    registry.ecr.put_account_setting(name="BLOB_MOUNTING", value="ENABLED")
    answer = registry.ask("POST", mount)
    assert (answer.status, answer.headers["docker-content-digest"]) == (201, digest)
    assert registry.ask("HEAD", f"/v2/{other}/blobs/{digest}").status == 200
    assert registry.ask("POST", mount.replace(digest, ABSENT)).status == 202
    registry.ecr.create_repository(repositoryName=f"{other}-kms", encryptionConfiguration={"encryptionType": "KMS"})
    assert registry.ask("POST", mount.replace(other, f"{other}-kms")).status == 202


def test_a_repository_that_is_not_there_is_named(registry: Any) -> None:
    answer = registry.ask("POST", "/v2/no/such/blobs/uploads/")
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")
    assert answer.message == "The repository with name 'no/such' does not exist in the registry with id '123456789012'"
    assert registry.ask("HEAD", f"/v2/no/such/blobs/{ABSENT}").status == 404


def test_a_refused_head_has_no_body_and_the_connection_goes_on(registry: Any) -> None:
    registry.cloud.registry(deny=["ecr:BatchCheckLayerAvailability"])
    registry.ask("GET", "/v2/")
    import base64

    login = {"Authorization": "Basic " + base64.b64encode(f"AWS:{registry._token}".encode()).decode()}
    connection = http.client.HTTPConnection(registry.host, timeout=10)
    for _ in range(2):
        connection.request("HEAD", f"/v2/{registry.repository}/blobs/{ABSENT}", headers=login)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (403, b"")
    connection.request("POST", f"/v2/{registry.repository}/blobs/uploads/?digest={ABSENT}", b"x" * 100_000, login)
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (202, b"")
    connection.request("GET", "/v2/", headers=login)
    assert connection.getresponse().status == 200
    connection.close()


# Manifests


def test_a_manifest_comes_back_byte_for_byte(registry: Any) -> None:
    content = registry.manifest(b"layer") + b"\n  "
    assert registry.put(content, "v1").status == 201
    for reference in ("v1", digest_of(content)):
        found = registry.ask("GET", f"/v2/{registry.repository}/manifests/{reference}")
        assert (found.body, found.headers["docker-content-digest"]) == (content, digest_of(content))
    head = registry.ask("HEAD", f"/v2/{registry.repository}/manifests/v1")
    assert (head.status, head.headers["content-length"], head.headers["content-type"]) == (200, str(len(content)), "application/vnd.oci.image.manifest.v1+json")
    missing = registry.ask("GET", f"/v2/{registry.repository}/manifests/v2")
    assert (missing.status, missing.code) == (404, "MANIFEST_UNKNOWN")


def test_a_manifest_needs_its_layers_and_an_index_its_images(registry: Any) -> None:
    content = json.loads(registry.manifest(b"layer"))
    content["layers"][0]["digest"] = ABSENT
    refused = registry.put(json.dumps(content).encode(), "v1")
    assert (refused.status, refused.code) == (404, "MANIFEST_BLOB_UNKNOWN")
    assert refused.message.startswith(f"Layers with digests '[{ABSENT}]' required for pushing image into repository with name '{registry.repository}'")
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{"mediaType": content["mediaType"], "digest": ABSENT, "size": 1}]}
    refused = registry.put(json.dumps(index).encode(), "v1", INDEX)
    assert (refused.status, refused.code) == (404, "MANIFEST_BLOB_UNKNOWN")
    assert refused.message.startswith(f"Images with digests '[{ABSENT}]'")
    assert registry.tags() == {}


def test_a_manifest_under_another_digest_or_of_no_known_kind_is_refused(registry: Any) -> None:
    content = registry.manifest(b"layer")
    refused = registry.put(content, ABSENT)
    assert (refused.status, refused.code) == (400, "MANIFEST_INVALID")
    assert refused.message.endswith("does not match the image digest that Amazon ECR has calculated.")
    for broken in (b"{", b'{"schemaVersion": 1}', content.replace(b"manifest.v1+json", b"manifest.v9+json"), b"[]"):
        assert registry.put(broken, "v1").code == "MANIFEST_INVALID"


def test_docker_s_manifests_and_lists_are_taken_too(registry: Any) -> None:
    docker = "application/vnd.docker.distribution.manifest.v2+json"
    content = registry.manifest(b"layer").replace(b"application/vnd.oci.image.manifest.v1+json", docker.encode())
    assert registry.put(content, digest_of(content), docker).status == 201
    listed = "application/vnd.docker.distribution.manifest.list.v2+json"
    child = {"mediaType": docker, "digest": digest_of(content), "size": len(content), "platform": {"architecture": "amd64", "os": "linux"}}
    text = json.dumps({"schemaVersion": 2, "mediaType": listed, "manifests": [child]}).encode()
    assert registry.put(text, "v1", listed).status == 201
    assert registry.ask("GET", f"/v2/{registry.repository}/manifests/v1").headers["content-type"] == listed


@pytest.mark.parametrize(
    ("mutability", "filters", "tag", "moves"),
    [
        ("MUTABLE", [], "v1", True),
        ("IMMUTABLE", [], "v1", False),
        ("IMMUTABLE_WITH_EXCLUSION", ["latest", "dev-*"], "v1", False),
        ("IMMUTABLE_WITH_EXCLUSION", ["latest", "dev-*"], "dev-7", True),
        ("MUTABLE_WITH_EXCLUSION", ["release-*"], "v1", True),
        ("MUTABLE_WITH_EXCLUSION", ["release-*"], "release-1", False),
    ],
)
def test_a_tag_moves_where_it_may(registry: Any, mutability: str, filters: list[str], tag: str, moves: bool) -> None:
    exclusions = {"imageTagMutabilityExclusionFilters": [{"filterType": "WILDCARD", "filter": one} for one in filters]} if filters else {}
    registry.ecr.put_image_tag_mutability(repositoryName=registry.repository, imageTagMutability=mutability, **exclusions)
    first = registry.push(tag, b"first")
    content = registry.manifest(b"second")
    answer = registry.put(content, tag)
    if moves:
        assert registry.tags() == {tag: digest_of(content)}
        return
    assert (answer.status, answer.code) == (400, "TAG_INVALID")
    assert answer.message.startswith(f"The image tag '{tag}' already exists in the '{registry.repository}' repository and cannot be overwritten")
    assert registry.tags() == {tag: first}
    # ECR does not look whether it is the same image: github.com/aws/containers-roadmap/issues/2179
    assert registry.put(registry.manifest(b"first"), tag).code == "TAG_INVALID"


def test_pushing_what_is_there_is_no_fault_where_tags_may_move(registry: Any) -> None:
    digest = registry.push("v1", b"same")
    pushed = registry.detail(imageTag="v1")["imagePushedAt"]
    assert registry.push("v1", b"same") == digest
    assert registry.detail(imageTag="v1")["imagePushedAt"] == pushed


def test_tags_come_in_pages_in_their_order(registry: Any) -> None:
    for tag in ("c", "a", "b"):
        registry.push(tag)
    first = registry.ask("GET", f"/v2/{registry.repository}/tags/list?n=2")
    assert json.loads(first.body) == {"name": registry.repository, "tags": ["a", "b"]}
    rest = registry.ask("GET", first.headers["link"].partition(">")[0][1:])
    assert json.loads(rest.body)["tags"] == ["c"]
    assert "link" not in rest.headers
    assert registry.repository in json.loads(registry.ask("GET", "/v2/_catalog").body)["repositories"]


def test_what_refers_to_an_image_is_listed_by_kind_and_goes_with_it(registry: Any) -> None:
    digest = registry.push("v1", b"image")
    size = len(registry.ask("GET", f"/v2/{registry.repository}/manifests/v1").body)
    subject = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size}
    content = registry.manifest(b"a list of parts", subject=subject, artifactType="application/spdx+json", annotations={"by": "a test"})
    answer = registry.put(content, digest_of(content))
    assert answer.headers["oci-subject"] == digest
    found = json.loads(registry.ask("GET", f"/v2/{registry.repository}/referrers/{digest}").body)["manifests"]
    assert [(one["digest"], one["artifactType"], one["annotations"]) for one in found] == [(digest_of(content), "application/spdx+json", {"by": "a test"})]
    other = registry.ask("GET", f"/v2/{registry.repository}/referrers/{digest}?artifactType=x")
    assert (json.loads(other.body)["manifests"], other.headers["oci-filters-applied"]) == ([], "artifactType")
    assert registry.detail(imageDigest=digest_of(content))["subjectManifestDigest"] == digest
    registry.ecr.batch_delete_image(repositoryName=registry.repository, imageIds=[{"imageDigest": digest}])
    assert registry.ecr.list_images(repositoryName=registry.repository)["imageIds"] == []


def test_an_image_is_deleted_by_its_digest_and_a_tag_alone_by_its_name(registry: Any) -> None:
    digest = registry.push("v1")
    content = registry.ask("GET", f"/v2/{registry.repository}/manifests/v1").body
    registry.put(content, "v2")
    assert registry.ask("DELETE", f"/v2/{registry.repository}/manifests/v1").status == 202
    assert registry.tags() == {"v2": digest}
    assert registry.ask("DELETE", f"/v2/{registry.repository}/manifests/{digest}").status == 202
    assert registry.tags() == {}
    assert registry.ask("DELETE", f"/v2/{registry.repository}/manifests/{digest}").code == "MANIFEST_UNKNOWN"
    assert registry.ask("DELETE", f"/v2/{registry.repository}/blobs/{ABSENT}").status == 405


def test_layers_of_a_deleted_image_go_unless_another_has_them(registry: Any) -> None:
    first = registry.push("v1", b"base", b"one")
    registry.push("v2", b"base", b"two")
    registry.ecr.batch_delete_image(repositoryName=registry.repository, imageIds=[{"imageDigest": first}])
    assert registry.ask("HEAD", f"/v2/{registry.repository}/blobs/{digest_of(b'base')}").status == 200
    assert registry.ask("HEAD", f"/v2/{registry.repository}/blobs/{digest_of(b'one')}").status == 404
    kept = registry.cloud.directory / "ecr" / "sha256"
    assert not (kept / digest_of(b"one").removeprefix("sha256:")).exists()
