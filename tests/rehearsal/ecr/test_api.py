"""ECR's API in the local cloud: repositories, images, layers in parts, and ECR Public; it agrees with what /v2 shows."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from helpers.rehearsal.ecr.manifests import digest_of

MIB = 1024 * 1024
ABSENT = "sha256:" + "0" * 64
INDEX = "application/vnd.oci.image.index.v1+json"


# Repositories


def test_a_repository_has_the_settings_that_it_was_made_with(registry: Any) -> None:
    name, key = f"{registry.repository}/set", registry.client("kms").create_key()["KeyMetadata"]["Arn"]
    made = registry.ecr.create_repository(
        repositoryName=name,
        imageTagMutability="IMMUTABLE_WITH_EXCLUSION",
        imageTagMutabilityExclusionFilters=[{"filterType": "WILDCARD", "filter": "dev-*"}],
        imageScanningConfiguration={"scanOnPush": True},
        encryptionConfiguration={"encryptionType": "KMS", "kmsKey": key},
        tags=[{"Key": "team", "Value": "shop"}],
    )["repository"]
    found = registry.ecr.describe_repositories(repositoryNames=[name])["repositories"][0]
    assert found == made
    assert found["imageTagMutabilityExclusionFilters"] == [{"filterType": "WILDCARD", "filter": "dev-*"}]
    assert (found["imageScanningConfiguration"], found["encryptionConfiguration"]) == ({"scanOnPush": True}, {"encryptionType": "KMS", "kmsKey": key})
    assert found["repositoryUri"] == f"{registry.cloud.registry()['endpoint'].removeprefix('http://')}/{name}"
    assert registry.ecr.list_tags_for_resource(resourceArn=found["repositoryArn"])["tags"] == [{"Key": "team", "Value": "shop"}]
    registry.ecr.tag_resource(resourceArn=found["repositoryArn"], tags=[{"Key": "stage", "Value": "test"}])
    registry.ecr.untag_resource(resourceArn=found["repositoryArn"], tagKeys=["team"])
    assert registry.ecr.list_tags_for_resource(resourceArn=found["repositoryArn"])["tags"] == [{"Key": "stage", "Value": "test"}]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"repositoryName": "Upper/case"}, "must satisfy regular expression"),
        ({"repositoryName": "aa", "imageTagMutability": "SOMETIMES"}, "must satisfy enum value set"),
        ({"repositoryName": "aa", "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION"}, "can't be null when imageTagMutability is set as IMMUTABLE_WITH_EXCLUSION"),
        ({"repositoryName": "aa", "filters": ["a", "b", "c", "d", "e", "f"]}, "less than or equal to 5"),
        ({"repositoryName": "aa", "filters": ["a*b*c*"]}, "at most 2 wildcards"),
        ({"repositoryName": "aa", "encryptionConfiguration": {"encryptionType": "AES256", "kmsKey": "k"}}, "must not be specified"),
    ],
)
def test_a_repository_that_aws_does_not_make_is_refused(registry: Any, options: dict[str, Any], told: str) -> None:
    if filters := options.pop("filters", None):
        options["imageTagMutability"] = "MUTABLE_WITH_EXCLUSION"
        options["imageTagMutabilityExclusionFilters"] = [{"filterType": "WILDCARD", "filter": one} for one in filters]
    code, message, status = registry.refusal("create_repository", **options)
    assert (code, status) == ("InvalidParameterException", 400)
    assert told in message


def test_repositories_that_are_there_or_not_or_not_empty_are_named(registry: Any) -> None:
    there = f"The repository with name '{registry.repository}' already exists in the registry with id '123456789012'"
    assert registry.refusal("create_repository") == ("RepositoryAlreadyExistsException", there, 400)
    assert registry.refusal("describe_images", repositoryName="no/such")[0] == "RepositoryNotFoundException"
    registry.push("v1")
    assert registry.refusal("delete_repository")[0] == "RepositoryNotEmptyException"
    registry.ecr.delete_repository(repositoryName=registry.repository, force=True)
    assert registry.ask("GET", f"/v2/{registry.repository}/tags/list").code == "NAME_UNKNOWN"


def test_a_key_that_is_not_there_makes_no_repository(registry: Any) -> None:
    asked = {"repositoryName": "aa/kms", "encryptionConfiguration": {"encryptionType": "KMS_DSSE", "kmsKey": "arn:aws:kms:ap-northeast-1:123456789012:key/none"}}
    assert registry.refusal("create_repository", **asked)[0] == "KmsException"


def test_repositories_are_listed_in_pages(registry: Any) -> None:
    for number in range(4):
        registry.ecr.create_repository(repositoryName=f"{registry.repository}/{number}")
    pages = list(registry.ecr.get_paginator("describe_repositories").paginate(PaginationConfig={"PageSize": 3}))
    names = [one["repositoryName"] for page in pages for one in page["repositories"]]
    assert len(pages) > 1 and names == sorted(names) and len(names) == len(set(names))


def test_a_repository_policy_is_kept_until_it_is_deleted(registry: Any) -> None:
    statement = {"Effect": "Allow", "Principal": "*", "Action": ["ecr:BatchGetImage"]}
    text = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    assert registry.refusal("get_repository_policy")[0] == "RepositoryPolicyNotFoundException"
    registry.ecr.set_repository_policy(repositoryName=registry.repository, policyText=text)
    assert registry.ecr.get_repository_policy(repositoryName=registry.repository)["policyText"] == text
    registry.ecr.delete_repository_policy(repositoryName=registry.repository)
    assert registry.refusal("set_repository_policy", policyText='{"Statement": []}')[0] == "InvalidParameterException"


def test_an_operation_that_is_not_there_is_refused_in_a_sentence(registry: Any) -> None:
    code, message, _ = registry.refusal("describe_image_replication_status", imageId={"imageTag": "v1"})
    assert (code, message) == ("UnsupportedOperationException", "The local cloud has no DescribeImageReplicationStatus.")


# Images


def test_an_image_is_described_by_its_true_size_and_digest_and_by_when_it_was_pulled(registry: Any) -> None:
    layers = (os.urandom(5000), os.urandom(7000))
    digest = registry.push("v1", *layers)
    manifest = json.loads(registry.ask("HEAD", f"/v2/{registry.repository}/manifests/v1").body or b"{}")
    assert manifest == {}
    told = registry.detail(imageTag="v1")
    config = json.loads(registry.ask("GET", f"/v2/{registry.repository}/manifests/v1").body)["config"]
    assert (told["imageDigest"], told["imageTags"], told["imageSizeInBytes"]) == (digest, ["v1"], 12_000 + config["size"])
    assert "lastRecordedPullTime" not in told, "HEAD is no pull"
    assert told["imageStatus"] == "ACTIVE"
    assert abs(datetime.now(UTC) - told["imagePushedAt"]) < timedelta(minutes=1)
    assert registry.detail(imageTag="v1")["lastRecordedPullTime"] >= told["imagePushedAt"]


def test_images_are_filtered_and_paged_as_asked(registry: Any) -> None:
    for number in range(5):
        registry.push(f"v{number}")
    registry.push("v0", b"another")
    ask = registry.ecr.describe_images
    name = registry.repository
    assert len(ask(repositoryName=name, maxResults=1000)["imageDetails"]) == 6
    assert len(ask(repositoryName=name, filter={"tagStatus": "UNTAGGED"})["imageDetails"]) == 1
    pages = list(registry.ecr.get_paginator("describe_images").paginate(repositoryName=name, PaginationConfig={"PageSize": 4}))
    assert [len(page["imageDetails"]) for page in pages] == [4, 2]
    listed = registry.ecr.list_images(repositoryName=name, filter={"tagStatus": "TAGGED"})["imageIds"]
    assert sorted(one["imageTag"] for one in listed) == [f"v{number}" for number in range(5)]
    assert registry.refusal("describe_images", maxResults=1001)[0] == "InvalidParameterException"
    assert registry.refusal("describe_images", imageIds=[{"imageTag": "v9"}])[0] == "ImageNotFoundException"


def test_an_archived_image_is_shown_when_asked_for_and_cannot_be_pulled(registry: Any) -> None:
    digest = registry.push("v1")
    registry.ecr.update_image_storage_class(repositoryName=registry.repository, imageId={"imageTag": "v1"}, targetStorageClass="ARCHIVE")
    assert registry.ecr.describe_images(repositoryName=registry.repository)["imageDetails"] == []
    found = registry.ecr.describe_images(repositoryName=registry.repository, filter={"imageStatus": "ANY"})["imageDetails"]
    assert [(one["imageDigest"], one["imageStatus"]) for one in found] == [(digest, "ARCHIVED")]
    assert registry.ask("GET", f"/v2/{registry.repository}/manifests/v1").code == "MANIFEST_UNKNOWN"
    registry.ecr.update_image_storage_class(repositoryName=registry.repository, imageId={"imageTag": "v1"}, targetStorageClass="STANDARD")
    assert registry.ask("GET", f"/v2/{registry.repository}/manifests/v1").status == 200


def test_put_image_says_what_stands_in_its_way(registry: Any) -> None:
    content = registry.manifest(b"one").decode()
    put = {"imageManifest": content, "imageTag": "v1"}
    image = registry.ecr.put_image(repositoryName=registry.repository, **put)["image"]
    assert image["imageId"] == {"imageDigest": digest_of(content.encode()), "imageTag": "v1"}
    assert registry.refusal("put_image", **put)[0] == "ImageAlreadyExistsException"
    assert registry.refusal("put_image", **put, imageDigest=ABSENT)[0] == "ImageDigestDoesNotMatchException"
    missing = json.dumps({**json.loads(content), "layers": [{"digest": ABSENT, "size": 1}]})
    assert registry.refusal("put_image", imageManifest=missing, imageTag="v2")[0] == "LayersNotFoundException"
    listed = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [{"digest": ABSENT, "size": 1}]})
    assert registry.refusal("put_image", imageManifest=listed, imageTag="v2")[0] == "ReferencedImagesNotFoundException"
    registry.ecr.put_image_tag_mutability(repositoryName=registry.repository, imageTagMutability="IMMUTABLE")
    other = registry.manifest(b"two").decode()
    assert registry.refusal("put_image", imageManifest=other, imageTag="v1")[0] == "ImageTagAlreadyExistsException"
    registry.ecr.put_image(repositoryName=registry.repository, imageManifest=content, imageTag="v3")
    assert registry.tags() == {"v1": digest_of(content.encode()), "v3": digest_of(content.encode())}


def test_images_are_got_with_their_manifests_and_what_is_not_there_is_listed(registry: Any) -> None:
    digest = registry.push("v1")
    asked = [{"imageTag": "v1"}, {"imageTag": "v2"}, {"imageDigest": "sha256:short"}, {}, {"imageTag": "v1", "imageDigest": ABSENT}]
    told = registry.ecr.batch_get_image(repositoryName=registry.repository, imageIds=asked)
    assert [digest_of(one["imageManifest"].encode()) for one in told["images"]] == [digest]
    assert [one["failureCode"] for one in told["failures"]] == ["ImageNotFound", "InvalidImageDigest", "MissingDigestAndTag", "ImageTagDoesNotMatchDigest"]


def test_deleting_by_tag_takes_the_tag_and_the_last_one_the_image(registry: Any) -> None:
    digest = registry.push("v1")
    registry.put(registry.ask("GET", f"/v2/{registry.repository}/manifests/v1").body, "v2")
    delete, name = registry.ecr.batch_delete_image, registry.repository
    assert delete(repositoryName=name, imageIds=[{"imageTag": "v1"}])["imageIds"] == [{"imageDigest": digest, "imageTag": "v1"}]
    assert registry.tags() == {"v2": digest}
    assert delete(repositoryName=name, imageIds=[{"imageTag": "v2"}])["imageIds"] == [{"imageDigest": digest, "imageTag": "v2"}]
    assert registry.ecr.list_images(repositoryName=name)["imageIds"] == []
    assert delete(repositoryName=name, imageIds=[{"imageTag": "v2"}])["failures"][0]["failureCode"] == "ImageNotFound"


def test_an_image_of_a_list_stays_until_the_list_goes(registry: Any) -> None:
    child = registry.push("amd64")
    size = len(registry.ask("GET", f"/v2/{registry.repository}/manifests/amd64").body)
    entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": child, "size": size}
    text = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
    registry.put(text, "v1", INDEX)
    assert registry.detail(imageTag="v1")["imageSizeInBytes"] == registry.detail(imageDigest=child)["imageSizeInBytes"]
    delete = registry.ecr.batch_delete_image
    failed = delete(repositoryName=registry.repository, imageIds=[{"imageDigest": child}])["failures"][0]
    assert (failed["failureCode"], failed["failureReason"]) == ("ImageReferencedByManifestList", f"Requested image referenced by manifest list: [{digest_of(text)}]")
    done = delete(repositoryName=registry.repository, imageIds=[{"imageDigest": child}, {"imageDigest": digest_of(text)}])
    assert (len(done["imageIds"]), done["failures"]) == (2, [])


# Layers in parts


def test_a_layer_comes_in_parts_that_follow_each_other(registry: Any) -> None:
    content = os.urandom(6 * MIB + 100)
    started = registry.ecr.initiate_layer_upload(repositoryName=registry.repository)
    assert started["partSize"] == 10 * MIB
    where = {"repositoryName": registry.repository, "uploadId": started["uploadId"]}
    part = registry.ecr.upload_layer_part(**where, partFirstByte=0, partLastByte=6 * MIB - 1, layerPartBlob=content[: 6 * MIB])
    assert part["lastByteReceived"] == 6 * MIB - 1
    with pytest.raises(registry.ecr.exceptions.InvalidLayerPartException) as caught:
        registry.ecr.upload_layer_part(**where, partFirstByte=7 * MIB, partLastByte=7 * MIB + 99, layerPartBlob=content[-100:])
    told = caught.value.response
    assert (told["lastValidByteReceived"], told["uploadId"], told["repositoryName"]) == (6 * MIB - 1, started["uploadId"], registry.repository)
    registry.ecr.upload_layer_part(**where, partFirstByte=6 * MIB, partLastByte=6 * MIB + 99, layerPartBlob=content[-100:])
    done = registry.ecr.complete_layer_upload(**where, layerDigests=[digest_of(content)])
    assert done["layerDigest"] == digest_of(content)
    assert registry.ask("HEAD", f"/v2/{registry.repository}/blobs/{digest_of(content)}").headers["content-length"] == str(len(content))


def test_an_upload_that_is_empty_too_small_or_another_layer_is_not_completed(registry: Any) -> None:
    def start() -> dict[str, str]:
        return {"repositoryName": registry.repository, "uploadId": registry.ecr.initiate_layer_upload(repositoryName=registry.repository)["uploadId"]}

    assert registry.refusal("complete_layer_upload", **start(), layerDigests=[ABSENT])[0] == "EmptyUploadException"
    where = start()
    for first in (0, 10):
        registry.ecr.upload_layer_part(**where, partFirstByte=first, partLastByte=first + 9, layerPartBlob=b"0123456789")
    assert registry.refusal("complete_layer_upload", **where, layerDigests=[ABSENT])[0] == "LayerPartTooSmallException"
    where = start()
    registry.ecr.upload_layer_part(**where, partFirstByte=0, partLastByte=9, layerPartBlob=b"0123456789")
    assert registry.refusal("complete_layer_upload", **where, layerDigests=[ABSENT])[0] == "InvalidLayerException"
    assert registry.refusal("complete_layer_upload", **where, layerDigests=[ABSENT])[0] == "UploadNotFoundException"
    registry.blob(b"0123456789")
    where = start()
    registry.ecr.upload_layer_part(**where, partFirstByte=0, partLastByte=9, layerPartBlob=b"0123456789")
    assert registry.refusal("complete_layer_upload", **where, layerDigests=[digest_of(b"0123456789")])[0] == "LayerAlreadyExistsException"


def test_layers_are_available_or_not_and_are_downloaded(registry: Any) -> None:
    digest = registry.blob(b"a layer")
    told = registry.ecr.batch_check_layer_availability(repositoryName=registry.repository, layerDigests=[digest, ABSENT, "nothing"])
    assert [one["layerAvailability"] for one in told["layers"]] == ["AVAILABLE", "UNAVAILABLE"]
    assert (told["layers"][0]["layerSize"], told["failures"][0]["failureCode"]) == (7, "InvalidLayerDigest")
    url = registry.ecr.get_download_url_for_layer(repositoryName=registry.repository, layerDigest=digest)["downloadUrl"]
    assert registry.ask("GET", url, password=None).body == b"a layer"
    assert registry.refusal("get_download_url_for_layer", layerDigest=ABSENT)[0] == "LayersNotFoundException"


# The registry, and ECR Public


def test_the_registry_describes_itself(registry: Any) -> None:
    assert registry.ecr.describe_registry()["registryId"] == "123456789012"
    assert registry.ecr.get_account_setting(name="BLOB_MOUNTING")["value"] == "DISABLED"
    assert registry.refusal("describe_images", registryId="999999999999")[0] == "InvalidParameterException"


def test_a_public_repository_has_catalog_data_and_a_token(registry: Any) -> None:
    public = registry.client("ecr-public")
    data = {"description": "A sample", "architectures": ["x86-64"]}
    made = public.create_repository(repositoryName="sample", catalogData=data)
    assert made["repository"]["repositoryUri"].startswith("public.ecr.aws/")
    public.put_repository_catalog_data(repositoryName="sample", catalogData={"description": "Another"})
    assert public.get_repository_catalog_data(repositoryName="sample")["catalogData"] == {"description": "Another"}
    assert [one["repositoryName"] for one in public.describe_repositories()["repositories"]] == ["sample"]
    assert public.get_authorization_token()["authorizationData"]["expiresAt"] > datetime.now(UTC)
    with pytest.raises(ClientError, match="has no PutImage"):
        public.put_image(repositoryName="sample", imageManifest="{}")
    public.delete_repository(repositoryName="sample")
    with pytest.raises(public.exceptions.RepositoryNotFoundException):
        public.describe_repositories(repositoryNames=["sample"])
