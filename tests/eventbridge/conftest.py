"""Cases of the pattern language, transformers and schedules: our own in `data`, recorded ones beside the checkout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
RECORDED = HERE.parents[2] / "shared" / "data" / "recorded"


def cases(file: Path) -> list[dict[str, Any]]:
    """The cases of a file of JSON lines."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def own() -> Callable[[str], list[dict[str, Any]]]:
    """Our own cases by name: `own("patterns")`."""
    return lambda name: cases(HERE / "data" / f"{name}.jsonl")


@pytest.fixture
def recorded() -> Callable[[str], list[dict[str, Any]]]:
    """The cases recorded on AWS by name; skips where they do not lie beside the checkout."""

    def read(name: str) -> list[dict[str, Any]]:
        file = RECORDED / f"{name}.jsonl"
        if not file.exists():
            pytest.skip(f"{file.name} is not in ../shared/data/recorded beside the checkout")
        return cases(file)

    return read
