"""ECR's operations on repositories, their settings, and the registry's own."""

from __future__ import annotations

import json
import time
from typing import Any

from helpers.rehearsal.cloud import ACCOUNT, REGION
from helpers.rehearsal.ecr.api import Operation, page
from helpers.rehearsal.ecr.refusals import Refused, invalid
from helpers.rehearsal.ecr.registry import Registry, Repository

# Source: https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-tag-mutability.html
MOST_EXCLUSIONS, MOST_WILDCARDS = 5, 2
# Source: https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_Tag.html
MOST_LABELS = 50
SETTINGS = {"BASIC_SCAN_TYPE_VERSION": ("AWS_NATIVE",), "BLOB_MOUNTING": ("ENABLED", "DISABLED"), "REGISTRY_POLICY_SCOPE": ("V2",)}


def described(registry: Registry, repository: Repository) -> dict[str, Any]:
    """Return a repository as the API describes it."""
    exclusions = {"imageTagMutabilityExclusionFilters": repository.exclusions} if repository.exclusions else {}
    return {
        "repositoryArn": repository.arn,
        "registryId": ACCOUNT,
        "repositoryName": repository.name,
        "repositoryUri": f"{registry.host}/{repository.name}",
        "createdAt": repository.created_at,
        "imageTagMutability": repository.mutability,
        **exclusions,
        "imageScanningConfiguration": {"scanOnPush": repository.scan_on_push},
        "encryptionConfiguration": repository.encryption,
    }


def create_repository(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    name = asked["repositoryName"]
    mutability, exclusions = _mutability(asked)
    labels = _labels(asked.get("tags", []))
    encryption = _encryption(asked.get("encryptionConfiguration") or {"encryptionType": "AES256"})
    with registry.lock:
        if name in registry.repositories:
            told = f"The repository with name '{name}' already exists in the registry with id '{ACCOUNT}'"
            raise Refused("RepositoryAlreadyExistsException", told)
        scans = bool((asked.get("imageScanningConfiguration") or {}).get("scanOnPush"))
        made = Repository(name, time.time(), mutability, exclusions, scans, encryption, labels)
        registry.repositories[name] = made
        return {"repository": described(registry, made)}


def describe_repositories(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    names = asked.get("repositoryNames")
    if names and (asked.get("maxResults") or asked.get("nextToken")):
        raise invalid("maxResults", "cannot be specified together with repositoryNames")
    with registry.lock:
        found = [registry.find(name) for name in names] if names else [registry.repositories[name] for name in sorted(registry.repositories)]
        return page([described(registry, one) for one in found], asked, "repositories", most=max(len(found), 1) if names else 100)


def delete_repository(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    with registry.lock:
        repository = registry.find(asked["repositoryName"])
        if repository.images and not asked.get("force"):
            told = f"The repository with name '{repository.name}' in registry with id '{ACCOUNT}' cannot be deleted because it still contains images"
            raise Refused("RepositoryNotEmptyException", told)
        registry.remove(repository.name)
        return {"repository": described(registry, repository)}


def put_image_tag_mutability(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    mutability, exclusions = _mutability(asked)
    with registry.lock:
        repository = registry.find(asked["repositoryName"])
        repository.mutability, repository.exclusions = mutability, exclusions
        told = described(registry, repository)
        return {name: told[name] for name in ("registryId", "repositoryName", "imageTagMutability", "imageTagMutabilityExclusionFilters") if name in told}


def _mutability(asked: dict[str, Any]) -> tuple[str, list[dict[str, str]]]:
    mutability, filters = asked.get("imageTagMutability", "MUTABLE"), asked.get("imageTagMutabilityExclusionFilters") or []
    where = "imageTagMutabilityExclusionFilters"
    if mutability.endswith("_WITH_EXCLUSION") and not filters:
        raise invalid(where, f"ImageTagMutabilityExclusionFilters can't be null when imageTagMutability is set as {mutability}")
    if filters and not mutability.endswith("_WITH_EXCLUSION"):
        raise invalid(where, f"ImageTagMutabilityExclusionFilters must be null when imageTagMutability is set as {mutability}")
    if len(filters) > MOST_EXCLUSIONS:
        raise invalid(where, f"must have length less than or equal to {MOST_EXCLUSIONS}")
    if any(one["filter"].count("*") > MOST_WILDCARDS for one in filters):
        raise invalid(where, f"a filter must have at most {MOST_WILDCARDS} wildcards")
    return mutability, filters


def _encryption(asked: dict[str, Any]) -> dict[str, str]:
    """Return the encryption, with the ARN of its key; the AWS managed key where none is named. Raises `Refused` for a key that is not there."""
    from ministack.services import kms

    kind, key = asked["encryptionType"], asked.get("kmsKey", "")
    if kind == "AES256":
        if key:
            raise invalid("encryptionConfiguration", "KMS key must not be specified for encryption type AES256")
        return {"encryptionType": kind}
    found = kms._resolve_key(key) if key else None
    if key and found is None:
        raise Refused("KmsException", f"Invalid arn or key: {key} does not exist", kmsError="NotFoundException")
    return {"encryptionType": kind, "kmsKey": found["Arn"] if found else f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/aws/ecr"}


# Policies


def set_repository_policy(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    try:
        statements = json.loads(asked["policyText"])["Statement"]
        good = bool(statements) and all({"Effect", "Principal", "Action"} <= set(one) for one in statements)
    except (ValueError, KeyError, TypeError):
        good = False
    if not good:
        raise invalid("PolicyText", "Invalid repository policy provided")
    with registry.lock:
        repository = registry.find(asked["repositoryName"])
        repository.policy = asked["policyText"]
        return _policy(repository)


def get_repository_policy(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    with registry.lock:
        return _policy(_with_policy(registry, asked))


def delete_repository_policy(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    with registry.lock:
        repository = _with_policy(registry, asked)
        told, repository.policy = _policy(repository), ""
        return told


def _with_policy(registry: Registry, asked: dict[str, Any]) -> Repository:
    repository = registry.find(asked["repositoryName"])
    if not repository.policy:
        told = f"Repository policy does not exist for the repository with name '{repository.name}' in the registry with id '{ACCOUNT}'"
        raise Refused("RepositoryPolicyNotFoundException", told)
    return repository


def _policy(repository: Repository) -> dict[str, Any]:
    return {**repository.named, "policyText": repository.policy}


# Tags


def list_tags_for_resource(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    return {"tags": [{"Key": key, "Value": value} for key, value in _of_arn(registry, asked).labels.items()]}


def tag_resource(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    repository = _of_arn(registry, asked)
    merged = {**repository.labels, **_labels(asked["tags"])}
    if len(merged) > MOST_LABELS:
        raise Refused("TooManyTagsException", f"A repository has at most {MOST_LABELS} tags")
    repository.labels = merged
    return {}


def untag_resource(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    repository = _of_arn(registry, asked)
    repository.labels = {key: value for key, value in repository.labels.items() if key not in asked["tagKeys"]}
    return {}


def _labels(tags: list[dict[str, str]]) -> dict[str, str]:
    if len(tags) > MOST_LABELS:
        raise Refused("TooManyTagsException", f"A repository has at most {MOST_LABELS} tags")
    if any(not 1 <= len(one["Key"]) <= 128 or len(one["Value"]) > 256 or one["Key"].startswith("aws:") for one in tags):
        raise Refused("InvalidTagParameterException", "A tag's key has 1 to 128 characters and does not begin with aws:, its value at most 256")
    return {one["Key"]: one["Value"] for one in tags}


def _of_arn(registry: Registry, asked: dict[str, Any]) -> Repository:
    _, found, name = asked["resourceArn"].partition(":repository/")
    if not found:
        raise invalid("resourceArn", "Invalid ARN")
    return registry.find(name)


# The registry


def describe_registry(_: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    return {"registryId": ACCOUNT, "replicationConfiguration": {"rules": []}}


def get_account_setting(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    if asked["name"] not in SETTINGS:
        raise invalid("name", f"Member must satisfy enum value set: [{', '.join(SETTINGS)}]")
    return {"name": asked["name"], "value": registry.settings[asked["name"]]}


def put_account_setting(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    if asked["value"] not in SETTINGS.get(asked["name"], ()):
        raise invalid("value", f"{asked['name']} is one of {SETTINGS}")
    registry.settings[asked["name"]] = asked["value"]
    return dict(asked)


def get_authorization_token(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    token, until = registry.tokens.mint()
    return {"authorizationData": [{"authorizationToken": token, "expiresAt": until, "proxyEndpoint": registry.endpoint}]}


OPERATIONS: dict[str, Operation] = {
    "CreateRepository": create_repository,
    "DeleteRepository": delete_repository,
    "DeleteRepositoryPolicy": delete_repository_policy,
    "DescribeRegistry": describe_registry,
    "DescribeRepositories": describe_repositories,
    "GetAccountSetting": get_account_setting,
    "GetAuthorizationToken": get_authorization_token,
    "GetRepositoryPolicy": get_repository_policy,
    "ListTagsForResource": list_tags_for_resource,
    "PutAccountSetting": put_account_setting,
    "PutImageTagMutability": put_image_tag_mutability,
    "SetRepositoryPolicy": set_repository_policy,
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
}
