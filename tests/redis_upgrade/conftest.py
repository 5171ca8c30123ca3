"""A local cloud with an application that writes all the time, and the runbook driven by its command line, as its users do."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from helpers.rehearsal import cloud as clouds
from helpers.rehearsal import scenario
from tests import commands

KEYS = 3000
RATE = 150  # writes a second: three houses at once are many for two cores


@dataclass
class House:
    """A local cloud seen only through the standard AWS variables, and a folder for runs."""

    cloud: clouds.Cloud
    runs: Path
    keys: int = KEYS

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RUNBOOK_"))}
        return {**kept, **self.cloud.environment(), "RUNBOOK_RUNS": str(self.runs), "NO_PROXY": "127.0.0.1"}

    def client(self, service: str) -> Any:
        return scenario.Access(self.cloud.environment()).client(service)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "helpers.cli", *arguments]

    def runbook(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return commands.run(arguments, self.environment)

    def apply(self, run_id: str, *arguments: str, approve: str = "in_place,switch,delete") -> subprocess.CompletedProcess[str]:
        return self.runbook("run", "redis_upgrade", "--mode", "apply", "--run-id", run_id, "--approve", approve, "-p", "quiet_seconds=1", *arguments)

    def plan(self, run_id: str, *arguments: str) -> list[tuple[str, str, str]]:
        done = self.runbook("run", "redis_upgrade", "--mode", "plan", "--run-id", run_id, "-p", "quiet_seconds=1", *arguments)
        assert done.returncode == 2, done.stdout[-3000:] + done.stderr
        result = self.result(run_id)
        assert not any(call["sent"] for call in result["plan"])
        return [self.identity(call) for call in result["plan"]]

    def result(self, run_id: str) -> dict[str, Any]:
        return json.loads((self.runs / run_id / "result.json").read_text())

    def journal(self, run_id: str) -> list[dict[str, Any]]:
        path = self.runs / run_id / "journal.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def sent(self, run_id: str) -> list[tuple[str, str, str]]:
        return [self.identity(call) for call in self.result(run_id)["calls"] if call["write"] and call["sent"] and not call["error_code"]]

    def groups(self) -> list[str]:
        return sorted(group["ReplicationGroupId"] for group in self.client("elasticache").describe_replication_groups()["ReplicationGroups"])

    def endpoint(self) -> str:
        return self.client("ssm").get_parameter(Name=scenario.PARAMETER)["Parameter"]["Value"]

    def entry(self, group: str) -> str:
        """The group's primary or configuration endpoint."""
        found = self.client("elasticache").describe_replication_groups(ReplicationGroupId=group)["ReplicationGroups"][0]
        endpoint = found.get("ConfigurationEndpoint") or found["NodeGroups"][0]["PrimaryEndpoint"]
        return f"{endpoint['Address']}:{endpoint['Port']}"

    def audited(self) -> dict[str, Any]:
        """The application's report after an audit that began now."""
        asked = time.time()
        report: dict[str, Any] = {}
        self.poll(lambda: report.update(scenario.read_report(scenario.Access(self.cloud.environment()))) or report["audited_at"] >= asked, "the application's audit")
        return report

    def assert_moved(self, run_id: str) -> None:
        """The final state of a run that went through: one new group, the application on it, nothing lost, nothing else left."""
        (new,) = self.groups()
        assert new.startswith("sessions-v81-")
        report = self.audited()
        assert (report["acknowledged_writes_lost"], report["sessions_missing"], report["endpoint"]) == (0, 0, self.entry(new))
        result = self.result(run_id)
        assert (result["status"], result["exit_code"], result["metrics"]["keys_different"]) == ("done", 0, 0)
        assert result["metrics"]["keys_compared"] > self.keys
        names = [group["CacheParameterGroupName"] for group in self.client("elasticache").describe_cache_parameter_groups()["CacheParameterGroups"]]
        assert [name for name in names if not name.startswith("default.")] == [f"sessions-valkey8-{new[-4:]}"]

    def started(self, run_id: str, *arguments: str) -> subprocess.Popen[str]:
        """An apply that runs in the background."""
        command = self.command("run", "redis_upgrade", "--mode", "apply", "--run-id", run_id, "--approve", "in_place,switch,delete", "-p", "quiet_seconds=1", *arguments)
        return subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def await_step(self, run_id: str, step: str) -> None:
        """Wait until a run has begun a step."""
        self.poll(lambda: any(one.get("step") == step and one.get("event") == "begin" for one in self.journal(run_id)), step)

    @staticmethod
    def identity(call: dict[str, Any]) -> tuple[str, str, str]:
        """What a plan and an apply are compared by."""
        return call["service"], call["operation"], call["resource"]

    @staticmethod
    def poll(done: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        """Wait until something is so."""
        until = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < until, f"waited in vain for {what}"
            time.sleep(0.02)


@contextlib.contextmanager
def _build(directory: Path, cloud_options: dict[str, Any], **options: Any) -> Iterator[House]:
    cloud = clouds.up(directory / "cloud", **cloud_options)
    try:
        scenario.redis_upgrade(cloud, **{"keys": KEYS, "rate": RATE, **options})
        (directory / "runs").mkdir()
        yield House(cloud, directory / "runs")
    finally:
        scenario.stop_application(directory / "cloud")
        clouds.down(directory / "cloud")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A house with the default group."""
    with _build(tmp_path, {}) as built:
        yield built


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., contextlib.AbstractContextManager[House]]:
    """Builds a house: `build(rehearse_on="cluster")`; `cloud_options` are those of the cloud."""
    return lambda cloud_options=None, **options: _build(tmp_path, cloud_options or {}, **options)
