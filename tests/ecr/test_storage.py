"""The report of a registry, on the made-up one and on small ones that can be counted by hand."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

from helpers.ecr import figures, storage
from helpers.ecr.prices import GIB, table_prices
from helpers.ecr.stored import Stored

NOW = datetime(2026, 11, 1, tzinfo=timezone.utc)


def image(name: str, days: float, *tags: str, **more: Any) -> dict[str, Any]:
    return {"digest": f"sha256:{name}", "tags": list(tags), "pushedAt": NOW - timedelta(days=days), "storageClass": "standard", **more}


def registry(*repositories: Stored, used: dict[str, dict[str, list[str]]] | None = None) -> storage.Registry:
    return storage.Registry("a test", list(repositories), used or {}, (), table_prices("us-east-1"), NOW)


WEB = Stored(
    "shop/web",
    [image("a", 100, "git-1", sizeBytes=11 * GIB), image("b", 10, "git-2", sizeBytes=12 * GIB), image("u", 50, sizeBytes=10 * GIB)],
    {"sha256:a": {"base": 10 * GIB, "one": GIB}, "sha256:b": {"base": 10 * GIB, "two": 2 * GIB}, "sha256:u": {"base": 10 * GIB}},
)
API = Stored("shop/api", [image("c", 1, "git-1", sizeBytes=13 * GIB)], {"sha256:c": {"base": 10 * GIB, "three": 3 * GIB}})


def test_what_is_stored_counts_a_layer_once_in_each_repository():
    one = registry(WEB, API)
    assert (one.stored, one.summed, one.across) == (26 * GIB, 46 * GIB, 10 * GIB)
    assert one.table().loc["shop/web"].tolist() == ["3", "33%", "13.0", "33.0", "1.30", "2026-10-22", "2026-07-24", "none"]
    assert "26.0 GiB are stored, 2.60 USD a month; image sizes add up to 1.8 times that. 2 of 2" in one.finding


def test_a_layer_is_as_old_as_the_newest_image_that_has_it():
    assert (registry(WEB).older_than([0, 9, 20, 60, 200]) / GIB).tolist() == [13, 13, 1, 1, 0]


def test_children_of_a_list_are_not_counted_as_untagged():
    listed = Stored("a/b", [image("l", 1, "v1", references=["sha256:x"]), image("x", 1), image("y", 1)], {})
    assert storage.untagged_share(listed) == 0.5


def test_the_shared_layers_of_a_repository_are_told_apart():
    assert registry(WEB, API).shared().loc["shop/web"].tolist() == ["3", "3.0", "10.0", "20.0", "10.0"]


def test_images_in_use_are_shielded_before_a_saving_is_promised():
    newest = '{"rules":[{"rulePriority":1,"selection":{"tagStatus":"any","countType":"imageCountMoreThan","countNumber":1},"action":{"type":"expire"}}]}'
    without = registry(WEB).savings(newest)["shop/web"]
    spared = registry(WEB, used={"shop/web": {"sha256:a": ["a task"]}}).savings(newest)["shop/web"]
    assert (without.bytes_freed, without.expired, spared.bytes_freed, spared.expired) == (GIB, 2, 0, 1)


def test_findings_of_a_list_in_use_are_those_of_its_images():
    one = Stored("a/b", [image("l", 1, "v1", references=["sha256:x"]), image("x", 1, findings={"CRITICAL": 2}), image("y", 1, findings={"CRITICAL": 9})], {})
    found = registry(one, used={"a/b": {"sha256:l": ["a task"]}})
    assert found.findings().loc["a/b"].tolist() == [2, 0, 0, 0]
    assert found.vulnerabilities().loc["a/b"].tolist() == ["2", "2 critical", "2 critical", "2"]


def test_the_made_up_registry_is_the_same_every_time_and_its_parts_add_up():
    one, again = storage.open_registry(), storage.open_registry()
    assert one.table().equals(again.table())
    assert one.older_than([0])[0] == pytest.approx(one.stored)
    assert (np.diff(one.older_than(range(0, 400, 10))) <= 0).all()
    table = storage.savings_table(one.savings())
    assert len(table) == len(one.repositories) + 1 and table.index[-1] == "all"


@pytest.mark.parametrize("repositories", [(), (Stored("empty/one", [], {}),), (WEB, API)])
def test_every_figure_is_drawn_with_a_title_and_units_for_any_registry(repositories):
    one = registry(*repositories)
    for figure in (figures.draw_repositories(one), figures.draw_ages(one), figures.draw_savings(one.savings()), figures.draw_findings(one)):
        axes = figure.axes[0]
        assert axes.get_title() and axes.get_xlabel() and axes.get_ylabel()
    assert one.table() is not None and one.finding and one.shared() is not None and one.vulnerabilities() is not None
