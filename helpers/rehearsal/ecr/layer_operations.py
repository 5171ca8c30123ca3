"""ECR's operations on layers: uploads in parts that can be resumed, and where the bytes are."""

from __future__ import annotations

import base64
from typing import Any

from helpers.rehearsal.cloud import ACCOUNT
from helpers.rehearsal.ecr.api import Operation
from helpers.rehearsal.ecr.refusals import Refused, invalid
from helpers.rehearsal.ecr.registry import Registry, Upload

MIB = 1024 * 1024
# InitiateLayerUpload's partSize, and the least that a part but the last has.
# Source: https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_UploadLayerPart.html and the quotas page.
PART, LEAST, MOST, MOST_PARTS = 10 * MIB, 5 * MIB, 10 * MIB, 4200


def batch_check_layer_availability(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    layers, failures = [], []
    with registry.lock:
        repository = registry.find(asked["repositoryName"])
        kinds = {part.digest: part.media_type for image in repository.images.values() for part in image.manifest.blobs}
        for digest in asked["layerDigests"]:
            if not digest.startswith("sha256:") or len(digest) != 71:
                failures.append({"layerDigest": digest, "failureCode": "InvalidLayerDigest", "failureReason": "Invalid layer digest"})
            elif digest in repository.layers:
                kind = {"mediaType": kinds[digest]} if digest in kinds else {}
                layers.append({"layerDigest": digest, "layerAvailability": "AVAILABLE", "layerSize": repository.layers[digest], **kind})
            else:
                layers.append({"layerDigest": digest, "layerAvailability": "UNAVAILABLE"})
    return {"layers": layers, "failures": failures}


def initiate_layer_upload(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    return {"uploadId": registry.start_upload(asked["repositoryName"]).id, "partSize": PART}


def upload_layer_part(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    upload = registry.upload(asked["repositoryName"], asked["uploadId"])
    first, last = asked["partFirstByte"], asked["partLastByte"]
    try:
        content = base64.b64decode(asked["layerPartBlob"])
    except ValueError as error:
        raise invalid("layerPartBlob", "must be base64") from error
    with upload.lock:
        if first != upload.incoming.size or last - first + 1 != len(content):
            raise _misplaced(upload, f"Byte range {first}-{last} does not go on from what was received, or is not of {len(content)} bytes")
        if len(content) > MOST:
            raise _misplaced(upload, f"A layer part has at most {MOST} bytes")
        if len(upload.parts) >= MOST_PARTS:
            raise Refused("LimitExceededException", f"A layer has at most {MOST_PARTS} parts")
        upload.incoming.write(content)
        upload.parts.append(len(content))
    registry.received(upload.repository, len(content))
    return {**_of(upload), "lastByteReceived": last}


def _misplaced(upload: Upload, told: str) -> Refused:
    return Refused("InvalidLayerPartException", told, **_of(upload), lastValidByteReceived=max(upload.incoming.size - 1, 0))


def complete_layer_upload(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    upload = registry.upload(asked["repositoryName"], asked["uploadId"])
    with upload.lock:
        if not upload.parts:
            raise Refused("EmptyUploadException", f"The upload {upload.id} has no layer parts")
        if any(size < LEAST for size in upload.parts[:-1]):
            raise Refused("LayerPartTooSmallException", f"Layer parts must be at least {LEAST} bytes in size, but for the last")
        digest, there = registry.finish_upload(upload, asked["layerDigests"])
    if there:
        told = f"Layer with digest '{digest}' already exists in the repository with name '{upload.repository}' in the registry with id '{ACCOUNT}'"
        raise Refused("LayerAlreadyExistsException", told)
    return {**_of(upload), "layerDigest": digest}


def _of(upload: Upload) -> dict[str, Any]:
    return {"registryId": ACCOUNT, "repositoryName": upload.repository, "uploadId": upload.id}


def get_download_url_for_layer(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    digest = asked["layerDigest"]
    with registry.lock:
        repository = registry.find(asked["repositoryName"])
        if digest not in repository.layers:
            told = f"The layer with digest '{digest}' does not exist in the repository with name '{repository.name}' in the registry with id '{ACCOUNT}'"
            raise Refused("LayersNotFoundException", told)
        if digest in registry.blobs.hollow:
            raise Refused("LayerInaccessibleException", "This layer was made up for the rehearsal: its size is known, it has no bytes.")
    return {"downloadUrl": registry.links.make(registry.endpoint, digest), "layerDigest": digest}


OPERATIONS: dict[str, Operation] = {
    "BatchCheckLayerAvailability": batch_check_layer_availability,
    "CompleteLayerUpload": complete_layer_upload,
    "GetDownloadUrlForLayer": get_download_url_for_layer,
    "InitiateLayerUpload": initiate_layer_upload,
    "UploadLayerPart": upload_layer_part,
}
