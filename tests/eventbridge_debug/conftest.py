"""A local cloud with Amplify's events and a rule that misses them, and the runbook driven by its command line, as its users do."""

from __future__ import annotations

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

from helpers.eventbridge import leftovers
from helpers.rehearsal import cloud as clouds
from helpers.rehearsal import scenario
from tests import commands

RULE = "amplify-to-slack"


@dataclass
class House:
    """A local cloud seen only through the standard AWS variables, and a folder for runs."""

    cloud: clouds.Cloud
    runs: Path

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

    def arguments(self, run_id: str, *more: str, mode: str = "apply", approve: str = "correct") -> list[str]:
        return ["run", "eventbridge_debug", "--mode", mode, "--run-id", run_id, "--approve", approve, *more]

    def apply(self, run_id: str, *more: str, approve: str = "correct") -> subprocess.CompletedProcess[str]:
        return self.runbook(*self.arguments(run_id, *more, approve=approve))

    def plan(self, run_id: str, *more: str) -> list[tuple[str, str, str]]:
        done = self.runbook(*self.arguments(run_id, *more, mode="plan"))
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
        return [
            self.identity(call)
            for call in self.result(run_id)["calls"]
            if call["write"] and call["sent"] and not call["error_code"]
        ]

    def report(self, run_id: str) -> str:
        return (self.runs / run_id / "report.html").read_text()

    def pattern(self, rule: str = RULE) -> dict[str, Any]:
        return json.loads(self.client("events").describe_rule(Name=rule)["EventPattern"])

    def left(self) -> list[tuple[str, str]]:
        """Everything named after a debugging run, asked of each service here and not by the code under test."""
        name = leftovers.PREFIX
        found = [("rule", one["Name"]) for one in self.client("events").list_rules()["Rules"]]
        found += [("queue", url.rpartition("/")[2]) for url in self.client("sqs").list_queues().get("QueueUrls", [])]
        found += [("function", one["FunctionName"]) for one in self.client("lambda").list_functions()["Functions"]]
        found += [("role", one["RoleName"]) for one in self.client("iam").list_roles()["Roles"]]
        found += [("log group", one["logGroupName"]) for one in self.client("logs").describe_log_groups()["logGroups"]]
        found += [
            ("policy", one.get("resourceArn", one.get("policyName", "")))
            for scope in ("ACCOUNT", "RESOURCE")
            for one in self.client("logs").describe_resource_policies(policyScope=scope)["resourcePolicies"]
        ]
        return [one for one in found if name in one[1]]

    def started(self, run_id: str, *more: str, approve: str = "correct") -> subprocess.Popen[str]:
        """An apply that runs in the background."""
        command = self.command(*self.arguments(run_id, *more, approve=approve))
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
        )

    def kernel(self, run_id: str) -> int:
        """The process id of the run's kernel."""
        return next(one["pid"] for one in reversed(self.journal(run_id)) if one["type"] == "started")

    def await_step(self, run_id: str, step: str) -> None:
        """Wait until a run has begun a step."""
        self.poll(
            lambda: any(one.get("step") == step and one.get("event") == "begin" for one in self.journal(run_id)), step
        )

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


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A house with the scenario of the runbook."""
    cloud = clouds.up(tmp_path / "cloud")
    try:
        scenario.SCENARIOS["eventbridge_debug"](cloud)
        (tmp_path / "runs").mkdir()
        yield House(cloud, tmp_path / "runs")
    finally:
        clouds.down(tmp_path / "cloud")
