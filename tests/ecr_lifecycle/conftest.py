"""A local cloud with months of builds in ECR and who uses them, and the notebook's own cells run on it."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from helpers import runbook
from helpers.aws import calls
from helpers.rehearsal import cloud as clouds
from helpers.rehearsal import scenario
from tests.rehearsal.cells import run_cells

NOTEBOOK = Path(__file__).parents[2] / "runbooks" / "ecr_lifecycle.ipynb"
MIB = 2**20
DAYS = 80  # a build a day, the newest today
OLD_COMMIT, OLD_RELEASE = "git-005", "release-1.0"  # the commit runs, and is older than what the proposal keeps
RULE = {"rulePriority": 1, "description": "The newest ten", "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 10}}
NEWEST_TEN = json.dumps({"rules": [{**RULE, "action": {"type": "expire"}}]})
_names = itertools.count(1)


def builds() -> list[dict[str, Any]]:
    """A build a day with its commit's tag, every twentieth a release; an image of two platforms and one without tag, both of long ago."""
    now = datetime.now(timezone.utc)
    made = []
    for number in range(DAYS):
        layers = [[f"base-{number // 30}", 60 * MIB], [f"app-{number}", 5 * MIB]]
        tags = [f"git-{number:03}"] + [f"release-1.{number // 20}"] * (number % 20 == 19)
        made.append({"layers": layers, "tags": tags, "pushed_at": (now - timedelta(days=DAYS - 1 - number)).isoformat()})
    long_ago = (now - timedelta(days=60)).isoformat()
    platforms = [{"layers": [["base-0", 60 * MIB], [f"app-{platform}", 3 * MIB]], "platform": platform, "pushed_at": long_ago} for platform in ("linux/amd64", "linux/arm64")]
    made += [*platforms, {"children": [DAYS, DAYS + 1], "tags": ["multi"], "pushed_at": long_ago}]
    return [*made, {"layers": [["left-over", 7 * MIB]], "pushed_at": long_ago}]


@dataclass
class House:
    """A repository of the local cloud, and the runbook on it."""

    cloud: clouds.Cloud
    runs: Path
    repository: str
    uri: str

    def client(self, service: str) -> Any:
        return scenario.Access(self.cloud.environment()).client(service)

    def run(self, until: str = "", **parameters: Any) -> Any:
        """Run the notebook's cells, all or those before the first that contains `until`; returns the run."""
        return run_cells(NOTEBOOK, until, **{"repository": self.repository, **parameters})["run"]

    def apply(self, run_id: str, **more: Any) -> Any:
        return self.run(mode="apply", run_id=run_id, approve="put", **more)

    def rollback(self, run_id: str) -> Any:
        return runbook.rollback(run_id, approve="rollback")

    def result(self, run_id: str) -> dict[str, Any]:
        return json.loads((self.runs / run_id / "result.json").read_text())

    def journal(self, run_id: str) -> list[dict[str, Any]]:
        path = self.runs / run_id / "journal.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def policy(self) -> str:
        """The repository's policy, empty where it has none, asked here and not by the code under test."""
        calls.watch(None)  # a plan that has ended would still answer
        ecr = self.client("ecr")
        try:
            return ecr.get_lifecycle_policy(repositoryName=self.repository)["lifecyclePolicyText"]
        except ecr.exceptions.LifecyclePolicyNotFoundException:
            return ""

    def tags(self) -> set[str]:
        """The tags that are left."""
        pages = self.client("ecr").get_paginator("describe_images").paginate(repositoryName=self.repository)
        return {tag for page in pages for one in page["imageDetails"] for tag in one.get("imageTags", ())}

    def uses(self, tag: str, family: str) -> None:
        """An ECS task definition that uses an image of the repository."""
        container = {"name": "app", "image": f"{self.uri}:{tag}", "memory": 128, "essential": True}
        self.client("ecs").register_task_definition(family=f"{family}-{self.repository.replace('/', '-')}", containerDefinitions=[container])

    def killed_in(self, run_id: str, step: str, *more: str) -> None:
        """Apply by the command line and kill the kernel as soon as the step has begun."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RUNBOOK_"))}
        environment = {**kept, **self.cloud.environment(), "RUNBOOK_RUNS": str(self.runs), "NO_PROXY": "127.0.0.1"}
        asked = ["run", "ecr_lifecycle", "--mode", "apply", "--run-id", run_id, "--approve", "put", "-p", f"repository={self.repository}", *more]
        running = subprocess.Popen([sys.executable, "-m", "helpers.cli", *asked], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 90
        while not any(one.get("step") == step and one.get("event") == "begin" for one in self.journal(run_id)):
            assert time.monotonic() < until, f"{step} was not begun"
            time.sleep(0.01)
        os.kill(next(one["pid"] for one in reversed(self.journal(run_id)) if one["type"] == "started"), 9)
        running.wait(60)


@pytest.fixture
def house(cloud: clouds.Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    (tmp_path / "runs").mkdir()
    for name, value in {**cloud.environment(), "RUNBOOK_RUNS": str(tmp_path / "runs"), "NO_PROXY": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    repository = f"shop/web-{next(_names)}"
    uri = scenario.Access(cloud.environment()).client("ecr").create_repository(repositoryName=repository)["repository"]["repositoryUri"]
    cloud.registry(seed={repository: builds()})
    made = House(cloud, tmp_path / "runs", repository, uri)
    made.uses(OLD_COMMIT, "shop")
    yield made
    calls.watch(None)
