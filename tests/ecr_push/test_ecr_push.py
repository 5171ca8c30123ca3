"""The push runbook as its users run it: planned, applied, resumed and rolled back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from helpers import runbook
from helpers.aws import RunbookError
from helpers.ecr import layers
from helpers.ecr.push_policy import POLICY
from helpers.rehearsal import scenario
from helpers.rehearsal.ecr import history
from helpers.rehearsal.ecr.scenario import NEIGHBOUR, PUSHED_TO
from tests.ecr import making
from tests.ecr.test_scan import packages
from tests.ecr_push.conftest import House

pytestmark = pytest.mark.timeout(180)
MIB = 1 << 20


def identities(result: dict[str, Any], what: str) -> list[tuple[str, str, str]]:
    return [(one["service"], one["operation"], one["resource"]) for one in result[what] if one["write"]]


def sent(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The writes of a run, less those that failed."""
    return identities({"calls": [one for one in result["calls"] if not one["error_code"]]}, "calls")


def permitted() -> set[str]:
    return {action for one in POLICY["Statement"] for action in ([one["Action"]] if isinstance(one["Action"], str) else one["Action"])}


def test_apply_makes_the_repository_and_pushes_and_proves(house: House, tmp_path: Path) -> None:
    digest = making.image(tmp_path / "oci", os.urandom(MIB), os.urandom(MIB))
    done = house.apply("a", tmp_path / "oci", tag="1.0.0")
    assert (done.status, house.images()) == ("done", {digest: ["1.0.0"]})
    assert house.settings()["imageTagMutability"] == "IMMUTABLE"
    metrics = house.result("a")["metrics"]
    assert metrics["pull"] == f"docker pull {house.settings()['repositoryUri']}@{digest}"
    assert (metrics["digest"], metrics["layers_sent"], metrics["bytes_sent_again"]) == (digest, 3, 0)


def test_what_plan_lists_is_what_apply_sends(house: House, tmp_path: Path) -> None:
    making.multi(tmp_path / "oci")
    asked = {"image": str(tmp_path / "oci"), "tag": "1.0.0", "scan": "basic"}
    planned = house.run(mode="plan", run_id="p", **asked)
    listed = identities(house.result("p"), "plan")
    assert planned.status == "planned" and house.images() == {}
    assert not any(call["sent"] for call in house.result("p")["plan"])
    assert [operation for _, operation, _ in listed] == ["CreateRepository", *["UploadLayer"] * 5, *["PutImage"] * 3]
    applied = house.run(mode="apply", run_id="p", approve="push", plan_file=str(house.runs / "p" / "plan.json"), **asked)
    assert applied.status == "done"
    assert identities(house.result("p"), "calls") == listed


def test_a_plan_for_a_repository_that_is_there_lists_its_settings(house: House, tmp_path: Path) -> None:
    house.made()
    making.image(tmp_path / "oci")
    asked = {"image": str(tmp_path / "oci"), "tag": "1.0.0", "scan": "basic", "tag_exclusions": "dev-*"}
    house.run(mode="plan", run_id="p", **asked)
    listed = identities(house.result("p"), "plan")
    assert [operation for _, operation, _ in listed] == ["PutImageTagMutability", "PutImageScanningConfiguration", *["UploadLayer"] * 3, "PutImage"]
    house.run(mode="apply", run_id="p", approve="push", plan_file=str(house.runs / "p" / "plan.json"), **asked)
    assert identities(house.result("p"), "calls") == listed
    assert house.settings()["imageTagMutabilityExclusionFilters"] == [{"filterType": "WILDCARD", "filter": "dev-*"}]


def test_a_plan_of_what_is_there_already_lists_nothing(house: House, tmp_path: Path) -> None:
    making.image(tmp_path / "oci")
    house.made(imageTagMutability="IMMUTABLE")
    house.push(tmp_path / "oci", "1.0.0")
    house.run(mode="plan", run_id="p", image=str(tmp_path / "oci"), tag="1.0.0", scan="off")
    assert (house.result("p")["plan"], house.result("p")["exit_code"]) == ([], 0)


def test_the_policy_holds_every_call(house: House, tmp_path: Path) -> None:
    making.image(tmp_path / "oci")
    house.apply("q", tmp_path / "oci", tag="1.0.0", scan="basic")
    made = {f"{call['service']}:{call['operation']}" for call in house.result("q")["calls"]}
    over_http = {"ecr:UploadLayer", "ecr:MountLayer"}
    assert {"ecr:PutImage", "ecr:UploadLayer", "ecr:DescribeImages", "ecr:GetAuthorizationToken"} <= made
    assert made - over_http - permitted() == set()


def test_without_the_approval_nothing_is_sent(house: House, tmp_path: Path) -> None:
    making.image(tmp_path / "oci")
    house.made()
    with pytest.raises(RunbookError, match="Gate 'push' is not approved"):
        house.apply("g", tmp_path / "oci", tag="1.0.0", tag_immutability="as_is", approve="")
    assert house.images() == {} and identities(house.result("g"), "calls") == []


# -- roll back ------------------------------------------------------------------------------------------------


def test_roll_back_removes_the_image_and_the_repository_that_the_run_made(house: House, tmp_path: Path) -> None:
    making.multi(tmp_path / "oci")
    house.apply("r", tmp_path / "oci", tag="1.0.0")
    assert len(house.images()) == 3
    assert house.rollback("r").status == "rolled back"
    assert house.repository not in [one["repositoryName"] for one in house.ecr.describe_repositories()["repositories"]]


def test_roll_back_keeps_a_repository_that_others_have_pushed_to(house: House, tmp_path: Path) -> None:
    making.image(tmp_path / "ours", b"ours")
    theirs = making.image(tmp_path / "theirs", b"theirs")
    house.apply("r", tmp_path / "ours", tag="1.0.0")
    house.push(tmp_path / "theirs", "2.0.0")
    house.rollback("r")
    assert house.images() == {theirs: ["2.0.0"]}


def test_roll_back_puts_a_moved_tag_back_on_its_image(house: House, tmp_path: Path) -> None:
    house.made()
    old = making.image(tmp_path / "old", b"old")
    new = making.image(tmp_path / "new", b"new")
    house.push(tmp_path / "old", "stable")
    house.apply("n", tmp_path / "new", tag="stable", tag_immutability="as_is")
    assert house.images() == {old: [], new: ["stable"]}
    house.rollback("n")
    assert house.images() == {old: ["stable"]}


def test_roll_back_leaves_a_tag_that_somebody_moved_on(house: House, tmp_path: Path) -> None:
    house.made()
    making.image(tmp_path / "ours", b"ours")
    theirs = making.image(tmp_path / "theirs", b"theirs")
    house.apply("r", tmp_path / "ours", tag="stable", tag_immutability="as_is")
    house.push(tmp_path / "theirs", "stable")
    house.rollback("r")
    assert house.images() == {theirs: ["stable"]}


def test_roll_back_of_another_tag_leaves_the_image_that_was_there(house: House, tmp_path: Path) -> None:
    house.made()
    digest = making.image(tmp_path / "oci")
    house.push(tmp_path / "oci", "1.0.0")
    house.apply("r", tmp_path / "oci", tag="stable")
    assert sorted(house.images()[digest]) == ["1.0.0", "stable"]
    house.rollback("r")
    assert house.images() == {digest: ["1.0.0"]}


def test_roll_back_of_a_push_that_changed_nothing_changes_nothing(house: House, tmp_path: Path) -> None:
    digest = making.image(tmp_path / "oci")
    house.made(imageTagMutability="IMMUTABLE")
    house.push(tmp_path / "oci", "1.0.0")
    again = house.apply("r", tmp_path / "oci", tag="1.0.0", approve="")
    assert again.status == "done" and identities(house.result("r"), "calls") == []
    house.rollback("r")
    assert house.images() == {digest: ["1.0.0"]}


def test_roll_back_does_not_delete_an_image_that_had_no_tag_before(house: House, tmp_path: Path) -> None:
    house.made()
    old, new = making.image(tmp_path / "old", b"old"), making.image(tmp_path / "new", b"new")
    house.push(tmp_path / "old", "stable")
    house.push(tmp_path / "new", "stable")
    house.apply("r", tmp_path / "old", tag="other", tag_immutability="as_is")
    house.rollback("r")
    assert set(house.images()) == {old, new}


def test_roll_back_puts_settings_back(house: House, tmp_path: Path) -> None:
    house.made(imageScanningConfiguration={"scanOnPush": True})
    making.image(tmp_path / "oci")
    house.apply("r", tmp_path / "oci", tag="1.0.0", scan="off")
    assert (house.settings()["imageTagMutability"], house.settings()["imageScanningConfiguration"]) == ("IMMUTABLE", {"scanOnPush": False})
    house.rollback("r")
    assert (house.settings()["imageTagMutability"], house.settings()["imageScanningConfiguration"]) == ("MUTABLE", {"scanOnPush": True})
    assert house.images() == {}


# -- killed, and gone on --------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["killed", "refused"])
def test_a_push_that_ended_amid_its_layers_sends_the_rest_when_it_is_resumed_and_is_what_was_planned(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    digest = making.image(tmp_path / "oci", *(os.urandom(MIB) for _ in range(4)))
    asked = {"image": str(tmp_path / "oci"), "tag": "1.0.0", "scan": "off"}
    house.run(mode="plan", run_id=end, **asked)
    listed = identities(house.result(end), "plan")
    saved = {**asked, "mode": "apply", "run_id": end, "approve": "push", "plan_file": str(house.runs / end / "plan.json")}
    original, begun = layers.send_layer, []

    def send(registry: Any, api: Any, wanted: Any, on_bytes: Any) -> Any:
        begun.append(wanted.blob.digest)
        if len(begun) == 3 and end == "killed":
            raise SystemExit("killed")
        if len(begun) == 3:
            house.cloud.registry(deny=["ecr:UploadLayerPart"])
        return original(registry, api, wanted, on_bytes)

    with monkeypatch.context() as patch:
        patch.setattr(layers, "AT_ONCE", 1)
        patch.setattr(layers, "send_layer", send)
        with pytest.raises((SystemExit, RunbookError)) as failure:
            house.run(**saved)
    assert end == "killed" or "An action is denied (ecr:UploadLayerPart)" in str(failure.value)
    assert house.images() == {}
    runbook.engine._current._close()
    house.cloud.registry(deny=[])
    done = house.run(**saved)
    assert (done.status, house.images()) == ("done", {digest: ["1.0.0"]})
    assert house.result(end)["metrics"]["layers_sent"] == 3
    assert sent(house.result(end)) == listed


def test_a_push_that_was_killed_before_its_manifest_is_published_once(house: House, tmp_path: Path) -> None:
    digest = making.image(tmp_path / "oci")
    stopped = house.run(until="3 Publish", mode="apply", run_id="m", image=str(tmp_path / "oci"), tag="1.0.0", approve="push", scan="off")
    assert stopped.status == "running" and house.images() == {}
    assert house.apply("m", tmp_path / "oci", tag="1.0.0").status == "done"
    assert house.images() == {digest: ["1.0.0"]}
    assert [operation for _, operation, _ in identities(house.result("m"), "calls")] == ["CreateRepository", *["UploadLayer"] * 3, "PutImage"]


def test_an_image_that_was_built_anew_meanwhile_does_not_go_on_under_the_old_plan(house: House, tmp_path: Path) -> None:
    making.image(tmp_path / "oci", b"one")
    house.run(until="2 Layers", mode="apply", run_id="c", image=str(tmp_path / "oci"), tag="1.0.0", approve="push", scan="off")
    (tmp_path / "oci").rename(tmp_path / "before")
    making.image(tmp_path / "oci", b"two")
    with pytest.raises(RunbookError, match=r"was sha256:\w+ when this run began, and is sha256:\w+ now.*Start a new run"):
        house.apply("c", tmp_path / "oci", tag="1.0.0")
    assert house.images() == {}


# -- what ends a run before anything is changed -----------------------------------------------------------------


def test_an_immutable_tag_ends_the_run_in_preflight_with_both_digests(house: House, tmp_path: Path) -> None:
    first, second = making.image(tmp_path / "one", b"one"), making.image(tmp_path / "two", b"two")
    house.made(imageTagMutability="IMMUTABLE")
    house.push(tmp_path / "one", "1.0.0")
    with pytest.raises(RunbookError, match=rf"immutable and names {first}; this image is {second}"):
        house.apply("b", tmp_path / "two", tag="1.0.0")
    assert identities(house.result("b"), "calls") == []


def test_a_tag_that_would_become_immutable_by_this_very_run_is_not_moved_either(house: House, tmp_path: Path) -> None:
    house.made()
    making.image(tmp_path / "one", b"one")
    making.image(tmp_path / "two", b"two")
    house.push(tmp_path / "one", "1.0.0")
    with pytest.raises(RunbookError, match="is immutable and names"):
        house.apply("b", tmp_path / "two", tag="1.0.0")
    assert house.settings()["imageTagMutability"] == "MUTABLE"


def test_a_setting_that_can_never_change_is_told_and_the_push_goes_on(house: House, tmp_path: Path) -> None:
    house.made()
    making.image(tmp_path / "oci")
    done = house.apply("e", tmp_path / "oci", tag="1.0.0", encryption="KMS")
    text = "\n".join(card.text for card in done.cards)
    assert done.status == "done" and "can never change" in text and "A repository keeps it for life" in text


def test_a_key_that_is_disabled_ends_the_run_before_anything_is_sent(house: House, tmp_path: Path) -> None:
    kms = scenario.Access(house.cloud.environment()).client("kms")
    key = kms.create_key()["KeyMetadata"]
    house.made(encryptionConfiguration={"encryptionType": "KMS", "kmsKey": key["Arn"]})
    kms.disable_key(KeyId=key["KeyId"])
    making.image(tmp_path / "oci")
    with pytest.raises(RunbookError, match=r"is Disabled\. Nothing was changed.*Enable it"):
        house.apply("d", tmp_path / "oci", tag="1.0.0")
    assert identities(house.result("d"), "calls") == []


def test_an_archived_image_ends_the_run_as_nobody_could_pull_it(house: House, tmp_path: Path) -> None:
    house.made()
    digest = making.image(tmp_path / "oci")
    house.push(tmp_path / "oci", "1.0.0")
    house.ecr.update_image_storage_class(repositoryName=house.repository, imageId={"imageDigest": digest}, targetStorageClass="ARCHIVE")
    with pytest.raises(RunbookError, match=r"is there, but archived.*update-image-storage-class"):
        house.apply("z", tmp_path / "oci", tag="1.0.0", tag_immutability="as_is")
    assert identities(house.result("z"), "calls") == []


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"tag": "latest"}, "The tag latest is refused"),
        ({"tag": "a b"}, "is no tag"),
        ({"platform": "linux/s390x"}, "is not in the image"),
        ({"image": "./nothing"}, "There is no ./nothing"),
        ({"create_repository": False}, "there is no shop/"),
        ({"tag_exclusions": "a,b,c,d,e,f"}, "6 tag_exclusions are given, ECR takes 5"),
        ({"tag_immutability": "as_is", "tag_exclusions": "a"}, "tag_immutability is as_is"),
        ({"kms_key": "k"}, "kms_key is given, but encryption is as_is"),
        ({"encryption": "KMS", "kms_key": "11111111-2222-3333-4444-555555555555"}, "NotFound"),
        ({"visibility": "public"}, "A public repository has no immutability, scan or encryption"),
    ],
)
def test_wrong_input_is_told_in_a_sentence_and_nothing_is_changed(house: House, tmp_path: Path, parameters: dict[str, Any], told: str) -> None:
    making.image(tmp_path / "oci")
    with pytest.raises(RunbookError, match=told) as failure:
        house.apply("w", tmp_path / "oci", **{"tag": "1.0.0", "scan": "as_is", **parameters})
    assert failure.value.remedy and house.images() == {}
    assert identities(house.result("w"), "calls") == []


def test_no_token_is_in_anything_that_a_run_leaves(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from helpers.ecr.login import Login

    tokens: list[str] = []
    ask = Login._ask

    def noted(self: Login) -> None:
        ask(self)
        tokens.append(self._token)

    monkeypatch.setattr(Login, "_ask", noted)
    making.image(tmp_path / "oci")
    house.apply("t", tmp_path / "oci", tag="1.0.0")
    left = "".join(path.read_text() for path in (house.runs / "t").iterdir() if path.is_file())
    assert tokens and not any(token in left for token in tokens)


# -- scans, charts and the rehearsal ----------------------------------------------------------------------------


def test_findings_at_the_threshold_fail_the_run_and_a_roll_back_takes_the_image_away(house: House, tmp_path: Path) -> None:
    making.image(tmp_path / "oci", packages())
    with pytest.raises(RunbookError, match="2 critical.*at CRITICAL or above"):
        house.apply("s", tmp_path / "oci", tag="1.0.0", scan="basic", scan_threshold="CRITICAL")
    assert len(house.images()) == 1 and house.result("s")["status"] == "failed"
    house.rollback("s")
    assert house.images() == {}


def test_enhanced_scans_need_a_gate_of_their_own_as_they_are_the_whole_registrys(house: House, tmp_path: Path) -> None:
    making.image(tmp_path / "oci", packages())
    try:
        with pytest.raises(RunbookError, match="Gate 'registry' is not approved"):
            house.apply("e", tmp_path / "oci", tag="1.0.0", scan="enhanced")
        done = house.apply("e", tmp_path / "oci", tag="1.0.0", scan="enhanced", approve="registry,push")
        assert done.status == "done" and house.result("e")["metrics"]["findings"]["CRITICAL"] == 2
        house.rollback("e")
        assert house.ecr.get_registry_scanning_configuration()["scanningConfiguration"] == {"scanType": "BASIC", "rules": []}
    finally:
        house.ecr.put_registry_scanning_configuration(scanType="BASIC", rules=[])


def test_an_image_that_was_there_and_never_scanned_is_scanned_now(house: House, tmp_path: Path) -> None:
    house.made(imageTagMutability="IMMUTABLE")
    making.image(tmp_path / "oci", packages())
    house.push(tmp_path / "oci", "1.0.0")
    asked = {"image": str(tmp_path / "oci"), "tag": "1.0.0", "scan": "basic"}
    house.run(mode="plan", run_id="n", **asked)
    assert [operation for _, operation, _ in identities(house.result("n"), "plan")] == ["PutImageScanningConfiguration", "StartImageScan"]
    house.run(mode="apply", run_id="n", **asked)
    assert house.result("n")["metrics"]["findings"]["CRITICAL"] == 2


def test_each_image_of_an_index_is_scanned(house: House, tmp_path: Path) -> None:
    making.multi(tmp_path / "oci")
    house.apply("i", tmp_path / "oci", tag="1.0.0", scan="basic")
    scanned = [call["parameters"]["imageId"]["imageDigest"] for call in house.result("i")["calls"] if call["operation"] == "DescribeImageScanFindings"]
    assert len(set(scanned)) == 2


def test_a_chart_goes_through_and_is_not_scanned(house: House, tmp_path: Path) -> None:
    done = house.apply("h", making.chart(tmp_path / "demo"), scan="basic")
    text = "\n".join(card.text for card in done.cards)
    assert "a chart holds no packages to scan" in text and "holds the chart demo" in text
    assert house.result("h")["metrics"]["pull"] == f"helm pull oci://{house.settings()['repositoryUri']} --version 0.3.0+build.5"


def test_a_token_of_a_local_cloud_is_not_sent_to_the_public_registry(house: House, tmp_path: Path) -> None:
    making.image(tmp_path / "oci")
    with pytest.raises(RunbookError, match="so its token is not sent to https://public.ecr.aws"):
        house.apply("u", tmp_path / "oci", tag="1.0.0", visibility="public", tag_immutability="as_is", scan="as_is")


@pytest.mark.parametrize("sample", ["image", "chart"])
def test_the_rehearsal_pushes_its_samples(house: House, sample: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = scenario.SCENARIOS["ecr_push"](house.cloud)
    for one in house.ecr.describe_repositories()["repositories"]:  # of other tests: only so many are looked at for layers to mount
        if one["repositoryName"] not in {PUSHED_TO, NEIGHBOUR, *history.KINDS}:
            house.ecr.delete_repository(repositoryName=one["repositoryName"], force=True)
    monkeypatch.setenv("RUNBOOK_SAMPLES", str(made.samples))
    monkeypatch.setenv("RUNBOOK_LOCAL_CLOUD", str(house.runs / sample))
    done = house.run(mode="rehearse", run_id=sample, image=f"$RUNBOOK_SAMPLES/{sample}", repository="foo-repository", scan_threshold="CRITICAL")
    assert done.status == "done" and done.metrics["digest"] in {one["imageDigest"] for one in house.ecr.describe_images(repositoryName="foo-repository")["imageDetails"]}
    assert sample == "chart" or "mount from shop/base" in "\n".join(card.text for card in done.cards)
