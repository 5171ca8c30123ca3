"""The command line, called in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from helpers import cli


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
