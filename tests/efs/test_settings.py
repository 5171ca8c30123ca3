"""Verdicts on settings, each with the remedy where one is needed."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.aws import RunbookError
from helpers.efs import settings
from helpers.efs.credits import GIB
from helpers.efs.file_systems import FileSystem, describe, read
from helpers.efs.settings import Clients, MountTarget

ONE = FileSystem("fs-0123456789abcdef0", standard_bytes=300 * GIB)
CLIENTS = Clients(frozenset({"us-east-1a", "us-east-1b"}), frozenset({"sg-web"}))


def target(zone: str = "us-east-1a", rules: list[dict[str, Any]] | None = None, state: str = "available") -> MountTarget:
    return MountTarget(f"fsmt-{zone}", zone, "subnet-1", state, ("sg-efs",), rules or [])


def rule(groups: tuple[str, ...] = (), addresses: tuple[str, ...] = (), ports: tuple[int, int] = (2049, 2049)) -> dict[str, Any]:
    return {
        "IpProtocol": "tcp",
        "FromPort": ports[0],
        "ToPort": ports[1],
        "UserIdGroupPairs": [{"GroupId": one} for one in groups],
        "IpRanges": [{"CidrIp": one} for one in addresses],
    }


@pytest.mark.parametrize(
    ("rules", "outcome", "found"),
    [
        ([rule(groups=("sg-web",))], "pass", "TCP 2049 from sg-web"),
        ([{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": "sg-web"}]}], "pass", "sg-web"),
        ([rule(addresses=("10.0.0.0/16",))], "warn", "from addresses: 10.0.0.0/16"),
        ([rule(groups=("sg-web",), addresses=("10.0.0.0/16",))], "warn", "from addresses"),
        ([rule(addresses=("0.0.0.0/0",))], "fail", "open to every address"),
        ([rule(groups=("sg-other",))], "fail", "none of which the clients have"),
        ([rule(groups=("sg-web",), ports=(443, 443))], "fail", "TCP 2049 is closed"),
        ([], "fail", "TCP 2049 is closed"),
    ],
)
def test_nfs_comes_from_the_clients_security_group_and_not_from_addresses(rules, outcome, found):
    check = settings.security_groups(target(rules=rules), CLIENTS)
    assert check.outcome == outcome and found in check.found
    assert (check.remedy == "") == (outcome == "pass")


def test_a_zone_of_the_clients_without_a_mount_target_is_named():
    check = settings.zones([target("us-east-1a"), target("us-east-1b", state="creating")], CLIENTS)
    assert check.outcome == "fail" and "none in us-east-1b" in check.found
    assert settings.zones([target("us-east-1a"), target("us-east-1b")], CLIENTS).outcome == "pass"


def test_no_mount_target_at_all_is_said():
    assert "nothing can mount" in settings.zones([], Clients()).found


def test_provisioned_below_what_the_size_includes_is_paid_for_nothing():
    modest = FileSystem(ONE.id, throughput_mode="provisioned", provisioned_mibps=10, standard_bytes=300 * GIB)
    assert settings.throughput(modest).outcome == "warn"
    assert settings.throughput(ONE).found == "bursting: 14.6 MiB/s earned by 300 GiB in Standard"


def test_an_empty_bursting_file_system_is_warned_of_its_floor():
    assert "1 MiB/s without credits" in settings.throughput(FileSystem(ONE.id)).found


def test_max_io_and_no_encryption_cannot_be_changed_and_the_remedy_says_so():
    old = FileSystem(ONE.id, performance_mode="maxIO", encrypted=False)
    assert all("copy to a new" in check.remedy for check in (settings.performance(old), settings.encryption(old)))
    assert settings.performance(ONE).outcome == settings.encryption(ONE).outcome == "pass"


def test_only_standard_counts_as_standard():
    size = {"Value": 100, "ValueInIA": 60, "ValueInArchive": 10}
    assert read({"FileSystemId": ONE.id, "SizeInBytes": size}).standard_bytes == 30
    assert read({"FileSystemId": ONE.id, "SizeInBytes": size | {"ValueInStandard": 29}}).standard_bytes == 29


@pytest.mark.parametrize("wrong", ["", "fs-xyz", "vol-0123456789abcdef0", "fs-0123456789ABCDEF0"])
def test_an_id_that_is_none_is_told_before_anybody_is_asked(wrong):
    with pytest.raises(RunbookError, match="is no id of a file system"):
        describe(None, wrong)
