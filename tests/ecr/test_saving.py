"""What a policy saves is what is freed: layers that nothing which stays has, in bytes and money."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.ecr.prices import ARCHIVE_TIER_GIB, GIB, storage_price, table_prices
from helpers.ecr.saving import saving, settled
from helpers.ecr.stored import Stored, blobs_of, complete, record_of

NOW = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)
PRICES = table_prices("us-east-1")
NEWEST_ONE = {"rules": [{"rulePriority": 1, "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 1}, "action": {"type": "expire"}}]}
OLD = {"rules": [{"rulePriority": 1, "selection": {"tagStatus": "any", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 30}, "action": {"type": "expire"}}]}


def image(name: str, days: float, **more: Any) -> dict[str, Any]:
    return {"digest": f"sha256:{name}", "tags": [name], "pushedAt": NOW - timedelta(days=days), "storageClass": "standard", **more}


def stored(*images: tuple[dict[str, Any], dict[str, int]]) -> Stored:
    for record, blobs in images:
        record["sizeBytes"] = sum(blobs.values())
    return Stored("shop/web", [record for record, _ in images], {record["digest"]: blobs for record, blobs in images})


def saved(policy: dict[str, Any], one: Stored) -> Any:
    return saving(one, *settled(policy, one.images, NOW), PRICES)


def test_a_layer_that_stays_in_use_is_not_counted_as_freed():
    one = stored((image("old", 9), {"base": 10 * GIB, "app-1": 2 * GIB}), (image("new", 1), {"base": 10 * GIB, "app-2": 3 * GIB}))
    found = saved(NEWEST_ONE, one)
    assert (found.bytes_before, found.bytes_freed, found.summed_freed) == (15 * GIB, 2 * GIB, 12 * GIB)
    assert found.monthly == pytest.approx(0.20)
    assert "frees 2.0 GiB of 15.0 GiB (13%), 0.20 USD a month" in found.finding
    assert "sizes add up to 12.0 GiB" in found.finding


def test_what_a_manifest_list_held_goes_at_the_next_evaluation_and_is_counted_too():
    child, top = image("child", 60), image("list", 60, references=["sha256:child"])
    found = saved(OLD, stored((child, {"layer": GIB}), (top, {})))
    assert (found.expired, found.later, found.bytes_freed) == (1, 1, GIB)


def test_the_archive_saves_nothing_below_its_tier_and_says_what_it_costs():
    archive = {"rules": [{**OLD["rules"][0], "action": {"type": "transition", "targetStorageClass": "archive"}}]}
    found = saved(archive, stored((image("old", 60), {"base": 4 * GIB, "app": 6 * GIB}), (image("new", 1), {"base": 4 * GIB})))
    assert (found.moved, found.bytes_moved, found.monthly) == (1, 6 * GIB, pytest.approx(0))
    assert found.restore == pytest.approx(0.18)
    assert "saves nothing below 150 TB" in found.finding


def test_the_archive_is_cheaper_above_150_tb():
    above = PRICES.monthly(0, (ARCHIVE_TIER_GIB + 1000) * GIB) - PRICES.monthly(0, ARCHIVE_TIER_GIB * GIB)
    assert above == pytest.approx(70)


def test_the_table_shows_now_after_and_the_difference():
    table = saved(OLD, stored((image("old", 60), {"app": 2 * GIB}))).table().set_index("what")
    assert table.loc["images"].tolist() == ["1", "0", "-1"]
    assert table.loc["USD a month"].tolist() == ["0.20", "0.00", "-0.20"]


def test_the_price_of_storage_is_found_in_the_pricing_api_s_shape():
    def product(usage: str, price: str) -> dict[str, Any]:
        return {"product": {"attributes": {"usagetype": usage}}, "terms": {"OnDemand": {"a": {"priceDimensions": {"b": {"pricePerUnit": {"USD": price}}}}}}}

    found = [product("APN1-DataTransfer-Out-Bytes", "0.09"), product("APN1-TimedStorage-ByteHrs", "0.0000000000"), product("APN1-TimedStorage-ByteHrs", "0.1000000000")]
    assert storage_price(found) == (0.10, "USD")
    assert storage_price(found[:1]) is None


def test_a_described_image_becomes_the_record_that_a_preview_takes():
    detail = {
        "imageDigest": "sha256:a", "imageTags": ["v1"], "imageSizeInBytes": 7, "imagePushedAt": NOW, "imageStatus": "ARCHIVED", "lastArchivedAt": NOW,
        "subjectManifestDigest": "sha256:b", "imageScanFindingsSummary": {"findingSeverityCounts": {"HIGH": 2}},
    }  # fmt: skip
    assert record_of(detail) == {
        "digest": "sha256:a", "tags": ["v1"], "sizeBytes": 7, "pushedAt": NOW, "storageClass": "archive", "lastArchivedAt": NOW, "mediaType": "",
        "subject": "sha256:b", "findings": {"HIGH": 2},
    }  # fmt: skip


def test_a_manifest_names_its_layers_and_its_configuration_and_a_list_its_images():
    assert blobs_of({"config": {"digest": "c", "size": 1}, "layers": [{"digest": "l", "size": 2}, {"digest": "l", "size": 2}]}) == {"c": 1, "l": 2}
    record: dict[str, Any] = {}
    complete(record, {"manifests": [{"digest": "sha256:a"}], "subject": {"digest": "sha256:s"}})
    assert (record, blobs_of({"manifests": []})) == ({"references": ["sha256:a"], "subject": "sha256:s"}, {})


_layers = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 100), max_size=5)


@settings(max_examples=60, deadline=None)
@given(st.lists(_layers, min_size=1, max_size=8), st.data())
def test_what_is_freed_and_what_is_left_is_what_was_stored(layers, data):
    sizes = {blob: size for one in layers for blob, size in one.items()}
    images = [(image(str(place), place), {blob: sizes[blob] for blob in one}) for place, one in enumerate(layers)]
    one = stored(*images)
    gone = set(data.draw(st.lists(st.sampled_from([record["digest"] for record, _ in images]), unique=True)))
    left = one.bytes_of(set(one.blobs) - gone)
    assert one.freed(gone) + left == one.bytes_of() <= one.summed or not one.summed
    assert one.freed(gone) <= sum(record["sizeBytes"] for record, _ in images if record["digest"] in gone)
    assert one.freed(set(one.blobs)) == one.bytes_of()
