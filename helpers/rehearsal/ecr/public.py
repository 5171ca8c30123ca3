"""ECR Public, as far as a runbook needs it: repositories with catalog data, and a token. Its registry serves no bytes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from helpers.rehearsal.cloud import ACCOUNT
from helpers.rehearsal.ecr.api import Operation, page
from helpers.rehearsal.ecr.faults import Faults
from helpers.rehearsal.ecr.refusals import Refused
from helpers.rehearsal.ecr.tokens import Tokens

TARGET = "SpencerFrontendService"
ALIAS = "rehearsal"


@dataclass
class PublicRepository:
    """A public repository: who pushed what is not part of it."""

    name: str
    created_at: float
    catalog: dict[str, Any] = field(default_factory=dict)
    labels: list[dict[str, str]] = field(default_factory=list)


class PublicRegistry:
    """The public repositories of the account."""

    def __init__(self) -> None:
        self.repositories: dict[str, PublicRepository] = {}
        self.faults, self.tokens = Faults(), Tokens()

    def find(self, name: str) -> PublicRepository:
        """Return a repository. Raises `Refused` where there is none of this name."""
        try:
            return self.repositories[name]
        except KeyError:
            told = f"The repository with name '{name}' does not exist in the registry with id '{ACCOUNT}'"
            raise Refused("RepositoryNotFoundException", told) from None


def _described(repository: PublicRepository) -> dict[str, Any]:
    return {
        "repositoryArn": f"arn:aws:ecr-public::{ACCOUNT}:repository/{repository.name}",
        "registryId": ACCOUNT,
        "repositoryName": repository.name,
        "repositoryUri": f"public.ecr.aws/{ALIAS}/{repository.name}",
        "createdAt": repository.created_at,
    }


def create_repository(registry: PublicRegistry, asked: dict[str, Any]) -> dict[str, Any]:
    name = asked["repositoryName"]
    if name in registry.repositories:
        raise Refused("RepositoryAlreadyExistsException", f"The repository with name '{name}' already exists in the registry with id '{ACCOUNT}'")
    made = registry.repositories[name] = PublicRepository(name, time.time(), dict(asked.get("catalogData") or {}), list(asked.get("tags") or []))
    return {"repository": _described(made), "catalogData": _catalog(made)}


def describe_repositories(registry: PublicRegistry, asked: dict[str, Any]) -> dict[str, Any]:
    names = asked.get("repositoryNames")
    found = [registry.find(name) for name in names] if names else [registry.repositories[name] for name in sorted(registry.repositories)]
    return page([_described(one) for one in found], asked, "repositories")


def delete_repository(registry: PublicRegistry, asked: dict[str, Any]) -> dict[str, Any]:
    repository = registry.find(asked["repositoryName"])
    del registry.repositories[repository.name]
    return {"repository": _described(repository)}


def put_repository_catalog_data(registry: PublicRegistry, asked: dict[str, Any]) -> dict[str, Any]:
    repository = registry.find(asked["repositoryName"])
    repository.catalog = dict(asked["catalogData"])
    return {"catalogData": _catalog(repository)}


def get_repository_catalog_data(registry: PublicRegistry, asked: dict[str, Any]) -> dict[str, Any]:
    return {"catalogData": _catalog(registry.find(asked["repositoryName"]))}


def _catalog(repository: PublicRepository) -> dict[str, Any]:
    return {name: value for name, value in repository.catalog.items() if name != "logoImageBlob"}


def get_authorization_token(registry: PublicRegistry, asked: dict[str, Any]) -> dict[str, Any]:
    token, until = registry.tokens.mint()
    return {"authorizationData": {"authorizationToken": token, "expiresAt": until}}


def list_tags_for_resource(registry: PublicRegistry, asked: dict[str, Any]) -> dict[str, Any]:
    return {"tags": registry.find(asked["resourceArn"].partition(":repository/")[2]).labels}


OPERATIONS: dict[str, Operation] = {
    "CreateRepository": create_repository,
    "DeleteRepository": delete_repository,
    "DescribeRepositories": describe_repositories,
    "GetAuthorizationToken": get_authorization_token,
    "GetRepositoryCatalogData": get_repository_catalog_data,
    "ListTagsForResource": list_tags_for_resource,
    "PutRepositoryCatalogData": put_repository_catalog_data,
}
