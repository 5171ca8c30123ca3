"""A backup's keys summed up: prefixes, times to live, the biggest, several shards, and no session's id."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from helpers.aws.errors import RunbookError
from helpers.elasticache.backup_keys import NO_TTL, backup_files, read_keys
from helpers.elasticache.capacity import sample


def made_up() -> io.BytesIO:
    return sample.backup()


def test_prefixes_times_to_live_and_the_biggest_are_counted_exactly() -> None:
    keys = read_keys([("made up", made_up)], top=3)
    assert keys.keys == 24_000 + 6000 + 4800 + 3
    assert {name: one.keys for name, one in keys.prefixes.items()} == {"session:": 24_000, "SELECT …": 6000, "views:": 4800, "cart:": 1, "report:": 1, "feature:": 1}
    assert keys.ttls[NO_TTL] == 4803 == keys.lasting
    assert sum(keys.ttls.values()) == keys.keys
    assert [one.key for one in keys.biggest[:2]] == [b"cart:abandoned", b"report:last-month"]
    assert keys.biggest[0].elements == 60_000
    assert f"{keys.saved:%Y-%m-%d %H:%M}" == "2026-10-31 18:00"


def test_tables_hold_no_id_of_a_session() -> None:
    keys = read_keys([("made up", made_up)], top=30_000)
    shown = keys.big_keys()["key"]
    assert shown.str.startswith("session:").sum() > 10_000
    assert not shown.str.contains(r"session:[0-9a-f]{5,}").any()


def test_the_other_prefixes_are_one_row() -> None:
    table = read_keys([("made up", made_up)]).by_prefix(2)
    assert table["prefix"].tolist() == ["SELECT …", "session:", "4 others"]
    assert table["keys"].iloc[-1] == "4,803"


def test_shards_are_added_up() -> None:
    once, twice = read_keys([("a", made_up)]), read_keys([("a", made_up), ("b", made_up)], top=4)
    assert (twice.keys, twice.memory) == (2 * once.keys, 2 * once.memory)
    assert [one.key for one in twice.biggest] == [b"cart:abandoned"] * 2 + [b"report:last-month"] * 2


def test_an_empty_backup_is_told_as_that() -> None:
    keys = read_keys([("empty", lambda: io.BytesIO(b"REDIS0011\xff" + bytes(8)))])
    assert keys.finding == "The backup holds no keys."
    assert keys.by_ttl()["keys"].tolist()[0] == "0" and keys.by_prefix().empty


def test_files_of_several_shards_are_found_by_the_first_and_a_missing_one_is_named(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"sessions-000{number}.rdb").write_bytes(b"REDIS0011\xff" + bytes(8))
    first = str(tmp_path / "sessions-0001.rdb")
    assert [name for name, _ in backup_files(first, None, 2)] == ["sessions-0001.rdb", "sessions-0002.rdb"]
    with pytest.raises(RunbookError, match=r"no file sessions-0003\.rdb"):
        backup_files(first, None, 3)


def test_s3_needs_a_session() -> None:
    with pytest.raises(RunbookError, match="no session"):
        backup_files("s3://bucket/key.rdb", None)
