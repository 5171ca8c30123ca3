"""What a push needs and would do, found before anything is changed: the image, the tag, the repository, the key, the permissions."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from helpers.aws import Aws, Check
from helpers.aws.errors import error_code
from helpers.aws.permissions import permissions
from helpers.ecr.content import CHART, IMAGE, INDEXES, Image
from helpers.ecr.ensure_repository import registry_scanning
from helpers.ecr.login import PRIVATE, Login
from helpers.ecr.publish import conflict
from helpers.ecr.push_plan import PushPlan, images, plan_push
from helpers.ecr.push_policy import writes_of
from helpers.ecr.repository import BASIC, ENHANCED, OFF, REGISTRY, Drift, Repository, Settings, client_of, compare, describe, drift_checks, is_fixed, scanning
from helpers.ecr.source import open_image
from helpers.ecr.tags import choose_tag
from helpers.ecr.wire import Connections, is_stale
from helpers.ecr.words import explain_ecr

AWS_KEY = "alias/aws/ecr"


@dataclass(frozen=True)
class Job:
    """What a run is asked for: an image or a chart, where to, under which tag and platform, the settings, and the scan's threshold."""

    image: str
    repository: str
    tag: str
    platform: str
    settings: Settings
    scan_threshold: str = "none"
    allow_latest: bool = False
    create_repository: bool = True


@dataclass(frozen=True)
class Survey:
    """What was found: the image, the plan of its push, the repository (None: still to be made), the settings' drift, what is to be scanned, the checks.

    `registry` is the registry's scanning configuration before; `scans` what is scanned after the push (basic, enhanced or off);
    `to_scan` the digests that can be, and `to_begin` those of them that are there already and were never scanned.
    """

    kind: str
    name: str
    version: str
    plan: PushPlan
    repository: Repository | None
    drift: tuple[Drift, ...]
    registry: dict[str, Any]
    scans: str
    to_scan: tuple[str, ...]
    to_begin: tuple[str, ...]
    checks: tuple[Check, ...]

    @property
    def changes_registry(self) -> bool:
        """True where the scan type of the whole registry changes, for every repository in it."""
        return any(one.operation == REGISTRY for one in self.drift)


def job_of(parameters: dict[str, Any]) -> Job:
    """The job that the notebook's parameters ask for; `tag_exclusions` are wildcards with commas between them."""
    given = parameters
    exclusions = tuple(part.strip() for part in given["tag_exclusions"].split(",") if part.strip())
    settings = Settings(given["visibility"], given["tag_immutability"], exclusions, given["scan"], given["encryption"], given["kms_key"])
    return Job(given["image"], given["repository"], given["tag"], given["platform"], settings, given["scan_threshold"], given["allow_latest"], given["create_repository"])


@functools.lru_cache(maxsize=1)
def image_of(name: str, platform: str) -> Image:
    """The image of a job, opened once a process: a local engine's takes a while."""
    return open_image(name, platform)


def survey(aws: Aws, job: Job) -> Survey:
    """Look at everything that the push needs. Raises `RunbookError` for what cannot be pushed at all."""
    image = image_of(job.image, job.platform)
    tag = choose_tag(job.tag, image, allow_latest=job.allow_latest)
    private = job.settings.visibility == PRIVATE
    try:
        repository = describe(aws, job.repository, job.settings.visibility)
        rules = scanning(aws.client("ecr"), job.repository) if private and repository is None else ("BASIC", ())
        drift = compare(job.settings, repository, rules)
        plan = plan_push(aws, job.repository, tag.name, image, repository, job.settings.visibility, job.settings.made_with)
        scans = _scans(job, repository, rules) if private else OFF
        to_scan, to_begin = _scannable(aws, image, plan, scans)
        checks = [
            Check("who is calling", "pass", aws.caller), _read(image), tag.check(), _space(plan), *_repository(job, repository, aws), *_login(aws, job, repository),
            _movable(job, plan, repository), *_named(image, job), *_archived(aws, job, plan), *_keys(aws, job, repository), *drift_checks(drift),
            permissions(aws, writes_of(aws, job.repository, job.settings.visibility, {one.operation for one in drift}), "ecr_push"),
        ]  # fmt: skip
        registry = registry_scanning(aws) if private and any(one.operation == REGISTRY for one in drift) else {}
    except Exception as error:
        raise explain_ecr(error) from error
    return Survey(image.kind, image.name, image.version, plan, repository, tuple(drift), registry, scans, to_scan, to_begin, tuple(checks))


def _scans(job: Job, repository: Repository | None, rules: tuple[str, tuple[str, ...]]) -> str:
    """What is scanned once the settings are as wanted."""
    now = repository or Repository("", "", scan_type=rules[0], rules=rules[1])
    wanted = job.settings.scan
    if wanted == ENHANCED or now.scan_type == ENHANCED.upper():
        return ENHANCED if wanted == ENHANCED else now.scans
    return now.scans if wanted not in (BASIC, OFF) else wanted


def _scannable(aws: Aws, image: Image, plan: PushPlan, scans: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The images that a scan looks at, an index's children one by one, and those of them that nobody scanned when they came."""
    if scans == OFF or image.kind != IMAGE:
        return (), ()
    digests = tuple(one.digest for one in image.manifests if one.media_type not in INDEXES and (one.platform or one.digest == plan.digest))
    there = [one.digest for one in plan.manifests if one.there and one.digest in digests]
    known = images(aws.client("ecr"), plan.repository, there) if there and scans == BASIC else {}
    return digests, tuple(digest for digest, detail in known.items() if not detail.get("imageScanStatus"))


def _read(image: Image) -> Check:
    what = f"chart {image.name} {image.version}" if image.kind == CHART else f"{_kind(image)} of {', '.join(image.platforms) or 'no platform'}"
    return Check("the image can be read", "pass", f"{image.origin}: {what}, {len(image.blobs)} blobs of {image.size / 1e6:,.1f} MB, {image.root.digest}")


def _kind(image: Image) -> str:
    return f"an index and {len(image.manifests) - 1} images" if image.root.children else "an image"


def _space(plan: PushPlan) -> Check:
    """Layers are sent from where they lie; archives of local engines were unpacked into the folder for temporary files."""
    free = shutil.disk_usage(tempfile.gettempdir()).free
    return Check("there is space", "pass", f"{plan.bytes / 1e6:,.1f} MB are sent from where they lie; {free / 1e9:,.1f} GB are free for temporary files")


def _repository(job: Job, repository: Repository | None, aws: Aws) -> Iterator[Check]:
    name = "the repository"
    if repository is not None:
        yield Check(name, "pass", repository.uri)
    elif job.create_repository:
        yield Check(name, "pass", f"{job.repository} does not exist in {aws.region}, and will be made")
    else:
        yield Check(name, "fail", f"there is no {job.repository} in {aws.region}.", "Set create_repository, or check its name, the account and the region.")


def _login(aws: Aws, job: Job, repository: Repository | None) -> Iterator[Check]:
    """Whether a token is given, is taken by the registry, and the registry is the repository's."""
    name = "the registry takes the login"
    login = Login(client_of(aws, job.settings.visibility), job.settings.visibility)
    endpoint = login.endpoint
    host = urlsplit(endpoint).netloc
    if repository is not None and repository.uri.partition("/")[0] != host:
        yield Check(name, "fail", f"the token is for {host}, the repository is {repository.uri}.", "Use the credentials and the region of the repository's account.")
        return
    answer = Connections(endpoint).exchange("GET", "/v2/", {"Authorization": login.header()})
    if is_stale(answer) or answer.status != 200:
        yield Check(name, "fail", f"{host} answers {answer.status} {answer.error[1]}.", "Check the region, the account and this machine's clock.")
        return
    yield Check(name, "pass", f"{host}, with a token that is kept in memory only")


def _movable(job: Job, plan: PushPlan, repository: Repository | None) -> Check:
    """Whether the tag can be given to this image under the settings that the push will find."""
    name = "the tag is free"
    if plan.tag_now == plan.digest:
        return Check(name, "pass", f"{plan.tag} names this very image already")
    if not plan.tag_now or repository is None:
        return Check(name, "pass", f"{plan.tag} is new")
    wanted = job.settings
    if is_fixed(wanted.mutability or repository.mutability, wanted.exclusions if wanted.mutability else repository.exclusions, plan.tag):
        told = conflict(plan.repository, plan.tag, plan.tag_now, plan.digest)
        return Check(name, "fail", told.what, told.remedy)
    return Check(name, "warn", f"{plan.tag} names {plan.tag_now}, and will be moved", "Push each version under a tag of its own; roll back puts this one back.")


def _named(image: Image, job: Job) -> Iterator[Check]:
    """Helm takes the last part of the repository for the chart's name."""
    if image.kind == CHART and job.repository.rpartition("/")[2] != image.name:
        yield Check("the repository is named after the chart", "warn", f"{job.repository} holds the chart {image.name}", f"`helm push` would choose …/{image.name}; pulling works all the same.")


def _archived(aws: Aws, job: Job, plan: PushPlan) -> Iterator[Check]:
    """An image that was archived is there, and cannot be pulled."""
    there = [one.digest for one in plan.manifests if one.there]
    if not there or job.settings.visibility != PRIVATE:
        return
    for digest, detail in images(aws.client("ecr"), plan.repository, there).items():
        if detail.get("imageStatus", "ACTIVE") != "ACTIVE":
            remedy = f"aws ecr update-image-storage-class --repository-name {plan.repository} --image-id imageDigest={digest} --target-storage-class STANDARD"
            yield Check("the image can be pulled", "fail", f"{digest} is there, but {detail['imageStatus'].lower()}.", f"Restore it, and wait until it is ACTIVE: {remedy}")


def _keys(aws: Aws, job: Job, repository: Repository | None) -> Iterator[Check]:
    """Whether the repository's KMS key can be used."""
    key = repository.kms_key if repository else job.settings.kms_key
    if not key or key.endswith(AWS_KEY):
        return
    name = "the KMS key can be used"
    try:
        told = aws.client("kms").describe_key(KeyId=key)["KeyMetadata"]
    except Exception as error:
        code = error_code(error)
        if not code:
            raise
        outcome = "fail" if "NotFound" in code else "warn"
        yield Check(name, outcome, f"{key}: {code}.", "Give a key of this account and region, and allow kms:DescribeKey on it.")
        return
    good = told["KeyState"] == "Enabled"
    yield Check(name, "pass" if good else "fail", f"{key} is {told['KeyState']}{'' if good else '.'}", "" if good else "Enable it, or cancel its deletion: without it nothing can be pushed or pulled.")
