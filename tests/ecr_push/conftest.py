"""The notebook's own cells, run on a local cloud with a registry."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from helpers import runbook
from helpers.aws import calls, connect
from helpers.ecr import push_survey
from helpers.ecr.push import push
from helpers.rehearsal import cloud as clouds
from helpers.rehearsal import scenario

NOTEBOOK = Path(__file__).parents[2] / "runbooks" / "ecr_push.ipynb"


@dataclass
class House:
    """The local cloud, a repository's name of the test's own, and the runbook."""

    cloud: clouds.Cloud
    runs: Path
    repository: str

    @property
    def ecr(self) -> Any:
        return scenario.Access(self.cloud.environment()).client("ecr")

    def run(self, until: str = "", **parameters: Any) -> Any:
        """Run the notebook's cells, all or those before the first that contains `until`; returns the run. A scan takes no part unless it is asked for."""
        cells = ["".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
        push_survey.image_of.cache_clear()  # as in a process of its own
        here: dict[str, Any] = {}
        exec(cells[0], here)
        here.update({"repository": self.repository, "scan_threshold": "none", **parameters})
        for cell in cells[1:]:
            if until and until in cell:
                break
            exec(cell, here)
        return here["run"]

    def apply(self, run_id: str, folder: Path, **parameters: Any) -> Any:
        return self.run(**{"mode": "apply", "run_id": run_id, "image": str(folder), "approve": "push", "scan": "off", **parameters})

    def push(self, folder: Path, tag: str) -> str:
        """Push without a run, as somebody else does; returns the digest."""
        return push(connect(), str(folder), self.repository, tag).plan.digest

    def rollback(self, run_id: str) -> Any:
        return runbook.rollback(run_id, approve="rollback")

    def result(self, run_id: str) -> dict[str, Any]:
        return json.loads((self.runs / run_id / "result.json").read_text())

    def made(self, **settings: Any) -> None:
        """Make the repository beforehand."""
        self.ecr.create_repository(repositoryName=self.repository, **settings)

    def images(self) -> dict[str, list[str]]:
        """The images of the repository: digest and tags; none where there is no repository."""
        if self.repository not in [one["repositoryName"] for one in self.ecr.describe_repositories()["repositories"]]:
            return {}
        return {one["imageDigest"]: one.get("imageTags", []) for one in self.ecr.describe_images(repositoryName=self.repository)["imageDetails"]}

    def settings(self) -> dict[str, Any]:
        return dict(self.ecr.describe_repositories(repositoryNames=[self.repository])["repositories"][0])


@pytest.fixture
def house(cloud: clouds.Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    (tmp_path / "runs").mkdir()
    for name, value in {**cloud.environment(), "RUNBOOK_RUNS": str(tmp_path / "runs"), "NO_PROXY": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    yield House(cloud, tmp_path / "runs", f"shop/{uuid.uuid4().hex[:8]}")
    calls.watch(None)
    cloud.registry(cut={}, deny=[], kms_error=[], throttle=0, vanish={}, scan_s=0.2)
