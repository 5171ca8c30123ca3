"""A push to a registry with real bytes: what is sent and what is not, in which order, and what each fault ends in."""

from __future__ import annotations

import hashlib
import io
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from helpers.aws import RunbookError, calls, connect
from helpers.ecr import layers, parts
from helpers.ecr.content import Blob
from helpers.ecr.login import PUBLIC, Login
from helpers.ecr.push import push
from helpers.ecr.push_plan import MOUNT, THERE, UPLOAD
from helpers.ecr.source import open_image
from helpers.ecr.wire import Registry
from tests.ecr import making
from tests.ecr.conftest import Account
from tests.ecr.cutting import Cutter

MIB = 1 << 20


@pytest.fixture
def recorded() -> Any:
    """Every call of the test, by service, operation and whether it writes."""
    made: list[calls.Call] = []
    calls.watch(calls.Watch(made.append))
    yield made
    calls.watch(None)


def test_what_was_pushed_is_proven_by_reading_it_back(account: Account, tmp_path: Path) -> None:
    digest = making.image(tmp_path / "oci", os.urandom(MIB), os.urandom(MIB))
    done = push(account.aws, str(tmp_path / "oci"), account.repository, "1.0.0")
    assert (done.proof.digest, account.tags()) == (digest, {"1.0.0": digest})
    assert [one.how for one in done.layers.rows] == [layers.SENT] * 3
    assert done.proof.size == 2 * MIB + done.layers.rows[0].size


def test_what_is_there_already_is_success_and_nothing_is_written(account: Account, tmp_path: Path, recorded: list[calls.Call]) -> None:
    making.image(tmp_path / "oci")
    push(account.aws, str(tmp_path / "oci"), account.repository, "1.0.0")
    recorded.clear()
    again = push(account.aws, str(tmp_path / "oci"), account.repository, "1.0.0")
    assert (again.layers.rows, again.published, again.plan.is_done) == ((), (), True)
    assert [call.operation for call in recorded if call.write] == []


def test_only_the_layers_that_are_missing_are_sent(account: Account, tmp_path: Path) -> None:
    base = os.urandom(MIB)
    making.image(tmp_path / "one", base)
    making.image(tmp_path / "two", base, os.urandom(100))
    push(account.aws, str(tmp_path / "one"), account.repository, "1")
    second = push(account.aws, str(tmp_path / "two"), account.repository, "2")
    assert [one.action for one in second.plan.layers] == [UPLOAD, THERE, UPLOAD]
    assert second.layers.sent < MIB


def test_a_layer_is_mounted_from_another_repository_where_the_registry_mounts(account: Account, tmp_path: Path) -> None:
    base = os.urandom(MIB)
    making.image(tmp_path / "one", base)
    making.image(tmp_path / "two", base, os.urandom(100))
    push(account.aws, str(tmp_path / "one"), account.repository, "1")
    account.ecr.create_repository(repositoryName=f"{account.repository}-2")
    account.ecr.put_account_setting(name="BLOB_MOUNTING", value="ENABLED")
    try:
        done = push(account.aws, str(tmp_path / "two"), f"{account.repository}-2", "2")
    finally:
        account.ecr.put_account_setting(name="BLOB_MOUNTING", value="DISABLED")
    assert [one.action for one in done.plan.layers] == [UPLOAD, MOUNT, UPLOAD]
    assert [one.how for one in done.layers.rows] == [layers.SENT, layers.MOUNTED, layers.SENT]
    assert "mount from" in done.plan.table()["action"].tolist()[1]


def test_an_index_comes_after_its_children_and_every_manifest_as_it_is(account: Account, tmp_path: Path) -> None:
    layout, digest = making.multi(tmp_path / "oci")
    done = push(account.aws, str(layout.folder), account.repository, "1.0.0")
    image = open_image(str(layout.folder))
    assert done.published[-1].endswith(digest) and len(done.published) == 3
    assert account.digests() == {one.digest for one in image.manifests}
    found = account.ecr.batch_get_image(repositoryName=account.repository, imageIds=[{"imageDigest": one.digest} for one in image.manifests])["images"]
    assert {one["imageManifest"].encode() for one in found} == {one.body for one in image.manifests}
    assert account.tags() == {"1.0.0": digest}


def test_one_platform_of_an_index_is_pushed_alone(account: Account, tmp_path: Path) -> None:
    layout, _ = making.multi(tmp_path / "oci")
    done = push(account.aws, str(layout.folder), account.repository, "1.0.0", platform="linux/arm64")
    assert account.digests() == {done.plan.digest} and len(done.published) == 1


def test_a_chart_is_pushed_under_its_version(account: Account, tmp_path: Path) -> None:
    done = push(account.aws, str(making.chart(tmp_path / "demo")), account.repository)
    assert account.tags() == {"0.3.0_build.5": done.plan.digest}
    detail = account.ecr.describe_images(repositoryName=account.repository)["imageDetails"][0]
    assert detail["artifactMediaType"] == "application/vnd.cncf.helm.config.v1+json"


def test_an_immutable_tag_with_another_digest_shows_both_and_nothing_is_sent(account: Account, tmp_path: Path, recorded: list[calls.Call]) -> None:
    first, second = making.image(tmp_path / "one", b"one"), making.image(tmp_path / "two", b"two")
    account.ecr.put_image_tag_mutability(repositoryName=account.repository, imageTagMutability="IMMUTABLE")
    push(account.aws, str(tmp_path / "one"), account.repository, "1.0.0")
    recorded.clear()
    with pytest.raises(RunbookError, match=rf"immutable and names {first}; this image is {second}"):
        push(account.aws, str(tmp_path / "two"), account.repository, "1.0.0")
    assert [call.operation for call in recorded if call.write] == []
    assert push(account.aws, str(tmp_path / "one"), account.repository, "1.0.0").plan.is_done


def test_a_tag_that_an_exclusion_names_may_be_moved(account: Account, tmp_path: Path) -> None:
    making.image(tmp_path / "one", b"one")
    second = making.image(tmp_path / "two", b"two")
    filters = [{"filterType": "WILDCARD", "filter": "dev-*"}]
    account.ecr.put_image_tag_mutability(repositoryName=account.repository, imageTagMutability="IMMUTABLE_WITH_EXCLUSION", imageTagMutabilityExclusionFilters=filters)
    for folder in ("one", "two"):
        push(account.aws, str(tmp_path / folder), account.repository, "dev-1")
    assert account.tags() == {"dev-1": second}


# -- faults: each ends in a sentence of cause and one of remedy, and nothing is half published ------------------


def refused(account: Account, folder: Path, told: str, tag: str = "1.0.0") -> RunbookError:
    with pytest.raises(RunbookError, match=told) as failure:
        push(account.aws, str(folder), account.repository, tag)
    assert failure.value.remedy and account.tags() == {}
    return failure.value


def test_an_expired_token_is_renewed_in_the_middle_of_a_push(account: Account, tmp_path: Path, recorded: list[calls.Call]) -> None:
    making.image(tmp_path / "oci", *(os.urandom(MIB) for _ in range(6)))
    send = layers._Whole.run

    def run(self: Any) -> str:
        account.cloud.registry(expire_tokens=True)
        return send(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers._Whole, "run", run)
        patch.setattr(layers, "AT_ONCE", 1)
        with pytest.raises(RunbookError, match=r"token has expired, and a new one was refused too.*clock") as failure:
            push(account.aws, str(tmp_path / "oci"), account.repository, "1.0.0")
    assert failure.value.remedy and account.tags() == {}
    account.cloud.registry(expire_tokens=True)
    done = push(account.aws, str(tmp_path / "oci"), account.repository, "1.0.0")
    assert account.tags() == {"1.0.0": done.plan.digest}
    assert sum(call.operation == "GetAuthorizationToken" for call in recorded) > 2


def test_a_token_that_expires_once_is_renewed_and_the_push_goes_on(account: Account, tmp_path: Path) -> None:
    making.image(tmp_path / "oci", *(os.urandom(MIB) for _ in range(4)))
    send, expired = layers._Whole.run, []

    def run(self: Any) -> str:
        if not expired:
            expired.append(account.cloud.registry(expire_tokens=True))
        return send(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers._Whole, "run", run)
        patch.setattr(layers, "AT_ONCE", 1)
        done = push(account.aws, str(tmp_path / "oci"), account.repository, "1.0.0")
    assert expired and account.tags() == {"1.0.0": done.plan.digest} and done.layers.again == 0


def test_a_token_is_asked_for_anew_before_it_expires(account: Account) -> None:
    account.cloud.registry(token_lifetime_s=30)
    login = Login(account.ecr)
    assert login.header() != login.header()
    account.cloud.registry(token_lifetime_s=3600)
    assert login.header() == login.header()
    assert login._token not in repr(login)


def test_a_large_layer_cut_twice_sends_less_than_a_tenth_again(account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(101 * MIB)
    making.image(tmp_path / "oci", content)
    port = urlsplit(account.cloud.endpoint).port
    assert port
    # A third more bytes on the wire than in the layer: base64.
    cutter = Cutter(port, after=(30 * MIB, 110 * MIB))
    monkeypatch.setenv("AWS_ENDPOINT_URL_ECR", cutter.endpoint)
    account.aws = connect()
    done = push(account.aws, str(tmp_path / "oci"), account.repository, "1.0.0")
    large = next(one for one in done.layers.rows if one.size == len(content))
    assert (large.how, large.cuts, cutter.after) == (layers.IN_PARTS, 2, [])
    assert large.sent - large.size < large.size / 10
    # What passed the relay says the same: base64 of the layer and of two broken parts, and little else.
    assert cutter.passed * 3 / 4 < large.size * 1.1
    cutter.close()
    pulled = hashlib.sha256(layer_of(account, large.digest)).hexdigest()
    assert f"sha256:{pulled}" == large.digest


def layer_of(account: Account, digest: str) -> bytes:
    """The bytes of a layer as a client pulls them."""
    import urllib.request

    link = account.ecr.get_download_url_for_layer(repositoryName=account.repository, layerDigest=digest)["downloadUrl"]
    with urllib.request.urlopen(link, timeout=30) as answer:
        return bytes(answer.read())


def test_a_layer_sent_whole_goes_on_in_parts_when_the_connection_breaks(account: Account, tmp_path: Path) -> None:
    making.image(tmp_path / "oci", os.urandom(20 * MIB))
    account.cloud.registry(cut={"after_bytes": 2 * MIB, "times": 1})
    done = push(account.aws, str(tmp_path / "oci"), account.repository, "1.0.0")
    large = max(done.layers.rows, key=lambda one: one.size)
    assert (large.how, large.cuts) == (layers.IN_PARTS, 1)
    assert account.tags() == {"1.0.0": done.plan.digest}


def test_a_network_that_breaks_again_and_again_ends_the_push(account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    making.image(tmp_path / "oci", os.urandom(6 * MIB))
    port = urlsplit(account.cloud.endpoint).port
    assert port
    cutter = Cutter(port, after=[MIB * (number + 1) for number in range(40)])
    monkeypatch.setenv("AWS_ENDPOINT_URL_ECR", cutter.endpoint)
    monkeypatch.setattr(parts, "PAUSE_S", 0.001)
    monkeypatch.setattr(layers, "WHOLE", MIB)
    account.aws = connect()
    told = refused(account, tmp_path / "oci", r"The connection broke 6 times at byte 0 of layer [0-9a-f]{12}")
    assert "Resume the run" in told.remedy
    cutter.close()


def test_a_layer_that_changed_on_disk_is_found_out_before_anything_is_published(account: Account, tmp_path: Path) -> None:
    making.image(tmp_path / "oci", b"a" * MIB, b"b" * MIB)
    image = open_image(str(tmp_path / "oci"))
    Path(image.blobs[1].path).write_bytes(b"c" * MIB)
    refused(account, tmp_path / "oci", "is not what the manifest names: its digest is sha256:")
    assert account.digests() == set()


def test_a_large_layer_that_changed_on_disk_is_not_completed(account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "WHOLE", MIB)
    making.image(tmp_path / "oci", b"a" * 6 * MIB)
    image = open_image(str(tmp_path / "oci"))
    Path(image.blobs[1].path).write_bytes(b"c" * 6 * MIB)
    refused(account, tmp_path / "oci", "is not what the manifest names: its digest is sha256:")


@pytest.mark.parametrize("whole", [MIB, 100 * MIB])
def test_a_layer_that_changed_on_its_way_is_refused_by_the_registry_and_told_so(account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: int) -> None:
    monkeypatch.setattr(layers, "WHOLE", whole)
    making.image(tmp_path / "oci", b"a" * 6 * MIB)
    opened, spoiled = Blob.open, [io.BytesIO(b"c" * 6 * MIB)]
    # What is sent is not what lies on the disk; what is read after the refusal is.
    monkeypatch.setattr(Blob, "open", lambda blob: spoiled.pop() if spoiled and blob.size == 6 * MIB else opened(blob))
    told = refused(account, tmp_path / "oci", "A layer arrived with another digest than the manifest names")
    assert "or on its way" in told.remedy
    assert account.digests() == set()


def test_a_missing_repository_is_told_before_anything_is_sent(account: Account, tmp_path: Path) -> None:
    making.image(tmp_path / "oci")
    with pytest.raises(RunbookError, match="There is no repository nowhere in ap-northeast-1") as failure:
        push(account.aws, str(tmp_path / "oci"), "nowhere", "1")
    assert failure.value.remedy


def test_a_repository_that_vanishes_while_layers_come_in_is_told(account: Account, tmp_path: Path) -> None:
    making.image(tmp_path / "oci", *(os.urandom(MIB) for _ in range(6)))
    account.cloud.registry(vanish={"repository": account.repository, "after_bytes": 2 * MIB})
    with pytest.raises(RunbookError, match="The repository does not exist") as failure:
        push(account.aws, str(tmp_path / "oci"), account.repository, "1")
    assert failure.value.remedy


@pytest.mark.parametrize("action", ["InitiateLayerUpload", "UploadLayerPart", "CompleteLayerUpload", "PutImage", "BatchCheckLayerAvailability"])
def test_a_denied_action_is_named(account: Account, tmp_path: Path, action: str) -> None:
    making.image(tmp_path / "oci")
    account.cloud.registry(deny=[f"ecr:{action}"])
    refused(account, tmp_path / "oci", rf"An action is denied \(ecr:{action}\).*--policy")


def test_a_key_that_cannot_be_used_is_told(account: Account, tmp_path: Path) -> None:
    making.image(tmp_path / "oci")
    account.cloud.registry(kms_error=[account.repository])
    refused(account, tmp_path / "oci", r"The repository's KMS key cannot be used.*Enable the key")


def test_throttling_is_waited_out_and_when_it_does_not_end_told(account: Account, tmp_path: Path) -> None:
    making.image(tmp_path / "oci")
    account.cloud.registry(throttle=3)
    done = push(account.aws, str(tmp_path / "oci"), account.repository, "1.0.0")
    assert account.tags() == {"1.0.0": done.plan.digest}


def test_throttling_that_does_not_end_is_told(account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    making.image(tmp_path / "oci")
    monkeypatch.setattr("helpers.ecr.wire.PAUSE_S", 0.001)
    send = layers._Whole.run

    def run(self: Any) -> str:
        account.cloud.registry(throttle=1000)
        return send(self)

    monkeypatch.setattr(layers._Whole, "run", run)
    with pytest.raises(RunbookError, match=r"ECR asked to slow down, again and again.*Wait a minute"):
        push(account.aws, str(tmp_path / "oci"), account.repository, "1.0.0")


def test_a_token_of_another_registry_is_told_as_docker_says_it(account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    making.image(tmp_path / "oci")
    ask = Login._ask

    def elsewhere(self: Login) -> None:
        ask(self)
        self._token = "QVdTOm90aGVy"

    monkeypatch.setattr(Login, "_ask", elsewhere)
    refused(account, tmp_path / "oci", r"does not know this login \(Docker says: no basic auth credentials\).*another account or region")


def test_a_token_of_a_local_cloud_is_never_sent_to_the_public_registry(account: Account) -> None:
    with pytest.raises(RunbookError, match=r"is not AWS, so its token is not sent to https://public.ecr.aws"):
        Login(account.aws.session.client("ecr-public"), PUBLIC).header()


def test_a_push_costs_little_time_when_there_is_nothing_to_do(account: Account, tmp_path: Path) -> None:
    making.image(tmp_path / "oci")
    push(account.aws, str(tmp_path / "oci"), account.repository, "1.0.0")
    started = time.perf_counter()
    push(account.aws, str(tmp_path / "oci"), account.repository, "1.0.0")
    assert time.perf_counter() - started < 5  # the benchmark measures it; here a busy machine must not fail it


def test_a_public_repository_is_under_its_alias_with_the_public_registrys_token() -> None:
    class Public:
        """A stand-in for the client of ECR Public, whose token is not in a list."""

        meta = type("Meta", (), {"endpoint_url": "https://api.ecr-public.us-east-1.amazonaws.com"})

        def get_authorization_token(self) -> dict[str, Any]:
            return {"authorizationData": {"authorizationToken": "QVdTOmE=", "expiresAt": datetime.now(UTC) + timedelta(hours=12)}}

    login = Login(Public(), PUBLIC)
    assert (login.endpoint, login.header()) == ("https://public.ecr.aws", "Basic QVdTOmE=")
    assert Registry(login, "public.ecr.aws/alias/app".partition("/")[2]).path == "/v2/alias/app"
