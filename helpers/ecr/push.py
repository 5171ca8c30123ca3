"""Push an image or a chart: layers that are missing, then manifests, then the proof; what is there already costs no write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from helpers.aws import Aws, RunbookError, calls
from helpers.ecr.content import CHART, Image, short
from helpers.ecr.layers import Sent, Wanted, send_layers
from helpers.ecr.login import PRIVATE, Login
from helpers.ecr.parts import Api
from helpers.ecr.publish import Proof, conflict, publish_manifests, verify
from helpers.ecr.push_plan import MOUNT, Layer, PushPlan, available, plan_push
from helpers.ecr.repository import Repository, client_of, describe
from helpers.ecr.source import open_image
from helpers.ecr.tables import table
from helpers.ecr.tags import choose_tag
from helpers.ecr.wire import Registry
from helpers.ecr.words import explain_ecr

if TYPE_CHECKING:
    import pandas as pd

PLANNED = "planned"


@dataclass(frozen=True)
class Layers:
    """What became of the layers of a push, those that were missing."""

    rows: tuple[Sent, ...]

    @property
    def sent(self) -> int:
        """The bytes that left, those sent again included."""
        return sum(one.sent for one in self.rows)

    @property
    def again(self) -> int:
        """The bytes that were sent again after a broken connection."""
        return sum(max(0, one.sent - one.size) for one in self.rows if one.sent)

    def table(self) -> pd.DataFrame:
        """A row a layer: digest, how it came there, its bytes, the bytes sent, breaks of the connection, seconds."""
        rows = [(short(one.digest), one.how, one.size, one.sent, one.cuts, round(one.seconds, 2)) for one in self.rows]
        return table(rows, ["layer", "how", "bytes", "sent", "breaks", "seconds"])


@dataclass(frozen=True)
class Pushed:
    """A push that was proven: the plan it followed, what became of the layers, the manifests that were put, and the proof."""

    plan: PushPlan
    layers: Layers
    published: tuple[str, ...]
    proof: Proof


def push(aws: Aws, image: str | Image, repository: str, tag: str = "", *, platform: str = "", allow_latest: bool = False, visibility: str = PRIVATE) -> Pushed:
    """Push `image` (see `open_image`) to a repository that exists, and prove it by reading it back.

    Raises `RunbookError`, and before anything is sent where the tag is immutable and names another image.
    """
    opened = open_image(image, platform) if isinstance(image, str) else image
    try:
        there = describe(aws, repository, visibility)
        if there is None:
            raise RunbookError(f"There is no repository {repository} in {aws.region}.", "Make it, or check the name, the account and the region.")
        plan = plan_push(aws, repository, choose_tag(tag, opened, allow_latest=allow_latest).name, opened, there, visibility)
    except Exception as error:
        raise explain_ecr(error) from error
    refuse_conflict(plan, there)
    target = Target(aws, there)
    layers = send(target, plan, opened)
    published = publish_manifests(target.client, opened, plan)
    return Pushed(plan, layers, tuple(published), verify(target.client, target.registry, plan))


def refuse_conflict(plan: PushPlan, repository: Repository) -> None:
    """Raise `RunbookError` where the tag may not be moved, and names another image."""
    if plan.tag_now not in ("", plan.digest) and repository.is_fixed(plan.tag):
        raise conflict(plan.repository, plan.tag, plan.tag_now, plan.digest)


class Target:
    """Where a push goes: boto3's client, the registry by HTTP, and the calls for layers in parts."""

    def __init__(self, aws: Aws, repository: Repository) -> None:
        self.client = client_of(aws, repository.visibility)
        self.registry = Registry(Login(self.client, repository.visibility), repository.uri.partition("/")[2])
        self.api = Api(aws.session, self.client, repository.name)


def send(target: Target, plan: PushPlan, image: Image) -> Layers:
    """Send or mount the layers that the plan has as missing; each is recorded as a write, in the order of the plan.

    A layer that has come meanwhile, by a run that was cut off or by somebody else, is not sent again. Raises `RunbookError`.
    """
    missing = plan.to_send
    if not missing:
        return Layers(())
    with calls.outside_aws_together([_write(plan, one) for one in missing]) as writes:
        if not writes[0].sent:
            return Layers(tuple(Sent(one.digest, PLANNED, one.size) for one in missing))
        blobs = {blob.digest: blob for blob in image.blobs}
        by_digest = {one.digest: call for one, call in zip(missing, writes, strict=True)}

        def on_done(sent: Sent) -> None:
            call = by_digest[sent.digest]
            call.status, call.request_id, call.duration_ms = 201, sent.request_id, sent.seconds * 1000

        try:
            there = available(target.client, plan.repository, [one.digest for one in missing])
            wanted = [Wanted(blobs[one.digest], one.source, one.digest in there) for one in missing]
            return Layers(tuple(send_layers(target.registry, target.api, wanted, on_done)))
        except Exception as error:
            raise explain_ecr(error) from error


def pull_command(kind: str, version: str, uri: str, digest: str) -> str:
    """The command that pulls what was pushed: an image by its digest, a chart by its version, as Helm wants it."""
    return f"helm pull oci://{uri} --version {version}" if kind == CHART else f"docker pull {uri}@{digest}"


def _write(plan: PushPlan, layer: Layer) -> tuple[str, str, str, dict[str, object]]:
    """A layer as a write: it goes over HTTP, where IAM sees InitiateLayerUpload, UploadLayerPart and CompleteLayerUpload."""
    told: dict[str, object] = {"layerDigest": layer.digest, "bytes": layer.size}
    if layer.action == MOUNT:
        return "ecr", "MountLayer", f"{plan.repository}@{layer.digest}", {**told, "from": layer.source}
    return "ecr", "UploadLayer", f"{plan.repository}@{layer.digest}", told
