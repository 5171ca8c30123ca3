"""The notebook's own cells, run on a local cloud whose hosts answer Run Command as this file says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from helpers import runbook
from helpers.aws import calls, session
from helpers.rehearsal import cloud as clouds
from helpers.rehearsal import scenario
from tests.rehearsal.cells import run_cells

NOTEBOOK = Path(__file__).parents[2] / "runbooks" / "efs_mount.ipynb"
MOUNTED = "mount -t efs -o tls"


@dataclass
class Hosts:
    """SSM as hosts answer it: what is mounted where, and which lines are in /etc/fstab; `broken` ones cannot mount.

    It stands for the agents on the hosts only. Without `answers` commands go to the client of the local cloud, which a plan holds back.
    """

    real: Any
    ids: list[str]
    online: str = "Online"
    answers: bool = True
    broken: dict[str, str] = field(default_factory=dict)
    mounted: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)
    asked: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)

    def get_paginator(self, name: str) -> Any:
        assert name == "describe_instance_information"
        return self

    def paginate(self, **_: Any) -> list[dict[str, Any]]:
        return [{"InstanceInformationList": [{"InstanceId": one, "PingStatus": self.online} for one in self.ids]}]

    def send_command(self, **asked: Any) -> dict[str, Any]:
        if not self.answers:
            return self.real.send_command(**asked)
        what = asked["Comment"].rpartition(" ")[2]
        self.asked.append((what, tuple(asked["InstanceIds"])))
        return {"Command": {"CommandId": what}}

    def get_command_invocation(self, CommandId: str, InstanceId: str) -> dict[str, Any]:
        code, said, failed = getattr(self, f"_{CommandId}")(InstanceId)
        return {"Status": "Failed" if code else "Success", "ResponseCode": code, "StandardOutputContent": said, "StandardErrorContent": failed}

    def _Mount(self, host: str) -> tuple[int, str, str]:
        if host in self.broken:
            return 32, f"@@ found {MOUNTED}\n", self.broken[host]
        there = host in self.mounted
        self.mounted.add(host)
        return 0, "@@ found mounted already, 127.0.0.1:/\n" if there else f"@@ found {MOUNTED}\n", ""

    def _Prove(self, host: str) -> tuple[int, str, str]:
        return (0, "@@ found 1048576 bytes written, read back and equal\n", "") if host in self.mounted else (1, "@@ found nothing is mounted\n", "")

    def _Look(self, host: str) -> tuple[int, str, str]:
        return 0, "@@ found 127.0.0.1:/, 1.00 GiB used of 8388608 GiB\n", ""

    def _AddToFstab(self, host: str) -> tuple[int, str, str]:
        self.kept.add(host)
        return 0, "@@ found fs:/ /mnt/efs efs _netdev 0 0\n", ""

    def _RemoveFromFstab(self, host: str) -> tuple[int, str, str]:
        self.kept.discard(host)
        return 0, "@@ found no line\n", ""

    def _Unmount(self, host: str) -> tuple[int, str, str]:
        self.mounted.discard(host)
        return 0, "@@ found unmounted\n", ""


@dataclass
class House:
    """The local cloud, its hosts, and the runbook."""

    cloud: clouds.Cloud
    runs: Path
    hosts: Hosts
    access_point: str

    def client(self, service: str) -> Any:
        return scenario.Access(self.cloud.environment()).client(service)

    def run(self, until: str = "", **parameters: Any) -> Any:
        """Run the notebook's cells, all or those before the first that contains `until`; returns the run."""
        return run_cells(NOTEBOOK, until, **parameters)["run"]

    def rollback(self, run_id: str) -> Any:
        return runbook.rollback(run_id, approve="rollback")

    def result(self, run_id: str) -> dict[str, Any]:
        return json.loads((self.runs / run_id / "result.json").read_text())


@pytest.fixture(scope="module")
def seeded(cloud: clouds.Cloud) -> tuple[list[str], str]:
    """Two instances of the clients' security group in a zone with a mount target, and the access point."""
    made = scenario.SCENARIOS["efs_mount"](cloud)
    access = scenario.Access(cloud.environment())
    ec2 = access.client("ec2")
    group = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["efs-clients"]}])["SecurityGroups"][0]["GroupId"]
    subnets = [one["SubnetId"] for one in access.client("efs").describe_mount_targets(FileSystemId=made.ids["web-content"])["MountTargets"]]
    start = {"ImageId": "ami-0123456789abcdef0", "MinCount": 1, "MaxCount": 1, "SecurityGroupIds": [group]}
    return [ec2.run_instances(SubnetId=subnet, **start)["Instances"][0]["InstanceId"] for subnet in subnets], made.access_point


@pytest.fixture
def house(cloud: clouds.Cloud, seeded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    (tmp_path / "runs").mkdir()
    ids, access_point = seeded
    for name, value in {**cloud.environment(), "RUNBOOK_RUNS": str(tmp_path / "runs"), "NO_PROXY": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    made: Callable[..., Any] = session._client
    hosts = Hosts(scenario.Access(cloud.environment()).client("ssm"), ids)
    monkeypatch.setattr(session, "_client", lambda session_, service: hosts if service == "ssm" else made(session_, service))
    yield House(cloud, tmp_path / "runs", hosts, access_point)
    calls.watch(None)
