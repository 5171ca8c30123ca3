"""The file systems of the local cloud: what it adds to MiniStack, and that its metrics agree with each other."""

from __future__ import annotations

import os
import signal
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError

from helpers.efs.probe import probe
from helpers.rehearsal import cloud as clouds
from helpers.rehearsal import scenario
from helpers.rehearsal.efs import nfs, traces

pytestmark = pytest.mark.timeout(120)
SUMS = ("MeteredIOBytes", "DataReadIOBytes", "DataWriteIOBytes", "MetadataIOBytes")


@pytest.fixture(scope="module")
def made(cloud: clouds.Cloud) -> Any:
    return scenario.SCENARIOS["efs_mount"](cloud)


@pytest.fixture
def client(cloud: clouds.Cloud) -> Any:
    return scenario.Access(cloud.environment()).client


def query(identity: str, metric: str, statistic: str, number: int = 0, **more: str) -> dict[str, Any]:
    dimensions = [{"Name": name, "Value": value} for name, value in {"FileSystemId": identity, **more}.items()]
    metric_ = {"Namespace": "AWS/EFS", "MetricName": metric, "Dimensions": dimensions}
    return {"Id": f"q{number}", "MetricStat": {"Metric": metric_, "Period": 3600, "Stat": statistic}}


def series(client: Any, queries: list[dict[str, Any]], **more: Any) -> dict[str, list[float]]:
    """The values of queries by id, the oldest first, from as many pages as there are."""
    now = datetime.now(UTC)
    found: dict[str, list[float]] = {}
    pages = client("cloudwatch").get_paginator("get_metric_data")
    asked = {"StartTime": now - timedelta(days=31), "EndTime": now, "MetricDataQueries": queries, **more}
    for page in pages.paginate(ScanBy="TimestampAscending", **asked):
        for one in page["MetricDataResults"]:
            found.setdefault(one["Id"], []).extend(one["Values"])
    return found


def test_there_is_a_file_system_of_each_mode_and_one_that_is_throttled(made: Any, client: Any) -> None:
    found = {one["Name"]: one["ThroughputMode"] for one in client("efs").describe_file_systems()["FileSystems"]}
    assert found == {"web-content": "bursting", "analytics": "provisioned", "events": "elastic", "builds": "bursting"}


def test_the_size_is_that_of_the_metric(made: Any, client: Any) -> None:
    for name, identity in made.ids.items():
        size = client("efs").describe_file_systems(FileSystemId=identity)["FileSystems"][0]["SizeInBytes"]
        told = series(client, [query(identity, "StorageBytes", "Average", StorageClass="Standard")])["q0"]
        assert size["ValueInStandard"] == traces.FILE_SYSTEMS[name].standard == told[-1]


def test_seeding_twice_makes_nothing_twice(made: Any, cloud: clouds.Cloud) -> None:
    again = scenario.SCENARIOS["efs_mount"](cloud)
    assert (again.ids, again.access_point) == (made.ids, made.access_point)


def test_size_and_metered_bytes_explain_the_credit_balance(made: Any, client: Any) -> None:
    for name in ("web-content", "builds"):
        asked = [query(made.ids[name], "MeteredIOBytes", "Sum"), query(made.ids[name], "BurstCreditBalance", "Minimum", 1)]
        found = series(client, asked)
        metered, balance = np.array(found["q0"]), np.array(found["q1"])
        accrued = traces.FILE_SYSTEMS[name].standard / traces.GIB * 50 * traces.KIB * traces.HOUR_S
        left = np.diff(balance) - accrued + metered[1:]
        inside = (balance[1:] > 0) & (balance[1:] < 2.1 * traces.TIB)
        assert inside.sum() > 100
        assert np.abs(left[inside]).max() < 1e4  # bytes: what float64 and the transport round


def test_reads_count_a_third(made: Any, client: Any) -> None:
    found = series(client, [query(made.ids["analytics"], metric, "Sum", at) for at, metric in enumerate(SUMS)])
    metered, read, write, metadata = (np.array(found[f"q{at}"]) for at in range(4))
    assert np.allclose(metered, read / 3 + write + metadata, rtol=1e-9)


def test_the_load_is_higher_in_the_afternoon_than_at_night(made: Any, client: Any) -> None:
    metered = np.array(series(client, [query(made.ids["web-content"], "MeteredIOBytes", "Sum")])["q0"])
    day = metered.reshape(30, 24).mean(axis=0)
    assert day.max() > 3 * day.min()


def test_the_elastic_file_system_has_no_credit_balance(made: Any, client: Any) -> None:
    assert series(client, [query(made.ids["events"], "BurstCreditBalance", "Minimum")])["q0"] == []


def test_the_throttled_file_system_gets_what_is_permitted_and_no_more(made: Any, client: Any) -> None:
    asked = [query(made.ids["builds"], "MeteredIOBytes", "Sum"), query(made.ids["builds"], "BurstCreditBalance", "Minimum", 1)]
    found = series(client, asked)
    empty = np.array(found["q1"][1:]) == 0
    before = np.array(found["q1"][:-1]) == 0
    flat = np.array(found["q0"][1:])[empty & before]
    assert len(flat) > 50
    assert np.ptp(flat) == 0


def test_metrics_come_in_pages_that_hold_every_point_once(made: Any, client: Any) -> None:
    asked = [query(identity, "MeteredIOBytes", "Sum", at) for at, identity in enumerate(made.ids.values())]
    assert series(client, asked, MaxDatapoints=500) == series(client, asked)


def test_the_newest_point_comes_first_unless_asked_otherwise(made: Any, client: Any) -> None:
    now = datetime.now(UTC)
    asked = [query(made.ids["events"], "MeteredIOBytes", "Sum")]
    answer = client("cloudwatch").get_metric_data(StartTime=now - timedelta(days=2), EndTime=now, MetricDataQueries=asked)
    times = answer["MetricDataResults"][0]["Timestamps"]
    assert times == sorted(times, reverse=True)
    assert len(times) > 40


def test_more_than_500_queries_are_refused(made: Any, client: Any) -> None:
    now = datetime.now(UTC)
    asked = [query(made.ids["events"], "MeteredIOBytes", "Sum", at) for at in range(501)]
    with pytest.raises(ClientError, match="size greater than 500"):
        client("cloudwatch").get_metric_data(StartTime=now - timedelta(days=1), EndTime=now, MetricDataQueries=asked)


def test_provisioned_throughput_is_neither_left_nor_decreased_for_a_day_but_may_be_increased(made: Any, client: Any) -> None:
    efs, identity = client("efs"), made.ids["builds"]
    efs.update_file_system(FileSystemId=identity, ThroughputMode="provisioned", ProvisionedThroughputInMibps=10)
    efs.update_file_system(FileSystemId=identity, ProvisionedThroughputInMibps=12)
    for change in ({"ThroughputMode": "elastic"}, {"ProvisionedThroughputInMibps": 8}):
        with pytest.raises(efs.exceptions.TooManyRequests):
            efs.update_file_system(FileSystemId=identity, **change)


def test_bursting_and_elastic_switch_freely(made: Any, client: Any) -> None:
    efs, identity = client("efs"), made.ids["events"]
    for mode in ("bursting", "elastic", "bursting", "elastic"):
        assert efs.update_file_system(FileSystemId=identity, ThroughputMode=mode)["ThroughputMode"] == mode


def test_a_command_for_a_host_is_refused_because_the_cloud_has_no_machines(made: Any, client: Any) -> None:
    with pytest.raises(ClientError, match="not in a valid state"):
        client("ssm").send_command(InstanceIds=["i-0123456789abcdef0"], DocumentName="AWS-RunShellScript", Parameters={"commands": ["true"]})


@pytest.mark.skipif(bool(nfs.missing()), reason=nfs.missing())
def test_the_mount_target_is_a_real_nfs_server_behind_tls(made: Any, client: Any, cloud: clouds.Cloud) -> None:
    identity = made.ids["web-content"]
    targets = client("efs").describe_mount_targets(FileSystemId=identity)["MountTargets"]
    name, bundle = f"{identity}.efs.{cloud.region}.amazonaws.com", str(cloud.directory / clouds.BUNDLE_FILE)
    found = probe(targets[0]["IpAddress"], path="/site", server_name=name, ca_file=bundle)
    assert found.code == "OK", str(found)
    assert len(targets) == 2


def test_without_the_packages_the_mount_target_refuses_and_the_scenario_says_which_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nfs, "missing", lambda: "No ganesha.nfsd is installed here.")
    from helpers.rehearsal.efs.service import Efs

    server = Efs(tmp_path)
    assert server._serve("fs-0.efs.x.amazonaws.com", []) == "No ganesha.nfsd is installed here."
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server._address, 2049), timeout=2)


@pytest.mark.skipif(bool(nfs.missing()), reason=nfs.missing())
def test_a_cloud_that_is_killed_leaves_no_nfs_server_behind(tmp_path: Path) -> None:
    cloud = clouds.up(tmp_path / "killed")
    made = scenario.SCENARIOS["efs_mount"](cloud)
    efs = scenario.Access(cloud.environment()).client("efs")
    targets = efs.describe_mount_targets(FileSystemId=made.ids["web-content"])["MountTargets"]
    address = next(one["IpAddress"] for one in targets if one["IpAddress"].startswith("127."))
    socket.create_connection((address, 2049), timeout=5).close()
    os.kill(cloud.pid, signal.SIGKILL)
    until = time.monotonic() + 30
    while _listens(address):
        assert time.monotonic() < until, "the server outlives its cloud"
        time.sleep(0.1)


def _listens(address: str) -> bool:
    try:
        socket.create_connection((address, 2049), timeout=2).close()
    except OSError:
        return False
    return True
