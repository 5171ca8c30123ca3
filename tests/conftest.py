"""What all tests share: their order, a local cloud, and the command line called in this process.

Files that drive whole runbooks go first, so that none of them is left alone at the end.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers import cli
from helpers.rehearsal import cloud as clouds

# Folders whose tests take longest, the longest first.
LONGEST = ("redis_upgrade", "fleet", "eventbridge_debug", "ecr_push", "ecr_lifecycle", "efs_mount")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        folder = Path(item.path).parent.name
        return LONGEST.index(folder) if folder in LONGEST else len(LONGEST)

    items.sort(key=place)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clouds.Cloud]:
    """A local cloud for the tests of one file."""
    directory = tmp_path_factory.mktemp("cloud")
    try:
        yield clouds.up(directory, max_hours=1)
    finally:
        clouds.down(directory)


@dataclass
class Told:
    """How a call ended, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def runbook(tmp_path, monkeypatch, capfd) -> Callable[..., Told]:
    """Call the command line's entry point, in this process, because imports take longer than the calls."""
    monkeypatch.setenv("RUNBOOK_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Told:
        monkeypatch.setattr(sys, "argv", ["runbook", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Told(ended.value.code, *capfd.readouterr())

    return call
