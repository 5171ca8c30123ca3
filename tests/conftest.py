"""The order of the tests: files that drive whole runbooks go first, so that none of them is left alone at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

# Folders whose tests take longest, the longest first.
LONGEST = ("redis_upgrade", "fleet", "eventbridge_debug", "ecr_push", "ecr_lifecycle", "efs_mount")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        folder = Path(item.path).parent.name
        return LONGEST.index(folder) if folder in LONGEST else len(LONGEST)

    items.sort(key=place)
