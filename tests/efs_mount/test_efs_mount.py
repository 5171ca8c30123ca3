"""The mount runbook as its users run it: rehearsed, planned, applied on hosts, resumed and rolled back."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.aws import RunbookError
from helpers.efs.mount_policy import POLICY
from helpers.rehearsal.efs import nfs

pytestmark = pytest.mark.timeout(180)
SERVED = pytest.mark.skipif(bool(nfs.missing()), reason=nfs.missing())


def permitted() -> set[str]:
    return {action for one in POLICY["Statement"] for action in ([one["Action"]] if isinstance(one["Action"], str) else one["Action"])}


def apply(house: Any, run_id: str, **more: Any) -> Any:
    return house.run(mode="apply", run_id=run_id, approve="mount", hosts=",".join(house.hosts.ids), **more)


def test_apply_mounts_proves_and_keeps_on_every_host(house: Any) -> None:
    done = apply(house, "a")
    every = set(house.hosts.ids)
    assert (done.status, house.hosts.mounted, house.hosts.kept) == ("done", every, every)
    assert [what for what, _ in house.hosts.asked] == ["Mount", "Prove", "Look", "AddToFstab"]
    metrics = house.result("a")["metrics"]
    assert (metrics["hosts_mounted"], metrics["hosts_proven"]) == (2, 2)


def test_plan_lists_every_command_and_sends_none(house: Any) -> None:
    house.hosts.answers = False
    planned = house.run(mode="plan", run_id="p", hosts=",".join(house.hosts.ids))
    result = house.result("p")
    assert planned.status == "planned"
    assert [call["parameters"]["Comment"].rpartition(" ")[2] for call in result["plan"]] == ["Mount", "Prove", "Look", "AddToFstab"]
    assert not any(call["sent"] for call in result["plan"])
    assert house.hosts.mounted == set()


def test_the_policy_holds_every_call(house: Any) -> None:
    house.hosts.answers = False
    house.run(mode="plan", run_id="q", hosts=",".join(house.hosts.ids), access_point="uploads")
    prefixes = {"efs": "elasticfilesystem"}
    made = {f"{prefixes.get(call['service'], call['service'])}:{call['operation']}" for call in house.result("q")["calls"]}
    assert {"elasticfilesystem:DescribeAccessPoints", "ec2:DescribeInstances", "ssm:SendCommand"} <= made
    answered_by_the_hosts = {"ssm:DescribeInstanceInformation", "ssm:GetCommandInvocation"}
    assert (made | answered_by_the_hosts) - permitted() == set()


def test_without_the_approval_nothing_is_mounted(house: Any) -> None:
    with pytest.raises(RunbookError, match="Gate 'mount' is not approved"):
        house.run(mode="apply", run_id="g", hosts=",".join(house.hosts.ids))
    assert house.hosts.asked == []


def test_roll_back_takes_the_line_out_and_then_unmounts(house: Any) -> None:
    apply(house, "r")
    assert house.rollback("r").status == "rolled back"
    assert (house.hosts.mounted, house.hosts.kept) == (set(), set())
    assert [what for what, _ in house.hosts.asked[-2:]] == ["RemoveFromFstab", "Unmount"]


def test_roll_back_leaves_what_was_mounted_before_the_run(house: Any) -> None:
    house.hosts.mounted.add(house.hosts.ids[0])
    apply(house, "b")
    house.rollback("b")
    assert house.hosts.mounted == {house.hosts.ids[0]}


def test_a_host_that_fails_is_named_with_its_diagnosis_and_the_resumed_run_mounts_it(house: Any) -> None:
    second = house.hosts.ids[1]
    house.hosts.broken[second] = 'mount: /mnt/efs: unknown filesystem type "efs".'
    with pytest.raises(RunbookError, match=rf"{second}: MOUNT_HELPER_MISSING"):
        apply(house, "f")
    house.hosts.broken.clear()
    assert apply(house, "f").status == "done"
    house.rollback("f")
    assert house.hosts.mounted == set()


def test_a_run_that_ended_in_the_middle_is_resumed_without_mounting_again(house: Any) -> None:
    stopped = house.run(until="2 Prove", mode="apply", run_id="m", approve="mount", hosts=",".join(house.hosts.ids))
    assert stopped.status == "running"
    assert apply(house, "m").status == "done"
    assert [what for what, _ in house.hosts.asked] == ["Mount", "Prove", "Look", "AddToFstab"]


def test_fstab_is_left_alone_where_that_is_asked(house: Any) -> None:
    apply(house, "n", fstab=False)
    assert house.hosts.kept == set()
    assert "AddToFstab" not in [what for what, _ in house.hosts.asked]


def test_a_host_that_ssm_does_not_reach_ends_the_run_before_anything(house: Any) -> None:
    house.hosts.online = "ConnectionLost"
    with pytest.raises(RunbookError, match="its agent is ConnectionLost.*SSM agent"):
        apply(house, "s")
    assert house.hosts.asked == []


def test_a_host_in_a_zone_without_a_mount_target_ends_the_run(house: Any) -> None:
    efs = house.client("efs")
    identity = next(one["FileSystemId"] for one in efs.describe_file_systems()["FileSystems"] if one["Name"] == "events")
    here = next(one for one in efs.describe_mount_targets(FileSystemId=identity)["MountTargets"] if one["AvailabilityZoneName"].endswith("a"))
    efs.delete_mount_target(MountTargetId=here["MountTargetId"])
    with pytest.raises(RunbookError, match=r"is in ap-northeast-1a, mount targets are in ap-northeast-1b.*create-mount-target"):
        apply(house, "z", file_system="events")
    assert house.hosts.asked == []


def test_a_host_outside_the_clients_security_group_ends_the_run(house: Any) -> None:
    ec2 = house.client("ec2")
    made = ec2.run_instances(ImageId="ami-0123456789abcdef0", MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    with pytest.raises(RunbookError, match=rf"not from {made}.*Allow TCP 2049"):
        house.run(mode="apply", run_id="o", approve="mount", hosts=made)


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"file_system": "fs-0123456789abcdef0"}, "There is no file system called"),
        ({"file_system": "nothing"}, "There is no file system called"),
        ({"access_point": "nobody"}, "has no access point with the Name"),
        ({"mount_point": "mnt"}, "is no mount point"),
        ({"directory": "/a/../b"}, "is no directory"),
        ({"hosts": "i-0123456789abcdef0"}, "Not every host is an instance"),
    ],
)
def test_wrong_input_is_told_in_a_sentence(house: Any, parameters: dict[str, str], told: str) -> None:
    with pytest.raises(RunbookError, match=told) as failure:
        house.run(mode="apply", run_id="w", approve="mount", **parameters)
    assert failure.value.remedy


@SERVED
def test_the_probe_names_the_part_of_the_path_that_is_missing(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _rehearsing(house, monkeypatch, "x")
    with pytest.raises(RunbookError, match="REMOTE_PATH_MISSING: 'pages' in /site"):
        house.run(mode="rehearse", run_id="x", directory="/site/pages")


@SERVED
def test_the_rehearsal_probes_for_real_and_says_that_it_mounts_nothing_here(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _rehearsing(house, monkeypatch, "y")
    done = house.run(mode="rehearse", run_id="y", access_point=house.access_point)
    text = "\n".join(card.text for card in done.cards)
    assert (done.status, done.metrics["probe"], done.metrics["hosts_mounted"]) == ("done", "OK", 0)
    assert "not done" in text and "sudo mount -t efs -o tls,accesspoint=fsap-" in text
    assert "/site/uploads is a directory" in text


def _rehearsing(house: Any, monkeypatch: pytest.MonkeyPatch, run_id: str) -> None:
    """Take the cloud of the test for that of the run."""
    monkeypatch.setenv("RUNBOOK_LOCAL_CLOUD", str(house.runs / run_id))
