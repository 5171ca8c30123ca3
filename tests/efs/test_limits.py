"""What EFS serves, against the documented figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.aws.errors import RunbookError
from helpers.efs.credits import GIB, MIB
from helpers.efs.limits import IA_READ_IOPS, largest_provisioned_mibps, limits

DOCUMENTED = json.loads((Path(__file__).parent / "data" / "limits.json").read_text())
NAMES = {"bursting": "bursting", "provisioned": "provisioned_regional", "elastic": "elastic_regional"}
IOPS = {"bursting": ("read", "write"), "provisioned": ("read", "write"), "elastic": ("read_hot", "write")}


@pytest.mark.parametrize("mode", NAMES)
def test_a_region_has_the_documented_throughput(mode):
    said = DOCUMENTED[NAMES[mode]]
    for region in {"eu-north-1", "sa-east-1", *(one for name in NAMES.values() for one in DOCUMENTED[name]["tier1"])}:
        size = "tier1" if region in said["tier1"] else "other"
        found = limits(mode, region)
        assert (found.read / GIB, found.write / GIB) == (said[f"{size}_read_GiBps"], said[f"{size}_write_GiBps"]), region


@pytest.mark.parametrize("mode", NAMES)
def test_one_zone_is_the_same_in_every_mode_and_region(mode):
    found, said = limits(mode, "us-east-1", one_zone=True), DOCUMENTED["one_zone"]
    assert (found.read / GIB, found.write / GIB) == (said["read_GiBps"], said["write_GiBps"])


@pytest.mark.parametrize("mode", NAMES)
def test_requests_and_clients_have_the_documented_limits(mode):
    iops = DOCUMENTED["iops"]["elastic_default" if mode == "elastic" else mode]
    assert (limits(mode, "us-east-1").read_iops, limits(mode, "us-east-1").write_iops) == tuple(iops[name] for name in IOPS[mode])
    assert iops.get("read_ia", IA_READ_IOPS) == IA_READ_IOPS
    client = DOCUMENTED["client_MiBps"]
    assert limits(mode, "us-east-1").client / MIB == client["elastic_efs_utils_2" if mode == "elastic" else "other"]
    assert limits(mode, "us-east-1", utils_major=1).client / MIB == client["other"]


def test_provisioned_counts_a_third_of_what_is_read():
    assert (largest_provisioned_mibps("eu-west-1"), largest_provisioned_mibps("eu-central-1")) == (3414, 1024)
    assert largest_provisioned_mibps("eu-west-1", one_zone=True) == 1024


def test_a_mode_that_efs_does_not_have_is_refused():
    with pytest.raises(RunbookError, match="no throughput mode 'turbo'"):
        limits("turbo", "eu-west-1")
