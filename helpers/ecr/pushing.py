"""The steps of runbooks/ecr_push.ipynb: settings, layers, manifests, proof, scan; each is taken back by roll back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helpers.aws import UNKNOWN, Aws, RunbookError, effect, planning
from helpers.ecr.content import CHART, Image, short
from helpers.ecr.ensure_repository import ensure_repository, restore_repository
from helpers.ecr.publish import Proof, publish_manifests, withdraw
from helpers.ecr.publish import verify as verify_image
from helpers.ecr.push import Layers, Target, pull_command, send
from helpers.ecr.push_plan import PushPlan
from helpers.ecr.push_survey import Job, Survey, image_of, job_of, survey
from helpers.ecr.repository import Repository, client_of, describe, drift_table
from helpers.ecr.scan import SEVERITIES, Findings, await_findings, findings_table, judge
from helpers.ecr.tables import table
from helpers.ecr.words import explain_ecr

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ENHANCED_SCANS", "Done", "Pull", "Scanned", "begin_scans", "changes", "findings", "from_parameters", "measured", "publish", "pull", "push_layers", "question",
    "settings", "survey", "verify",
]  # fmt: skip

from_parameters = job_of
ENHANCED_SCANS = "Amazon Inspector scans every repository that the registry's rules name, and bills for it."


@dataclass(frozen=True)
class Done:
    """What a step did, in words."""

    rows: tuple[str, ...]

    def table(self) -> pd.DataFrame:
        """A row a thing that was done."""
        return table([(one,) for one in list(self.rows) or ["nothing: it was so already"]], ["done"])


@dataclass(frozen=True)
class Scanned:
    """What the scans of the pushed images found, and what that means for the run."""

    findings: tuple[Findings, ...]
    verdict: str

    def table(self) -> pd.DataFrame:
        """A row an image; where nothing was scanned, why."""
        return findings_table(self.findings) if self.findings else table([(one,) for one in [self.verdict]], ["scan"])


@dataclass(frozen=True)
class Pull:
    """What pulls exactly what was pushed: the command, the address with its tag, and the digest."""

    command: str
    address: str
    digest: str

    def table(self) -> pd.DataFrame:
        """A row each."""
        return table([("pull", self.command), ("tag", self.address), ("digest", self.digest)], ["what", "value"])


def changes(found: Survey) -> pd.DataFrame:
    """The repository's settings as they are and as they are wanted, with a verdict each."""
    return drift_table(found.drift)


def question(job: Job, found: Survey) -> str:
    """What the gate before the push asks about."""
    return f"{job.image} is pushed to {job.repository}:{found.plan.tag}. {found.plan.told()}"


def undo_settings(aws: Aws, job: Job, found: Survey) -> Done:
    """Put the repository's settings back; a repository that the run made is deleted unless it holds images of others."""
    return Done(tuple(restore_repository(aws, job.repository, job.settings, found.drift, found.repository, found.registry)))


@effect(undo=undo_settings)
def settings(aws: Aws, job: Job, found: Survey) -> Done:
    """Make the repository where there is none, and bring its settings to what is wanted."""
    return Done(tuple(ensure_repository(aws, job.repository, job.settings, found.drift)))


@effect()
def push_layers(aws: Aws, job: Job, found: Survey) -> Layers:
    """Send the layers that are missing, several at once; nobody can pull them before a manifest names them."""
    if not found.plan.to_send:
        return Layers(())
    return send(Target(aws, _repository(aws, job)), found.plan, _image(job, found.plan))


def undo_publish(aws: Aws, job: Job, found: Survey) -> Done:
    """Remove the tag and the images that the run published, or move the tag back to the image that it named before."""
    return Done(tuple(withdraw(client_of(aws, job.settings.visibility), found.plan)))


@effect(undo=undo_publish)
def publish(aws: Aws, job: Job, found: Survey) -> Done:
    """Put the manifests, children first and the tag last: from that moment on it can be pulled."""
    return Done(tuple(publish_manifests(client_of(aws, job.settings.visibility), _image(job, found.plan), found.plan)))


def verify(aws: Aws, job: Job, found: Survey) -> Proof | Done:
    """Read the image back by its tag, hash it, and compare it with what ECR describes; a plan has pushed nothing."""
    if planning():
        return Done(("a plan pushes nothing, so nothing is read back",))
    target = Target(aws, _repository(aws, job))
    return verify_image(target.client, target.registry, found.plan)


@effect()
def begin_scans(aws: Aws, job: Job, found: Survey) -> Done | None:
    """Start the scan of images that were there before and were never scanned; new ones are scanned as they come."""
    if not found.to_begin:
        return None
    for digest in found.to_begin:
        try:
            aws.client("ecr").start_image_scan(repositoryName=job.repository, imageId={"imageDigest": digest})
        except Exception as error:
            raise explain_ecr(error) from error
    return Done(tuple(f"a scan of {short(digest)} began" for digest in found.to_begin))


def findings(aws: Aws, job: Job, found: Survey) -> Scanned:
    """Wait for the findings. Raises `RunbookError` where one is as severe as the threshold."""
    if not found.to_scan:
        return Scanned((), "a chart holds no packages to scan" if found.kind == CHART else "scan on push is off")
    if planning():
        return Scanned((), "a plan pushes nothing, so nothing is scanned")
    every = tuple(await_findings(aws.client("ecr"), job.repository, digest) for digest in found.to_scan)
    return Scanned(every, judge(every, job.scan_threshold))


def pull(aws: Aws, job: Job, found: Survey) -> Pull:
    """How to pull what was pushed; a plan that would make the repository does not know its address."""
    repository = describe(aws, job.repository, job.settings.visibility) if not planning() else found.repository
    if repository is None:
        return Pull(UNKNOWN, UNKNOWN, found.plan.digest)
    return Pull(pull_command(found.kind, found.version, repository.uri, found.plan.digest), f"{repository.uri}:{found.plan.tag}", found.plan.digest)


def measured(found: Survey, layers: Layers, scanned: Scanned, pulled: Pull) -> dict[str, Any]:
    """The run's figures: what pulls it, the digest, bytes sent and sent again, layers by what became of them, findings."""
    return {
        "pull": pulled.command,
        "digest": found.plan.digest,
        "tag": found.plan.tag,
        "bytes_sent": layers.sent,
        "bytes_sent_again": layers.again,
        "layers_sent": sum(one.sent > 0 for one in layers.rows),
        "layers_there": len(found.plan.layers) - len(layers.rows),
        "findings": {name: count for name in SEVERITIES if (count := sum(one.counts.get(name, 0) for one in scanned.findings))},
    }


def _repository(aws: Aws, job: Job) -> Repository:
    """The repository as it is now; in a plan that would make it, what it will be called."""
    found = describe(aws, job.repository, job.settings.visibility) if not planning() else None
    if found is None and not planning():
        raise RunbookError(f"The repository {job.repository} does not exist any more.", "Start a new run, which makes it.")
    return found or Repository(job.repository, f"registry/{job.repository}", job.settings.visibility)


def _image(job: Job, plan: PushPlan) -> Image:
    """The image, which must be the one that was planned."""
    image = image_of(job.image, job.platform)
    if image.root.digest != plan.digest:
        raise RunbookError(f"{job.image} was {plan.digest} when this run began, and is {image.root.digest} now. Nothing was published.", "Start a new run for the new image.")
    return image
