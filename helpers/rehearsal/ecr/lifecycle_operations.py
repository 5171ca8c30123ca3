"""ECR's operations on lifecycle policies: put, preview, and what applies them when a rehearsal says so."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from helpers.rehearsal.cloud import ACCOUNT
from helpers.rehearsal.ecr import lifecycle
from helpers.rehearsal.ecr.api import Operation, page
from helpers.rehearsal.ecr.refusals import Refused, invalid
from helpers.rehearsal.ecr.registry import Registry, Repository

PREVIEW_S = 0.2


def put_lifecycle_policy(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    text = _sound(asked["lifecyclePolicyText"])
    with registry.lock:
        repository = registry.find(asked["repositoryName"])
        repository.lifecycle, repository.lifecycle_evaluated_at = text, 0.0
        return {**repository.named, "lifecyclePolicyText": text}


def get_lifecycle_policy(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    with registry.lock:
        return _told(_with_policy(registry, asked))


def delete_lifecycle_policy(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    with registry.lock:
        repository = _with_policy(registry, asked)
        told, repository.lifecycle = _told(repository), ""
        return told


def start_lifecycle_policy_preview(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    given = asked.get("lifecyclePolicyText")
    with registry.lock:
        repository = registry.find(asked["repositoryName"]) if given else _with_policy(registry, asked)
        text = _sound(given or repository.lifecycle)
        if repository.preview and time.time() < repository.preview["ready_at"]:
            told = f"The previous lifecycle policy preview for the repository with name '{repository.name}' in the registry with id '{ACCOUNT}' has not completed"
            raise Refused("LifecyclePolicyPreviewInProgressException", told)
        repository.preview = {"text": text, "ready_at": time.time() + PREVIEW_S, "results": _results(repository, text)}
        return {**repository.named, "lifecyclePolicyText": text, "status": "IN_PROGRESS"}


def get_lifecycle_policy_preview(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    with registry.lock:
        repository = registry.find(asked["repositoryName"])
        preview = repository.preview
        if preview is None:
            told = f"There is no lifecycle policy preview for the repository with name '{repository.name}' in the registry with id '{ACCOUNT}'"
            raise Refused("LifecyclePolicyPreviewNotFoundException", told)
        head = {**repository.named, "lifecyclePolicyText": preview["text"]}
        if time.time() < preview["ready_at"]:
            return {**head, "status": "IN_PROGRESS"}
        results, kinds = preview["results"], [one["action"]["type"] for one in preview["results"]]
        summary: dict[str, Any] = {"expiringImageTotalCount": kinds.count("EXPIRE")}
        if moved := kinds.count("TRANSITION"):
            summary["transitioningImageTotalCounts"] = [{"targetStorageClass": "ARCHIVE", "imageTotalCount": moved}]
        return {**head, "status": "COMPLETE", "summary": summary, **page(_chosen(results, asked), asked, "previewResults")}


def _chosen(results: list[dict[str, Any]], asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the results that imageIds and filter ask for."""
    identities, tagged = asked.get("imageIds"), (asked.get("filter") or {}).get("tagStatus", "ANY")
    if identities:
        digests, tags = ({one.get(name) for one in identities} - {None} for name in ("imageDigest", "imageTag"))
        results = [one for one in results if one["imageDigest"] in digests or tags & set(one["imageTags"])]
    return [one for one in results if tagged in ("ANY", "TAGGED" if one["imageTags"] else "UNTAGGED")]


def _results(repository: Repository, text: str) -> list[dict[str, Any]]:
    """Return what a policy would do to the images of a repository now, as the API tells it."""
    told = []
    for action in lifecycle.evaluate(text, candidates(repository), time.time()):
        image = repository.images[action.digest]
        target = {"targetStorageClass": "ARCHIVE"} if action.kind == "transition" else {}
        told.append(
            {
                "imageTags": sorted(image.tags),
                "imageDigest": image.digest,
                "imagePushedAt": image.pushed_at,
                "action": {"type": action.kind.upper(), **target},
                "appliedRulePriority": action.priority,
                "storageClass": "ARCHIVE" if image.status == "ARCHIVED" else "STANDARD",
            }
        )
    return told


def candidates(repository: Repository) -> list[lifecycle.Candidate]:
    """Return the images of a repository as rules see them. What refers to an image follows it, and is seen by no rule."""
    listed = {part.digest for image in repository.images.values() for part in image.manifest.children}
    return [
        lifecycle.Candidate(
            image.digest,
            frozenset(image.tags),
            image.pushed_at,
            image.pulled_at,
            image.archived_at,
            image.activated_at,
            "archive" if image.status == "ARCHIVED" else "standard",
            image.digest in listed,
        )
        for image in repository.images.values()
        if image.manifest.subject is None
    ]


def apply(registry: Registry, repository: str, now: str = "") -> list[dict[str, Any]]:
    """Do now what AWS does within a day: expire and archive what the policy of a repository says; returns the actions.

    `now`: an ISO 8601 time that the policy is applied at instead. Raises ValueError where there is no such repository.
    """
    at = datetime.fromisoformat(now).timestamp() if now else time.time()
    with registry.lock:
        found = registry.repositories.get(repository)
        if found is None:
            raise ValueError(f"There is no repository {repository!r}.")
        done = lifecycle.evaluate(found.lifecycle, candidates(found), at) if found.lifecycle else []
        for action in done:
            image = found.images[action.digest]
            if action.kind == "expire":
                registry.delete_image(found, image)
            else:
                image.status, image.archived_at = "ARCHIVED", at
        found.lifecycle_evaluated_at = at
        return [{"digest": action.digest, "action": action.kind, "rule": action.priority} for action in done]


def _sound(text: str) -> str:
    try:
        lifecycle.rules_of(text)
    except lifecycle.Unsound as error:
        raise invalid("LifecyclePolicyText", f"Lifecycle policy validation failure: {error}") from error
    return text


def _with_policy(registry: Registry, asked: dict[str, Any]) -> Repository:
    repository = registry.find(asked["repositoryName"])
    if not repository.lifecycle:
        told = f"Lifecycle policy does not exist for the repository with name '{repository.name}' in the registry with id '{ACCOUNT}'"
        raise Refused("LifecyclePolicyNotFoundException", told)
    return repository


def _told(repository: Repository) -> dict[str, Any]:
    evaluated = {"lastEvaluatedAt": repository.lifecycle_evaluated_at} if repository.lifecycle_evaluated_at else {}
    return {**repository.named, "lifecyclePolicyText": repository.lifecycle, **evaluated}


OPERATIONS: dict[str, Operation] = {
    "DeleteLifecyclePolicy": delete_lifecycle_policy,
    "GetLifecyclePolicy": get_lifecycle_policy,
    "GetLifecyclePolicyPreview": get_lifecycle_policy_preview,
    "PutLifecyclePolicy": put_lifecycle_policy,
    "StartLifecyclePolicyPreview": start_lifecycle_policy_preview,
}
