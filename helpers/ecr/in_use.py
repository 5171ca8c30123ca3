"""Which images of a repository are in use: by ECS, Lambda, and what Inspector and the last pull tell of EKS. Reads only.

A lifecycle policy does not know what runs (github.com/aws/containers-roadmap/issues/1078): it expires images that a restarted task
then cannot pull.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from botocore.exceptions import BotoCoreError, ClientError

from helpers.aws import Aws
from helpers.aws.errors import explain

TASKS, SERVICES = 100, 10  # the most that DescribeTasks and DescribeServices take
RECENT_DAYS = 14
PULLED_ON = "pulled on"
# Where the fleet of pods cannot be seen: nothing but the cluster itself knows its pods.
UNSEEN = "its pods cannot be seen from the AWS API"


@dataclass(frozen=True)
class Use:
    """That something uses an image: the reference as it stands there (host/repository:tag or @digest), and who."""

    reference: str
    by: str


@dataclass(frozen=True)
class Uses:
    """What was found; `unseen` are sentences about what could not be seen."""

    found: tuple[Use, ...]
    unseen: tuple[str, ...]


def find_uses(aws: Aws, repository: str = "") -> Uses:
    """Every use of an image by ECS task definitions, running tasks and Lambda functions, and of this repository what Inspector saw run.

    A service that refuses to answer is named in `unseen`: what it runs is then not known.
    """
    found: list[Use] = []
    unseen: list[str] = []
    for name, look in (("ECS", _ecs), ("Lambda", _lambda), ("EKS", _eks), ("Inspector", _inspector)):
        try:
            uses, notes = look(aws, repository)
        except (BotoCoreError, ClientError) as error:
            uses, notes = [], [f"{name} was not asked: {explain(error).what.strip()}"]
        found += uses
        unseen += notes
    return Uses(tuple(dict.fromkeys(found)), tuple(unseen))


# -- who uses images --------------------------------------------------------------------------------------


def _ecs(aws: Aws, _: str) -> tuple[list[Use], list[str]]:
    """The newest revision of each task definition, those that services deploy or tasks run, and the tasks themselves."""
    ecs = aws.client("ecs")
    definitions = dict.fromkeys(_pages(ecs, "list_task_definition_families", "families", status="ACTIVE"))
    found: list[Use] = []
    for cluster in _pages(ecs, "list_clusters", "clusterArns"):
        name = cluster.rpartition("/")[2]
        for some in _batches(_pages(ecs, "list_services", "serviceArns", cluster=cluster), SERVICES):
            for service in ecs.describe_services(cluster=cluster, services=some)["services"]:
                definitions |= dict.fromkeys(one["taskDefinition"] for one in [service, *service.get("deployments", ())] if one.get("taskDefinition"))
        for some in _batches(_pages(ecs, "list_tasks", "taskArns", cluster=cluster), TASKS):
            for task in ecs.describe_tasks(cluster=cluster, tasks=some)["tasks"]:
                definitions[task["taskDefinitionArn"]] = None
                found += [use for one in task.get("containers", ()) for use in _container(one, f"a running ECS task of {name}")]
    seen: dict[str, dict[str, Any]] = {}
    for definition in definitions:
        told = ecs.describe_task_definition(taskDefinition=definition)["taskDefinition"]
        seen.setdefault(told["taskDefinitionArn"], told)
    for told in seen.values():
        found += [Use(one["image"], f"ECS task definition {told['family']}:{told['revision']}") for one in told["containerDefinitions"] if one.get("image")]
    return found, []


def _container(one: Mapping[str, Any], by: str) -> Iterator[Use]:
    """A running container by the digest that it was started from, which the tag may have left since."""
    image, digest = one.get("image", ""), one.get("imageDigest")
    if image:
        yield Use(f"{_repository(image)}@{digest}" if digest else image, by)


def _lambda(aws: Aws, _: str) -> tuple[list[Use], list[str]]:
    """The images of Lambda functions, of every published version."""
    client = aws.client("lambda")
    found = []
    for one in _pages(client, "list_functions", "Functions", FunctionVersion="ALL"):
        if one.get("PackageType") != "Image":
            continue
        code = client.get_function(FunctionName=one["FunctionName"], Qualifier=one["Version"])["Code"]
        image = code.get("ResolvedImageUri") or code.get("ImageUri")
        if image:
            found.append(Use(image, f"Lambda function {one['FunctionName']} ({one['Version']})"))
    return found, []


def _eks(aws: Aws, _: str) -> tuple[list[Use], list[str]]:
    """EKS says which clusters there are, and nothing of their pods."""
    return [], [f"EKS cluster {name}: {UNSEEN}" for name in _pages(aws.client("eks"), "list_clusters", "clusters")]


def _inspector(aws: Aws, repository: str) -> tuple[list[Use], list[str]]:
    """Images that Inspector saw running on ECS or EKS, where enhanced scanning is on."""
    wanted = {"resourceType": [{"comparison": "EQUALS", "value": "AWS_ECR_CONTAINER_IMAGE"}]}
    if repository:
        wanted["ecrRepositoryName"] = [{"comparison": "EQUALS", "value": repository}]
    found = []
    for one in _pages(aws.client("inspector2"), "list_coverage", "coveredResources", filterCriteria=wanted):
        times = one.get("resourceMetadata", {}).get("ecrImage", {}).get("inUseCount", 0)
        if times:
            name, _, digest = one["resourceId"].partition(":repository/")[2].rpartition("/")
            found.append(Use(f"{name}@{digest}", f"{times} cluster{'s' * (times > 1)} that Inspector saw"))
    return found, []


def _pages(client: Any, operation: str, name: str, **asked: Any) -> Iterator[Any]:
    for page in client.get_paginator(operation).paginate(**asked):
        yield from page.get(name, ())


def _batches(items: Iterable[str], most: int) -> Iterator[list[str]]:
    every = list(items)
    for start in range(0, len(every), most):
        yield every[start : start + most]


# -- which images they mean -------------------------------------------------------------------------------


def _repository(reference: str) -> str:
    """The host and the repository of a reference, without tag and digest."""
    name = reference.partition("@")[0]
    head, colon, last = name.rpartition(":")
    return head if colon and "/" not in last else name


def used_digests(uses: Iterable[Use], images: Iterable[Mapping[str, Any]], names: Iterable[str]) -> dict[str, list[str]]:
    """The images in use by digest, with who uses them.

    `names` are those of the repository: its URI, and its name alone as Inspector has it. A manifest list is in use too where an image in
    it is, since its children only live as long as it does.
    """
    images = list(images)
    by_tag = {tag: record["digest"] for record in images for tag in record.get("tags", ())}
    known = {record["digest"] for record in images}
    used: dict[str, list[str]] = {}
    mine = set(names)
    for use in uses:
        name = _repository(use.reference)
        if name not in mine:
            continue
        rest = use.reference[len(name) :]
        digest = rest.partition("@")[2] or by_tag.get(rest.removeprefix(":") or "latest", "")
        if digest in known:
            used.setdefault(digest, []).append(use.by)
    for record in images:
        for child in record.get("references", ()):
            if child in used:
                used.setdefault(record["digest"], []).extend(f"{by}, an image of this list" for by in used[child])
    return {digest: list(dict.fromkeys(who)) for digest, who in used.items()}


def pulled_lately(images: Iterable[Mapping[str, Any]], now: datetime, days: int = RECENT_DAYS) -> dict[str, list[str]]:
    """The images that somebody pulled in the last `days`: a pod that starts on a new node pulls, so this is what is known of EKS."""
    since = now - timedelta(days=days)
    pulls = {record["digest"]: record["lastRecordedPullTime"] for record in images if record.get("lastRecordedPullTime")}
    return {digest: [f"{PULLED_ON} {when:%Y-%m-%d}"] for digest, when in pulls.items() if when > since}


def uses_table(used: Mapping[str, list[str]], images: Iterable[Mapping[str, Any]], action_of: Callable[[str], str]) -> pd.DataFrame:
    """A row an image in use: tags or digest, by whom, and what the policy does to it."""
    named = {record["digest"]: ", ".join(record.get("tags", ())) or record["digest"][:19] for record in images}
    rows = [(action_of(digest), named[digest], "; ".join(who)) for digest, who in used.items()] or [("", "none is known to be in use", "")]
    return pd.DataFrame(rows, columns=["action", "image", "in use by"]).sort_values("action", kind="stable", ignore_index=True)
