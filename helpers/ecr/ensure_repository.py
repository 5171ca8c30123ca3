"""Bring a repository to its settings, making it where it does not exist; and take that back."""

from __future__ import annotations

from typing import Any

from helpers.aws import Aws
from helpers.aws.errors import error_code
from helpers.ecr.login import PRIVATE
from helpers.ecr.repository import BASIC, CREATE, CREATE_PUBLIC, REGISTRY, SCAN, TAGS, Drift, Repository, Settings, client_of, creation, describe, mutability_parameters
from helpers.ecr.words import explain_ecr


def ensure_repository(aws: Aws, name: str, wanted: Settings, rows: tuple[Drift, ...]) -> list[str]:
    """Make what `rows` say has to be made or changed, unless it is so by now; returns what was done, in words. Raises `RunbookError`."""
    operations = {one.operation for one in rows}
    client = client_of(aws, wanted.visibility)
    done = []
    try:
        if operations & {CREATE, CREATE_PUBLIC}:
            done.append(_create(client, name, wanted))
        if TAGS in operations:
            client.put_image_tag_mutability(repositoryName=name, **mutability_parameters(wanted.mutability, wanted.exclusions))
            done.append(f"tags of {name}: {wanted.mutability}")
        if SCAN in operations:
            client.put_image_scanning_configuration(repositoryName=name, imageScanningConfiguration={"scanOnPush": wanted.scan == BASIC})
            done.append(f"scan on push of {name}: {wanted.scan}")
        if REGISTRY in operations:
            done.append(_scan_enhanced(client, name))
    except Exception as error:
        raise explain_ecr(error) from error
    return done


def restore_repository(aws: Aws, name: str, wanted: Settings, rows: tuple[Drift, ...], before: Repository | None, registry: dict[str, Any]) -> list[str]:
    """Put settings back to `before`, and delete a repository that was not there, unless it holds images; returns what was done."""
    operations = {one.operation for one in rows}
    client = client_of(aws, wanted.visibility)
    done = []
    try:
        if REGISTRY in operations and registry:
            client.put_registry_scanning_configuration(**registry)
            done.append(f"the registry scans {registry['scanType'].lower()} again")
        if before is None and operations & {CREATE, CREATE_PUBLIC}:
            done.append(_delete(client, name))
        elif before is not None and describe(aws, name, wanted.visibility) is not None:
            if TAGS in operations:
                client.put_image_tag_mutability(repositoryName=name, **mutability_parameters(before.mutability, before.exclusions))
                done.append(f"tags of {name}: {before.mutability}")
            if SCAN in operations:
                client.put_image_scanning_configuration(repositoryName=name, imageScanningConfiguration={"scanOnPush": before.scan_on_push})
                done.append(f"scan on push of {name}: {before.scan_on_push}")
    except Exception as error:
        raise explain_ecr(error) from error
    return done or ["nothing had been changed"]


def registry_scanning(aws: Aws, visibility: str = PRIVATE) -> dict[str, Any]:
    """The registry's scanning configuration as PutRegistryScanningConfiguration takes it; empty for the public one."""
    if visibility != PRIVATE:
        return {}
    told = aws.client("ecr").get_registry_scanning_configuration()["scanningConfiguration"]
    return {"scanType": told.get("scanType", "BASIC"), "rules": told.get("rules", [])}


def _create(client: Any, name: str, wanted: Settings) -> str:
    try:
        client.create_repository(**creation(name, wanted))
    except Exception as error:
        if error_code(error) != "RepositoryAlreadyExistsException":
            raise
        return f"{name} is there by now"
    return f"{name} made"


def _scan_enhanced(client: Any, name: str) -> str:
    """Choose enhanced scans for the registry, with a rule for this repository beside the rules that there are."""
    told = client.get_registry_scanning_configuration()["scanningConfiguration"]
    own = {"scanFrequency": "SCAN_ON_PUSH", "repositoryFilters": [{"filter": name, "filterType": "WILDCARD"}]}
    rules = [*(rule for rule in told.get("rules", []) if rule != own), own]
    client.put_registry_scanning_configuration(scanType="ENHANCED", rules=rules)
    return f"the registry scans enhanced, {name} on push"


def _delete(client: Any, name: str) -> str:
    try:
        client.delete_repository(repositoryName=name)
    except Exception as error:
        code = error_code(error)
        if code == "RepositoryNotEmptyException":
            return f"{name} stays: it holds images that this run did not push"
        if code != "RepositoryNotFoundException":
            raise
        return f"{name} is gone already"
    return f"{name} deleted"
